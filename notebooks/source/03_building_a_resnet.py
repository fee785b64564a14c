# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Building a ResNet: how do you write one you can trust?
#
# | | |
# | --- | --- |
# | **Question** | How do I write a residual network so that I know it is right, and how do I find what is wrong in one that only looks right? |
# | **Afterwards you can** | write ResNet-34 and ResNet-50 from two kinds of convolution up; predict the shape, parameters and multiply-adds of each part; choose a shortcut where the shape changes; prove a network equal to another; go from a symptom to its fault, and write the test that catches it |
# | **You need** | [notebook 00](00_start_here.ipynb); classes in Python, and what a convolution and batch normalisation do. How large first weights have to be is measured in [notebook 01](01_vanishing_gradients.ipynb), and why shortcuts matter in [notebook 02](02_shortcut_connections.ipynb); neither is needed here |
# | **Time** | 60 minutes to read; the cells run in under a minute on two processor cores |
#
# A network that runs is not yet a network that is right. A wrong one may train too, perhaps only a little worse, and
# says nothing. In the first half you write ResNet-34, each part with a check behind it. In the second half you audit a
# listing that also calls itself ResNet-34. It runs, it trains, and it is wrong in five ways.

# %%
import copy
import inspect
import math
import runpy
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchinfo import summary

from resnet_lib import models, plots, schedules
from resnet_lib.checks import building as check
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.diagrams import block_figure, network_figure
from resnet_lib.tracing import read_block, read_network, shapes_only

data = load_cifar10("test", size="bundled")[:4]
images, labels = normalise(data.images), data.labels
print("images:", tuple(images.shape))

# %% [markdown]
# ## 1. Two convolutions
#
# The blocks of every ResNet are made of two kinds of convolution. A **3×3** convolution computes each output pixel from
# a window of 3 × 3 pixels, over all channels; `padding=1` puts a border of zeros around the picture, so that it keeps
# its size. A **1×1** convolution looks at one pixel at a time and only mixes its channels. With `stride=2`, either goes
# in steps of two pixels.


# %%
def conv3x3(in_channels, out_channels, stride=1):
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels, out_channels, stride=1):
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


# %% [markdown]
# Why `bias=False`? Behind each convolution stands batch normalisation, which subtracts the mean of every channel. It
# would subtract a bias at once, and it has a shift β of its own, which is learned, as is its scale γ. That is a claim,
# so check it:

# %%
biased = nn.Conv2d(3, 8, 3, padding=1, bias=True)
nn.init.normal_(biased.bias)
unbiased = conv3x3(3, 8)
unbiased.weight = biased.weight
norm = nn.BatchNorm2d(8)
same = torch.allclose(norm(biased(images)), norm(unbiased(images)), atol=1e-4)
print("the bias changes nothing behind batch norm:", same)

# %% [markdown]
# **Predict.** A signal `x` of 64 channels and 32 × 32 pixels goes into `conv3x3(64, 128, stride=2)`. What shape comes
# out? And from `conv1x1(64, 128, stride=2)`?

# %%
torch.manual_seed(0)
x = conv3x3(3, 64)(images).relu().detach()
print("x:                  ", tuple(x.shape))
print("3×3, 64→128, stride 2:", tuple(conv3x3(64, 128, stride=2)(x).shape))
print("1×1, 64→128, stride 2:", tuple(conv1x1(64, 128, stride=2)(x).shape))

# %% [markdown]
# The first axis counts the four images; both convolutions halve height and width.
#
# What does a layer cost? Two numbers tell: its **parameters**, which have to be learned and stored, and its
# **multiply-adds** for one image, which are the work (one multiply-add is `sum = sum + weight * pixel`). The library
# `torchinfo` counts both.


# %%
def cost(module, shape):
    """Parameters, and multiply-adds for one input of this shape."""
    copied = shapes_only(module)  # without numbers: counting needs none
    info = summary(copied, input_size=(1, *shape), device="meta", verbose=0)
    return info.total_params, info.total_mult_adds


parameters, multiply_adds = cost(conv3x3(64, 64), (64, 32, 32))
print("parameters:", parameters, "= 64 · 64 · 3 · 3:", parameters == 64 * 64 * 3 * 3)
print("every weight is used at every pixel:", multiply_adds == parameters * 32 * 32)

# %% [markdown]
# From stage to stage, a ResNet halves height and width and doubles the channels.
#
# **Predict.** Is `conv3x3(128, 128)` on 16 × 16 pixels more costly or cheaper than `conv3x3(64, 64)` on 32 × 32? In
# parameters, and in work?

# %%
early = cost(conv3x3(64, 64), (64, 32, 32))
later = cost(conv3x3(128, 128), (128, 16, 16))
print("parameters, later over early: ", later[0] / early[0])
print("multiply-adds, later over early:", later[1] / early[1])

# %% [markdown]
# Four times the weights, used at a quarter of the pixels: **the same work**. He et al. (2015, §3.3) chose the rule for
# this reason. Remember it for section 5.

# %% [markdown]
# ## 2. The branch, and an addition that fails
#
# A residual block computes $y = \mathrm{ReLU}(F(x) + x)$. Its **branch** $F$ is convolution, batch norm, ReLU,
# convolution, batch norm.


# %%
def branch(in_channels, channels, stride=1):
    return nn.Sequential(
        conv3x3(in_channels, channels, stride),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        conv3x3(channels, channels),
        nn.BatchNorm2d(channels),
    )


print(tuple((branch(64, 64)(x) + x).shape))

# %% [markdown]
# **Predict.** And at the start of a stage, where the branch halves the picture and doubles the channels: what is
# `branch(64, 128, stride=2)(x) + x`?

# %%
try:
    branch(64, 128, stride=2)(x) + x
except RuntimeError as error:
    print("RuntimeError:", error)

