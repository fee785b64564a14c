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
# | **Question** | What exactly does `+ x` change, in one block and in a chain of 27 of them? |
# | **Afterwards you can** | read a Jacobian and its singular values; say why a block's Jacobian is $I + J_F$ and when a product of such blocks stays near 1; name what breaks the 1, and predict what that does with and without batch norm; judge three published explanations by what they measured |
# | **You need** | [notebook 01](01_vanishing_gradients.ipynb); derivatives, a little Python, and what a convolution is |
# | **Time** | 60 minutes to read; the cells run in under a minute on two processor cores |
#
# The usual story fits on one line, and the README that this course grew out of tells it too: *the chain rule keeps a 1,
# which solves vanishing gradients.* This notebook takes that line apart. Some of it is exactly true, some only under a condition, some fails, and some is open. You will measure which is which, in networks **at the start of training**.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch.func import jacrev

from resnet_lib import plots
from resnet_lib.checks import shortcuts as check
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.models import BasicBlock, ResNet, cifar_resnet

# %% [markdown]
# The notebook works on 16 real photographs.

# %%
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
# and without the shortcut it is just $F'(x)$. That is the 1 of the story. Autograd agrees, for example with
# $F(x) = a \sin x$, whose slope near 0 is about $a$:


# %%
def branch(x, a):
    return a * torch.sin(x)


x = torch.tensor(0.8, requires_grad=True)
(x + branch(x, 0.1)).backward()
by_hand = 1 + 0.1 * torch.cos(x)
print("autograd gives 1 + F'(x):", torch.isclose(x.grad, by_hand).item())

# %% [markdown]
# Now a chain of 27 such blocks, as many as ResNet-56 has (two layers each). By the chain rule the derivative from end
# to end is the product $(1 + F'_1)(1 + F'_2) \cdots (1 + F'_{27})$.
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
        by_autograd = torch.autograd.grad(x, start, retain_graph=True)[0].item()
        rows.append((product, by_autograd))
    return np.array(rows).T


# %%
product, by_autograd = chain(shortcut=1, a=0.1)
print("autograd gives the product:", np.allclose(product, by_autograd))
print("after 27 blocks above 5:", product[-1] > 5)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
curves = {
    "shortcut, F′ ≈ 0.1": chain(1, 0.1)[0],
    "no shortcut, F′ ≈ 0.1": chain(0, 0.1)[0],
    "shortcut, F′ ≈ −0.1": chain(1, -0.1)[0],
}
plots.block_lines(axes, curves, first=1)
axes.set(title="The shortcut keeps the product in sight, not at 1")
axes.set(yscale="log", ylabel="derivative, from end to end")
axes.legend()
plots.show(
    figure,
    alt="Derivative from the start to each of 27 blocks on a logarithmic axis. Without "
    "a shortcut it falls in a straight line to 10 to the minus 27; with one it rises "
    "slowly to about 10, or falls slowly to below 0.1.",
)

# %% [markdown]
# Without shortcuts the product is gone: $0.1^{27} = 10^{-27}$. With them it stays within a factor of about twenty of 1.
# But it is **not 1**: a 1 is *added* in every factor, and then the factors are multiplied. The story's "keeps a 1"
# holds for *one* block; over a chain it depends on how small $F'$ is.

# %% [markdown]
# ## 2. Many numbers: the Jacobian
#
# A real block takes thousands of numbers (channels × rows × columns) and returns as many. Then one derivative is not
# enough. Row $i$, column $j$ of a table says: *if input number $j$ grows a little, how fast does output number $i$
# grow?* That table of all derivatives is the block's **Jacobian** $J$.
#
# For the shortcut alone, $y = x$, every output follows its own input and no other: ones on the diagonal, zeros
# elsewhere. This is the identity matrix $I$. Derivatives of a sum add, so for $y = x + F(x)$
#
# $$J = I + J_F.$$
#
# Check that on a real block and a piece of a real photograph: 3 colours × 4 × 4 pixels are 48 numbers, so the table has
# 48 × 48 entries. `jacrev` from `torch.func` fills it in by autograd, row by row. (`eval()` because a fresh batch norm
# in evaluation mode passes everything on as it is: one thing less to think of. `draw_weights` draws Kaiming's random
# weights, notebook 01, section 5.)

# %%
from resnet_lib.variants import draw_weights

torch.manual_seed(0)
block = BasicBlock(3, 3).double().eval().requires_grad_(False)
draw_weights(block, "kaiming")
piece = images[0, :, 14:18, 14:18].double()


# %%
def residual_branch(x):
    return block.residual_branch(x[None])[0]


J_F = jacrev(residual_branch)(piece).reshape(48, 48)
J = jacrev(lambda x: x + residual_branch(x))(piece).reshape(48, 48)
print("J is I + J_F:", torch.allclose(J, torch.eye(48) + J_F))

# %% [markdown]
# What is a column of this table in practice? Nudge one input number, here number 20, and see how all the outputs move:

# %%
nudge = torch.zeros(48, dtype=torch.float64)
nudge[20] = 1e-6
nudged = piece + nudge.view(3, 4, 4)
moved = (nudged + residual_branch(nudged)) - (piece + residual_branch(piece))
slopes = moved.flatten() / 1e-6
print("they move as column 20 says:", torch.allclose(slopes, J[:, 20], atol=1e-6))

# %% [markdown]
# The block of He et al. has one more step: a ReLU **after** the addition, $y = \mathrm{ReLU}(x + F(x))$. The library's
# `block_jacobian` is the `jacrev` above, for any block; take the whole block now.
#
# **Predict.** What does that ReLU do to the table? Which entries change, and to what?

# %%
from resnet_lib.gradients import block_jacobian

J_block = block_jacobian(block, piece)
is_open = (piece + residual_branch(piece)).flatten() > 0
expected = torch.where(is_open[:, None], J, 0)
print("rows of closed ReLUs are zero, others stay:", torch.allclose(J_block, expected))

# %%
figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
plots.headline(
    figure, "The shortcut adds a diagonal of ones; the ReLU after it erases rows"
)
tables = {"F(x)": J_F, "x + F(x)": J, "ReLU(x + F(x))": J_block}
for axes, (name, table) in zip(panels, tables.items()):
    picture = axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title(name, fontsize="medium", fontweight="normal")
    axes.set(xlabel="input number", xticks=range(0, 48, 16), yticks=range(0, 48, 16))
    axes.grid(visible=False)
