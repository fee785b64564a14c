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
# # Training: what happens in a run, and can I trust what it reports?
#
# | | |
# | --- | --- |
# | **Question** | What does a training run do, step by step, and can I trust what it reports? |
# | **Afterwards you can** | write the training loop yourself, and hold it against a library's; read a recipe; stop a run and resume it; compare two networks fairly; read a recorded run, and how it was made |
# | **You need** | [notebook 00](00_start_here.ipynb); derivatives, and what a convolution is; some PyTorch helps |
# | **Time** | 40 minutes to read; the cells run in under a minute on two processor cores |

# %%
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from resnet_lib import plots
from resnet_lib.checks import training as check
from resnet_lib.data import BatchLoader, load_cifar10
from resnet_lib.models import BasicBlock, ResNet, cifar_resnet
from resnet_lib.training import README_RECIPE, Recipe, fit

train = load_cifar10("train", size="bundled")
test = load_cifar10("test", size="bundled")

# %% [markdown]
# ## 1. One step
#
# Training is one small step, many times over. Take a batch of images, ask the network for its answers, and measure how bad
# they are with one number, the **loss**. Here it is the *cross-entropy*: minus the logarithm of the share that the network gives to the
# right class, on average over the batch. Find for every weight how the loss would change if the weight grew: the
# **gradient**. Then move every weight a little against it.
#
# The rule is **SGD with momentum and weight decay**. (SGD is *stochastic gradient descent*: downhill, by the gradient of a random batch
# instead of all images.) PyTorch keeps a *velocity* $v$ beside each weight $w$, and a step
# with gradient $g$, learning rate $\eta$, momentum $\mu$ and weight decay $\lambda$ is
#
# $$v \leftarrow \mu v + (g + \lambda w), \qquad w \leftarrow w - \eta v.$$
#
# The velocity remembers where the last steps went, so that steps in a lasting direction add up and those that go back
# and forth cancel. Weight decay pulls each weight a little towards zero. Here are the two lines as code.


# %%
def sgd_step(weight, velocity, gradient, lr, momentum, weight_decay):
    velocity = momentum * velocity + gradient + weight_decay * weight
    return weight - lr * velocity, velocity


# %% [markdown]
# **Predict.** PyTorch's own optimiser takes three steps on a real batch, and our two lines take them for the weights of the last layer,
# once with weight decay and once without. How far from PyTorch's weights will ours end each time?

# %%
torch.manual_seed(0)
network = cifar_resnet(8)
optimizer = torch.optim.SGD(
    network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4
)
images, labels = next(iter(BatchLoader(train, batch_size=64)))
ours = without_decay = network.fc.weight.detach().clone()
velocity = velocity_without = torch.zeros_like(ours)

# %%
for _ in range(3):
    optimizer.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    gradient = network.fc.weight.grad
    ours, velocity = sgd_step(ours, velocity, gradient, 0.1, 0.9, 1e-4)
    without_decay, velocity_without = sgd_step(
        without_decay, velocity_without, gradient, 0.1, 0.9, 0
    )
    optimizer.step()

# %%
difference = (ours - network.fc.weight).abs().max().item()
without = (without_decay - network.fc.weight).abs().max().item()
print("largest difference below one in a million:", difference < 1e-6)
print("without weight decay, more than 50 times as much:", without > 50 * difference)

# %% tags=["nbval-ignore-output"]
print(f"largest difference: {difference:.0e}, without weight decay {without:.0e}")

# %% [markdown]
# At most a rounding error apart: PyTorch may add the same numbers in another order, and sums of floating-point numbers
# round. (On some machines it happens to be exact.) What matters is that no *term* is missing: leave out the weight decay, which
# is the smallest of the three, and the difference is far larger. (Exercise 4 asks for a step whose decay stands elsewhere.)
#
# Note where the rate stands: it multiplies the *whole* velocity. So when the rate drops to a tenth, the very next step is a tenth as long.

