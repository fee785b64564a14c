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
# # Spot the bug: can I find what is wrong?
#
# | | |
# | --- | --- |
# | **Question** | A network trains, raises no error, and is worse than it should be. How do I find out why? |
# | **Afterwards you can** | write the test that finds a fault: in a network, in what feeds it, in a training loop; tell a test that finds faults from one that only looks like it; run ten such tests on any training code |
# | **You need** | notebooks [00](00_start_here.ipynb), [03](03_building_a_resnet.ipynb), [04](04_cifar10.ipynb) and [05](05_training.ipynb); classes and functions in Python |
# | **Time** | 90 minutes if you solve all ten; the cells run in under a minute on two processor cores |
#
# Here are ten short pieces of code. Every one runs, raises no error, and has **one fault**, which somebody has published
# before you: the addresses are under *References*, so do not look there yet. In each section you get the symptom, the
# code, and a cell for **your test**: a function that returns `True` for what is right and `False` for what is wrong.
# Sections 1 to 4 are about networks, 5 to 7 about what feeds them, and 8 to 10 about loops; they get harder.
#
# The check then *tests your test*: on the code above it, on a repaired version, on right versions that are written
# differently (your test must not turn them away) and on more faulty ones. So do not test how code looks; test what it
# does. Before you open a hint, try twice. You may find the faulty line by reading, too; write the test all the same,
# because the next time the code will be 2,000 lines long.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib import plots
from resnet_lib.checks import bugs as check
from resnet_lib.data import MEAN, STD, BatchLoader, load_cifar10, normalise
from resnet_lib.models import BasicBlock, ResNet, conv3x3

train = load_cifar10("train", size="bundled")
test = load_cifar10("test", size="bundled")
images, labels = normalise(test.images[:64]), test.labels[:64]

# %% [markdown]
# So that nothing takes long, the networks are narrow ones: ResNet-8 with half its channels. (This function has no
# fault.)


# %%
def narrow_net():
    return ResNet(BasicBlock, (1, 1, 1), widths=(8, 16, 32))


# %% [markdown]
# ## 1. Deeper is not better
#
# *"I wanted to see degradation for myself, so I trained stages of 1, 3 and 9 blocks. The printout shows nine blocks,
# but the deepest network learns like a small one."*


# %%
def make_stage(channels, blocks):
    block = BasicBlock(channels, channels)
    return nn.Sequential(*[block] * blocks)


# %% [markdown]
# **Predict.** A stage of one block with 16 channels has 2 · 16 · 16 · 9 + 4 · 16 = 4,672 parameters (counted as in
# notebook 03). How many has this one, with three and with nine?

# %%
for blocks in (1, 3, 9):
    stage = make_stage(16, blocks)
    weights = sum(parameter.numel() for parameter in stage.parameters())
    print(f"blocks: {len(stage)}  parameters: {weights:,}")

# %% [markdown]
# **Your turn.** Write `has_own_weights(make_stage)`: `True` if every block of the stage that it makes has weights of its
# own, `False` if blocks share any. It is called as `make_stage(channels, blocks)`.


# %%
def has_own_weights(make_stage):
    return ...


check.has_own_weights(has_own_weights)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Blocks may share one layer and not the others. What should happen to the number of parameters when the number of
# blocks triples?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def has_own_weights(make_stage):
#     one, three = make_stage(16, 1), make_stage(16, 3)
#     count = [sum(p.numel() for p in stage.parameters()) for stage in (one, three)]
#     return count[1] == 3 * count[0]
#
#
# check.has_own_weights(has_own_weights)
# ```
#
# `[block] * 9` is a list that holds *the same* block nine times. One block is run nine times, and learns from all nine.
# The repair makes a block for each place:
#
# ```python
# def make_stage(channels, blocks):
#     return nn.Sequential(*[BasicBlock(channels, channels) for _ in range(blocks)])
# ```
#
# Seen in the ResNet of a textbook [1]. **The test: count.** `parameters()` gives a shared tensor once, `state_dict()`
# once for each of its names, so count the former.
# </details>

# %% [markdown]
# ## 2. Every time another accuracy
#
# *"I evaluate the same weights on the same images, and get another accuracy each time. I did call `eval()`."*


# %%
class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv3x3(3, 16)
        self.bn = nn.BatchNorm2d(16)
        self.block = BasicBlock(16, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, images):
        x = F.relu(self.bn(self.conv(images)))
        x = self.block(x).mean(dim=(2, 3))
        x = nn.Dropout(p=0.5)(x)
        return self.fc(x)


# %%
torch.manual_seed(0)
network = SmallNet().eval()
print("in training mode:", [name for name, m in network.named_modules() if m.training])
print("the same logits twice:", torch.equal(network(images), network(images)))

# %% [markdown]
# **Dropout** sets a random half of its inputs to 0 in training (and doubles the others), and passes everything on in evaluation. No module of
# this network is in training mode. And yet two evaluations differ.
#
# **Your turn.** Write `answers_alike(network, images)`: `True` if in evaluation an image's logits depend on nothing but
# the image. They must come out the same twice, and the same whether the image is alone in its batch or among others.