panels[0].set_ylabel("output number")
figure.colorbar(picture, ax=panels, label="derivative")
plots.show(
    figure,
    alt="Three square tables of 48 by 48 derivatives. The first has faint stripes in "
    "nine squares; the second has a dark diagonal in addition; in the third some of the "
    "lower rows are blank, their part of the diagonal too.",
)

# %% [markdown]
# The nine squares are the three colours seen by the three colours, and the stripes in them are the convolutions: an
# output sees the pixels around it. In the middle there is the 1 of the story, now one for each of the 48 numbers. On
# the right, every output whose ReLU is closed has lost its row, **its 1 included**. Section 4 comes back to that.

# %% [markdown]
# ## 3. How much gets through: singular values
#
# How "large" is a table of 2,304 numbers? Think of all small changes of the input that have length 1. In two dimensions
# they make a circle, and the Jacobian turns it into an ellipse. The half-axes of the ellipse are the table's
# **singular values**: the largest says how much the most stretched direction grows, the smallest what is left of the
# most squeezed one. If all are 1, nothing is lost and nothing grows. The gradient on its way back meets the same table
# (transposed), and so the same singular values.
#
# Here is the circle after 1, 3, 9 and 27 random 2 × 2 layers $W$ (top), and after $I + W/\sqrt{27}$ with the same
# layers (bottom): a shortcut, and a branch made small. Why small? The next experiment shows it.

# %%
torch.manual_seed(2)
layers = torch.randn(27, 2, 2) / 2**0.5
chains = {"plain": layers, "residual": torch.eye(2) + layers / 27**0.5}
angles = torch.linspace(0, 2 * torch.pi, 200)
circle = torch.stack([angles.cos(), angles.sin()])

# %%
figure, panels = plt.subplots(2, 4, figsize=(9, 5), layout="constrained")
plots.headline(figure, "27 plain layers leave a dot, 27 small branches an ellipse")
for row, (name, matrices) in zip(panels, chains.items()):
    color = plots.kind_color(name)
    for axes, depth in zip(row, (1, 3, 9, 27)):
        product = torch.eye(2)
        for matrix in matrices[:depth]:
            product = matrix @ product
        axes.plot(*circle, color=plots.GREY, linestyle=":")
        axes.plot(*(product @ circle), color=color, linewidth=2)
        axes.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
        axes.set_title(
            f"{name}, layers: {depth}", fontsize="small", fontweight="normal"
        )
plots.show(
    figure,
    alt="A circle after 1, 3, 9 and 27 random layers. In the plain row it becomes a "
    "needle and then a dot; in the residual row it is an ellipse at the end, over twice "
    "as long as the circle and a little narrower.",
)

# %% [markdown]
# Each factor squeezes one direction more than the other, and soon hardly more than a line is left. Then the line shrinks
# to a dot, though the layers are scaled to keep the square of a length *on average*. Rare large products make that
# average; the typical product shrinks. What does one layer do to an arrow of length 1?

# %%
torch.manual_seed(0)
lengths = (torch.randn(100_000, 2) / 2**0.5).norm(dim=1)  # W times such an arrow
typical = lengths.log().mean().exp()
print(f"mean of the square: {lengths.square().mean():.1f}")
print(f"typical length (the exponential of the mean logarithm): {typical:.2f}")
print("typical after 27 layers, below a thousandth:", (typical**27).item() < 1e-3)

# %% [markdown]
# Now real blocks: 27 of them, 4 channels wide so that the tables stay small, without batch norm, on a piece of a
# photograph (8 × 8 pixels: 256 numbers). By the chain rule the Jacobian of many blocks is the product of theirs.

# %%
from resnet_lib.variants import remove_batch_norm


def narrow_net(shortcut, branch_scale=1.0):
    torch.manual_seed(0)
    net = ResNet(BasicBlock, (27,), shortcut=shortcut, widths=(4,))
    net.double().requires_grad_(False)
    draw_weights(net, "kaiming")
    remove_batch_norm(net)
    for block in net.layer1:
        block.conv2.weight *= branch_scale
    return net


# %%
def singular_values(net, function_of=lambda block: block):
    """Of the product of the first 1, 2, …, 27 blocks' Jacobians; a row for each."""
    x = net.relu(net.conv1(images[:1, :, 12:20, 12:20].double()))[0]
    product, rows = torch.eye(256, dtype=torch.float64), []
    for function in map(function_of, net.layer1):
        product = block_jacobian(function, x) @ product
        rows.append(torch.linalg.svdvals(product))
        x = function(x[None])[0]
    return torch.stack(rows)


# %% [markdown]
# **Predict.** There are 256 singular values. After 27 blocks, what share of them is still between 0.1 and 10, that is,
# within a factor of ten of 1? Take four kinds of block: plain; residual as He et al. built it, with a ReLU after the
# addition; the same without that ReLU; and that with its branches made smaller.


# %%
def no_relu(block):
    return lambda x: x + block.residual_branch(x)


# %%
spectra = {
    "ReLU(F(x))": singular_values(narrow_net("none")),
    "ReLU(x + F(x))": singular_values(narrow_net("A")),
    "x + F(x)": singular_values(narrow_net("A"), no_relu),
    "x + F(x) / √27": singular_values(narrow_net("A", 27**-0.5), no_relu),
}

# %%
for name, values in spectra.items():
    near_1 = (values[-1] > 0.1) & (values[-1] < 10)
    print(f"{name:15} {near_1.double().mean():.0%}")

# %%
figure, panels = plt.subplots(
    1, 4, figsize=(11, 3.6), sharey=True, layout="constrained"
)
plots.headline(figure, "Only a clear path with small branches stays near 1")
shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
blocks, band = range(1, 28), {"color": "C0", "linewidth": 0}
for axes, (name, values) in zip(panels, spectra.items()):
    low, lower, median, upper, high = values.clamp(1e-10).quantile(shares, dim=1)
    axes.fill_between(blocks, low, high, alpha=0.2, label="nine tenths", **band)
    axes.fill_between(blocks, lower, upper, alpha=0.4, label="middle half", **band)
    axes.plot(blocks, median, color="C0", label="median")
    axes.axhline(1, color=plots.GREY, linestyle=":")
    axes.set(xlabel="blocks", xticks=[1, 9, 18, 27], yscale="log", ylim=(1e-10, 1e7))
    axes.set_title(name, fontsize="medium", fontweight="normal")
