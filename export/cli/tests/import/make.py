"""Tiny checkpoints in the forms in which weights are published, and what PyTorch makes of them in f64.

    python make.py        (PyTorch 2.11, safetensors 0.8)

Each network below names its layers as the published code does that its comment mentions, and computes what that code computes in
evaluation mode. For each there is a file of weights, and in expected.json its description here, its inputs and its outputs.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm

HERE = pathlib.Path(__file__).parent


class MimicryNorm:
    """Spectral norm that keeps u alone and takes one step of the power iteration on each use (torch-mimicry)."""

    u_name, sigma_name = "sn_u", "sn_sigma"

    def keep(self, rows):
        self.register_buffer(self.u_name, torch.randn(1, rows))
        self.register_buffer(self.sigma_name, torch.ones(1))

    def normal_weight(self):
        matrix = self.weight.reshape(self.weight.shape[0], -1)
        v = F.normalize(getattr(self, self.u_name) @ matrix)
        u = F.normalize(v @ matrix.t())
        return self.weight / (u @ matrix @ v.t())


class BigganNorm(MimicryNorm):
    """The same by BigGAN-PyTorch's names."""

    u_name, sigma_name = "u0", "sv0"


def normed(base, norm):
    class Layer(base, norm):
        def __init__(self, *sizes, **options):
            base.__init__(self, *sizes, **options)
            self.keep(self.weight.shape[0])

        def forward(self, x):
            weight = self.normal_weight()
            if isinstance(self, nn.Conv2d):
                return F.conv2d(x, weight, self.bias, padding=self.padding)
            return F.linear(x, weight, self.bias)

    return Layer


MimicryConv, MimicryLinear = normed(nn.Conv2d, MimicryNorm), normed(nn.Linear, MimicryNorm)
BigganConv, BigganLinear = normed(nn.Conv2d, BigganNorm), normed(nn.Linear, BigganNorm)


