"""Energies that reconstruct the input, and networks with skips across scales."""
import torch
import torch.nn.functional as F
from torch import nn

from .entry import Dynamo, Legacy, entry


class Autoencoder(nn.Module):
    """E = mean |decode(encode(x)) - x|²."""

    def __init__(self, up):
        super().__init__()
        self.encode = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.SiLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.SiLU())
        self.decode = up()

    def forward(self, x):
        return (self.decode(self.encode(x)) - x).square().mean(dim=(1, 2, 3))


def upsampling(**how):
    return lambda: nn.Sequential(
        nn.Upsample(scale_factor=2, **how), nn.Conv2d(6, 4, 3, padding=1), nn.SiLU(),
        nn.Upsample(scale_factor=2, **how), nn.Conv2d(4, 1, 3, padding=1),
    )


def transposed():
    return nn.Sequential(
        nn.ConvTranspose2d(6, 6, 4, stride=2, padding=1, groups=2), nn.SiLU(),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, bias=False), nn.Tanh(),
        nn.ConvTranspose2d(4, 1, 3, padding=2, dilation=2),
    )


def shuffled():
    return nn.Sequential(
        nn.Conv2d(6, 16, 3, padding=1), nn.PixelShuffle(2), nn.SiLU(),
        nn.Conv2d(4, 4, 3, padding=1), nn.PixelShuffle(2),
    )


class UNet(nn.Module):
    """Skips by concatenation; the energy is ½|x - u(x)|² by an inner product."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(6, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.last = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        one = F.silu(self.down1(x))
        two = F.silu(self.down2(one))
        up = self.up(F.silu(self.middle(two)))
        out = self.last(torch.cat([one, F.softplus(up)], dim=1))
        rest = (x - out).reshape(x.shape[0], -1)
        return 0.5 * torch.sum(rest * rest, dim=1, keepdim=True)


class Pyramid(nn.Module):
    """A Laplacian pyramid: differences to the image pooled and enlarged again."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Conv2d(1, 4, 3) for _ in range(2))

    def forward(self, x):
        energy = 0.0
        for expert in self.experts:
            small = F.avg_pool2d(x, 2)
            detail = x - F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
            energy = energy + F.softplus(expert(detail)).sum(dim=(1, 2, 3))
            x = small
        return energy + x.pow(2).sum(dim=(1, 2, 3))


entry("autoencoder_nearest", "reconstruction error, nearest upsampling", lambda: Autoencoder(upsampling(mode="nearest")), (1, 8, 8),
      Legacy(11))
entry("autoencoder_bilinear", "reconstruction error, bilinear upsampling",
      lambda: Autoencoder(upsampling(mode="bilinear", align_corners=False)), (1, 8, 8), Legacy(13), Dynamo(18))
entry("autoencoder_corners", "reconstruction error, bilinear upsampling with aligned corners, batch fixed at 1",
      lambda: Autoencoder(upsampling(mode="bilinear", align_corners=True)), (1, 8, 8), Legacy(11, 1))
entry("autoencoder_transposed", "reconstruction error, transposed convolutions with groups, output padding, dilation",
      lambda: Autoencoder(transposed), (1, 8, 8), Legacy(12), Dynamo(19))
entry("autoencoder_shuffled", "reconstruction error, pixel shuffle", lambda: Autoencoder(shuffled), (1, 8, 8), Legacy(13))
entry("unet", "U-Net with concatenated skips", UNet, (1, 8, 8), Legacy(17), Dynamo(18), input="pixel_values")
entry("pyramid", "Laplacian pyramid with bilinear enlargement", Pyramid, (1, 8, 8), Legacy(16), Dynamo(18))