panels[0].set_ylabel("singular values\n(bottom edge: $10^{-10}$ or less)")
panels[3].legend(loc="lower center")
plots.show(
    figure,
    alt="Singular values of the product of 1 to 27 block Jacobians, in four panels on a "
    "logarithmic axis; bands hold the middle half and nine tenths. Plain falls to the "
    "bottom. Residual spreads over ten and more powers of ten, upwards too, both with "
    "and without the ReLU. With small branches it stays between about 0.1 and 10.",
)

# %% [markdown]
# (The median of the plain blocks is at the bottom edge from the first block on; at the left edge is a single block.) So `+ x` alone is not enough. Three things are at
# work:
#
# 1. **Plain** products collapse: most directions are lost altogether.
# 2. On a clear path (third panel) the 1 on the diagonal keeps the middle from collapsing. With the ReLU after the addition (second
#    panel) it does not: over half of the values are lost, in the rows that closed ReLUs erase. And with branches as strong
#    as the shortcut or stronger, as Kaiming's start makes them, the values spread both ways with every block: the largest *grow*, the smallest shrink.
# 3. With branches scaled by $1/\sqrt{27}$, so that all 27 together add about as much variance as one did, the whole
#    product stays near 1.
#
# Call the way through all the additions, around every branch, the **identity path**, and call it clear if nothing else
# stands on it. "Keeps a 1" is true for **small branches on a clear path**.
#
# A net whose singular values are all near 1 is called *dynamically isometric*. Shortcuts are one way to get there, not
# the only one: with a start made for it, Xiao et al. (2018) trained plain tanh nets of 10,000 layers.

# %% [markdown]
# ## 4. What breaks the 1
#
# To see the shortcut alone, silence the branches: ResNet-56, weights from N(0, 0.01²), no batch norm, so that
# $J_F \approx 0$. One backward pass on 16 photographs gives the norm of the gradient between the blocks.

# %%
from resnet_lib.gradients import signal_flow
from resnet_lib.variants import Setting, experiment_net


def gradient_between_blocks(net):
    return signal_flow(net.train(), images, labels)["gradient_norm"].to_numpy()


# %% [markdown]
# **A scale on the shortcut.** If each block computes $\lambda x + F(x)$, the 1 becomes $\lambda$, and through $L$
# blocks $\lambda^L$ is left as long as $J_F \approx 0$ (He et al. 2016, §3).
#
# **Predict.** $\lambda = 0.9$ looks harmless. What is left of the gradient after 27 blocks? And with $\lambda = 0.5$?


# %%
def quiet(shortcut):
    setting = Setting(56, "relu", "normal_0.01", batch_norm=False, shortcut=shortcut)
    return gradient_between_blocks(experiment_net(setting))


# %%
unscaled = quiet("residual")
by_scale = {0.9: quiet("scaled_0.9"), 0.5: quiet("scaled_0.5")}
for scale, gradient in by_scale.items():
    left = gradient[0] / unscaled[0]  # the same place with λ = 1
    within = abs(left / scale**27 - 1) < 0.1
    print(
        f"λ = {scale}: λ²⁷ is {scale**27:.0e}, measured within a tenth of it: {within}"
    )

# %% [markdown]
# The closed form holds. A tenth less at each block leaves 6% after 27 blocks, and a half leaves less than a
# hundred-millionth, of what arrives with $\lambda = 1$.
#
# **An activation after the addition.** In $y = \sigma(x + F(x))$ with the sigmoid $\sigma$, each row of the Jacobian
# $I + J_F$ is multiplied by a slope $\sigma'$, and that is never above 1/4. (This net has Xavier's start and its
# branches are not silent. Measure whether they make up for it.)
#
# **Predict.** Shortcuts in all 27 blocks, but sigmoids in place of the ReLUs. By what factor does the gradient shrink
# from the last block to the first?

# %%
with_sigmoid = Setting(56, "sigmoid", "xavier", batch_norm=False)
sigmoid = gradient_between_blocks(experiment_net(with_sigmoid))
print(
    "each block lets less than 1/4 through:", (sigmoid[:-1] / sigmoid[1:] < 0.25).all()
)
print("first over last, below 1e-16:", sigmoid[0] / sigmoid[-1] < 1e-16)

# %%
still_to_go = 27.0 - np.arange(28)
curves = {"λ = 1": unscaled, "sigmoid": sigmoid}
curves |= {"λ = 0.9": by_scale[0.9], "λ = 0.5": by_scale[0.5]}
curves = {name: gradient / gradient[-1] for name, gradient in curves.items()}
print(f"λ = 1, first over last: {curves['λ = 1'][0]:.1f}")
changes = (unscaled[9] / unscaled[10]) * (unscaled[18] / unscaled[19])
print(f"through the two blocks that change the stage: {changes:.1f}")

# %% [markdown]
# In the picture each gradient is divided by its own at the last block. Even with $\lambda = 1$ only a third of that arrives at
# the first. At each change of stage the shortcut adds channels of zeros, and the gradient that they get goes nowhere: the
# two changes leave a factor of 0.6. (The pixels that the shortcut drops there cost nothing: those that are kept hand on all of
# theirs.) The factor that remains, about one half, is that of the ReLUs after the additions, of which more below. So for $\lambda = 0.9$ look for
# 6% of a third, which is 0.02.

# %%
figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
plots.block_lines(axes, curves)
closed_forms = {"λᵏ · (λ = 1)": 0.9, "": 0.5}
for label, factor in closed_forms.items():
    form = curves["λ = 1"] * factor**still_to_go
    axes.plot(form, "k--", linewidth=1, label=label)
axes.plot(0.25**still_to_go, "k:", linewidth=1, label="(1/4)ᵏ")
axes.set(title="What multiplies the 1 multiplies it 27 times", yscale="log")
axes.set(xlabel="after block (0: in front of the first)")
axes.set(ylabel="gradient, last block = 1")
axes.legend()
plots.show(
    figure,
    alt="Gradient norm between 27 blocks relative to the last, on a logarithmic axis. "
    "With a scale of 1 it is nearly level; with 0.9 it falls to about 0.02 towards the "
    "first block, with 0.5 to 10 to the minus 9, with the sigmoid to 10 to the minus "
    "18. The closed forms lie on the lines; the sigmoid's line is below the dotted one.",
)

