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
# | **Afterwards you can** | derive the gradient of a deep chain as a product; measure the gradient of every layer of a real network; tell apart two illnesses that go by the name of vanishing gradients; say when batch normalisation makes gradients grow instead; judge the usual story against measurements |
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

# A colour for each way to draw the first weights, in every figure of this notebook.
KAIMING, XAVIER, NORMAL = plots.BLUE, plots.ORANGE, plots.GREEN

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
# Less than a millionth of a millionth. The reason is in the picture: the slope of the sigmoid is **at most 1/4**, so with
# weights of 1 each layer lets through a quarter or less. (Larger weights could make up for some of it.) The slope of tanh is at most 1, and that of ReLU, $\max(0, z)$, is exactly 1 or exactly 0.

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
# Real layers have many numbers, and weights that mix them: each factor becomes a matrix $J_k$ of derivatives, and the
# gradient travels back through their product. With $\mathcal{L}$ for the loss and $n$ layers, $\partial \mathcal{L}/\partial x_0 = J_1^\top J_2^\top \cdots J_n^\top\, \partial \mathcal{L}/\partial x_n$. That cannot be
# done in the head, so measure. (This is the gradient of the *signal*. What is measured below is that of each layer's *weights*, which training uses; section 4 tells the two apart.) The network has 56 layers: 55 convolutions and a linear layer, built like He et al.'s
# ResNet-56 but **plain**, without shortcuts. It starts with sigmoid activations and what is called Kaiming's random weights
# (section 5), and has no batch normalisation (section 6).
#
# Its parts have names that this course uses throughout. The first convolution is the **stem**, `conv1`. Then come three
# **stages**, `layer1` to `layer3`: where a new one begins, the channels double and the picture's sides halve. A stage has 9
# **blocks** of two convolutions each. So `layer1.0.conv1` is the first convolution of block 0, the first, of stage 1. The
# linear layer at the end is `fc`.
#
# The measurement is three lines: one pass forward, one pass back, and the length (norm) of each layer's gradient.

# %%
network = experiment_net(
    Setting(depth=56, activation="sigmoid", batch_norm=False, shortcut="plain")
)
F.cross_entropy(network(images), labels).backward()
weights = [p for p in network.parameters() if p.dim() > 1]  # not the biases
norms = [weight.grad.norm().item() for weight in weights]

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
        {"sigmoid": flow},
        "Sigmoid: each layer on the way back takes its share",
        colors=[KAIMING],
        markers="^",
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
# Not by one bit. The last layer moves, and so do those just before it; the first layers have not moved at all.

# %%
print("of", len(moved), "layers fewer than half moved:", sum(moved.values()) < 28)

# %% [markdown]
# It is worse than "slowly". Computers keep about seven digits of a number (*float32*). Near 0.1, the next number that
# float32 knows is 7·10⁻⁹ away. Add a step of 10⁻¹² to a weight of 0.1 and the sum rounds back to 0.1: a small enough
# gradient does not mean little learning but **none**, for as long as it stays that small.

# %% [markdown]
# ## 4. ReLU: no factor below 1, so no vanishing?
#
# ReLU's slope is 1 wherever it is open. That was one reason to use it. Take the same 56 layers with ReLU and two
# usual ways to draw the first weights (the network's *initialisation*, here its *start*): normal numbers of size 0.01, as
# AlexNet did, and Xavier's (Glorot & Bengio 2010), which was made to keep signals at the same size.
#
# **Predict.** Vanishing or not? If so, which layers get the least?


# %%
def plain(**setting):
    """A plain network of 56 layers without batch norm."""
    return experiment_net(Setting(56, batch_norm=False, shortcut="plain", **setting))


small = gradient_flow(plain(initialisation="normal_0.01"), images, labels)
xavier = gradient_flow(plain(initialisation="xavier"), images, labels)

# %%
plots.show(
    plots.gradient_norms(
        {"N(0, 0.01²)": small, "Xavier": xavier, "sigmoid, as above": flow},
        "ReLU: small everywhere, first layer or last",
        colors=[NORMAL, XAVIER, KAIMING],
        markers="oo^",
    ),
    alt="Gradient norms by layer for three plain networks. Sigmoid rises from left to "
    "right over many powers of ten. ReLU with Xavier's weights is nearly flat at "
    "about ten to the minus 10; with small normal weights it is exactly zero in "
    "every layer.",
)

