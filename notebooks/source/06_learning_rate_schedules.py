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
# # Learning-rate schedules: what does a drop buy?
#
# | | |
# | --- | --- |
# | **Question** | What does lowering the learning rate buy, how surely do we know, and why does it help? |
# | **Afterwards you can** | write a schedule and prove it right; measure what a drop bought in a run, with an interval, and say what the interval does not cover; explain a drop by the noise of the gradients, and measure that noise; find a rate to start from |
# | **You need** | [notebook 05](05_training.ipynb); a mean, a standard deviation, and what a gradient is |
# | **Time** | 45 minutes to read; the cells run in under a minute on two processor cores |
#
# The README that this course grew out of trains for 150 epochs and lowers the rate three times. Of the result it says:
# after epoch 80 accuracy *rises markedly*; after 110 it *rises slightly*; after 130 it *hardly changes*. It looked at a curve, and
# so can you. Here each of the three gets a number and an uncertainty, and the first a reason.

# %%
import copy

import numpy as np
import pandas as pd
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from resnet_lib import plots, schedule_figures
from resnet_lib.checks import schedules as check
from resnet_lib.data import BatchLoader, load_cifar10, normalise
from resnet_lib.training import README_RECIPE, Recipe, fit, train_step

bundled = load_cifar10("train", size="bundled")
train = bundled[:3200]

# %% [markdown]
# ## 1. A function with two faults
#
# This is how the README sets the rate at the start of each epoch. (Notebook 03, section 9, finds its faults by tests; here they are put right.)


# %%
def readme_adjust(base_lr, optimizer, epoch, epoch_list=None):
    # Set base_lr as initial LR and adjust learning rate by *0.1 at assigned epochs
    base_lr = 0.1
    if epoch_list is not None:
        index = 0
        for i, e in enumerate(epoch_list, 1):
            if epoch >= e:
                index = i
            else:
                break
        lr = base_lr * (0.1**index)

    for param_group in optimizer.param_groups:
        param_group["lr"] = lr

    return lr


# %% [markdown]
# **Recall** (notebook 03, section 9): which two faults has it, and which call shows each?

# %%
optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)

print("base rate 0.4 gives:", readme_adjust(0.4, optimizer, 0, [80, 110, 130]))
try:
    readme_adjust(0.1, optimizer, 0)
except Exception as error:
    print("without a list:", type(error).__name__)

# %% [markdown]
# The argument `base_lr` is overwritten, so the function knows one rate only. And without a list of epochs `lr` is never
# set. In the README's own run neither shows: its rate is 0.1, and it gives a list.
#
# Nor is it enough to delete the line `base_lr = 0.1`. The README's loop hands the rate that comes back in again as the next base rate, so from epoch 80 on it would
# be lowered in *every* epoch (notebook 03 draws the collapse). The overwritten argument had protected the run from its own loop: **a repair has to look at the call as well.**
#
# Repaired, in the course's form: the rate is a function of the epoch and of numbers that stay the same for the whole run. Setting it is
# a second thing.


# %%
def multi_step(epoch, peak_lr, milestones, factor=0.1):
    return peak_lr * factor ** sum(epoch >= milestone for milestone in milestones)


# %% [markdown]
# Is it right? PyTorch has a scheduler for this, `MultiStepLR`, which many people have used. Run both through 150 epochs, from another
# rate than 0.1, and compare all of it. The library has the same function; and its `adjust_learning_rate` is the
# README's with both faults gone.

# %%
from resnet_lib import schedules

optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
scheduler = MultiStepLR(optimizer, milestones=[80, 110, 130], gamma=0.1)
theirs = []
for _ in range(150):
    theirs.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    scheduler.step()

# %%
ours = [multi_step(epoch, 0.4, [80, 110, 130]) for epoch in range(150)]
library = [schedules.multi_step(epoch, 0.4, [80, 110, 130]) for epoch in range(150)]
adjusted = [
    schedules.adjust_learning_rate(0.4, optimizer, epoch, [80, 110, 130])
    for epoch in range(150)
]
print("equal to MultiStepLR in every epoch:", np.allclose(ours, theirs, rtol=1e-12))
print("and the library's two functions:", ours == library == adjusted)

# %% [markdown]
# ## 2. The curve
#
# The README draws its rates on a logarithmic axis. So do we. (Epochs are counted from 0 in this notebook, as in the code: epoch 80 begins when 80 epochs are done.)

# %%
epochs = range(README_RECIPE.epochs)
rates = [README_RECIPE.learning_rate(epoch) for epoch in epochs]
plots.show(
    schedule_figures.schedule_curves(
        {"README": rates}, "Each drop divides the rate by ten"
    ),
    alt="Learning rate by epoch on a logarithmic axis, a staircase with equal steps: 0.1 "
    "until epoch 79, 0.01 from epoch 80, 0.001 from 110 and 0.0001 from 130 to 149.",
)

# %% [markdown]
# On a logarithmic axis equal *factors* are equal heights. On a linear one the first drop would take nine tenths of the
# picture, the second most of the rest, and the third could not be seen. Which axis is the right one depends on the question: how far the steps of an epoch can carry the
# weights goes with the rate itself, and so with the linear axis.

# %%
reach = np.array(rates)
share = [reach[a:b].sum() / reach.sum() for a, b in [(0, 80), (80, 150)]]
print(f"of the sum of all rates: {share[0]:.0%} before epoch 80, {share[1]:.0%} after")

# %% [markdown]
# If all gradients were equally long and pointed one way, nearly all of the distance would be covered before the first drop. Keep that in mind when you see what comes after it.

# %% [markdown]
# ## 3. The lab: five schedules
#
# A staircase (*multi-step*) is one way to lower the rate. *Linear* goes down to 0 in a straight line, *cosine* along half a wave; *one-cycle* rises first, and
# then falls (Smith & Topin 2017); *constant* never falls. Move the knobs; the dashed line is always the README's. (Warm-up raises the rate over the first epochs.)
#
# **Predict**, then try: constant apart, which spends the most epochs at 0.01 or more, when all have the peak 0.1? What does
# the linear schedule look like on the logarithmic axis?

# %%
from resnet_lib.widgets import ScheduleLab

lab = ScheduleLab()
lab

# %% [markdown]
# Your schedule is a recipe that can be trained: `fit(network, train, lab.recipe)`, with a network as in section 7. (It has 150 epochs; `lab.recipe.scaled_to(5)` is a short one.) Here are the five with their usual settings, as a picture that
# stays when nothing runs:

# %%
names = ("constant", "multi_step", "cosine", "one_cycle", "linear")
five = {name: ScheduleLab(name).recipe for name in names}
rates = {
    name: [recipe.learning_rate(epoch) for epoch in epochs]
    for name, recipe in five.items()
}
plots.show(
    schedule_figures.schedule_curves(rates, "Five schedules with the peak 0.1"),
    alt="Five learning rates over 150 epochs on a logarithmic axis. Constant stays at "
    "0.1; multi-step is a staircase; cosine and linear bend down slowly and fall "
    "steeply only in the last epochs; one-cycle first rises from 0.004.",
)

# %%
for name, values in rates.items():
    above = np.mean(np.array(values) > 0.0099)
    print(f"{name:10} at 0.01 or more in {above:.0%} of the epochs")

# %% [markdown]
# Constant apart, *linear* keeps the rate up longest, for nine tenths of the run, and the README's staircase lets it go soonest.
# The smooth ones have no milestones to choose. Which is *best* is a question for training runs at equal budget with
# several seeds, each with a peak rate that suits it; no curve of rates can answer it.

# %% [markdown]
# ## 4. What the three drops bought: the README's run
#
# The README gives its accuracy as a picture alone. The numbers below were read off that picture, pixel by pixel. They are good to about 0.3
# points, and worse where the curve is steep: the rise at epoch 80 shows an epoch too early. The note is in [data/README.md](../data/README.md).

# %%
from resnet_lib.runs import load_readme_accuracy

accuracy = 100 * load_readme_accuracy()["test_accuracy"].to_numpy()
print(len(accuracy), "epochs; the last:", round(accuracy[-1]), "%")

# %% [markdown]
# What is the gain of a drop? The shortest answer is the epoch after the drop minus the epoch before. Try it on
# neighbouring epochs in which *nothing* was done to the rate:

# %%
jumps = np.diff(accuracy[40:78])  # up to where the first rise begins
print("largest jump up without a drop, above 1.5 points:", jumps.max() > 1.5)
print("epochs of 37 that jump by more than 1 point:", (np.abs(jumps) > 1).sum())

# %% [markdown]
# At a rate of 0.1 single epochs jump about by a point or two: any epoch chosen as "before" is partly luck. So compare **windows**: the mean of
# the last 15 epochs before the drop with the mean of the last 15 before the next one.
#
# Two more questions belong to an honest gain. *How far may the wobble have moved it?* And *what would have come anyway?* A curve that
# rises by itself would have risen without a drop as well. `drop_gains` answers both:
#
# - It draws the wobble of each window anew, again and again, out of the wobble that was there (a **bootstrap**), in blocks of four
#   neighbours because epochs follow from each other, and takes the middle 95% of the gains that come out.
# - It draws a line through the second half of the stretch before the drop, and goes on with it to the middle of the later window:
#   the **trend**. What the gain is above that is *beyond the trend*.
#
# **Predict.** The README's three words are "markedly", "slightly" and "hardly". How many points is each? Which of them will still be
# above zero beyond the trend?

# %%
from resnet_lib.analysis import drop_gains

readme_gains = drop_gains(accuracy, drops=(80, 110, 130), window=15)
plots.show(
    schedule_figures.accuracy_with_windows(
        accuracy,
        readme_gains,
        15,
        "The README's run: one large step, one small one",
        inset=(100, 150, 92.4, 94.9),
    ),
    alt="Test accuracy of the README's 150 epochs. It jumps about between 83 and 86 "
    "percent until the first drop at epoch 80, then stands at 93, sinking a little; "
    "after the second drop at 94.3. Epochs 100 to 149 are drawn again, larger: there the "
    "third drop lifts the mean by a tenth of a point, as the trend had led to expect.",
)

# %%
plots.show(
    schedule_figures.gains_with_intervals(
        {"README": readme_gains},
        "What each drop gained, and how much beyond the trend (mind the three scales)",
    ),
    alt="Three panels with different scales. Drop at epoch 80: about 8 points, with and "
    "without the trend. At 110: 1.1 points, and 1.5 beyond the trend. At 130: a tenth of "
    "a point, and beyond the trend an interval that holds zero.",
)

# %%
columns = ["drop", "before", "before_spread", "after", "after_spread"]
print(readme_gains[columns].round(1).to_string(index=False))
for row in readme_gains.itertuples():
    beyond = "above 0" if row.beyond_low > 0 else "not told apart from 0"
    print(f"drop at {row.drop}: {row.gain:.1f} points; beyond the trend {beyond}")

# %% [markdown]
# (`before` and `after` are the means of the windows, the spreads how far single epochs deviate from them: by a point at 0.1, by a tenth or two afterwards.)
#
# The README's three statements, one by one:
#
# - **80, markedly: confirmed.** Eight points, give or take one, and the trend would have given next to nothing. (The last epoch of the window before is one of those that were read too
#   high, by some three points. Without it the gain is two tenths larger.)
# - **110, slightly: confirmed.** A little over one point. Beyond the trend it is rather more, for in the 30 epochs before,
#   accuracy was slowly *falling*, and the dashed line falls on. (Why it falls at a rate of 0.01 is another question,
#   which this run cannot answer.)
# - **130, hardly: confirmed**, and it may be nothing at all. The gain is a tenth of a point. The curve was still rising before
#   the drop, by enough to account for all of it, and a tenth is less than the 0.3 points to which the picture can be read.
#
# What the intervals mean: if *this run's* wobble had fallen otherwise, the gain would be in there about nine times in ten. (That is
# what we found on made-up curves whose gain was known; it is less than the 95% on the label, for 15 epochs are few.) What they do **not** mean: that another seed, another
# network or other test images would give a gain in this range. One run knows nothing of that. Nor do they hold the error of reading a picture: an epoch may be off by 0.3 points, while
# the second drop's bar reaches 0.1 to each side. (Where all epochs are off alike, it cancels in a gain; we do not know that they are.) And the README watched the *test* set
# while it trained; it chose nothing by it that we know of, but whoever picks milestones by such a curve has used it up.

# %% [markdown]
# ## 5. The same question to a run of our own
#
# A run that was recorded with all it takes to repeat it: **ResNet-20**, the README's 150 epochs and drops, batches of 128 in place of 32, all 50,000 training
# images. The drops are read from the recorded rates.

# %%
from resnet_lib.runs import load_run