# %% [markdown]
# An error, and be glad of it. PyTorch adds tensors of different shapes without a word if an axis of one of them has
# length 1: it repeats that one along the axis (*broadcasting*). Take a grey picture with its single channel:

# %%
grey = images.mean(1, keepdim=True)
y = branch(1, 64)(grey) + grey
print("no error:", tuple(grey.shape), "→", tuple(y.shape))

# %% [markdown]
# The one channel was added to all 64. Perhaps you wanted that, perhaps not; nobody asked. **What fails loudly is
# half repaired. What this notebook is about fails silently.**

# %% [markdown]
# ## 3. Three ways around
#
# He et al. (2015, §3.3 and §4.1) compare three shortcuts:
#
# | option | where the shape changes | elsewhere |
# | --- | --- | --- |
# | **A** | identity: every second pixel, and channels of zeros appended | identity |
# | **B** | **projection**: a learned 1×1 convolution (and batch norm) | identity |
# | **C** | projection | projection |
#
# First option A, which has no weights:


# %%
class PaddedIdentity(nn.Module):
    def __init__(self, extra_channels, stride):
        super().__init__()
        self.extra_channels = extra_channels
        self.stride = stride

    def forward(self, x):
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.extra_channels))

    def extra_repr(self):
        return f"extra_channels={self.extra_channels}, stride={self.stride}"


# %% [markdown]
# (`F.pad` counts axes from the last one, two numbers for each: none around the columns, none around the rows, and
# `extra_channels` behind the channels.) Now all three, and a fourth choice for comparisons, `"none"`:


# %%
def make_shortcut(in_channels, out_channels, stride, shortcut):
    if shortcut == "none":
        return None
    same_shape = stride == 1 and in_channels == out_channels
    if same_shape and shortcut != "C":
        return nn.Identity()
    if shortcut == "A":
        return PaddedIdentity(out_channels - in_channels, stride)
    return nn.Sequential(
        conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
    )


# %%
for option in "ABC":
    around = make_shortcut(64, 128, 2, option)
    print(option, tuple(around(x).shape), cost(around, (64, 32, 32))[0], "parameters")

# %% [markdown]
# All three fit. But what do they *see*?
#
# **Predict.** On what share of the pixels of `x` does the output of the branch depend, and of the shortcut A, and of
# the shortcut B, all with stride 2?
#
# Measure it with autograd: a pixel on which nothing depends has the gradient 0. (In evaluation mode, where batch norm
# does not mix the pixels through its mean.) The picture below shows which pixels those are; `x` has one for each of the
# photograph's.


# %%
def pixels_seen(module):
    inputs = x[:1].clone().requires_grad_()
    module.eval()(inputs).square().sum().backward()
    return (inputs.grad != 0).any(1)[0]


seen = {
    "branch": pixels_seen(branch(64, 128, stride=2)),
    "shortcut A": pixels_seen(make_shortcut(64, 128, 2, "A")),
    "shortcut B": pixels_seen(make_shortcut(64, 128, 2, "B")),
}
for name, pixels in seen.items():
    print(f"{name:10} {pixels.float().mean():.0%}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(6.4, 3.6), layout="constrained")
for axes, name in zip(panels, ("branch", "shortcut B")):
    picture = data.images[0].clone()
    picture[~seen[name]] = 255
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(name, fontsize="medium", fontweight="normal")
    axes.axis("off")
plots.headline(figure, "With stride 2, three pixels of four never take the shortcut")
plots.show(
    figure,
    alt="A small photograph twice. On the left, what the branch sees: all of it. On the "
    "right, what shortcut B sees: every second pixel of every second row; the rest is "
    "white.",
)

# %% [markdown]
# If you expected more of B because it learns: whatever its weights, a 1×1 convolution with stride 2 never looks at
# three quarters of the pixels. They reach the next stage through the branch alone. Some later networks average 2 × 2
# pixels in front of the projection for that reason (T. He et al. 2019, §4.2).

# %% [markdown]
# ## 4. The block
#
# Branch and shortcut put together. The names are torchvision's, so that its weights can be loaded later; `downsample`
# is its name for whatever stands on the shortcut.


# %%
class BasicBlock(nn.Module):
    expansion = 1  # the block returns expansion · channels; section 8 has one with 4

    def __init__(self, in_channels, channels, stride=1, shortcut="B"):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(in_channels, channels, stride, shortcut)

    def residual_branch(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))

    def forward(self, x):
        out = self.residual_branch(x)
        if self.downsample is not None:
            out = out + self.downsample(x)
        return self.relu(out)


# %% [markdown]
# Here `None` means *no shortcut at all*, and `nn.Identity()` is `x` itself. In torchvision's own blocks `None` means `x`
# itself. So only `forward` tells what somebody else's `None` is.
#
# A drawing helps to check it, provided that it shows the code and not what its author meant. The next one is made from
# your class: its `forward` is *traced*, that is, run once with a stand-in for `x` that notes every operation and every
# shape.

# %%
blocks = {
    "inside a stage: the identity": BasicBlock(64, 64),
    "where the shape changes, option A": BasicBlock(64, 128, stride=2, shortcut="A"),
    "where the shape changes, option B": BasicBlock(64, 128, stride=2, shortcut="B"),
}
drawn = {name: read_block(block, (64, 32, 32)) for name, block in blocks.items()}
plots.show(
    block_figure(drawn, "One kind of block, three shortcuts"),
    alt=" ".join(f"{name}: {block.in_words}" for name, block in drawn.items()),
)

# %% [markdown]
# Grey boxes are the convolutions; under each of those on the branch stands the shape that comes out. Had you forgotten the addition,
# there would be no upper line in the drawing. (Its words for those who cannot see it are made from the trace too, and
# the next cell prints such words.)
#
# **Predict.** What would the drawing of `BasicBlock(64, 64, shortcut="C")` show on the shortcut?