# %%
def answers_alike(network, images):
    return ...


check.answers_alike(answers_alike)

# %% [markdown]
# <details><summary>Hint</summary>
#
# One comparison does it: an image alone against the same image in a batch. Rounding may differ between the two, so
# allow for a little: `torch.allclose(a, b, atol=1e-5)`. And who puts the network in evaluation mode?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def answers_alike(network, images):
#     network.eval()
#     with torch.no_grad():
#         return torch.allclose(network(images[:1]), network(images)[:1], atol=1e-5)
#
#
# check.answers_alike(answers_alike)
# ```
#
# `nn.Dropout(p=0.5)` is made anew each time `forward` runs. A new module is in training mode, and `eval()` reaches only
# modules that are attributes of the network. `F.dropout(x)` without `training=self.training` does the same harm. The
# repair:
#
# ```python
# class SmallNet(nn.Module):
#     def __init__(self):
#         super().__init__()
#         self.conv = conv3x3(3, 16)
#         self.bn = nn.BatchNorm2d(16)
#         self.block = BasicBlock(16, 16)
#         self.drop = nn.Dropout(p=0.5)
#         self.fc = nn.Linear(16, 10)
#
#     def forward(self, images):
#         x = F.relu(self.bn(self.conv(images)))
#         x = self.block(x).mean(dim=(2, 3))
#         return self.fc(self.drop(x))
# ```
#
# Seen in a ResNet, in the very same line [2]. **The test: the same question twice, in other company.**
# </details>

# %% [markdown]
# ## 3. The loss that stops falling
#
# *"It trains, only slowly. The accuracy rises, and the loss gets stuck far above 0, even on images that it gets right."*


# %%
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = narrow_net()

    def forward(self, images):
        return self.body(images).softmax(dim=1)


# %% [markdown]
# A network with thousands of weights can learn sixteen images by heart. Below, this one and a plain `narrow_net` try it,
# with the cross-entropy as their loss.
#
# **Predict.** To which loss will each of them come in 60 steps? And how many of the sixteen will each then get right?


# %%
def losses_on_one_batch(network, images, labels, steps=60):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
curves = {}
for name, make in {"Classifier": Classifier, "narrow_net": narrow_net}.items():
    torch.manual_seed(0)
    network = make()
    curves[name] = losses_on_one_batch(network, images[:16], labels[:16])
    right = (network(images[:16]).argmax(dim=1) == labels[:16]).sum().item()
    print(
        f"{name}: last loss below 1.4: {curves[name][-1] < 1.4}, right: {right} of 16"
    )

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, losses), color in zip(curves.items(), (plots.RED, plots.BLUE)):
    axes.plot(losses, color=color, label=name)
axes.axhline(1.46, color=plots.GREY, linestyle=":", label="1.46")
axes.set(
    title="Sixteen images: only one loss comes near 0",
    xlabel="step",
    ylabel="cross-entropy",
    ylim=(0, None),
)
axes.legend()
plots.show(
    figure,
    alt="Loss over 60 steps on one batch of sixteen images. That of narrow_net falls to "
    "nearly 0 within 25 steps. That of Classifier falls from 2.3 towards a dotted line "
    "at 1.46, and stays above it.",
)

# %% [markdown]
# Both networks end with all sixteen right. The fault is in the loss, and only the loss shows it. Where does a number like
# 1.46 come from? Perhaps you find out before you write the test; you do not need it.
#
# **Your turn.** Write `learns_one_batch(network, images, labels)`: `True` if training on the images that it is given (the check hands in eight)
# brings the cross-entropy near 0. (Do not ask for the accuracy: `Classifier` gets all of them right, too.)


# %%
def learns_one_batch(network, images, labels):
    return ...


check.learns_one_batch(learns_one_batch)

# %% [markdown]
# <details><summary>Hint</summary>
#
# The function `losses_on_one_batch` is there already. What is a good bound for the last loss? A right network comes
# near 0; leave some room.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def learns_one_batch(network, images, labels):
#     optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
#     for _ in range(60):
#         optimizer.zero_grad()
#         loss = F.cross_entropy(network(images), labels)
#         loss.backward()
#         optimizer.step()
#     return loss.item() < 0.3
#
#
# check.learns_one_batch(learns_one_batch)
# ```
#
# `F.cross_entropy` expects logits and applies a softmax itself. Two softmaxes in a row squeeze everything together: the
# surest output the network can give is a 1 among nine zeros, which the loss takes for logits, and
# $-\log \frac{e}{e + 9} = 1.46$ is the lowest loss there is. The repair is to leave the softmax out:
#
# ```python
# class Classifier(nn.Module):
#     def __init__(self):
#         super().__init__()
#         self.body = narrow_net()
#
#     def forward(self, images):
#         return self.body(images)
# ```
#
# Seen in a collection of image classifiers [3], and on Karpathy's list of the most common mistakes [11]. He put
# the test first on that list: **overfit one batch**.
# </details>

# %% [markdown]
# ## 4. A shortcut that passes the test of notebook 03
#
# *"In this design nothing stands on the shortcut, so negative numbers should get through. But a drawing of the network
# that I exported shows a ReLU there. I tested the block as in notebook 03, and it passes."*


