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
# # Degradation and anatomy: is it really the gradients?
#
# | | |
# | --- | --- |
# | **Question** | Why do deep plain networks train worse than their residual twins: is it really the gradients? |
# | **Afterwards you can** | tell degradation from overfitting; test a story about gradients instead of telling it; cut into a trained network, and tell what was lost from what went stale; say what a classifier gets wrong and how surely; read a loss surface with care |
# | **You need** | [notebook 02](02_shortcut_connections.ipynb) and [notebook 05](05_training.ipynb) |
# | **Time** | 50 minutes to read; the cells run in under a minute on two processor cores |
#
# Notebook 01 began with a story: the gradients of deep networks vanish, so the early layers stop learning, and the `+ x` mends it. Notebook 02 took
# the story apart *at the start* of training. This one looks at training itself, and at what is left when it is done.

# %%
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from resnet_lib import anatomy_figures, error_figures, errors, plots, surgery
from resnet_lib.checks import anatomy as check
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.plan import GROUPS, PLANNED
from resnet_lib.runs import load_layers, load_runs, load_trained

train = load_cifar10("train", size="bundled")
test = load_cifar10("test", size="bundled")

# %% [markdown]
# ## 1. Deeper, and worse?
#
# He et al. (2015) met a riddle. A plain network of 56 layers had a higher *training* error than one of 20. That is not overfitting, which lowers the training
# error. And the deep network could do all that the shallow one does: copy its layers, and let the others pass their input on. It does not
# find that. They called it **degradation**.
#
# The course's twins are pairs of networks with the same layers, without shortcuts and with them (option A, which adds no weight). Each pair is
# trained by one recipe: 12 epochs on 25,000 images, the rate divided by ten after epochs 6, 9 and 10. (He et al. took 164 epochs on all images.) These are recorded so far:

# %%
twins = load_runs(GROUPS["twins"])
twins["depth"] = twins["model"].str.removeprefix("resnet").astype(int)
sides = twins.groupby(["depth", "seed"])["shortcut"].transform("nunique")
twins = twins[sides == 2]  # where both of a pair are there
for shortcut, runs in twins.groupby("shortcut", sort=False):
    pairs = list(runs.groupby(["depth", "seed"]).groups)
    print("plain:   " if shortcut == "none" else "residual:", "(depth, seed)", *pairs)

# %% [markdown]
# You have seen the *test* accuracy of some of these runs (notebook 06, section 9). Now their training error,
# measured after each epoch on 2,500 fixed training images; the test error is that on all 10,000 test images.
#
# **Predict.** Which depth ends with the lowest *training* error, plain? And residual?

# %%
plots.show(
    anatomy_figures.degradation(twins, "Plain nets of 32 and 56 layers stay behind"),
    alt="Error by epoch on training and test images for depth 8, 20, 32 and 56, plain on the left, "
    "residual on the right, two seeds each. Plain: 20 layers lie above 8 or beside them until epoch 6 and just below "
    "afterwards; 32 stay at 40 percent and 56 above 60. Residual: 20 and 32 layers end "
    "near 18 and 19 percent on training images, well below 8 layers; 56 end near 30, above 8.",
)

# %%
plots.show(
    anatomy_figures.last_error_by_depth(
        twins, "No difference at 8 layers, twenty points at 32, and more at 56"
    ),
    alt="Error after the last epoch at depth 8, 20, 32 and 56, on training and on test images; marks are "
    "seeds. At depth 8 the twins are level. At 20 the residual nets are better by four "
    "points, at 32 twenty, and at 56 by 29 to 39. Plain nets get worse from 20 layers on, "
    "residual ones from 32.",
)

# %%
last = twins[twins["epoch"] == 11]
right = 100 * last.pivot_table(
    index=["shortcut", "seed"], columns="depth", values="train_eval_accuracy"
)
for (shortcut, seed), row in right.iterrows():
    kind = "plain:   " if shortcut == "none" else "residual:"
    steps = row.diff().dropna().items()
    gains = ", ".join(f"to {depth} layers {points:+.0f}" for depth, points in steps)
    print(f"{kind} seed {seed}, training images: {gains} points")

# %%
early = twins[(twins["shortcut"] == "none") & (twins["epoch"] < 6)]
early = early.pivot(
    index=["seed", "epoch"], columns="depth", values="train_eval_accuracy"
)
behind = (early[20] < early[8]).groupby("seed").sum().tolist()
for seed, epochs in enumerate(behind):
    print(f"plain, seed {seed}: 20 layers behind 8 in {epochs} of the first 6 epochs")

# %% [markdown]
# Going from 8 to 20 layers gains the residual nets 7 to 8 points on training images and the plain ones 2. (An error on 2,500 images is known to within about 1.6 points.) At depth 8 the twins are level: half a point or one for the *plain* net on training images, and on test images each is ahead in one seed. Nothing here says that shortcuts help at every depth. And at 20 plain layers there is only a beginning of trouble: while the rate was high, they trailed the 8 in most epochs, and when it dropped, they caught up.
#
# Then it breaks. With 32 layers the plain nets have a higher *training* error than with 20, by 16 and 19 points, and with 56 again by more than 20: nearly two of three training images are still wrong. That is what degradation looks like. The residual nets of 32 layers are hardly worse than those of 20: by a point or so, which 2,500 images do not tell apart.
#
# But look at the residual nets of 56. They are far better than their plain twins, and they have lost as well, 10 to 12 points against their own 20 layers. He et al. did not find that: after 164 epochs their residual nets were the better the deeper they
# were, up to 110 layers (test error in their table 6; figure 6 has both). Ours had 12 epochs, half of them at the high rate, on half of the images. So here a high training error can mean two things: the network *cannot* get lower, or it is *slow*. Twelve epochs do not tell them apart, for either net.
# What they do show is that shortcuts make 32 and 56 layers learn sooner, by a long way. (Two seeds: they differ by up to 6 points at 56 plain layers, by up to 3 elsewhere.)
#
# ### Deeper, live
#
# Between 20 and 32 plain layers it breaks. Here is a small version that needs seconds: narrow networks (8, 16 and 32 channels instead of 16, 32 and 64), 640 images at half their resolution, 60 steps of 32 images.
# Only the *start* of a training fits in that, so read it as that.

# %%
SEED = 0  # of the first weights

# %%
from torch.optim import SGD

from resnet_lib.models import BasicBlock, ResNet

threads = torch.get_num_threads()
torch.set_num_threads(1)  # the same numbers, however many cores there are

small = F.avg_pool2d(normalise(train.images[:640]), 2)
labels = train.labels[:640]


def small_net(name):
    """A network in train mode by its name, such as "plain, 44 layers"."""
    kind, depth, _ = name.replace(",", "").split()
    torch.manual_seed(SEED)
    blocks, shortcut = (int(depth) - 2) // 6, "none" if kind == "plain" else "A"
    return ResNet(
        BasicBlock, (blocks,) * 3, shortcut=shortcut, widths=(8, 16, 32)
    ).train()


# %% [markdown]
# The loop notes the loss, and of the first layer the gradient, the size of its weights, and by how many degrees the step turned them. What `equal_steps` does comes in section 3.


# %%
def angle(one, other):
    """Degrees between two tensors, as two long vectors."""
    cosine = F.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    return torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).item()


