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
# # Start here: what will you build, and does it run on your machine?
#
# | | |
# | --- | --- |
# | **Question** | Can this computer train a residual network on real pictures, and what does that look like? |
# | **Afterwards you can** | load CIFAR-10 and say what is in it; build a small residual network; train it and watch it learn; judge its accuracy against guessing |
# | **You need** | a little Python, and a rough idea of what a neural network is; no GPU, no internet |
# | **Time** | 15 minutes to read; the cells run in under a minute on two processor cores |
#
# Run the cells from top to bottom with <kbd>Shift</kbd> + <kbd>Enter</kbd>. Most sections ask you to **predict**
# something, **measure** it, and **explain** what came out. Make the prediction before you run the cell: a wrong
# guess that you remember teaches more than a right number that you read.

# %% [markdown]
# ## 1. Does it run here?
#
# If both lines say `True`, all notebooks can run here. If an import fails, Jupyter was started outside the course's environment: close it, and start it as
# the course's `README.md` says (`make lab`; on Windows `.venv\Scripts\jupyter lab`; with conda after `conda activate resnet-course`).

# %%
import sys

import torch

from resnet_lib import plots
from resnet_lib.checks import start_here as check

torch_version = [int(part) for part in torch.__version__.split("+")[0].split(".")[:2]]
print("Python 3.11 or newer:", sys.version_info >= (3, 11))
print("PyTorch 2.9 or newer:", torch_version >= [2, 9])

# %% [markdown]
# ## 2. The pictures
#
# **CIFAR-10** has 60,000 photographs of ten kinds of things, each 32 × 32 pixels. The course carries 6,000 of them, so
# that everything here works without a network: 5,000 to train on, 1,000 to test on. They are real images, bit for bit.

# %%
from resnet_lib.data import load_cifar10

train = load_cifar10("train", size="bundled")
test = load_cifar10("test", size="bundled")
print(train)
print(test)

# %% [markdown]
# **Predict.** At 32 × 32 pixels, will *you* be able to tell the classes apart? Which two would you mix up first?

# %%
plots.show(
    plots.image_wall(test, per_class=12),
    alt="Twelve small test photographs in each of ten rows: airplane, automobile, "
    "bird, cat, deer, dog, frog, horse, ship, truck. Most can be told at a "
    "glance; some cats and dogs are hard.",
)

# %% [markdown]
# Most are easy, and some are hard at this size: a dog that could be a cat, a bird far away. Keep your own mistakes in
# mind when you judge the network's.
#
# To the network a picture is a block of numbers. This is the pixel in the middle of the first training image: how much
# red, green and blue, from 0 to 255.

# %%
print("all training images:", tuple(train.images.shape), train.images.dtype)
print("one pixel:", train.images[0, 16, 16].tolist())
print("its class:", train.labels[0].item(), "=", train.classes[train.labels[0]])

# %% [markdown]
# The axes are image, row, column and channel. You will use them in the first exercise.

# %% [markdown]
# ## 3. The network
#
# Below is the smallest **residual network** of the course: eight layers, if one counts, as usual, only convolutions and the linear layer at the end ($1 + 3 \cdot 2 + 1$). A picture goes in, ten numbers
# (*logits*) come out, one for each class; the largest is the network's answer. What makes it *residual* is that every
# block **adds** what it computes to what it was given, `F(x) + x`. Why that small change matters is what the course is
# about; here you only see it at work.

# %%
from resnet_lib.models import cifar_resnet

torch.manual_seed(0)
network = cifar_resnet(depth=8)
print("weights to learn:", sum(p.numel() for p in network.parameters()))
print(network.layer1)

# %% [markdown]
# The printout shows the first of its three blocks: two 3 × 3 convolutions, each with a *batch normalisation* (it brings every
# channel to mean 0 and variance 1; notebook 01 meets it again). `downsample` is the shortcut
# around them; here it is `Identity()`, which passes `x` on as it is. (The name is torchvision's, so that its trained
# weights fit.) Notebook 03 builds all of it from nothing.
#
# **Predict.** The weights are random so far. How many of the 1,000 test images will it classify correctly?

# %%
from resnet_lib.training import evaluate

untrained = evaluate(network, test)
print("between 5% and 15% right:", 0.05 < untrained < 0.15)

