"""Energies of points, vectors and sequences."""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .entry import Dynamo, Legacy, entry


def perceptron(activation):
    return nn.Sequential(nn.Linear(2, 20), activation, nn.Linear(20, 20), activation, nn.Linear(20, 1))


class PerceptronWithPrior(nn.Module):
    """f(x) + |x|² / (2σ²), of shape [N]."""

    def __init__(self):
        super().__init__()
        self.network = perceptron(nn.Tanh())

    def forward(self, x):
        return self.network(x)[:, 0] + x.pow(2).sum(-1) / (2 * 1.5**2)


class GaussianMixture(nn.Module):
    """-log Σ_k w_k N(x; μ_k, σ_k) by broadcasting [N, 1, 2] against [K, 2]."""

    def __init__(self):
        super().__init__()
        self.means = nn.Parameter(torch.randn(8, 2))
        self.log_scale = nn.Parameter(torch.randn(8) * 0.2)
        self.logits = nn.Parameter(torch.randn(8))

    def forward(self, x):
        distance = (x.unsqueeze(1) - self.means).square().sum(-1) * torch.exp(-2.0 * self.log_scale)
        return -torch.logsumexp(F.log_softmax(self.logits, 0) - 2.0 * self.log_scale - 0.5 * distance, dim=1)


class RestrictedBoltzmannMachine(nn.Module):
    """Free energy -b·x - Σ softplus(W x + c)."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(12, 16)
        self.visible = nn.Parameter(torch.randn(12))

    def forward(self, x):
        return -F.linear(x, self.visible.unsqueeze(0)) - F.softplus(self.hidden(x)).sum(dim=1, keepdim=True)


class Quadratic(nn.Module):
    """½ xᵀ A x + ¼ |x|⁴ by einsums."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.randn(10, 10) / 3)

    def forward(self, x):
        y = torch.einsum("ni,ij->nj", x, self.factor)
        return 0.5 * torch.einsum("nj,nj->n", y, y) + 0.25 * torch.einsum("ni,ni->n", x, x) ** 2


class Spectral(nn.Module):
    """A weighted cosine transform: products with constant matrices along both axes of the image."""

    def __init__(self):
        super().__init__()
        k = torch.arange(6, dtype=torch.float64)
        basis = torch.cos(math.pi / 6 * (k[None, :] + 0.5) * k[:, None])
        self.register_buffer("basis", basis.float())
        self.register_buffer("weight", (1 / (1 + k[:, None] + k[None, :])).float())

    def forward(self, x):
        transformed = self.basis @ x @ self.basis.T
        power = torch.einsum("kl,nckl->nc", self.weight, transformed**2)
        return torch.log(power + 0.1).sum(dim=1)


class SequenceNet(nn.Module):
    """1-D convolutions and pools."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv1d(2, 6, 5, stride=2, padding=2)
        self.two = nn.Conv1d(6, 6, 3, padding=2, dilation=2, groups=2)
        self.three = nn.Conv1d(6, 8, 3)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        h = F.max_pool1d(F.gelu(self.one(x)), 2, stride=1)
        h = F.avg_pool1d(F.gelu(self.two(h)), 3, stride=2, padding=1)
        h = F.gelu(self.three(h))
        return self.head(F.adaptive_avg_pool1d(h, 2).flatten(1))


class Masked(nn.Module):
    """Where, comparisons, clamp, minima and maxima."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 12), nn.Linear(12, 6)
        self.register_buffer("mask", torch.arange(12) % 3 > 0)

    def forward(self, x):
        h = self.one(x)
        h = torch.where(self.mask, h.sin(), 0.1 * h * h)
        h = torch.where(h > 0.3, h * h, 0.6 * h - 0.09)
        g = self.two(torch.minimum(h, torch.tanh(x.repeat(1, 2)[:, :12]) + 1))
        g = torch.maximum(g, -0.5 * g.exp()) + g.clamp(-0.4, 0.4) ** 2 + F.relu6(4 * g) * 0.1
        inside = (x.abs() <= 1).to(x.dtype) * (x < 0.9)
        return g.sum(1) + (inside * x**3).sum(1) + x.amax(dim=1) * x.amin(dim=1) + F.hardtanh(x, -0.8, 0.7).square().sum(1)


class Norms(nn.Module):
    """Norms and products over axes."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(6, 8)

    def forward(self, x):
        h = self.lift(x).reshape(-1, 2, 4)
        one, two = torch.linalg.vector_norm(h, ord=1, dim=-1), torch.linalg.vector_norm(h, ord=2, dim=-1)
        product = torch.prod(1 + 0.3 * h, dim=2)
        waves = torch.exp(torch.cos(h)) * torch.log(2 + torch.sin(h)) / torch.sqrt(1 + h.abs())
        return (one * two + product).sum(1) + waves.sum(dim=(1, 2)) + torch.sign(x).mul(x).sum(1) + (1 / (2 + x * x)).sum(1)


class Cosine(nn.Module):
    """Normalised vectors against normalised prototypes."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(6, 8)
        self.prototypes = nn.Parameter(torch.randn(5, 8))

    def forward(self, x):
        similarity = F.linear(F.normalize(self.lift(x)), F.normalize(self.prototypes))
        return -torch.logsumexp(5 * similarity, dim=1, keepdim=True) + 0.1 * F.cosine_similarity(x, x.flip(1) + 2, dim=1).unsqueeze(1)