# %%
print(read_block(BasicBlock(64, 64, shortcut="C"), (64, 32, 32)).in_words)

# %% [markdown]
# ## 5. Stages, stems, the whole
#
# A **stage** is a row of blocks. The first one may change the shape, all others keep it.


# %%
def make_stage(block, in_channels, channels, blocks, stride, shortcut):
    stage = nn.Sequential(block(in_channels, channels, stride, shortcut))
    for _ in range(blocks - 1):
        stage.append(block(channels * block.expansion, channels, 1, shortcut))
    return stage


# %% [markdown]
# In front of the stages stands the **stem**: a first convolution and perhaps a pooling, which takes the largest value
# of each 3 × 3 window. Three are in use in this course: for ImageNet's large pictures, for CIFAR's small ones (He et
# al. 2015, table 1 and §4.2), and the one of the README that the course grew out of, which has ImageNet's stem without
# its strides.


# %%
def make_stem(stem, channels):
    if stem == "cifar":
        return conv3x3(3, channels), nn.Identity()
    stride = 2 if stem == "imagenet" else 1  # "readme"
    conv = nn.Conv2d(3, channels, 7, stride, padding=3, bias=False)
    return conv, nn.MaxPool2d(3, stride, padding=1)


# %% [markdown]
# Stem, four stages, the average of each channel over all pixels, and a linear layer to the classes. The first weights
# are random, and how large they are is chosen; that choice is the network's **initialisation**, or *start*. Kaiming's draws those of the convolutions with the variance $2/n$ ($n$ is explained below); the linear layer keeps PyTorch's:


# %%
class ResNet(nn.Module):
    def __init__(self, block, blocks, num_classes, stem="cifar", shortcut="B"):
        super().__init__()
        self.conv1, self.maxpool = make_stem(stem, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        wide = block.expansion
        self.layer1 = make_stage(block, 64, 64, blocks[0], 1, shortcut)
        self.layer2 = make_stage(block, 64 * wide, 128, blocks[1], 2, shortcut)
        self.layer3 = make_stage(block, 128 * wide, 256, blocks[2], 2, shortcut)
        self.layer4 = make_stage(block, 256 * wide, 512, blocks[3], 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * wide, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, images):
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


# %%
def resnet34(num_classes=10, stem="cifar", shortcut="B"):
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, stem, shortcut)


torch.manual_seed(0)
mine = resnet34()
print("logits:", tuple(mine(images).shape))

# %% [markdown]
# What is $n$? With `fan_in` it is the number of inputs to each output, as in notebook 01, section 5, and that keeps the
# size of the forward signal. With `fan_out` it is the number of outputs that each input goes into (with stride 1), and
# that keeps the gradient's. In convolutions with as many channels going out as coming in the two are the same number. He et al. (*Delving Deep*, 2015,
# §2.2) hold that either is enough; torchvision takes `fan_out`.
#
# Why 34? Count layers with weights: the stem's convolution, two in each of 3 + 4 + 6 + 3 = 16 blocks, and the linear
# layer: 1 + 2 · 16 + 1. Projections are not counted. The drawing, traced from your network, has a bar for each:

# %%
drawn = read_network(mine)
print("weight layers:", len(drawn.layers))
plots.show(
    network_figure(
        {"": drawn}, "34 layers; a shortcut around every two of the inner 32"
    ),
    alt=drawn.in_words,
)

# %% [markdown]
# **Predict.** The bars of the last stage are the smallest. Does it have the fewest parameters too? Which stage has the
# most, and which one does the most work? (Section 1 has all you need.)

# %%
shapes_going_in = {
    "layer1": (64, 32, 32),
    "layer2": (64, 32, 32),
    "layer3": (128, 16, 16),
    "layer4": (256, 8, 8),
}
costs = {
    name: cost(getattr(mine, name), shape) for name, shape in shapes_going_in.items()
}
parameters, multiply_adds = cost(mine, (3, 32, 32))
print(f"{parameters:,} parameters, {multiply_adds / 1e9:.2f} billion multiply-adds")

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for axes, numbers, label, color in zip(
    panels,
    zip(*costs.values()),
    ("parameters, millions", "multiply-adds, millions"),
    (plots.BLUE, plots.GREEN),
):
    bars = axes.bar(list(costs), [number / 1e6 for number in numbers], color=color)
    axes.bar_label(bars, fmt="%.1f" if color == plots.BLUE else "%.0f")
    axes.set_ylabel(label)
    axes.margins(y=0.12)
    axes.grid(visible=False)
plots.headline(figure, "The weights sit at the end, the work does not")
plots.show(
    figure,
    alt="Two bar charts over the four stages. Parameters: 0.2, 1.1, 6.8 and 13.1 "
    "million. Multiply-adds: 226, 285, 436 and 210 million.",
)

# %% [markdown]
# Six of ten weights are in the last stage, which has three blocks of 16. The work nearly follows the number of blocks (3, 4, 6
# and 3): a 3×3 convolution that keeps its channels costs the same in every stage. (The first of stages 2 to 4 costs half of that, and the projection adds a little back.)
#
# **Predict.** The same network with ImageNet's stem on the same 32 × 32 picture: more work, the same, or less? By what
# factor?

# %%
rows = {}
for stem in ("cifar", "readme", "imagenet"):
    net = resnet34(stem=stem)
    layers = read_network(net).layers
    parameters, multiply_adds = cost(net, (3, 32, 32))
    rows[stem] = {
        "parameters": f"{parameters:,}",
        "multiply-adds": f"{multiply_adds / 1e6:,.0f} million",
        "side in layer1": layers[1].shape[-1],
        "side in layer4": layers[-2].shape[-1],
    }
