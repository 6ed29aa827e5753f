#!/usr/bin/env python3
"""Makes `operators/`: one small model for each operator that exporters write and kind of its attributes, with the energies that ONNX Runtime
gives for some images, those of `exporters/` among them. The derivatives are compared with differences in f64 by `tests/suite/zoo.rs`.

Written with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, safetensors 0.8.0 and Python 3.11. Nothing is fetched; the bytes are the same on
every run. Run it in any folder.
"""
import json
import pathlib
import zlib

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
from onnx import TensorProto, checker, helper, numpy_helper

FOLDER = pathlib.Path(__file__).parent / "operators"
EXPORTERS = FOLDER.parent / "exporters"
"""Models that exporters wrote, which are only run here."""
N_IMAGES = 3
LARGEST_FOLDER = 200_000
"""Bytes of all models and the golden together."""
FLOAT = TensorProto.FLOAT
MODELS = {}


class Graph:
    """A model of an input x `[N, shape…]`; a call of an operator returns the name of its output."""

    def __init__(self, opset, shape, batch="N"):
        self.opset, self.shape, self.batch = opset, shape, batch
        self.nodes, self.initializers = [], []

    def constant(self, value):
        value = np.asarray(value)
        value = value.astype(np.float32) if value.dtype == np.float64 else value
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def __call__(self, operator, *inputs, n_outputs=1, **attributes):
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        outputs = [f"v{len(self.nodes)}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def cast(self, value, kind=FLOAT):
        return self("Cast", value, to=kind)

    def n_images(self):
        """N as a list of one integer."""
        return self("Gather", self("Shape", "x"), np.array([0]))

    def for_each_image(self, values):
        """The same values for each image: [1, …] to [N, …]."""
        values = np.asarray(values)
        sizes = np.array(values.shape[1:], dtype=np.int64)
        return self("Expand", values, self("Concat", self.n_images(), sizes, axis=0))

    def model(self, output):
        inputs = [helper.make_tensor_value_info("x", FLOAT, [self.batch, *self.shape])]
        outputs = [helper.make_tensor_value_info(output, FLOAT, None)]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8 if self.opset < 19 else 10)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def images(name, shape, low, high):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.uniform(low, high, (N_IMAGES, *shape)).astype(np.float32)


def case(name, shape, build, opset=18, low=-1.0, high=1.0, batch="N", has_ort=True):
    """Registers E = Σ w·y + 0.1·y² + Σ x² of what `build` makes of x."""
    x = images(name, shape, low, high)
    g = Graph(opset, shape, batch)
    y = g.cast(build(g))
    n_axes = run(g.model(y), x).ndim if has_ort else len(shape) + 1
    extents = run(g.model(y), x).shape[1:] if has_ort else shape
    weights = np.random.default_rng(7).uniform(0.5, 1.5, extents)
    both = g("Add", g("Mul", y, weights), g("Mul", g("Mul", y, y), 0.1))
    parts = []
    for value, rank in ((both, n_axes), (g("Mul", "x", "x"), len(shape) + 1)):
        axes = list(range(1, rank))
        if axes:
            value = g("ReduceSum", value, np.array(axes), keepdims=0) if opset >= 13 else g("ReduceSum", value, axes=axes, keepdims=0)
        parts.append(value)
    g.nodes.append(helper.make_node("Add", parts, ["energy"]))
    model = g.model("energy")
    model.graph.output[0].type.tensor_type.shape.CopyFrom(helper.make_tensor_type_proto(FLOAT, [batch]).tensor_type.shape)
    checker.check_model(model)
    assert name not in MODELS, name
    MODELS[name] = (model, x, run(model, x))


