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
# # Vanishing gradients: why do early layers stop learning?
#
# | | |
# | --- | --- |
# | **Question** | What happens to the gradient on its way from the loss back to the first layer, and when does it die, explode or get through? |
# | **Afterwards you can** | derive the gradient of a deep chain as a product; measure the gradient of every layer of a real network; tell apart the two illnesses that go by the name of vanishing gradients; say when batch normalisation makes gradients explode; judge the usual story against measurements |
# | **You need** | derivatives and the chain rule, a little Python, and what a convolution is; [notebook 00](00_start_here.ipynb) helps |
# | **Time** | 45 minutes to read; the cells run in under a minute on two processor cores |
#
# The usual story: *the gradient of an early layer is a product of many factors between 0 and 1; in a deep network it
# becomes so small that early layers stop learning.* Part of that is true. This notebook finds out which part.

# %%
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from resnet_lib import plots
from resnet_lib.checks import gradients as check
from resnet_lib.data import load_cifar10, normalise
from resnet_lib.gradients import gradient_flow, signal_flow
from resnet_lib.variants import Setting, experiment_net

data = load_cifar10("train", size="bundled")[:64]
images, labels = normalise(data.images), data.labels
print("images:", tuple(images.shape))

# %% [markdown]
# ## 1. A chain of numbers
#
# Begin with the smallest deep network: layers of **one** number each. Every layer multiplies by a weight and applies the
# sigmoid function, $x_{k+1} = \sigma(w_k x_k)$. The chain rule makes the slope of the last number by the first a product:
#
# $$\frac{\mathrm{d} x_L}{\mathrm{d} x_0} = \prod_{k} w_k\,\sigma'(w_k x_k).$$


# %%
def slope_of_chain(x, weights):
    slope = 1.0
    for weight in weights:
        x = torch.sigmoid(weight * x)
        slope = slope * weight * x * (1 - x)  # σ' = σ (1 - σ)
    return slope


# %% [markdown]
# Autograd, PyTorch's machine for derivatives, knows nothing of this formula. It should get the same.


# %%
def value_of_chain(x, weights):
    for weight in weights:
        x = torch.sigmoid(weight * x)
    return x


x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
weights = torch.ones(20, dtype=torch.float64)
by_autograd = torch.autograd.grad(value_of_chain(x, weights), x)[0]
print("equal:", torch.allclose(by_autograd, slope_of_chain(x, weights), rtol=1e-12))

# %% [markdown]
# **Predict.** All 20 weights are 1. By what factor does a change of $x_0$ reach $x_{20}$: a tenth, a thousandth, or how little?

# %%
print(f"about 10^{math.floor(math.log10(by_autograd))}")

# %% [markdown]
# Less than a millionth of a millionth. The reason is in the picture: the slope of the sigmoid is **at most 1/4**, so each layer
# lets through a quarter or less. The slope of tanh is at most 1, and that of ReLU, $\max(0, z)$, is exactly 1 or exactly 0.

# %%
z = torch.linspace(-5, 5, 401, requires_grad=True)
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "ReLU": torch.relu}
for (name, function), style in zip(functions.items(), ("-", "--", "-.")):
    axes.plot(
        z.detach(), torch.autograd.grad(function(z).sum(), z)[0], style, label=name
    )
axes.set(
    title="The sigmoid's slope is at most 1/4", xlabel="z", ylabel="derivative at z"
)
axes.legend()
plots.show(
    figure,
    alt="Derivatives of three activation functions. The sigmoid's is a low hill of "
    "height one quarter, that of tanh a hill of height one, and ReLU's a step "
    "from zero to one.",
)

# %% [markdown]
# ## 2. A real network
#
# Real layers have many numbers, and weights that mix them: each factor becomes a matrix. So measure. The network has 56
# layers: 55 convolutions and a linear layer, built like He et al.'s ResNet-56 but **plain**, without shortcuts. It starts
# with sigmoid activations, He et al.'s ("Kaiming") random weights and no batch normalisation.
#
# The measurement is three lines: one pass forward, one pass back, and the length (norm) of each layer's gradient.

