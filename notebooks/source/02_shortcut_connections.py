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
# # Shortcut connections: what exactly does `+ x` change?
#
# | | |
# | --- | --- |
# | **Question** | What exactly does `+ x` change: in one block, and in a chain of 27 of them? |
# | **Afterwards you can** | read a Jacobian and its singular values; say why a block's Jacobian is $I + J_F$ and when a product of such blocks stays near 1; name what breaks the 1, and predict what that does with and without batch norm; judge three published explanations by what they measured |
# | **You need** | [notebook 00](00_start_here.ipynb) and notebook 01; derivatives, a little Python, and what a convolution is |
# | **Time** | 45 minutes to read; the cells run in under a minute on two processor cores |
#
# The usual story is one line long: *"the chain rule keeps a 1, and that solves vanishing gradients."* This notebook takes
# that line apart. Part of it is exactly true, part is true only under a condition, and part fails. You will measure which
# is which.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.func import jacrev

from resnet_lib import plots
from resnet_lib.checks import shortcuts as check
from resnet_lib.data import load_cifar10, normalise

train = load_cifar10("train", size="bundled")
images, labels = normalise(train.images[:16]), train.labels[:16]
print(tuple(images.shape))

# %% [markdown]
# ## 1. One number
#
# Start with a block that takes one number and returns one number: $y = x + F(x)$. Its derivative is
#
# $$\frac{dy}{dx} = 1 + F'(x),$$
#
# and without the shortcut it is just $F'(x)$. That is the 1 of the story. Autograd agrees:


# %%
def branch(x, a):
    return a * torch.sin(x)


x = torch.tensor(0.8, requires_grad=True)
(x + branch(x, 0.1)).backward()
print("autograd gives 1 + F'(x):", torch.isclose(x.grad, 1 + 0.1 * torch.cos(x)).item())

# %% [markdown]
# Now a chain of 27 such blocks, as many as ResNet-56 has. By the chain rule the derivative from end to end is the product
# $(1 + F'_1)(1 + F'_2) \cdots (1 + F'_{27})$.
#
# **Predict.** Let every $F'$ be about $0.1$, small next to 1. What is the product after 27 blocks: about 1, about 10,
# or about 1,000? And if every $F'$ is about $-0.1$? And without the shortcuts?


# %%
def chain(shortcut, a, blocks=27):
    start = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    x, product, rows = start, 1.0, []
    for _ in range(blocks):
        product *= shortcut + a * torch.cos(x).item()
        x = shortcut * x + branch(x, a)
        rows.append((product, torch.autograd.grad(x, start, retain_graph=True)[0].item()))
    return np.array(rows).T


closed_form, measured = chain(shortcut=1, a=0.1)
print("the product of 1 + F' is what autograd gives:", np.allclose(closed_form, measured))
print("after 27 blocks it is above 5:", measured[-1] > 5)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
cases = [(1, 0.1, "shortcut, F′ ≈ 0.1"), (1, -0.1, "shortcut, F′ ≈ −0.1"), (0, 0.1, "no shortcut, F′ ≈ 0.1")]
for (shortcut, a, label), color, marker in zip(cases, (plots.BLUE, plots.GREEN, plots.RED), "o^s"):
    product, by_autograd = chain(shortcut, a)
    axes.plot(range(1, 28), product, color=color)
    axes.plot(range(1, 28), by_autograd, color=color, marker=marker, markersize=4, linestyle="none", label=label)
axes.set(title="The shortcut keeps the product in sight, not at 1", xlabel="block", ylabel="derivative from the start")
axes.set_yscale("log")
axes.legend(loc="lower left")
plots.show(
    figure,
    alt="Derivative from the start to each of 27 blocks on a logarithmic axis. Without a shortcut it falls in a straight "
    "line to 10 to the minus 27; with one it rises slowly to about 10, or falls slowly below 0.1. Lines are the product of "
    "derivatives, marks are autograd, and they agree.",
)

# %% [markdown]
# Without shortcuts the product is gone: $0.1^{27} = 10^{-27}$. With them it stays within a factor of about twenty of 1. But it
# is **not 1**. The 1 is added in every factor, and the factors are still multiplied. The story's "keeps a 1" holds for
# *one* block; over a chain it depends on how small $F'$ is.

# %% [markdown]
# ## 2. Many numbers: the Jacobian
#
# A real block takes thousands of numbers (channels × rows × columns) and returns as many. Then one derivative is not
# enough. Row $i$, column $j$ of a table says: *if input number $j$ grows a little, how much does output number $i$ grow?*
# That table of all derivatives is the block's **Jacobian** $J$.
#
# For the shortcut alone, $y = x$, every output follows its own input and no other: ones on the diagonal, zeros
# elsewhere. This is the identity matrix $I$. Derivatives of a sum add, so for $y = x + F(x)$
#
# $$J = I + J_F.$$
#
# Check that on a real block and a piece of a real photograph: 3 colours × 6 × 6 pixels are 108 numbers, so the table has
# 108 × 108 entries. `jacrev` from `torch.func` fills it in by autograd, one row after the other.

# %%
from resnet_lib.models import BasicBlock
from resnet_lib.variants import draw_weights

torch.manual_seed(0)
block = BasicBlock(3, 3).double().eval().requires_grad_(False)
draw_weights(block, "kaiming")
piece = images[0, :, 13:19, 13:19].double()


def residual_branch(x):
    return block.residual_branch(x[None])[0]


J_F = jacrev(residual_branch)(piece).reshape(108, 108)
J = jacrev(lambda x: x + residual_branch(x))(piece).reshape(108, 108)
print("J is I + J_F:", torch.allclose(J, torch.eye(108) + J_F))