# %% [markdown]
# Did you predict a line that falls to the left, as the usual story has it? With Xavier's weights the gradient is tiny,
# but it is **flat**: the last layer's weights get as little as the first's. With weights of size 0.01 it is exactly 0: the
# signal falls below 10⁻⁴⁵, the smallest number that float32 has, and becomes 0.

# %%
ratio = xavier["gradient_norm"].iloc[0] / xavier["gradient_norm"].iloc[-1]
print("first / last between 1/3 and 3:", 1 / 3 < ratio < 3)
print("largest of all below one in a million:", xavier["gradient_norm"].max() < 1e-6)
print("N(0, 0.01²), exactly 0 in every layer:", (small["gradient_norm"] == 0).all())

# %% [markdown]
# To understand that, look at the two things that travel through a network: the *signal* on its way forward, and *its*
# gradient (not the weights') on its way back. `signal_flow` measures both after each block of two layers. (A signal's
# size is its root mean square.)

# %%
signals = {
    "Xavier, ReLU": signal_flow(plain(initialisation="xavier"), images, labels),
    "Kaiming, sigmoid": signal_flow(plain(activation="sigmoid"), images, labels),
}
for signal in signals.values():
    signal["size"] = (signal["variance"] + signal["mean"] ** 2) ** 0.5

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for (name, signal), color, marker in zip(signals.items(), (XAVIER, KAIMING), "o^"):
    layers = 2 * signal.index + 1  # the stem is layer 1, then two layers a block
    for panel, column in zip(panels, ("size", "gradient_norm")):
        values = signal[column]
        plots.log_line(
            panel, layers, values, marker, color=color, markersize=4, label=name
        )
panels[0].set(title="Forward: the signal's size", xlabel="layer")
panels[1].set(title="Back: the norm of its gradient", xlabel="layer")
panels[0].legend()
plots.show(
    figure,
    alt="Two pictures by layer, on logarithmic axes. Forward, the signal's size falls "
    "by about ten powers of ten in the ReLU network and is level in the sigmoid one. "
    "Back, from right to left, the signal's gradient falls in both: by about nine "
    "powers of ten with ReLU, by nearly thirty with the sigmoid.",
)

# %% [markdown]
# The gradient that travels back vanishes in **both**. The difference is the way forward. A weight's gradient is a product
# of the two: *what comes forward into its layer* times *what comes back to its output*. In the ReLU network both shrink by
# about the same factor a layer, one from the left, the other from the right, so their product is about the same in every
# layer. In the sigmoid network the signal keeps its size, and the way back alone decides.

# %%
signal = signals["Xavier, ReLU"]
forward, back = signal["size"], signal["gradient_norm"]
product = forward * back
for name, values in {"forward": forward, "back": back, "product": product}.items():
    span = values.max() / values.min()
    print(
        f"{name:8} spans more than a factor of 10⁷: {span > 1e7}, of 100: {span > 100}"
    )

# %% [markdown]
# Where does the ReLU network's signal go? Xavier's weights keep a signal's size through a *linear* layer. Then ReLU sets its
# negative half to zero, and with it **half of its mean square**: after 55 layers $2^{-55}$ is left, about $10^{-17}$. The rest is
# lost to the zeros around each image's border, and where the channels grow, for there Xavier's compromise
# between inputs and outputs draws too small weights. All of it can be put in numbers, as an average over all draws of the
# weights, without running the network:

# %%
halved = 0.5**55
# A row of outputs, each the mean of three inputs side by side, with zeros beyond the ends.
row = torch.ones(32)
for layer in range(55):
    padded = F.pad(row, (1, 1))
    row = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    if layer in (19, 37):  # here the image is halved
        row = row[::2]
padding = row.mean().item() ** 2  # rows and columns
channels = (6 / 19) * (2 / 3) ** 2  # 3 to 16, then 16 to 32 and 32 to 64