# %% [markdown]
# ## 2. The loop
#
# A whole run is this step inside two loops, over the epochs and over the batches of each. Before each step the learning
# rate is set from the **schedule**, a function of the time `now` in epochs: 2.5 is half-way through the third. That is all there is; the
# function below is a complete training program. Its settings come in a `recipe`, which section 3 looks at. (`interval` is the time from one step to the
# next. Only the schedule of section 6 reads it, to reach its lowest rate with the very last step. Ignore it until then.)


# %%
def train_by_hand(network, data, recipe):
    network.to(memory_format=torch.channels_last)
    loader = BatchLoader(
        data, recipe.batch_size, augment=True, shuffle=True, seed=recipe.seed
    )
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    network.train()
    for epoch in range(recipe.epochs):
        for step, (images, labels) in enumerate(loader.epoch(epoch)):
            now = epoch + step / len(loader)
            lr = recipe.learning_rate(now, interval=1 / len(loader))  # once a step
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()


# %% [markdown]
# Four details that are easy to get wrong:
#
# - `zero_grad` comes before `backward`: PyTorch *adds* new gradients to old ones.
# - `network.train()` puts batch normalisation into training mode. After an evaluation the network is in evaluation mode, and
#   training on would use frozen statistics.
# - `shuffle=True`: a new order in each epoch. If the images came sorted by class, the network would forget the first class
#   while it learns the last.
# - `channels_last` changes only the order of numbers in memory: processors' fast convolutions want the channels of a pixel side by side.
#
# The course's `fit` is this loop with a progress bar, checkpoints and helpful errors around it. That is a claim, so
# test it: the same start, the same recipe, two epochs of 500 images.
#
# **Predict.** Equal to the last bit this time, or only nearly?

# %%
few = train[:500]
short = Recipe(
    epochs=2, batch_size=50, peak_lr=0.1, schedule="multi_step", milestones=(1,)
)

torch.manual_seed(0)
by_hand = cifar_resnet(8)
train_by_hand(by_hand, few, short)

torch.manual_seed(0)
by_fit = cifar_resnet(8)
history = fit(by_fit, few, short, progress=False)


# %%
def same_bits(a, b):
    return all(
        torch.equal(a.state_dict()[name], b.state_dict()[name])
        for name in a.state_dict()
    )


print("the same to the last bit:", same_bits(by_hand, by_fit))

# %% [markdown]
# To the last bit: the same operations in the same order round the same way. So from here on we can use `fit`, and know
# what it does. (Shown for this recipe; the course's tests hold each step's rate against PyTorch's own schedules too.)

# %% [markdown]
# ## 3. A recipe
#
# Everything that decides a run, apart from the network and the data, stands in one **recipe**. This is the one that the
# course began with, from a short README about ResNet-34 on CIFAR-10:

# %%
names = "epochs batch_size peak_lr schedule milestones factor momentum weight_decay"
for name in names.split():
    print(f"{name:12}  {getattr(README_RECIPE, name)}")

# %% [markdown]
# 150 epochs; the rate starts at 0.1, and when the epochs 80, 110 and 130 begin (counted from 0) it is multiplied by `factor`. (What
# else a `Recipe` can set is turned off here, but for `augment`: images are cropped and flipped at random, as notebook 04 draws.) Notebook 06 draws
# the rate as a curve. Here you want to know what it does.
#
# **Predict.** What will the accuracy curve look like where the rate drops: will it rise, fall, or hardly change? And
# will all three drops do the same?

# %% [markdown]
# ## 4. A whole run, recorded
#
# A run like this takes minutes to hours on two cores, so here is one that was recorded: **ResNet-20** on all 50,000 training
# images, with the README's schedule squeezed from 150 epochs into 15 (the drops come when epochs 8, 11 and 13 begin, counted from 0 as above) and
# batches of 128. With it stands how it was made.

# %%
from resnet_lib.runs import load_run