class Coupling(nn.Module):
    """A RealNVP flow as an energy: ½|z|² - log|det|, with permutations of the coordinates."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 6)) for _ in range(3))
        self.register_buffer("order", torch.tensor([4, 1, 5, 0, 2, 3]))

    def forward(self, x):
        log_det = torch.zeros(x.shape[0], dtype=x.dtype, device=x.device)
        for net in self.nets:
            fixed, moved = x.index_select(1, self.order).split(3, dim=1)
            scale, shift = net(fixed).chunk(2, dim=1)
            scale = torch.tanh(scale)
            x = torch.cat([fixed, moved * torch.exp(scale) + shift], dim=1)
            log_det = log_det + scale.sum(1)
        return 0.5 * x.pow(2).sum(1) - log_det


class Siren(nn.Module):
    """Sine layers after Fourier features."""

    def __init__(self):
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, 6))
        self.layers = nn.ModuleList([nn.Linear(12, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        angles = 2 * math.pi * 0.2 * x @ self.frequencies
        h = torch.cat([angles.sin(), angles.cos()], -1)
        for layer in self.layers:
            h = torch.sin(2 * layer(h))
        return self.head(h)


class DeepSet(nn.Module):
    """Points [N, 7, 2]: an energy of pairs by broadcasting and one of each point, summed."""

    def __init__(self):
        super().__init__()
        self.point = nn.Sequential(nn.Linear(2, 12), nn.Softplus(), nn.Linear(12, 4))
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        difference = x[:, :, None, :] - x[:, None, :, :]
        pairs = torch.reciprocal(1 + difference.pow(2).sum(-1)).sum(dim=(1, 2))
        return pairs + self.head(torch.tanh(self.point(x).sum(dim=1))).squeeze(1)


class Tied(nn.Module):
    """A fixed point unrolled: the same weights four times."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(8, 8, bias=False), nn.Linear(5, 8)

    def forward(self, x):
        z = torch.zeros(x.size(0), 8, dtype=x.dtype, device=x.device)
        for _ in range(4):
            z = torch.tanh(self.inner(z) + self.outer(x))
        return F.softplus(z.mean(1) - z.std(dim=1, unbiased=True)) + z.var(dim=1)


class Conditional(nn.Module):
    """E(x, label): the label is a one-hot vector, an input that is not differentiated."""

    def __init__(self):
        super().__init__()
        self.x, self.label, self.head = nn.Linear(4, 16), nn.Linear(3, 16, bias=False), nn.Linear(16, 1)

    def forward(self, x, label):
        return self.head(F.silu(self.x(x)) * torch.sigmoid(self.label(label)))


entry("toy_softplus", "perceptron of points in the plane, softplus", lambda: perceptron(nn.Softplus()), (2,), Legacy(11), Legacy(20), Dynamo(25))
entry("toy_tanh", "perceptron with a Gaussian prior, tanh", PerceptronWithPrior, (2,), Legacy(13, "batch"), Dynamo(20, metadata=True))
entry("gaussian_mixture", "mixture of Gaussians by broadcasting and logsumexp", GaussianMixture, (2,), Legacy(13, folding=False), Dynamo(18))
entry("boltzmann", "free energy of a restricted Boltzmann machine", RestrictedBoltzmannMachine, (12,), Legacy(11), Dynamo(21))
entry("quadratic", "quadratic and quartic form by einsum", Quadratic, (10,), Legacy(12), Dynamo(18))
entry("spectral", "cosine transform by products on both axes", Spectral, (2, 6, 6), Legacy(14), Dynamo(18))
entry("sequence", "1-D convolutions and pools", SequenceNet, (2, 24), Legacy(13), Dynamo(20))
entry("masked", "where, comparisons, clamp, minimum, maximum, amax", Masked, (8,), Legacy(13), Dynamo(18))
entry("norms", "L1 and L2 norms, products, exp, log, sin, cos, abs, sign", Norms, (6,), Legacy(11), Dynamo(18))
entry("cosine", "normalised vectors, cosine similarity", Cosine, (6,), Legacy(12), Dynamo(18))
entry("coupling", "RealNVP flow: permutations, splits, exp", Coupling, (6,), Legacy(13), Dynamo(18))
entry("siren", "Fourier features and sine layers", Siren, (2,), Legacy(17), Dynamo(22))
entry("deep_set", "points with pair energies", DeepSet, (7, 2), Legacy(14), Dynamo(18))
entry("tied", "an unrolled fixed point with shared weights, deviation and variance", Tied, (5,), Legacy(13), Dynamo(18))
entry("conditional", "two inputs: x is differentiated, label is not", Conditional, (4,), Legacy(13), Dynamo(18), extra=(("label", (3,)),))