# %% [markdown]
# About one in ten: a network that knows nothing is right as often as a person who guesses blindly among ten classes.
# **10% is the line that every accuracy in this course is to be compared with.**

# %% [markdown]
# ## 4. Training
#
# Now it learns. It sees all 5,000 training images eight times (eight *epochs*), 64 at a time. After each batch every
# weight moves a little in the direction that would have made the answers better: downhill, against the gradient.
#
# **Predict.** What accuracy on test images that it never trained on will it have after about half a minute? And will
# it be better or worse on the images that it did train on?
#
# How far a step goes is the **learning rate**; `peak_lr` in the recipe below is its largest value during the run. (The rest of the recipe is
# for notebooks 05 and 06.) Run the cell and watch the curve grow.

# %% tags=["nbval-ignore-output"]
from IPython.display import display

from resnet_lib.training import Recipe, fit
from resnet_lib.widgets import LiveCurve

recipe = Recipe(
    epochs=8, batch_size=64, peak_lr=0.2, schedule="one_cycle", weight_decay=5e-4
)
curve = LiveCurve(recipe.epochs)
display(curve)
history = fit(network, train, recipe, evaluate_on=test, on_epoch=curve.update)

# %% [markdown]
# The same as a picture that stays when no kernel runs:

# %%
figure = plots.accuracy_curve(history, "Half a minute of training, far above guessing")
figure.axes[0].axhline(0.1, color=plots.GREY, linestyle="--")
figure.axes[0].text(1, 0.09, "guessing", va="top")
plots.show(
    figure,
    alt="Accuracy by epoch for training and test images. Both climb from "
    "about 20 percent after the first epoch to about 50 percent after the eighth. A "
    "dashed line at 10 percent, far below them in the end, is marked guessing.",
)

# %%
accuracy = history["test_accuracy"].iloc[-1]
print("more than four times as good as guessing:", accuracy > 0.4)
print("every image recognised:", accuracy == 1)
on_training_images = evaluate(network, train)
print(
    "within ten points of it on its training images:",
    abs(on_training_images - accuracy) < 0.1,
)

# %% [markdown]
# Around half of the test images are right, five times as good as guessing, and on its own training images it is about as
# good: eight epochs are too short to learn those by heart, and in each of them every image is shifted and mirrored anew, at random.
# (Notebook 04 shows such images. The training curve in the picture is measured on them, and while the weights move.) With all 50,000
# training images, 20 layers and 15 epochs it becomes 86% (notebook 05 shows that run); He et al. report 91.25% for 20
# layers and 93.57% for 110 (the best of five runs), after some 160 epochs.
#
# What counts is the accuracy **after the last epoch**. To pick the best epoch by looking at the test images would
# be to use them for training; notebook 04 shows what that costs.

# %% [markdown]
# ## 5. What does it see?
#
# The first ten test images, with the network's answer and how sure it says it is.
#
# **Predict.** How many of these ten will it get right? And will it be surer of those that it gets right?

# %%
from resnet_lib.training import predict

shares = predict(network, test[:10]).softmax(1)  # logits to shares that add up to 1
sureness, answers = shares.max(1)
names = [test.classes[answer] for answer in answers]
marks = ["✓" if right else "✗" for right in answers == test.labels[:10]]
titles = [
    f"{mark} {name} ({sure:.0%})" for mark, name, sure in zip(marks, names, sureness)
]
plots.show(
    plots.image_row(test.images[:10], titles),
    alt="Ten test images, each with the class that the network answers, a tick where "
    "it is right and a cross where it is wrong, and how sure it is in percent.",
)

# %% [markdown]
# Which of the ten it gets right differs a little from one computer to the next: sums in another order round
# differently, and training makes small differences large. Where you see a cross, look for what the picture shares with
# the wrong class: a grey-blue ground like the sea, fur, a green background. Is it surer where it is right? Ten images cannot tell; in the picture above you will find crosses with high percentages. Do not take these at their
# word: whether they can be trusted is a question of its own (*calibration*, notebook 07).