run = load_run("resnet20_readme_15")
print(run.sessions[-1]["command"])
print(run.sessions[-1]["hardware"], "torch", run.sessions[-1]["versions"]["torch"])
for session in run.sessions:
    print("session at commit", session["commit"][:7], "from", session["started"])

# %% [markdown]
# Three sessions: it was killed twice in the middle of an epoch, and resumed, while the library around it was still being
# written; each session names its commit, so that its code can be had again. What does it do to a run, to be stopped? That is the question of section 5.

# %%
figure = plots.accuracy_curve(
    run.history,
    "ResNet-20, 15 epochs: the first drop is the large one",
    milestones=(8, 11, 13),
)
figure.axes[0].set(xlabel="epochs trained", ylim=(0.35, 0.95))
plots.show(
    figure,
    alt="Accuracy after 1 to 15 epochs, for training and test images, on an axis from 35 "
    "to 95 percent. Both rise to about 80 percent in eight epochs, the test curve with a "
    "dip at the eighth. At the first drop of the learning rate test accuracy rises from "
    "76 to 85 percent, training accuracy from 82 to 86; at the second both rise by less "
    "than a point, and at the third by nothing that can be seen.",
)

# %% [markdown]
# The figure counts the epochs that are *done*: the first drop stands just after the point at 8, since epochs 0 to 7 are eight. The vertical axis begins at 35%. (That test images do better than training images at first need not mean that they are easier: training accuracy is counted while the
# weights are still moving, and on cropped and flipped images.) In numbers: the test accuracy of the last epoch before each drop, and of the last epoch before the next drop (or the
# end of the run).

# %%
accuracy = run.history["test_accuracy"]
for before, after in [(7, 10), (10, 12), (12, 14)]:
    print(
        f"drop at epoch {before + 1:2}: {accuracy[before]:.1%} → {accuracy[after]:.1%}"
    )

# %% [markdown]
# The first drop is worth far more than the other two together. But be careful with what this shows: it is **one** run
# with one seed, and at a rate of 0.1 single epochs jump up and down (the points at 7 and 8: 79.5% and 75.7%), so the
# "before" of the first drop is partly bad luck. And it watched the test images; that is harmless only because nothing was chosen by them,
# and the last epoch is what counts (notebook 04, section 5). What a drop buys, with its uncertainty, over 150 epochs and against other schedules, is the
# question of notebook 06.

# %% [markdown]
# ## 5. Stop, and resume
#
# Long runs get interrupted: the lid closes, the power goes, someone presses <kbd>Ctrl</kbd> + <kbd>C</kbd>. `fit` writes a **checkpoint** after
# each epoch if it is given a file for it (`checkpoint=`), and the same call goes on from there.
#
# **Predict.** One run goes through in one piece. Another is stopped after two of three epochs and resumed. How different
# will their weights be: by a lot, a little, or not at all?

# %%
three_epochs = replace(short, epochs=3)

torch.manual_seed(0)
in_one_piece = cifar_resnet(8)
whole = fit(in_one_piece, few, three_epochs, evaluate_on=test, progress=False)

# %% [markdown]
# To stop the other one, we press Ctrl-C by program, when two epochs are done.

# %%
folder = tempfile.TemporaryDirectory()
checkpoint = Path(folder.name) / "checkpoint.pt"


def stop_after_two(history):
    if len(history) == 2:
        raise KeyboardInterrupt


try:
    torch.manual_seed(0)
    fit(
        cifar_resnet(8),
        few,
        three_epochs,
        test,
        checkpoint=checkpoint,
        on_epoch=stop_after_two,
        progress=False,
    )
except KeyboardInterrupt as stop:
    print(type(stop).__name__)

# %% [markdown]
# (`fit` turns the `KeyboardInterrupt` into one that says what is kept and how to go on.) That network is gone. A new one
# with other random weights takes up the checkpoint:

# %%
torch.manual_seed(12345)
resumed = cifar_resnet(8)
after_stop = fit(
    resumed, few, three_epochs, test, checkpoint=checkpoint, progress=False
)
folder.cleanup()