pd.DataFrame(rows).T

# %% [markdown]
# About a sixteenth: two strides of 2, each in both directions. With ImageNet's stem the last stage sees a single pixel,
# where a 3×3 convolution finds nothing but its padding around it. All three are "ResNet-34", with nearly the same
# number of parameters. **A name and a parameter count do not tell which network it is.**

# %% [markdown]
# ## 6. Proof
#
# Is it right? The strongest proof is another implementation, written by other people, that does the same. One is at
# hand, torchvision's. First a weaker check: the course's own library. The same people wrote it, so it finds slips, and no
# misunderstandings. The same random seed should give the same weights, name by name, and then the same logits.


# %%
def same_as_library(**choices):
    torch.manual_seed(0)
    ours = resnet34(**choices)
    torch.manual_seed(0)
    theirs = models.resnet34(**choices)
    a, b = ours.state_dict(), theirs.state_dict()
    same_weights = a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    return same_weights, torch.allclose(ours(images), theirs(images), atol=1e-5)


for option in ("A", "B", "C", "none"):
    print(
        f"option {option}: same weights and logits:", same_as_library(shortcut=option)
    )
print("README's stem:", same_as_library(stem="readme"))

# %% [markdown]
# So the other notebooks can import from the library what you have written here. Now torchvision, whose ResNets are in
# wide use. Nothing is downloaded: its first weights are random too, with another seed, and they are **loaded by name**
# into your network. For that every name and every shape has to fit.

# %%
torch.manual_seed(1)
reference = torchvision.models.resnet34(weights=None)
mine = resnet34(num_classes=1000, stem="imagenet")
print(mine.load_state_dict(reference.state_dict()))

# %% [markdown]
# The same weights in the same places: are the two then the same network? **Predict**: what else could differ?
#
# Compare one whole training step: the logits, the gradient of every parameter, and the **buffers**, which are the
# running mean and variance that batch norm keeps for evaluation. (Pictures of 64 × 64, so that the last stage has more
# than one pixel.)


# %%
larger = F.interpolate(images, size=64, mode="bilinear")


def training_step(net):
    logits = net.train()(larger)
    loss = F.cross_entropy(logits, labels)
    names, parameters = zip(*net.named_parameters())
    # materialize_grads: a parameter that the loss does not depend on counts as 0.
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    return {
        "logits": {"": logits.detach()},
        "gradients": dict(zip(names, gradients)),
        "buffers": {name: b.double() for name, b in net.named_buffers()},
    }


# %%
def near(a, b):
    return (a - b).norm() <= 1e-4 * b.norm()


def compare(net, reference):
    """One training step of each, both from the reference's weights."""
    net.load_state_dict(reference.state_dict())
    ours, theirs = training_step(net), training_step(copy.deepcopy(reference))
    return {
        part: all(near(ours[part][name], theirs[part][name]) for name in theirs[part])
        for part in theirs
    }


print(compare(mine, reference))

# %% [markdown]
# Equal, to within rounding, in all three. But a test that you have never seen fail proves little: perhaps it cannot
# fail. So break the network on purpose, in three ways:
#
# - **slow statistics**: batch norm's `momentum` is 0.01 instead of 0.1;
# - **cut shortcuts**: the shortcut's value is added, but `detach` keeps the gradient from flowing back through it;
# - **late stride**: the stride of 2 stands on the second convolution of a block instead of the first.


# %%
def slow_statistics(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.01


def cut_shortcuts(net):
    for module in net.modules():
        if isinstance(module, BasicBlock):
            module.downsample.register_forward_hook(lambda m, x, y: y.detach())


def late_stride(net):
    for block in (net.layer2[0], net.layer3[0], net.layer4[0]):
        block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


# %% [markdown]
# **Predict.** All three load the weights by name without a complaint, and all three run. Which of the three comparisons
# (logits, gradients, buffers) notices which?


# %%
def as_written(net):
    pass


rows = {}
for damage in (as_written, slow_statistics, cut_shortcuts, late_stride):
    damaged = resnet34(num_classes=1000, stem="imagenet")
    damage(damaged)
    rows[damage.__name__] = compare(damaged, reference)
pd.DataFrame(rows).T.replace({True: "equal", False: "DIFFER"})

# %% [markdown]
# Only the late stride shows in the logits, which are all that most people compare. Cut shortcuts compute the very same
# logits and learn something else. Slow statistics train exactly alike, step for step, and then *evaluate* differently.
# **Compare everything that a step leaves behind.**

# %% [markdown]
# ## 7. The plain twin
#
# To learn what shortcuts do, this course compares with the **plain twin**: the same layers, no shortcuts.
#
# **Predict.** How many parameters fewer does it have than your ResNet-34 with option B? And than that with option A?

# %%
names = {}
for option in ("none", "A", "B", "C"):
    net = resnet34(shortcut=option)
    names[option] = set(dict(net.named_parameters()))
    print(f"{option:4} {cost(net, (3, 32, 32))[0]:,}")
extra = names["B"] - names["none"]
print("what B adds is on shortcuts:", all(".downsample." in name for name in extra))
print("A and none have the same names:", names["A"] == names["none"])

# %% [markdown]
# With option A the twins have the same parameters to the last one, so the shortcut is all that differs. That is why the
# course compares with option A. Three projections cost B less than 1%, sixteen of them cost C 5%.

# %% [markdown]
# ## 8. Bottlenecks, and ResNet-50
#
# Deeper nets save work with another block. A 1×1 convolution first *reduces* the channels to a quarter, a 3×3 works on
# the few, and another 1×1 restores them.


# %%
class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, in_channels, channels, stride=1, shortcut="B"):
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample = make_shortcut(in_channels, out_channels, stride, shortcut)

    def residual_branch(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))

    forward = BasicBlock.forward