# %%
network = experiment_net(
    Setting(depth=56, activation="sigmoid", batch_norm=False, shortcut="plain")
)
F.cross_entropy(network(images), labels).backward()
norms = [p.grad.norm().item() for p in network.parameters() if p.dim() > 1]

print("layers:", len(norms))

# %% [markdown]
# From now on the library does it: `gradient_flow` returns a table with one row for each layer, and leaves the network as
# it was.

# %%
flow = gradient_flow(network, images, labels)
print(
    "the same norms:",
    torch.allclose(
        torch.tensor(norms), torch.tensor(flow["gradient_norm"]).float(), rtol=1e-3
    ),
)
flow[["name", "kind"]].iloc[[0, 1, 2, -2, -1]]

# %% [markdown]
# **Predict.** Draw the curve in your mind before you run the cell: layer 1 (at the image) on the left, layer 56 (at the
# loss) on the right, gradient norm upwards on a logarithmic axis.

# %%
plots.show(
    plots.gradient_norms(
        {"sigmoid": flow}, "Sigmoid: every layer back takes a share of the gradient"
    ),
    alt="Gradient norm by layer on a logarithmic axis, an almost straight line: from "
    "about one at layer 56 down to less than ten to the minus 25 at layer 1.",
)

# %% [markdown]
# A straight line on a logarithmic axis: each layer back multiplies by about the same factor. This is the **vanishing
# gradient** of the textbooks, in a real network on real images.

# %% [markdown]
# ## 3. What the first layer does with such a gradient
#
# **Predict.** Train this network for 30 steps. By how much will the weights of the first layer have moved? And those of
# the last?


# %%
def moved_after(network, steps=30, lr=0.1, batch=16):
    """Whether each layer's weights differ at all after some steps of SGD."""
    layers = {name: p for name, p in network.named_parameters() if p.dim() > 1}
    before = {name: p.detach().clone() for name, p in layers.items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    for step in range(steps):
        few = slice(batch * (step % 4), batch * (step % 4 + 1))
        optimizer.zero_grad()
        F.cross_entropy(network(images[few]), labels[few]).backward()
        optimizer.step()
    return {name: not torch.equal(p, before[name]) for name, p in layers.items()}


# %%
moved = moved_after(network)
print("the first layer moved:", moved["conv1.weight"])
print("the last layer moved: ", moved["fc.weight"])

# %% [markdown]
# Not by one bit. The last layer moves; the first one has not moved at all.
#
# It is worse than "slowly". Computers keep about seven digits of a number (*float32*). Near 0.1, the next number that
# float32 knows is 7·10⁻⁹ away. Add a step of 10⁻¹² to a weight of 0.1 and the sum rounds back to 0.1: a small enough
# gradient does not mean little learning but **none**, however many steps are taken.

# %% [markdown]
# ## 4. ReLU: no factor below 1, so no vanishing?
#
# ReLU's slope is 1 wherever it is open. That was one reason to use it. Take the same 56 layers with ReLU and two
# usual ways to draw the first weights: normal numbers of size 0.01, as AlexNet did, and Xavier's (Glorot & Bengio
# 2010), which was made to keep signals at the same size.
#
# **Predict.** Vanishing or not? If so, which layers get the least?


# %%
def plain_flow(**setting):
    return gradient_flow(
        experiment_net(Setting(depth=56, shortcut="plain", **setting)).train(),
        images,
        labels,
    )


small = plain_flow(activation="relu", initialisation="normal_0.01", batch_norm=False)
xavier = plain_flow(activation="relu", initialisation="xavier", batch_norm=False)

# %%

# %%
plots.show(
    plots.gradient_norms(
        {"N(0, 0.01²)": small, "Xavier": xavier, "sigmoid, as above": flow},
        "ReLU: small everywhere, first layer or last",
    ),
    alt="Gradient norms by layer for three plain networks. Sigmoid rises from left to "
    "right over many powers of ten. ReLU with Xavier's weights is nearly flat at "
    "about ten to the minus 11; with small normal weights it is exactly zero in "
    "every layer.",
)

# %% [markdown]
# Did you predict a line that falls to the left, as the usual story has it? With Xavier's weights the gradient is tiny, but it is
# **flat**: the last layer gets as little as the first. With weights of size 0.01 it is exactly 0, everywhere.

# %%
ratio = xavier["gradient_norm"].iloc[0] / xavier["gradient_norm"].iloc[-1]
print("first / last between 1/3 and 3:", 1 / 3 < ratio < 3)
print("largest of all below one in a million:", xavier["gradient_norm"].max() < 1e-6)
print("N(0, 0.01²), exactly 0 in every layer:", (small["gradient_norm"] == 0).all())

# %% [markdown]
# So this is another illness with the same name. Look at the signal on its way *forward*: its variance over all images,
# channels and pixels, behind each block.


# %%
def plain_signal(**setting):
    return signal_flow(
        experiment_net(Setting(depth=56, shortcut="plain", **setting)).train(),
        images,
        labels,
    )


# %%
signals = {
    "Xavier, ReLU": plain_signal(
        activation="relu", initialisation="xavier", batch_norm=False
    ),
    "Kaiming, ReLU": plain_signal(
        activation="relu", initialisation="kaiming", batch_norm=False
    ),
    "Kaiming, sigmoid": plain_signal(
        activation="sigmoid", initialisation="kaiming", batch_norm=False
    ),
}

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, signal), style in zip(signals.items(), ("o-", "s-", "^-")):
    axes.plot(2 * signal.index + 1, signal["variance"], style, markersize=4, label=name)