# %%
lost = {"ReLU": halved, "channels": channels, "borders": padding}
for name, share in lost.items():
    print(
        f"powers of ten that the mean square loses by {name}: {-math.log10(share):.1f}"
    )
expected = -math.log10(math.prod(lost.values()))
measured = -math.log10(signal["size"].iloc[-1] ** 2 / images.square().mean())
print("measured, within three powers of their sum:", abs(measured - expected) < 3)

# %% [markdown]
# Together 18. One draw of the weights is not the average: in eight draws of ours it was 16 to 21, and mostly more than 18,
# for a few large ones lift the average above what is typical ([notebook 02](02_shortcut_connections.ipynb), section 3).
#
# In the sigmoid network, on the other hand, the signal keeps its size. Is it in good health then? Size is not
# information: what a network needs is that *different images give different numbers*. So measure how far the images lie
# apart after each block: the variance between images, as a share of the signal's mean square.

# %%
from resnet_lib.models import BasicBlock


def apart(network):
    """Variance between images over the mean square of all, after each block."""
    shares = []

    def look(module, inputs, output):
        shares.append(output.var(0).mean() / output.square().mean())

    blocks = [module for module in network.modules() if isinstance(module, BasicBlock)]
    hooks = [block.register_forward_hook(look) for block in blocks]
    with torch.no_grad():
        network.double()(images.double())
    for hook in hooks:
        hook.remove()
    return torch.stack(shares)


# %% [markdown]
# (A *hook* is a function that PyTorch calls whenever the block has run. The numbers are kept in double precision, 16 digits, to
# see far down.)
#
# **Predict.** In which of the three networks do the images stay apart?

# %%
shares = {
    "Xavier, ReLU": apart(plain(initialisation="xavier")),
    "Kaiming, ReLU": apart(plain(initialisation="kaiming")),
    "Kaiming, sigmoid": apart(plain(activation="sigmoid")),
}
layers = 2 * torch.arange(27) + 3

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
styles = (XAVIER, "o-", 7), (KAIMING, "o--", 4), (KAIMING, "^-", 4)
for (name, share), (color, style, size) in zip(shares.items(), styles):
    axes.plot(layers, share, style, color=color, markersize=size, label=name)
axes.set(title="Sigmoid: all images become one", xlabel="layer", yscale="log")
axes.set_ylabel("variance between images\nover mean square")
axes.legend()
plots.show(
    figure,
    alt="How far images lie apart, as a share of the signal, by layer. Both ReLU "
    "networks have the same curve, one on top of the other, which falls slowly from about one half to one "
    "tenth. For the sigmoid network it falls in a straight line to ten to the minus "
    "31 at layer 31 and is level from there on.",
)

# %% [markdown]
# In the sigmoid network every layer brings the images closer together, until they differ by less than double
# precision can tell. The last layer in section 3 did get a gradient, but it sees the same numbers for every image: all it can learn
# is how often each class occurs. In theory (Schoenholz et al. 2017) this loss on the way forward and the gradient's loss on
# the way back are one and the same factor a layer. Here it is, both ways:

# %%
apart_by_layer = (shares["Kaiming, sigmoid"][12] / shares["Kaiming, sigmoid"][0]) ** 0.5
norms = flow["gradient_norm"]
forward, back = apart_by_layer ** (1 / 24), (norms.iloc[1] / norms.iloc[51]) ** (1 / 50)
print(f"forward, a layer: {forward:.1f}")
print(f"back, a layer:    {back:.1f}")
print("the same within a tenth:", abs(forward / back - 1).item() < 0.1)

# %% [markdown]
# The ReLU networks bring the images together only slowly, and both alike: the size of the weights passes through ReLU as a
# mere factor. With Xavier's weights everything is just tiny.

# %%
same = torch.allclose(shares["Xavier, ReLU"], shares["Kaiming, ReLU"], rtol=1e-4)
print("Xavier and Kaiming the same:", same)