# %%
def descend(net, learning_rate=0.03, equal_steps=False, steps=60):
    weights = [w for w in net.parameters() if w.ndim > 1]
    moving = weights if equal_steps else net.parameters()
    optimizer = SGD(moving, learning_rate, momentum=0.9)
    rows = []
    for step in range(steps):
        batch = torch.arange(32) + 32 * (step % 20)
        loss = F.cross_entropy(net(small[batch]), labels[batch])
        net.zero_grad()
        loss.backward()
        first, before = net.conv1.weight, net.conv1.weight.detach().clone()
        sizes = loss.item(), first.grad.norm().item(), first.norm().item()
        if equal_steps:
            for w in weights:
                w.grad *= w.detach().norm() / w.grad.norm()
        optimizer.step()
        rows.append((*sizes, angle(before, first)))
    columns = ["loss", "conv1_gradient", "conv1_weight", "conv1_turned"]
    return pd.DataFrame(rows, columns=columns)


# %% [markdown]
# **Predict.** Plain with 8 layers, plain with 44, residual with 44: in which order do their *training* losses stand after 60 steps?

# %%
NAMES = ("plain, 44 layers", "plain, 8 layers", "residual, 44 layers")
runs = {name: descend(small_net(name)) for name in NAMES}

# %%
smooth = {name: run["loss"].rolling(10).mean() for name, run in runs.items()}
plots.show(
    anatomy_figures.curves(
        smooth,
        "step",
        "training loss, mean of 10",
        "44 plain layers hardly learn",
        "linear linear",
    ),
    alt="Training loss over 60 steps. 8 plain layers and 44 residual layers fall to 2.0, "
    "the residual ones from a start above guessing. 44 plain layers stay near 2.3, "
    "which is guessing.",
)

# %%
reached = pd.Series({name: run["loss"].tail(20).mean() for name, run in runs.items()})
print("highest training loss:", reached.idxmax())
print("the others lower by more than 0.1:", reached.nlargest(2).diff().iloc[1] < -0.1)

# %% [markdown]
# The deeper plain network has the higher *training* loss: degradation, in small. With shortcuts the same 44 layers learn. (Guessing is $\ln 10 \approx 2.3$. The residual net starts *above* it, as its signal grows with every branch that is added
# (notebook 02, section 6), and its first logits with it. It needs half of the 60 steps to come down from there, with setbacks, and is below the plain net of 44 layers in the second half; but it comes down, and the other does not.)
#
# And 8 plain layers against 44 residual ones? Here the residual net ends a little lower. Among the ten recorded starts of section 3 it does so in this one alone: 60 steps are too few to make up for its start. Only the last place is sure.

# %% [markdown]
# ## 2. Do the gradients vanish?
#
# The recorded runs measured the gradient of every layer after each epoch, always on the same 128 images.
#
# **Predict.** In the plain network of 20 layers, through training: is the gradient of the first layer, `conv1`, far smaller than that of the last, `fc`, about as large, or far larger?

# %%
layers = {
    "plain, 20 layers": load_layers("twin_plain20_0"),
    "residual, 20 layers": load_layers("twin_resnet20_0"),
}

# %%
plots.show(
    anatomy_figures.gradients_through_training(
        layers, "Nothing vanishes in 20 layers, with shortcuts or without"
    ),
    alt="Gradient norm of 20 layers over 12 epochs as two maps, plain and residual. Apart from "
    "the start, where the first plain layer and the last residual one stand out, all "
    "layers have gradients of 0.1 to 0.7 in both.",
)


# %%
def first_to_last(table):
    norms = table.pivot(index="epochs_trained", columns="layer", values="gradient_norm")
    return norms["conv1"] / norms["fc"]


# %%
for name, table in layers.items():
    ratio = first_to_last(table)
    print(f"{name}: conv1 / fc from {ratio.min():.1f} to {ratio.max():.1f}")

# %% [markdown]
# **About as large.** In 20 plain layers with batch norm the first layer's gradient is between 0.3 and 3.4 times the last one's, at the start and after every epoch. It is the *residual* net that comes lowest,
# and only at its start. And yet the plain one trains worse.
#
# At 44 layers something does happen. Look at the first layer during the live run.
#
# **Predict.** Notebook 01 found that gradients of deep plain networks with batch norm *explode* at the start. What becomes of `conv1`'s weights in the first ten steps? And of its gradient?

# %%
deep = {name: runs[name] for name in ("plain, 44 layers", "residual, 44 layers")}
plots.show(
    anatomy_figures.curves(
        {name: run["conv1_gradient"] for name, run in deep.items()},
        "step",
        "gradient norm of conv1",
        "It explodes, and then it looks as if it had vanished",
    ),
    alt="Gradient norm of conv1 by step on a logarithmic axis. Plain: above 100 at the start, "
    "below 1 after six steps, and mostly 0.02 to 0.05 from step 25 on. Residual: near 3 at the "
    "start, then mostly between 0.2 and 0.6.",
)

# %%
plots.show(
    anatomy_figures.curves(
        {name: run["conv1_weight"] for name, run in deep.items()},
        "step",
        "weight norm of conv1",
        "The explosion has thrown the weights far out",
    ),
    alt="Weight norm of conv1 by step on a logarithmic axis. Plain: from 2 to 42 within twenty "
    "steps, and slowly on to 48. Residual: from 2.3 to 3, slowly.",
)

# %%
plain, twin = deep["plain, 44 layers"], deep["residual, 44 layers"]
first, late = plain.iloc[0], plain.iloc[30:].median()
first_twin, late_twin = twin.iloc[0], twin.iloc[30:].median()
thrown_out = late["conv1_weight"] / first["conv1_weight"]
print("conv1's weights, more than 5 times what they were:", thrown_out > 5)

# %%
more = first["conv1_gradient"] / first_twin["conv1_gradient"]
less = late["conv1_gradient"] / late_twin["conv1_gradient"]
print("first step, conv1's gradient: more than 10 times the twin's:", more > 10)
print("after step 30, less than a fifth of the twin's:", less < 0.2)

# %%
print("the first step turns conv1 by over 20 degrees:", first["conv1_turned"] > 20)
print("a step after the 30th, by under 0.05:", late["conv1_turned"] < 0.05)
print("in the twin by over 0.1:", late_twin["conv1_turned"] > 0.1)

# %% [markdown]
# If you had looked at step 40 only, you would have written: *the first layer's gradient is tiny, so it vanishes*. It is the other way round. Batch norm divides each channel by its own deviation, so the *size* of the weights in front
# of it makes no difference to the output. But it does to the gradient:

# %%
net = small_net("plain, 44 layers")


def loss_and_gradient():
    loss = F.cross_entropy(net(small[:64]), labels[:64])
    return loss.item(), torch.autograd.grad(loss, net.conv1.weight)[0].norm().item()


loss, gradient = loss_and_gradient()
with torch.no_grad():
    net.conv1.weight *= 10
loss_10, gradient_10 = loss_and_gradient()
print("the same loss:", abs(loss_10 - loss) < 0.02)
print("the gradient, about a tenth:", 0.05 < gradient_10 / gradient < 0.2)

# %% [markdown]
# Ten times the weights: the same function, a tenth of the gradient. And a step that is a tenth as long, in weights ten times as long, turns them by a *hundredth* of the angle (van Laarhoven 2017). So this is what
# happened: the gradient of `conv1` exploded; the first steps threw its weights out; there a step hardly turns them any more. **The first layer is frozen, by an explosion.**
#
# So a fair measure of a gradient is the gradient times the size of the weights. In front of a batch norm it does not change when the weights are scaled. And for any layer, `fc` too, it says how fast the loss falls when a step changes the weights by a given *share*.