axes.set(
    title="With Xavier's weights ReLU halves the signal",
    xlabel="layer",
    ylabel="variance",
    yscale="log",
)
axes.legend()
plots.show(
    figure,
    alt="Variance of the forward signal by layer, on a logarithmic axis. With "
    "Xavier's weights and ReLU it falls in a straight line by about twenty powers "
    "of ten; with Kaiming's it falls by two or three; with the sigmoid it stays.",
)

# %% [markdown]
# Xavier's weights keep a signal's size through a *linear* layer. Then ReLU sets its negative half to zero, and with it
# **half of its mean square**. After 55 layers $2^{-55}$ is left, about $10^{-17}$. Two smaller losses come on top: each image is padded
# with zeros at its border, and where the channels double, Xavier's compromise between inputs and outputs gives too little. All
# of it can be put in numbers, without running the network:

# %%
halved = 0.5**55
# Of the 3 inputs across an output pixel, the two pixels at the ends of a row of n find one to be padding.
padding = ((94 / 96) ** 19 * (46 / 48) ** 18 * (22 / 24) ** 18) ** 2
doubling = (2 / 3) ** 2
expected = math.log10(halved * padding * doubling)

measured = math.log10(
    signals["Xavier, ReLU"]["variance"].iloc[-1] / images.square().mean()
)
print(
    f"powers of ten lost, expected: {-expected:.0f};",
    f"measured within 1 of it: {abs(measured - expected) < 1}",
)

# %% [markdown]
# In the sigmoid network, on the other hand, the signal keeps its size. Is it in good health then? Not quite: size is not
# information. What a network needs is that *different images give different numbers*. So measure how far the images lie
# apart behind each block, as a share of the signal.

# %%
from resnet_lib.models import BasicBlock


def apart(network):
    """Variance between images over the mean square of all, behind each block."""
    shares = []
    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    hooks = [
        block.register_forward_hook(
            lambda m, i, x: shares.append(x.var(0).mean() / x.square().mean())
        )
        for block in blocks
    ]
    with torch.no_grad():
        network.double()(images.double())
    for hook in hooks:
        hook.remove()
    return torch.stack(shares)


# %% [markdown]
# **Predict.** In which of the three networks do the images stay apart?

# %%
shares = {}
for name in signals:
    start, activation = name.lower().split(", ")
    setting = Setting(56, activation, start, batch_norm=False, shortcut="plain")
    shares[name] = apart(experiment_net(setting))

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, share), style in zip(shares.items(), ("o-", "s--", "^-")):
    axes.plot(2 * torch.arange(27) + 3, share, style, markersize=4, label=name)
axes.set(title="Sigmoid: all images become one", xlabel="layer", yscale="log")
axes.set_ylabel("share of the signal")
axes.legend()
plots.show(
    figure,
    alt="How far images lie apart, as a share of the signal, by layer. Both ReLU "
    "networks have the same nearly level curve near one tenth; for the sigmoid "
    "network it falls in a straight line to ten to the minus 31 at layer 31 and "
    "is level from there on.",
)