def gathers():
    x = (4, 5)
    case("gather_elements", x, lambda g: g("GatherElements", "x", g.for_each_image([[[0, -1, 2], [4, 4, 1]]]), axis=2))
    case("gather_elements_along_1", x, lambda g: g("GatherElements", "x", g.for_each_image([[[0, 1, 3, -4, 2]]]), axis=-2))
    case("gather_elements_alike", x, lambda g: g("GatherElements", "x", g.for_each_image([[[1, 0, 3]] * 4]), axis=2))
    case("gather_elements_of_the_greatest", x, lambda g: g("GatherElements", "x", g("ArgMax", "x", axis=2), axis=2))
    case("gather_nd_leading", x, lambda g: g("Transpose", g("GatherND", g("Transpose", "x", perm=[1, 2, 0]), np.array([[0, 1], [3, -1], [-4, 2], [0, 1]])), perm=[1, 0]))
    case("gather_nd_rows", x, lambda g: g("Transpose", g("GatherND", g("Transpose", "x", perm=[1, 0, 2]), np.array([[[0], [2]], [[-1], [0]]])), perm=[2, 0, 1, 3]))
    case("gather_nd_batch_dims", x, lambda g: g("GatherND", "x", g.for_each_image([[[1], [3], [0]]]), batch_dims=1))
    case("gather_nd_batch_dims_tuples", x, lambda g: g("GatherND", "x", g.for_each_image([[[1, 4], [3, -5]]]), batch_dims=1))
    case("gather_nd_own_images", x, own_images)
    case("gather_nd_by_input", x, by_input)
    case("gather_own_images", x, lambda g: g("Gather", "x", g("Range", np.int64(0), g("Squeeze", g.n_images(), np.array([0])), np.int64(1)), axis=0))
    case("as_strided", x, as_strided)
    case("gather_by_input", (6,), lambda g: g("Gather", np.linspace(-1, 1, 18).reshape(6, 3), g("ArgMax", "x", axis=1, keepdims=0)))
    case("gather_columns_by_input", (6,), lambda g: g("Transpose", g("Gather", np.linspace(-1, 1, 18).reshape(3, 6), g("ArgMax", "x", axis=1, keepdims=0), axis=1), perm=[1, 0]))
    case("own_label", (6,), lambda g: g("GatherND", "x", g("Concat", g("Unsqueeze", image_numbers(g), np.array([-1])), g("Unsqueeze", g("ArgMin", "x", axis=1, keepdims=0), np.array([-1])), axis=-1)))
    case("own_label_of_all", (6,), lambda g: g("Gather", g("Reshape", "x", np.array([-1])), g("Add", g("Mul", image_numbers(g), np.int64(6)), g("ArgMax", "x", axis=1, keepdims=0))))
    case("own_label_of_rows", x, own_label_of_rows)
    fixed = np.arange(3)[:, None, None] * 20 + np.array([[3, 7], [19, 0]])
    case("as_strided_of_a_fixed_batch", x, lambda g: g("Gather", g("Reshape", "x", np.array([60])), fixed.astype(np.int64)), batch=3)


def image_numbers(g):
    return g("Range", np.int64(0), g("Squeeze", g.n_images(), np.array([0])), np.int64(1))


def own_images(g):
    """x[arange(N)[:, None], [1, 3]]."""
    numbers = g("Unsqueeze", image_numbers(g), np.array([1, 2]))
    shape = g("Concat", g.n_images(), np.array([2, 1]), axis=0)
    numbers = g("Expand", numbers, shape)
    rows = g("Expand", np.array([[[1], [3]]]), shape)
    return g("GatherND", "x", g("Concat", numbers, rows, axis=-1))


def own_label_of_rows(g):
    """x[arange(N)[:, None], label, :] for two labels of each image."""
    labels = g("TopK", g("ReduceSum", "x", np.array([2]), keepdims=0), np.array([2]), n_outputs=2)[1]
    numbers = g("Expand", g("Unsqueeze", image_numbers(g), np.array([1])), g("Shape", labels))
    columns = [g("Unsqueeze", value, np.array([-1])) for value in (numbers, labels)]
    return g("GatherND", "x", g("Concat", *columns, axis=-1))