# %%
fair = less * late["conv1_weight"] / late_twin["conv1_weight"]
print("by the fair measure, more than a fifth of the twin's:", fair > 0.2)

# %% [markdown]
# By that measure `conv1`'s gradient has not vanished at 44 layers either: what is left of the difference is less than a factor of five. The gradient is small because the weights are large, and for the same reason a step hardly turns them.
#
# Does the verdict on the recorded 20 layers hold by the fair measure too?


# %%
def fairly(table):
    fair = table["gradient_norm"] * table["weight_norm"]
    return first_to_last(table.assign(gradient_norm=fair))


for name, table in layers.items():
    fair = fairly(table)
    print(f"{name}: conv1 / fc, fairly, from {fair.min():.1f} to {fair.max():.1f}")

# %% [markdown]
# It does: nothing vanishes there. At the start the plain net has more in its first layer, at the end the residual one has a little more, and neither is ever below a fifth of `fc`'s.
#
# ### And at full size?
#
# The live nets were narrow and saw 60 steps. The recorded ones of 56 layers have He et al.'s widths and were trained for 2,352 steps. Do they show the same?
#
# **Predict.** In the plain net, `conv1`'s gradient beside `fc`'s: at the start, and after the first epoch? And by the fair measure? What has become of `conv1`'s weights?

# %%
full_size = {
    "plain, 56 layers": load_layers("twin_plain56_0"),
    "residual, 56 layers": load_layers("twin_resnet56_0"),
}
plots.show(
    anatomy_figures.gradients_through_training(
        full_size, "56 plain layers: first far too much, then it looks vanished"
    ),
    alt="Gradient norm of 56 layers over 12 epochs as two maps, plain and residual. Plain: at "
    "the start it grows towards the image, to 300 at the first layer; after the first epoch the "
    "early layers are darkest. Residual: no such start; later layers 5 to 20 are as dark.",
)

# %%
for name, table in full_size.items():
    raw, fair = first_to_last(table), fairly(table)
    print(f"{name}: conv1 / fc at the start {raw[0]:.1f}")
    print(f"    later {raw[1:].min():.2f} to {raw[1:].max():.2f}", end="")
    print(f", fairly {fair[1:].min():.2f} to {fair[1:].max():.2f}")

# %%
sizes = full_size["plain, 56 layers"].query("layer == 'conv1'")
sizes = sizes.set_index("epochs_trained")["weight_norm"]
print(f"conv1's weights: {sizes[0]:.1f}, after an epoch {sizes[1]:.0f}")
decay_alone = np.exp(-196 * 0.1 * 1e-4 / (1 - 0.9))  # steps · rate · penalty, momentum
print(f"in the second epoch times {sizes[2] / sizes[1]:.4f}")
print(f"by weight decay alone:    {decay_alone:.4f}")
sizes = full_size["residual, 56 layers"].query("layer == 'conv1'")
sizes = sizes.set_index("epochs_trained")["weight_norm"]
print(f"its twin's, meanwhile:    {sizes[2] / sizes[1]:.4f}")

# %%
for name, table in full_size.items():
    sizes = table.pivot(index="layer", columns="epochs_trained", values="weight_norm")
    sizes = sizes.loc[table["layer"].unique()]  # in forward order
    frozen = (sizes[2] / sizes[1] - decay_alone).abs() < 0.0005
    print(f"{name}: decay alone explains {frozen.sum()} of {len(frozen)}", end="")
    print(f", the first {frozen.argmin()} in a row")

# %% [markdown]
# The same three steps as in the small net: explosion, weights thrown out, a gradient that looks vanished. At the start the gradient of `conv1` is 600 times that of `fc`. The first epoch throws its weights out to 200 times their size. From then on its gradient is between a fiftieth and a tenth of `fc`'s, and whoever looks there only writes: *vanished*. By the fair measure it is 4 to 8 times `fc`'s, and more than its twin's in every epoch. In the residual net, which learns, the darkest layers are as dark as the plain net's.
#
# And it is frozen. The gradient of weights in front of a batch norm is at right angles to them, since their length alone makes no difference to the loss; so a step along it, which turns them, also makes them longer. Weight decay makes them shorter: each step takes off rate times penalty of them, and momentum makes ten such steps of one. The twin's `conv1` got longer by 4% (in the second seed shorter by 1%, still less than decay alone makes it). The plain net's got shorter, in the second epoch by just as much as decay alone makes it: of steps there is nothing to be seen. Nor is there in layers 2 to 15. In the twin the same test finds two layers of 56.
#
# And the nets of 32 layers, where degradation sets in? They are twenty points behind their twins.

# %%
middle = load_layers("twin_plain32_0")
sizes = middle.pivot(index="layer", columns="epochs_trained", values="weight_norm")
frozen = (sizes[2] / sizes[1] - decay_alone).abs() < 0.0005
ratio = first_to_last(middle)[1:]
print(
    f"conv1's weights, after an epoch: {sizes[1]['conv1'] / sizes[0]['conv1']:.1f} times"
)
print(f"conv1 / fc, later {ratio.min():.1f} to {ratio.max():.1f}")
print("layers that decay alone explains:", frozen.sum(), "of", len(frozen))

# %% [markdown]
# Little of it happened there: the weights grew threefold (in the second seed fivefold), the gradient looks healthy, and no layer stood still. **So frozen layers cannot be what degradation is.** At most they make it worse at 56.
#
# ## 3. If it is not that they vanish, what fails?
#
# At 44 and 56 layers the gradients have the wrong *sizes*: too large first, too small then. Suppose that this is all. Then there is a simple cure: give every layer a step of the *same relative size*, whatever the size of its gradient.
# That is `equal_steps` (LARS of You et al. 2017 is a relative of it): each layer's gradient is scaled to the norm of the layer's weights, and only weights move. No gradient can vanish or explode any more, by construction. What is left is their directions, and how long a step along them may be.
#
# **Predict.** With equal steps: does the plain network of 44 layers now learn as its twin does?

# %%
equal = {name: descend(small_net(name), 0.003, equal_steps=True) for name in deep}

# %%
smooth = {name: run["loss"].rolling(10).mean() for name, run in equal.items()}
plots.show(
    anatomy_figures.curves(
        smooth,
        "step",
        "training loss, mean of 10",
        "Equal steps in all layers do not save the plain net",
        "linear linear",
    ),
    alt="Training loss over 60 steps of equal relative size. The residual net falls from above "
    "guessing to 1.9; the plain one stays near 2.3 for 40 steps and then sinks to 2.2.",
)

# %%
plain_loss, twin_loss = (run["loss"].tail(20).mean() for run in equal.values())
print("residual ahead by more than 0.2:", twin_loss < plain_loss - 0.2)
print("plain, down from guessing by less than 0.15:", plain_loss > 2.15)

# %% [markdown]
# Hardly. The residual twin learns faster than before; the plain net moves late and little. **Sizes of gradients are not the whole of it**, neither vanished nor exploded. But is 0.003 of each layer's weights (before momentum) the wrong rate for it, or this the wrong start? Other rates, here in millionths of the weights, three starts each, and once more steps, recorded by these very cells (`python tools/record_trials.py equal_steps`):

# %%
from resnet_lib.runs import load_trials