history = load_run("resnet20_readme_150").history
own_accuracy = 100 * history["test_accuracy"].to_numpy()
drops = history.index[history["lr"].diff() < 0].tolist()
print("drops at", drops, "in", len(history), "epochs")
print(f"the last epoch: {own_accuracy[-1]:.1f}% of the test images")
print(f"of the training images: {history['train_accuracy'].iloc[-1]:.0%}")

# %% [markdown]
# (He et al. give 91.25% for ResNet-20.)
#
# **Predict.** Another network, another batch size, another seed: which of the README's three statements will hold here?

# %%
own_gains = drop_gains(own_accuracy, drops, window=15)
plots.show(
    schedule_figures.accuracy_with_windows(
        own_accuracy,
        own_gains,
        15,
        "ResNet-20: one large step, and then hardly any",
        inset=(95, 150, 91.1, 92.0),
    ),
    alt="Test accuracy of ResNet-20 over 150 epochs. It jumps about between 82 and 88 percent "
    "until the first drop at epoch 80, then stands near 91.5. Epochs 95 to 149 are drawn again, "
    "larger: the second drop lifts the mean by 0.3 points, which a rising trend may account "
    "for; the third changes nothing.",
)

# %%
plots.show(
    schedule_figures.gains_with_intervals(
        {"README": readme_gains, "ResNet-20": own_gains},
        "The same order, other sizes (mind the three scales)",
    ),
    alt="Three panels, one a drop, with the gains of the README's run and of ResNet-20. At 80: "
    "8.2 and 5.8 points. At 110: 1.1 and 0.3; beyond the trend ResNet-20's interval holds zero. "
    "At 130: 0.1 and next to nothing; beyond the trend both intervals hold zero.",
)

# %%
print(own_gains[columns].round(1).to_string(index=False))
for row in own_gains.itertuples():
    beyond = "above 0" if row.beyond_low > 0 else "not told apart from 0"
    print(f"drop at {row.drop}: {row.gain:z.1f} points; beyond the trend {beyond}")

# %% [markdown]
# - **80, markedly: confirmed again**, with nearly six points.
# - **110, slightly: half confirmed.** There is a gain of 0.3 points, and this run's wobble does not explain it. But accuracy was rising slowly before the drop, and that
#   trend may account for all of it.
# - **130, hardly: confirmed again.** Nothing can be seen.
#
# Between the README's 1.1 points at the second drop and our 0.3 there are another network, another batch size and another seed, so we cannot say which of them makes the difference. Two runs of two networks that agree in the order are more than one, and less than an interval over seeds. Section 10 has three seeds of one.
#
# And mind what windows need. The same recipe squeezed into 15 epochs (notebook 05) has two epochs between its last drops. The windows are two epochs long, there is no interval and no trend, and which epoch one calls "before" decides whether the first drop brought six points or ten. **A short run can repeat an order, and not a size.**

# %% [markdown]
# ## 6. Why a drop helps: a valley, and steps that miss
#
# A gradient is computed on a batch. It is the gradient of all images plus *noise*: what these few images want beyond what all
# want. Take the simplest valley there is, $L(w) = \frac{1}{2} h w^2$, with steps that are off by noise: $h$ says how steep it is, $\eta$ is the rate, $\sigma$ the deviation of the noise, and $\varepsilon$ a number drawn anew for each step, with mean 0 and deviation 1.
#
# $$w \leftarrow w - \eta \, (h w + \sigma \varepsilon).$$
#
# Each step takes a share of about $2\eta h$ away from $w^2$, and adds $\eta^2 \sigma^2$. Where the two balance, the loss stops falling. Exactly: square the step, and take the mean over
# $\varepsilon$. The mixed term drops out, as $\varepsilon$ has mean 0 and knows nothing of $w$:
#
# $$E[w^2] \leftarrow (1 - \eta h)^2 \, E[w^2] + \eta^2 \sigma^2.$$
#
# At rest the two sides are equal, so $E[w^2] = \eta^2 \sigma^2 / (1 - (1 - \eta h)^2) = \eta \, \sigma^2 / (h \, (2 - \eta h))$. Times $h / 2$ that is
#
# $$\text{loss that is left} = \frac{\eta \, \sigma^2}{2\,(2 - \eta h)}.$$
#
# A tenth of the rate leaves about a tenth of the loss. So why not begin with a low rate? Because real valleys are steep in some
# directions and flat in others. Let two thousand walkers go down one that has both.


# %%
def walk(rates, steepness=(1.0, 0.01), start=(1.0, 20.0), walkers=2000):
    """The mean loss after each step, of many walkers with different noise."""
    generator = np.random.default_rng(0)
    h = np.array(steepness)
    w = np.tile(start, (walkers, 1))
    losses = []
    for rate in rates:
        losses.append((h * w**2).sum(1).mean() / 2)
        w = w - rate * (h * w + generator.normal(size=w.shape))
    return losses


# %% [markdown]
# **Predict.** Three walks of 1,500 steps: at a rate of 0.5, at 0.05, and at 0.5 with a drop to 0.05 at step 1,000. Which of the two rates is
# ahead at step 200? And which of the three walks is lowest at the end?

# %%
steps = np.arange(1500)
walks = {
    "0.5 throughout": walk(np.full(1500, 0.5)),
    "0.05 throughout": walk(np.full(1500, 0.05)),
    "0.5, from step 1,000 on 0.05": walk(np.where(steps < 1000, 0.5, 0.05)),
}
figure = schedule_figures.loss_by_step(
    {name: (steps, losses) for name, losses in walks.items()},
    "mean loss",
    "The high rate goes far, the low rate goes deep",
)
figure.axes[0].set(yscale="log")
plots.show(
    figure,
    alt="Mean loss of three walks on a logarithmic axis. At 0.5 it falls within 500 steps "
    "to 0.3 and stays there. At 0.05 it falls slowly and is not done after 1,500 steps. "
    "With the drop it falls from 0.3 at once, to below both others.",
)

# %%
left = sum(0.5 / (2 * (2 - 0.5 * h)) for h in (1.0, 0.01))
print(
    "formula within 5%:", abs(np.mean(walks["0.5 throughout"][900:]) / left - 1) < 0.05
)
at_200, at_the_end = ({name: w[i] for name, w in walks.items()} for i in (200, -1))
rates = "0.5 throughout", "0.05 throughout"
print("ahead at step 200:", min(rates, key=at_200.get))
print("lowest at the end:", min(at_the_end, key=at_the_end.get))