# %%
class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.conv1(self.relu(x))
        out = self.conv2(self.relu(self.bn1(out)))
        return self.bn2(out) + x


# %% [markdown]
# The test of notebook 03 silences the branch and asks whether the block returns `x`. It does:

# %%
torch.manual_seed(0)
block, x = Block(16), torch.randn(2, 16, 8, 8)
nn.init.zeros_(block.bn2.weight)
nn.init.zeros_(block.bn2.bias)
out = block(x)
print("it returns x:", torch.equal(out, x))

# %% [markdown]
# **Predict.** `x` came from a normal distribution. Which share of the numbers that the block returned is negative?

# %%
print("negative numbers:", (out < 0).sum().item(), "of", out.numel())

# %% [markdown]
# None. The block returned `x`, and half of `x` was negative; both statements cannot be true of the same `x`.
#
# **Your turn.** Write `leaves_input_alone(block)`: `True` if the block, which has 16 channels, does not change the tensor
# that it is given. Your test makes that tensor itself.


# %%
def leaves_input_alone(block):
    return ...


check.leaves_input_alone(leaves_input_alone)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `before = x` is a second name for the same tensor. `before = x.clone()` is a copy.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def leaves_input_alone(block):
#     x = torch.randn(2, 16, 8, 8)
#     before = x.clone()
#     block(x)
#     return torch.equal(x, before)
#
#
# check.leaves_input_alone(leaves_input_alone)
# ```
#
# `inplace=True` writes the result over the input. After `self.relu(x)` the name `x` stands for ReLU(x), so the last line
# adds that. And the test of notebook 03 compared the result with the *changed* `x`. In-place ReLUs after a batch norm
# harm nobody: they overwrite a tensor that only they use. Here the first one overwrites what the shortcut still needs.
# The repair:
#
# ```python
# class Block(nn.Module):
#     def __init__(self, channels):
#         super().__init__()
#         self.conv1 = conv3x3(channels, channels)
#         self.bn1 = nn.BatchNorm2d(channels)
#         self.conv2 = conv3x3(channels, channels)
#         self.bn2 = nn.BatchNorm2d(channels)
#         self.relu = nn.ReLU()
#
#     def forward(self, x):
#         out = self.conv1(self.relu(x))
#         out = self.conv2(self.relu(self.bn1(out)))
#         return self.bn2(out) + x
# ```
#
# Seen in the published code of an improved ResNet, where it was found in a drawing of the exported network, and in an
# autoencoder [4]. **The test: is what I handed in still what it was?**
# </details>

# %% [markdown]
# ## 5. All the numbers are right
#
# *"Shape, mean and deviation are what they should be. The network learns from it, but it does not get near what
# others report."*


# %%
def to_inputs(images):
    pixels = images / 255
    pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    return pixels.reshape(-1, 3, 32, 32)


# %%
inputs = to_inputs(test.images)
print("shape:", tuple(inputs.shape))
print("mean near 0:", inputs.mean().abs().item() < 0.05)
print("deviation near 1:", 0.95 < inputs.std().item() < 1.05)

# %% [markdown]
# So look at what the network gets. Normalising is undone first, and the colours go to the last axis, for drawing.
#
# **Predict.** What will you see?

# %%
pixels = inputs[:5].permute(0, 2, 3, 1) * torch.tensor(STD) + torch.tensor(MEAN)
names = [test.classes[label] for label in test.labels[:5]]
plots.show(
    plots.image_row(pixels.clamp(0, 1), names),
    alt="Five test images as the network gets them: stripes and checks in glaring "
    "colours, as of a broken screen. No cat, ship, airplane or frog can be recognised.",
)

# %% [markdown]
# **Your turn.** Write `pixels_in_place(to_inputs)`: `True` if the number at `[n, c, y, x]` of the result comes from
# colour `c` of the pixel in row `y` and column `x` of image `n`. How numbers are *scaled* is not its business.


# %%
def pixels_in_place(to_inputs):
    return ...


check.pixels_in_place(pixels_in_place)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Make a black image (`torch.zeros(1, 32, 32, 3, dtype=torch.uint8)`), and a second one that differs from it in one
# number. Where do the two results differ? Choose the number so that no two axes could be mistaken for one another.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def pixels_in_place(to_inputs):
#     black = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
#     lit = black.clone()
#     lit[0, 5, 7, 2] = 255
#     changed = to_inputs(lit) != to_inputs(black)
#     return changed.nonzero().tolist() == [[0, 2, 5, 7]]
#
#
# check.pixels_in_place(pixels_in_place)
# ```
#
# `reshape` keeps the numbers in their order and only cuts them into rows of another length, so the three colours of a
# pixel end up side by side. `permute` moves the axes. The repair:
#
# ```python
# def to_inputs(images):
#     pixels = images / 255
#     pixels = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
#     return pixels.permute(0, 3, 1, 2)
# ```
#
# Seen where a large toolbox prepares CIFAR-10 for its tests [5], and on Karpathy's list [11]. **The test: light one pixel**, and
# before that: look.
# </details>