rates = load_trials("equal_steps")
rates["millionths"] = (1e6 * rates["rate"]).round().astype(int)
table = rates.pivot_table(
    index=["steps", "millionths"],
    columns="network",
    values="loss",
    aggfunc=["min", "max"],
)
table = table.swaplevel(axis=1).sort_index(axis=1, ascending=[True, False])
print(table.round(2).to_string())

# %% [markdown]
# In 60 steps the plain net gets to 2.2 at best, at any of them, where its twin gets to 1.8 with the best of its own. 400 steps at 1,000 do bring it down, to 1.9 to 2.1; meanwhile its twin has learnt the 640 images by heart. So the plain net is not dead. It is *slow*.
#
# Is anything wrong with its directions? A gradient is a *promise*: go this way, and for a short step the loss falls by so much, the step's length times the slope. How far does the promise hold? Take one step of equal
# relative size $s$ in all layers, along the gradient of the very images on which the loss is measured. It moves layer $l$ by $s\lVert w_l\rVert$ against its gradient $g_l$, so it promises a fall of $s \sum_l \lVert w_l\rVert\lVert g_l\rVert$: the fair measure of section 2, summed over all layers, is the *slope*. Choose $s$ so that each network is promised the *same* fall, for their slopes differ. Then compare.
#
# One thing has to be made equal first. The residual net starts with logits four times as large as the others' and a loss above guessing, and a loss that is too high is easily brought down. So the last layer of each network is scaled until its logits deviate by 0.3.
#
# **Predict.** The loss is promised to fall by 0.1. What share of that comes true: with 8 plain layers, 44 plain, 44 residual?


# %%
def equal_logits(net):
    """Scale the last layer until the logits deviate by 0.3."""
    with torch.no_grad():
        logits = net(small[:64])
        deviation = (logits - logits.mean(1, keepdim=True)).square().mean().sqrt()
        net.fc.weight *= 0.3 / deviation
        net.fc.bias *= 0.3 / deviation


def kept_share(net, promises):
    """What share of a promised fall comes true, for each promise; and the slope."""
    equal_logits(net)
    weights = [w for w in net.parameters() if w.ndim > 1]
    start = [w.detach().clone() for w in weights]
    loss = F.cross_entropy(net(small[:64]), labels[:64])
    gradients = torch.autograd.grad(loss, weights)
    slope = sum(w.norm() * g.norm() for w, g in zip(start, gradients)).item()
    kept = {}
    for promise in promises:
        size = promise / slope  # of each layer's step, relative to its weights
        with torch.no_grad():
            for w, w0, g in zip(weights, start, gradients):
                w.copy_(w0 - size * w0.norm() / g.norm() * g)
            fall = loss - F.cross_entropy(net(small[:64]), labels[:64])
        kept[promise] = fall.item() / promise
    return pd.Series(kept), slope


# %%
promises = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
tried = {name: kept_share(small_net(name), promises) for name in NAMES}
kept = {name: share for name, (share, _) in tried.items()}
slopes = {name: slope for name, (_, slope) in tried.items()}

# %%
plots.show(
    anatomy_figures.curves(
        kept,
        "fall of the loss that the gradient promises",
        "share that comes true",
        "44 plain layers: the gradient keeps small promises only",
        "log linear",
    ),
    alt="Share of a promised fall of the loss that comes true, over promises from 0.001 to "
    "1. All begin near 1. At 0.1: 8 plain layers 0.8, 44 residual ones 0.7, 44 plain ones "
    "0.4. At 1 the first two keep 0.1 to 0.2, and 44 plain layers nothing.",
)

# %%
plain_44, plain_8, residual_44 = (share[0.1] for share in kept.values())
print("of 0.1, 8 plain layers keep more than 0.6:", plain_8 > 0.6)
print("44 residual layers too:", residual_44 > 0.6)
print("44 plain layers, less than 0.5:", plain_44 < 0.5)

# %%
best = {name: (share * share.index).max() for name, share in kept.items()}
twins_44 = "residual, 44 layers", "plain, 44 layers"
print(
    "the best of these steps, residual over plain, more than 3:",
    best[twins_44[0]] / best[twins_44[1]] > 3,
)
print(
    "slope, plain over residual, more than 30:",
    slopes[twins_44[1]] / slopes[twins_44[0]] > 30,
)

# %% [markdown]
# The plain net of 44 layers keeps less than four tenths of a promise of 0.1, its twin seven tenths, and its twin's best single step brings the loss down more than four times as far. Why is the promise broken: because the gradient gets smaller along the way, or because it turns? Take it again at the end of such a step, and compare (each layer's weighted by the size of its weights, as in the fair measure).
#


# %%
def gradient(net):
    """That of all layers as one long vector, each times the size of its weights."""
    weights = [w for w in net.parameters() if w.ndim > 1]
    loss = F.cross_entropy(net(small[:64]), labels[:64])
    gradients = torch.autograd.grad(loss, weights)
    sized = [w.detach().norm() * g.flatten() for w, g in zip(weights, gradients)]
    return torch.cat(sized)


turned, resized = {}, {}
for name in NAMES:
    net = small_net(name)
    equal_logits(net)
    before = gradient(net)
    kept_share(net, [0.1])  # which takes that step
    turned[name] = angle(before, gradient(net))
    resized[name] = (gradient(net).norm() / before.norm()).item()
in_size = all(0.8 < ratio < 1.25 for ratio in resized.values())
print("all three gradients are as large as before, within a quarter:", in_size)
print("44 plain layers, turned by over 80 degrees:", turned[NAMES[0]] > 80)
print("the other two, by under 70:", max(turned[name] for name in NAMES[1:]) < 70)

# %% [markdown]
# It turns. Both, size and direction, are at work:
#
# - **Size.** The slope is the explosion, seen in all layers at once: the plain net's is some ninety times its twin's. So for the same promise its step is so many times shorter.
# - **Direction.** Of that short step the promise holds for a smaller part. Look where the curves fall to three quarters: at a promise of about 0.025 for the plain net, of about 0.08 for its twin. A little way along the gradient, the plain net's gradient is another one: as large, and at about a right angle to the first. (Its twin's has turned too, by some 60 degrees.)
#   That fits the **shattered gradients** of [notebook 02](02_shortcut_connections.ipynb): there the gradient changed like noise from one image to the next one beside it; here it does from one set of *weights* to the next one beside it.
#
# Both together: measured by its weights, the plain net may go only a three-hundredth of the way before its promise fails. Equal steps do not mend that: they were equal here. They make the steps of all *layers* equal, not the way that a *network* may go. By its slope, the plain net's promise holds to three quarters for steps of some 10 millionths of the weights, its twin's for some 3,000: the rate of the run above. At 10 the plain net would keep its promises, and hardly move in 60 steps.
#
# (**What is compared has to start alike.** With the logits that each network starts with, the twin keeps nine tenths, and much of that is the way down to guessing.)
#
# These were three small networks from one start. Do ten starts say the same?

