"""The energy networks of `ebm-export init`, written in PyTorch from the same descriptions and weight names.

`algebra` is "as described", or "rewritten": pooled convolutions in the form with fewest multiplications, which is the fair rival of a
file with rewrites. `avgpool2(conv3x3(x))` becomes a 3×3 convolution of stride 2 of the 2×2 mean of stride 1 over the padded input,
`avgpool2(conv1x1(x))` becomes `conv1x1(avgpool2(x))`.
"""

import torch
from torch.nn import functional


def energy_of(description, weights, x, algebra):
    """x `[N, C, H, W]` to energies `[N]`."""
    return NETWORKS[description["name"]](description, Layers(weights, description["activation"], algebra), x)


ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu}


class Layers:
    """Weights by name, and what networks do with them."""

    def __init__(self, weights, activation, algebra):
        if algebra not in ("as described", "rewritten"):
            raise ValueError(f"unknown algebra {algebra!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"expected one of the activations {', '.join(ACTIVATIONS)}, got {activation!r}")
        self.activated = ACTIVATIONS[activation]
        self.weights = weights
        self.is_rewritten = algebra == "rewritten"

    def has(self, name):
        return f"{name}.weight" in self.weights

    def weight(self, name):
        return self.weights[f"{name}.weight"]

    def pixelwise(self, name, x):
        """A linear map of the channels, without a bias."""
        return functional.conv2d(x, self.weight(name))

    def energy_head(self, x):
        """Activation, mean over pixels, linear."""
        return (self.activated(x).mean((2, 3)) @ self.weight("head"))[:, 0]

    def conv(self, name, x):
        """Stride 1, same size."""
        weight = self.weight(name)
        return functional.conv2d(x, weight, self.weights[f"{name}.bias"], padding=weight.shape[2] // 2)

    def pooled_conv(self, name, x):
        """The mean over tiles of 2×2 of `conv`."""
        if not self.is_rewritten:
            return functional.avg_pool2d(self.conv(name, x), 2)
        weight, bias = self.weight(name), self.weights[f"{name}.bias"]
        if weight.shape[2] == 1:
            return functional.conv2d(functional.avg_pool2d(x, 2), weight, bias)
        box = functional.avg_pool2d(x, kernel_size=2, stride=1, padding=1, count_include_pad=True)
        return functional.conv2d(box, weight, bias, stride=2)


def sngan(description, layers, x):
    """Stem, residual blocks, head."""
    stem_pools, *block_pools = description["pools"]
    branch = layers.activated(layers.conv("stem.conv1", x))
    branch = layers.pooled_conv("stem.conv2", branch) if stem_pools else layers.conv("stem.conv2", branch)
    shortcut = functional.avg_pool2d(x, 2) if stem_pools else x
    x = branch + layers.conv("stem.shortcut", shortcut)
    for index, pools in enumerate(block_pools, start=1):
        x = residual_block(layers, f"block{index}", x, layers.pooled_conv if pools else layers.conv)
    return layers.energy_head(x)


def residual_block(layers, name, x, last_conv):
    branch = layers.conv(f"{name}.conv1", layers.activated(x))
    branch = last_conv(f"{name}.conv2", layers.activated(branch))
    return branch + (last_conv(f"{name}.shortcut", x) if layers.has(f"{name}.shortcut") else x)


def biggan(description, layers, x):
    """Stem, bottleneck blocks with attention before one of them, head. Its pools stand before pointwise convolutions already."""
    x = layers.conv("stem", x)
    for index, pools in enumerate(description["pools"]):
        if description["attention"] == index:
            x = attention(layers, x)
        x = bottleneck_block(layers, f"block{index}", x, pools)
    return layers.energy_head(x)


def bottleneck_block(layers, name, x, pools):
    branch = x
    for index in range(3):
        branch = layers.conv(f"{name}.conv{index}", layers.activated(branch))
    branch, shortcut = layers.activated(branch), x
    if pools:
        branch, shortcut = functional.avg_pool2d(branch, 2), functional.avg_pool2d(shortcut, 2)
    if layers.has(f"{name}.shortcut"):
        shortcut = torch.cat([shortcut, layers.conv(f"{name}.shortcut", shortcut)], dim=1)
    return layers.conv(f"{name}.conv3", branch) + shortcut


def attention(layers, x):
    """`x + γ · o(β g)`, β the softmax of θᵀφ over the tiles of 2×2."""
    batch, channels, height, width = x.shape

    def tiles(name):
        return functional.max_pool2d(layers.pixelwise(f"attention.{name}", x), 2).flatten(2)

    theta = layers.pixelwise("attention.theta", x).flatten(2)
    beta = functional.softmax(theta.transpose(1, 2) @ tiles("phi"), dim=2)
    seen = (tiles("g") @ beta.transpose(1, 2)).reshape(batch, channels // 2, height, width)
    return x + layers.weights["attention.gamma"] * layers.pixelwise("attention.o", seen)


NETWORKS = {"sngan": sngan, "biggan": biggan}