def by_input(g):
    """The row of each image whose sum is the greatest."""
    sums = g("ReduceSum", "x", np.array([2]), keepdims=0)
    return g("GatherND", "x", g("ArgMax", sums, axis=1), batch_dims=1)


def as_strided(g):
    flat = g("Reshape", "x", np.array([-1]))
    starts = g("Reshape", g("Mul", image_numbers(g), np.int64(20)), np.array([-1, 1, 1]))
    indices = g("Add", starts, np.array([[0, 5, 10], [1, 6, 19]]))
    return g("Gather", flat, indices)


def scatters():
    x = (4, 5)
    indices = [[[0, -1, 2], [4, 4, 1]]]
    updates = [[[0.5, -0.25, 2.0], [1.5, -1.0, 0.75]]]
    for reduction in ("none", "add", "mul", "max", "min"):
        def elements(g, reduction=reduction):
            places = indices if reduction != "none" else [[[0, -1, 2], [4, 3, 1]]]
            return g("ScatterElements", "x", g.for_each_image(places), g("Expand", np.array(updates), g("Concat", g.n_images(), np.array([2, 3]), axis=0)), axis=2, reduction=reduction)

        case(f"scatter_elements_{reduction}", x, elements)

        def alike(g, reduction=reduction):
            part = g("Sin", g("Slice", "x", np.array([0]), np.array([2]), np.array([2])))
            return g("ScatterElements", "x", g.for_each_image([[[3, 1]] * 4]), part, axis=-1, reduction=reduction)

        case(f"scatter_elements_alike_{reduction}", x, alike)

        def nd(g, reduction=reduction):
            last = g("Transpose", "x", perm=[1, 2, 0])
            places = [[0, 1], [3, 4], [2, 2]] if reduction == "none" else [[0, 1], [3, 4], [0, 1]]
            part = g("GatherND", g("Cos", last), np.array([[1, 1], [2, 0], [0, 3]]))
            return g("Transpose", g("ScatterND", last, np.array(places), part, reduction=reduction), perm=[2, 0, 1])

        case(f"scatter_nd_{reduction}", x, nd)
    case("scatter_elements_of_the_greatest", x, lambda g: g("ScatterElements", "x", g("ArgMax", "x", axis=2), g("Sin", g("ReduceMax", "x", axes=[2]) if g.opset < 18 else g("ReduceMax", "x", np.array([2]))), axis=2))
    case("scatter_of_an_old_opset", x, lambda g: g("Scatter", "x", g.for_each_image([[[3, 1]]]), g("Slice", "x", np.array([1, 0]), np.array([2, 2]), np.array([1, 2])), axis=2), opset=10)
    case("index_add_with_reduction", x, index_add, opset=16)
    case("slice_assignment", (2, 6, 6), slice_assignment)
    case("slice_assignment_with_steps", (2, 6, 6), lambda g: slice_assignment(g, 2))


def index_add(g):
    zeros = g("ConstantOfShape", g("Concat", g.n_images(), np.array([5]), axis=0))
    parts = g("Exp", g("ReduceSum", "x", np.array([2]), keepdims=0))
    return g("ScatterElements", zeros, g.for_each_image([[0, 0, 3, 1]]), parts, axis=1, reduction="add")


def slice_assignment(g, step=1):
    """x[:, :, 1:4:step, 2:6:step] = x[:, :, :k, :l]², as indices of all axes."""
    rows, columns = np.arange(1, 5, step), np.arange(2, 6, step)
    square = g("Mul", "x", "x")
    part = g("Slice", square, np.array([0, 0]), np.array([len(rows), len(columns)]), np.array([2, 3]))
    shape = g("Concat", g.n_images(), np.array([2, len(rows), len(columns), 1]), axis=0)
    axes = [
        g("Reshape", image_numbers(g), np.array([-1, 1, 1, 1, 1])),
        np.arange(2).reshape(1, 2, 1, 1, 1),
        rows.reshape(1, 1, -1, 1, 1),
        columns.reshape(1, 1, 1, -1, 1),
    ]
    indices = g("Concat", *[g("Expand", axis, shape) for axis in axes], axis=-1)
    return g("ScatterND", "x", indices, part)