# %%
starts = load_trials("live_descents").pivot(index="seed", columns="network")
twin, plain = (
    starts.xs(twins_44[0], axis=1, level=1),
    starts.xs(twins_44[1], axis=1, level=1),
)
compared = pd.DataFrame(
    {
        "loss after 60 steps, plain": plain["loss"],
        "loss after 60 steps, residual": twin["loss"],
        "conv1's gradient late, plain / residual": plain["conv1_gradient_late"]
        / twin["conv1_gradient_late"],
        "the same by the fair measure": plain["conv1_gradient_late"]
        * plain["conv1_weight_late"]
        / (twin["conv1_gradient_late"] * twin["conv1_weight_late"]),
        "conv1's weights late / at the start, plain": plain["conv1_weight_late"]
        / plain["conv1_weight_first"],
        "loss with equal steps, plain": plain["equal_steps_loss"],
        "loss with equal steps, residual": twin["equal_steps_loss"],
        "kept of a promise of 0.1, plain": plain["kept_of_0.1"],
        "kept of a promise of 0.1, residual": twin["kept_of_0.1"],
        "slope, plain / residual": plain["slope"] / twin["slope"],
        "best step's fall, residual / plain": twin["best_step"] / plain["best_step"],
    }
)
print(compared.agg(["min", "median", "max"]).T.to_string(float_format="%.2f"))

# %% [markdown]
# In all ten the plain net ends at 2.26 to 2.31 and its twin lower, at 2.03 to 2.21. With equal steps the gap is wider: 2.20 to 2.29 against 1.76 to 1.98. In all ten its first weights are thrown out and their gradient looks vanished, its promises hold for less, and its best step brings a third to a fifth of what its twin's does. One thing varies: by the fair measure of section 2, `conv1`'s gradient ends between a tenth and one and a half times the twin's; it is below a fifth in two of ten. Where it is, something of the vanishing is left; the raw gradient would have it ten times as strong.
#
# It is evidence, not the last word, and the literature has not spoken it:
#
# - **He et al. (2015, §4.1)** say of their plain net of 34 layers that with batch norm its signals do not die, and that they verified healthy norms of its gradients. So vanishing gradients are an unlikely cause. They *conjecture* that deep plain nets converge exponentially slowly, and leave the reason open.
# - **Balduzzi et al. (2017)** say: shattered gradients. They trained deep plain nets without shortcuts from a start that does not shatter.
# - **Li et al. (2018)** look at the loss around trained weights, and see it turn from smooth to chaotic with depth, less so with shortcuts (section 6).
# - **De & Smith (2020)**: batch norm in the branches makes them small beside the shortcut at the start, so that a deep residual net begins close to a shallow one. One scalar a branch does the same without batch norm.
# - **Orhan & Pitkow (2018)**: shortcuts break symmetries, such as that between units that can be exchanged or are dead, near which learning is slow.
#
# These do not exclude each other, and no experiment that we know of weighs them all. **Disputed** is how much each explains. What is *not* supported by what you measured here is that deep plain networks with batch norm fail because their gradients vanish.

# %% [markdown]
# ## 4. Surgery
#
# Now to networks that are trained: the twins of depth 20, each with nine blocks. Veit et al. (2016) took single blocks out of a trained ResNet-110, and the error hardly moved; in a plain network (VGG) it went to guessing.
#
# A residual block that is dropped leaves its shortcut. A plain block has none, so it is replaced by the one its twin has. Where the next layer finds other inputs than before, the running means and variances of batch norm are wrong as well: **stale**. So every cut is measured twice:
# as it is, and with these statistics measured anew on training images (diamonds). No weight moves in that.
#
# **Predict.** Which block does the residual network miss most? How much of the damage do new statistics repair?

# %%
torch.set_num_threads(threads)

nets = {
    "plain, 20 layers": load_trained("twin_plain20_0"),
    "residual, 20 layers": load_trained("twin_resnet20_0"),
}

# %%
some = test[::5]  # 200 images; half of them are enough for the plain net
seen = {"plain, 20 layers": test[::10], "residual, 20 layers": some}
dropped = {
    name: surgery.drop_each_block(net, seen[name], train[:125])
    for name, net in nets.items()
}

# %%
plots.show(
    anatomy_figures.dropped_blocks(
        dropped, "A cut ruins the plain net and only hurts the residual one"
    ),
    alt="Error without each of the nine blocks. Plain: 80 to 93 percent, near guessing; with "
    "statistics measured anew 57 to 71 percent in stage 1, 79 or more after it. Residual: "
    "33 to 69 percent, with statistics anew 28 to 49 percent; the whole network has 22.",
)

# %%
plain, twin = dropped.values()
whole, cut, anew = plain[["error_before", "error_after", "error_recalibrated"]].T.values
print("plain, every block costs more than 40 points:", (cut - whole).min() > 0.4)
print("and with statistics anew, more than 20:", (anew - whole).min() > 0.2)

# %%
whole, cut, anew = twin[["error_before", "error_after", "error_recalibrated"]].T.values
print("residual, half of the blocks cost under 30:", np.median(cut - whole) < 0.3)
stale = (cut - anew).sum() / (cut - whole).sum()
print("of all damage, stale statistics are over 40%:", stale > 0.4)
print("with statistics anew the dearest is", twin["block"][anew.argmax()])

# %% [markdown]
# The plain network does not survive any cut; only in its first stage do new statistics bring a part back. In the residual one a cut costs 10 to 47 points, and **about half of that is stale statistics**: measured anew, it is 5 to 26 points. The first block looked like the most important one;
# mostly it only changed the statistics of all that follow. What is dearest then is the last block; perhaps because nothing after it can make up for it. (200 images, and 100 for the plain net: differences below six points, or below nine, may be chance.)
#
# "Hardly any effect", as in ResNet-110, this is not. There are nine blocks here instead of 54, so each is a larger part of the network. And read the plain net with care: its block was replaced by a path that it has never been trained with. The cut does not show that
# its blocks are *better*, only that the blocks after it cannot read what comes.
#
# How much do the two paths tolerate? Multiply all shortcuts, or all branches, by a factor.
#
# **Predict.** Which hurts more: all shortcuts times 0.9, or all branches times 0.9? And with statistics measured anew?

# %%
residual = nets["residual, 20 layers"]
factors = (0.75, 0.9, 1, 1.1, 1.25)
scaled = {
    f"{part} scaled": surgery.scale_all_blocks(
        residual, some, part, factors, train[:125]
    )
    for part in surgery.PARTS
}

# %%
plots.show(
    anatomy_figures.errors_along(
        scaled,
        "factor",
        "factor in every block",
        "Shortcuts × 0.9: the harm is mostly stale statistics",
    ),
    alt="Error of the residual network over the factor on all shortcuts or all branches. "
    "Shortcuts: a narrow valley, 48 percent at 0.9, 46 at 1.1, 89 at 0.75. Branches: a "
    "wide one, 24 percent at 0.9, 23 at 1.1 and 30 to 40 at the ends. Dashed, with statistics "
    "anew: shortcuts 24 percent at 0.9 and 32 at 0.75, but 66 at 1.25; branches 22 to 26.",
)

# %%
measures = ["error_after", "error_recalibrated"]
shortcuts, branches = (t.set_index("factor")[measures] for t in scaled.values())
harm, harm_anew = shortcuts.loc[0.9] - shortcuts.loc[1]
print("shortcuts times 0.9, more than 10 points:", harm > 0.1)
print("with statistics anew, fewer than 5:", harm_anew < 0.05)
_, harm_anew = shortcuts.loc[1.25] - shortcuts.loc[1]
print("shortcuts times 1.25, even so more than 20:", harm_anew > 0.2)
harm, _ = branches.loc[0.9] - branches.loc[1]
print("branches times 0.9, fewer than 10:", harm < 0.1)

