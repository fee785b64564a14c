"""Views for notebooks: small SVG drawings in the page, fed by Python.

Each has a fixed text form, so that stored notebook outputs stay comparable, and a static figure stands beside it in
the notebook for readers who have no running kernel.
"""

from resnet_lib.widgets.gradient_flow_lab import GradientFlowLab
from resnet_lib.widgets.live_curve import LiveCurve
from resnet_lib.widgets.presets import PRESETS
from resnet_lib.widgets.schedule_lab import ScheduleLab
from resnet_lib.widgets.shortcut_lab import ShortcutLab

__all__ = ["PRESETS", "GradientFlowLab", "LiveCurve", "ScheduleLab", "ShortcutLab"]
