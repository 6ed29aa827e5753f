"""A graph built node by node: a call of an operator returns the name of its output."""
import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper


class Graph:
    def __init__(self, opset, shape, batch="N", producer="hand"):
        self.opset = opset
        self.producer = producer
        self.nodes, self.initializers = [], []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])]
        self.batch = batch
        self.n_values = 0

    def constant(self, value):
        """An initialiser; lists of integers are i64, everything else is f32 or the type of the array."""
        if isinstance(value, torch.Tensor):
            value = value.detach().numpy()
        if not isinstance(value, np.ndarray):
            value = np.array(value)
            value = value.astype(np.float32) if value.dtype == np.float64 else value
        self.n_values += 1
        name = f"const_{self.n_values}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def __call__(self, operator, *inputs, n_outputs=1, name=None, **attributes):
        """A node; inputs are names, or values that become initialisers."""
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self.n_values += 1
        stem = name or f"{operator.lower()}_{self.n_values}"
        outputs = [stem] if n_outputs == 1 else [f"{stem}:{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=f"node_{stem}", **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def sum(self, *values):
        total = values[0]
        for value in values[1:]:
            total = self("Add", total, value)
        return total

    def finish(self, energy, output_shape=(), ir_version=None, **others):
        self.nodes.append(helper.make_node("Identity", [energy], ["energy"], name="node_energy"))
        output = helper.make_tensor_value_info("energy", TensorProto.FLOAT, [self.batch, *output_shape])
        graph = helper.make_graph(self.nodes, "graph", self.inputs, [output], self.initializers)
        imports = [helper.make_opsetid("", self.opset)]
        ir_version = ir_version or min(10, helper.find_min_ir_version_for(imports))
        return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name=self.producer, **others)