# %% [markdown]
# | | sigmoid | ReLU with too small weights |
# | --- | --- | --- |
# | forward | keeps its size, but **images become alike** | **everything shrinks**; images stay apart in proportion |
# | gradient of the signal | fades on its way back | fades on its way back |
# | gradient of the weights | large at the last layer, **nothing at the first** | **equally small** in every layer |

# %% [markdown]
# ## 5. A repair: Kaiming's weights
#
# If ReLU throws away half, draw weights with twice the variance: that is He et al.'s ("Kaiming") start of 2015,
# $\mathrm{Var}(w) = 2 / n$, where $n$ is the number of inputs to a unit. (Where channels grow it is more than twice Xavier's.)
# With $n$ the inputs (*fan-in*) the signal keeps its size on the way forward. He et al. also give the other choice, $n$ the
# outputs (*fan-out*), which keeps the gradient's size on the way back, and say that either will do. torchvision and the
# networks of notebook 03 take fan-out; the two differ only where the channels change.
#
# **Predict.** What does the curve look like now?

# %%
kaiming = gradient_flow(plain(initialisation="kaiming"), images, labels)

# %%
plots.show(
    plots.gradient_norms(
        {"Xavier": xavier, "Kaiming": kaiming},
        "Twice the variance, eight powers of ten more gradient",
        colors=[XAVIER, KAIMING],
        markers="oo",
    ),
    alt="Gradient norm by layer for plain ReLU networks of 56 layers. Kaiming's "
    "weights give a few hundredths in every layer, Xavier's about ten to the "
    "minus 10.",
)

# %%
times = kaiming["gradient_norm"] / xavier["gradient_norm"]
print("at least a million times Xavier's in every layer:", (times > 1e6).all())

# %% [markdown]
# A factor of about $\sqrt 2$ in the weights decides over life and death of a 56-layer network. So **with ReLU and Kaiming's start a
# plain network's gradients do not vanish at the start of training**, at any of the depths measured here (up to 110, section
# 7). Keep that in mind whenever the story is told.
#
# An exact law behind the flat curves: double the weights of any one layer, and a ReLU network's output doubles, whichever
# layer it was. (Its only bias, in the last layer, is added at the very end.) From this follows that the sum of weight × gradient is *the same
# number in every layer* (Euler's theorem on homogeneous functions; Du, Hu & Lee 2018). It does not fix the
# gradient's norm: make one layer's weights a thousand times larger and another's a thousand times smaller, and their gradients
# change, while the output stays. But as the sum is not 0, no layer gets exactly nothing; and if the weights of all layers
# have equal norms, none gets arbitrarily little.

# %%
healthy = plain(initialisation="kaiming").double()
F.cross_entropy(healthy(images.double()), labels).backward()
weights = [p for p in healthy.parameters() if p.dim() > 1]
sums = torch.stack([(weight * weight.grad).sum() for weight in weights])
print("layers:", len(sums), "  sums equal:", torch.allclose(sums, sums[0], rtol=1e-6))
print("the sum is not 0:", abs(sums[0]).item() > 1e-4)

# %% [markdown]
# ## 6. Batch normalisation: now it explodes
#
# The networks of the ResNet paper have **batch normalisation** (BN) after every convolution: it sets the mean of
# each channel to 0 and its variance to 1, measured over the batch. The signal cannot die any more.
#
# **Predict.** And the gradient of a plain ReLU network? Smaller towards the first layer, larger, or flat?

# %%
networks, normalised = {}, {}
for depth in (20, 56, 110):
    network = experiment_net(Setting(depth, batch_norm=True, shortcut="plain"))
    network.train()  # so that BN uses the batch's own mean and variance
    networks[depth] = network
    normalised[f"depth {depth}"] = gradient_flow(network, images[:32], labels[:32])

# %%
plots.show(
    plots.gradient_norms(
        normalised,
        "Batch norm and ReLU: the gradient grows towards the image",
        colors=[plots.GREY, plots.PURPLE, plots.BROWN],
    ),
    alt="Gradient norm by layer for plain ReLU networks with batch normalisation, 20, 56 "
    "and 110 layers deep. From the last layer back all dip to about a quarter, then "
    "grow: little at depth 20, to a few hundred at 56, to about a million at 110.",
)