columns = ["epoch", "lr", "train_loss", "train_accuracy", "test_accuracy"]
print("weights the same to the last bit:", same_bits(in_one_piece, resumed))
print("history the same:", whole[columns].equals(after_stop[columns]))

# %% [markdown]
# Not at all. Two things make that possible: the checkpoint holds everything that the rest of the run reads (exercise 3 asks
# what that is), and the batches of an epoch follow from the seed and the epoch's number alone, not from what was drawn before.
#
# The course's tests do this with a real `kill -9` in the middle of an epoch.

# %% [markdown]
# ## 6. Plain against residual
#
# Now the question of the whole course, on a small scale. Two networks of 32 layers: one with shortcuts, and its **plain
# twin** with the very same layers and without the additions. (`shortcut="A"` has no weights of its own, so both have
# equally many. Half as many channels as ResNet-32 has, so that you do not wait.) Same first weights, same 2,000 images in the same order, same recipe: a rate that rises to 0.1 and falls again (`one_cycle`;
# notebook 06 compares schedules).

# %%
SEED = 0  # of the first weights and the order of the images


# %%
def narrow_32(shortcut):
    torch.manual_seed(SEED)
    return ResNet(BasicBlock, (5, 5, 5), shortcut=shortcut, widths=(8, 16, 32))


residual, plain = narrow_32("A"), narrow_32("none")
print("same weights at the start:", same_bits(residual, plain))

# %% [markdown]
# **Predict.** After three epochs, which has the lower *training* loss? (Not the test accuracy: the question is which one
# can be *trained*. The bars run while it trains; where no kernel runs, they show 0%.)

# %% tags=["nbval-ignore-output"]
recipe = Recipe(
    epochs=3, batch_size=50, peak_lr=0.1, schedule="one_cycle", weight_decay=5e-4
)
recipe = replace(recipe, seed=SEED)
histories = {
    "residual": fit(residual, train[:2000], recipe),
    "plain": fit(plain, train[:2000], recipe),
}


# %%
def loss_figure(histories, title):
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    styles = {"residual": "o-", "plain": "s-", "residual, fc / 5": "^--"}
    for name, history in histories.items():
        color = plots.ORANGE if name == "plain" else plots.BLUE
        epochs, loss = history["epoch"] + 1, history["train_loss"]
        axes.plot(epochs, loss, styles[name], color=color, label=name)
    axes.axhline(math.log(10), color=plots.GREY, linestyle=":", label="guessing, ln 10")
    axes.set(title=title, xlabel="epoch", ylabel="mean training loss")
    axes.set(xticks=range(1, 4))
    axes.legend()
    return figure


plots.show(
    loss_figure(histories, "32 layers: the twin with shortcuts learns faster"),
    alt="Mean training loss of three epochs. The residual network's first is above guessing, its "
    "last well below; the plain one's first is near guessing, and it falls slowly.",
)

# %%
loss = {name: list(history["train_loss"]) for name, history in histories.items()}
guessing = math.log(10)
print(
    "residual, first epoch, 0.1 above guessing:", loss["residual"][0] > guessing + 0.1
)
print(
    "residual, last epoch, 0.1 below guessing:", loss["residual"][-1] < guessing - 0.1
)
print(
    "plain better than guessing:", histories["plain"]["train_accuracy"].iloc[-1] > 0.12
)

# %% [markdown]
# Each point is the mean over an epoch in which the weights were moving. In the first the residual network is worse than guessing, which gives each class 1/10 and so has the loss ln 10. Then it overtakes, and ends ahead.
# Are its first steps too long? Ask both before any step: what is the loss, and how far from even are the answers (the *deviation* of the logits)?


# %%
def at_the_start(network):
    with torch.no_grad():
        logits = network.train()(images)
    above = F.cross_entropy(logits, labels).item() > guessing + 0.2
    print(f"loss above guessing by 0.2: {above}, logits deviate by {logits.std():.1f}")


