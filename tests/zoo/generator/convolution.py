"""Convolutional networks, their normalisations and their pools."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from .entry import Dynamo, Legacy, entry

PRESERVE = torch.onnx.TrainingMode.PRESERVE


def randomise_norms(module):
    """Gives normalisations the weights and statistics of a trained network."""
    for part in module.modules():
        if isinstance(part, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module


class Squared(nn.Module):
    """E = |f(x)|² / 2 [N], which gives piecewise linear features a curvature."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return 0.5 * self.features(x).flatten(1).square().sum(1)


class Residual(nn.Module):
    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class SumPool(nn.Module):
    def forward(self, x):
        return x.sum(dim=(2, 3))


def strided(activation):
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1), activation(),
        nn.Conv2d(6, 8, 4, stride=2, padding=1), activation(),
        nn.Flatten(), nn.Linear(32, 1),
    )


def dilated_grouped():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=2, dilation=2), nn.Softplus(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Softplus(beta=2.0),
        nn.Conv2d(8, 8, (3, 5), padding=(1, 2), groups=8, bias=False), nn.Tanh(),
        nn.Conv2d(8, 4, 1), nn.Softplus(), nn.Flatten(), nn.Linear(256, 1),
    )


def preactivation_resnet():
    def block(n_in, n_out, stride):
        body = nn.Sequential(
            nn.BatchNorm2d(n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out), nn.SiLU(), nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
        )
        return Residual(body, nn.Conv2d(n_in, n_out, 1, stride, bias=False))

    return randomise_norms(nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), block(4, 4, 1), block(4, 6, 2),
        nn.BatchNorm2d(6), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1),
    ))


def resnet_relu():
    def block(n_in, n_out, stride):
        body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=False),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out),
        )
        shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        return nn.Sequential(Residual(body, shortcut), nn.ReLU())

    return randomise_norms(Squared(nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), block(4, 6, 2), block(6, 6, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )))


def group_norm():
    return randomise_norms(nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.SiLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.SiLU(),
        Residual(nn.Sequential(nn.GroupNorm(1, 8), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1))),
        nn.Flatten(), nn.Linear(128, 1), nn.Flatten(0),
    ))


def instance_norm():
    return randomise_norms(nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True), nn.ELU(),
        nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.InstanceNorm2d(6, affine=True), nn.ELU(0.7), nn.Flatten(), nn.Linear(96, 1),
    ))


class Normalised(nn.Module):
    """A spectrally normalised weight W / (uᵀ W v), computed in the forward pass."""

    def __init__(self, weight):
        super().__init__()
        left, _, right = torch.linalg.svd(weight.detach().flatten(1), full_matrices=False)
        self.register_buffer("u", left[:, 0].clone())
        self.register_buffer("v", right[0].clone())

    def forward(self, weight):
        return weight / torch.matmul(self.u, torch.matmul(weight.flatten(1), self.v))


def spectral_norm(layer):
    parametrize.register_parametrization(layer, "weight", Normalised(layer.weight))
    return layer


def hardsigmoid(x):
    """`F.hardsigmoid` for exporters; its definition for autograd, which has no second derivative of the former."""
    exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
    return F.hardsigmoid(x) if exporting else torch.clamp(x / 6 + 0.5, 0, 1)