# %%
print(
    "Xavier and Kaiming the same:",
    torch.allclose(shares["Xavier, ReLU"], shares["Kaiming, ReLU"], rtol=0.5),
)

# %% [markdown]
# (The sigmoid's curve ends where double precision does: numbers that differ by less are equal.)
#
# In the sigmoid network every layer brings the images closer together, by the same small slopes that shrink the gradient on its way back:
# forwards and backwards it is one and the same product. So the last layer in section 3 did get a gradient, but it sees the same numbers
# for every image; all it can learn is how often each class occurs. The ReLU networks keep the images apart, in
# proportion, whatever the weights' size; with Xavier's everything is just tiny.
#
# | | sigmoid | ReLU with too small weights |
# | --- | --- | --- |
# | forward | keeps its size, but **images become alike** | **everything shrinks**, images stay apart in proportion |
# | backward | large at the last layer, **nothing at the first** | **equally small** in every layer |
#
# Why equally small? Double one layer's weights, any one's, and in a ReLU network without biases the output doubles, whichever layer it
# was. From this follows that the sum of weight × gradient is *the same number in every layer* (Euler's theorem on
# homogeneous functions; Du, Hu & Lee 2018). It can be checked:

# %%
healthy = experiment_net(
    Setting(depth=56, initialisation="kaiming", batch_norm=False, shortcut="plain")
).double()
F.cross_entropy(healthy(images.double()), labels).backward()
sums = torch.stack([(p * p.grad).sum() for p in healthy.parameters() if p.dim() > 1])
print(
    "layers:", len(sums), "  all sums equal:", torch.allclose(sums, sums[0], rtol=1e-6)
)

# %% [markdown]
# ## 5. A repair: Kaiming's weights
#
# If ReLU throws away half, draw weights with twice the variance: that is He et al.'s ("Kaiming") start of 2015,
# $\mathrm{Var}(w) = 2 / n$, where $n$ is the number of inputs to a unit.
#
# **Predict.** What does the curve look like now?

# %%
kaiming = plain_flow(activation="relu", initialisation="kaiming", batch_norm=False)

# %%
plots.show(
    plots.gradient_norms(
        {"Xavier": xavier, "Kaiming": kaiming},
        "Twice the variance: eight powers of ten",
    ),
    alt="Gradient norm by layer for plain ReLU networks of 56 layers. Kaiming's "
    "weights give a few hundredths in every layer, Xavier's about ten to the "
    "minus 11.",
)

# %%
print(
    "at least a million times Xavier's:",
    (kaiming["gradient_norm"] > 1e6 * xavier["gradient_norm"]).all(),
)

# %% [markdown]
# A factor of $\sqrt 2$ in the weights decides over life and death of a 56-layer network. So **with ReLU and Kaiming's start, a plain
# deep network's gradients do not vanish at the start of training**. Keep that in mind whenever the story is told.

# %% [markdown]
# ## 6. Batch normalisation: now it explodes
#
# The networks of the ResNet paper have **batch normalisation** (BN) after every convolution: it sets the mean of
# each channel to 0 and its variance to 1, measured over the batch. The signal cannot die any more.
#
# **Predict.** And the gradient of the plain network? Smaller towards the first layer, larger, or flat?

# %%
normalised = {
    f"depth {depth}": gradient_flow(
        experiment_net(Setting(depth=depth, shortcut="plain")).train(),
        images[:32],
        labels[:32],
    )
    for depth in (20, 56, 110)
}

# %%
plots.show(
    plots.gradient_norms(
        normalised,
        "With batch norm a plain network's gradient explodes towards the image",
    ),
    alt="Gradient norm by layer for plain networks with batch normalisation, 20, 56 "
    "and 110 layers deep. All end near one at the last layer and grow towards the "
    "first, the more the deeper: to hundreds at depth 56 and to hundreds of "
    "thousands at depth 110.",
)

# %%
for name, table in normalised.items():
    times = table["gradient_norm"].iloc[0] / table["gradient_norm"].iloc[-1]
    print(
        f"{name:9}  first over last above 100: {times > 100}, above 10⁵: {times > 1e5}"
    )