at_the_start(narrow_32("A"))
at_the_start(narrow_32("none"))

# %% [markdown]
# It *starts* there: its signal grows with every branch that is added (notebook 02, section 6), and so do its first answers, which are wrong and far from even.
# So the two had the same weights, and did not start alike. Make up for it: divide the weights of the residual network's last layer, `fc`, by five.


# %%
def evened(network):
    with torch.no_grad():
        network.fc.weight /= 5
        network.fc.bias /= 5
    return network


at_the_start(evened(narrow_32("A")))

# %% [markdown]
# **Predict.** The same recipe, with this start. How far above guessing will the first epoch be? And at the end: will the
# network still be ahead of its plain twin?

# %% tags=["nbval-ignore-output"]
histories["residual, fc / 5"] = fit(evened(narrow_32("A")), train[:2000], recipe)
for name, history in histories.items():
    print(f"{name:17}", *(f"{value:.2f}" for value in history["train_loss"]))

# %%
plots.show(
    loss_figure(
        histories, "From an even start: a first epoch near guessing, then ahead"
    ),
    alt="The same picture with a third, dashed curve, the residual network with fc divided "
    "by five. Its first epoch is near guessing, as the plain one's is, and its last well below, "
    "near the residual network as it was or lower.",
)

# %%
even = list(histories["residual, fc / 5"]["train_loss"])
print("first epoch less than 0.1 above guessing:", even[0] < guessing + 0.1)
print("last epoch lower than the plain one's:", even[-1] < loss["plain"][-1])

# %% [markdown]
# Hardly any of the first epoch's excess is left: it came with the start, and not with the recipe's rate. (It may still be both of what `fc` decides: the first answers, and the length of
# the first steps. With `fc` a fifth as large, the gradients of all layers below it are a fifth as large too.) And it ends ahead again, so the lead does not come from the uneven start. **What is compared has to start alike.**
#
# By how much it is ahead differs from machine to machine: rounding differs, and training makes small differences large. And it differs from start to start. The same cells were
# run with ten seeds, and recorded: the lead in the last epoch's loss.

# %%
from resnet_lib.runs import load_trials


def leads(schedule):
    trials = load_trials("plain_residual").query("schedule == @schedule")
    last = trials.pivot(index="seed", columns="network", values="last_loss")
    return last.rsub(last["plain"], axis=0).drop(columns="plain")


print(leads("one_cycle").describe().loc[["mean", "std", "min", "max"]].round(2))

# %% [markdown]
# Ahead in all ten, by 0.2 on average, with either start; and by anything from 0.05 to 0.34. Be exact about what that says:
#
# - It says that *here*, at 32 layers, with this recipe, in 120 steps, shortcuts made training faster. By how much, a single run hardly says. And it does not say
#   that the plain network *cannot* learn: it does, slowly.
# - It does **not** say why. "Its gradients vanish" is the usual answer. Notebook 01 measures gradients in networks like
#   these, and with batch normalisation they do the opposite.
# - It depends on the recipe. This one raises the rate gradually. Exercise 5 takes that away.
#
# And it is *one* depth. He et al. compared depths, over whole runs: of their plain networks the deeper ones ended with the *higher* training error, and of
# their residual ones, up to 110 layers, with the lower. They called the first **degradation**. Notebook 07 asks for it in networks of several depths, as far as runs are recorded.

# %% [markdown]
# ## Summary
#
# - A step of SGD with momentum and weight decay is two lines; a training run is that step in two loops.
# - `fit` is that loop to the last bit, plus checkpoints, a progress bar and errors that help.
# - A recipe holds all that decides a run; a recorded run without its recipe, commit and hardware is an anecdote.
# - A run that can be resumed to the same bits is one whose every ingredient is known.
# - In one small comparison at 32 layers (one recipe for both) the network with shortcuts trained faster, also when both start with logits of equal
#   size. Why is still open.
# - What is compared has to start alike, and the same weights are not yet the same start.