# %% [markdown]
# A factor on the shortcuts multiplies along the whole path, $0.9^9 \approx 0.4$ from the first block to the last, the same product as in notebook 02; on the branches it changes each contribution once. So with weaker shortcuts every batch norm gets smaller inputs than it remembers. Measured anew, that costs a point instead of 25: nearly all of the harm was stale.
# Times 1.25 it is not: there the shortcuts drown what the branches add, and no statistics bring that back. (An earlier version of this section did not measure anew here, and blamed the product for all of it.)
#
# And the plain net? It has branches alone, and what a factor does to a branch the next batch norm undoes, if it knows the new statistics. (Behind the last block there is none: there the factor makes the logits smaller, and changes an answer only where the bias of `fc` decides.) So here we know the answer beforehand, and can try the method on it:

# %%
scaled = surgery.scale_all_blocks(
    nets["plain, 20 layers"],
    seen["plain, 20 layers"],
    "branch",
    (0.75, 1),
    train[:125],
)
harm, harm_anew = scaled[measures].diff().iloc[1].abs()
print("all blocks of the plain net times 0.75, more than 30 points:", harm > 0.3)
print("with statistics anew, fewer than 5:", harm_anew < 0.05)

# %% [markdown]
# As it should be: all of it was stale. Measuring statistics anew does what it is meant to do.
#
# Last, let two blocks of a stage change places.
#
# **Predict.** In which of the two networks does that hurt less? And within one stage, is it the order that matters?


# %%
def about(cost):
    return "below 6" if cost < 0.06 else "6 to 30" if cost < 0.3 else "above 30"


for name, net in nets.items():
    print(name)
    for _, swap in surgery.swap_each_pair(net, seen[name], train[:125]).iterrows():
        costs = [about(swap[column] - swap["error_before"]) for column in measures]
        pair = f"{swap['first']} and {swap['second']}"
        print(f"    {pair}: {costs[0]} points; with statistics anew {costs[1]}")

# %% [markdown]
# Only five pairs have the same shape. In the plain net every swap is ruin, and new statistics do not help. In the residual one no harm can be measured for the two neighbours of stage 2 (on 200 images six points may be chance), and with statistics anew little for two more pairs. The first block of stage 1 cannot change places with either of the others without harm: perhaps because it is trained on what comes from `conv1` (though its bare shortcut could stand in for it, above, for some ten points). Greff et al. (2017) read such experiments so: the blocks of a stage
# refine one estimate, each a little. Veit et al. read theirs as a collection of many short networks. Our nine blocks cannot decide between them.

# %% [markdown]
# ## 5. What it gets wrong
#
# This section looks at one network, the course's best ResNet-20: all 50,000 training images, 150 epochs (notebook 06, section 5).

# %%
from resnet_lib.training import predict

BEST = "resnet20_readme_150"
logits = predict(load_trained(BEST), test)
answers = logits.argmax(1)
right = (answers == test.labels).double().mean()
print(f"right: {right:.0%} of {len(test):,} test images")

# %% [markdown]
# **Predict.** Which two classes does it take for each other most? Which class is hardest?

# %%
matrix = errors.confusion_matrix(answers, test.labels, test.classes)
plots.show(
    error_figures.confusions(matrix, "Cats for dogs, airplanes for ships"),
    alt="Confusion matrix of ten classes with the wrong answers shaded. Most of them stand "
    "between animals: a cat called a dog 8 times, and a dog a cat 8 times. Between vehicles: "
    "an airplane called a ship 6 times.",
)

# %%
top = errors.frequent_confusions(matrix, 1).iloc[0]
print("taken for each other most:", top["one"], "and", top["other"])
animals = ["bird", "cat", "deer", "dog", "frog", "horse"]
is_animal = torch.tensor([name in animals for name in test.classes])
wrong = answers != test.labels
same_kind = is_animal[answers[wrong]] == is_animal[test.labels[wrong]]
share = same_kind.double().mean().item()
print("an animal for an animal, a vehicle for a vehicle: over 80%:", share > 0.8)

# %% [markdown]
# Cats and dogs. More than four of five mistakes take an animal for another animal or a vehicle for another vehicle; if they fell on the other classes at random, about half would. Now each class by itself, with the interval that 100 images leave (Wilson's, 95%).

# %%
from resnet_lib.analysis import class_accuracies

table = class_accuracies(answers, test.labels, test.classes)
plots.show(
    error_figures.class_accuracies(
        {"ResNet-20": table}, "The cat is hardest; beside which classes is that sure?"
    ),
    alt="Accuracy of each class with its 95 percent interval. Cat is lowest at 84 percent, "
    "from 76 to 90. Bird, airplane and dog follow at 87 and 88; ship and horse are highest, at "
    "97 and 99. The intervals are 5 points wide at the top and 14 at cat.",
)

# %%
hardest = table["accuracy"].idxmin()
above = table["low"] > table.loc[hardest, "high"]
print("hardest:", hardest)
print("with an interval wholly above its own:", *sorted(table.index[above]))

# %% [markdown]
# Cats come last, and two classes are clearly better. That two intervals do not meet is asking much; the fair measure is the standard error of the *difference* (exercise 3). By that the two are more than three of them above cats, and the other seven up to 2.6. For one comparison, planned beforehand, 2.6 would be much. Here cats were picked *because* they came last,
# and compared with nine others: among so many a difference of two standard errors is easily luck. And an interval is about the *images*; another seed would give another network, with its own weaknesses.
#
# Which mistakes is it surest of?

# %%
mistakes = errors.confident_mistakes(logits, test.labels, 10)
plots.show(
    error_figures.mistake_wall(test, mistakes, "Ten mistakes of which it was surest"),
    alt="Ten test images, each with its label and the wrong answer of which the network was "
    "more than 99 percent sure: a ship's bow (airplane), two airplanes (ship), a hawk in grass "
    "(dog), dogs (bird, cat), a blue lorry's front labelled automobile (truck), and others.",
)

# %% [markdown]
# Look before you blame it. The seventh image is labelled automobile, and many would call it a truck. The first is a bow that points upwards, an airplane's shape; of the dog in the fifth one sees little but a tail. One may guess that the network goes by shape, colour
# and surroundings; ten pictures do not prove it. A few may be errors of the *labels*; Northcutt et al. (2021) put them at about half a percent of CIFAR-10's test set ([notebook 04](04_cifar10.ipynb)).
#
# So how much is its certainty worth?
#
# Its **confidence** is the largest of the ten probabilities that softmax makes of its logits.
#
# **Predict.** Nine of ten of its answers are over 90% sure. How many of these are right?

# %%
T = errors.fit_temperature(logits[::2], test.labels[::2])
half, half_labels = logits[1::2], test.labels[1::2]
calibration = {
    "as trained": errors.reliability(half, half_labels, 10),
    "with a temperature": errors.reliability(half / T, half_labels, 10),
}

# %%
plots.show(
    error_figures.reliability_diagram(
        calibration, "Too sure, and a temperature mends much of it"
    ),
    alt="Accuracy over confidence in ten bins on 500 images, as trained and with a "
    "temperature, with 95 percent intervals. As trained nearly all answers are over 90 percent "
    "sure, and the few others are mostly right less often than they are sure, one bin far less. "
    "With a temperature more answers are less sure, and most intervals hold the diagonal.",
)

# %%
surest = calibration["as trained"].iloc[-1]
print(f"over 90% sure: mean confidence {surest['confidence']:.1%}", end="")
print(f", right {surest['accuracy']:.0%}")
gaps = [errors.expected_calibration_error(table) for table in calibration.values()]
print(f"mean gap: {100 * gaps[0]:.1f} points, with a temperature {100 * gaps[1]:.1f}")