# %% [markdown]
# It grows, by a factor per layer: the deeper, the worse. In the very networks whose failure made He et al. invent the shortcut, gradients do not
# vanish but **explode** at the start. Yang et al. (2019) derive this growth for wide networks of this kind. He et al. themselves write (2015, §4.1) that the trouble with
# their deep plain networks is *unlikely* to be vanishing gradients, having checked that the gradients keep healthy norms.
#
# Whether this explosion is what makes deep plain networks hard to train is **disputed**, and cannot be read off here:
# BN makes a network's output independent of its weights' size, so that a large gradient soon grows the weights, and with larger
# weights the gradient shrinks. Notebook 07 looks at gradients *during* training.

# %% [markdown]
# ## 7. All of it at once
#
# Depth, activation, start, BN, shortcut: 567 networks, three seeds of 189 settings, were measured in the same way and are
# recorded with the course. First the plain ones in one picture.

# %%
from resnet_lib.gradient_grid import load_gradient_grid

grid = load_gradient_grid()
axes_of_grid = {name: len(values) for name, values in grid.axes.items()}
print(axes_of_grid)


# %%
def first_layer(activation, start, batch_norm):
    """Gradient norm of a plain network's first layer at each depth, median of seeds."""
    setting = {
        "activation": activation,
        "initialisation": start,
        "batch_norm": batch_norm,
        "shortcut": "plain",
    }
    return [
        grid.setting(depth, **setting)["median"].iloc[0] for depth in grid.axes["depth"]
    ]


# %%
figure, panels = plt.subplots(
    1, 2, figsize=(8.5, 3.8), layout="constrained", sharey=True
)
for panel, batch_norm in zip(panels, (False, True)):
    for activation, marker in (("sigmoid", "^"), ("tanh", "s"), ("relu", "o")):
        for start, color in (("xavier", plots.ORANGE), ("kaiming", plots.BLUE)):
            values = first_layer(activation, start, batch_norm)
            plots.log_line(
                panel,
                grid.axes["depth"],
                values,
                marker,
                color=color,
                label=f"{activation}, {start}",
            )
    panel.set(
        xlabel="depth", title="with batch norm" if batch_norm else "without batch norm"
    )
panels[0].set_ylabel("gradient norm of the first layer")
panels[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Gradient norm of the first layer by depth for plain networks. Without batch "
    "norm, sigmoid falls below ten to the minus 25 at depth 56 and is exactly "
    "zero at 110; ReLU with Xavier's weights falls to ten to the minus 19; the "
    "others stay within a few powers of ten. With batch norm ReLU and tanh rise "
    "with depth, and sigmoid falls.",
)

# %% [markdown]
# Now turn the knobs yourself. Before you choose a preset, say what you expect.

# %%
from resnet_lib.widgets import GradientFlowLab

lab = GradientFlowLab(
    depth=56,
    activation="relu",
    initialisation="xavier",
    batch_norm=False,
    networks="both",
)
lab

# %% [markdown]
# The same setting as a picture, for readers without a running kernel:

# %%
from resnet_lib.lab_figures import gradient_flow_figure

setting = {
    "depth": 56,
    "activation": "relu",
    "initialisation": "xavier",
    "batch_norm": False,
}
both = ("plain", "residual")

# %%
plots.show(
    gradient_flow_figure(
        {name: grid.setting(**setting, shortcut=name) for name in both},
        {name: grid.variance(**setting, shortcut=name) for name in both},
        "ReLU, Xavier, no batch norm: here the shortcut saves signal and gradient",
    ),
    alt="Above, the gradient norm of each layer: plain about ten to the minus 11 "
    "throughout, residual about ten. Below, the variance of the signal: plain "
    "falls by about fifteen powers of ten, residual rises by one or two.",
)

# %% [markdown]
# ## 8. What is left of the story
#
# | the usual story says | measured here |
# | --- | --- |
# | The gradient is a product of factors below 1. | True for sigmoid: at most 1/4 a layer. |
# | So early layers stop learning. | True for sigmoid: not one bit in 30 steps. With ReLU and too small weights *all* layers stop alike, for the signal dies first. |
# | ReLU solves it. | Only with weights of the right size: Xavier's at 56 layers are too small, Kaiming's fit. |
# | Batch norm solves it. | It keeps the signal; the gradient of a plain network then grows towards the image, hundreds of times at 56 layers. |
# | That is why plain deep networks fail. | Not shown. With BN and ReLU nothing vanishes at the start, and He et al. doubt it too. |
#
# What shortcuts change, and where they do *not* help, is [notebook 02](02_shortcut_connections.ipynb).