# %%
drawn = read_block(Bottleneck(256, 64), (256, 32, 32))
plots.show(
    block_figure({"": drawn}, "A bottleneck: 256 channels outside, 64 inside"),
    alt=drawn.in_words,
)

# %% [markdown]
# **Predict.** It carries 256 channels. Has it more or fewer parameters than a basic block of 64 channels? And than a
# basic block of 256?

# %%
for name, block, channels in [
    ("basic block, 64 channels", BasicBlock(64, 64), 64),
    ("bottleneck, 256 channels", Bottleneck(256, 64), 256),
    ("basic block, 256 channels", BasicBlock(256, 256), 256),
]:
    parameters, multiply_adds = cost(block, (channels, 32, 32))
    print(f"{name:26} {parameters:9,} {multiply_adds / 1e6:6.0f} million multiply-adds")

# %% [markdown]
# About as many as the basic block of 64, and a seventeenth of the other one. With 3, 4, 6 and 3 bottlenecks the same
# `ResNet` class becomes ResNet-50: 1 + 3 · 16 + 1 layers. The same proof as before, against torchvision:


# %%
def resnet50(num_classes=10, stem="cifar", shortcut="B"):
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, stem, shortcut)


mine = resnet50(num_classes=1000, stem="imagenet")
reference = torchvision.models.resnet50(weights=None)
print("weight layers:", len(read_network(mine).layers))
print(compare(mine, reference))

# %% [markdown]
# (The stride stands on the 3×3 convolution, as in torchvision. He et al. had it on the first 1×1, which ignores three
# quarters of the pixels, as in section 3. Same name, same parameters, another network.)

# %% [markdown]
# ## 9. The audit
#
# Now to code by somebody else. The course grew out of a short README about ResNet-34 on CIFAR-10 whose listing has
# faults. (That text is "the README" of all notebooks, and not this course's `README.md`.) The file
# [`audit/faulty_resnet.py`](audit/faulty_resnet.py) is written anew, with the same five faults. Do not read it yet: in
# practice, you meet the symptom first.

# %%
listing = SimpleNamespace(**runpy.run_path("audit/faulty_resnet.py"))
theirs = listing.resnet34()
print("ten logits for each image:", theirs(images).shape == (4, 10))

# %% [markdown]
# It runs, and gives ten logits for each image. It says of itself: a ResNet-34 for 10 classes, with the README's stem
# and basic blocks.
#
# ### Check 1: count the parameters
#
# **Predict.** How many parameters does it have, give or take a few thousand? (You built the same one in section 5.)


# %%
def count(net):
    return sum(p.numel() for p in net.parameters())


mine = resnet34(stem="readme")
print(f"yours:   {count(mine):>10,}")
print(f"listing: {count(theirs):>10,}")

# %% [markdown]
# Ten million are missing, nearly half. Which? Let the two networks be drawn, as they *run*.

# %%
drawn = {"yours": read_network(mine), "the listing": read_network(theirs)}
plots.show(
    network_figure(drawn, "The listing has 18 layers, not 34"),
    alt=" ".join(f"{name}: {network.in_words}" for name, network in drawn.items()),
)

# %% [markdown]
# Every stage has two blocks, whatever was asked for. So look at the lines that make a stage, and find the fault before
# you read on:

# %%
print(inspect.getsource(listing.ResNet34.make_stage))

# %% [markdown]
# The `return` stands *inside* the loop: it leaves the function after one turn. Four spaces, sixteen layers. Nothing
# fails, because two blocks are a stage too.
#
# The test that would have caught it:


# %%
def has_all_blocks(net):
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    return [len(stage) for stage in stages] == [3, 4, 6, 3]


print("yours:", has_all_blocks(mine), "  listing:", has_all_blocks(theirs))

# %% [markdown]
# Repair it, so that what is left can be seen. The missing blocks are appended:


# %%
class Repaired(listing.ResNet34):
    def make_stage(self, in_channels, out_channels, blocks, stride):
        stage = super().make_stage(in_channels, out_channels, blocks, stride)
        while len(stage) < blocks:
            stage.append(listing.BasicBlock(out_channels, out_channels))
        return stage


repaired = Repaired()
print("all blocks there:", has_all_blocks(repaired))
print(f"parameters too many: {count(repaired) - count(mine):,}")

# %% [markdown]
# Now there are too *many*: 13,760 more than in yours. Where are they?

# %% [markdown]
# ### Check 2: who gets a gradient?
#
# Every parameter of a network should get a gradient from the loss. **Predict**: which get none, here?


# %%
def unreached(net):
    net.zero_grad()
    F.cross_entropy(net(images), labels).backward()
    sizes = {n: p.numel() for n, p in net.named_parameters() if p.grad is None}
    net.zero_grad()
    return sizes


dead = unreached(repaired)
print("yours:  ", list(unreached(mine)))
print("listing:", list(dead))
print(f"dead parameters: {sum(dead.values()):,}")

# %% [markdown]
# Three parameters have no gradient at all: `None`, not zero. Their layer is made in `__init__`, and `forward` never
# calls it. It is a second stem that someone replaced and did not remove. That is 9,536 of the 13,760.
#
# The test is `not unreached(net)`. It cannot see a dead *number*, and the listing has one too: each block sets
# `self.in_channels = 3`, which is wrong, and which nothing ever reads. A search finds a name that is written and never
# read.


# %%
def wastes_nothing(net):
    return not unreached(net)


source = inspect.getsource(listing.BasicBlock.__init__)
source += inspect.getsource(listing.BasicBlock.forward)
print("in_channels of a block, mentioned:", source.count("self.in_channels"), "time")
print("yours:", wastes_nothing(mine), "  listing:", wastes_nothing(repaired))