# %% [markdown]
# The high rate crosses the flat direction, and then hovers at the level of its noise. The low rate could go deeper, but is
# still on its way. The drop has both, and it pays **at once**: the steep direction settles within some 40 steps.
#
# Step 1,000 was a good moment: the high rate had nothing more to gain.
#
# **Predict.** What does a drop at step 100 bring, while the flat direction is still being crossed: at once, and 100 steps later?

# %%
rates_of_early = np.full(400, 0.5)
rates_of_early[100:300] = 0.05
early, high = walk(rates_of_early), walks["0.5 throughout"]
print("lower than without a drop, 10 steps after it:", early[110] < high[110])
print("and 100 steps after it:", early[200] < high[200])
print("back at 0.5 from step 300 on, 20 steps later:", early[320] < high[320])

# %% [markdown]
# The early drop pays at once, too. Then it costs speed, and some 30 steps later the walkers that stayed at 0.5 have gone past. Back at 0.5 it has the
# noise again, and is still behind. **A drop gives back at once what the noise had taken, and from then on the way is slow.** So it is worth most when the high rate has got as far as it can.
#
# A valley of two numbers is a picture, not a proof. Does it describe a *network*? Three things can be measured there: how large the noise is beside the gradient; whether a step as long as the high rate's
# goes too far; and what becomes of a drop's gain, early, late, and when the rate goes back up.

# %% [markdown]
# ## 7. Measured in a network
#
# A small residual network, trained at 0.1 for four epochs on 3,200 images, is the checkpoint from which everything else in this section starts.

# %%
SEED = 0  # of the first weights and the order of the images

# %%
from resnet_lib.models import BasicBlock, ResNet

torch.manual_seed(SEED)
network = ResNet(BasicBlock, (1, 1, 1), shortcut="A", widths=(8, 16, 32))
recipe = Recipe(epochs=4, batch_size=32, peak_lr=0.1, seed=SEED)
history = fit(network, train, recipe, progress=False)
print("better than guessing:", history["train_accuracy"].iloc[-1] > 0.2)
print(f"{sum(p.numel() for p in network.parameters()):,} weights")

# %% [markdown]
# **First claim: noise.** The gradients of the 100 batches of an epoch, and their mean, which is the gradient of all 3,200 images. How far is a batch's
# gradient from the mean, and how long is the mean itself?
#
# **Predict.** How many times as long as the mean gradient is the noise: a tenth, once, twice, ten times?

# %%
from resnet_lib.gradient_noise import loss_along, measure_gradient_noise

network.train()
batches = BatchLoader(train, batch_size=32, shuffle=True, seed=1)
noise = measure_gradient_noise(network, batches)
print("batches, weights:", tuple(noise.gradients.shape))
print("noise longer than the mean gradient:", noise.ratio > 1.2)

# %% [markdown]
# Most of a step is not what all images want, but what these 32 do. (Larger batches stray
# less: by the square root of their size, if the images are drawn independently. And a step in training strays more than this: there the images are moved and mirrored at random, too.)
#
# **Second claim: the step.** Go from the checkpoint along the gradient of one batch, farther and farther, and look at the loss of 400 images. Do the same along
# the mean gradient. A length of 1 is the line's own gradient, not multiplied by any rate. With momentum 0.9 each gradient goes on to act for about ten steps, and in the end has moved the weights by ten times the
# rate: a length of 1 at a rate of 0.1, and 0.1 at 0.01.
#
# With its noise, the gradient of a batch is the longer one, so at the same rate it moves the weights farther. To tell direction from distance, a third line follows the same batches' gradients, each cut to the length of the mean.
#
# **Predict.** Along which of the three does the loss fall farthest? At the length of 1, is the loss along a batch's gradient still below the start?

# %%
some = normalise(train.images[::8]), train.labels[::8]
lengths = (0.01, 0.03, 0.1, 0.3, 1, 3)
(start,) = loss_along(network, *some, noise.mean, [0])
along_mean = np.array(loss_along(network, *some, noise.mean, lengths)) - start
six = noise.gradients[:6]
stretch = six.norm(dim=1, keepdim=True) / noise.mean.norm()
along_six, along_cut = (
    np.mean([loss_along(network, *some, g, lengths) for g in gradients], axis=0) - start
    for gradients in (six, six / stretch)
)

# %%
plots.show(
    schedule_figures.loss_along_steps(
        lengths,
        {
            "one batch (mean of 6)": along_six,
            "all 3,200 images": along_mean,
            "one batch, cut to the length of all": along_cut,
        },
        {"rate 0.1": 1, "rate 0.01": 0.1},
        "At a high rate one batch's step brings less",
    ),
    alt="Change of the loss over the length of a step. Along the gradient of one batch "
    "it falls a little until a length of about 0.3 and is going up at 1. Along the mean "
    "gradient it falls more than twice as far, until about 1. One batch's gradient cut "
    "to the mean's length falls as little as a whole one, and later.",
)

# %%
at = dict(zip(lengths, zip(along_six, along_mean, along_cut)))
print(
    "a batch's gradient 1.5 times as long as the mean, or more:",
    bool(stretch.mean() > 1.5),
)
print("at 0.1 both have gone down:", at[0.1][0] < 0 and at[0.1][1] < 0)
print("at 1 a batch's gradient has brought less:", at[1][0] > at[1][1])
print("and so it has when cut:", at[1][2] > at[1][1])
print("at 3 a batch's gradient has led uphill:", at[3][0] > 0)

# %% [markdown]
# At the length that belongs to 0.01 a batch's gradient and the mean gradient have brought about as much. That is no accident: for a short step only the part of it counts that lies along the mean gradient, and this part is on average the
# same in both. The rest of a batch's gradient is noise, which makes it two to three times as long. Noise brings nothing on average, and costs more the farther it goes: at the length that belongs to 0.1 the batch is past its
# bottom and on its way up the other side, and at three times that length it has led uphill. Cut to the mean's length, it does not overshoot there, but it has gone only a part of the way. So a batch has both against it, its direction and,
# at the high rate, its length: it is the noise that makes the long step miss.
#
# **Third claim: early, late, and back.** From the checkpoint four networks go on for two epochs, with the same batches. One stays at 0.1. One drops to 0.01. One drops for
# an epoch, and then goes back to 0.1. And one stays for an epoch, and then drops. (A new epoch begins with a new optimiser, whose velocity is zero: that is so for all four, but it makes the first ten
# steps or so shorter than they would be within a run.)
#
# **Predict.** Order the four by their loss in the second epoch. Which of them does the valley put where, and will the network follow it?