# What would be left if it were exactly as sure as it is right, and chance alone decided?
sure, answer = (half / T).softmax(1).max(1)
generator = torch.Generator().manual_seed(0)
gaps = []
for _ in range(200):
    hit = torch.rand(len(sure), generator=generator) < sure
    drawn = torch.where(hit, answer, (answer + 1) % 10)  # the wrong one may be any
    table = errors.reliability(half / T, drawn, 10)
    gaps.append(errors.expected_calibration_error(table))
print(f"by chance alone: {100 * np.mean(gaps):.0f}")
print(f"temperature: {T:.1f}")

# %% [markdown]
# 96%, where it is 99.5% sure: of 450 answers it expects two to be wrong, and 17 are. It is **too sure**. The fitted **temperature** divides all logits by one number $T$. It changes no answer, only how sure each is, and above 1 it makes the network less sure. It was fitted on one half of the images and judged on the other. There the *mean gap*, the distance between confidence and accuracy in each bin, weighted by its images (exercise 4), falls to half, and chance alone would leave about as much: on 500 images what is left cannot be told from none.
# Guo et al. (2017) found modern networks too sure, and blamed, among others, training on when the training images are nearly all right. Does that fit here? The twin of 12 epochs still had a training error near 18%.

# %%
short = predict(nets["residual, 20 layers"], test)
T_short = errors.fit_temperature(short[::2], test.labels[::2])
print(f"temperature after 12 epochs on half of the images: {T_short:.1f}")

# %% [markdown]
# It fits: a network that gets its training images wrong has a reason to be modest, and one with 99% of them right has lost it. (Two networks, which differ in more than this. It is no proof.)

# %% [markdown]
# ## 6. The loss around the weights
#
# Li et al. (2018) made pictures of the loss around trained weights, and saw it turn from a smooth bowl into a chaos of ridges in deep plain networks, and much less so with shortcuts. How is such a picture made, and what does it show?
#
# Take two random directions in the space of all weights, and go $a$ along the one and $b$ along the other. But a network with large weights would look flat in it, only because a step of 1 is little to it; and in front of a batch norm the size of weights means nothing (section 2). So each *filter* of a direction
# is scaled to the norm of the filter of the weights: **filter normalisation**.

# %%
from resnet_lib.loss_surface import load_loss_surfaces, loss_surface, random_direction

residual = nets["residual, 20 layers"]
direction = random_direction(residual, seed=0)
filters, weights = direction["conv1.weight"], residual.conv1.weight.detach()
print("filters of conv1:", len(filters))
norms = [part.flatten(1).norm(dim=1) for part in (filters, weights)]
print("norms agree:", torch.allclose(*norms))

# %% [markdown]
# The surfaces of the twins of 20 and 56 layers were recorded: 21 × 21 points each, on 250 training images, in both directions from -1 to 1. (One unit moves each filter by its own length, at a right angle or nearly so: it is a long way.)
#
# **Predict.** At 20 layers, will the plain network's surface look like chaos beside its twin's? And at 56?

# %%
recorded, _ = load_loss_surfaces()
surfaces = {
    f"{kind}, {depth} layers": recorded[f"twin_{run}{depth}_0"]
    for depth in (20, 56)
    for kind, run in (("plain", "plain"), ("residual", "resnet"))
}
plots.show(
    anatomy_figures.surface_contours(
        surfaces, "20 layers: two smooth bowls; 56: the plain one is crumpled"
    ),
    alt="Contours of the loss around the trained weights, with one scale in four panels. 20 layers: "
    "plain and residual are one round bowl each, its bottom at or beside the star in the middle, 0.6 and 0.5. "
    "56 layers: plain, a few contours with dents and bays around a shallow bottom at 1.7; residual, a round bowl "
    "with many close contours, from 0.8 in the middle to 2 or 3.",
)

# %%
deep_surfaces = {name: table for name, table in surfaces.items() if "56" in name}
plots.show(
    anatomy_figures.surface_mountains(
        deep_surfaces, "From the side: a crumpled plate and a bowl"
    ),
    alt="The surfaces of 56 layers in three dimensions, the height the loss on a "
    "logarithmic scale. Plain: a shallow plate with folds and a rough rim. Residual: a smooth "
    "deep bowl that bends over only at its rim.",
)

# %% [markdown]
# How crumpled is crumpled? Walk along each row and each column of the grid. Through a bowl such a walk goes down and then up: it *turns* once, or not at all. Count the turns.

# %%
from resnet_lib.loss_surface import surface_grid

for name, table in surfaces.items():
    _, grid = surface_grid(table)
    walks = np.concatenate([grid, grid.T])
    turns = (np.diff(np.sign(np.diff(walks)), axis=1) != 0).sum(axis=1)
    print(f"{name:20} turns of a walk: {turns.mean():.1f}, at most {turns.max()}")

# %% [markdown]
# At 20 layers there is no chaos: one bowl each, but for a dent at the edge of the plain one, up to where the loss is that of guessing and more. (The lowest point lies one grid step beside the star: these are 250 of the 25,000 training images, and batch norm runs in another mode than when such a network is used, as you will see.) The residual bowl is deeper, which is its lower training loss, and no wider. **Here the picture does not tell the twins apart**, though one of them trains better.
#
# At 56 it does. The residual surface is still a bowl nearly everywhere. The plain one is a crumpled plate: its walks turn three times on average, and one of them eleven times. That agrees with Li et al., who saw plain networks of 20 layers smooth and those of 56 chaotic, though "chaos" would say too much of ours: it too has one hollow in its middle, and a grid of steps of 0.1 shows nothing finer.
#
# But what does it *show*? These are the weights at which training had *arrived*, and the plain net had not arrived anywhere: its loss there is 1.7, and its first fifteen layers, far out, hardly moved in the epoch that we looked at (section 2). Is the surface crumpled because the net is plain, or because it is hardly trained? Two networks with such different losses cannot tell. Nor is it known whether training ever met these folds.

# %% [markdown]
# Is the recording what this machine would measure? A small grid, live, whose points are all in the large one:

# %%
from resnet_lib.loss_surface import surface_of_trained

grid = [-1, 0, 1]
for name in ("twin_plain20_0", "twin_resnet20_0"):
    live = surface_of_trained(PLANNED["loss_surface"], name, grid)
    both = live.merge(recorded[name], on=["a", "b"], suffixes=("", "_recorded"))
    equal_losses = np.allclose(both["loss"], both["loss_recorded"], rtol=0.01)
    print(f"{name}: {len(both)} shared points, equal within 1%: {equal_losses}")

# %% [markdown]
# One choice is easily overlooked. Batch norm was in *train* mode: it took mean and variance from the 250 images, anew at each point. In *evaluation* mode, as in Li et al.'s own code, it keeps those that belong to the trained weights, and at other weights they are stale (section 4).
#
# **Predict.** In evaluation mode, are the corners of the picture higher, lower, or the same?

# %%
directions = direction, random_direction(residual, seed=1)
images = normalise(train.images[:250]), train.labels[:250]
corners = loss_surface(residual, *images, directions, [-1, 1], "running")
both = corners.merge(live, on=["a", "b"], suffixes=("", "_train_mode"))
higher = both["loss"] / both["loss_train_mode"]
print("corners more than twice as high:", (higher > 2).sum(), "of", len(both))

