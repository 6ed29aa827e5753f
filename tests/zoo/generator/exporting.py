"""Writes a module as an ONNX file by the exporter that the entry names."""
import collections
import logging
import warnings

import onnx
import torch

from .entry import Dynamo, HandBuilt, Legacy

KEPT_METADATA = ("namespace", "pkg.torch.onnx.class_hierarchy", "pkg.torch.onnx.name_scopes")
"""The exporter's notes that do not speak of the machine it ran on."""


def export(entry, how, module, path):
    """Writes the file and returns the set of its operator types."""
    if isinstance(how, HandBuilt):
        model = how.build(module)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            {Legacy: legacy, Dynamo: dynamo}[type(how)](entry, how, module, path)
            logging.disable(logging.NOTSET)
        model = onnx.load(path)
    forget_surroundings(model, KEPT_METADATA if isinstance(how, Dynamo) and how.metadata else ())
    if not has_deprecated_norm(model):
        onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return operators(model)


def legacy(entry, how, module, path):
    names = [entry.input, *(name for name, _ in entry.extra)]
    outputs = [entry.output, *entry.extra_outputs]
    torch.onnx.export(
        module,
        examples(entry, how),
        str(path),
        dynamo=False,
        opset_version=how.opset,
        input_names=names,
        output_names=outputs,
        dynamic_axes=None if isinstance(how.batch, int) else {name: {0: how.batch} for name in names + outputs},
        do_constant_folding=how.folding,
        training=how.training,
    )


def dynamo(entry, how, module, path):
    names = [entry.input, *(name for name, _ in entry.extra)]
    batch = None if isinstance(how.batch, int) else torch.export.Dim(how.batch, min=1)
    torch.onnx.export(
        module,
        examples(entry, how),
        str(path),
        dynamo=True,
        opset_version=how.opset,
        input_names=names,
        output_names=[entry.output, *entry.extra_outputs],
        dynamic_shapes=None if batch is None else tuple({0: batch} for _ in names),
        external_data=False,
        optimize=how.optimize,
        verbose=False,
    )
    written = onnx.load(path).opset_import
    assert [o.version for o in written if o.domain == ""] == [how.opset], f"{path}: the exporter wrote {written}"


def examples(entry, how):
    n = how.batch if isinstance(how.batch, int) else 2
    generator = torch.Generator().manual_seed(entry.seed)
    return tuple(torch.rand((n, *shape), generator=generator) for shape in (entry.shape, *(s for _, s in entry.extra)))


def forget_surroundings(model, kept):
    """Drops stack traces, which hold paths of the machine, and other notes, which outweigh the weights."""
    graph = model.graph
    holders = (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output)
    for holder in holders:
        properties = [p for p in holder.metadata_props if p.key in kept]
        del holder.metadata_props[:]
        holder.metadata_props.extend(properties)
    for node in graph.node:
        node.doc_string = ""


def has_deprecated_norm(model):
    """The checker refuses the GroupNormalization of opset 18 to 20, whose scale is one a group; ONNX Runtime computes it."""
    return model.opset_import[0].version < 21 and "GroupNormalization" in operators(model)


def operators(model):
    assert not model.functions, "functions of the model are not inlined"
    return collections.Counter(node.op_type for node in model.graph.node)