# %%
def go_on(network, rate, epoch):
    """Train for one epoch; returns a copy that has, and its loss every ten steps."""
    network, losses = copy.deepcopy(network), []
    optimizer = SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    loader = BatchLoader(train, 32, augment=True, shuffle=True, seed=SEED)
    network.train()
    for step, (images, labels) in enumerate(loader.epoch(epoch)):
        if step % 10 == 0:
            losses += loss_along(network, *some, noise.mean, [0])
        train_step(network, optimizer, images, labels)
    return network, losses


# %%
stays, stay_1 = go_on(network, 0.1, epoch=4)
dropped, drop_1 = go_on(network, 0.01, epoch=4)
stays_2, stay_2 = go_on(stays, 0.1, epoch=5)
_, late_2 = go_on(stays, 0.01, epoch=5)
drops_2, drop_2 = go_on(dropped, 0.01, epoch=5)
_, back_2 = go_on(dropped, 0.1, epoch=5)

# %%
steps = np.arange(0, 200, 10)
figure = schedule_figures.loss_by_step(
    {
        "stays at 0.1": (steps, stay_1 + stay_2),
        "drops to 0.01": (steps, drop_1 + drop_2),
        "back to 0.1 after an epoch": (steps[10:], back_2),
        "drops an epoch later": (steps[10:], late_2),
    },
    "loss of 400 training images",
    "A drop pays at once, and going back up loses it",
)
plots.show(
    figure,
    alt="Training loss over 200 steps. At 0.1 it jumps up and down by a tenth while it "
    "falls. After the drop to 0.01 it falls smoothly, and is nearly level at 1.6 in the second "
    "epoch, mostly below the line that stays at 0.1. Back at 0.1 it rises above both. The network that drops an "
    "epoch later falls below all others within 30 steps and stays there.",
)

# %%
branches = (stay_1, drop_1, stay_2, drop_2, back_2, late_2)
stay_1, drop_1, stay_2, drop_2, back_2, late_2 = (np.mean(x[2:]) for x in branches)
print("lower after the drop than without it:", drop_1 < stay_1 - 0.01)
print("higher again when the rate goes back up:", back_2 > drop_2 + 0.02)
print("and higher than had it stayed up:", back_2 > stay_2)
print("the later drop pays as well:", late_2 < stay_2 - 0.03)

# %% [markdown]
# Compare means, not points: the line at 0.1 jumps so much that some of its points are the lowest of all.
#
# And what of the noise, once the rate has dropped? Take the two networks after one epoch, the one that stayed at 0.1 and the one that dropped to 0.01, and measure in both what was measured in the checkpoint.
#
# **Predict.** Which becomes smaller with the rate: the noise, or the mean gradient beneath it?

# %%
noise_high, noise_low = (
    measure_gradient_noise(
        net.train(), BatchLoader(train, batch_size=32, shuffle=True, seed=1)
    )
    for net in (stays, dropped)
)
as_long = 0.7 < noise_low.noise / noise_high.noise < 1.4
print("the noise at 0.01 is about as long as at 0.1:", as_long)

# %% [markdown]
# The noise is what it was: it comes from the images, and does not ask for the rate. The drop makes it count for less, as each step takes a tenth of it.
#
# How much of all this is the luck of one start? **Ten starts**, each with first weights and an order of the images of its own, were recorded by these very cells (`python tools/record_trials.py drops`); the first is the one above. There the network that stayed and the one that dropped go on to a fourth epoch. `lead_1` to `lead_4` say how far the early drop is below the network that stayed, by epochs; `back_behind`, how far going back up is above staying; `late_over_early`, the later drop's gain over the early one's; the others compare noise and mean gradient. (The second claim was measured in this one start only.)
#
# **Predict.** Which of these hold in all ten: the early drop is ahead in its first epoch; going back up is behind staying; the early drop has been overtaken in the fourth epoch; the later drop gains more?

# %%
from resnet_lib.runs import load_trials

starts = load_trials("drops")
print(starts.drop(columns="seed").agg(["min", "median", "max"]).T.round(2).to_string())

# %%
print("starts of", len(starts), "in which …")
print("the early drop is ahead in its first epoch:", (starts["lead_1"] > 0).sum())
print("and has been overtaken in the fourth:", (starts["lead_4"] < 0).sum())
print("going back up is behind staying:", (starts["back_behind"] > 0).sum())
print("the later drop gains more:", (starts["late_over_early"] > 1).sum())
shorter = (starts["gradient_low_over_high"] < 1).sum()
print("the mean gradient is shorter after the drop:", shorter)

# %% [markdown]
# - **Noise:** 1.8 to 2.7 times as long as the mean gradient in the checkpoint, and within 13% as long at the low rate as at the high one. The *mean* gradient is shorter after the drop in nine of ten, typically by more than a third: as in the valley, a network that is thrown about less sits lower in its steep directions, where less pulls it back.
# - **The early drop paid at once**, in all ten: in its first epoch it lay 0.04 to 0.09 below the network that stayed. What it gave is the noise that the high rate kept adding, taken away.
# - **Going back up lost the gain, and more**, in all ten: this network was behind the one that had stayed. It had spent an epoch on going slowly.
# - **Is the early drop, left alone, overtaken, as in the valley?** Its lead (`lead_1` to `lead_4`, by epochs) shrinks from 0.07 to 0.01, and is gone in four of ten after four epochs. It is getting smaller; whether the network that stayed would pass by, four epochs do not tell.
# - **Is a later drop worth more?** Against the network that stayed, the drop an epoch later gained 0.7 to 2.1 times what the early one had gained in its first epoch; more in six of ten. That is no evidence.
#
# So the first three of these five hold, and the last two are open. Earlier versions of this section claimed both of them, from four trials that had all started from *the same checkpoint*; then they leaned towards both, from eight trials of which five shared their first weights, and in seven of which the later drop gained more. **Trials that share their start are not independent**: they agree with each other more than with the truth.
#
# Be exact about what this shows. It is one small network, early in its training, on 3,200 images, and it is *training* loss, with batch norm in train mode. That a drop late in a long run works by the same
# means is what one would expect from the valley; we have not measured it here. And *test* accuracy holds something more: it is taken with batch norm's running statistics, which lag behind fast weights. Section 10 comes back to that. A low rate does more besides: it goes on learning (the lower line keeps falling), and
# over many epochs it may fit the training set more closely, which need not help on the test set. What a drop does in large networks is disputed: You
# et al. (2019) hold that the high rate keeps the network from memorising noise, and that the low one then learns the finer patterns.