# %%
for name, table in normalised.items():
    times = table["gradient_norm"].iloc[0] / table["gradient_norm"].iloc[-1]
    print(
        f"{name:9}  first over last above 100: {times > 100}, above 10⁵: {times > 1e5}"
    )

# %% [markdown]
# It grows, by about the same factor a layer: the deeper, the more. In networks of the very kind whose failure made He et al.
# turn to shortcuts, gradients do not vanish but **explode** at the start.
#
# Where does the factor come from? Look at one layer: BN, ReLU, and the next layer's weights. The numbers $z$ after BN have mean
# 0 and variance 1; let them be normally distributed.
#
# - *Back.* ReLU is closed for half of them, so half of the gradient's square is lost.
# - *Forward.* ReLU leaves half of the mean square, too. But the next BN takes the **mean** away before it divides, and all
#   that comes out of ReLU is positive. What it divides by is the variance that is left, which is less than 1/2:
#   $\tfrac12 - \tfrac1{2\pi} = \tfrac12\,(1 - \tfrac1\pi) \approx 0.34$.
#
# Dividing by a small number makes slopes steep. Back and forward together, a layer multiplies the gradient's square by
# $\tfrac12 / 0.34 = \pi / (\pi - 1) \approx 1.47$, and its norm by the root, 1.21. The size of the weights is not in it: BN
# divides it out. Yang et al. (2019) derive this for wide *fully connected* networks. Here is one, with 500 units a layer.

# %%
torch.manual_seed(0)
points = [torch.randn(500, 500, requires_grad=True)]
for _ in range(20):
    x = points[-1].relu() @ torch.randn(500, 500)
    points.append((x - x.mean(0)) / x.std(0))  # batch norm
back = torch.autograd.grad(points[-1], points, torch.randn(500, 500))

print(f"theory, a layer:   {(math.pi / (math.pi - 1)) ** 0.5:.2f}")
print(f"measured, a layer: {(back[0].norm() / back[-1].norm()) ** (1 / 20):.2f}")

# %% [markdown]
# **Predict.** Does the growth of the convolutional networks in the picture come up to that?

# %%
for depth, network in networks.items():
    signal = signal_flow(network, images[:32], labels[:32])["gradient_norm"].to_numpy()
    a_layer = (signal[0] / signal[-1]) ** (1 / (depth - 2))
    print(f"depth {depth:3}: between 1.1 and 1.21 a layer: {1.1 < a_layer < 1.21}")
    print(
        "           at every block, up to the last:", (signal[:-1] > signal[1:]).all()
    )

# %% [markdown]
# Nearly: by 1.17 to 1.19. Ours are 16 to 64 channels wide, their pixels are alike, their images have borders, and their
# numbers are not quite normally distributed; the theory has none of that.
#
# This cell measured the gradient of the *signal*, which grows at every block from the last one on. So the dip at the right end
# of the picture belongs to the *weights'* gradients alone. A convolution's weight adds up what all pixels send back, and it
# matters whether they agree: how much of the gradient's square is the same at all pixels of a channel?

# %%
outputs = []
for module in networks[56].modules():
    if isinstance(module, BasicBlock):
        module.register_forward_hook(lambda block, x, output: outputs.append(output))
loss = F.cross_entropy(networks[56](images[:32]), labels[:32])
shared = [
    gradient.mean((2, 3)).square().mean() / gradient.square().mean()
    for gradient in torch.autograd.grad(loss, outputs)
]
print(f"after the last block: {shared[-1]:.0%}")
print("five blocks further back, below 5%:", shared[-6].item() < 0.05)

# %% [markdown]
# The average over all pixels, just before the last layer, sends the same to each of them. Some layers further back they no
# longer agree, and what they send mostly cancels in the sum. From there on the growth wins.
#
# Is that what makes deep plain networks hard to train? Here researchers **disagree**:
#
# - Yang et al. (2019) hold that such growth makes deep fully connected networks untrainable; though they also see it shrink
#   dramatically after a single step of training.
# - He et al. (2015, §4.1) say of their 34-layer plain network that its trouble is *unlikely* to be vanishing gradients: they
#   checked that with BN gradients keep healthy norms. §4.1 speaks only of vanishing. §1 calls vanishing *and* exploding
#   gradients "largely addressed" by initialisation and normalisation. For Kaiming's start without BN section 5 bears that out; the curves above, plain networks *with* BN at their start, do not.
# - BN damps a large gradient by itself. It divides by the signal's size, so doubling a convolution's weights leaves the output as it
#   was and halves their gradient; and a step along such a gradient makes the weights longer (van Laarhoven 2017).
#
# A measurement at the start cannot decide it. Notebook 07 looks at gradients *during* training.