# %% [markdown]
# What is an entry of this table in practice? Nudge one input number, here number 50, and see how all the outputs move:

# %%
nudged = piece.flatten().clone()
nudged[50] += 1e-6
moved = (nudged.view(3, 6, 6) + residual_branch(nudged.view(3, 6, 6))) - (piece + residual_branch(piece))
print("output change per input change is column 50:", torch.allclose(moved.flatten() / 1e-6, J[:, 50], atol=1e-6))

# %% [markdown]
# The block of He et al. has one more step: a ReLU **after** the addition, $y = \mathrm{ReLU}(x + F(x))$.
#
# **Predict.** What does that ReLU do to the table? Which entries change, and to what?

# %%
from resnet_lib.gradients import block_jacobian

J_block = block_jacobian(block, piece)
is_open = (piece + residual_branch(piece)).flatten() > 0
print("rows of closed ReLUs are zero, the others are as they were:", torch.allclose(J_block, is_open[:, None] * J))

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
tables = {"F(x)": J_F, "x + F(x)": J, "ReLU(x + F(x))": J_block}
for axes, (name, table) in zip(panels, tables.items()):
    picture = axes.imshow(table, cmap="RdBu_r", vmin=-1.5, vmax=1.5, interpolation="nearest")
    axes.set(title=name, xlabel="input number")
    axes.grid(visible=False)
panels[0].set_ylabel("output number")
figure.colorbar(picture, ax=panels, label="derivative")
figure.suptitle(
    "The shortcut adds a diagonal of ones; the ReLU after it erases whole rows", x=0.01, ha="left", fontweight="bold"
)
plots.show(
    figure,
    alt="Three square tables of 108 by 108 derivatives. The first has a pattern of bands, the second the same with a clear "
    "red diagonal, the third the same with about half of its rows blank.",
)

# %% [markdown]
# The nine bands are the convolutions at work: an output sees the pixels around it in each of three colours. The diagonal in the
# middle is the 1 of the story, now one for each of the 108 numbers. On the right, every output whose ReLU is closed has
# lost its row, **its 1 included**. Section 4 comes back to that.
#
# `block_jacobian` from the course's library is the `jacrev` above for any block; we use it from here on.

# %% [markdown]
# ## 3. How much gets through: singular values
#
# How "large" is a table of 11,664 numbers? Think of all small changes of the input of length 1: in two dimensions, a circle.
# The Jacobian turns that circle into an ellipse. The half-axes of the ellipse are the table's **singular values**: the
# largest says how much the most stretched direction grows, the smallest how much the most squeezed one is left. If
# all are 1, nothing is lost. The gradient on its way back meets the same table (transposed) and so the same singular values.
#
# Here is the circle behind 1, 3, 9 and 27 random 2 × 2 layers, multiplied up without (top) and with (bottom) a shortcut.

# %%
torch.manual_seed(2)
layers = torch.randn(27, 2, 2) / 2**0.5
angles = torch.linspace(0, 2 * torch.pi, 200)
circle = torch.stack([angles.cos(), angles.sin()])
figure, panels = plt.subplots(2, 4, figsize=(10, 5.2), layout="constrained")
for row, name, matrices in [(0, "plain", layers), (1, "residual", torch.eye(2) + layers / 27**0.5)]:
    product = torch.eye(2)
    for depth, matrix in enumerate(matrices, start=1):
        product = matrix @ product
        if depth in (1, 3, 9, 27):
            axes = panels[row, (1, 3, 9, 27).index(depth)]
            axes.plot(*circle, color=plots.GREY, linestyle=":")
            axes.plot(*(product @ circle), color=plots.BLUE if row else plots.RED, linewidth=2)
            stretch = ", ".join(f"{value:.1g}" for value in torch.linalg.svdvals(product).tolist())
            axes.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], xlabel=f"half-axes {stretch}")
            axes.set_title(f"{name}, {depth} layers" if depth > 1 else f"{name}, 1 layer", fontsize="medium")
figure.suptitle(
    "A product of plain layers flattens the circle, a product of residual ones hardly",
    x=0.01,
    ha="left",
    fontweight="bold",
)
plots.show(
    figure,
    alt="A circle behind 1, 3, 9 and 27 random layers. In the plain row it becomes a needle and then a dot; in the residual "
    "row it stays an ellipse of about the circle's size.",
)

# %% [markdown]
# The layers are random, but scaled so that they keep lengths *on average*. That does not help the plain product: each factor
# squeezes one direction more than the other, and soon almost nothing is left but one line.
#
# Now real blocks: 27 of them, 4 channels wide so that the tables stay small, without batch norm, on a piece of a photograph.
# By the chain rule the Jacobian of many blocks is the product of theirs.

# %%
from resnet_lib.models import ResNet
from resnet_lib.variants import remove_batch_norm


def narrow_net(shortcut, branch_scale=1.0):
    torch.manual_seed(0)
    net = ResNet(BasicBlock, (27,), shortcut=shortcut, widths=(4,)).double().requires_grad_(False)
    draw_weights(net, "kaiming")
    remove_batch_norm(net)
    for block in net.layer1:
        block.conv2.weight *= branch_scale
    return net


def singular_values_by_depth(net, function_of=lambda block: block):
    x = net.relu(net.conv1(images[:1, :, 12:20, 12:20].double()))[0].detach()
    product, rows = torch.eye(x.numel(), dtype=x.dtype), []
    for function in map(function_of, net.layer1):
        product = block_jacobian(function, x) @ product
        x = function(x[None])[0].detach()
        rows.append(torch.linalg.svdvals(product))
    return torch.stack(rows)