# %% [markdown]
# ## 8. Where does 0.1 come from? A range test
#
# The first rate of a schedule should be high, but not too high. A quick way to see what "too high" is: begin far too low, multiply the rate a little with every step, and
# watch the loss of each batch (after Smith 2017, who raises it in equal steps). One epoch of 157 steps is enough.
#
# **Predict.** From 0.0001 to 10: at what rate does learning begin to show, and at what rate does it break?

# %%
torch.manual_seed(0)
fresh = ResNet(BasicBlock, (1, 1, 1), shortcut="A", widths=(8, 16, 32)).train()
optimizer = SGD(fresh.parameters(), lr=1.0, momentum=0.9, weight_decay=1e-4)
batches = BatchLoader(bundled, 32, augment=True, shuffle=True)
tried, losses = np.geomspace(1e-4, 10, len(batches)), []
for rate, (images, labels) in zip(tried, batches):
    optimizer.param_groups[0]["lr"] = rate
    losses.append(train_step(fresh, optimizer, images, labels)[0])

# %%
mean_of_15 = np.convolve(losses, np.ones(15) / 15, "same")
mean_of_15[:7] = mean_of_15[-7:] = np.nan
best = tried[np.nanargmin(mean_of_15)]
plots.show(
    schedule_figures.range_test(
        tried, losses, mean_of_15, "Too low to learn, useful, too high"
    ),
    alt="Training loss while the rate rises from 0.0001 to 10. Its running mean sinks from "
    "2.4 to guessing, 2.3, by about 0.004. It dips clearly, to 2.1, from 0.03 to 0.2, is "
    "between 2.2 and 2.4 from 0.3 to 2, and then rises to 2.7, single batches to above 3.",
)

# %%
print("lowest between 0.01 and 5:", 0.01 < best < 5)
print("worse than guessing in the end:", np.mean(losses[-5:]) > np.log(10))

# %% [markdown]
# Far below 0.01 the network learns little in so few steps: it starts above guessing, and comes down to it. The loss dips clearly for about one decade, from 0.03 to 0.2, with 0.1 in it. From 0.3 to 2 it is back
# near guessing, though not broken yet; from about 3 on it breaks. Read no more from it than
# that: the curve is noisy, it is one seed, and it shows the *first steps* of a run. A rate that is good for them need not be
# the best peak of a schedule. For that, train with several and compare on the validation split.

# %% [markdown]
# ## 9. Far fewer epochs than an ordinary CNN?
#
# The README closes: since accuracy levels off after some 110 epochs, a ResNet *needs far fewer epochs than an ordinary CNN*. But it trained no ordinary CNN. And accuracy levelled off at 110 because the schedule drops the rate there: any network under this schedule has a step at its drops.
# To test the claim, take the shortcuts out and train what is left by the same recipe.
#
# Such twins were recorded at four depths, two seeds each: 12 epochs on half of the images, drops after 6, 9 and 10 (notebook 07 looks into them).
#
# **Predict.** How many epochs does each need to 60% of the test images: plain and residual, with 8 layers, 20, 32, 56?

# %%
from resnet_lib.analysis import epochs_to_reach
from resnet_lib.plan import GROUPS
from resnet_lib.runs import load_runs

twins = load_runs(GROUPS["twins"])
twins["layers"] = twins["model"].str.removeprefix("resnet").astype(int)
twins["network"] = twins["shortcut"].map({"none": "plain", "A": "residual"})
by_run = twins.groupby(["layers", "seed", "network"])
for level in (0.6, 0.7):
    needed = by_run["test_accuracy"].apply(epochs_to_reach, level=level)
    print(f"epochs to {level:.0%} of the test images, seed 0 and seed 1:")
    table = needed.unstack(["network", "seed"]).sort_index(axis=1)
    print(table.to_string(float_format="%.0f", na_rep="never"), end="\n\n")

# %%
needed = by_run["train_accuracy"].apply(epochs_to_reach, level=0.6)
print("epochs to 60% in the training batches:")
table = needed.unstack(["network", "seed"]).sort_index(axis=1)
print(table.to_string(float_format="%.0f", na_rep="never"))

# %%
plots.show(
    schedule_figures.bands_over_seeds(
        {
            f"{name}, {layers} layers": 100
            * rows.pivot(index="epoch", columns="seed", values="test_accuracy")
            for (layers, name), rows in twins.groupby(["layers", "network"])
            if layers in (8, 56)
        },
        "test accuracy (%)",
        "8 layers: no difference to speak of. 56: within these 12 epochs the plain net stays below 40%",
    ),
    alt="Test accuracy over 12 epochs, bands over two seeds. The two networks of 8 layers run together "
    "to 72 percent. With 56 layers the two residual runs are at 52 and 61 after six epochs, both at 65 after the first drop, "
    "and end at 67 and 69; the plain ones end at 34 and 39.",
)

# %% [markdown]
# So it depends on the depth. (The first drop comes after the sixth epoch; what gets somewhere "in seven" gets there by the drop.)
#
# - **8 layers:** no difference to speak of. On test images the plain net needs 4 and 6 epochs to 60%, the residual one 5 and 5; in the training batches both need 4.
# - **20 layers:** 7 against 4 on test images, and yet in the training batches 5 against 4. At a high rate test accuracy jumps about, perhaps in part because batch norm's running statistics lag behind (section 10). By the training batches the difference is one epoch, not three.
# - **32 and 56 layers:** within these 12 epochs the plain net does not get to 60%, though one of 32 layers ends a single point below it, and the level was ours. The residual one does, in 5 epochs with 32 layers and 6 or 7 with 56. (To 50% the plain nets of 32 layers need 7, the residual ones 3.) Twelve epochs are not enough to say whether the plain ones ever would.
#
# The README's claim, then: **not shown** by its own run, which compared with nothing; **not true** of shallow networks; and **true from 32 layers on** in this test, where "ordinary" means the same layers without shortcuts. Three warnings:
#
# - How many *times* as many epochs depends on the level that is asked for, and many a curve crosses a level right at a drop, because the schedule says so and not the network.
# - Fewer epochs to a level is no better network in the end. Nor is an epoch a cost: one of 56 layers takes nearly eight times as long as one of 8 (82 images a second on one core, against 630: [data/runs/README.md](../data/runs/README.md)), and the plain nets of 8 layers reached 70% in 7 and 8 epochs, where no net needed fewer than 7.
# - Two seeds each. At 8 and 20 layers plain and residual differ by a few points only, and a curve at a high rate jumps by as much from epoch to epoch.

