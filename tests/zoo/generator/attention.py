"""Transformers and other networks with attention."""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .convolution import randomise_norms
from .entry import Dynamo, Legacy, entry


class SelfAttention(nn.Module):
    """Heads by reshape and transpose, [N, tokens, width] → [N, heads, tokens, width / heads]."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(width // self.n_heads), dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))


class MergedHeads(SelfAttention):
    """Heads merged into the batch axis, [N·heads, tokens, width / heads], with three-axis products."""

    def forward(self, x):
        n, tokens, width = x.shape
        size = width // self.n_heads
        heads = lambda t: t.reshape(n, tokens, self.n_heads, size).transpose(1, 2).reshape(n * self.n_heads, tokens, size)
        q, k, v = (heads(t) for t in self.qkv(x).chunk(3, dim=-1))
        weights = torch.softmax(torch.bmm(q, k.transpose(1, 2)) * size**-0.5, dim=-1)
        merged = torch.bmm(weights, v).view(n, self.n_heads, tokens, size).transpose(1, 2)
        return self.out(merged.reshape(n, tokens, width))


class ScaledDotProduct(SelfAttention):
    """The fused function of PyTorch, which exporters take apart."""

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class EinsumAttention(SelfAttention):
    """The two products as einsums."""

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, self.n_heads, width // self.n_heads).unbind(2)
        weights = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) / 2, dim=-1)
        return self.out(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(n, tokens, width))


class Block(nn.Module):
    def __init__(self, width, attention, activation):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), activation, nn.Linear(2 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


class VisionTransformer(nn.Module):
    """Patches by a convolution, a class token expanded to the batch, learned positions."""

    def __init__(self, attention=SelfAttention, activation=None, width=8):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.2)
        self.block = Block(width, attention(width, 2), activation or nn.GELU())
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)
        randomise_norms(self)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], dim=1) + self.positions
        return self.head(self.norm(self.block(tokens))[:, 0])


class MultiheadAttention(nn.Module):
    """`nn.MultiheadAttention`, over the pixels of a feature map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 1)
        nn.init.uniform_(self.attention.in_proj_bias, -0.3, 0.3)

    def forward(self, x):
        tokens = self.conv(x).flatten(2).permute(0, 2, 1)
        mixed, _ = self.attention(tokens, tokens, tokens)
        return self.head(F.gelu(tokens + mixed)).mean(dim=1).squeeze(1)


class NonLocal(nn.Module):
    """The attention of BigGAN: 1×1 convolutions, pooled keys and values, a gain."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.theta, self.phi, self.g = nn.Conv2d(8, 2, 1, bias=False), nn.Conv2d(8, 2, 1, bias=False), nn.Conv2d(8, 4, 1, bias=False)
        self.out = nn.Conv2d(4, 8, 1, bias=False)
        self.gain = nn.Parameter(torch.tensor(0.8))
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        h = F.softplus(self.stem(x))
        theta = self.theta(h).view(-1, 2, 64)
        phi = F.max_pool2d(self.phi(h), 2).view(-1, 2, 16)
        g = F.max_pool2d(self.g(h), 2).view(-1, 4, 16)
        beta = F.softmax(torch.bmm(theta.transpose(1, 2), phi), -1)
        mixed = self.out(torch.bmm(g, beta.transpose(1, 2)).view(-1, 4, 8, 8))
        return self.head(F.softplus(h + self.gain * mixed).sum(dim=[2, 3]))


class SinPositions(nn.Module):
    """Positions by sines and cosines computed in the forward pass, then a mean over attended tokens."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(2, 8)
        self.block = Block(8, SelfAttention(8, 2), nn.SiLU())
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        position = torch.arange(x.shape[1], dtype=x.dtype, device=x.device).unsqueeze(1)
        rate = torch.exp(torch.arange(0, 8, 2, dtype=x.dtype, device=x.device) * (-math.log(100.0) / 8))
        embedding = torch.cat([torch.sin(position * rate), torch.cos(position * rate)], dim=1)
        return self.head(self.block(self.lift(x) + embedding)).mean(dim=(1, 2))


