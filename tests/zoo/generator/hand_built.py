"""Operators and patterns that PyTorch's exporters do not write, with a PyTorch module of the same function beside each graph."""
import math

import numpy as np
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from .entry import HandBuilt, entry
from .graph import Graph


def parameters(**shapes):
    """A module that holds uniform random parameters in [-0.6, 0.6]."""
    module = nn.Module()
    for name, shape in shapes.items():
        module.register_parameter(name, nn.Parameter(torch.rand(shape) * 1.2 - 0.6))
    return module


class Pair(nn.Module):
    """A function of parameters and x, as PyTorch computes it."""

    def __init__(self, function, **shapes):
        super().__init__()
        self.p = parameters(**shapes)
        self.function = function

    def forward(self, x):
        return self.function(self.p, x)


def both(name, family, shape, function, shapes, *graphs, **others):
    """Registers a PyTorch function with graphs of the same: (opset, function of graph and parameters)."""
    def built(opset, build, label):
        return HandBuilt(lambda module: build(Graph(opset, shape, producer=label), module.p), f"{label}{opset}")

    exports = [built(opset, build, label) for label, opset, build in graphs]
    entry(name, family, lambda: Pair(function, **shapes), shape, *exports, **others)


def gemm(p, x):
    h = torch.tanh(0.5 * x @ p.a + 2.0 * p.bias)
    g = p.b @ h.T + p.column
    return (torch.sin(g).sum(0) + (1.5 * h @ p.b.T).prod(1)).unsqueeze(1)


def gemm_graph(g, p):
    transposed = g("Transpose", "x")
    h = g("Tanh", g("Gemm", transposed, p.a, p.bias, transA=1, alpha=0.5, beta=2.0))
    h, _ = g("Dropout", h, n_outputs=2)
    right = g("Gemm", p.b, h, p.column, transB=1)
    left = g("Flatten", g("Gemm", h, p.b, transB=1, alpha=1.5), axis=1)
    ones = g("ReduceSum", g("Sin", right), axes=[0], keepdims=0) if g.opset < 13 else g("ReduceSum", g("Sin", right), [0], keepdims=0)
    return g.finish(g("Reshape", g("Add", ones, g("ReduceProd", left, axes=[1], keepdims=0)), [-1, 1]), (1,))


def shapes(p, x):
    a, b, c = x.split([1, 2, 4], dim=1)
    picked = x[:, [-1, 0, 3]] * x[:, [2, 2, -3]]
    stepped = x[:, 1:6:2]
    table = torch.tanh(x[:, torch.tensor([[0, 1], [5, 6]])])
    tiled = torch.cat([b, b, b], 1)[:, :4] * c
    ramp = torch.arange(1.0, 8.0, 2.0, dtype=x.dtype) / 4
    padded = F.pad(b * b, (1, 1), value=0.5) * ramp
    return (picked * stepped).sum(1) + (a**3).sum(1) + table.prod(2).sum(1) + tiled.sum(1) + torch.exp(0.3 * padded).sum(1) + 0.25 * (x * x).sum(1)