# %% [markdown]
# ### Check 3: silence the branches
#
# 4,224 parameters are left to explain. Silence all branches: batch norm returns γ times the normalised signal, plus β.
# Set γ of each block's last one to 0; β is 0 already, but only in a fresh network, for training moves it. Then
# $F(x) = 0$, and what remains is the shortcuts alone.
#
# **Predict.** What then comes out of `layer1`, if `x` goes in? In your network, and in the listing?


# %%
def layer1_keeps_x(net):
    layer1 = copy.deepcopy(net.layer1)
    for block in layer1:
        nn.init.zeros_(block.bn2.weight)
    x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    return torch.equal(layer1(x), x)


print("yours:", layer1_keeps_x(mine), "  listing:", layer1_keeps_x(repaired))

# %% [markdown]
# Yours hands `x` through, to the last bit: $\mathrm{ReLU}(0 + x) = x$, since behind the stem's ReLU nothing is
# negative. In the listing something stands on the path. Draw its first block:

# %%
drawn = read_block(theirs.layer1[0], (64, 32, 32))
plots.show(
    block_figure(
        {"the listing's layer1.0": drawn}, "A projection where none is needed"
    ),
    alt=drawn.in_words,
)

# %% [markdown]
# 64 channels in, 64 out, no stride: the identity would fit, but `make_stage` puts a projection at the start of *every*
# stage. Its 64 · 64 + 2 · 64 = 4,224 parameters are the rest of the 13,760. Which of He et al.'s options is that?

# %%
all_c = resnet34(stem="readme", shortcut="C")
drawn = {"listing": theirs, "all blocks": repaired, "option B": mine, "option C": all_c}
for name, net in drawn.items():
    kinds = [shortcut.kind for shortcut in read_network(net).shortcuts]
    print(f"{name:10} {kinds.count('projection'):2} of {len(kinds)} are projections")

# %% [markdown]
# None of them. Option B projects three times, where the shape changes; C all sixteen times; the listing four times. As
# it stands, with two blocks a stage, **half of its blocks have no identity**, in a network whose README says that the
# shortcut's derivative "keeps a 1".

# %% [markdown]
# ### One test for three faults
#
# All three would have been found by a test that you already have. **Predict** what section 6's loading by name says
# here.


# %%
def same_names(net):
    return set(net.state_dict()) == set(mine.state_dict())


def blocks_in(names):
    return sorted({".".join(name.split(".")[:2]) for name in names})


expected, found = set(mine.state_dict()), set(theirs.state_dict())
print("missing: ", *blocks_in(expected - found))
print("too many:", *blocks_in(found - expected))

# %% [markdown]
# Eight blocks are missing; the dead stem and the projection in `layer1.0` are too many: one fault had hidden two others, 9,536 + 4,224 = 13,760 parameters. **A proof against an
# independent implementation finds faults that you did not think of**, so it comes first. A test for a single fault
# explains it.

# %% [markdown]
# ### Check 4: ask for another rate
#
# The listing's second function sets the learning rate. Ask it to start at 0.01:

# %%
optimizer = torch.optim.SGD(mine.parameters(), lr=1.0)
milestones = [80, 110, 130]
rate = listing.adjust_learning_rate(0.01, optimizer, 0, milestones)
print("asked for 0.01, got", rate)

# %% [markdown]
# It overwrites its own argument: the first line of its body is `base_lr = 0.1`. Whoever searches for a good rate with
# it finds that all rates are equally good. The test calls it with another rate than 0.1:


# %%
def hears_base_lr(adjust):
    return math.isclose(adjust(0.01, optimizer, 0, milestones), 0.01)


print("library:", hears_base_lr(schedules.adjust_learning_rate))
print("listing:", hears_base_lr(listing.adjust_learning_rate))

# %% [markdown]
# Remove that line, and done? The README calls the function like this, once an epoch:
#
# ```python
# learning_rate = adjust_learning_rate(learning_rate, optimizer, epoch, epoch_list=[80, 110, 130])
# ```
#
# What comes out goes back in as `base_lr`. **Predict**: with the function repaired and this line left as it is, what is
# the rate in epochs 79, 80 and 85?


# %%
def rates_in_the_readmes_loop(adjust):
    learning_rate, rates = 0.1, []
    for epoch in range(100):
        learning_rate = adjust(learning_rate, optimizer, epoch, milestones)
        rates.append(learning_rate)
    return rates


as_listed = rates_in_the_readmes_loop(listing.adjust_learning_rate)
half_repaired = rates_in_the_readmes_loop(schedules.adjust_learning_rate)
for epoch in (79, 80, 85):
    print(
        f"{epoch}: {as_listed[epoch]:.0e} listed, {half_repaired[epoch]:.0e} half repaired"
    )

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.step(
    range(100), half_repaired, where="post", color=plots.RED, label="half repaired"
)
axes.step(
    range(100), as_listed, "--", where="post", color=plots.BLUE, label="as listed"
)
axes.set(
    title="With only the function repaired, the rate collapses",
    xlabel="epoch",
    ylabel="learning rate",
    yscale="log",
    ylim=(1e-10, 1),
)
axes.legend(loc="lower left")
plots.show(
    figure,
    alt="Learning rate by epoch on a logarithmic axis. As listed, it is 0.1 and drops to "
    "0.01 at epoch 80. Half repaired, it is the same up to epoch 80; then it falls by a "
    "factor of ten in every epoch, below 10 to the minus 10 at epoch 89.",
)

# %% [markdown]
# From epoch 80 on, every epoch divides by ten. **The function's fault hid the loop's**: handing in the wrong `base_lr`
# did no harm as long as the function did not listen. So a repair needs a test too, of the whole: the loop has to hand
# in the same `base_lr` every time.