# %% [markdown]
# **Predict.** There are 256 singular values for each number of blocks. After 27 blocks, what share of them is still
# between 0.1 and 10, that is, within a factor of ten of 1?
#
# - *plain:* ReLU(F(x))
# - *as built:* ReLU(x + F(x))
# - *nothing on the path:* x + F(x)
# - *and small branches:* x + F(x) / √27


# %%
def nothing_on_the_path(block):
    return lambda x: x + block.residual_branch(x)


spectra = {
    "plain": singular_values_by_depth(narrow_net("none")),
    "as built": singular_values_by_depth(narrow_net("A")),
    "nothing on the path": singular_values_by_depth(narrow_net("A"), nothing_on_the_path),
    "and small branches": singular_values_by_depth(narrow_net("A", 27**-0.5), nothing_on_the_path),
}
for name, values in spectra.items():
    print(f"{name:20} {((values[-1] > 0.1) & (values[-1] < 10)).double().mean():.0%}")

# %%
figure, panels = plt.subplots(1, 4, figsize=(11, 3.6), sharey=True, layout="constrained")
for axes, (name, values) in zip(panels, spectra.items()):
    low, lower, median, upper, high = values.clamp(1e-10).quantile(
        torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95]).double(), dim=1
    )
    axes.fill_between(range(1, 28), low, high, color=plots.BLUE, alpha=0.2, linewidth=0)
    axes.fill_between(range(1, 28), lower, upper, color=plots.BLUE, alpha=0.4, linewidth=0)
    axes.plot(range(1, 28), median, color=plots.BLUE)
    axes.axhline(1, color=plots.GREY, linestyle=":")
    axes.set(xlabel="blocks", yscale="log", ylim=(1e-10, 1e7), xticks=[1, 9, 18, 27])
    axes.set_title(name, fontsize="medium")
panels[0].set_ylabel("singular values\n(bottom: $10^{-10}$ or less)")
figure.suptitle("Only a clear path with small branches stays near 1", x=0.01, ha="left", fontweight="bold")
plots.show(
    figure,
    alt="Singular values of the product of 1 to 27 block Jacobians, in four panels on a logarithmic axis; bands hold the "
    "middle half and nine tenths. Plain falls to the bottom. As built and with a clear path, the band spreads over ten "
    "and more powers of ten, upwards too. With small branches it stays between about 0.1 and 10.",
)

# %% [markdown]
# So `+ x` alone is not enough. Three things are at work:
#
# 1. **Plain** products collapse: most directions are lost altogether.
# 2. The 1 on the diagonal stops the collapse, but if the branch is as large as the shortcut, as it is at this start, then
#    the factors spread, and the largest values *grow* without end.
# 3. With branches scaled by $1/\sqrt{\text{blocks}}$ the whole product stays near 1. "Keeps a 1" is true for **small branches on a
#    clear path**. Batch norm brings about the first of these by itself, as section 6 shows.
#
# Nets with all singular values near 1 are called *dynamically isometric*. With a start made for it, plain nets can
# be too: Xiao et al. (2018) trained 10,000 plain layers that way. Shortcuts are one way to get there, not the only one.

# %% [markdown]
# ## 4. What breaks the 1
#
# To see the shortcut alone, silence the branches: ResNet-56, weights from N(0, 0.01²), no batch norm, so $J_F \approx 0$. One
# backward pass on 16 photographs, and the gradient's norm between the blocks.

# %%
from resnet_lib.gradients import signal_flow
from resnet_lib.variants import Setting, experiment_net


def gradient_between_blocks(net):
    return signal_flow(net.train(), images, labels)["gradient_norm"].to_numpy()


# %% [markdown]
# **A scale on the shortcut.** If each block computes $\lambda x + F(x)$, the 1 becomes $\lambda$, and behind $L$ blocks there is
# $\lambda^L$ left (He et al. 2016, §3).
#
# **Predict.** $\lambda = 0.9$ looks harmless. What is left of the gradient after 27 blocks? And with $\lambda = 0.5$?

# %%
quiet = {"initialisation": "normal_0.01", "batch_norm": False}
by_scale = {
    scale: gradient_between_blocks(experiment_net(Setting(56, **quiet, shortcut=name)))
    for scale, name in {1.0: "residual", 0.9: "scaled_0.9", 0.5: "scaled_0.5"}.items()
}
for scale, gradient in by_scale.items():
    left = gradient[0] / by_scale[1.0][0]
    print(f"λ = {scale}: {left:.0e} of λ = 1; λ to the 27th within a tenth: {abs(left / scale**27 - 1) < 0.1}")

# %% [markdown]
# The closed form holds: a tenth off at each block leaves 6% after 27, and a half leaves less than a hundred-millionth.
#
# **An activation after the addition.** In $y = \sigma(x + F(x))$ with the sigmoid $\sigma$, the Jacobian is $\sigma' \cdot (I + J_F)$, and
# $\sigma'$ is never above 1/4.
#
# **Predict.** Shortcuts in all 27 blocks, but sigmoids in place of the ReLUs. By what factor does the gradient shrink from
# the last block to the first?

# %%
sigmoid = gradient_between_blocks(experiment_net(Setting(56, "sigmoid", "xavier", batch_norm=False)))
shrinkage = sigmoid[:-1] / sigmoid[1:]
print("less than 1/4 gets through every single block:", (shrinkage < 0.25).all())
print("first over last, below 1e-16:", sigmoid[0] / sigmoid[-1] < 1e-16)