class Sngan(nn.Module):
    """The residual energy network of SNGAN: mean pools, ReLU, sum over the image, spectrally normalised weights."""

    def __init__(self):
        super().__init__()
        conv = lambda n_in, n_out, k: spectral_norm(nn.Conv2d(n_in, n_out, k, padding=k // 2))
        self.first = nn.ModuleList([conv(1, 6, 3), conv(6, 6, 3), conv(1, 6, 1)])
        self.blocks = nn.ModuleList(nn.ModuleList([conv(6, 6, 3), conv(6, 6, 3)]) for _ in range(2))
        self.last = spectral_norm(nn.Linear(6, 1, bias=False))

    def forward(self, x):
        one, two, shortcut = self.first
        h = F.avg_pool2d(two(F.relu(one(x))), 2) + shortcut(F.avg_pool2d(x, 2))
        for one, two in self.blocks:
            h = h + two(F.relu(one(F.relu(h))))
        return -self.last(F.relu(h).sum(dim=(2, 3)))


class JointEnergy(nn.Module):
    """A classifier read as an energy: E(x) = -log Σ_y exp f(x)[y] (JEM)."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, padding=1), nn.SiLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
        )

    def forward(self, x):
        return -torch.logsumexp(self.logits(x), dim=1)


class ClassNegativeLogLikelihood(JointEnergy):
    """E(x) = -log p(class 3 | x), with the logits as a second output."""

    def forward(self, x):
        logits = self.logits(x)
        return -F.log_softmax(logits, dim=1)[:, 3], logits


def max_pool():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.Tanh(), nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(6, 8, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1),
    )


class PoolPyramid(nn.Module):
    """Mean pools of every kind, with global maxima and means, concatenated."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.head = nn.Linear(6 * (4 + 16 + 9 + 1 + 1), 1)

    def forward(self, x):
        h = F.softplus(self.conv(x))
        parts = [
            F.adaptive_avg_pool2d(h, 2),
            F.avg_pool2d(h, 3, stride=2, padding=1),
            F.avg_pool2d(h, 3, stride=3, padding=1, count_include_pad=False),
            F.adaptive_max_pool2d(h, 1),
            F.adaptive_avg_pool2d(h, 1),
        ]
        return self.head(torch.cat([p.flatten(1) for p in parts], dim=1).sin())


class SqueezeExcitation(nn.Module):
    """Channel gates as in MobileNetV3: hardswish, hardsigmoid and sigmoid."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.gates = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1)) for _ in range(2))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        h = F.hardswish(self.stem(x))
        h = h * hardsigmoid(self.gates[0](h))
        h = F.hardswish(self.depthwise(h))
        h = h * torch.sigmoid(self.gates[1](h))
        return self.head(h.mean((2, 3))).exp()


class PaddingModes(nn.Module):
    """Reflected, replicated and valued borders."""

    def __init__(self):
        super().__init__()
        self.reflect = nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")
        self.replicate = nn.Conv2d(4, 4, 3, padding=1, padding_mode="replicate")
        self.valued = nn.Conv2d(4, 4, 3, stride=2)

    def forward(self, x):
        h = F.softplus(self.reflect(F.pad(x, (2, 1, 0, 3), mode="reflect")))
        h = torch.tanh(self.replicate(h))
        h = self.valued(F.pad(h, (1, 2, 0, 1), value=0.5))
        return torch.logsumexp(h.flatten(1), dim=1, keepdim=True)


class ConvNext(nn.Module):
    """Depthwise 7×7, LayerNorm with channels last, GELU, layer scale."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 2, stride=2)
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps=1e-6)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale = nn.Parameter(torch.rand(8))
        self.head = nn.Linear(8, 1)
        randomise_norms(self)

    def forward(self, x):
        h = self.stem(x)
        branch = self.norm(self.depthwise(h).permute(0, 2, 3, 1))
        branch = self.scale * self.down(F.gelu(self.up(branch)))
        h = h + branch.permute(0, 3, 1, 2)
        return self.head(F.gelu(h).mean((-2, -1))).squeeze(-1)


class GatedConv(nn.Module):
    """Gated linear units: the channels are split into value and gate."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(1, 8, 3, padding=1)
        self.two = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(64, 1)

    def forward(self, x):
        h = F.glu(self.one(x), dim=1)
        value, gate = self.two(h).chunk(2, dim=1)
        return self.head((torch.tanh(value) * torch.sigmoid(gate)).flatten(1))


class FieldsOfExperts(nn.Module):
    """Student-t experts over filter responses: E = Σ a log(1 + (w * x)² / 2)."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(1, 8, 3, bias=False)
        self.weight = nn.Parameter(torch.rand(8, 1, 1) + 0.5)

    def forward(self, x):
        response = self.filters(x)
        return (self.weight * torch.log1p(0.5 * response**2)).sum(dim=(1, 2, 3))


class Haar(nn.Module):
    """A wavelet energy by strided slices and by pixel unshuffle."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 6, 1)

    def forward(self, x):
        a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
        details = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], dim=1) / 2
        sparse = torch.sqrt(details.square() + 0.1).flatten(1).sum(1)
        coarse = self.conv(F.pixel_unshuffle(x.repeat(1, 3, 1, 1), 2))
        return sparse + F.softplus(coarse).mean(dim=(1, 2, 3))


class Activations(nn.Module):
    """A layer of every smooth or nearly smooth activation."""

    KINDS = (nn.Mish, nn.Softsign, nn.SELU, lambda: nn.CELU(0.8), lambda: nn.ELU(1.2), nn.LogSigmoid, nn.Tanhshrink, nn.SiLU)

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 4, 4, 3, padding=1) for i in range(len(self.KINDS)))
        self.kinds = nn.ModuleList(kind() for kind in self.KINDS)
        self.prelu = nn.PReLU(4)
        self.head = nn.Linear(4 * 36, 2)

    def forward(self, x):
        h = self.kinds[0](self.convs[0](x))
        for conv, kind in zip(self.convs[1:], self.kinds[1:]):
            h = h + kind(conv(h))
        return self.head(self.prelu(h).flatten(1)).square().sum(1)


entry("strided_elu", "strided convolutions with biases, ELU", lambda: strided(nn.ELU), (1, 8, 8), Legacy(11), Dynamo(18, "batch"))
entry("strided_leaky", "strided convolutions, LeakyReLU; the Hessian is zero almost everywhere",
      lambda: strided(lambda: nn.LeakyReLU(0.2)), (1, 8, 8), Legacy(13, "batch_size"), input="images", output="out", zero_hvp=True)
entry("strided_one", "strided convolutions, batch fixed at 1", lambda: strided(nn.SiLU), (1, 8, 8), Legacy(17, 1), Dynamo(21, 1))
entry("dilated_grouped", "dilated, grouped and depthwise convolutions, softplus", dilated_grouped, (1, 8, 8), Legacy(13), Dynamo(20))
entry("preactivation_resnet", "residual blocks with batch norm before the activation", preactivation_resnet, (1, 8, 8),
      Dynamo(18))
entry("resnet_relu", "residual blocks, batch norm behind convolutions (kept as nodes), ReLU, squared head", resnet_relu, (1, 8, 8),
      Legacy(14, folding=False, training=PRESERVE), Dynamo(19, optimize=False))
entry("group_norm", "group norm and SiLU", group_norm, (1, 8, 8), Legacy(16), Dynamo(18), Dynamo(21))
entry("instance_norm", "instance norm with weights, ELU", instance_norm, (1, 8, 8), Legacy(11), Dynamo(18))
entry("sngan", "SNGAN residual energy, spectral norm, ReLU, mean and sum pools; zero Hessian almost everywhere", Sngan, (1, 8, 8),
      Legacy(13, folding=False), Dynamo(18), zero_hvp=True)
entry("joint_energy", "classifier as energy by logsumexp", JointEnergy, (1, 8, 8), Legacy(13, "batch"), Dynamo(20))
entry("class_likelihood", "negative log likelihood of one class; the logits are a second output", ClassNegativeLogLikelihood,
      (1, 8, 8), Legacy(17), Dynamo(18), extra_outputs=("logits",))
entry("max_pool", "max pools with padding, global mean pool", max_pool, (1, 8, 8), Legacy(11), Dynamo(23))
entry("pool_pyramid", "mean pools with and without counted padding, global maxima", PoolPyramid, (1, 8, 8), Legacy(14))
entry("squeeze_excitation", "channel gates with hardswish, hardsigmoid, sigmoid", SqueezeExcitation, (1, 8, 8), Legacy(14), Dynamo(18))
entry("padding_modes", "reflected, replicated and valued borders", PaddingModes, (1, 6, 6), Legacy(12), Dynamo(19))
entry("conv_next", "depthwise 7×7, LayerNorm with channels last, GELU", ConvNext, (1, 8, 8), Legacy(17), Dynamo(20))
entry("gated_conv", "gated linear units by split", GatedConv, (1, 8, 8), Legacy(13), Dynamo(18))
entry("fields_of_experts", "Student-t experts, log1p", FieldsOfExperts, (1, 8, 8), Legacy(11), Dynamo(22))
entry("haar", "strided slices, stack, pixel unshuffle", Haar, (1, 8, 8), Legacy(13), Dynamo(24))
entry("activations", "Mish, Softsign, SELU, CELU, ELU, LogSigmoid, Tanhshrink, SiLU, PReLU", Activations, (1, 6, 6),
      Dynamo(18))