# %% [markdown]
# ## 6. How random is this?
#
# *"I crop and mirror at random, as He et al. do. So does my colleague. But when we laid our batches side by side, mine
# looked tidier."*


# %%
def augment(images, generator):
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    top, left = torch.randint(9, (2,), generator=generator)
    images = padded[:, top : top + 32, left : left + 32]
    if torch.rand(1, generator=generator) < 0.5:
        images = images.flip(2)
    return images


# %%
generator = torch.Generator().manual_seed(6)
batch = augment(test.images[:10], generator)
names = [test.classes[label] for label in test.labels[:10]]
plots.show(
    plots.image_row(batch, names),
    alt="Ten test images after augmentation. In each, a black margin about four pixels wide "
    "lies along the bottom and one about two wide at the right; none elsewhere.",
)

# %% [markdown]
# **Your turn.** What do the ten have in common? Write `crops_each_image(augment, image)`: `True` if every image of every
# batch gets a crop of its own. `image` is one image, `(1, 32, 32, 3)`; your test makes the generator.


# %%
def crops_each_image(augment, image):
    return ...


check.crops_each_image(crops_each_image)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `image.expand(50, 32, 32, 3)` is a batch of fifty copies, and `batch.unique(dim=0)` keeps one of each kind. How many
# kinds can mirroring alone make? And "every batch" means that a second call draws anew.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def crops_each_image(augment, image):
#     generator = torch.Generator().manual_seed(0)
#     copies = image.expand(50, 32, 32, 3)
#     first, second = augment(copies, generator), augment(copies, generator)
#     return len(first.unique(dim=0)) > 2 and not torch.equal(first, second)
#
#
# check.crops_each_image(crops_each_image)
# ```
#
# One pair of numbers is drawn for the whole batch, and one coin is thrown for it. Each batch is a little shifted, and
# none is varied. An image is still moved differently from epoch to epoch, so this may cost little. But all images of a
# batch err in the same direction, and a step that averages over them does not average that out. The repair draws for
# each image; the library's function does it with tensors, and this is the same image by image:
#
# ```python
# def augment(images, generator):
#     padded = F.pad(images, (0, 0, 4, 4, 4, 4))
#     crops = []
#     for image in padded:
#         top, left = torch.randint(9, (2,), generator=generator)
#         image = image[top : top + 32, left : left + 32]
#         mirrored = torch.rand(1, generator=generator) < 0.5
#         crops.append(image.flip(1) if mirrored else image)
#     return torch.stack(crops)
# ```
#
# Seen in CIFAR-10 code, where it was mended on the way to more speed; torchvision's transforms, too, draw once if they
# are handed a batch [6]. **The test: copies of one image.**
# </details>

# %% [markdown]
# ## 7. Mixed too well
#
# *"I added mixup. Now the training loss stays high, and the network is worse than without it."*
#
# **Mixup** (Zhang et al. 2018) trains on blends: 70% of one image plus 30% of another, with 70% of the one's label plus
# 30% of the other's.


# %%
def mixup(images, labels, share, generator):
    def mix(values):
        partners = torch.randperm(len(values), generator=generator)
        return share * values + (1 - share) * values[partners]

    return mix(images), mix(F.one_hot(labels, 10))


# %% [markdown]
# With `share=0` nothing is left of an image but its partner, so one can look up who that is.
#
# **Predict.** Each blend is then one whole image. For how many of the 64 is the mixed label that image's own? (In a sound mixup it would be for all 64.)

# %%
generator = torch.Generator().manual_seed(0)
mixed, targets = mixup(images, labels, 0.0, generator)
same = (mixed[:, None] == images).flatten(2).all(dim=2)
partner = same.int().argmax(dim=1)
right = (targets.argmax(dim=1) == labels[partner]).sum().item()
print("every partner found:", same.any(dim=1).all().item())
by_chance = (labels.bincount() ** 2).sum().item() / 64
print(f"have that image's label: {right} of 64")
print(f"by chance, on average: {by_chance:.0f}")

# %% [markdown]
# No more than by chance, where 64 would be right. (A label that belongs to $c$ of the 64 images meets itself $c \cdot c/64$ times on average.)
#
# **Your turn.** Write `keeps_pairs(mixup)`: `True` if image and label are always mixed with the same partner, and in the
# same shares. Any `images` will do, of any size, if there are as many as labels.


# %%
def keeps_pairs(mixup):
    return ...


check.keeps_pairs(keeps_pairs)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Make images that *are* their labels: ten channels of one pixel, and the channel of the label is 1. What must then be
# true of the mixed images and the mixed labels?
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def keeps_pairs(mixup):
#     labels = torch.arange(10)
#     marked = F.one_hot(labels, 10).float()[:, :, None, None]
#     mixed, targets = mixup(marked, labels, 0.7, torch.Generator().manual_seed(0))
#     return torch.allclose(mixed.flatten(1), targets.float())
#
#
# check.keeps_pairs(keeps_pairs)
# ```
#
# `mix` is called twice, and draws new partners each time. The repair draws them once:
#
# ```python
# def mixup(images, labels, share, generator):
#     partners = torch.randperm(len(images), generator=generator)
#
#     def mix(values):
#         return share * values + (1 - share) * values[partners]
#
#     return mix(images), mix(F.one_hot(labels, 10))
# ```
#
# Seen in published research code, whose authors wrote that their method got better on almost all tasks with the
# repair [7]. **The test: marked images.** It finds any loader that gets images and labels out of step.
# </details>