# %%
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
blocks = np.arange(28)
identity = by_scale[1.0] / by_scale[1.0][-1]
styles = {1.0: (plots.BLUE, "o"), 0.9: (plots.GREEN, "^"), 0.5: (plots.PURPLE, "D")}
for scale, (color, marker) in styles.items():
    gradient = by_scale[scale]
    axes.plot(
        blocks,
        gradient / gradient[-1],
        color=color,
        marker=marker,
        markersize=4,
        linestyle="none",
        label=f"λ = {scale:g}",
    )
    axes.plot(blocks, identity * scale ** (27.0 - blocks), color=color, linewidth=1)
axes.plot(
    blocks, sigmoid / sigmoid[-1], color=plots.RED, marker="s", markersize=4, linestyle="none", label="sigmoid after +"
)
axes.plot(blocks, 0.25 ** (27.0 - blocks), color=plots.RED, linewidth=1, linestyle="--")
axes.set(
    title="The 1 has to stand alone: what multiplies it is multiplied 27 times",
    xlabel="behind block (0: in front of the first)",
    ylabel="gradient, last block = 1",
)
axes.set_yscale("log")
axes.legend(loc="lower right")
plots.show(
    figure,
    alt="Gradient norm between 27 blocks relative to the last, on a logarithmic axis. With a scale of 1 it is nearly level; with 0.9 "
    "it falls to about 0.02 towards the first block, with 0.5 to 10 to the minus 9, with the sigmoid to 10 to the minus 18. "
    "Lines of the closed forms go through the marks; the sigmoid stays below its dashed bound.",
)

# %% [markdown]
# Marks are measured. Thin lines are $\lambda$ to the power of the blocks still to go; the dashed one is the sigmoid's bound $(1/4)^{27-\ell}$.
# (The two small steps of the blue line are the changes of stage: there the shortcut drops every second pixel row and column, and what
# belongs to the new channels of zeros ends there.) The same at the first *weights*, from the library, with 64 photographs:

# %%
from resnet_lib.gradients import gradient_flow

more_images, more_labels = normalise(train.images[:64]), train.labels[:64]
flow = gradient_flow(experiment_net(Setting(56, "sigmoid", "xavier", batch_norm=False)), more_images, more_labels)
print("first layer's gradient between 1e-20 and 1e-18:", 1e-20 < flow["gradient_norm"].iloc[0] < 1e-18)

# %% [markdown]
# With a shortcut in every block, the first layer hears $10^{-19}$. **Here the README's story fails**, and you can say why:
# something stands *on* the identity path and multiplies the 1.
#
# **And the ReLU after the addition?** ReLU′ is 1 or 0: it never shrinks a gradient, but it cuts. The identity path of one unit is
# intact only if the ReLU behind *every* block is open for it.
#
# **Predict.** 27 blocks with batch norm at their start. Each ReLU lets about 80% of the units pass. For what share are all 27 open?
# If they were independent, it would be $0.8^{27} \approx 0.2\%$.


# %%
@torch.no_grad()
def open_shares(net):
    x = net.relu(net.bn1(net.conv1(images)))
    all_open, rows = torch.ones_like(x, dtype=torch.bool), []
    for block in net.layer1:
        x = block(x)
        all_open &= x > 0
        rows.append([(x > 0).float().mean().item(), all_open.float().mean().item()])
    return np.array(rows).T


torch.manual_seed(0)
this_one, all_so_far = open_shares(ResNet(BasicBlock, (27,), widths=(16,)))

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
axes.plot(range(1, 28), this_one, color=plots.BLUE, marker="o", markersize=4, label="this ReLU open")
axes.plot(range(1, 28), all_so_far, color=plots.ORANGE, marker="s", markersize=4, label="all ReLUs so far open")
axes.plot(range(1, 28), this_one.cumprod(), color=plots.GREY, linestyle="--", label="… if they were independent")
axes.set(
    title="After 27 blocks a quarter of the identity paths is intact",
    xlabel="block",
    ylabel="share of units",
    ylim=(0, 1),
)
axes.legend()
plots.show(
    figure,
    alt="Share of units by block. Each single ReLU is open for 65 to 90 percent. All so far are open for a share that falls "
    "to about a quarter, far above the dashed curve for independent ReLUs, which falls to nearly zero.",
)

# %%
print("all 27 open, share between 15% and 35%:", 0.15 < all_so_far[-1] < 0.35)
print("at least ten times as many as if independent:", all_so_far[-1] > 10 * this_one.prod())

# %% [markdown]
# If you predicted a fraction of a percent, the reason it is more is worth knowing: behind a ReLU $x$ is never negative, so a unit with a
# large $x$ stays open unless the branch pulls it below 0. Still, most identity paths are cut somewhere.
#
# He et al. (2016) therefore moved the ReLU (and batch norm) to the front of the branch, *pre-activation*, so that nothing at all
# stands on the path. At 110 layers that made little difference to the error on CIFAR-10 (6.37% against 6.61%); at 1,001 layers more (4.92% against
# 7.61%). Batch norm after the addition made it worse (8.17% at 110 layers). All of these are test errors from their tables 2 and 3.

# %% [markdown]
# ## 5. The lab: one shortcut
#
# All of this fits on one slider each. Below is a chain of blocks of one number with
# $\lambda$, $F'$ and what stands on the path in your hands. It shows the product of derivatives and, as a line, the closed form.
#
# **Predict**, then try: which is worse over 27 blocks, $\lambda = 0.8$ with nothing on the path, or $\lambda = 1$ with tanh? And which $F'$ repairs
# $\lambda = 0.8$?

# %%
from resnet_lib.widgets import ShortcutLab

ShortcutLab()

# %% [markdown]
# If no kernel and no browser script runs, here is the lab's picture for four settings, all with $F' = 0.1$:


# %%
def derivatives(scale, activation, slope=0.1, blocks=27):
    start = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x, rows = start, [1.0]
    for _ in range(blocks):
        x = activation(scale * x + slope * x)
        rows.append(torch.autograd.grad(x, start, retain_graph=True)[0].item())
    return rows


figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
settings = {
    "λ = 1, nothing": (1, lambda z: z),
    "λ = 0.8, nothing": (0.8, lambda z: z),
    "λ = 1, tanh": (1, torch.tanh),
    "λ = 1, sigmoid": (1, torch.sigmoid),
}
for (name, setting), color, marker in zip(settings.items(), (plots.BLUE, plots.PURPLE, plots.GREEN, plots.RED), "oD^s"):
    axes.plot(derivatives(*setting), color=color, marker=marker, markersize=4, label=name)
axes.set(title="What stands on the path decides", xlabel="block", ylabel="derivative from the start", yscale="log")
axes.legend()
plots.show(
    figure,
    alt="Derivative from the start to each of 27 blocks, on a logarithmic axis. With nothing on the path it rises to about 10; with a "
    "scale of 0.8 it falls slowly to below 0.1, with tanh a little lower or higher, and with the sigmoid steeply to 10 to the minus 17.",
)

# %% [markdown]
# ## 6. Too much of a good thing: variance
#
# Section 3 said that branches must be small. How large are they? Kaiming's start draws the weights so that a branch returns a signal about as strong as
# the one it was given. Then $x + F(x)$ has *twice* the variance of $x$.
#
# **Predict.** Without batch norm, what is the variance of the signal behind 27 blocks, if it is about 1 in front of them? And with batch
# norm, which sets every branch's variance to 1?

# %%
nets = {
    "no batch norm": experiment_net(Setting(56, batch_norm=False)),
    "batch norm": experiment_net(Setting(56)),
    "batch norm, γ = 0": experiment_net(Setting(56, shortcut="zero_gamma")),
}
signals = {name: signal_flow(net.train(), images, labels) for name, net in nets.items()}
variance = signals["no batch norm"]["variance"]
print("growth per block, 1.7 to 2.3:", 1.7 < (variance.iloc[-1] / variance.iloc[0]) ** (1 / 27) < 2.3)

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for (name, signal), color, marker in zip(signals.items(), (plots.RED, plots.BLUE, plots.GREEN), "so^"):
    panels[0].plot(blocks, signal["variance"], color=color, marker=marker, markersize=4, label=name)
    panels[1].plot(
        blocks, signal["gradient_norm"] / signal["gradient_norm"].iloc[-1], color=color, marker=marker, markersize=4
    )
panels[0].plot(blocks, variance.iloc[0] * 2.0**blocks, color=plots.GREY, linestyle="--", label="doubling")
panels[1].plot(blocks, 2.0 ** ((27 - blocks) / 2), color=plots.GREY, linestyle="--")
panels[0].set(title="Variance of the signal", yscale="log", xlabel="behind block")
panels[1].set(title="Gradient norm, last block = 1", yscale="log", xlabel="behind block")
panels[0].legend()
plots.show(
    figure,
    alt="Left: variance of the signal by block on a logarithmic axis. Without batch norm it doubles at each block, to 10 to the 8; "
    "with batch norm it grows to about 7; with gamma 0 it is level. Right: the gradient relative to the last block. Without batch norm "
    "it is ten thousand times larger at the first block, with batch norm about 40 times, with gamma 0 it is level.",
)

# %% [markdown]
# $2^{27}$ is over a hundred million, and that is what comes out. The gradient grows by $\sqrt 2$ a block on its way back (dashed), since a norm is
# a root of a sum of squares. So **with shortcuts and without normalisation gradients do not vanish, they explode**.
#
# Batch norm changes the arithmetic. Each branch now *adds* about 1 instead of doubling what is there: the variance grows like the
# block's number $\ell$, and the $\ell$-th branch is only $1/(\ell + 1)$ of it. The further in, the nearer each block is to the identity. De & Smith
# (2020) argue that this is the main thing batch norm does for residual nets. Section 7 measures that share.
#
# **γ = 0** goes all the way (Goyal et al. 2017, §5.1). A batch norm ends with a learned scale γ; if the branch's last one starts
# at 0, every block starts as its shortcut alone.
#
# **Predict.** Then $F(x) = 0$ for every image. What gradient do the convolutions in the branches get? And how can such a net learn?

# %%
net = nets["batch norm, γ = 0"]
in_branches = gradient_flow(net, images, labels).query("block >= 0")
print(
    "branch convolutions whose gradient is exactly 0:", (in_branches["zero_share"] == 1).sum(), "of", len(in_branches)
)
torch.nn.functional.cross_entropy(net(images), labels).backward()
print("every γ hears the loss:", all((block.bn2.weight.grad != 0).any().item() for block in net.layer3))

# %% [markdown]
# All 54 convolutions hear exactly nothing in the first step: what they compute is multiplied by 0. But γ itself has a gradient, moves, and opens
# the branches from the second step on.

# %% [markdown]
# ## 7. Breaking the 1 again, now with batch norm
#
# Section 4 was without batch norm. Real ResNets have it in every branch. Break the 1 in two ways He et al. (2016) tried:
#
# - $\lambda = 0.5$ on every shortcut, as before;
# - a **projection** on every shortcut: a learned 1 × 1 convolution with batch norm in place of the identity (option C of He et al. 2015). Its Jacobian is
#   $W + J_F$ with a random $W$: no 1 at all.
#
# **Predict.** Depth 56, with batch norm. Will the gradients of these two vanish like $0.5^{27} \approx 10^{-8}$, stay, or explode?

# %%
torch.manual_seed(0)
from resnet_lib.models import cifar_resnet