def shapes_graph(g, p):
    axes_are_inputs = g.opset >= 13

    def total(value, *axes):
        return g("ReduceSum", value, list(axes), keepdims=0) if axes_are_inputs else g("ReduceSum", value, axes=list(axes), keepdims=0)

    def unsqueeze(value, axis):
        return g("Unsqueeze", value, [axis]) if axes_are_inputs else g("Unsqueeze", value, axes=[axis])

    def squeeze(value, axis):
        return g("Squeeze", value, [axis]) if axes_are_inputs else g("Squeeze", value, axes=[axis])

    a, b, c = g("Split", "x", [1, 2, 4], axis=1, n_outputs=3) if axes_are_inputs else g("Split", "x", split=[1, 2, 4], axis=1, n_outputs=3)
    picked = g("Mul", g("Gather", "x", [-1, 0, 3], axis=1), g("Gather", "x", [2, 2, -3], axis=-1))
    stepped = g("Slice", "x", [1], [-1], [-1], [2])
    cube = squeeze(g("Pow", a, 3.0), 1)
    table = g("Tanh", g("Gather", "x", np.array([[0, 1], [5, 6]]), axis=1))
    table = total(g("ReduceProd", table, [2], keepdims=0) if g.opset >= 18 else g("ReduceProd", table, axes=[2], keepdims=0), 1)
    tiled = g("Slice", g("Tile", b, [1, 3]), [0], [4], [1])
    ramp = g("Div", g("Cast", g("Range", np.int64(1), np.int64(8), np.int64(2)), to=TensorProto.FLOAT), 4.0)
    border = g("Pad", g("Mul", b, b), [1, 1], 0.5, [1]) if g.opset >= 18 else g("Pad", g("Mul", b, b), [0, 1, 0, 1], 0.5)
    padded = g("Exp", g("Mul", g("Mul", border, unsqueeze(ramp, 0)), 0.3))
    n = g("Shape", "x", end=1) if g.opset >= 15 else g("Slice", g("Shape", "x"), [0], [1], [0])
    quarter = g("ConstantOfShape", g("Concat", n, [7], axis=0), value=tensor(0.25))
    quarter = g("Expand", quarter, g("Shape", "x"))
    squares = g("Mul", quarter, g("Mul", "x", "x"))
    parts = [g("Mul", picked, stepped), g("Mul", tiled, c), padded, squares]
    return g.finish(g.sum(*[total(part, 1) for part in parts], cube, table))


def tensor(value, kind=TensorProto.FLOAT):
    return helper.make_tensor("value", kind, [1], [value])


def reductions(p, x):
    h = (x.flatten(1) @ p.w).reshape(-1, 2, 3, 4)
    positive = torch.exp(0.5 * h)
    return (
        h.sum(3).sin().sum((1, 2)) + (h.mean(1, keepdim=True) * h).mean((1, 2, 3)) + h.amax(2).square().sum((1, 2))
        + h.amin((1, 3)).pow(3).sum(1) + h.abs().sum(3).square().mean((1, 2)) + h.square().sum((2, 3)).sqrt().prod(1)
        + positive.sum(1).log().square().sum((1, 2)) + torch.logsumexp(h, (1, 2)).sum(1) + h.square().sum((1, 2, 3))
        + (1 + 0.2 * h).prod(3).sum((1, 2))
    )


def reductions_graph(g, p):
    def reduce(kind, value, *axes, keepdims=0):
        by_input = g.opset >= (13 if kind == "Sum" else 18)
        how = {} if by_input else {"axes": list(axes)}
        return g(f"Reduce{kind}", value, *([list(axes)] if by_input else []), keepdims=keepdims, **how)

    square = lambda value: g("Mul", value, value)
    h = g("Reshape", g("MatMul", g("Flatten", "x"), p.w), [0, 2, 3, 4])
    positive = g("Exp", g("Mul", h, 0.5))
    return g.finish(g.sum(
        reduce("Sum", g("Sin", reduce("Sum", h, -1)), 1, 2),
        reduce("Mean", g("Mul", reduce("Mean", h, 1, keepdims=1), h), 1, 2, 3),
        reduce("Sum", square(reduce("Max", h, 2)), 1, 2),
        reduce("Sum", g("Pow", reduce("Min", h, 1, 3), 3.0), 1),
        reduce("Mean", square(reduce("L1", h, 3)), 1, -1),
        reduce("Prod", reduce("L2", h, 2, 3), 1),
        reduce("Sum", square(reduce("LogSum", positive, 1)), -2, -1),
        reduce("Sum", reduce("LogSumExp", h, 1, 2), 1),
        reduce("SumSquare", h, 1, 2, 3),
        reduce("Sum", reduce("Prod", g("Add", g("Mul", h, 0.2), 1.0), 3), 1, 2),
    ))


def elementwise(p, x):
    a, b = x @ p.a, x @ p.b
    h = a.exp() - torch.log(1.5 + b * b) + torch.sqrt(1 + a * a) + 1 / (2 + b.sin()) - b.abs() * a.cos() + torch.erf(a) + b.sign() * b
    h = h + torch.minimum(torch.minimum(a, b), p.c) + torch.maximum(torch.maximum(b, a), -p.c) + b.clamp(min=-0.2) ** 2 + a.clamp(max=0.3) ** 3
    h = h + torch.pow(1 + a * a, p.c) + torch.pow(torch.full_like(b, 1.7), b) + torch.pow(2 + b, 0.5)
    h = h + torch.where((a > 0) & ~(b >= 0.1) | (a <= -0.5) ^ (b < p.c), a * b, a - b) + torch.where(x[:, :5] == 0.25, a, 0.0 * a)
    return h.mean(1)