# %% [markdown]
# ## 8. Another batch size, another accuracy
#
# *"My colleague gets another accuracy from my weights. She has a larger machine, so she evaluates in larger batches."*


# %%
def evaluate(network, images, labels, batch_size):
    network.eval()
    accuracies = []
    with torch.no_grad():
        for start in range(0, len(labels), batch_size):
            batch = slice(start, start + batch_size)
            right = network(images[batch]).argmax(dim=1) == labels[batch]
            accuracies.append(right.float().mean())
    return torch.stack(accuracies).mean().item()


# %% [markdown]
# Here is a "network" that says *dog*, whatever it sees. Of the 1,000 test images 100 are dogs, and the last one happens
# to be a dog.
#
# **Predict.** What accuracy does it get in batches of 100? And in batches of 999?


# %%
class SaysDog(nn.Module):
    def forward(self, images):
        dogs = torch.full((len(images),), test.classes.index("dog"))
        return F.one_hot(dogs, 10)


for batch_size in (100, 999):
    accuracy = evaluate(SaysDog(), test.images, test.labels, batch_size)
    print(f"in batches of {batch_size}: {accuracy:.0%}")

# %% [markdown]
# **Your turn.** Write `counts_images(evaluate)`: `True` if it returns the share of images that are right, from 0 to 1,
# whatever the batch size.


# %%
def counts_images(evaluate):
    return ...


check.counts_images(counts_images)

# %% [markdown]
# <details><summary>Hint</summary>
#
# You need no real network. `nn.Identity()` returns what it is given, so the "images" can be the logits that you want it
# to answer. Choose ten of them, so that you know the accuracy, and several batch sizes.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# def counts_images(evaluate):
#     logits = F.one_hot(torch.arange(10), 10).float()
#     labels = torch.tensor([9, 9, 9, 9, 9, 9, 9, 7, 8, 9])  # the last three are right
#     return all(
#         math.isclose(evaluate(nn.Identity(), logits, labels, size), 0.3, rel_tol=1e-4)
#         for size in (1, 3, 4, 10, 99)
#     )
#
#
# check.counts_images(counts_images)
# ```
#
# A mean of means is the mean only where all batches are equally large. The single image of the last batch counted as
# much as the 999 before it. The repair counts images:
#
# ```python
# def evaluate(network, images, labels, batch_size):
#     network.eval()
#     right = 0
#     with torch.no_grad():
#         for start in range(0, len(labels), batch_size):
#             batch = slice(start, start + batch_size)
#             answers = network(images[batch]).argmax(dim=1)
#             right += (answers == labels[batch]).sum().item()
#     return right / len(labels)
# ```
#
# Seen in CIFAR-10 code and in a course [8]. With 10,000 images in batches of 128 the last one has 16 images, which
# count eight times as much as others. That is nothing to notice, and enough to turn round a comparison by a tenth of a
# point. **The test: another batch size, the same result.**
# </details>

# %% [markdown]
# ## 9. Whoever looks, spoils it
#
# *"The loss falls in the first epoch. Then it jumps up to where guessing is, and hardly gets below where it was. The loop is from a tutorial."*


# %%
def fit(network, batches, epochs, test):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    network.train()
    for _ in range(epochs):
        total = 0.0
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(batches))
        test(network)
    return losses


# %% [markdown]
# `test` may be any function of the network. Here is a right one, and one that does nothing.


# %%
def accuracy(network):
    network.eval()
    with torch.no_grad():
        return (network(images).argmax(dim=1) == labels).float().mean().item()


def nothing(network):
    pass


# %% [markdown]
# **Predict.** `accuracy` changes no weight. Will it make a difference which of the two is called after each epoch?

# %%
batches = list(BatchLoader(train, batch_size=50, shuffle=True))[:20]
curves = {}
for look in (accuracy, nothing):
    torch.manual_seed(0)
    curves[look.__name__] = fit(narrow_net(), batches, epochs=4, test=look)

# %%
for name, losses in curves.items():
    print(f"{name:8} last loss 0.2 below the first:", losses[-1] < losses[0] - 0.2)
print("equal in the first epoch:", curves["accuracy"][0] == curves["nothing"][0])

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, losses), color, marker in zip(curves.items(), (plots.RED, plots.BLUE), "os"):
    axes.plot(range(1, 5), losses, color=color, marker=marker, label=f"test={name}")
axes.axhline(math.log(10), color=plots.GREY, linestyle=":", label="guessing, ln 10")
axes.set(
    title="Measured after each epoch, it jumps up and lags behind",
    xlabel="epoch",
    ylabel="training loss",
    xticks=range(1, 5),
)
axes.legend()
plots.show(
    figure,
    alt="Training loss over four epochs. With test=nothing it falls from about 2.2 to "
    "about 1.8. With test=accuracy it is the same in the first epoch, then rises above "
    "guessing, 2.3, and ends far above the other.",
)