broken = {
    "identity": experiment_net(Setting(56)),
    "λ = 0.5": experiment_net(Setting(56, shortcut="scaled_0.5")),
    "projections": cifar_resnet(56, shortcut="C"),
    "plain": experiment_net(Setting(56, shortcut="plain")),
}
gradients = {name: gradient_between_blocks(net) for name, net in broken.items()}
for name, gradient in gradients.items():
    print(f"{name:12} first over last: {gradient[0] / gradient[-1]:.0e}")

# %% [markdown]
# They **explode**, and come close to the plain net, which explodes most. If you carried $\lambda^L$ over from section 4, you predicted the opposite, and the
# reason is instructive: $\lambda^L$ is what comes through *the shortcuts*. There, the branches were silent. Here batch norm makes every
# branch as loud as 1, whatever the shortcut does. So look at how much of each block *is* branch:


# %%
@torch.no_grad()
def branch_shares(net):
    x, shares = net.relu(net.bn1(net.conv1(images))), []
    for block in net.layer1:
        branch, shortcut = block.residual_branch(x).var(), block.downsample(x).var()
        shares.append((branch / (branch + shortcut)).item())
        x = block(x)
    return shares


shares = {name: branch_shares(net) for name, net in broken.items() if name != "plain"}
print({name: f"{share[-1]:.0%}" for name, share in shares.items()})

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for (name, gradient), color, marker in zip(
    gradients.items(), (plots.BLUE, plots.PURPLE, plots.ORANGE, plots.RED), "oDvs"
):
    panels[1].plot(blocks, gradient / gradient[-1], color=color, marker=marker, markersize=4, label=name)
    if name in shares:
        panels[0].plot(range(1, 10), shares[name], color=color, marker=marker)
panels[0].set(title="The branch's share of the variance", ylim=(0, 1), xlabel="block (first stage)")
panels[1].set(title="Gradient norm, last block = 1", yscale="log", xlabel="behind block")
panels[1].legend()
plots.show(
    figure,
    alt="Left: the branch's share of a block's variance over the nine blocks of the first stage. With identity shortcuts it falls "
    "towards a fifth; with a scale of 0.5 it stays above 0.8, with projections at one half. Right: gradient norm relative to the last block. Identity "
    "rises to about 40 at the first block; the other three rise to thousands.",
)

# %% [markdown]
# With the identity the signal piles up, so each new branch is a smaller part of it and the factors approach 1: their product grows slowly. With
# $\lambda = 0.5$ the pile is halved at every block, and with projections it is normalised away: the branch's share stays put, every block multiplies the
# gradient by the *same* factor above 1, and the product is exponential in depth. Twice the depth shows the difference:

# %%
torch.manual_seed(0)
deep = {"identity": experiment_net(Setting(110)), "projections": cifar_resnet(110, shortcut="C")}
deep = {name: gradient_between_blocks(net) for name, net in deep.items()}
print("identity, 110 layers, first over last below 1,000:", deep["identity"][0] / deep["identity"][-1] < 1e3)
print("projections, 110 layers, above 100,000:", deep["projections"][0] / deep["projections"][-1] > 1e5)

# %% [markdown]
# That fits what He et al. (2016, table 1) report for ResNet-110: 6.61% test error with identity shortcuts, 12.22% with projections, and with $\lambda = 0.5$ (branch
# unscaled) no success at all. Be careful, though: that these gradients *cause* those errors is not shown here. And at 34
# layers, He et al. (2015, table 3) found projections on every shortcut slightly *better*: 16 blocks are few enough.

# %% [markdown]
# ## 8. Shattered gradients
#
# Norms are not everything. Walk in a straight line from one photograph to another and look at the gradient along the way. If neighbouring points
# disagree about it, a step that helps one image does nothing for the next. Balduzzi et al. (2017) found that in deep plain nets the gradient looks like
# white noise: it is **shattered**.
#
# Their clearest picture is of fully connected ReLU nets from one number to one number, 200 units wide. Ours is a harder test of the same idea: the course's
# convolutional nets with batch norm at their start, 256 points between a frog and a truck, and the derivative of the first logit along the line.
#
# **Predict.** Which of these three curves will look like noise: plain with 8 layers, plain with 56, residual with 56?

# %%
from resnet_lib.gradients import autocorrelation, gradient_along_line


def slope_along_line(depth, shortcut, **changes):
    net = experiment_net(Setting(depth, shortcut=shortcut, **changes)).train()
    return gradient_along_line(net, images[0], images[1], steps=256)["gradient"].to_numpy()


slopes = {
    f"{shortcut}, {depth} layers": slope_along_line(depth, shortcut)
    for depth, shortcut in [(8, "plain"), (56, "plain"), (56, "residual")]
}

# %%
figure, panels = plt.subplots(2, 3, figsize=(10, 4.8), layout="constrained", sharex="row", sharey="row")
for (name, slope), color, (upper, lower) in zip(slopes.items(), (plots.GREEN, plots.RED, plots.BLUE), panels.T):
    upper.plot(np.linspace(0, 1, 256), slope / abs(slope).max(), color=color, linewidth=1)
    upper.set(title=name, xlabel="frog → truck")
    lower.bar(range(16), autocorrelation(slope, 15), color=color)
    lower.axhspan(-2 / 16, 2 / 16, color=plots.GREY, alpha=0.3, linewidth=0)
    lower.set(xlabel="steps apart")
panels[0, 0].set_ylabel("slope / largest")
panels[1, 0].set_ylabel("autocorrelation")
plots.show(
    figure,
    alt="Top: slope of a logit on the line between two photographs. Plain with 8 layers changes smoothly, plain with 56 layers jumps like noise, "
    "residual with 56 layers is rough but not noise. Bottom: autocorrelation up to 15 steps. It falls slowly for 8 plain layers, is about zero at once "
    "for 56 plain layers, and falls over a few steps for 56 residual ones.",
)