# %% [markdown]
# Colours are measured, black is the closed form, with $k$ blocks still to go. Dotted is the most that sigmoids let through
# on the shortcuts alone; the branches do not make up for it.
#
# That was the gradient between the blocks. What do the first layer's *weights* hear?

# %%
from resnet_lib.gradients import gradient_flow

flow = gradient_flow(experiment_net(with_sigmoid), images, labels)
first = flow["gradient_norm"].iloc[0]
print("below 1e-18:", first < 1e-18)

# %% [markdown]
# Less than $10^{-18}$, with a shortcut in every block. **Here the README's story fails**, and you can say why:
# something stands *on* the identity path and multiplies the 1.
#
# **And the ReLU after the addition?** ReLU′ is 1 or 0: what it lets through it does not shrink, but it cuts. The
# identity path of a unit is intact only if the ReLU at the end of *every* block is open for it.
#
# **Predict.** 27 blocks with batch norm, at their start. A *unit* is one number of the signal: one channel at one
# pixel. Each ReLU lets about 80% of the units pass. For what share are all 27 open? If they were independent, it would
# be $0.8^{27} \approx 0.2\%$.


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


# %%
torch.manual_seed(0)
this_one, all_so_far = open_shares(ResNet(BasicBlock, (27,), widths=(16,)))
independent = this_one.cumprod()
print("all 27 open, between 10% and 25%:", 0.1 < all_so_far[-1] < 0.25)
print("over ten times 'if independent':", all_so_far[-1] > 10 * independent[-1])

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
curves = {"this ReLU open": this_one, "all ReLUs so far open": all_so_far}
plots.block_lines(axes, curves, first=1)
axes.plot(range(1, 28), independent, "k--", label="… if independent")
axes.set(title="After 27 blocks one identity path in six is intact")
axes.set(ylabel="share of units", ylim=(0, 1))
axes.legend()
plots.show(
    figure,
    alt="Share of units by block. Each single ReLU is open for 60 to 90 percent. All so "
    "far are open for a share that falls to about a sixth, far above the dashed curve "
    "for independent ReLUs, which falls to nearly zero.",
)

# %% [markdown]
# If you predicted a fraction of a percent: the ReLUs are not independent. After a ReLU $x$ is never negative, so a
# unit with a large $x$ stays open until a branch pulls it below 0. Still, five of six identity paths are cut somewhere;
# what is cut gets on only through branches.
#
# He et al. (2016) therefore moved the ReLU and batch norm to the front of the branch (*pre-activation*), so that
# nothing at all stands on the path. At 110 layers that changed the test error on CIFAR-10 little (from 6.61% to 6.37%),
# at 1,001 layers much (from 7.61% to 4.92%). Batch norm after the addition made it worse (8.17% at 110 layers). The
# numbers are from their tables 2 and 3.

# %% [markdown]
# ## 5. The lab: one shortcut
#
# Now turn the knobs yourself, on a chain of blocks of one number: $\lambda$, $F'$ and what stands on the path. The lab
# shows the product of derivatives and, as a line, its closed form.
#
# **Predict**, then try, with $F' = 0.1$: which is worse over 27 blocks, $\lambda = 0.8$ with nothing on the path, or
# $\lambda = 1$ with tanh? Is it the same with $F' = 0$? And which $F'$ repairs $\lambda = 0.8$?

# %%
from resnet_lib.widgets import ShortcutLab

ShortcutLab()

# %% [markdown]
# The same as a picture that stays when nothing runs, for four settings, all with $F' = 0.1$:


# %%
def derivatives(scale, act, slope=0.1):
    start = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x, rows = start, [1.0]
    for _ in range(27):
        x = act(scale * x + slope * x)
        rows.append(torch.autograd.grad(x, start, retain_graph=True)[0].item())
    return rows


# %%
nothing = torch.nn.Identity()
curves = {
    "λ = 1, nothing": derivatives(1, nothing),
    "λ = 1, sigmoid": derivatives(1, torch.sigmoid),
    "λ = 1, tanh": derivatives(1, torch.tanh),
    "λ = 0.8, nothing": derivatives(0.8, nothing),
}

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
plots.block_lines(axes, curves)
axes.set(title="What stands on the path decides")
axes.set(yscale="log", ylabel="derivative, from end to end")
axes.legend()
plots.show(
    figure,
    alt="Derivative from the start to each of 27 blocks, on a logarithmic axis. With "
    "nothing on the path it rises to about 10; with a scale of 0.8 it falls slowly to "
    "below 0.1, with tanh to below 0.001, and with the sigmoid steeply to 10 to the "
    "minus 17.",
)

# %% [markdown]
# With $F' = 0.1$ tanh is worse: its slope is 1 only at 0, and the branch keeps the signal away from there. With $F' = 0$ the
# signal sinks towards 0, and $\lambda = 0.8$ is the worse. And $F' = 0.2$ repairs $\lambda = 0.8$ exactly,
# for then $\lambda + F' = 1$: it is the *sum* that counts. With one number, that is. A branch of thousands of numbers
# would have to learn a multiple of the identity, and the point of the shortcut is that the identity is there from the
# start.

# %% [markdown]
# ## 6. Too much of a good thing: variance
#
# Section 3 asks for small branches. How large are they? Kaiming's start draws the weights so that a convolution and the
# ReLU after it hand on a signal as strong as the one they were given. The branch's second convolution has no ReLU after
# it that takes half away, so the mean square of $F(x)$ should be about *twice* that of $x$. Padding takes some of it, and the
# ReLU after the addition takes a part of the sum. What is left has to be measured.
#
# **Predict.** Without batch norm, what is the variance of the signal after 27 blocks, if it is about one half in front of
# them? And with batch norm, which sets every branch's variance to 1? (The third network, γ = 0, is explained below its picture.)

# %%
nets = {
    "batch norm": experiment_net(Setting(56)),
    "no batch norm": experiment_net(Setting(56, batch_norm=False)),
    "batch norm, γ = 0": experiment_net(Setting(56, shortcut="zero_gamma")),
}
signals = {name: signal_flow(net.train(), images, labels) for name, net in nets.items()}

# %%
variances = {name: signal["variance"].to_numpy() for name, signal in signals.items()}
start, end = variances["no batch norm"][[0, -1]]
growth = (end / start) ** (1 / 27)
print("no batch norm, growth per block between 1.7 and 2.3:", 1.7 < growth < 2.3)
print(f"batch norm, after 27 blocks about {variances['batch norm'][-1]:.0f}")