# %% [markdown]
# The first epoch is the same to the last bit. After the first *look* the two part. (Where the upper one ends, rounding
# decides: in our runs near guessing, or in `nan`, and then its curve breaks off.)
#
# **Your turn.** Write `trains_in_training_mode(fit)`: `True` if every step of training runs in training mode, whatever
# `test` does to the network, and in whatever mode the network was handed in.


# %%
def trains_in_training_mode(fit):
    return ...


check.trains_in_training_mode(trains_in_training_mode)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Put a spy into the network: a module that passes `x` on and notes `self.training` in a list. Let `test` be a function
# that calls `network.eval()` and does not run the network, so that everything noted comes from training. Batches can be
# tiny: a `torch.rand(4, 3)` and four labels.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# class Spy(nn.Module):
#     def __init__(self):
#         super().__init__()
#         self.modes = []
#
#     def forward(self, x):
#         self.modes.append(self.training)
#         return x
#
#
# def trains_in_training_mode(fit):
#     spy = Spy()
#     network = nn.Sequential(spy, nn.Linear(3, 2)).eval()
#     batches = [(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))]
#     fit(network, batches, 3, lambda network: network.eval())
#     return all(spy.modes)
#
#
# check.trains_in_training_mode(trains_in_training_mode)
# ```
#
# `accuracy` leaves the network in evaluation mode, as such functions do. From the second epoch on batch norm uses its
# running statistics. After twenty batches they are not yet right, so the loss jumps at once. That alone would pass. What
# does not is that they are frozen: nothing is normalised any more while the weights move, and the rate is too high for
# that. (With exact statistics it diverged when we tried it; at a tenth of the rate it trained, with either.) In a
# network without batch norm and dropout nobody would have noticed. The repair is to move one line into the loop:
#
# ```python
# def fit(network, batches, epochs, test):
#     optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
#     losses = []
#     for _ in range(epochs):
#         network.train()
#         total = 0.0
#         for images, labels in batches:
#             optimizer.zero_grad()
#             loss = F.cross_entropy(network(images), labels)
#             loss.backward()
#             optimizer.step()
#             total += loss.item()
#         losses.append(total / len(batches))
#         test(network)
#     return losses
# ```
#
# Seen in several repositories, and reported for PyTorch's own quick start, whose network happens to be of the kind that
# does not mind [9]. **The test: a spy.**
# </details>

# %% [markdown]
# ## 10. The best network is gone
#
# *"It reports the best validation score of the run. When I evaluate the network that it leaves me, the score is lower,
# and always that of the last epoch."*


# %%
def fit_best(network, batches, epochs, score):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    best = -1.0
    for _ in range(epochs):
        network.train()
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
        now = score(network)
        if now > best:
            best, weights = now, network.state_dict()
    network.load_state_dict(weights)
    return best


# %% [markdown]
# To see it on any machine, the scores are given here instead of measured: the second of three epochs is the best. A list
# keeps what the first layer was like each time.

# %%
torch.manual_seed(0)
network, seen = narrow_net(), []
scores = iter([0.5, 0.6, 0.4])


def score(network):
    seen.append(network.conv1.weight.detach().clone())
    return next(scores)


print("reported:", fit_best(network, batches[:2], epochs=3, score=score))
print("left as after epoch:", [torch.equal(network.conv1.weight, w) for w in seen])

# %% [markdown]
# It says that it loads the best weights, and the network is as it was after the third epoch.
#
# **Your turn.** Write `keeps_the_best(fit_best)`: `True` if the network is left exactly as it was when it had its best
# score.


# %%
def keeps_the_best(fit_best):
    return ...


check.keeps_the_best(keeps_the_best)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Do as the cell above: give the scores yourself, and keep a copy each time `score` is called. "Exactly" means everything
# in `state_dict()`, and a network with batch norm has more there than weights.
# </details>
#
# <details><summary>Solution</summary>
#
# ```python
# import copy
#
#
# def keeps_the_best(fit_best):
#     seen, scores = [], iter([0.5, 0.6, 0.4])
#
#     def score(network):
#         seen.append(copy.deepcopy(network.state_dict()))
#         return next(scores)
#
#     network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
#     batches = [(torch.rand(4, 3), torch.tensor([0, 1, 0, 1]))]
#     fit_best(network, batches, 3, score)
#     left = network.state_dict()
#     return all(torch.equal(left[name], seen[1][name]) for name in left)
#
#
# check.keeps_the_best(keeps_the_best)
# ```
#
# `state_dict()` hands out the network's own tensors, and the optimizer changes those in place. What was kept as the best
# went on training, and loading it changes nothing. The repair is a copy:
#
# ```python
# def fit_best(network, batches, epochs, score):
#     optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
#     best = -1.0
#     for _ in range(epochs):
#         network.train()
#         for images, labels in batches:
#             optimizer.zero_grad()
#             F.cross_entropy(network(images), labels).backward()
#             optimizer.step()
#         now = score(network)
#         if now > best:
#             best, weights = now, copy.deepcopy(network.state_dict())
#     network.load_state_dict(weights)
#     return best
# ```
#
# Seen in PyTorch's own tutorials; their page on saving models warns of it now [10]. **The test: scores that you
# choose.** (Choosing an epoch is for the validation split; notebook 04 shows what it does on the test set.)
# </details>