# %%
neighbours = {name: autocorrelation(slope, 1)[1] for name, slope in slopes.items()}
print("plain, 56 layers: neighbours within the band of white noise:", abs(neighbours["plain, 56 layers"]) < 2 / 16)
print("residual, 56 layers: neighbours agree (above 0.5):", neighbours["residual, 56 layers"] > 0.5)

# %% [markdown]
# The grey band is where 95% of white noise's values lie. 56 plain layers are in it at once: at one 256th of the way, the gradient knows nothing of
# its neighbour. With shortcuts neighbours still agree, less than at 8 layers.
#
# Is it the depth, then? **Predict** what happens to both nets *without* batch norm.

# %%
without = {
    shortcut: autocorrelation(slope_along_line(56, shortcut, batch_norm=False), 1)[1]
    for shortcut in ("plain", "residual")
}
print("plain, no batch norm: neighbours agree (above 0.3):", without["plain"] > 0.3)
print("residual, no batch norm: above 0.9:", without["residual"] > 0.9)

# %% [markdown]
# Both are *smoother* without batch norm. It centres the signal in front of every ReLU, so that the line crosses many more of their kinks. So shattering is not a matter of depth
# and shortcuts alone: the very normalisation that makes deep nets trainable shatters more. Shortcuts are what limits it.
#
# Two cautions. This is one line at the start of training, and it is disputed how much shattering, rather than the size of the gradients or the shape of the loss, explains
# what shortcuts do for training. In its favour: Balduzzi et al. removed it from plain nets by a special start ("looks linear") and could then
# train them very deep without shortcuts.

# %% [markdown]
# ## 9. Long and short paths
#
# Multiply out $(I + J_1)(I + J_2) \cdots (I + J_n)$ and you get $2^n$ terms: one for each choice of going through a block's branch or around it. Veit et al.
# (2016) call this the **unravelled view**. A path of *length* $k$ uses $k$ branches, and there are $\binom{n}{k}$ of them. Most have middling length. But
# how much gradient does a path of each length carry?
#
# The library sends gradients back along single paths, as they did: ResNet-32 with its 15 blocks, 20 random paths of each length.
#
# **Predict.** Does a longer path carry more gradient or less? With batch norm, and without?

# %%
from resnet_lib.gradients import path_length_gradients

paths = {
    name: path_length_gradients(experiment_net(Setting(32, batch_norm=norm)).train(), images[:8], labels[:8])
    for name, norm in {"batch norm": True, "no batch norm": False}.items()
}

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
panels[0].bar(paths["batch norm"]["length"], paths["batch norm"]["paths"], color=plots.GREY)
panels[0].set(title="How many paths", xlabel="length")
for (name, table), color, marker in zip(paths.items(), (plots.BLUE, plots.RED), "os"):
    single = table["gradient_norm"] / table["gradient_norm"].iloc[0]
    panels[1].plot(table["length"], single, color=color, marker=marker, label=name)
    panels[2].plot(table["length"], table["share"], color=color, marker=marker)
panels[1].set(title="Gradient of one path, length 0 = 1", xlabel="length", yscale="log")
panels[2].set(title="Share of all paths' norms", xlabel="length")
panels[1].legend()
plots.show(
    figure,
    alt="Three panels by path length from 0 to 15. The number of paths is a bell with its middle at 7 and 8. The gradient of one path falls with length with batch "
    "norm and rises without. The share of each length is a bell, left of the middle with batch norm and right of it without.",
)

# %%
mean_length = {name: (table["length"] * table["share"]).sum() for name, table in paths.items()}
print("with batch norm shorter than the middle, 7.5:", mean_length["batch norm"] < 7.5)
print("without it longer:", mean_length["no batch norm"] > 7.5)

# %% [markdown]
# With batch norm each detour through a branch costs gradient, so shorter paths carry more than their number would say. That is Veit et al.'s finding in small: in a **trained** ResNet-110 (54 blocks) they found most of the gradient on
# paths through 5 to 17 blocks. But it hangs on the *scale of the branches*: without batch norm, Kaiming's branches return more than they take, and long paths carry most. With γ = 0
# there is exactly one path, of length 0.
#
# And the picture has a limit that you can measure. If paths were independent contributions, their norms would tell how much arrives.

# %%
arrives = gradient_between_blocks(experiment_net(Setting(32)))[0]
print(
    "all paths' norms together, over the gradient that arrives, above 20:",
    paths["batch norm"]["total"].sum() / arrives > 20,
)

# %% [markdown]
# The paths' norms add up to many times what arrives: paths point in different directions and mostly cancel. They also share weights, ReLUs and batch statistics, so they are not an
# ensemble of separate networks. "ResNets are ensembles of shallow networks" is **disputed**: Greff et al. (2017) explain the same lesion experiments by blocks that refine one
# estimate step by step.

# %% [markdown]
# ## 10. What is left of the story
#
# *"The chain rule keeps a 1, which solves vanishing gradients."*
#
# | the story | what you measured | |
# | --- | --- | --- |
# | the derivative of a block is $1 + F'$ | the Jacobian is $I + J_F$, to rounding (§ 2) | **holds** |
# | so the product stays at 1 | it is near 1 only for small branches on a clear path; otherwise it spreads and grows (§ 1, 3) | **holds under a condition** |
# | so gradients do not vanish | true for ReLU nets without batch norm; there, they explode with Kaiming's start (§ 4, 6) | **holds, at a price** |
# | any shortcut does it | $\lambda^L$; a sigmoid after the addition leaves $10^{-18}$; a ReLU cuts most identity paths (§ 4) | **fails** |
# | with batch norm too, it is about vanishing | the plain net explodes; so do nets with a broken 1. The shortcut keeps each branch a small part of the signal (§ 7) | **fails**: other mechanism |
# | that is why ResNets train | shattering (§ 8) and paths (§ 9) are further candidates; He et al. (2015, §4.1) themselves think vanishing gradients unlikely to be the cause | **open** (notebook 07) |