def elementwise_graph(g, p):
    a, b = g("MatMul", "x", p.a), g("MatMul", "x", p.b)
    mul = lambda one, two: g("Mul", one, two)
    one = g.sum(
        g("Sub", g("Exp", a), g("Log", g("Add", mul(b, b), 1.5))), g("Sqrt", g("Add", mul(a, a), 1.0)),
        g("Reciprocal", g("Add", g("Sin", b), 2.0)), g("Neg", mul(g("Abs", b), g("Cos", a))), g("Erf", a), mul(g("Sign", b), b),
    )
    two = g.sum(
        g("Min", a, b, p.c), g("Max", b, a, -p.c), g("Pow", g("Clip", b, -0.2), 2.0), g("Pow", g("Clip", a, "", 0.3), np.float32(3)),
        g("Pow", g("Add", mul(a, a), 1.0), p.c), g("Pow", 1.7, b), g("Pow", g("Add", b, 2.0), 0.5),
    )
    left = g("And", g("Greater", a, 0.0), g("Not", g("GreaterOrEqual", b, 0.1)))
    mask = g("Or", left, g("Xor", g("LessOrEqual", a, -0.5), g("Less", b, p.c)))
    chosen = g("Where", mask, mul(a, b), g("Sub", a, b))
    equal = g("Where", g("Equal", g("Slice", "x", [0], [5], [1]), 0.25), a, 0.0)
    total = g.sum(one, two, chosen, equal)
    mean = g("ReduceMean", total, [1], keepdims=0) if g.opset >= 18 else g("ReduceMean", total, axes=[1], keepdims=0)
    return g.finish(mean)


def activations(p, x):
    h = x @ p.w
    prelu = torch.where(h < 0, p.slope * h, h)
    selu = 1.1 * torch.where(h > 0, h, 1.5 * (torch.exp(h) - 1))
    parts = [
        F.relu(h) ** 2, F.leaky_relu(h, 0.3) * h, prelu * h, F.elu(h, 0.7), selu, F.celu(h, 0.6), torch.sigmoid(h),
        torch.clamp(0.3 * h + 0.4, 0, 1) * h, torch.tanh(h), F.softplus(h), F.softsign(h), F.gelu(h), F.gelu(h, approximate="tanh"),
        h * torch.clamp(h / 6 + 0.5, 0, 1), F.mish(h), h * torch.sigmoid(h),
    ]
    return (torch.stack(parts, 2) @ p.mix).flatten(1).sum(1, keepdim=True)


def activations_graph(g, p):
    h = g("MatMul", "x", p.w)
    relu, leaky, prelu = g("Relu", h), g("LeakyRelu", h, alpha=0.3), g("PRelu", h, p.slope)
    parts = [
        g("Mul", relu, relu), g("Mul", leaky, h), g("Mul", prelu, h), g("Elu", h, alpha=0.7), g("Selu", h, alpha=1.5, gamma=1.1),
        g("Celu", h, alpha=0.6), g("Sigmoid", h), g("Mul", g("HardSigmoid", h, alpha=0.3, beta=0.4), h), g("Tanh", h),
        g("Softplus", h), g("Softsign", h), g("Gelu", h), g("Gelu", h, approximate="tanh"), g("HardSwish", h), g("Mish", h),
        g("Mul", h, g("Sigmoid", h)),
    ]
    stacked = g("Concat", *[g("Unsqueeze", part, [2]) for part in parts], axis=2)
    return g.finish(g("ReduceSum", g("Squeeze", g("MatMul", stacked, p.mix), [2]), [1], keepdims=1), (1,))