# %% [markdown]
# ## 6. Where the course goes from here
#
# One question runs through it: **why does a deep network with shortcuts train so much better than its plain twin,
# and how much of that is due to the gradients that reach its early layers?** (Its *plain twin* is the same network without the shortcuts.)
#
# The course grew out of a short text that somebody published with their code: a README, in Traditional Chinese, about ResNet-34 on
# CIFAR-10. It says why shortcuts help, lists a network and a learning-rate schedule, and shows the accuracy of one run
# of 150 epochs. **Wherever the notebooks say "the README", they mean that text**, and not the `README.md` of this
# course. You need not have read it: the notebooks say what it claims, and test that.
#
# | notebook | question |
# | --- | --- |
# | **00 Start here** | What will I build, and does it run here? |
# | [**01 Vanishing gradients**](01_vanishing_gradients.ipynb) | Why do early layers stop learning? |
# | [**02 Shortcut connections**](02_shortcut_connections.ipynb) | What exactly does `+ x` change? |
# | [**03 Building a ResNet**](03_building_a_resnet.ipynb) | How do I write one I can trust? |
# | [**04 CIFAR-10**](04_cifar10.ipynb) | What does the network see, and can a score on it be trusted? |
# | [**05 Training**](05_training.ipynb) | What happens in a run, and can I trust what it reports? |
# | [**06 Learning-rate schedules**](06_learning_rate_schedules.ipynb) | What does a drop buy? |
# | [**07 Degradation and anatomy**](07_degradation_and_anatomy.ipynb) | Is it really the gradients? |
# | [**08 Fast and far**](08_fast_and_far.ipynb) | How cheap can a training be, and how far can it be spread? |
# | [**09 Spot the bug**](09_spot_the_bug.ipynb) | Can I find what is wrong? |

# %% [markdown]
# ## Summary
#
# - CIFAR-10 images are 32 × 32 pixels of three colours; there are ten classes, so guessing is right 10% of the time.
# - A network maps each image to ten logits, and the largest one is its answer.
# - A small residual network learns real images on two processor cores within half a minute, to about five times the
#   accuracy of guessing.
# - The accuracy that counts is measured on images it never trained on, after the last epoch.

# %% [markdown]
# ## Exercises
#
# Put your answer in place of the three dots and run the cell: the check says what is off, and where to look again.
#
# **1.** How many numbers does the network get for *one* image?

# %%
answer = ...
check.numbers_per_image(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 32 * 32 * 3
# check.numbers_per_image(answer)
# ```
#
# 32 rows of 32 pixels, with three numbers each: 3,072.
# </details>

# %% [markdown]
# **2.** One *step* is one batch. With 5,000 images in batches of 64, how many steps does an epoch have?

# %%
answer = ...
check.steps_per_epoch(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import math
#
# answer = math.ceil(5000 / 64)
# check.steps_per_epoch(answer)
# ```
#
# 78 full batches hold 4,992 images; the last 8 are a smaller batch of their own, the 79th.
# </details>

# %% [markdown]
# **3.** Write `accuracy(logits, labels)`: `logits` has a row of ten numbers for each image, `labels` the right class of
# each. Return the share of images that are classified correctly, from 0 to 1.
#
# *Hint:* in which *position* is the largest number of a row?


# %%
def accuracy(logits, labels):
    return ...


check.accuracy(accuracy)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def accuracy(logits, labels):
#     return (logits.argmax(1) == labels).double().mean()
#
#
# check.accuracy(accuracy)
# ```
#
# `argmax(1)` finds the position of the largest number in each row; comparing with the labels gives a `True` or `False`
# for each image, and the mean of those is the share of `True`.
# </details>

# %% [markdown]
# **4.** *Turn a knob.* Predict first: what happens to the curve with `peak_lr=5.0`, and what with `peak_lr=0.001`? Then
# change the recipe in section 4, make the network anew (the cell of section 3), train, and compare.
#
# <details><summary>What to expect</summary>
#
# At 5.0 the steps overshoot: in our run the test accuracy stayed at 10%, which is guessing, for all eight epochs. At 0.001
# every step is in a sensible direction, but short: it ended at 24%, less than half of what 0.2 reached. Notebook 06
# measures the range that works, and asks what changing the rate *during* training buys.
# </details>

# %% [markdown]
# ## References
#
# - A. Krizhevsky, [*Learning Multiple Layers of Features from Tiny Images*](https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf), 2009: where CIFAR-10 comes from.
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: the residual network; this one's family is in §4.2.