# %% [markdown]
# ## 7. All of it at once
#
# Depth, activation, start, BN, shortcut: 567 settings with three seeds each, 1,701 networks, were measured in the same
# way and are recorded with the course. First the plain ones in one picture, for two of the three starts.

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
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for panel, batch_norm in zip(panels, (False, True)):
    for activation, marker in (("sigmoid", "^"), ("tanh", "s"), ("relu", "o")):
        for start, color in (("xavier", XAVIER), ("kaiming", KAIMING)):
            values = first_layer(activation, start, batch_norm)
            style = {"color": color, "label": f"{activation}, {start}"}
            plots.log_line(panel, grid.axes["depth"], values, marker, **style)
    panel.set(xlabel="depth", title=f"{'with' if batch_norm else 'without'} batch norm")
plots.headline(
    figure, "Without batch norm activation and start decide, with it the activation"
)
panels[0].set_ylabel("gradient norm of the first layer")
panels[1].set_ylabel("another scale")
hollow = {"color": plots.GREY, "markerfacecolor": "none", "linestyle": "none"}
panels[1].plot([], [], "^", **hollow, label="hollow: exactly 0,\nboth sigmoids")
panels[1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(
    figure,
    alt="Gradient norm of the first layer by depth for plain networks. Without batch "
    "norm, sigmoid falls below ten to the minus 25 at depth 56 and is exactly "
    "zero at 110; ReLU with Xavier's weights falls to ten to the minus 19; the "
    "others stay within a few powers of ten. With batch norm, on a scale of its own, ReLU and tanh rise "
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
# The same setting (ReLU, Xavier, no batch norm) as a picture, for readers without a running kernel:

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
        "Here the shortcut saves signal and gradient",
    ),
    alt="Above, the gradient norm of each layer: plain about ten to the minus 11 "
    "throughout, residual about ten. Below, the variance of the signal: plain falls by "
    "about nineteen powers of ten, its last blocks below the axis; residual rises by "
    "two.",
)

# %% [markdown]
# ## 8. What is left of the story
#
# | the usual story says | measured here |
# | --- | --- |
# | The gradient is a product of factors below 1. | True for the sigmoid with usual weights: 0.2 (Xavier) to 0.3 (Kaiming) a layer (σ′ ≤ 1/4, times what the weights do). |
# | So early layers stop learning. | True for the sigmoid: not one bit in 30 steps. With ReLU and too small weights *all* layers get next to nothing, the last as little as the first. |
# | ReLU solves it. | Only with weights of the right size: Xavier's at 56 layers are too small, Kaiming's are right. |
# | Batch norm solves it. | It keeps the signal. With ReLU a deep plain network's gradient then grows towards the image, hundreds of times at 56 layers. |
# | That is why plain deep networks fail. | Not shown. With BN and ReLU nothing vanishes at the start, and He et al. doubt it too. |
#
# What shortcuts change, and where they do *not* help, is [notebook 02](02_shortcut_connections.ipynb).

# %% [markdown]
# ## Summary
#
# - The gradient of a chain is the product of its layers' weights × slopes. The sigmoid's slope is at most 1/4: unless the weights make
#   up for it, the product vanishes.
# - There are two illnesses. With the sigmoid, images become alike on the way forward and the gradient fades on the way back, by the
#   same factor. With ReLU and too small weights everything shrinks, and the last layer's weights get as little as the first's.
# - The size of the first weights decides: ReLU halves the mean square, and Kaiming's factor of 2 makes up for it.
# - With batch norm and ReLU a deep plain network's gradients *grow* towards the image at the start of training: ReLU halves
#   their square, but BN divides by less than a half, for it takes ReLU's mean away first.
# - A step far below float32's resolution of the weights is no step at all.

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