def norms(p, x):
    h = F.conv2d(x, p.w)
    h = F.group_norm(h, 2, p.scale, p.bias, 1e-3)
    h = torch.tanh(F.batch_norm(h, p.mean.detach(), p.mean.detach().exp(), p.scale, p.bias, eps=1e-2))
    h = torch.sin(F.instance_norm(h, weight=p.bias, bias=p.scale, eps=1e-1))
    h = F.layer_norm(h, (5, 5), p.rows, None, 1e-1)
    one = F.normalize(h.exp(), p=1.0, dim=1, eps=0.0)
    two = F.normalize(h + 2 + p.mean.reshape(4, 1, 1), dim=-1, eps=0.0)
    return (one * two).sum((1, 2, 3)) + torch.sin(h).sum((1, 2, 3))


def norms_graph(g, p):
    h = g("Conv", "x", p.w)
    h = g("GroupNormalization", h, p.scale, p.bias, num_groups=2, epsilon=1e-3)
    h = g("Tanh", g("BatchNormalization", h, p.scale, p.bias, p.mean, p.mean.exp(), epsilon=1e-2))
    h = g("Sin", g("InstanceNormalization", h, p.bias, p.scale, epsilon=1e-1))
    h = g("LayerNormalization", h, p.rows, axis=-2, epsilon=1e-1)
    one = g("LpNormalization", g("Exp", h), p=1, axis=1)
    two = g("LpNormalization", g("Add", h, p.mean.reshape(4, 1, 1) + 2))
    total = lambda value: g("ReduceSum", value, [1, 2, 3], keepdims=0)
    return g.finish(g("Add", total(g("Mul", one, two)), total(g("Sin", h))))


def group_of_groups(p, x):
    h = F.conv2d(x, p.w)
    h = F.group_norm(h, 2, p.scale.repeat_interleave(2), p.bias.repeat_interleave(2), 1e-3)
    return torch.exp(h).mean((1, 2, 3))


def group_of_groups_graph(g, p):
    h = g("GroupNormalization", g("Conv", "x", p.w), p.scale, p.bias, num_groups=2, epsilon=1e-3)
    return g.finish(g("ReduceMean", g("Exp", h), [1, 2, 3], keepdims=0))


def resize(p, x):
    h = F.interpolate(torch.tanh(F.conv2d(x, p.a)), scale_factor=(2, 3), mode="nearest")
    h = F.interpolate(torch.sin(F.conv2d(h, p.b)), scale_factor=2, mode="bilinear", align_corners=False)
    blocks = h.reshape(-1, 4, 6, 2, 9, 2).permute(0, 3, 5, 1, 2, 4).reshape(-1, 16, 6, 9)
    depth = F.pixel_shuffle(torch.tanh(blocks * 2), 2)
    column = blocks.reshape(-1, 2, 2, 4, 6, 9).permute(0, 3, 4, 1, 5, 2).reshape(-1, 4, 12, 18)
    return (depth * column).mean((1, 2, 3)) + depth.square().mean((1, 2, 3))