# %% [markdown]
# ## 11. Ten tests to run on any training code
#
# | | test | finds, among others |
# | --- | --- | --- |
# | 1 | **Count** parameters, and compare with a count on paper | shared, missing and dead layers |
# | 2 | **Same image, other company**: in evaluation, alone and in a batch | dropout or batch statistics that are still on, a forgotten `eval()` |
# | 3 | **Overfit one batch** to a loss near 0 | wrong losses, double softmax, outputs squeezed together |
# | 4 | **Input unchanged** after the call | in-place operations on what others still need |
# | 5 | **Look** at what the network gets, and **light one pixel** | axes and colours mixed up |
# | 6 | **Copies of one image** through the augmentation, twice | one draw for all, the same draw every time |
# | 7 | **Marked images** that carry their label | images and labels out of step |
# | 8 | **Another batch size, the same result** | means of means, lost images |
# | 9 | **A spy** in the network | wrong modes, layers called too often or never |
# | 10 | **Results that you choose**, and a known answer | the wrong epoch kept, copies that are none |
#
# They cost seconds. Run them *before* the long training, and keep them: a repaired fault comes back. What they have in
# common: each asks for behaviour that any right version must have, and each needs so little that one can tell the right
# answer beforehand. Two more from other notebooks belong on the list. Compare with an independent implementation (03).
# And look at the first loss, in training mode: a network whose last layer begins near zero starts at ln 10 = 2.3, and a
# residual one may start somewhat above (05, section 6). One that starts far above needs a reason. We once left
# out that last one ourselves: section 7 of notebook 08 tells what came of it.

# %% [markdown]
# ## Summary
#
# - Faults that raise no error are found by tests of behaviour, not by waiting for a bad result.
# - A symptom rarely points at its line: a loss that jumped up to guessing was one call outside a loop.
# - A test is good if it passes all that is right, however it is written, and fails what is wrong. Only seeing it fail
#   shows that it can.
# - A test can have the fault that it looks for: comparing a changed tensor with itself, or keeping a reference as a copy.
# - Small, exact inputs (one lit pixel, an identity as network, scores that you choose) make the right answer known.

# %% [markdown]
# ## Exercises
#
# **1.** Weights saved from PyTorch's `nn.DataParallel` have names that begin with `module.`, such as
# `module.conv1.weight`. Functions `load(network, weights)` are to put such a dictionary into a network. Write
# `loads_weights(load)`: `True` if everything in it arrives. A function may also fail with a `RuntimeError`; your test
# then returns `False`.


# %%
def loads_weights(load):
    return ...


check.loads_weights(loads_weights)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def loads_weights(load):
#     saved, fresh = BasicBlock(8, 8), BasicBlock(8, 8)
#     saved(torch.rand(4, 8, 6, 6))  # in training mode: the statistics move
#     weights = {f"module.{name}": value for name, value in saved.state_dict().items()}
#     try:
#         load(fresh, weights)
#     except RuntimeError:
#         return False
#     loaded = fresh.state_dict()
#     return all(torch.equal(loaded[name], weights[f"module.{name}"]) for name in loaded)
#
#
# check.loads_weights(loads_weights)
# ```
#
# The usual fault is `load_state_dict(weights, strict=False)`, which skips every name that it does not know, and here
# knows none [12]. The network stays random without a word. **The test: save, load, compare everything.**
# </details>

# %% [markdown]
# **2.** Functions `train_epoch(network, batches, optimizer)` take one step for each batch. Write
# `forgets_old_gradients(train_epoch)`: `True` if each step uses the gradient of its own batch's cross-entropy, and
# nothing else. Your test makes the network, the batches and the optimizer (SGD without momentum is easiest).


# %%
def forgets_old_gradients(train_epoch):
    return ...


check.forgets_old_gradients(forgets_old_gradients)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# import copy
#
#
# def forgets_old_gradients(train_epoch):
#     theirs = nn.Linear(3, 2)
#     ours = copy.deepcopy(theirs)
#     batches = [(torch.rand(4, 3), torch.tensor([0, 1, 0, 0])) for _ in range(3)]
#     train_epoch(theirs, batches, torch.optim.SGD(theirs.parameters(), lr=0.1))
#     for x, y in batches:
#         parameters = list(ours.parameters())
#         gradients = torch.autograd.grad(F.cross_entropy(ours(x), y), parameters)
#         for parameter, gradient in zip(parameters, gradients):
#             parameter.data -= 0.1 * gradient
#     return torch.allclose(theirs.weight, ours.weight, atol=1e-6)
#
#
# check.forgets_old_gradients(forgets_old_gradients)
# ```
#
# `torch.autograd.grad` returns gradients and stores none, so the reference cannot have the fault. The usual one is a
# missing `zero_grad` [13]; between `backward` and `step` it is worse than missing.
# </details>

