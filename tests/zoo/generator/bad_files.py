"""Files that must be refused, each by one fault in a small model that is right otherwise."""
import dataclasses
import math
import typing

import numpy as np
from onnx import TensorProto, helper, numpy_helper

REGISTER = []


@dataclasses.dataclass(frozen=True)
class Bad:
    """A file with what its refusal has to say."""

    name: str
    needles: tuple
    """Names that any clear message holds: the node, the tensor or the operator at fault."""
    reason: str
    build: typing.Callable
    """Makes the bytes of the file."""


def bad(name, needles, reason):
    """Registers a function that makes bytes or a model."""
    def register(build):
        REGISTER.append(Bad(name, tuple(needles), reason, build))
        return build

    return register


def weight():
    return numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "weight")


def value(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def chain():
    """x [N, 4] → MatMul → Softplus → ReduceSum → energy [N]."""
    node = helper.make_node
    return [
        node("MatMul", ["x", "weight"], ["product"], name="node_product"),
        node("Softplus", ["product"], ["softened"], name="node_softened"),
        node("ReduceSum", ["softened", "axes"], ["energy"], name="node_energy", keepdims=0),
    ]


def of_pixels():
    """The chain from an input called `pixels`, a name that a message cannot hold by chance."""
    nodes = chain()
    nodes[0].input[0] = "pixels"
    return nodes


def model(nodes=None, inputs=None, outputs=None, initializers=None, opset=17, imports=(), extra=()):
    initializers = [weight(), numpy_helper.from_array(np.array([1]), "axes")] if initializers is None else initializers
    graph = helper.make_graph(
        chain() if nodes is None else nodes, "bad", inputs or [value("x", ["N", 4])], outputs or [value("energy", ["N"])],
        [*initializers, *extra],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *imports], ir_version=8)


def between(*nodes, extra=(), **others):
    """The chain with nodes that lead from `softened` to `changed` before the sum."""
    product, softened, total = chain()
    total.input[0] = "changed"
    return model([product, softened, *nodes, total], extra=extra, **others)


node = helper.make_node


@bad("empty", [], "no bytes at all")
def empty():
    return b""


@bad("not_onnx", [], "text, not ONNX")
def not_onnx():
    return b"%PDF-1.7 this is not a model\n" * 20


@bad("picture", [], "a PNG header and noise")
def picture():
    return b"\x89PNG\r\n\x1a\n" + np.random.default_rng(7).bytes(600)