# %% [markdown]
# ## Summary
#
# - The gradient of a chain is the product of its layers' slopes. The sigmoid's is at most 1/4, so it vanishes.
# - There are two illnesses. With the sigmoid, images become alike on the way forward and the gradient fades on the way back, by the
#   same small slopes. With ReLU and too small weights everything shrinks, and the last layer gets as little as the first.
# - The size of the first weights decides: ReLU halves the mean square, and Kaiming's factor of 2 makes up for it.
# - With batch normalisation a plain network's gradients *explode* towards the image at the start of training.
# - A gradient far below float32's resolution of the weights means no learning at all, however long one trains.

# %% [markdown]
# ## Exercises
#
# **1.** A chain of ten sigmoid layers, all with weight 1. What is the largest that $\mathrm{d}x_{10} / \mathrm{d}x_0$ could be, if
# every layer were at its steepest point?

# %%
answer = ...
check.largest_sigmoid_factor(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 0.25**10
# check.largest_sigmoid_factor(answer)
# ```
#
# σ' is largest at 0, where it is 1/2 · (1 − 1/2) = 1/4. Ten such factors: about one in a million. In truth the layers
# cannot all sit at 0, since σ never gives 0, so it is less.
# </details>
#
# **2.** A signal passes 20 layers with Xavier's weights (in as many channels as out), each followed by ReLU. By what factor does
# its mean square change?

# %%
answer = ...
check.xavier_relu_variance(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# answer = 0.5**20
# check.xavier_relu_variance(answer)
# ```
#
# The weights keep the mean square, ReLU sets half of the values to 0, and with them half of the mean square. Twenty times.
# </details>
#
# **3.** 100 weights of about 0.1, in float32. Each gets a step of 10⁻¹², in the same direction, a thousand times. How
# many of the weights have changed at the end?

# %%
answer = ...
check.weights_that_moved(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# weights = torch.full((100,), 0.1)
# start = weights.clone()
# for _ in range(1000):
#     weights += 1e-12
#
# answer = (weights != start).sum().item()
# check.weights_that_moved(answer)
# ```
#
# None. Every addition is rounded to float32 before the next, and each time it rounds back.
# </details>
#
# **4.** Write `chain_derivative(x, weights)`: the slope at `x` of a chain $\sigma(w_n \cdots \sigma(w_2\,\sigma(w_1 x)))$, for any
# weights.


# %%
def chain_derivative(x, weights):
    return ...


check.chain_derivative(chain_derivative)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def chain_derivative(x, weights):
#     slope = 1.0
#     for weight in weights:
#         x = torch.sigmoid(weight * x)
#         slope = slope * weight * x * (1 - x)
#     return slope
#
#
# check.chain_derivative(chain_derivative)
# ```
#
# The value runs forward through the chain, and each layer's factor is taken at that layer's own value.
# </details>

# %% [markdown]
# ## References
#
# - Y. Bengio, P. Simard, P. Frasconi, *Learning long-term dependencies with gradient descent is difficult*, IEEE Transactions on Neural Networks, 1994.
# - X. Glorot, Y. Bengio, [*Understanding the difficulty of training deep feedforward neural networks*](https://proceedings.mlr.press/v9/glorot10a.html), 2010.
# - K. He, X. Zhang, S. Ren, J. Sun, [*Delving Deep into Rectifiers*](https://arxiv.org/abs/1502.01852), 2015: the factor 2, §2.2.
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: what they say of vanishing gradients, §4.1.
# - S. Du, W. Hu, J. Lee, [*Algorithmic Regularization in Learning Deep Homogeneous Models: Layers are Automatically Balanced*](https://arxiv.org/abs/1806.00900), 2018.
# - G. Yang et al., [*A Mean Field Theory of Batch Normalization*](https://arxiv.org/abs/1902.08129), 2019: gradients explode with depth.