# %% [markdown]
# ### Check 5: leave the list out
#
# `epoch_list=None` is the default. **Predict**: what happens without a list?

# %%
try:
    listing.adjust_learning_rate(0.1, optimizer, 0)
except UnboundLocalError as error:
    print(type(error).__name__)

# %% [markdown]
# None: `lr` gets its value under `if epoch_list is not None`, and nowhere else. This one at least is loud. It went
# unnoticed because nobody called it that way. A test that calls a function *with its defaults* is the cheapest of all:


# %%
def works_without_list(adjust):
    try:
        return math.isclose(adjust(0.1, optimizer, 50), 0.1)
    except UnboundLocalError:
        return False


print("library:", works_without_list(schedules.adjust_learning_rate))
print("listing:", works_without_list(listing.adjust_learning_rate))

# %% [markdown]
# ## 10. What each fault costs
#
# All tests together, on the listing as it stands, and on what is right:

# %%
network_tests = (has_all_blocks, wastes_nothing, layer1_keeps_x, same_names)
schedule_tests = (hears_base_lr, works_without_list)
rows = {test.__name__: [test(theirs), test(mine)] for test in network_tests}
for test in schedule_tests:
    listed, right = listing.adjust_learning_rate, schedules.adjust_learning_rate
    rows[test.__name__] = [test(listed), test(right)]
table = pd.DataFrame(rows, index=["listing", "your network, the library's schedule"]).T
table.replace({True: "passes", False: "FAILS"})

# %%
rows = {}
for name, net in {"listing": theirs, "yours": mine}.items():
    parameters, multiply_adds = cost(net, (3, 32, 32))
    dead = sum(unreached(net).values())
    kinds = [shortcut.kind for shortcut in read_network(net).shortcuts]
    rows[name] = {
        "weight layers": len(read_network(net).layers),
        "parameters that learn": f"{parameters - dead:,}",
        "dead parameters": f"{dead:,}",
        "multiply-adds": f"{multiply_adds / 1e6:,.0f} million",
        "blocks with identity": f"{kinds.count('identity')} of {len(kinds)}",
    }
pd.DataFrame(rows)

# %% [markdown]
# | fault | what it costs |
# | --- | --- |
# | `return` in the loop | 16 of 34 layers and half of the work. Whatever is measured with it is about an 18-layer network, and is published under the name of another |
# | a layer never called | 9,536 weights that are stored, copied and never learn. Trained in several processes with PyTorch's `DistributedDataParallel` it is an error, unless one sets `find_unused_parameters` |
# | a projection in `layer1` | 4,224 parameters, and the identity where it was free. At 34 layers on ImageNet, He et al. (2015, table 3) found A, B and C within a point of each other (25.0, 24.5 and 24.2% error), so in accuracy it may cost nothing (on all 54 shortcuts of ResNet-110 they found projections harmful: 2016, table 1). But one identity more is lost, 4 of 16 blocks project and not 3 (with the missing blocks, 4 of 8), and "to keep a 1" is what its README says is the point |
# | `base_lr` overwritten | every search over rates is void, and a repair in one place makes it worse |
# | no `lr` without a list | a crash, loud and cheap |
#
# **The fault that cost most made no noise, and the noisy one was the cheapest.** What these faults cost in *accuracy*
# is not measured here; that takes whole runs with several seeds. Of depth we know that on ImageNet, He et al. (2015,
# table 2) report 27.9% error for ResNet-18 and 25.0% for ResNet-34.
#
# Would a tool have found them? Three of the five, if one runs the right ones. All of these read the code without running
# it:
#
# | tool | what it says of the listing | fault |
# | --- | --- | --- |
# | pyright (types) | `Object of type "None" cannot be called`: a stage may be missing | `return` in the loop |
# | ruff's rule RET503, off unless one asks for it | a function returns a value on one way out, and nothing on another | `return` in the loop |
# | vulture (unused code) | `unused attribute 'pre_layer'`, next to four names that are fine | a layer never called |
# | pyright, pylint | `lr` may be read before it is set | no `lr` without a list |
#
# The projection and the overwritten `base_lr` need somebody who runs the code and knows what to expect.
#
# Five faults that matter, and one dead line (`self.in_channels = 3`, check 2). The README has two more, in its training
# loop, which is not in the listing: it hands in the rate that came out (check 4), and it watches its *test* set during
# training. Notebook 04 is about that.

# %% [markdown]
# ## Summary
#
# - ResNets are made of 3×3 and 1×1 convolutions with batch norm. From stage to stage the picture's side halves and the channels double, so that the work
#   of a convolution stays the same while its weights grow fourfold.
# - Where the shape changes, the shortcut pads (A) or projects (B). With stride 2 neither sees more than a quarter of the pixels.
# - A name and a parameter count do not make a network: the stem alone changes the work sixteenfold.
# - Prove a network against an independent one: names and shapes, logits, gradients *and* buffers. Then break it, and see the proof fail.
# - Silent faults are the costly ones. Look for symptoms: a count, a gradient that is `None`, a silent branch that still changes something, an argument that
#   changes nothing, a call with nothing but defaults.
# - One fault can hide another, so a repair needs a test too.

# %% [markdown]
# ## Exercises
#
# From the third one on you write tests, and the checks test *them*: on networks and functions that are sound, and on
# some that are faulty.
#
# **1.** How many parameters has the projection at the start of ResNet-34's third stage (option B), where 128 channels
# become 256?