# %% [markdown]
# ## 10. Five schedules at equal budget
#
# Which schedule is best? A fair comparison gives each the same number of epochs, and each the peak rate that suits *it*. These runs were recorded with **ResNet-8** on half of the training images, 30
# epochs each. First the peaks: short runs of 6 epochs, measured on the *validation split*, at 0.05, 0.1, 0.2, 0.4 and, where the best was an end of these, beyond.
#
# **Predict.** Which of the five bears the highest peak?

# %%
from resnet_lib.runs import choose_peaks

peaks = choose_peaks("schedules_peaks")
for name, peak in sorted(peaks.items(), key=lambda item: item[1]):
    print(f"{name:10} {peak:g}")

# %% [markdown]
# The three that fall smoothly chose higher peaks than the two that stay up, and one-cycle, which only passes through its peak, the highest. (That the constant rate chose a higher one than the staircase is hardly a law.) None of these is an end of what was tried. But each is a single seed, and on 5,000 images two accuracies have to differ by nearly two points to be told apart:
# for the staircase 0.2 is one point behind 0.1, and for cosine 0.1 is as good as 0.4. And a rate that stays high jumps from epoch to epoch by far more: the constant rate's 0.2 was chosen by a last epoch 17 points above the one before.
#
# Then 30 epochs at that peak, measured on the test set. The staircase drops after epochs 16, 22 and 26, the README's in proportion (in the sweep after 3, 4 and 5 of six). The five runs of a seed share their first weights and the order of the images.
#
# **Predict.** Order the five by their accuracy after the last epoch. How many points will lie between the best and the worst of them, constant apart?

# %%
from resnet_lib.recipes import SCHEDULES

runs = load_runs(GROUPS["schedules"])
whole = runs.groupby("seed")["schedule"].transform("nunique") == len(SCHEDULES)
by_schedule = {
    name: 100 * rows.pivot(index="epoch", columns="seed", values="test_accuracy")
    for name, rows in runs[whole].groupby("schedule", sort=False)
}

# %%
figure = schedule_figures.bands_over_seeds(
    by_schedule,
    "test accuracy (%)",
    "The staircase leads in the middle, not in the end",
)
figure.axes[0].set_ylim(50, None)
plots.show(
    figure,
    alt="Test accuracy over 30 epochs of five schedules, each a line with a band over "
    "three seeds. Until epoch 16 all climb, jumping about, from below 50 to some 70 percent, one-cycle "
    "below the others. Multi-step then leaps to 79 and stays at 80; cosine, linear and one-cycle climb "
    "to the end, to 82.3, 82.7 and 83.5; constant jumps about and ends at 75.",
)

# %%
final = pd.DataFrame({name: table.iloc[-1] for name, table in by_schedule.items()})
print(final.T.round(1).to_string())

# %% [markdown]
# After its first drop the staircase is ahead for seven epochs (in the mean of the seeds), and then it stands still. So through most of the run the order says nothing: a schedule that still is at a high rate is low and has its gain to come. What counts is the
# last epoch. Compare by pairs, seed by seed, with multi-step as the README has it:

# %%
from resnet_lib.analysis import paired_differences

differences = paired_differences(final, "multi_step")
plots.show(
    schedule_figures.differences_with_intervals(
        differences,
        "points of test accuracy, last epoch, against multi-step",
        "Three that fall smoothly end ahead of the staircase",
    ),
    alt="Mean difference of four schedules to multi-step with 95 percent intervals. One-cycle is 3.2 points ahead, linear "
    "2.4, cosine 2.0. Constant is 5.4 behind, with the widest interval, from 9.1 to 1.7 behind. None holds zero.",
)

# %%
for name, row in differences.iterrows():
    told_apart = row["low"] > 0 or row["high"] < 0
    print(f"{name:9} {row['difference']:+.1f} points; told apart: {told_apart}")

# %% [markdown]
# In each of three seeds one-cycle ends three points ahead of the README's staircase, linear and cosine one and a half to two and a half. The constant rate ends four to seven behind; but in two of the seeds it jumps by up to eight points from one epoch to the next, so where it ends is partly luck.
#
# Why is the staircase behind? From its second drop on, the last eight epochs bring half a point; the others still learn then. But their peaks are four and eight times as high, too, and these runs do not take the two apart. (In the sweep all were also tried at 0.1, for six epochs, one seed: the smooth ones were ahead by about three points there, with the same peak.)
#
# What this shows, and what it does not:
#
# - Each schedule had its own peak, chosen on the validation split among few values by short runs. A peak that is best for 6 epochs
#   need not be the best one for 30.
# - **Three seeds.** They are few: an interval of three reaches 4.3 standard errors each way, and where they happen to agree it may be too narrow. With so few, being ahead in every seed may still be no evidence (exercise 4). Cosine and linear cannot be put in order: linear is ahead in each seed, by 0.1 to 0.6 points, and the interval of that difference holds zero. One-cycle is ahead of both in every seed.
# - The last epoch, not the best one. Choosing each run's best epoch on the test set would flatter the runs that jump most.
# - One small network, half of the images, one budget; other lengths we have not tried. (The sweep does not tell: at 0.2 the constant rate's lucky last epoch put it two points above the best staircase; at the other three peaks it was three to four and a half behind.)
#
# The multi-step runs also tell what section 4 could not: whether the gain of a drop is the same from *seed to seed*. And they have a second witness: the accuracy in the batches of training.
#
# **Predict.** The first drop: does it gain more on the test images, or in the training batches? Where do the three seeds agree better?

# %%
multi = runs[runs["schedule"] == "multi_step"]
for column, name in (("test", "test images"), ("train", "training batches")):
    table = 100 * multi.pivot(
        index="epoch", columns="seed", values=f"{column}_accuracy"
    )
    gains = pd.concat(
        [drop_gains(table[seed], (16, 22, 26), window=4) for seed in table]
    )
    spreads = gains.loc[gains["drop"] == 16, "before_spread"].round(1)
    print(f"{name}: spread before the first drop", *spreads, "points")
    for drop, rows in gains.groupby("drop"):
        each = ", ".join(f"{gain:z.1f}" for gain in rows["gain"])
        print(f"    drop at {drop}: {each} points")