def places():
    x = (4, 5)
    for operator in ("ArgMax", "ArgMin"):
        for name, attributes in (("", {"axis": 1}), ("_kept", {"axis": -1, "keepdims": 1}), ("_last", {"axis": 2, "keepdims": 0, "select_last_index": 1})):
            case(f"{operator.lower()}{name}", x, lambda g: g("Mul", g.cast(g(operator, g("Cast", g("Mul", "x", 2.0), to=6), **attributes)), 0.5), opset=13)
    for largest in (0, 1):
        for k in (1, 3, 5):
            def top(g):
                values, indices = g("TopK", "x", np.array([k]), largest=largest, axis=-1, n_outputs=2)
                return g("Mul", values, g.cast(indices))

            case(f"top_{k}_{'greatest' if largest else 'least'}", x, top)
    case("top_along_1", x, lambda g: g("TopK", "x", np.array([2]), axis=1, n_outputs=2)[0])
    case("top_of_an_old_opset", x, lambda g: g("TopK", "x", k=2, n_outputs=2)[0], opset=9)
    for axis in (-1, 1, 0):
        if axis:
            case(f"one_hot_on_{axis}".replace("-", "minus_"), x, lambda g: g("OneHot", g("ArgMax", "x", axis=2, keepdims=0), np.int64(5), np.array([-0.5, 2.0]), axis=axis))
    case("one_hot_known", x, lambda g: g("Mul", "x", g("OneHot", np.array([[0, 3], [-1, 7]]).reshape(4), np.array([5]), np.array([0.0, 1.0]))))
    case("one_hot_integers", x, lambda g: g("OneHot", g("ArgMax", "x", axis=2, keepdims=0), np.int64(5), np.array([2, 5])))
    for upper in (0, 1):
        for k in (-2, 0, 1, 9):
            case(f"trilu_{'upper' if upper else 'lower'}_{k}".replace("-", "minus_"), x, lambda g: g("Trilu", "x", np.int64(k), upper=upper))
    case("trilu_of_a_mask", (5, 5), lambda g: g("Where", g("Equal", g("Trilu", g("Expand", 1.0, np.array([5, 5])), upper=0), 0.0), -2.0, "x"))
    case("cum_sum_known", x, lambda g: g("Mul", "x", g.cast(g("CumSum", np.array([2, -1, 3, 0, 1]), np.int64(0), exclusive=1))))
    case("cum_sum_known_reverse", x, lambda g: g("Mul", "x", g.cast(g("CumSum", np.array([2, -1, 3, 0, 1]), np.int64(0), reverse=1))))
    case("cum_sum_of_places", x, lambda g: g("CumSum", g("ArgMax", "x", axis=2, keepdims=0), np.int64(1)))