# %%
answer = ...
check.projection_parameters(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 128 * 256 + 2 * 256
# check.projection_parameters(answer)
# ```
#
# One weight for each pair of channels, and batch norm's scale and shift for each of the 256: 33,280.
# </details>

# %% [markdown]
# **2.** Write `depth(model)`: the number in a ResNet's name. Count the convolutions and linear layers, but not those on
# shortcuts (they are in a module named `downsample`). It should work for basic blocks and bottlenecks, and for any
# number of stages.
#
# *Hint:* `model.named_modules()` gives pairs of a name and a module; `isinstance` asks what kind of module it is.


# %%
def depth(model):
    return ...


check.depth(depth)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def depth(model):
#     return sum(
#         isinstance(module, nn.Conv2d | nn.Linear) and "downsample" not in name
#         for name, module in model.named_modules()
#     )
#
#
# check.depth(depth)
# ```
#
# `True` counts as 1 in a sum.
# </details>

# %% [markdown]
# **3.** Write the test `reaches_every_weight(model, images, labels)`: `True` if every parameter of the model gets a
# gradient from the cross-entropy loss, `False` if any does not. A gradient that is there and happens to be zero is a
# gradient.


# %%
def reaches_every_weight(model, images, labels):
    return ...


check.reaches_every_weight(reaches_every_weight)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def reaches_every_weight(model, images, labels):
#     model.zero_grad()
#     F.cross_entropy(model(images), labels).backward()
#     reached = all(parameter.grad is not None for parameter in model.parameters())
#     model.zero_grad()
#     return reached
#
#
# check.reaches_every_weight(reaches_every_weight)
# ```
#
# `zero_grad` first: it sets every `.grad` to `None`, so that nothing is left over from an earlier step. And last, so that
# this test leaves nothing behind for the next one.
# </details>

# %% [markdown]
# **4.** Write the test `schedule_is_right(adjust)` for functions that are called like
# `adjust(base_lr, optimizer, epoch, epoch_list=None)`. One is right if
#
# - it starts at `base_lr`, whatever that is;
# - it stays there if there is no `epoch_list`;
# - it multiplies the rate by 0.1 at each epoch of the list, from that epoch on;
# - it returns the rate *and* sets it in every one of the optimizer's `param_groups`;
# - none of this depends on earlier calls.
#
# A faulty one may also fail with an error of any kind; your test then returns `False`. An optimizer with two parameter groups:
# `torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)`, where `a` and `b` are tensors.
#
# *Hint:* write down a few calls, each with the rate that you expect, and go through them in a loop. Which `base_lr`
# tells a schedule that listens from one that does not? Compare rates with `math.isclose`.


# %%
def schedule_is_right(adjust):
    return ...


check.schedule_is_right(schedule_is_right)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def schedule_is_right(adjust):
#     a, b = torch.zeros(1), torch.zeros(1)
#     optimizer = torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=1.0)
#     cases = [(110, [80, 110], 0.003), (79, [80, 110], 0.3), (80, [80, 110], 0.03)]
#     for epoch, epoch_list, expected in [*cases, (99, None, 0.3)]:
#         try:
#             returned = adjust(0.3, optimizer, epoch, epoch_list)
#         except Exception:  # a test survives what it finds, whatever that is
#             return False
#         rates = [returned, *(group["lr"] for group in optimizer.param_groups)]
#         if not all(math.isclose(rate, expected) for rate in rates):
#             return False
#     return True
#
#
# check.schedule_is_right(schedule_is_right)
# ```
#
# A rate other than 0.1, the epochs on both sides of a milestone, a second milestone, a call without a list, epochs out
# of order, two parameter groups, and no `==` between floating-point numbers: each of these catches a fault that the
# others let pass.
# </details>

# %% [markdown]
# **5.** Write the test `keeps_identity(block, x)` for a block that keeps its shape and ends its branch with
# `block.bn2`. `x` is a signal without negative numbers. `True` if the block hands `x` through unchanged once its branch
# is silent. It has to judge blocks that have been trained, and blocks of other people, whose `downsample` may be
# anything. Leave the block as it was, for it is somebody else's (the check does not ask for that).
#
# *Hint:* check 3 silences a branch. A fresh β is 0, a trained β is not. `copy.deepcopy` makes a copy that you may change.


# %%
def keeps_identity(block, x):
    return ...


check.keeps_identity(keeps_identity)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def keeps_identity(block, x):
#     block = copy.deepcopy(block)
#     nn.init.zeros_(block.bn2.weight)
#     nn.init.zeros_(block.bn2.bias)
#     return torch.equal(block(x), x)
#
#
# check.keeps_identity(keeps_identity)
# ```
#
# It works on a copy: setting γ and β to 0 would ruin a trained block, and running it moves batch norm's running
# statistics. And it asks what the block *does*. A test of how it is written, such as `isinstance(block.downsample, nn.Identity)`, turns
# away torchvision's block, which adds `x` itself, and lets one pass that adds `0.9 * x`.
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: the architectures (§3.3, table 1), options A, B, C (§4.1, table 3), ResNet-18 and 34 (table 2), bottlenecks (figure 5), CIFAR-10 (§4.2).
# - K. He, X. Zhang, S. Ren, J. Sun, [*Delving Deep into Rectifiers*](https://arxiv.org/abs/1502.01852), 2015: Kaiming's initialisation, by inputs or by outputs (§2.2).
# - K. He, X. Zhang, S. Ren, J. Sun, [*Identity Mappings in Deep Residual Networks*](https://arxiv.org/abs/1603.05027), 2016: what projections on every shortcut do at 110 layers (table 1).
# - T. He, Z. Zhang, H. Zhang, Z. Zhang, J. Xie, M. Li, [*Bag of Tricks for Image Classification with Convolutional Neural Networks*](https://arxiv.org/abs/1812.01187), 2019: the pixels that a strided 1×1 convolution ignores (§4.2).
# - torchvision's [resnet.py](https://github.com/pytorch/vision/blob/main/torchvision/models/resnet.py): the reference that this notebook compares with.
# - PyTorch, [*DistributedDataParallel*](https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html): `find_unused_parameters`.