# %%
gradients = {
    name: signal["gradient_norm"].to_numpy() for name, signal in signals.items()
}
gradients = {name: gradient / gradient[-1] for name, gradient in gradients.items()}
figure, panels = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)
plots.headline(figure, "Without batch norm variance and gradient explode")
plots.block_lines(panels[0], variances)
plots.block_lines(panels[1], gradients)
panels[0].plot(start * 2 ** np.arange(28), "k--", linewidth=1, label="2 a block")
panels[1].plot(2 ** (still_to_go / 2), "k--", linewidth=1)
panels[0].set(xlabel="after block", ylabel="variance of the signal", yscale="log")
panels[1].set(xlabel="after block", ylabel="gradient, last block = 1", yscale="log")
panels[0].legend()
panels[1].legend(panels[1].lines[-1:], ["√2 a block"])
plots.show(
    figure,
    alt="Left: variance of the signal by block on a logarithmic axis. Without batch "
    "norm it about doubles at each block, to 10 to the 8; with batch norm it grows to "
    "about 7; with gamma 0 it is level but for the changes of stage. Right: the gradient "
    "relative to the last block. At the first block it is ten thousand times larger "
    "without batch norm, about 40 times with; with gamma 0 it drops once, at the last "
    "block, and is level in front of it.",
)

# %% [markdown]
# The variance about doubles in every block, and $2^{27}$ is over a hundred million. (The 2 is measured, in this net; it is
# not a law.) The gradient's norm grows by about $\sqrt 2$ a block on its way back. To see why, send a random gradient
# back through each of the nine blocks of the first stage: through the last ReLU, and then, by $J = I + J_F$, both around
# the branch and through it. (`torch.func.vjp` gives a function that does the second: it multiplies a gradient by
# $J_F^\top$ without writing that table down.)


# %%
def on_the_way_back(block, x):
    gradient = torch.randn_like(x)
    around = gradient * (block(x) > 0)  # what the ReLU after the addition lets pass
    through = torch.func.vjp(block.residual_branch, x)[1](around)[0]
    cosine = F.cosine_similarity(through.flatten(), around.flatten(), dim=0)
    passed, added = around.norm() / gradient.norm(), through.norm() / around.norm()
    return [passed.item() ** 2, added.item() ** 2, cosine.item()]


# %%
torch.manual_seed(0)
net, rows = nets["no batch norm"], []
x = net.relu(net.conv1(images)).detach()
for block in net.layer1:
    rows.append(on_the_way_back(block, x))
    x = block(x).detach()
passed, added, cosine = np.mean(rows, axis=0)
print(f"of the gradient's square the last ReLU lets pass {passed:.1f}")
print(f"the branch adds {added:.1f} times what the shortcut has")
print("their directions' cosine, within 0.1 of 0:", (abs(cosine) < 0.1).item())

# %% [markdown]
# The two have unrelated directions, so the squares of their lengths add up: $0.7 \cdot (1 + 1.8) \approx 2$. So **with
# shortcuts, Kaiming's start and no normalisation, gradients do not vanish: they explode**.
#
# Batch norm changes the arithmetic. It sets every branch's variance to 1, so each block *adds* something instead of
# doubling what is there, and the deeper the block, the smaller a part of the signal its branch is. If you added 27 branches of variance 1 to what is there: it is about 7. A ReLU follows each addition and takes a part of what was added, and each change of stage
# dilutes the signal with channels of zeros (the two steps down). De & Smith (2020) argue that this is the main thing
# batch norm does for residual nets: it makes the branches small. Section 7 measures that part.
#
# **γ = 0** goes all the way (Goyal et al. 2017, §5.1). Batch norm ends with a learned scale γ; if that of each branch's
# last one starts at 0, every block starts as its shortcut alone, and the gradient passes all of them unchanged. (The
# one drop, at the last block, is its ReLU: what is closed there is cut. The same is closed in front of it, so nothing
# more is lost.)
#
# **Predict.** Then $F(x) = 0$ for every image. What gradient do the convolutions in the branches get? And how can such
# a net learn?

# %%
from resnet_lib.variants import residual_blocks

net = nets["batch norm, γ = 0"]
in_branches = gradient_flow(net, images, labels).query("block >= 0")
silent = in_branches["zero_share"] == 1
print("branch convolutions, gradient exactly 0:", silent.sum(), "of", len(silent))

# %%
F.cross_entropy(net(images), labels).backward()
gammas = [block.bn2.weight for block in residual_blocks(net)]
print("every block's γ hears the loss:", all(g.grad.any().item() for g in gammas))

# %% [markdown]
# All 54 convolutions hear exactly nothing in the first step: what they compute is multiplied by 0. But γ itself has a
# gradient, moves, and opens the branches from the second step on.

# %% [markdown]
# ## 7. Breaking the 1 again, now with batch norm
#
# Section 4 was without batch norm. Real ResNets have it in every branch. Break the 1 in two ways that He et al. (2016)
# tried:
#
# - $\lambda = 0.5$ on every shortcut, as before;
# - a **projection** on every shortcut: a 1 × 1 convolution and batch norm in place of the identity (option C of He et
#   al. 2015). Then the Jacobian is $W + J_F$ with a random $W$: no 1 at all.
#
# **Predict.** Depth 56, with batch norm. Will the gradients of these two vanish like $0.5^{27} \approx 10^{-8}$, stay,
# or explode?

# %%
torch.manual_seed(0)
broken = {
    "identity": experiment_net(Setting(56)),
    "plain": experiment_net(Setting(56, shortcut="plain")),
    "λ = 0.5": experiment_net(Setting(56, shortcut="scaled_0.5")),
    "projections": cifar_resnet(56, shortcut="C"),
}

# %%
gradients = {name: gradient_between_blocks(net) for name, net in broken.items()}
gradients = {name: gradient / gradient[-1] for name, gradient in gradients.items()}
for name, gradient in gradients.items():
    print(f"{name:12} first over last: {gradient[0]:.0e}")

# %% [markdown]
# They **explode**, like the plain net. (Thousands, where notebook 01 has hundreds for a plain net with batch norm: those are the gradients of *weights*, these of the signal between blocks.) If you carried $\lambda^L$ over from section 4, you predicted the opposite, and
# the reason is worth a thought: $\lambda^L$ is what comes through *the shortcuts alone*. In section 4 the branches were
# silent. Here batch norm makes every branch as loud as 1, whatever the shortcut does. So measure how much of each block
# *is* branch:


# %%
@torch.no_grad()
def branch_shares(net):
    x, shares = net.relu(net.bn1(net.conv1(images))), []
    for block in net.layer1:
        branch = block.residual_branch(x).var().item()
        shortcut = block.downsample(x).var().item() if block.downsample else 0.0
        shares.append(branch / (branch + shortcut))
        x = block(x)
    return shares


# %%
shares = {name: branch_shares(net) for name, net in broken.items()}
for name, share in shares.items():
    print(f"{name:12} in the ninth block {share[-1]:.0%}")

# %%
figure, panels = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)
plots.headline(figure, "With a broken 1 every block multiplies alike")
plots.block_lines(panels[0], shares, first=1)
plots.block_lines(panels[1], gradients)
panels[0].set(ylabel="branch's share of the variance", ylim=(0, 1.05))
panels[0].set_xlabel("block of the first stage")
panels[1].set(ylabel="gradient, last block = 1", yscale="log", xlabel="after block")
panels[1].legend()
plots.show(
    figure,
    alt="Left: the branch's share of a block's variance over the nine blocks of the "
    "first stage. With identity shortcuts it falls towards a fifth; with a scale of "
    "0.5 it stays above 0.8, with projections at one half; plain is all branch. Right: "
    "gradient norm relative to the last block. Identity rises to about 40 at the first block; the "
    "other three rise in nearly straight lines to thousands.",
)

# %% [markdown]
# With the identity the signal piles up, each new branch is a smaller part of it, and the block's factor approaches 1:
# the gradient grows slowly. With $\lambda = 0.5$ the pile is cut back at every block, and the branch stays large. Projections
# are another matter: their branches are *smaller* than those of $\lambda = 0.5$, and the gradient grows as much. Is it the
# branches at all? Silence them.
#
# **Predict.** Projections on all shortcuts, and γ = 0 in all branches. Does the gradient still explode?

# %%
torch.manual_seed(0)
silent = cifar_resnet(56, shortcut="C")
for block in residual_blocks(silent):
    torch.nn.init.zeros_(block.bn2.weight)
gradient = gradient_between_blocks(silent)
print("no branch at all, first over last above 100:", gradient[0] / gradient[-1] > 100)
print(f"a block: {(gradient[0] / gradient[-1]) ** (1 / 27):.2f}")

# %% [markdown]
# It does, 400 times: 1.25 a block. A projection is a layer of its own, a convolution with batch norm behind a ReLU. By notebook 01, section 6, such a layer
# multiplies the gradient by about 1.2. That explains most of it (1.2²⁷ is about 140), and not all. So with a broken 1 of either kind every block multiplies
# by about the *same* factor above 1 (a straight line on this axis), and depth makes it exponential. Twice as deep:

# %%
torch.manual_seed(0)
deep = {"identity": cifar_resnet(110), "projections": cifar_resnet(110, shortcut="C")}
for name, net in deep.items():
    gradient = gradient_between_blocks(net)
    times = gradient[0] / gradient[-1]
    print(f"{name:12} above 1,000: {times > 1_000}, above 100,000: {times > 100_000}")

# %% [markdown]
# That fits what He et al. (2016, table 1) report for ResNet-110: 6.61% test error with identity shortcuts, 12.22% with
# projections, and with $\lambda = 0.5$ no useful result (over 20%). But that these gradients *cause* those errors is
# not shown here. And in a net of 34 layers, with 16 blocks, He et al. (2015, table 3) had found projections on every
# shortcut slightly *better*. Depth may be why; but data and width differ as well.

# %% [markdown]
# ## 8. Shattered gradients
#
# Size is not everything. A step of training should help more than one image, so the gradients of similar inputs should
# be similar. Walk in a straight line from one photograph towards another, and look at the slope of an output along the
# way. Balduzzi et al. (2017) found that in deep plain nets it looks like *white noise*, in which no value tells
# anything about the next: the gradient is **shattered**.
#
# Their picture is of fully connected ReLU nets from one number to one number, 200 units wide. Ours is of the course's
# convolutional nets with batch norm, at their start: 128 points from a frog half way to a truck, and the slope of the
# first logit. (Batch norm takes mean and variance once, over all 128 points, and keeps them: otherwise a point's slope
# would depend on its neighbours.)
#
# **Predict.** Which of these three curves will look like noise: plain with 8 layers, plain with 56, residual with 56?

# %%
from resnet_lib.gradients import autocorrelation, gradient_along_line

frog, halfway = images[0], torch.lerp(images[0], images[1], 0.5)
line = torch.lerp(frog, halfway, torch.linspace(0, 1, 128).reshape(128, 1, 1, 1))


def slope_along_line(depth, shortcut, batch_norm=True):
    net = experiment_net(Setting(depth, shortcut=shortcut, batch_norm=batch_norm))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # keep the statistics of the last batch alone
    with torch.no_grad():
        net.train()(line)
    return gradient_along_line(net.eval(), frog, halfway, steps=128)["gradient"]


# %%
cases = [(8, "plain"), (56, "plain"), (56, "residual")]
slopes = {f"{name}, {depth}": slope_along_line(depth, name) for depth, name in cases}

# %%
figure, panels = plt.subplots(
    2, 3, figsize=(10, 5.2), layout="constrained", sharex="row", sharey="row"
)
plots.headline(
    figure, "56 plain layers shatter the gradient; with shortcuts neighbours agree"
)
noise = 2 / 128**0.5
colors = (plots.GREEN, plots.ORANGE, plots.BLUE)
for (name, slope), color, column in zip(slopes.items(), colors, panels.T):
    column[0].plot(np.linspace(0, 0.5, 128), slope / abs(slope).max(), color=color)
    column[0].set_title(f"{name} layers", fontsize="medium", fontweight="normal")
    column[0].set_xlabel("frog → truck")
    column[1].axhspan(-noise, noise, color=plots.GREY, alpha=0.4, linewidth=0)
    column[1].bar(range(16), autocorrelation(slope, 15), color=color)
    column[1].set_xlabel("steps apart")
panels[0, 0].set_ylabel("slope / largest")
panels[1, 0].set_ylabel("autocorrelation")
plots.show(
    figure,
    alt="Top: slope of a logit on a line between two photographs. Plain with 8 layers "
    "changes slowly, plain with 56 layers jumps like noise, residual with 56 layers is "
    "rough but not noise. Bottom: autocorrelation up to 15 steps. It falls slowly for 8 "
    "plain layers, is about zero at once for 56 plain layers, and falls over a few "
    "steps for 56 residual ones.",
)