class Windows(nn.Module):
    """Shifted windows of Swin: roll, partition into windows beside the batch, attention with an additive mask, back."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Conv2d(1, 8, 1)
        self.attention = SelfAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 1)
        randomise_norms(self)

    def forward(self, x):
        h = self.lift(x).permute(0, 2, 3, 1)
        n, height, width, channels = h.shape
        rolled = torch.roll(h, shifts=(-1, -1), dims=(1, 2))
        windows = rolled.view(n, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, channels)
        windows = self.attention(self.norm(windows))
        back = windows.view(n, height // 4, width // 4, 4, 4, channels).permute(0, 1, 3, 2, 4, 5).reshape(n, height, width, channels)
        h = h + torch.roll(back, shifts=(1, 1), dims=(1, 2))
        return self.head(F.gelu(h)).flatten(1).mean(1)


class CausalMask(nn.Module):
    """A masked softmax: the scores of future tokens are minus infinity."""

    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(3, 8)
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("mask", torch.ones(6, 6).tril().bool())

    def forward(self, x):
        h = torch.tanh(self.lift(x))
        scores = self.query(h) @ self.key(h).transpose(-2, -1) / 8**0.5
        weights = scores.masked_fill(~self.mask, -math.inf).softmax(dim=-1)
        return (weights @ self.value(h)).pow(2).sum(dim=(1, 2)) / 2


class Mixer(nn.Module):
    """MLP-Mixer: products along tokens and along channels."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.norms = nn.ModuleList([nn.LayerNorm(8), nn.LayerNorm(8)])
        mlp = lambda width: nn.Sequential(nn.Linear(width, 12), nn.GELU(), nn.Linear(12, width))
        self.tokens, self.channels = mlp(16), mlp(8)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = h + self.tokens(self.norms[0](h).transpose(1, 2)).transpose(1, 2)
        h = h + self.channels(self.norms[1](h))
        return self.head(h.mean(dim=1))


entry("vit", "vision transformer, class token expanded to the batch, LayerNorm, GELU by erf", VisionTransformer, (1, 8, 8),
      Legacy(14), Dynamo(20))
entry("vit_tanh", "the same with GELU by tanh and heads merged into the batch axis",
      lambda: VisionTransformer(MergedHeads, nn.GELU(approximate="tanh")), (1, 8, 8), Legacy(13), Dynamo(20))
entry("vit_scaled", "the same with scaled_dot_product_attention and Mish",
      lambda: VisionTransformer(ScaledDotProduct, nn.Mish()), (1, 8, 8), Dynamo(18))
entry("vit_einsum", "the same with einsums and softplus",
      lambda: VisionTransformer(EinsumAttention, nn.Softplus()), (1, 8, 8), Dynamo(18))
entry("vit_four", "the same with the batch fixed at 4", VisionTransformer, (1, 8, 8), Dynamo(22, 4))
entry("multihead", "nn.MultiheadAttention with averaged weights", MultiheadAttention, (1, 8, 8), Legacy(14), Dynamo(18))
entry("non_local", "attention of BigGAN with pooled keys", NonLocal, (1, 8, 8), Legacy(11), Dynamo(18))
entry("sin_positions", "sine positions computed in the graph", SinPositions, (9, 2), Legacy(13, folding=False), Dynamo(18))
entry("windows", "rolled windows beside the batch axis (Swin)", Windows, (1, 8, 8), Legacy(14), Dynamo(18))
entry("causal_mask", "masked attention over a sequence", CausalMask, (6, 3), Legacy(12), Dynamo(18))
entry("mixer", "MLP-Mixer", Mixer, (1, 8, 8), Legacy(17), Dynamo(21))
