"""The plan of recorded runs: which networks are trained for the course, by what recipe, on what, at what cost.

`python -m resnet_lib record NAME` makes one (`resnet_lib.record`), `data/runs/README.md` says what each is for.
"""

from dataclasses import dataclass, replace

from resnet_lib.ablation import SMALL, WITHOUT
from resnet_lib.fast import FAST_CPU, FAST_WIDE, FastRecipe
from resnet_lib.recipes import SCHEDULES
from resnet_lib.training import README_RECIPE, Recipe

# Training on one AVX2 core, one process a core, batches of 128; evaluation takes about a third of the time an image.
IMAGES_PER_SECOND = {
    "resnet8": 630,
    "resnet20": 235,
    "resnet32": 145,
    "resnet56": 82,
    "fast_resnet": 130,
    "fast_resnet_wide": 59,
    "fast_resnet, half as wide": 400,
}
IMAGES_PER_CLASS = {("train", "full"): 5000, ("train_part", "full"): 4500, ("train", "bundled"): 500}
EVALUATION_IMAGES = {("train", "full"): 10_000, ("train_part", "full"): 5_000, ("train", "bundled"): 1_000}

README_128 = replace(README_RECIPE, batch_size=128)
TWIN_DEPTHS = (8, 20, 56, 32)  # the cheap ones and the extremes first: a plan cut short still says something
TWIN_SEEDS = (0, 1)
SCHEDULE_SEEDS = (0, 1, 2)
FAST_SEEDS = (0, 1, 2)
FAST_LONGER = replace(FAST_CPU.scaled_to(28), padding=4)
FAST_RATE_24 = replace(FAST_LONGER, peak_lr=0.24)


@dataclass(frozen=True)
class TrainingRun:
    """A training that is recorded.

    model, shortcut: as `create_network` takes them. recipe: all of it, but for a peak_lr that `peaks` decides.
    split, size: what it is trained on, as `load_cifar10` takes them; "train" is measured on the test set after each
        epoch, "train_part" on the validation split. per_class: only the first so many images of each class.
    peaks: the recorded sweep that decides the recipe's peak_lr, by the schedule's name.
    probe: also measure gradients by layer and the error on fixed training images along the way.
    keep_weights: keep the trained network in `data/weights/`, with its accuracy on the test set.

    Raises ValueError on keep_weights without that accuracy.
    """

    name: str
    model: str
    recipe: Recipe
    shortcut: str = "A"
    split: str = "train"
    size: str = "full"
    per_class: int | None = None
    peaks: str | None = None
    probe: bool = False
    keep_weights: bool = False

    def __post_init__(self) -> None:
        if self.keep_weights and self.evaluate_on != "test":
            raise ValueError(f"{self.name}: keep_weights is for runs on split='train', measured on the test set.")

    @property
    def evaluate_on(self) -> str:
        """The split that is measured after each epoch."""
        return "test" if self.split == "train" else "validation"

    @property
    def core_hours(self) -> float:
        """What it takes on one core of the kind that `IMAGES_PER_SECOND` was measured on."""
        data = self.split, self.size
        images = 10 * (self.per_class or IMAGES_PER_CLASS[data]) + EVALUATION_IMAGES[data] / 3
        return self.recipe.epochs * images / IMAGES_PER_SECOND[self.model] / 3600


@dataclass(frozen=True)
class PeakSweep:
    """Short runs that choose each schedule's peak learning rate on the validation split.

    runs: one for each schedule, its own peak_lr of no meaning. peaks: tried for each; where the best lies at an edge,
    twice or half of it is tried too, until it does not, or `most` values are.
    """

    name: str
    runs: tuple[TrainingRun, ...]
    peaks: tuple[float, ...]
    most: int = 8

    @property
    def core_hours(self) -> float:
        """Of the peaks that are tried in any case."""
        return len(self.peaks) * sum(run.core_hours for run in self.runs)


@dataclass(frozen=True)
class Ablation:
    """A small fast recipe without each of its tricks in turn (`resnet_lib.ablation`), all with one seed.

    recipe: of the variant that lacks nothing. per_class: images of each class of `train_part`; measured on the
        validation split.
    """

    name: str
    recipe: FastRecipe
    per_class: int = 1500

    @property
    def core_hours(self) -> float:
        """Of all variants."""
        # Three views of each validation image, each a third of what training on it takes.
        trained = 10 * self.per_class * self.recipe.epochs + EVALUATION_IMAGES["train_part", "full"]
        return len(WITHOUT) * trained / IMAGES_PER_SECOND["fast_resnet, half as wide"] / 3600


@dataclass(frozen=True)
class GradientFlow:
    """The gradient grid of `resnet_lib.gradient_grid`: no training, one pass of every network."""

    name: str = "gradient-flow"
    core_hours: float = 0.42


@dataclass(frozen=True)
class LossSurface:
    """The loss around trained networks, on a grid of steps along two directions (`resnet_lib.loss_surface`).

    networks: of `data/weights/`. points: of the grid along each direction, from -1 to 1. images: the first so many
    bundled training images. seeds: of the two directions.
    """

    name: str = "loss_surface"
    networks: tuple[str, ...] = ("twin_plain20_0", "twin_resnet20_0", "twin_plain56_0", "twin_resnet56_0")
    points: int = 21
    images: int = 250
    seeds: tuple[int, int] = (0, 1)
    core_hours: float = 0.45