# %%
neighbours = {name: autocorrelation(slope, 1)[1] for name, slope in slopes.items()}
print("plain, 56: no more than white noise has:", abs(neighbours["plain, 56"]) < noise)
print("residual, 56: above 0.5:", neighbours["residual, 56"] > 0.5)

# %% [markdown]
# *Autocorrelation* says how far the slope agrees with itself some steps further on: 1 is full agreement, and white
# noise stays in the grey band 95% of the time. 56 plain layers are in it at once: one small step on, the slope has
# nothing to do with what it was. With shortcuts neighbours still agree, though less than at 8 layers.
#
# The slope of a ReLU net bends where a ReLU opens or closes. So count how often one does on the way, on average over
# all ReLUs.
#
# **Predict.** Which net's ReLUs switch most: 8 plain layers, 56 plain, 56 residual, or 56 plain *without* batch norm?


# %%
@torch.no_grad()
def switches(depth, shortcut, batch_norm=True):
    net = experiment_net(Setting(depth, shortcut=shortcut, batch_norm=batch_norm))
    counts = []

    def count(_module, _inputs, y):
        counts.append(((y[1:] > 0) != (y[:-1] > 0)).float().mean().item() * 127)

    for module in net.train().modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(count)
    net(line)
    return np.mean(counts)


# %%
print("56 plain, above 10 times:", switches(56, "plain") > 10)
print("8 plain, below 2:", switches(8, "plain") < 2)
print("56 residual, below 2:", switches(56, "residual") < 2)
print("56 plain, no batch norm, below 2:", switches(56, "plain", False) < 2)

# %% [markdown]
# Each ReLU of the deep plain net with batch norm switches many times on this short way, those of the other nets
# fewer than two times on average.
# So in these nets **depth alone does not do it**: it takes depth *and* normalisation. Shortcuts hold against it. Does the slope say so too?

# %%
without = {
    name: autocorrelation(slope_along_line(56, name, batch_norm=False), 1)[1]
    for name in ("plain", "residual")
}
for name, value in without.items():
    smoother = value > neighbours[f"{name}, 56"] + 0.1
    print(f"{name}, smoother without batch norm:", smoother)
print("and plain as smooth as residual:", without["plain"] > without["residual"] - 0.3)
print("plain, more than white noise has:", without["plain"] > noise)

# %% tags=["nbval-ignore-output"]
print({name: f"{value:.2f}" for name, value in without.items()})

# %% [markdown]
# It does, though even without batch norm the slope is rougher in the plain net than in the residual one. Two cautions:
# this is one line, at the start of training; and how much of what shortcuts do for training is explained by shattering,
# rather than by the gradients' size or the shape of the loss, is an open question. In its favour, Balduzzi et al.
# removed it from plain nets by a special start ("looks linear") and could then train them very deep without shortcuts.

# %% [markdown]
# ## 9. Long and short paths
#
# Multiply out $(I + J_1)(I + J_2) \cdots (I + J_n)$ (leaving the ReLUs after the additions aside), and you get $2^n$
# terms: one for each choice of going through a block's branch or around it. Veit et al. (2016) call this the
# **unravelled view**. A path of *length* $k$ goes through $k$ branches, and there are $\binom{n}{k}$ of them, most of
# middling length. But how much gradient does a path of each length carry?
#
# As they did, the library sends gradients back along single paths: ResNet-32 with its 15 blocks, 20 random paths of
# each length.
#
# **Predict.** Does a longer path carry more gradient or less? With batch norm, and without?

# %%
from resnet_lib.gradients import path_length_gradients


def paths_of(batch_norm):
    net = experiment_net(Setting(32, batch_norm=batch_norm)).train()
    return path_length_gradients(net, images[:8], labels[:8])


# %%
paths = {"batch norm": paths_of(True), "no batch norm": paths_of(False)}

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
figure.get_layout_engine().set(wspace=0.06)
plots.headline(figure, "Short paths carry more with batch norm, long ones without it")
panels[0].bar(range(16), paths["batch norm"]["paths"], color=plots.GREY)
panels[0].set_ylabel("number of paths")
one_path = {n: t["gradient_norm"] / t["gradient_norm"][0] for n, t in paths.items()}
plots.block_lines(panels[1], one_path)
plots.block_lines(panels[2], {name: table["share"] for name, table in paths.items()})
panels[1].set(ylabel="gradient by one path\n(length 0 = 1)", yscale="log")
panels[1].legend()
panels[2].set(ylabel="share of all paths'\nsquared norms")
for axes in panels:
    axes.set_xlabel("length of the path")
plots.show(
    figure,
    alt="Three panels by path length from 0 to 15. The number of paths is a bell with "
    "its middle at 7 and 8. The gradient of one path falls with length with batch norm "
    "and rises without. The share of each length is a hump, left of the middle with "
    "batch norm and right of it without.",
)

# %%
for name, table in paths.items():
    mean_length = (table["length"] * table["share"]).sum()
    print(f"{name}: mean length below the middle, 7.5:", mean_length < 7.5)

# %% [markdown]
# (The kinks come from sampling: 20 paths of each length. Look at the trend.) With batch norm a detour through a branch costs gradient on average, so shorter paths carry more than their number would say.
# That is Veit et al.'s finding in small: in a **trained** ResNet-110, with 54 blocks, they found most of the gradient
# on paths through 5 to 17 of them. But it depends on the *size of the branches*: without batch norm, Kaiming's branches
# return more than they take, and long paths carry most. With γ = 0 only one path is left at the start, that of length
# 0.
#
# Why squares? Together the paths make up what arrives. But should the norms of their gradients be added up, or the squares of those norms?
#
# **Predict.** There are 32,768 paths. How many times what arrives is the sum of their gradients' norms?

# %%
net = experiment_net(Setting(32)).train()
arrives = signal_flow(net, images[:8], labels[:8])["gradient_norm"].iloc[0]
table = paths["batch norm"]
norms = (table["paths"] * table["gradient_norm"]).sum()
print("sum of norms, over 100 times what arrives:", norms / arrives > 100)
root_of_squares = table["total"].sum() ** 0.5
print(f"root of the sum of squares: {root_of_squares / arrives:.1f} times what arrives")