# %% [markdown]
# **3.** *A bug of your own.* Think of a fault that you have made, or could make. Write a right version, a faulty version
# and a test, and hand in all three: `answer = (sound, faulty, find)`, where `find(sound)` is `True` and `find(faulty)`
# is `False`, every time.

# %%
answer = ...
check.bug_of_your_own(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# from resnet_lib.data import random_crop_flip
#
#
# def sound(data, training):
#     pixels = data.images
#     if training:
#         pixels = random_crop_flip(pixels, torch.Generator().manual_seed(0))
#     return normalise(pixels)
#
#
# def faulty(data, training):
#     if training:
#         return sound(data, training)
#     return data.images.permute(0, 3, 1, 2) / 255
#
#
# def find(to_inputs):
#     data = load_cifar10("test", size="bundled")
#     middle = [to_inputs(data, mode)[:, :, 8:24, 8:24] for mode in (True, False)]
#     return (middle[0].std() - middle[1].std()).abs().item() < 0.1
#
#
# answer = (sound, faulty, find)
# check.bug_of_your_own(answer)
# ```
#
# Any bug will do. This one was found in the code of a ResNet whose training accuracy was fine and whose test accuracy
# was not: test images were not normalised [14]. Only the middle of the images is compared, because cropping brings black
# margins into the rest.
# </details>

# %% [markdown]
# ## References
#
# Each fault was found in these public threads (read in 2026; the code there may have been repaired since). The code
# in this notebook is written anew. Those of 1, 2, 4 and 14 are in residual networks, those of 5, 6 and 8 in code for CIFAR-10;
# the others are in other training code.
#
# 1. `[block] * n`: [deep-learning-with-pytorch/dlwpt-code, issue 89](https://github.com/deep-learning-with-pytorch/dlwpt-code/issues/89).
# 2. Dropout made in `forward`, in a `resnet.py`: [yangze0930/NTS-Net, issue 14](https://github.com/yangze0930/NTS-Net/issues/14). `F.dropout` with its defaults: [delip/PyTorchNLPBook, issue 28](https://github.com/delip/PyTorchNLPBook/issues/28).
# 3. Two softmaxes: [tensorflow/swift-models, pull request 491](https://github.com/tensorflow/swift-models/pull/491), image classifiers; [ariecattan/SciCo, issue 2](https://github.com/ariecattan/SciCo/issues/2), with the bound on the loss worked out.
# 4. In-place ReLU before the shortcut: [iduta/iresnet, pull request 2](https://github.com/iduta/iresnet/pull/2); [rosinality/vq-vae-2-pytorch, issue 60](https://github.com/rosinality/vq-vae-2-pytorch/issues/60).
# 5. `reshape` for `transpose`: [Trusted-AI/adversarial-robustness-toolbox, issue 2101](https://github.com/Trusted-AI/adversarial-robustness-toolbox/issues/2101). Red and blue swapped: [open-mmlab/mmpretrain, pull request 280](https://github.com/open-mmlab/mmpretrain/pull/280).
# 6. One crop for a batch, in the code before this change: [cleverhans-lab/cleverhans, pull request 822](https://github.com/cleverhans-lab/cleverhans/pull/822), and what it does, [issue 695](https://github.com/cleverhans-lab/cleverhans/issues/695); torchvision: [pytorch/vision, issue 2929](https://github.com/pytorch/vision/issues/2929).
# 7. Mixup with two permutations: [xudonmao/VMT, issue 1](https://github.com/xudonmao/VMT/issues/1). Mixup: H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, [*mixup: Beyond Empirical Risk Minimization*](https://arxiv.org/abs/1710.09412), 2018.
# 8. Batches taken for equally large: [mitmul/chainer-cifar10, issue 1](https://github.com/mitmul/chainer-cifar10/issues/1); [udacity/deep-learning-v2-pytorch, pull request 74](https://github.com/udacity/deep-learning-v2-pytorch/pull/74).
# 9. Training on in evaluation mode: [wkentaro/pytorch-fcn, pull request 56](https://github.com/wkentaro/pytorch-fcn/pull/56); [ThilinaRajapakse/simpletransformers, issue 941](https://github.com/ThilinaRajapakse/simpletransformers/issues/941); the quick start: [pytorch/tutorials, issue 1624](https://github.com/pytorch/tutorials/issues/1624).
# 10. The best weights kept by reference: [pytorch/tutorials, pull request 188](https://github.com/pytorch/tutorials/pull/188); the warning: [*Saving and Loading Models*](https://docs.pytorch.org/tutorials/beginner/saving_loading_models.html).
# 11. A. Karpathy, [*most common neural net mistakes*](https://threadreaderapp.com/thread/1013244313327681536.html), 2018, and [*A Recipe for Training Neural Networks*](https://karpathy.github.io/2019/04/25/recipe/), 2019.
# 12. `strict=False`: [pytorch/examples, issue 1029](https://github.com/pytorch/examples/issues/1029).
# 13. No `zero_grad`: [wenet-e2e/wekws, pull request 73](https://github.com/wenet-e2e/wekws/pull/73).
# 14. Test images not normalised: [JeasunLok/ResNet-pytorch, issue 1](https://github.com/JeasunLok/ResNet-pytorch/issues/1).