@bad("truncated", [], "cut in the middle of the weights")
def truncated():
    whole = model().SerializeToString(deterministic=True)
    return whole[: len(whole) * 2 // 3]


@bad("no_graph", [], "a model without a graph")
def no_graph():
    made = model()
    made.ClearField("graph")
    return made


@bad("no_opset", [], "no opset import")
def no_opset():
    made = model()
    del made.opset_import[:]
    return made


@bad("opset_99", ["opset", "99"], "an opset that is not known")
def opset_99():
    return model(opset=99)


@bad("opset_7", ["opset", "7"], "an opset that is too old")
def opset_7():
    return model(opset=7)


def external(location):
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    for key, content in (("location", location), ("offset", "0"), ("length", "48")):
        tensor.external_data.add(key=key, value=content)
    return model(initializers=[tensor, numpy_helper.from_array(np.array([1]), "axes")])


@bad("external_missing", ["absent.bin"], "the file with the weights is not there")
def external_missing():
    return external("absent.bin")


@bad("external_outside", ["weight"], "the file with the weights is outside the folder of the model")
def external_outside():
    return external("../../../../../../etc/hostname")


@bad("external_absolute", ["weight"], "the file with the weights is named by an absolute path")
def external_absolute():
    return external("/etc/hostname")


@bad("cycle", [], "two nodes feed each other (either of node_cycle_a, node_cycle_b is named)")
def cycle():
    return between(node("Add", ["softened", "b"], ["a"], name="node_cycle_a"), node("Tanh", ["a"], ["b"], name="node_cycle_b"),
                   node("Identity", ["b"], ["changed"], name="node_changed"))


@bad("missing_value", ["nowhere"], "a node reads a value that nothing makes")
def missing_value():
    return between(node("Add", ["softened", "nowhere"], ["changed"], name="node_changed"))


@bad("duplicate_value", ["softened"], "two nodes make a value of the same name")
def duplicate_value():
    return between(node("Tanh", ["product"], ["softened"], name="node_again"), node("Identity", ["softened"], ["changed"], name="node_changed"))


@bad("duplicate_initializer", ["weight"], "two initialisers of the same name")
def duplicate_initializer():
    return model(extra=[weight()])


@bad("duplicate_output", ["energy"], "two outputs of the same name")
def duplicate_output():
    return model(outputs=[value("energy", ["N"]), value("energy", ["N"])])


@bad("shapes_contradict", ["node_product"], "a product of [N, 5] and [4, 3]")
def shapes_contradict():
    return model(inputs=[value("x", ["N", 5])])


@bad("shapes_contradict_conv", ["node_conv"], "a convolution of 2 channels over an image of 3")
def shapes_contradict_conv():
    kernel = numpy_helper.from_array(np.ones((1, 2, 3, 3), np.float32), "kernel")
    nodes = [node("Conv", ["x", "kernel"], ["conv"], name="node_conv"),
             node("ReduceSum", ["conv", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, [value("x", ["N", 3, 8, 8])], initializers=[kernel, numpy_helper.from_array(np.array([1, 2, 3]), "axes")])


@bad("output_shape_contradicts", ["energy"], "the output is declared as [N, 7] and is [N]")
def output_shape_contradicts():
    return model(outputs=[value("energy", ["N", 7])])


@bad("data_too_short", ["weight"], "an initialiser of [4, 3] with data for 5 numbers")
def data_too_short():
    made = model()
    made.graph.initializer[0].raw_data = b"\0" * 20
    return made


@bad("huge_dims", ["weight"], "an initialiser that claims 2^60 numbers")
def huge_dims():
    made = model()
    made.graph.initializer[0].dims[:] = [1 << 30, 1 << 30]
    return made


@bad("overflowing_dims", ["weight"], "an initialiser whose number of elements overflows 64 bits")
def overflowing_dims():
    made = model()
    made.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    return made


@bad("negative_dims", ["weight"], "an initialiser with a negative extent")
def negative_dims():
    made = model()
    made.graph.initializer[0].dims[:] = [-4, -3]
    return made


@bad("huge_constant", ["node_huge"], "a ConstantOfShape of 2^50 numbers")
def huge_constant():
    shape = numpy_helper.from_array(np.array([1 << 25, 1 << 25]), "shape")
    return between(node("ConstantOfShape", ["shape"], ["huge"], name="node_huge"), node("ReduceMax", ["huge"], ["top"], name="node_top", keepdims=0),
                   node("Add", ["softened", "top"], ["changed"], name="node_changed"), extra=[shape])


@bad("huge_range", ["node_range"], "a Range of 2^62 numbers")
def huge_range():
    limits = [numpy_helper.from_array(np.array(n), name) for name, n in (("start", 0), ("limit", 1 << 62), ("delta", 1))]
    return between(node("Range", ["start", "limit", "delta"], ["range"], name="node_range"), node("Cast", ["range"], ["floats"], name="node_floats", to=1),
                   node("ReduceMax", ["floats"], ["top"], name="node_top", keepdims=0),
                   node("Add", ["softened", "top"], ["changed"], name="node_changed"), extra=limits)


def field(number, content):
    """A length-delimited field of a protobuf message, as bytes."""
    head, rest = bytes([number << 3 | 2]), len(content)
    while rest > 127:
        head, rest = head + bytes([rest & 127 | 128]), rest >> 7
    return head + bytes([rest]) + content


@bad("deep_subgraph", [], "four hundred graphs within each other, each in an If of the one around it")
def deep_subgraph():
    graph = b""
    for _ in range(400):
        attribute = field(1, b"then_branch") + field(6, graph) + b"\xa0\x01\x05"
        graph = field(1, field(4, b"If") + field(5, attribute))
    whole = model()
    whole.ClearField("graph")
    return whole.SerializeToString(deterministic=True) + field(7, graph)


@bad("custom_domain", ["node_changed", "com.example"], "an operator of a custom domain")
def custom_domain():
    return between(node("FancyGelu", ["softened"], ["changed"], name="node_changed", domain="com.example"), imports=[helper.make_opsetid("com.example", 1)])


@bad("contrib_domain", ["node_changed", "com.microsoft"], "an operator of ONNX Runtime's own domain")
def contrib_domain():
    return between(node("QuickGelu", ["softened"], ["changed"], name="node_changed", domain="com.microsoft"),
                   imports=[helper.make_opsetid("com.microsoft", 1)])


@bad("control_if", ["node_changed", "If"], "control flow: an If that the input decides")
def control_if():
    branch = lambda kind: helper.make_graph([node(kind, ["softened"], ["inner"], name=f"node_{kind.lower()}")], kind, [], [value("inner", None)])
    zero = numpy_helper.from_array(np.float32(0.0), "zero")
    condition = node("Greater", ["softened", "zero"], ["condition"], name="node_condition")
    return between(condition, node("If", ["condition"], ["changed"], name="node_changed", then_branch=branch("Tanh"), else_branch=branch("Exp")), extra=[zero])


@bad("control_loop", ["node_changed", "Loop"], "control flow: Loop")
def control_loop():
    body = helper.make_graph(
        [node("Identity", ["going"], ["still"], name="node_still"), node("Tanh", ["carried"], ["next"], name="node_next")], "body",
        [value("i", [], TensorProto.INT64), value("going", [], TensorProto.BOOL), value("carried", None)],
        [value("still", [], TensorProto.BOOL), value("next", None)],
    )
    extra = [numpy_helper.from_array(np.array(3), "trips"), numpy_helper.from_array(np.array(True), "going_on")]
    return between(node("Loop", ["trips", "going_on", "softened"], ["changed"], name="node_changed", body=body), extra=extra)


@bad("missing_operators", ["NonMaxSuppression", "node_boxes", "Unique", "node_unique", "Det", "node_det"], "three operators that are missing: one error lists all, by node")
def missing_operators():
    extra = [numpy_helper.from_array(np.zeros((1, 2, 4), np.float32), "boxes"),
             numpy_helper.from_array(np.zeros((1, 1, 2), np.float32), "scores")]
    return between(
        node("NonMaxSuppression", ["boxes", "scores"], ["selected"], name="node_boxes"), node("Cast", ["selected"], ["floats"], name="node_floats", to=1),
        node("Det", ["square"], ["determinant"], name="node_det"),
        node("Unique", ["softened"], ["changed"], name="node_unique", axis=1), extra=[*extra, numpy_helper.from_array(np.eye(2, dtype=np.float32), "square")],
    )


def batch_norm(**attributes):
    return node("BatchNormalization", ["softened", "three", "three", "three", "three"], ["changed"], name="node_changed", **attributes)


@bad("batch_norm_training", ["node_changed"], "BatchNormalization with training_mode: a statistic of the batch")
def batch_norm_training():
    three = numpy_helper.from_array(np.ones(3, np.float32), "three")
    made = batch_norm(training_mode=1)
    made.output.extend(["running_mean", "running_var"])
    return between(made, extra=[three])


@bad("batch_mean", ["node_mean"], "the mean over the batch is subtracted")
def batch_mean():
    return between(node("ReduceMean", ["softened"], ["mean"], name="node_mean", axes=[0], keepdims=1),
                   node("Sub", ["softened", "mean"], ["changed"], name="node_changed"))


@bad("batch_mean_all", ["node_mean"], "a reduction without axes, which is over the batch too")
def batch_mean_all():
    return between(node("ReduceMax", ["softened"], ["mean"], name="node_mean", keepdims=0),
                   node("Sub", ["softened", "mean"], ["changed"], name="node_changed"))


@bad("batch_softmax", ["node_changed"], "a softmax over the batch")
def batch_softmax():
    return between(node("Softmax", ["softened"], ["changed"], name="node_changed", axis=0))


@bad("batch_softmax_hidden", ["node_mixed"], "a softmax along an axis into which a Reshape put the batch")
def batch_softmax_hidden():
    shape, back = (numpy_helper.from_array(np.array(s), n) for n, s in (("flat", [1, -1]), ("back", [-1, 3])))
    return between(node("Reshape", ["softened", "flat"], ["row"], name="node_row"), node("Softmax", ["row"], ["mixed"], name="node_mixed", axis=1),
                   node("Reshape", ["mixed", "back"], ["changed"], name="node_changed"), extra=[shape, back])


@bad("batch_product", ["node_gram"], "products between samples: h hᵀ is [N, N]")
def batch_product():
    return between(node("Transpose", ["softened"], ["turned"], name="node_turned", perm=[1, 0]),
                   node("MatMul", ["softened", "turned"], ["gram"], name="node_gram"), node("Identity", ["gram"], ["changed"], name="node_changed"))


@bad("batch_first_sample", ["node_changed"], "the first sample is taken out of the batch and added to all")
def batch_first_sample():
    zero = numpy_helper.from_array(np.array([0]), "zero")
    return between(node("Gather", ["softened", "zero"], ["changed"], name="node_changed", axis=0), extra=[zero])


@bad("batch_as_number", [], "the energy is divided by the number of samples in the batch (the node that brings it in is named)")
def batch_as_number():
    first = numpy_helper.from_array(np.array(0), "first")
    return between(node("Shape", ["softened"], ["shape"], name="node_shape"), node("Gather", ["shape", "first"], ["n"], name="node_n", axis=0),
                   node("Cast", ["n"], ["count"], name="node_count", to=1), node("Div", ["softened", "count"], ["changed"], name="node_changed"), extra=[first])


@bad("batch_sum_output", ["node_mean"], "the energy is the mean of the batch, a scalar")
def batch_sum_output():
    nodes = chain()
    nodes[2].output[0] = "energies"
    nodes.append(node("ReduceMean", ["energies"], ["energy"], name="node_mean", keepdims=0))
    return model(nodes, outputs=[value("energy", [])])


@bad("integer_input", ["pixels"], "the input is u8")
def integer_input():
    cast = node("Cast", ["pixels"], ["x"], name="node_x", to=TensorProto.FLOAT)
    return model([cast, *chain()], [value("pixels", ["N", 4], TensorProto.UINT8)])


@bad("token_input", ["tokens"], "the input is i64 tokens that index a table")
def token_input():
    nodes = [node("Gather", ["table", "tokens"], ["h"], name="node_h"), node("ReduceSum", ["h", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, [value("tokens", ["N", 5], TensorProto.INT64)],
                 initializers=[numpy_helper.from_array(np.ones((9, 3), np.float32), "table"), numpy_helper.from_array(np.array([1, 2]), "axes")])


@bad("dynamic_size", ["pixels"], "height and width are symbolic; the message says how to fix them")
def dynamic_size():
    kernel = numpy_helper.from_array(np.ones((2, 3, 3, 3), np.float32) / 9, "kernel")
    nodes = [node("Conv", ["pixels", "kernel"], ["conv"], name="node_conv"), node("Softplus", ["conv"], ["h"], name="node_h"),
             node("ReduceSum", ["h", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, [value("pixels", ["N", 3, "height", "width"])], initializers=[kernel, numpy_helper.from_array(np.array([1, 2, 3]), "axes")])


@bad("unknown_rank", ["pixels"], "the input has no shape")
def unknown_rank():
    return model(of_pixels(), [value("pixels", None)])


@bad("no_batch", ["pixels"], "the input is one vector, without a batch")
def no_batch():
    nodes = [node("MatMul", ["pixels", "weight"], ["product"], name="node_product"), node("ReduceSum", ["product", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, [value("pixels", [4])], [value("energy", [])], initializers=[weight(), numpy_helper.from_array(np.array([0]), "axes")])


@bad("nan_weight", ["weight"], "a weight is NaN")
def nan_weight():
    made = model()
    array = numpy_helper.to_array(made.graph.initializer[0]).copy()
    array[2, 1] = math.nan
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "weight"))
    return made


@bad("classifier", ["logits"], "the output is [N, 10]; the message says how to reduce it")
def classifier():
    wide = numpy_helper.from_array(np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10), "weight")
    return model([node("MatMul", ["x", "weight"], ["logits"], name="node_logits")], outputs=[value("logits", ["N", 10])], initializers=[wide, numpy_helper.from_array(np.array([1]), "axes")])


@bad("two_outputs", ["which one to take"], "two outputs and none is called energy; the message asks for a choice")
def two_outputs():
    nodes = chain()
    nodes[2].output[0] = "first"
    nodes.append(node("Neg", ["first"], ["second"], name="node_second"))
    return model(nodes, outputs=[value("first", ["N"]), value("second", ["N"])])


@bad("two_inputs", ["with respect to which one"], "two float inputs and none is called x; the message asks for a choice")
def two_inputs():
    nodes = [node("Add", ["left", "right"], ["together"], name="node_together"), *chain()]
    nodes[1].input[0] = "together"
    return model(nodes, [value("left", ["N", 4]), value("right", ["N", 4])])


@bad("no_output", [], "a graph without outputs")
def no_output():
    made = model()
    del made.graph.output[:]
    return made


@bad("output_apart", ["energy"], "the energy does not depend on the input")
def output_apart():
    nodes = [node("Shape", ["x"], ["shape"], name="node_shape"), node("Expand", ["one", "shape"], ["ones"], name="node_ones"),
             node("ReduceSum", ["ones", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, initializers=[numpy_helper.from_array(np.float32(1), "one"), numpy_helper.from_array(np.array([1]), "axes")])


@bad("gradient_taken", ["gradient"], "the model's own input is called gradient; the message names a flag")
def gradient_taken():
    nodes = chain()
    nodes[0].input[0] = "gradient"
    return model(nodes, [value("gradient", ["N", 4])])


@bad("quantized", ["node_quantized"], "quantised activations")
def quantized():
    extra = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(128), "zero_point")]
    return between(node("QuantizeLinear", ["softened", "scale", "zero_point"], ["quantized"], name="node_quantized"),
                   node("DequantizeLinear", ["quantized", "scale", "zero_point"], ["changed"], name="node_changed"), extra=extra)


@bad("random", ["node_noise"], "noise in the graph")
def random():
    return between(node("RandomNormalLike", ["softened"], ["noise"], name="node_noise"), node("Add", ["softened", "noise"], ["changed"], name="node_changed"))


@bad("dropout_training", ["node_changed"], "Dropout with training_mode")
def dropout_training():
    extra = [numpy_helper.from_array(np.float32(0.5), "ratio"), numpy_helper.from_array(np.array(True), "training")]
    return between(node("Dropout", ["softened", "ratio", "training"], ["changed"], name="node_changed"), extra=extra)


@bad("data_dependent_shape", ["node_where"], "the shape of a value depends on the data (NonZero)")
def data_dependent_shape():
    return between(node("NonZero", ["softened"], ["where"], name="node_where"), node("Cast", ["where"], ["floats"], name="node_floats", to=1),
                   node("ReduceSum", ["floats"], ["total"], name="node_total", keepdims=0),
                   node("Add", ["softened", "total"], ["changed"], name="node_changed"))


@bad("wrong_attribute", ["node_changed"], "an attribute of the wrong type: axis of Softmax is a text")
def wrong_attribute():
    return between(node("Softmax", ["softened"], ["changed"], name="node_changed", axis="last"))


@bad("zero_stride", ["node_conv"], "a convolution with stride 0")
def zero_stride():
    kernel = numpy_helper.from_array(np.ones((1, 3, 3, 3), np.float32), "kernel")
    nodes = [node("Conv", ["x", "kernel"], ["conv"], name="node_conv", strides=[0, 0]),
             node("ReduceSum", ["conv", "axes"], ["energy"], name="node_energy", keepdims=0)]
    return model(nodes, [value("x", ["N", 3, 8, 8])], initializers=[kernel, numpy_helper.from_array(np.array([1, 2, 3]), "axes")])


@bad("axis_out_of_range", ["node_changed"], "an axis that the value does not have")
def axis_out_of_range():
    return between(node("Softmax", ["softened"], ["changed"], name="node_changed", axis=7))


@bad("missing_input", ["node_changed"], "an operator with too few inputs")
def missing_input():
    return between(node("Add", ["softened"], ["changed"], name="node_changed"))


@bad("computed_shape", ["node_changed"], "a Reshape by a shape that is computed from the data")
def computed_shape():
    return between(node("Cast", ["softened"], ["shape"], name="node_cast", to=TensorProto.INT64), node("Reshape", ["softened", "shape"], ["changed"], name="node_changed"))


def bytes_of(entry):
    made = entry.build()
    return made if isinstance(made, bytes) else made.SerializeToString(deterministic=True)