# %%
last = runs[runs["epoch"] == runs["epoch"].max()].groupby("schedule")
for column, name in (("test", "test images"), ("train", "training batches")):
    means = 100 * last[f"{column}_accuracy"].mean()
    behind = means["multi_step"] - means["constant"]
    print(f"{name}, last epoch: constant behind multi-step by {behind:.1f} points")

# %%
long = load_run("resnet20_readme_150").history
for column, name in (("test", "test images"), ("train", "training batches")):
    gains = drop_gains(100 * long[f"{column}_accuracy"].to_numpy(), drops, window=15)
    print(f"150 epochs, first drop, {name}: {gains['gain'].iloc[0]:.1f} points")
print((final["linear"] - final["cosine"]).round(1).tolist(), "linear before cosine")

# %% [markdown]
# The README's order, in all three: the first drop buys most, the second half a point or a little more, the third next to nothing. For the first, test images say 8, 9 or 11 points, and training batches 6, three times. Two things are in that difference:
#
# - **Wobble.** At a rate of 0.1 single epochs are 2 to 4 points off on test images. The mean of four of them is uncertain by one or two, and so are the gains. So these runs do not show that *seeds* differ in what a drop gives.
# - **Statistics.** But the wobble goes both ways, and all three gains on test images are larger. A part of what the drop "buys" there is presumably batch norm's: test images are seen with its *running* statistics, which lag behind weights that move fast and catch up when they slow down, and batches of training with their own. Measuring the running ones anew, without any drop, would have brought it too. Notebook 08, section 7, does that for another network: there it is two thirds of what a falling rate is worth.
#   By the training batches of the last epoch the constant rate is only two points behind the staircase, and not five.
#
# It is a hint and no more: training batches hold other images, moved and mirrored. And in the long run of section 5 the first drop gains as much in the training batches (6.4 points) as on test images (5.8): it had 15 epochs a window, and batches of 128 of twice as many images.

# %% [markdown]
# ## Summary
#
# - A schedule is a function of the epoch. The README's had two faults; one of them hid what was wrong with its call, and a repair has to look at both.
# - The gain of a drop needs windows, an interval and the trend. In the README's run: eight points at 80, one at 110, and a tenth at 130,
#   no more than the trend would have brought. All three of its statements hold.
# - The interval is about one run's wobble. It knows nothing of other seeds.
# - In a valley with noise the loss that is left goes with the rate: high rates go far, low ones go deep. A drop pays at once, and most when it comes late.
# - In a small network, in ten starts of ten: noise longer than the mean gradient, and a drop that was ahead within its first epoch and behind within an epoch of going back up. In the one start in which we looked: steps that miss because of the noise. That an early drop is overtaken and a later one gains more, as in the valley, the ten do not show.
# - With equal budgets, each at its own peak, schedules that fall smoothly ended two to three points ahead of the README's staircase (ResNet-8, 30 epochs, three seeds). A part of what a drop gains on test images may be batch norm's statistics that catch up.
# - Whether shortcuts save epochs depends on depth: at 8 layers none, at 32 and 56 the plain twins did not get to 60% within 12 epochs.

# %% [markdown]
# ## Exercises
#
# **1.** Write the cosine schedule: half a wave from `peak_lr` at epoch 0 down to 0 at `epochs`.


# %%
def cosine(epoch, peak_lr, epochs):
    return ...


check.cosine_rate(cosine)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
#
# def cosine(epoch, peak_lr, epochs):
#     return peak_lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
#
#
# check.cosine_rate(cosine)
# ```
# </details>

# %% [markdown]
# **2.** Measure a gain by windows: the mean of the last `window` epochs of a run, minus the mean of the `window` epochs before the
# drop. (`drop` is the first epoch at the lower rate, counted from 0; `accuracy` is a tensor.)


# %%
def gain(accuracy, drop, window):
    return ...


check.gain_of_drop(gain)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def gain(accuracy, drop, window):
#     return accuracy[-window:].mean() - accuracy[drop - window : drop].mean()
#
#
# check.gain_of_drop(gain)
# ```
# </details>

# %% [markdown]
# **3.** A valley of steepness $h = 1$ and noise of deviation $\sigma = 1$: what loss is left at a rate of 0.2? Compute it by the formula of section 6, or let walkers find out (many of them, in the steep direction alone).

# %%
answer = ...
check.loss_left(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 0.2 / (2 * (2 - 0.2))
# check.loss_left(answer)
# ```
#
# Walkers: `np.mean(walk(np.full(2000, 0.2), steepness=(1.0,), start=(0.0,))[500:])`
# </details>

# %% [markdown]
# **4.** *Is it evidence?* One schedule is compared with another, with three seeds each. Seed by seed it is ahead by 0.1, 0.2 and 0.3
# points of test accuracy. How far does the 95% interval of the mean difference reach to each side? (`resnet_lib.analysis.mean_interval` knows.)

# %%
answer = ...
check.interval_of_three(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# from resnet_lib.analysis import mean_interval
#
# mean, low, high = mean_interval([0.1, 0.2, 0.3])
# answer = high - mean
# check.interval_of_three(answer)
# ```
#
# Ahead three times of three, and still not evidence: 0.2 ± 0.25 points holds zero. Ten seeds that differ as little would tell (± 0.07).
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: the recipe with drops (§4.2).
# - L. N. Smith, [*Cyclical Learning Rates for Training Neural Networks*](https://arxiv.org/abs/1506.01186), 2017: the range test (§3.3).
# - L. N. Smith, N. Topin, [*Super-Convergence*](https://arxiv.org/abs/1708.07120), 2017: one-cycle.
# - I. Loshchilov, F. Hutter, [*SGDR: Stochastic Gradient Descent with Warm Restarts*](https://arxiv.org/abs/1608.03983), 2017: the cosine.
# - S. McCandlish, J. Kaplan, D. Amodei, OpenAI Dota Team, [*An Empirical Model of Large-Batch Training*](https://arxiv.org/abs/1812.06162), 2018: noise and signal of gradients.
# - K. You, M. Long, J. Wang, M. I. Jordan, [*How Does Learning Rate Decay Help Modern Neural Networks?*](https://arxiv.org/abs/1908.01878), 2019: another explanation than noise.
# - D. N. Politis, J. P. Romano, *A circular block-resampling procedure for stationary data*, in *Exploring the Limits of Bootstrap*, 1992.