class MimicryStem(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.c1 = MimicryConv(inputs, outputs, 3, padding=1)
        self.c2 = MimicryConv(outputs, outputs, 3, padding=1)
        self.c_sc = MimicryConv(inputs, outputs, 1)

    def forward(self, x):
        branch = F.avg_pool2d(self.c2(F.relu(self.c1(x))), 2)
        return branch + self.c_sc(F.avg_pool2d(x, 2))


class MimicryBlock(nn.Module):
    """The activation overwrites its operand, so that the shortcut sees it."""

    def __init__(self, inputs, outputs, down):
        super().__init__()
        self.down = down
        self.c1 = MimicryConv(inputs, inputs, 3, padding=1)
        self.c2 = MimicryConv(inputs, outputs, 3, padding=1)
        if inputs != outputs or down:
            self.c_sc = MimicryConv(inputs, outputs, 1)

    def forward(self, x):
        activation = nn.ReLU(inplace=True)
        branch = self.c2(activation(self.c1(activation(x))))
        shortcut = self.c_sc(x) if hasattr(self, "c_sc") else x
        if self.down:
            branch, shortcut = F.avg_pool2d(branch, 2), F.avg_pool2d(shortcut, 2)
        return branch + shortcut


class MimicryDiscriminator(nn.Module):
    """ResNetDiscriminator64 of torch-mimicry, with three blocks."""

    def __init__(self):
        super().__init__()
        self.block1 = MimicryStem(2, 4)
        self.block2 = MimicryBlock(4, 6, True)
        self.block3 = MimicryBlock(6, 6, False)
        self.l4 = MimicryLinear(6, 1)

    def forward(self, x):
        features = self.block3(self.block2(self.block1(x)))
        return self.l4(F.relu(features).sum((2, 3)))[:, 0] - self.l4.bias


class MimicryUp(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.c2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.b1, self.b2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.c_sc = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        double = lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        branch = self.c1(double(F.relu(self.b1(x))))
        return self.c2(F.relu(self.b2(branch))) + self.c_sc(double(x))


class MimicryGenerator(nn.Module):
    """ResNetGenerator64 of torch-mimicry, with two blocks."""

    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(3, 16 * 4)
        self.block2, self.block3 = MimicryUp(4, 3), MimicryUp(3, 2)
        self.b4, self.c4 = nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, z):
        x = self.l1(z).view(len(z), -1, 4, 4)
        x = self.block3(self.block2(x))
        return torch.tanh(self.c4(F.relu(self.b4(x))))


class BigganAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        conv = lambda inputs, outputs: BigganConv(inputs, outputs, 1, bias=False)
        self.theta, self.phi = conv(channels, channels // 8), conv(channels, channels // 8)
        self.g, self.o = conv(channels, channels // 2), conv(channels // 2, channels)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        theta, phi, g = self.theta(x), F.max_pool2d(self.phi(x), 2), F.max_pool2d(self.g(x), 2)
        beta = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi.flatten(2), -1)
        seen = (g.flatten(2) @ beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return self.gamma * self.o(seen) + x


class BigganDown(nn.Module):
    """DBlock of BigGANdeep.py, whose inner width is a quarter of its input's here, of its output's there."""

    def __init__(self, inputs, outputs, down):
        super().__init__()
        self.down = down
        inner = inputs // 4
        self.conv1, self.conv4 = BigganConv(inputs, inner, 1), BigganConv(inner, outputs, 1)
        self.conv2, self.conv3 = (BigganConv(inner, inner, 3, padding=1) for _ in range(2))
        if inputs != outputs:
            self.conv_sc = BigganConv(inputs, outputs - inputs, 1)

    def forward(self, x):
        branch = F.relu(self.conv3(F.relu(self.conv2(F.relu(self.conv1(F.relu(x)))))))
        if self.down:
            branch, x = F.avg_pool2d(branch, 2), F.avg_pool2d(x, 2)
        if hasattr(self, "conv_sc"):
            x = torch.cat([x, self.conv_sc(x)], 1)
        return self.conv4(branch) + x


class BigganDiscriminator(nn.Module):
    """Discriminator of BigGANdeep.py without classes, with two groups of two blocks."""

    def __init__(self):
        super().__init__()
        self.input_conv = BigganConv(2, 8, 3, padding=1)
        first = [BigganDown(8, 16, True), BigganDown(16, 16, False), BigganAttention(16)]
        second = [BigganDown(16, 20, True), BigganDown(20, 20, False)]
        self.blocks = nn.ModuleList([nn.ModuleList(first), nn.ModuleList(second)])
        self.linear = BigganLinear(20, 1)

    def forward(self, x):
        x = self.input_conv(x)
        for group in self.blocks:
            for block in group:
                x = block(x)
        return self.linear(F.relu(x).sum((2, 3)))[:, 0] - self.linear.bias


class BigganCondition(nn.Module):
    def __init__(self, channels, condition):
        super().__init__()
        self.gain = BigganLinear(condition, channels, bias=False)
        self.bias = BigganLinear(condition, channels, bias=False)
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x, y):
        out = F.batch_norm(x, self.stored_mean, self.stored_var, None, None, False, 0.1, 1e-5)
        return out * (1 + self.gain(y))[..., None, None] + self.bias(y)[..., None, None]


class BigganUp(nn.Module):
    def __init__(self, inputs, outputs, condition, up):
        super().__init__()
        self.up, self.outputs = up, outputs
        inner = inputs // 4
        self.conv1, self.conv4 = BigganConv(inputs, inner, 1), BigganConv(inner, outputs, 1)
        self.conv2, self.conv3 = (BigganConv(inner, inner, 3, padding=1) for _ in range(2))
        self.bn1 = BigganCondition(inputs, condition)
        self.bn2, self.bn3, self.bn4 = (BigganCondition(inner, condition) for _ in range(3))

    def forward(self, x, y):
        branch = F.relu(self.bn2(self.conv1(F.relu(self.bn1(x, y))), y))
        x = x[:, : self.outputs]
        if self.up:
            branch, x = F.interpolate(branch, scale_factor=2), F.interpolate(x, scale_factor=2)
        branch = self.conv3(F.relu(self.bn3(self.conv2(branch), y)))
        return self.conv4(F.relu(self.bn4(branch, y))) + x


class BigganTailNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("stored_mean", torch.zeros(channels))
        self.register_buffer("stored_var", torch.ones(channels))

    def forward(self, x):
        return F.batch_norm(x, self.stored_mean, self.stored_var, self.gain, self.bias, False, 0.1, 1e-5)


class BigganGenerator(nn.Module):
    """Generator of BigGANdeep.py with shared embeddings, with one group of two blocks and one of one."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(4, 2)
        self.linear = BigganLinear(5, 16 * 16)
        first = [BigganUp(16, 16, 5, False), BigganUp(16, 8, 5, True)]
        self.blocks = nn.ModuleList([nn.ModuleList(first + [BigganAttention(8)])])
        self.blocks.append(nn.ModuleList([BigganUp(8, 8, 5, False)]))
        self.output_layer = nn.Sequential(BigganTailNorm(8), nn.ReLU(), BigganConv(8, 6, 3, padding=1))

    def forward(self, z, label):
        y = torch.cat([z, label @ self.shared.weight], 1)
        x = self.linear(y).view(len(z), -1, 4, 4)
        for group in self.blocks:
            for block in group:
                x = block(x) if isinstance(block, BigganAttention) else block(x, y)
        return torch.tanh(self.output_layer(x)[:, :3])


class PretrainedNorm(nn.Module):
    """Statistics per truncation: here for 0, a half and 1."""

    def __init__(self, channels, condition=None):
        super().__init__()
        self.register_buffer("running_means", torch.zeros(3, channels))
        self.register_buffer("running_vars", torch.ones(3, channels))
        if condition is None:
            self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        else:
            self.scale = spectral_norm(nn.Linear(condition, channels, bias=False))
            self.offset = spectral_norm(nn.Linear(condition, channels, bias=False))

    def forward(self, x, row, condition=None):
        mean, variance = self.running_means[row], self.running_vars[row]
        if condition is None:
            return F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, 1e-4)
        gain, bias = 1 + self.scale(condition)[..., None, None], self.offset(condition)[..., None, None]
        return (x - mean[:, None, None]) / torch.sqrt(variance + 1e-4)[:, None, None] * gain + bias


class PretrainedAttention(nn.Module):
    def __init__(self, channels):
        super().__init__()
        conv = lambda inputs, outputs: spectral_norm(nn.Conv2d(inputs, outputs, 1, bias=False))
        self.snconv1x1_theta = conv(channels, channels // 8)
        self.snconv1x1_phi = conv(channels, channels // 8)
        self.snconv1x1_g = conv(channels, channels // 2)
        self.snconv1x1_o_conv = conv(channels // 2, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        theta = self.snconv1x1_theta(x).flatten(2)
        phi = F.max_pool2d(self.snconv1x1_phi(x), 2).flatten(2)
        g = F.max_pool2d(self.snconv1x1_g(x), 2).flatten(2)
        beta = torch.softmax(theta.transpose(1, 2) @ phi, -1)
        seen = (g @ beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return x + self.gamma * self.snconv1x1_o_conv(seen)


class PretrainedBlock(nn.Module):
    def __init__(self, inputs, outputs, condition, up):
        super().__init__()
        self.up, self.outputs = up, outputs
        inner = inputs // 4
        sizes = [(inputs, inner, 1), (inner, inner, 3), (inner, inner, 3), (inner, outputs, 1)]
        for index, (before, behind, kernel) in enumerate(sizes):
            conv = nn.Conv2d(before, behind, kernel, padding=kernel // 2)
            setattr(self, f"bn_{index}", PretrainedNorm(before, condition))
            setattr(self, f"conv_{index}", spectral_norm(conv))

    def forward(self, x, condition, row):
        branch = self.conv_0(F.relu(self.bn_0(x, row, condition)))
        branch = F.relu(self.bn_1(branch, row, condition))
        x = x[:, : self.outputs]
        if self.up:
            branch, x = F.interpolate(branch, scale_factor=2), F.interpolate(x, scale_factor=2)
        branch = self.conv_1(branch)
        branch = self.conv_2(F.relu(self.bn_2(branch, row, condition)))
        return self.conv_3(F.relu(self.bn_3(branch, row, condition))) + x


class PretrainedGenerator(nn.Module):
    """BigGAN of pytorch-pretrained-BigGAN, with two blocks and attention between them."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Linear(4, 2, bias=False)
        generator = nn.Module()
        generator.gen_z = spectral_norm(nn.Linear(5, 16 * 16))
        blocks = [PretrainedBlock(16, 8, 5, True), PretrainedAttention(8), PretrainedBlock(8, 8, 5, False)]
        generator.layers = nn.ModuleList(blocks)
        generator.bn = PretrainedNorm(8)
        generator.conv_to_rgb = spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.generator = generator

    def forward(self, z, label, row=1):
        condition = torch.cat([z, self.embeddings(label)], 1)
        x = self.generator.gen_z(condition).view(-1, 4, 4, 16).permute(0, 3, 1, 2).contiguous()
        for layer in self.generator.layers:
            x = layer(x, condition, row) if isinstance(layer, PretrainedBlock) else layer(x)
        x = self.generator.conv_to_rgb(F.relu(self.generator.bn(x, row)))
        return torch.tanh(x[:, :3])


class OwnEnergy(nn.Module):
    """An energy that nobody published under these names, its kernels as Keras has them: for a map of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Conv2d(4, 4, 3, padding=1)
        self.side, self.last = nn.Conv2d(1, 4, 1), nn.Linear(4, 1)
        self.register_buffer("steps", torch.tensor(12))

    def forward(self, x):
        x = self.second(F.relu(self.first(x))) + self.side(x)
        return self.last(F.relu(x).mean((2, 3)))[:, 0] - self.last.bias

    def as_keras(self):
        kernel = lambda tensor: tensor.permute(2, 3, 1, 0) if tensor.dim() == 4 else tensor.t()
        rename = lambda name, tensor: (name, tensor) if tensor.dim() < 2 else (name.replace("weight", "kernel"), kernel(tensor))
        return {name: tensor.contiguous() for name, tensor in (rename(*item) for item in self.state_dict().items())}


def randomised(network):
    """Weights and statistics in which nothing is zero or one, and layers that keep the magnitude of their operands."""
    for name, tensor in network.state_dict().items():
        if tensor.dtype == torch.float32 and not name.endswith(("_u", "_v", "u0")):
            summed = tensor[0].numel() if tensor.dim() > 1 and "running" not in name else 4
            positive = name.endswith(("var", "vars"))
            tensor.copy_(0.5 + torch.rand_like(tensor) if positive else torch.randn_like(tensor) * (2 / summed) ** 0.5)
    for module in network.modules():
        if hasattr(module, "weight_orig"):
            u, _, v = torch.linalg.svd(module.weight_orig.detach().flatten(1))
            module.weight_u.copy_(u[:, 0] + 0.1 * torch.randn_like(u[:, 0]))
            module.weight_v.copy_(v[0])
    return network.eval()


def described(network, inputs, **more):
    """Inputs and output in f64."""
    double = {name: value.double() for name, value in inputs.items()}
    with torch.no_grad():
        output = network.double()(*(value.clone() for value in double.values()))
    flat = lambda tensor: {"shape": list(tensor.shape), "data": tensor.flatten().tolist()}
    return {**more, "inputs": {name: flat(value) for name, value in double.items()}, "output": flat(output)}


def main():
    torch.manual_seed(0)
    expected = {}
    image = lambda channels, size: {"x": torch.rand(2, channels, size, size) * 2 - 1}
    latent = lambda: {"z": torch.randn(2, 3)}
    labelled = lambda: {**latent(), "class": F.one_hot(torch.tensor([2, 0]), 4).float()}

    network = randomised(MimicryDiscriminator())
    optimizer = torch.optim.Adam(network.parameters())
    saved = {"model_state_dict": network.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "global_step": 7}
    torch.save(saved, HERE / "mimicry_discriminator.pth")
    expected["mimicry_discriminator.pth"] = described(network, image(2, 8))

    network = randomised(MimicryGenerator())
    saved = {"model_state_dict": network.state_dict(), "optimizer_state_dict": None, "global_step": 7}
    torch.save(saved, HERE / "mimicry_generator.pth", _use_new_zipfile_serialization=False)
    expected["mimicry_generator.pth"] = described(network, latent())

    network = randomised(BigganDiscriminator())
    save_file(network.state_dict(), HERE / "biggan_discriminator.safetensors")
    expected["biggan_discriminator.safetensors"] = described(network, image(2, 8))

    network = randomised(BigganGenerator())
    torch.save(network.state_dict(), HERE / "biggan_generator.pth")
    expected["biggan_generator.pth"] = described(network, labelled())

    network = randomised(PretrainedGenerator())
    torch.save(network.state_dict(), HERE / "pretrained_generator.bin", _use_new_zipfile_serialization=False)
    expected["pretrained_generator.bin"] = described(network, labelled())

    network = randomised(OwnEnergy()).bfloat16()
    save_file(network.as_keras(), HERE / "own_energy.safetensors")
    expected["own_energy.safetensors"] = described(network, image(1, 4))

    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