# %% [markdown]
# The norms add up to far too much, their squares to just what arrives: on the whole the mixed terms cancel, as they would if the gradients of different paths were at right angles to each other (section 6).
#
# The picture of paths has a limit all the same: they share weights, ReLUs and batch statistics, so they are no ensemble of separate networks. "ResNets are ensembles of
# shallow networks" is **disputed**: Greff et al. (2017) read the same experiments, blocks removed or swapped in a
# trained net, as a sign that blocks refine one estimate step by step.

# %% [markdown]
# ## 10. What is left of the story
#
# *The chain rule keeps a 1, which solves vanishing gradients.*
#
# | the story | what you measured | |
# | --- | --- | --- |
# | the derivative of a block is $1 + F'$ | the Jacobian is $I + J_F$, up to rounding (§ 2) | **holds** |
# | so the product stays at 1 | near 1 for small branches on a clear path; with large ones it spreads and grows (§ 1, 3) | **holds under a condition** |
# | so gradients do not vanish | they did not in ReLU nets without batch norm; but with Kaiming's start they explode there (§ 4, 6) | **holds, at a price** |
# | any shortcut will do | $\lambda^L$; a sigmoid after the addition leaves $10^{-18}$ over 27 blocks; a ReLU cuts most identity paths (§ 4) | **fails** |
# | with batch norm it is the same story | it is not: the plain net explodes, and so do nets with a broken 1. A clear shortcut lets the signal pile up, which makes each branch a small part of it (§ 6, 7) | **fails**: it is another mechanism |
# | that is why ResNets train | shattering (§ 8) and paths (§ 9) are further candidates; He et al. (2015, §4.1) themselves think it unlikely that vanishing gradients are the cause | **open** (notebook 07) |

# %% [markdown]
# ## Summary
#
# - The Jacobian is the table of all derivatives. Its singular values say how much of a change, or of a gradient, gets
#   through in each direction.
# - `+ x` adds $I$ to it. A chain multiplies $I + J_F$, and that stays near 1 if the branches are small and nothing stands
#   on the identity path.
# - What does stand on the path multiplies it once a block: $\lambda^L$ is left of it, at most $(1/4)^L$ with a sigmoid; a
#   ReLU cuts.
# - Without batch norm the signal's variance about doubles in every block. With batch norm it grows slowly,
#   here to about 7 after 27 blocks, and with γ = 0 not at all.
# - With batch norm, a broken identity does not make gradients vanish: with $\lambda = 0.5$ or projections they explode,
#   nearly as in the plain twin.
# - All of this is at the start of training. What it means for learning is the question of notebook 07.

# %% [markdown]
# ## Exercises
#
# **1.** A chain of 27 blocks $x + F(x)$ of one number, and every $F'$ is exactly $0.1$. What is the derivative from end
# to end?

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

# %% [markdown]
# **2.** The shortcuts of ResNet-110 (54 blocks) are to be multiplied by a $\lambda$ below 1. The branches are silent.
# How small may $\lambda$ be if half of the gradient is to arrive at the first block? (Four digits are enough.)
#
# *Hint:* write down what 54 blocks leave of the gradient, and set it equal to a half.

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
# $\lambda^{54} = 0.5$, so $\lambda = 0.5^{1/54} \approx 0.9872$. Even 1.3% less at each block costs half.
# </details>

# %% [markdown]
# **3.** Write the Jacobian of a whole block, $\mathrm{ReLU}(x + F(x))$, for a block of $n$ numbers. You get `J_F`, the
# Jacobian of its branch, of shape (n, n), and `z` $= x + F(x)$, of shape (n,), which is what goes into the ReLU.


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
# Row $i$ belongs to output $i$. If its ReLU is closed, the output does not move whatever the input does: the row is 0,
# the 1 on the diagonal included.
# </details>

# %% [markdown]
# **4.** With which of these does the identity path stay exactly $I$? Answer with a set of some of
# `"ReLU in the branch"`, `"batch norm in the branch"`, `"γ = 0 in the branch"`, `"ReLU after the addition"`,
# `"batch norm after the addition"`, `"projection on the shortcut"`, `"dropout on the shortcut"`.

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

# %% [markdown]
# **5.** *Turn a knob.* Keep the ReLU after the addition **and** give the net small branches. First predict what its
# panel will look like. Then put this line in the place of the last entry of `spectra` in section 3, and run that cell
# and the two after it again:
#
# ```python
# "ReLU(x + F(x) / √27)": singular_values(narrow_net("A", 27**-0.5)),
# ```
#
# <details><summary>What to expect</summary>
#
# The largest values stay near 1, as on the clear path: nothing explodes any more. But only about 40% stay between 0.1
# and 10, the median falls below a hundredth, and about as many are at the bottom: the rows of closed ReLUs are 0, and a
# product cannot bring back what one factor sends to 0. Small branches cure the growth, a clear path the cuts; one does
# not replace the other.
# </details>

# %% [markdown]
# ## References
#
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: vanishing gradients are an unlikely cause (§4.1); options A, B and C (table 3).
# - K. He, X. Zhang, S. Ren, J. Sun, [*Identity Mappings in Deep Residual Networks*](https://arxiv.org/abs/1603.05027), 2016: $\lambda^L$ (§3), broken shortcuts (§3.1, table 1), what stands after the addition (§4, tables 2 and 3).
# - A. Veit, M. Wilber, S. Belongie, [*Residual Networks Behave Like Ensembles of Relatively Shallow Networks*](https://arxiv.org/abs/1605.06431), 2016: path lengths (§5).
# - K. Greff, R. Srivastava, J. Schmidhuber, [*Highway and Residual Networks learn Unrolled Iterative Estimation*](https://arxiv.org/abs/1612.07771), 2017: another reading of such experiments.
# - D. Balduzzi et al., [*The Shattered Gradients Problem: If resnets are the answer, then what is the question?*](https://arxiv.org/abs/1702.08591), 2017.
# - P. Goyal et al., [*Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour*](https://arxiv.org/abs/1706.02677), 2017: γ = 0 (§5.1).
# - L. Xiao et al., [*Dynamical Isometry and a Mean Field Theory of CNNs*](https://arxiv.org/abs/1806.05393), 2018: 10,000 plain layers.
# - S. De, S. Smith, [*Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep Networks*](https://arxiv.org/abs/2002.10444), 2020.