def elements():
    x = (3, 4)
    for operator, low, high in (
        ("Tan", -1, 1), ("Atan", -3, 3), ("Sinh", -3, 3), ("Cosh", -3, 3), ("Asinh", -9, 9), ("Acosh", 1.1, 4), ("Atanh", -0.9, 0.9),
        ("Asin", -0.9, 0.9), ("Acos", -0.9, 0.9), ("Floor", -3, 3), ("Ceil", -3, 3), ("Round", -3, 3),
    ):
        case(operator.lower(), x, lambda g: g(operator, "x"), low=low, high=high)
    case("log_cosh", x, lambda g: g("Log", g("Cosh", "x")), low=-4, high=4)
    case("mod_of_floats", x, lambda g: g("Mod", "x", 0.7, fmod=1), low=-3, high=3)
    case("mod_of_integers", x, lambda g: g("Mod", g("Cast", "x", to=7), np.int64(3)), low=-9, high=9)
    case("mod_of_integers_as_c", x, lambda g: g("Mod", g("Cast", "x", to=7), np.int64(3), fmod=1), low=-9, high=9)
    case("div_of_integers", x, lambda g: g("Div", g("Cast", "x", to=7), np.int64(-3)), low=-9, high=9)
    case("where_of_integers", x, lambda g: g("Add", g("Where", g("Greater", "x", 0.1), np.int64(3), np.int64(-2)), g("Cast", "x", to=7)), low=-4, high=4)
    for name, sides in (("", {}), ("_above", {"detect_negative": 0}), ("_below", {"detect_positive": 0}), ("_neither", {"detect_negative": 0, "detect_positive": 0})):
        case(f"is_inf{name}", x, lambda g: g("Where", g("IsInf", g("Where", g("Greater", "x", 0.0), "x", np.array([np.inf, -np.inf, 1.0, 2.0], dtype=np.float32)), **sides), 0.5, "x"))


def weights():
    x = (3, 4)
    q = np.arange(-6, 6).reshape(3, 4)
    case("dequantize", x, lambda g: g("Mul", "x", g("DequantizeLinear", q.astype(np.int8), 0.02, np.int8(3))), opset=13)
    case("dequantize_unsigned", x, lambda g: g("Mul", "x", g("DequantizeLinear", (q + 99).astype(np.uint8), 0.1, np.uint8(101))), opset=13)
    case("dequantize_bare", x, lambda g: g("Mul", "x", g("DequantizeLinear", q.astype(np.int32), 0.1)), opset=13)
    case("dequantize_rows", x, lambda g: g("Mul", "x", g("DequantizeLinear", q.astype(np.int8), np.array([0.1, 0.2, 0.3]), np.array([0, 1, -2], dtype=np.int8), axis=0)), opset=13)
    case("dequantize_columns", x, lambda g: g("Mul", "x", g("DequantizeLinear", q.astype(np.int8), np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 1, -2, 5], dtype=np.int8), axis=-1)), opset=13)
    blocks = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    case("dequantize_blocks", x, lambda g: g("Mul", "x", g("DequantizeLinear", q.astype(np.int8), blocks, np.array([[0, 1], [2, 3], [4, 5]], dtype=np.int8), axis=1, block_size=2)), opset=21)


def losses():
    x = (4, 2)
    known = [[0, 3]]
    for name, operator in (("cross_entropy", "SoftmaxCrossEntropyLoss"), ("likelihood", "NegativeLogLikelihoodLoss")):
        case(f"{name}_known", x, lambda g: g(operator, "x", g.for_each_image(known), reduction="none"))
        case(f"{name}_weighted", x, lambda g: g(operator, "x", g.for_each_image(known), np.array([0.5, 1.0, 2.0, 3.0]), reduction="none"))
        case(f"{name}_ignored", x, lambda g: g(operator, "x", g.for_each_image(known), reduction="none", ignore_index=3))
        case(f"{name}_ignored_below", x, lambda g: g(operator, "x", g.for_each_image([[0, -3]]), reduction="none", ignore_index=-3))
        case(f"{name}_of_the_greatest", x, lambda g: g(operator, "x", g("ArgMax", g("Neg", "x"), axis=1, keepdims=0), reduction="none"))
    case("cross_entropy_of_vectors", (4,), lambda g: g("SoftmaxCrossEntropyLoss", "x", g("Expand", np.int64(2), g.n_images()), reduction="none"))
    case("cross_entropy_logarithms", x, lambda g: g("SoftmaxCrossEntropyLoss", "x", g.for_each_image(known), reduction="none", n_outputs=2)[1])