# %% [markdown]
# ## Summary
#
# - A Jacobian is the table of all derivatives; its singular values say how much of a change, or of a gradient, gets through in each direction.
# - `+ x` adds $I$ to it. A chain multiplies $I + J_F$, and that stays near 1 if the branches are small and nothing stands on the identity path.
# - What does stand on the path is raised to the power of the depth: $\lambda^L$, at most $(1/4)^L$ for a sigmoid; a ReLU cuts.
# - Without batch norm the signal's variance doubles in every block. Batch norm makes it grow by one share per block, γ = 0 not at all.
# - With batch norm, a broken identity does not make gradients vanish: it makes the net behave like its plain twin, whose gradients explode.
# - All of this is at the start of training. What it means for learning is the question of notebook 07.

# %% [markdown]
# ## Exercises
#
# **1.** A chain of 27 blocks $x + F(x)$ of one number, and every $F'$ is exactly $0.1$. What is the derivative from end to end?

# %%
answer = ...
check.product_of_blocks(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = (1 + 0.1) ** 27
# check.product_of_blocks(answer)
# ```
#
# Each factor is 1.1, and there are 27 of them: about 13.
# </details>
#
# **2.** The shortcuts of ResNet-110 (54 blocks) are to be multiplied by a $\lambda$ below 1. The branches are silent. How small may $\lambda$ be if half of the gradient is to
# arrive at the first block? (Four digits are enough.)

# %%
answer = ...
check.smallest_scale(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 0.5 ** (1 / 54)
# check.smallest_scale(answer)
# ```
#
# $\lambda^{54} = 0.5$, so $\lambda = 0.5^{1/54} \approx 0.9872$. Even 1.3% off at each block costs half.
# </details>
#
# **3.** Write the Jacobian of a whole block, $\mathrm{ReLU}(x + F(x))$. Given are `J_F`, the Jacobian of its branch, (n, n), and `z` $= x + F(x)$, (n,), what goes into
# the ReLU.


# %%
def relu_block_jacobian(J_F, z):
    return ...


check.relu_block_jacobian(relu_block_jacobian)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def relu_block_jacobian(J_F, z):
#     return (z > 0)[:, None] * (torch.eye(len(z)) + J_F)
#
#
# check.relu_block_jacobian(relu_block_jacobian)
# ```
#
# Row $i$ belongs to output $i$. If its ReLU is closed, the output does not move whatever the input does: the row is 0, the 1 on the diagonal included.
# </details>
#
# **4.** With which of these does the identity path stay exactly $I$? Answer with a set of some of `"ReLU in the branch"`, `"batch norm in the branch"`,
# `"γ = 0 in the branch"`, `"ReLU after the addition"`, `"batch norm after the addition"`, `"projection on the shortcut"`, `"dropout on the shortcut"`.

# %%
answer = ...
check.clear_path(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = {"ReLU in the branch", "batch norm in the branch", "γ = 0 in the branch"}
# check.clear_path(answer)
# ```
#
# Whatever is in the branch changes $J_F$ only. What stands after the addition or on the shortcut multiplies the $I$.
# </details>
#
# **5.** *Turn a knob.* In section 3, give the net *as built* (with its ReLU after the addition) small branches: `narrow_net("A", 27**-0.5)`. Predict first what its panel will
# look like.
#
# <details><summary>What to expect</summary>
#
# The upper half of the values stays near 1, as on the clear path: nothing explodes any more. But the lower part is at the bottom: the rows of closed ReLUs are 0, and a product keeps every zero.
# Small branches cure the growth, a clear path the cuts; one does not replace the other.
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: degradation is unlikely to come from vanishing gradients (§4.1); options A, B, C (table 3).
# - K. He, X. Zhang, S. Ren, J. Sun, [*Identity Mappings in Deep Residual Networks*](https://arxiv.org/abs/1603.05027), 2016: $\lambda^L$ (§3), broken shortcuts (§3.1, table 1), what stands after the addition (§4, tables 2 and 3).
# - A. Veit, M. Wilber, S. Belongie, [*Residual Networks Behave Like Ensembles of Relatively Shallow Networks*](https://arxiv.org/abs/1605.06431), 2016: path lengths (§5).
# - K. Greff, R. Srivastava, J. Schmidhuber, [*Highway and Residual Networks learn Unrolled Iterative Estimation*](https://arxiv.org/abs/1612.07771), 2017: another reading of the same experiments.
# - D. Balduzzi et al., [*The Shattered Gradients Problem: If resnets are the answer, then what is the question?*](https://arxiv.org/abs/1702.08591), 2017.
# - P. Goyal et al., [*Accurate, Large Minibatch SGD*](https://arxiv.org/abs/1706.02677), 2017: γ = 0 (§5.1).
# - L. Xiao et al., [*Dynamical Isometry and a Mean Field Theory of CNNs*](https://arxiv.org/abs/1806.05393), 2018: 10,000 plain layers.
# - G. Yang et al., [*A Mean Field Theory of Batch Normalization*](https://arxiv.org/abs/1902.08129), 2019: why gradients explode in plain nets with batch norm.
# - S. De, S. Smith, [*Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks*](https://arxiv.org/abs/2002.10444), 2020.