# %% [markdown]
# ## Exercises
#
# **1.** What is the README's learning rate in epoch 110, counted from 0?

# %%
answer = ...
check.readme_rate(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = README_RECIPE.learning_rate(110)
# check.readme_rate(answer)
# ```
#
# Milestones 80 and 110 have been reached: 0.1 × 0.1 × 0.1 = 0.001.
# </details>

# %% [markdown]
# **2.** How many optimiser steps does the README's whole run take, on all 50,000 training images?

# %%
answer = ...
check.readme_steps(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
# answer = 150 * math.ceil(50_000 / 32)
# check.readme_steps(answer)
# ```
#
# 1,562 full batches hold 49,984 images; the last 16 make one more step. 150 × 1,563 = 234,450.
# </details>

# %% [markdown]
# **3.** To resume to the same bits when the batches and the rate follow from seed and epoch: which of these must a
# checkpoint hold? Answer with a set of some of
# `"weights"`, `"velocity"`, `"batch-norm statistics"`, `"gradients"`, `"epoch number"`, `"test accuracy"`.

# %%
answer = ...
check.needed_to_resume(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = {"weights", "velocity", "batch-norm statistics", "epoch number"}
# check.needed_to_resume(answer)
# ```
#
# The next step reads the weights, the velocity and (for the rate and the batches) the epoch. The running statistics of
# batch normalisation are read by every evaluation. Gradients are computed afresh, and accuracy is only reported.
# </details>

# %% [markdown]
# **4.** In section 1 the weight decay joins the gradient, so it also goes into the velocity. Loshchilov & Hutter (2017) *decouple* it: the velocity
# holds gradients alone, and in the same step the weight also loses the share $\eta \lambda$ of what it was. Write that step. Return the new weight and
# the new velocity.


# %%
def decoupled_step(weight, velocity, gradient, lr, momentum, weight_decay):
    return ...


check.decoupled_step(decoupled_step)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def decoupled_step(weight, velocity, gradient, lr, momentum, weight_decay):
#     velocity = momentum * velocity + gradient
#     return weight - lr * velocity - lr * weight_decay * weight, velocity
#
#
# check.decoupled_step(decoupled_step)
# ```
#
# The two are not the same recipe with another spelling. In section 1 each $\lambda w$ stays in the velocity and, with momentum 0.9, acts for about
# ten steps. Here it acts once. So the same $\lambda$ pulls about a tenth as hard: a weight decay says little without its optimiser.
# </details>

# %% [markdown]
# **5.** *Turn a knob.* Give section 6 a constant rate, so that training starts at 0.1 at once: `replace(recipe, schedule="constant")`. Make both networks
# anew with `narrow_32`, and train them. Predict first: who is ahead now, and by more or by less?
#
# <details><summary>What to expect</summary>
#
# The residual network again. But do not compare *your* lead with that of section 6: from start to start it differs by more than the two schedules do. With ten seeds (`leads("constant")`) it is 0.16 on
# average, from 0.03 to 0.28, where the rising rate has 0.20, from 0.08 to 0.34; from the even start 0.18 and 0.20. Ten seeds do not tell these from one another (the difference of 0.04 has the interval -0.03 to 0.11: notebook 06 tells how such intervals are made).
# He et al. also start more gently: 0.1 was too much for their 110 layers at first, so they begin at 0.01 until the network has begun to learn (2015, §4.2).
# A comparison is always one of network *and* recipe; and with one seed it is an anecdote.
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: degradation and plain against residual (§4.1), the CIFAR-10 networks and their recipe (§4.2).
# - I. Sutskever, J. Martens, G. Dahl, G. Hinton, [*On the importance of initialization and momentum in deep learning*](https://proceedings.mlr.press/v28/sutskever13.html), 2013.
# - I. Loshchilov, F. Hutter, [*Decoupled Weight Decay Regularization*](https://arxiv.org/abs/1711.05101), 2017: where weight decay should stand, and why SGD's differs from AdamW's.