def resize_graph(g, p):
    h = g("Tanh", g("Conv", "x", p.a))
    no_region = np.zeros(0, np.float32) if g.opset < 13 else ""
    h = g("Resize", h, no_region, [1.0, 1.0, 2.0, 3.0], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    h = g("Sin", g("Conv", h, p.b))
    if g.opset >= 18:
        h = g("Resize", h, "", "", [12, 18], mode="linear", axes=[2, 3])
    elif g.opset >= 13:
        h = g("Resize", h, "", [1.0, 1.0, 2.0, 2.0], mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    else:
        n = g("Slice", g("Shape", h), [0], [2])
        h = g("Resize", h, no_region, np.zeros(0, np.float32), g("Concat", n, [12, 18], axis=0), mode="linear")
    blocks = g("SpaceToDepth", h, blocksize=2)
    depth = g("DepthToSpace", g("Tanh", g("Mul", blocks, 2.0)), blocksize=2, mode="CRD")
    column = g("DepthToSpace", blocks, blocksize=2)
    mean = lambda value: g("ReduceMean", value, [1, 2, 3], keepdims=0) if g.opset >= 18 else g("ReduceMean", value, axes=[1, 2, 3], keepdims=0)
    return g.finish(g("Add", mean(g("Mul", depth, column)), mean(g("Mul", depth, depth))))


def upsample(p, x):
    h = F.interpolate(torch.tanh(F.conv2d(x, p.a)), scale_factor=2, mode="nearest")
    return F.softplus(F.conv2d(h, p.b)).sum((1, 2, 3))


def upsample_graph(g, p):
    h = g("Upsample", g("Tanh", g("Conv", "x", p.a)), [1.0, 1.0, 2.0, 2.0], mode="nearest")
    return g.finish(g("ReduceSum", g("Softplus", g("Conv", h, p.b)), axes=[1, 2, 3], keepdims=0))


def convolutions(p, x):
    h = torch.tanh(F.conv2d(F.pad(x, (1, 1, 0, 1)), p.a, p.a_bias, stride=2))
    low = F.conv2d(F.pad(h, (2, 1, 1, 1)), p.b)
    pooled = F.max_pool2d(low, 2)
    up = F.conv_transpose2d(torch.sin(pooled), p.c, p.c_bias, stride=2, padding=1, groups=2)
    line = up.flatten(2)
    line = F.conv1d(line, p.d, padding=1, dilation=2, stride=2)
    line = F.conv_transpose1d(torch.tanh(line), p.e, stride=2, output_padding=1)
    ceil = F.max_pool2d(up, 3, 2, ceil_mode=True)
    dilated = F.max_pool2d(low, 2, 1, dilation=2)
    means = F.avg_pool2d(low, 3, 2, 1, count_include_pad=True).square().sum((1, 2, 3)) + F.avg_pool2d(up, 3, 2, 1, count_include_pad=False).sin().sum((1, 2, 3))
    return F.max_pool1d(line, 3, 1, 1).square().sum((1, 2)) + ceil.sin().sum((1, 2, 3)) + dilated.square().sum((1, 2, 3)) + up.amax((2, 3)).pow(3).sum(1) + up.mean((2, 3)).exp().sum(1) + means


def convolutions_graph(g, p):
    h = g("Tanh", g("Conv", "x", p.a, p.a_bias, auto_pad="SAME_UPPER", strides=[2, 2]))
    low = g("Conv", h, p.b, auto_pad="SAME_LOWER", kernel_shape=[3, 4])
    pooled = g("MaxPool", low, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    up = g("ConvTranspose", g("Sin", pooled), p.c, p.c_bias, strides=[2, 2], auto_pad="SAME_UPPER", group=2)
    line = g("Reshape", up, [0, 0, -1])
    line = g("Tanh", g("Conv", line, p.d, pads=[1, 1], dilations=[2], strides=[2]))
    line = g("ConvTranspose", line, p.e, strides=[2], output_padding=[1])
    line = g("MaxPool", line, kernel_shape=[3], pads=[1, 1])
    ceil = g("MaxPool", up, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    dilated = g("MaxPool", low, kernel_shape=[2, 2], dilations=[2, 2])
    means = [
        g("AveragePool", low, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
        g("AveragePool", up, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    square = lambda value: g("Mul", value, value)
    total = lambda value, rank=4: g("ReduceSum", value, list(range(1, rank)), keepdims=0)
    return g.finish(g.sum(
        total(square(line), 3), total(g("Sin", ceil)), total(square(dilated)), total(g("Pow", g("GlobalMaxPool", up), 3.0)),
        total(g("Exp", g("GlobalAveragePool", up))), total(square(means[0])), total(g("Sin", means[1])),
    ))


def einsums(p, x):
    h = torch.tanh(torch.einsum("nij,jk->nik", x, p.a))
    h = torch.einsum("...k,lk->...l", h, p.b)
    attention = torch.einsum("nik,njk->nij", h, h)
    mixed = torch.einsum("nij,njk->nki", torch.softmax(attention, 2), h)
    return torch.einsum("nki,nki->n", mixed, mixed) + torch.einsum("nik,k->n", h.sin(), p.c)


def einsums_graph(g, p):
    h = g("Tanh", g("Einsum", "x", p.a, equation="nij,jk->nik"))
    h = g("Einsum", h, p.b, equation="...k,lk->...l")
    attention = g("Einsum", h, h, equation="nik,njk->nij")
    mixed = g("Einsum", g("Softmax", attention, axis=2), h, equation="n i j, n j k -> n k i")
    return g.finish(g("Add", g("Einsum", mixed, mixed, equation="nki,nki->n"), g("Einsum", g("Sin", h), p.c, equation="nik,k->n")))


def softmaxes(p, x):
    h = x.flatten(2) @ p.w
    flat = torch.softmax(h.flatten(1), 1).reshape(h.shape)
    log = torch.log_softmax(h.flatten(1), 1).reshape(h.shape)
    return (flat * h.sin()).sum((1, 2)) - 0.1 * (log * h.cos()).sum((1, 2)) + torch.softmax(h * 2, 2).square().sum((1, 2))


def softmaxes_graph(g, p):
    """Up to opset 12 an axis of 1 normalises everything behind the batch; from 13 on it is one axis."""
    h = g("MatMul", "x", p.w)
    total = lambda value: g("ReduceSum", value, [1, 2], keepdims=0) if g.opset >= 13 else g("ReduceSum", value, axes=[1, 2], keepdims=0)
    if g.opset < 13:
        flat, log = g("Softmax", h), g("LogSoftmax", h)
    else:
        rows = g("Flatten", h)
        shape = g("Shape", h)
        flat, log = (g("Reshape", g(kind, rows), shape) for kind in ("Softmax", "LogSoftmax"))
    last = g("Softmax", g("Mul", h, 2.0), axis=2)
    entropy = g("Mul", total(g("Mul", log, g("Cos", h))), 0.1)
    return g.finish(g("Add", g("Sub", total(g("Mul", flat, g("Sin", h))), entropy), total(g("Mul", last, last))))


def storage(p, x):
    h = torch.tanh(x @ p.in_f16.half().to(x.dtype) + 0.5)
    return F.softplus(h @ p.in_f64).mul(torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)).sum(1, keepdim=True)


def storage_graph(g, p):
    """Weights as f16, f64 and lists of floats; initialisers among the inputs (IR 3); dead nodes; absent optional inputs."""
    half = g("Cast", p.in_f16.detach().numpy().astype(np.float16), to=TensorProto.FLOAT)
    double = g("Cast", p.in_f64.detach().numpy().astype(np.float64), to=TensorProto.FLOAT)
    g.initializers.append(helper.make_tensor("factors", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]))
    g.initializers.append(helper.make_tensor("unused", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0]))
    shift = g("Constant", value=helper.make_tensor("value", TensorProto.FLOAT, [], [0.5]))
    h = g("Tanh", g("Add", g("MatMul", "x", half), shift))
    g("Exp", h, name="dead")
    h = g("Mul", g("Softplus", g("MatMul", h, double)), "factors")
    total = g("ReduceSum", h, axes=[1])
    model = g.finish(total, (1,), ir_version=3, doc_string="Weights in several forms.")
    for initializer in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(initializer.name, initializer.data_type, list(initializer.dims)))
    for node in model.graph.node:
        node.name = ""
    return model


def constants(p, x):
    return torch.exp(0.5 * torch.tanh(x @ p.w)).reshape(-1, 2, 3).mul(torch.tensor([1.0, -2.0, 0.5], dtype=x.dtype)).sum((1, 2))


def constants_graph(g, p):
    """Constants by every attribute, no initialiser at all."""
    w = g("Constant", value=numpy_helper.from_array(p.w.detach().numpy()))
    h = g("Exp", g("Mul", g("Tanh", g("MatMul", "x", w)), g("Constant", value_float=0.5)))
    h = g("Reshape", h, g("Constant", value_ints=[-1, 2, 3]))
    h = g("Mul", h, g("Constant", value_floats=[1.0, -2.0, 0.5]))
    axis = g("Unsqueeze", g("Constant", value_int=1), g("Constant", value_ints=[0]))
    return g.finish(g("ReduceSum", g("ReduceSum", h, g("Constant", value_ints=[2]), keepdims=0), axis, keepdims=0))


def keras(p, x):
    same = lambda h, w, stride: F.conv2d(F.pad(h, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)), w, stride=stride)
    h = x.permute(0, 3, 1, 2)
    h = F.elu(same(h, p.a, 2) + p.a_bias.reshape(-1, 1, 1))
    h = h * (p.scale.reshape(-1, 1, 1) + 1) + p.shift.reshape(-1, 1, 1)
    h = torch.sigmoid(same(h, p.b, 1)) * F.max_pool2d(h, 3, 1, 1)
    h = h.mean((2, 3))
    return F.softplus(h @ p.dense + p.dense_bias).sum(1, keepdim=True)


def keras_graph(g, p):
    """Channels last: a Transpose around every convolution and pool, biases as Add, SAME_UPPER, a Reshape by computed shape."""
    inward = lambda h: g("Transpose", h, perm=[0, 3, 1, 2])
    outward = lambda h: g("Transpose", h, perm=[0, 2, 3, 1])
    h = outward(g("Conv", inward("x"), p.a, auto_pad="SAME_UPPER", strides=[2, 2], group=1, kernel_shape=[3, 3], dilations=[1, 1]))
    h = g("Elu", g("Add", h, p.a_bias.reshape(1, 1, 1, -1)))
    h = g("Add", g("Mul", h, (p.scale + 1)), p.shift)
    gate = outward(g("Conv", inward(h), p.b, auto_pad="SAME_UPPER", strides=[1, 1]))
    peak = outward(g("MaxPool", inward(h), kernel_shape=[3, 3], strides=[1, 1], auto_pad="SAME_UPPER"))
    h = g("Mul", g("Sigmoid", gate), peak)
    h = g("Squeeze", g("GlobalAveragePool", inward(h)), [2, 3])
    n = g("Cast", g("Slice", g("Cast", g("Shape", h), to=TensorProto.INT32), [0], [1], [0]), to=TensorProto.INT64)
    h = g("Reshape", h, g("Concat", n, [4], axis=0))
    h = g("Softplus", g("Add", g("MatMul", h, p.dense), p.dense_bias))
    return g.finish(g("ReduceSum", h, [1], keepdims=1), (1,))


def jax(p, x):
    h = torch.einsum("ntc,cd->ntd", x, p.a)
    h = F.gelu(h, approximate="tanh")
    h = F.softplus(h.flatten(1) @ p.b)
    return torch.logsumexp(h, 1) + h.square().mean(1)


def jax_graph(g, p):
    """dot_general as Transpose, Reshape and MatMul; softplus as max + log1p; gelu by powers; logsumexp by a maximum that is subtracted."""
    h = g("Reshape", g("MatMul", g("Reshape", "x", [-1, 3]), p.a), [-1, 4, 5])
    cubic = g("Mul", g("Mul", h, h), h)
    inner = g("Mul", g("Add", h, g("Mul", cubic, 0.044715)), math.sqrt(2 / math.pi))
    h = g("Mul", g("Mul", h, 0.5), g("Add", g("Tanh", inner), 1.0))
    h = g("Transpose", g("Transpose", h, perm=[1, 2, 0]), perm=[2, 0, 1])
    h = g("MatMul", g("Reshape", h, [-1, 20]), p.b)
    zero = g("Expand", g("Reshape", 0.0, [1, 1]), g("Shape", h))
    bound = g("Max", h, zero)
    tail = g("Log", g("Add", g("Exp", g("Neg", g("Abs", g("Sub", h, zero)))), 1.0))
    h = g("Where", g("Not", g("Equal", h, h)), g("Add", h, zero), g("Add", bound, tail))
    top = g("ReduceMax", h, axes=[1], keepdims=0)
    top = g("Where", g("Less", g("Abs", top), 3.0e38), top, 0.0)
    exponents = g("Exp", g("Sub", h, g("Unsqueeze", top, [1])))
    logsumexp = g("Add", g("Log", g("ReduceSum", exponents, [1], keepdims=0)), top)
    mean = g("Div", g("ReduceSum", g("Pow", h, np.float32(2)), [1], keepdims=0), g("Cast", g("Gather", g("Shape", h), np.int64(1)), to=TensorProto.FLOAT))
    return g.finish(g("Add", logsumexp, mean))


def batch_second(p, x):
    h = torch.tanh(x @ p.a)
    time = torch.einsum("nti,ts->nsi", h, p.b)
    return F.softplus(time).flatten(1).mean(1)


def batch_second_graph(g, p):
    """The batch on the second and on the last axis for most of the way, as recurrent and spatial models have it."""
    h = g("Transpose", "x", perm=[1, 0, 2])
    h = g("Tanh", g("MatMul", h, p.a))
    last = g("Transpose", h, perm=[0, 2, 1])
    flat = g("Reshape", last, [4, -1])
    mixed = g("Reshape", g("MatMul", p.b.T.contiguous(), flat), [4, 3, -1])
    softened = g("Softplus", mixed)
    return g.finish(g("ReduceMean", softened, axes=[0, 1], keepdims=0))


both("ops_gemm", "Gemm with every attribute, Dropout, Flatten", (4,), gemm, dict(a=(4, 6), b=(3, 6), bias=(6,), column=(3, 1)),
     ("onnx", 11, gemm_graph), ("onnx", 13, gemm_graph))
both("ops_shapes", "Split, Gather, Slice, Tile, Pad, Range, Shape, ConstantOfShape, Expand in the forms of each opset", (7,), shapes, {},
     ("onnx", 11, shapes_graph), ("onnx", 13, shapes_graph), ("onnx", 18, shapes_graph))
both("ops_reductions", "every reduction", (3, 4), reductions, dict(w=(12, 24)), ("onnx", 11, reductions_graph),
     ("onnx", 18, reductions_graph))
both("ops_elementwise", "arithmetic, comparisons, logic, powers", (6,), elementwise, dict(a=(6, 5), b=(6, 5), c=(5,)),
     ("onnx", 13, elementwise_graph))
both("ops_activations", "every activation with attributes", (5,), activations, dict(w=(5, 6), slope=(6,), mix=(16, 1)), ("onnx", 20, activations_graph))
both("ops_norms", "every normalisation", (2, 5, 5), norms, dict(w=(4, 2, 1, 1), scale=(4,), bias=(4,), mean=(4,), rows=(5, 5)), ("onnx", 21, norms_graph))
both("ops_groups", "GroupNormalization of opset 18, with a scale a group", (1, 4, 4), group_of_groups, dict(w=(4, 1, 1, 1), scale=(2,), bias=(2,)),
     ("onnx", 18, group_of_groups_graph))
both("ops_resize", "Resize nearest and linear, SpaceToDepth, DepthToSpace", (1, 3, 3), resize, dict(a=(3, 1, 1, 1), b=(4, 3, 1, 1)),
     ("onnx", 11, resize_graph), ("onnx", 13, resize_graph), ("onnx", 18, resize_graph))
both("ops_upsample", "Upsample, which exists up to opset 9 only", (1, 3, 3), upsample, dict(a=(3, 1, 1, 1), b=(2, 3, 3, 3)), ("onnx", 9, upsample_graph))
both("ops_convolutions", "1-D and 2-D convolutions and pools, auto_pad, ceil_mode, dilation", (1, 8, 7), convolutions,
     dict(a=(4, 1, 3, 3), a_bias=(4,), b=(4, 4, 3, 4), c=(4, 2, 4, 4), c_bias=(4,), d=(3, 4, 3), e=(3, 2, 3)), ("onnx", 13, convolutions_graph))
both("ops_einsum", "einsums that are matrix products", (4, 3), einsums, dict(a=(3, 5), b=(4, 5), c=(4,)), ("onnx", 13, einsums_graph))
both("ops_softmax", "Softmax and LogSoftmax before and after opset 13", (3, 4), softmaxes, dict(w=(4, 5)), ("onnx", 11, softmaxes_graph),
     ("onnx", 13, softmaxes_graph))
both("storage", "weights as f16, f64, float_data; initialisers among the inputs (IR 3); nodes without names; dead nodes", (4,), storage,
     dict(in_f16=(4, 5), in_f64=(5, 3)), ("onnx", 11, storage_graph))
both("constants", "weights in Constant nodes, by every attribute", (4,), constants, dict(w=(4, 6)), ("onnx", 13, constants_graph))
both("keras", "channels last as tf2onnx writes Keras", (6, 6, 2), keras,
     dict(a=(4, 2, 3, 3), a_bias=(4,), scale=(4,), shift=(4,), b=(4, 4, 3, 3), dense=(4, 5), dense_bias=(5,)), ("tf2onnx", 15, keras_graph))
both("jax", "primitives as jax2onnx writes them", (4, 3), jax, dict(a=(3, 5), b=(20, 6)), ("jax2onnx", 17, jax_graph))
both("batch_second", "the batch on the second and the last axis", (4, 5), batch_second, dict(a=(5, 3), b=(4, 4)), ("onnx", 17, batch_second_graph))