def resizes():
    x = (2, 4, 5)
    scales = [1.0, 1.0, 2.0, 2.0]
    for kind in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        case(f"cubic_{kind}", x, lambda g: g("Resize", "x", "", np.array(scales), mode="cubic", coordinate_transformation_mode=kind))
    case("cubic_to_less", x, lambda g: g("Resize", "x", "", np.array([1.0, 1.0, 0.6, 0.8]), mode="cubic"))
    case("cubic_to_sizes", x, lambda g: g("Resize", "x", "", "", g("Concat", g.n_images(), np.array([2, 7, 3]), axis=0), mode="cubic", coordinate_transformation_mode="align_corners"))
    case("cubic_of_catmull_and_rom", x, lambda g: g("Resize", "x", "", np.array(scales), mode="cubic", cubic_coeff_a=-0.5))
    case("cubic_without_outside", x, lambda g: g("Resize", "x", "", np.array(scales), mode="cubic", exclude_outside=1))
    case("cubic_without_outside_to_less", x, lambda g: g("Resize", "x", "", np.array([1.0, 1.0, 0.5, 1.7]), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5))


def branches():
    def decided(g, extent):
        def body(operator):
            scale = numpy_helper.from_array(np.float32(1.5), "scale")
            nodes = [helper.make_node(operator, ["x"], ["bent"]), helper.make_node("Mul", ["bent", "scale"], ["out"])]
            return helper.make_graph(nodes, operator, [], [helper.make_tensor_value_info("out", FLOAT, None)], [scale])

        condition = g("Equal", g("Gather", g("Shape", "x"), np.array([-1])), np.array([extent]))
        return g("If", condition, then_branch=body("Sin"), else_branch=body("Exp"))

    case("if_it_holds", (3, 4), lambda g: decided(g, 4))
    case("if_it_does_not", (3, 4), lambda g: decided(g, 5))


def slopes():
    """Points of infinite slope; those that are chosen away give the same energy with any slope."""
    def distances(g, operator, *more):
        apart = g("Sub", g("Unsqueeze", "x", np.array([1])), g("Unsqueeze", "x", np.array([2])))
        squares = g("ReduceSum", g("Mul", apart, apart), np.array([3]), keepdims=0)
        distance = g(operator, squares, *more)
        near = g("Greater", distance, 0.0)
        return g("Where", near, g("Exp", g("Neg", distance)), 0.0)

    case("distances_by_sqrt", (4, 3), lambda g: distances(g, "Sqrt"))
    case("distances_by_pow", (4, 3), lambda g: distances(g, "Pow", 0.49999976))
    case("sqrt_where_positive", (3, 4), lambda g: g("Where", g("Greater", "x", 0.0), g("Sqrt", "x"), 0.0))
    case("log_where_positive", (3, 4), lambda g: g("Where", g("Greater", "x", 0.0), g("Log", "x"), 0.0))
    case("quotient_where_not_zero", (3, 4), lambda g: g("Where", g("Equal", g("Relu", "x"), 0.0), "x", g("Div", 0.1, g("Add", g("Relu", "x"), g("Cast", g("Greater", "x", 0.0), to=1)))))


for make in (gathers, scatters, places, elements, weights, losses, resizes, branches, slopes):
    make()
FOLDER.mkdir(exist_ok=True)
for path in FOLDER.iterdir():
    path.unlink()
tensors = {}
for name, (model, x, energy) in MODELS.items():
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    tensors |= {f"{name}/x": x, f"{name}/energy": energy.reshape(-1)}
for path in sorted(EXPORTERS.glob("*.onnx")):
    assert path.stem not in MODELS, path
    model = onnx.load(path)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = images(path.stem, shape, -1.0, 1.0)
    tensors |= {f"{path.stem}/x": x, f"{path.stem}/energy": run(model, x).reshape(-1)}
(FOLDER / "golden.safetensors").write_bytes(safetensors.numpy.save(tensors))
size = sum(path.stat().st_size for path in FOLDER.iterdir())
print(json.dumps({"models": len(MODELS), "bytes": size}))
assert size <= LARGEST_FOLDER, size