# %% [markdown]
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

# %% [markdown]
# **3.** 100 weights in float32: 50 of 0.1 and 50 of 0.01. Each gets a step of 10⁻⁹, in the same direction, a thousand times. How
# many of the weights have changed at the end? (float32 keeps seven digits *of each number*.)

# %%
answer = ...
check.weights_that_moved(answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# weights = torch.tensor(50 * [0.1] + 50 * [0.01])
# start = weights.clone()
# for _ in range(1000):
#     weights += 1e-9
#
# answer = (weights != start).sum().item()
# check.weights_that_moved(answer)
# ```
#
# Those of 0.01. Next to 0.1 the numbers of float32 are 7·10⁻⁹ apart, and a step that is less than half of that rounds back. That the steps add up to 10⁻⁶ does not
# help: every sum is rounded before the next step is added. Next to 0.01 they are only 0.9·10⁻⁹ apart. So the smaller a weight, the smaller the gradients that still move it.
# </details>

# %% [markdown]
# **4.** By how much does a layer with batch norm make the gradient grow if its activation is *not* ReLU? Write
# `growth(z, activation)`. You get `z`, a large sample of the numbers after BN, of shape (N,), and a function such as `torch.tanh`.
# Return the factor of the gradient's *norm*: as in section 6, the slopes' mean square on the way back, and what the next BN
# divides by.


# %%
def growth(z, activation):
    return ...


check.growth_with_batch_norm(growth)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def growth(z, activation):
#     z = z.requires_grad_()
#     after = activation(z)
#     slopes = torch.autograd.grad(after.sum(), z)[0]
#     return (slopes.square().mean() / after.var()).sqrt()
#
#
# check.growth_with_batch_norm(growth)
# ```
#
# For ReLU that is 1.21, for tanh 1.09, for the sigmoid 1.02. It is never below 1, whatever the activation (Poincaré's
# inequality), and exactly 1 only if the activation is a straight line. In the right panel of section 7's figure ReLU does rise
# more than tanh; that the sigmoid falls there, if slowly, this theory of wide networks does not tell.
# </details>

# %% [markdown]
# ## References
#
# - S. Hochreiter, *Untersuchungen zu dynamischen neuronalen Netzen*, diploma thesis, TU München, 1991, and Y. Bengio, P. Simard, P. Frasconi, *Learning long-term dependencies with gradient descent is difficult*, IEEE Transactions on Neural Networks, 1994: vanishing gradients, first in recurrent networks.
# - A. Krizhevsky, I. Sutskever, G. Hinton, *ImageNet Classification with Deep Convolutional Neural Networks*, 2012: AlexNet, with weights from N(0, 0.01²).
# - X. Glorot, Y. Bengio, [*Understanding the difficulty of training deep feedforward neural networks*](https://proceedings.mlr.press/v9/glorot10a.html), 2010.
# - K. He, X. Zhang, S. Ren, J. Sun, [*Delving Deep into Rectifiers*](https://arxiv.org/abs/1502.01852), 2015: the factor 2, §2.2.
# - K. He, X. Zhang, S. Ren, J. Sun, [*Deep Residual Learning for Image Recognition*](https://arxiv.org/abs/1512.03385), 2015: what they say of vanishing gradients, §4.1.
# - S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein, [*Deep Information Propagation*](https://arxiv.org/abs/1611.01232), 2017.
# - S. Du, W. Hu, J. Lee, [*Algorithmic Regularization in Learning Deep Homogeneous Models: Layers are Automatically Balanced*](https://arxiv.org/abs/1806.00900), 2018.
# - G. Yang, J. Pennington, V. Rao, J. Sohl-Dickstein, S. Schoenholz, [*A Mean Field Theory of Batch Normalization*](https://arxiv.org/abs/1902.08129), 2019.
# - T. van Laarhoven, [*L2 Regularization versus Batch and Weight Normalization*](https://arxiv.org/abs/1706.05350), 2017.
