#!/usr/bin/env python3
"""Writes golden.json beside itself: energies and gradients of the public code of Energy Matching, by autograd in f64, for tests.rs.

python make_golden.py FOLDER

FOLDER holds network_transformer_vit.py of github.com/m1balcerak/EnergyMatching, and the package torchcfm, from which it has its U-Net, unless that
is installed. Written with torch 2.15.0 and Python 3.11. Nothing is fetched. Weights and images are numbers that both sides can make: `number`.
"""
import json
import math
import pathlib
import sys

import torch

sys.path.insert(0, sys.argv[1])
from network_transformer_vit import EBViTModelWrapper  # noqa: E402
from torchcfm.models.unet import nn, unet  # noqa: E402

# Both are in f32 whatever the model is in: norms, which have to be in f64 here, and the waves of the time, which may stay as they are.
nn.GroupNorm32.forward = torch.nn.GroupNorm.forward
waves = unet.timestep_embedding
unet.timestep_embedding = lambda *given: waves(*given).double()

HEADS, HEAD_CHANNELS, LAYERS = 2, 32, 2


def number(name, shape):
    """Values from -1/2 to 1/2, or around 1 of gains; matrices and filters keep magnitudes as they are."""
    fan_in = 1
    if name != "x" and len(shape) == 4:
        fan_in = math.prod(shape[1:])
    elif len(shape) == 2:
        fan_in = shape[0]
    start = sum((place + 1) * byte for place, byte in enumerate(name.encode()))
    scattered = ((start + index) ** 2 * 7919 + index for index in range(math.prod(shape)))
    factor = math.sqrt(12 / fan_in) if fan_in > 1 else 1.0
    offset = 1.0 if name.endswith(".gain") else 0.0
    values = [((value % 10007) / 10007 - 0.5) * factor + offset for value in scattered]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


torch.set_num_threads(1)
model = EBViTModelWrapper(
    dim=(3, 8, 8), num_channels=32, num_res_blocks=1, channel_mult=[1, 2], attention_resolutions="4", num_heads=4,
    num_head_channels=HEAD_CHANNELS, dropout=0.1, patch_size=4, embed_dim=16, transformer_nheads=2, transformer_nlayers=LAYERS,
    output_scale=100.0).double().eval()
model.dtype = torch.float64
state = model.state_dict()  # the tensors of the model, so that writing into these changes it
left = set(state)


def same(theirs, ours):
    state[theirs].copy_(number(ours, state[theirs].shape))
    left.remove(theirs)


def conv(theirs, ours):
    same(f"{theirs}.weight", f"{ours}.weight")
    same(f"{theirs}.bias", f"{ours}.bias")


def norm(theirs, ours):
    same(f"{theirs}.weight", f"{ours}.gain")
    same(f"{theirs}.bias", f"{ours}.bias")


def turned(weight, ours):
    """A map from columns to rows, which is from rows to columns here."""
    rows, columns = weight.reshape(-1, weight.shape[-1]).shape
    weight.copy_(number(ours, (columns, rows)).T.reshape(weight.shape))


def linear(theirs, ours):
    weight = state[f"{theirs}.weight"]
    turned(weight.squeeze(-1) if weight.dim() == 3 else weight, f"{ours}.weight")
    same(f"{theirs}.bias", f"{ours}.bias")
    left.remove(f"{theirs}.weight")


def split(weight, bias, ours):
    """Query, key and value, `[3, heads, channels, …]`. No gradient depends on the bias of a key, which is not here."""
    for weight, bias, name in zip(weight, bias, ["query", "key", "value"]):
        turned(weight, f"{ours}.{name}.weight")
        bias.copy_(number(f"{ours}.{name}.bias", (bias.numel(),)).reshape(bias.shape))


def attention(theirs, ours):
    norm(f"{theirs}.norm", f"{ours}.norm")
    weight, bias = state[f"{theirs}.qkv.weight"], state[f"{theirs}.qkv.bias"]
    heads = len(weight) // (3 * HEAD_CHANNELS)
    split(weight.view(heads, 3, HEAD_CHANNELS, -1).transpose(0, 1), bias.view(heads, 3, HEAD_CHANNELS).transpose(0, 1), ours)
    left.difference_update([f"{theirs}.qkv.weight", f"{theirs}.qkv.bias"])
    linear(f"{theirs}.proj_out", f"{ours}.last")


def block(theirs, ours):
    norm(f"{theirs}.in_layers.0", f"{ours}.before.norm")
    conv(f"{theirs}.in_layers.2", f"{ours}.first")
    linear(f"{theirs}.emb_layers.1", f"{ours}.time")
    norm(f"{theirs}.out_layers.0", f"{ours}.between.norm")
    conv(f"{theirs}.out_layers.3", f"{ours}.last")
    if f"{theirs}.skip_connection.weight" in state:
        conv(f"{theirs}.skip_connection", f"{ours}.shortcut")


def layer(theirs, ours):
    inner = f"{theirs}.self_attn"
    weight, bias = state[f"{inner}.in_proj_weight"], state[f"{inner}.in_proj_bias"]
    split(weight.chunk(3), bias.chunk(3), f"{ours}.attention")
    left.difference_update([f"{inner}.in_proj_weight", f"{inner}.in_proj_bias"])
    linear(f"{inner}.out_proj", f"{ours}.attention.out")
    norm(f"{theirs}.norm1", f"{ours}.norm1")
    linear(f"{theirs}.linear1", f"{ours}.wide")
    linear(f"{theirs}.linear2", f"{ours}.narrow")
    norm(f"{theirs}.norm2", f"{ours}.norm2")


with torch.no_grad():
    linear("time_embed.0", "time.linear1")
    linear("time_embed.2", "time.linear2")
    conv("input_blocks.0.0", "stem")
    block("input_blocks.1.0", "down0.1")
    conv("input_blocks.2.0.op", "down0.halved")
    block("input_blocks.3.0", "down1.1")
    attention("input_blocks.3.1", "down1.1.attention")
    block("middle_block.0", "middle.1")
    attention("middle_block.1", "middle.attention")
    block("middle_block.2", "middle.2")
    for place, ours in enumerate(["up1.1", "up1.2", "up0.1", "up0.2"]):
        block(f"output_blocks.{place}.0", ours)
        if ours.startswith("up1"):
            attention(f"output_blocks.{place}.1", f"{ours}.attention")
    conv("output_blocks.1.2.conv", "up1.doubled")
    norm("out.0", "image.norm")
    conv("out.2", "image.last")
    conv("patch_embed.patch_embed", "patches")
    same("patch_embed.pos_embed", "position")
    for index in range(LAYERS):
        layer(f"transformer_encoder.layers.{index}", f"layer{index + 1}")
    linear("final_linear", "head")
    # They move the energy by a constant, and are not here.
    state[f"transformer_encoder.layers.{LAYERS - 1}.norm2.bias"].zero_()
    state["final_linear.bias"].zero_()
assert not left, left

x = number("x", (2, 3, 8, 8))
golden = {
    "energy": model.potential(x, None).tolist(),
    "gradient": (-model.velocity(x, None)).flatten().tolist(),
}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(golden, indent=0) + "\n")
print(golden["energy"], len(golden["gradient"]), (-model.velocity(x, None)).abs().mean().item())