# %% [markdown]
# Same weights, same images, same directions, and walls more than twice as high. How steep a loss surface looks is partly a matter of what batch norm does in it. And two directions out of a quarter of a million are a thin slice: what training met on its way may lie in none of them. Section 3 asked the question that
# matters for training, how far *along the gradient* the promise holds, and needed no picture for it.

# %% [markdown]
# ## Summary
#
# - **Degradation** shows in the training error. Recorded, two seeds, 12 epochs: at 8 layers the twins are level, at 20 the residual one is ahead by 4 or 5 points, at 32 by about twenty, at 56 by more than thirty. Plain nets get much worse beyond 20 layers, residual ones beyond 32; so short a training cannot tell that from slowness.
# - **Vanishing gradients are not the cause here.** In 20 plain layers nothing had vanished at any of the 13 moments recorded. In 44, live, and in 56, recorded, the first layer's gradient explodes, throws its weights out, and then *looks* vanished: behind it stands batch norm, and weights ten times as large make the gradient ten times as small. At 32 layers, where degradation sets in, neither happened: frozen layers are not what it is.
# - **Sizes are not enough.** With steps of equal relative size in all layers, the plain net still hardly learns in 60 steps, and the residual one does, in ten starts of ten.
# - **Directions fail too**: at the start, with logits of equal size, the plain net's gradient keeps some four tenths of a promised fall of the loss by 0.1, and its twin's seven (ten starts: 0.29 to 0.55, and 0.63 to 0.81). Why, and whether that is the whole of it, is disputed.
# - In surgery on the residual net, stale statistics were about half of the damage by single cuts, nearly all of that by shortcuts × 0.9, and a fifth of that by shortcuts × 1.25: measure it each time. A plain network survives neither a cut nor a swap; a residual one of nine blocks does, at a price.
# - A class's accuracy on 100 images comes with an interval of 5 to 14 points; a network trained until 99% of its training images are right is too sure of itself; a loss surface comes with a mode of batch norm. At 56 layers the plain one is crumpled and its twin's a bowl; whether because it is plain or because it is hardly trained, two networks cannot tell.

# %% [markdown]
# ## Exercises
#
# **1.** A path through ResNet-56 goes through each of its 27 blocks by the branch or by the shortcut. How many paths are left if one block is dropped?

# %%
answer = ...
check.paths_left(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 2**26
# check.paths_left(answer)
# ```
#
# Half of $2^{27}$. The others went through the dropped branch.
# </details>

# %% [markdown]
# **2.** Write a *test* for the story of vanishing gradients. It gets a table as `load_layers` gives it (columns `epochs_trained`, `layer`, `gradient_norm`, `weight_norm`), and returns `False` if in some epoch `conv1`'s gradient is below a thousandth of `fc`'s by the fair measure of section 2, gradient norm times weight norm, else `True`.


# %%
def no_vanishing(table):
    return ...


check.no_vanishing(no_vanishing)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def no_vanishing(table):
#     table = table.assign(fair=table["gradient_norm"] * table["weight_norm"])
#     fair = table.pivot(index="epochs_trained", columns="layer", values="fair")
#     return bool((fair["conv1"] > 1e-3 * fair["fc"]).all())
#
#
# check.no_vanishing(no_vanishing)
# ```
#
# Some of the tables that the check tries need the product, of both layers: such as one with huge weights, whose tiny gradient has not vanished, and one with next to no weights, whose large gradient hides that it has. (The frozen `conv1` of section 2 passes either way: its gradient alone is a fiftieth of `fc`'s, and the limit is a thousandth.)
# </details>

# %% [markdown]
# **3.** Two networks have the accuracies `a` and `b`, each measured on `images` images of its own. How many standard errors of the difference is `b` above `a`? (An accuracy $a$ on $n$ images has the variance $a(1-a)/n$. Each network has images of its own, so the variance of the difference is the sum of the two, and its root is the standard error.)


# %%
def errors_apart(a, b, images):
    return ...


check.errors_apart(errors_apart)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def errors_apart(a, b, images):
#     variance = (a * (1 - a) + b * (1 - b)) / images
#     return (b - a) / variance**0.5
#
#
# check.errors_apart(errors_apart)
# ```
#
# Where both are measured on the *same* images, pairs tell more: count those that one gets right and the other wrong (McNemar's test).
# </details>

# %% [markdown]
# **4.** Write the expected calibration error: images fall into `bins` equally wide ranges of confidence, and each range contributes the distance between its mean confidence and its share of right answers, weighted by its share of the images.
# (`confidence` and `right` are tensors of one number an image; an image with confidence $c$ is in range $\lceil c \cdot \text{bins} \rceil$.)


# %%
def calibration_error(confidence, right, bins):
    return ...


check.calibration_error(calibration_error)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def calibration_error(confidence, right, bins):
#     number = (confidence * bins).ceil()
#     total = 0
#     for i in number.unique():
#         c, r = confidence[number == i], right[number == i]
#         total += len(c) / len(confidence) * abs(c.mean() - r.mean())
#     return total
#
#
# check.calibration_error(calibration_error)
# ```
# </details>

# %% [markdown]
# **5.** Write filter normalisation: `direction` and `weight` have the shape (filters, channels, height, width), and each filter of the direction gets the norm of its weights.


# %%
def filter_direction(direction, weight):
    return ...


check.filter_direction(filter_direction)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def filter_direction(direction, weight):
#     wanted = weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
#     length = direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
#     return direction * wanted / length
#
#
# check.filter_direction(filter_direction)
# ```
#
# `resnet_lib.loss_surface.filter_normalise` does the same, and leaves filters without a direction at 0.
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: degradation (figures 1 and 6), and why vanishing gradients are an unlikely cause (§4.1).
# - D. Balduzzi et al., [*The Shattered Gradients Problem*](https://arxiv.org/abs/1702.08591), 2017.
# - H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, [*Visualizing the Loss Landscape of Neural Nets*](https://arxiv.org/abs/1712.09913), 2018: filter normalisation (§4).
# - S. De, S. Smith, [*Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks*](https://arxiv.org/abs/2002.10444), 2020.
# - A. E. Orhan, X. Pitkow, [*Skip Connections Eliminate Singularities*](https://arxiv.org/abs/1701.09175), 2018.
# - T. van Laarhoven, [*L2 Regularization versus Batch and Weight Normalization*](https://arxiv.org/abs/1706.05350), 2017: large weights, small steps.
# - Y. You, I. Gitman, B. Ginsburg, [*Large Batch Training of Convolutional Networks*](https://arxiv.org/abs/1708.03888), 2017: steps in proportion to each layer's weights.
# - A. Veit, M. Wilber, S. Belongie, [*Residual Networks Behave Like Ensembles of Relatively Shallow Networks*](https://arxiv.org/abs/1605.06431), 2016: dropped and swapped blocks (§4).
# - K. Greff, R. Srivastava, J. Schmidhuber, [*Highway and Residual Networks learn Unrolled Iterative Estimation*](https://arxiv.org/abs/1612.07771), 2017.
# - C. Northcutt, A. Athalye, J. Mueller, [*Pervasive Label Errors in Test Sets Destabilize Machine Learning Benchmarks*](https://arxiv.org/abs/2103.14749), 2021.
# - C. Guo, G. Pleiss, Y. Sun, K. Weinberger, [*On Calibration of Modern Neural Networks*](https://arxiv.org/abs/1706.04599), 2017.