Item = TrainingRun | PeakSweep | Ablation | GradientFlow | LossSurface


def schedule_recipe(schedule: str, epochs: int, seed: int = 0) -> Recipe:
    """The README's recipe at batch 128 under another schedule; the drops of "multi_step" move in proportion."""
    recipe = replace(README_128.scaled_to(epochs), schedule=schedule, seed=seed)
    return recipe if schedule == "multi_step" else replace(recipe, milestones=())


def _sweep() -> PeakSweep:
    runs = tuple(
        TrainingRun(schedule, "resnet8", schedule_recipe(schedule, 6), split="train_part", per_class=2250)
        for schedule in SCHEDULES
    )
    return PeakSweep("schedules_peaks", runs, (0.05, 0.1, 0.2, 0.4))


def _schedule_runs(seed: int) -> list[TrainingRun]:
    return [
        TrainingRun(
            f"schedule_{schedule}_{seed}",
            "resnet8",
            schedule_recipe(schedule, 30, seed),
            per_class=2500,
            peaks="schedules_peaks",
        )
        for schedule in SCHEDULES
    ]


def _twin_runs(seed: int) -> list[TrainingRun]:
    return [
        TrainingRun(
            f"twin_{'plain' if shortcut == 'none' else 'resnet'}{depth}_{seed}",
            f"resnet{depth}",
            replace(README_128.scaled_to(12), seed=seed),
            shortcut,
            per_class=2500,
            probe=True,
            keep_weights=seed == 0 and depth in (20, 56),
        )
        for depth in TWIN_DEPTHS
        for shortcut in ("none", "A")
    ]


def _fast_run(name: str, recipe: FastRecipe, split: str = "train_part", model: str = "fast_resnet") -> TrainingRun:
    return TrainingRun(name, model, recipe, split=split, keep_weights=name == "fast_cpu_0")


PLANNED: dict[str, Item] = {
    item.name: item
    for item in (
        # Small, and on the bundled images: a machine without the full set can make it again, and the tests do.
        TrainingRun("resnet8_bundled", "resnet8", schedule_recipe("linear", 4), size="bundled", probe=True),
        TrainingRun("resnet20_readme_15", "resnet20", README_128.scaled_to(15)),
        TrainingRun("resnet20_readme_150", "resnet20", README_128, keep_weights=True),
        GradientFlow(),
        _sweep(),
        *(run for seed in SCHEDULE_SEEDS for run in _schedule_runs(seed)),
        *(run for seed in TWIN_SEEDS for run in _twin_runs(seed)),
        LossSurface(),
        # Its settings are chosen on the validation split; the test set is for the final runs alone.
        _fast_run("fast_validation_12", FAST_CPU.scaled_to(12)),
        # Longer, and with larger moves against learning by heart, which 18 epochs already invite.
        _fast_run("fast_validation_28_moves_4", FAST_LONGER),
        # Those learn nearly all of the training images by heart. Two ways to make that harder, at the same cost.
        _fast_run("fast_validation_28_cutout_8", replace(FAST_LONGER, cutout=8)),
        _fast_run("fast_validation_28_rate_24", FAST_RATE_24),
        # Or more channels in fewer epochs.
        _fast_run("fast_validation_wide_12", FAST_WIDE.scaled_to(12), model="fast_resnet_wide"),
        _fast_run("fast_validation_wide_18", FAST_WIDE, model="fast_resnet_wide"),
        *(_fast_run(f"fast_cpu_{seed}", replace(FAST_CPU, seed=seed), split="train") for seed in FAST_SEEDS),
        *(_fast_run(f"fast_longer_{seed}", replace(FAST_LONGER, seed=seed), split="train") for seed in FAST_SEEDS),
        *(_fast_run(f"fast_rate_24_{seed}", replace(FAST_RATE_24, seed=seed), split="train") for seed in FAST_SEEDS),
        *(
            _fast_run(f"fast_wide_{seed}", replace(FAST_WIDE, seed=seed), split="train", model="fast_resnet_wide")
            for seed in FAST_SEEDS
        ),
        *(Ablation(f"fast_ablation_{seed}", replace(SMALL, seed=seed)) for seed in FAST_SEEDS),
    )
}

GROUPS = {
    "schedules": tuple(name for name in PLANNED if name.startswith("schedule")),
    **{f"twins_{seed}": tuple(run.name for run in _twin_runs(seed)) for seed in TWIN_SEEDS},
    "fast_cpu": tuple(name for name in PLANNED if name.startswith("fast_cpu_")),
    "fast_longer": tuple(name for name in PLANNED if name.startswith("fast_longer_")),
    "fast_rate_24": tuple(name for name in PLANNED if name.startswith("fast_rate_24_")),
    "fast_wide": tuple(name for name in PLANNED if name.startswith("fast_wide_")),
    "fast_ablation": tuple(name for name in PLANNED if name.startswith("fast_ablation")),
    "twins": tuple(name for name in PLANNED if name.startswith("twin_")),
    "all": tuple(PLANNED),
}


def find(names: list[str]) -> list[Item]:
    """What these names of runs and groups stand for, in order, each once.

    Raises ValueError that lists what there is.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in PLANNED and name not in GROUPS:
            raise ValueError(
                f"There is no run {name!r} in the plan. Groups: {', '.join(GROUPS)}. Runs: {', '.join(PLANNED)}."
            )
        found |= dict.fromkeys(GROUPS.get(name, (name,)))
    return [PLANNED[name] for name in found]
