//! What a run of an ONNX file holds in memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::check::shapes::{Shapes, is_initializer, sum};
use crate::source::onnx::node_name;
use crate::source::onnx::proto::{GraphProto, NodeProto};

/// Bytes that a run needs; engines that compute in place need less, those that copy into layouts of their own more.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Those of all initialisers and constants; `None` if their shapes make no sense.
    pub weight_bytes: Option<usize>,
    /// The most that is alive at once of one image: inputs, outputs, and results from the node that makes them to the last one that uses
    /// them, node by node in the order of the file. `None` if shapes are unknown.
    pub peak_bytes_per_image: Option<usize>,
    /// The node at which that is so.
    pub peak_node: Option<String>,
}

/// Of a graph and what it states about its values.
pub(super) fn memory(graph: &GraphProto, shapes: &Shapes) -> Memory {
    let weights = graph.initializer.iter().map(|tensor| tensor.name());
    let constants = graph.node.iter().filter(|node| is_constant(node));
    let constants = constants.flat_map(|node| node.output.iter().map(String::as_str));
    let peak = peak(graph, shapes);
    Memory {
        weight_bytes: sum(weights.chain(constants).map(|name| shapes.bytes(name))),
        peak_bytes_per_image: peak.as_ref().map(|(bytes, _)| bytes.div_ceil(shapes.batch)),
        peak_node: peak.and_then(|(_, node)| node),
    }
}

/// The most bytes that are alive at once, and the node at which they are.
fn peak(graph: &GraphProto, shapes: &Shapes) -> Option<(usize, Option<String>)> {
    let inputs = graph.input.iter().map(|input| input.name());
    let inputs = inputs.filter(|name| !is_initializer(graph, name));
    let mut alive = sum(inputs.map(|name| shapes.bytes(name)))?;
    let mut most = (alive, None);
    let used = used(graph);
    let freed = freed(graph, &used);
    for (node, freed) in graph.node.iter().zip(freed) {
        let mut made = made(node, &used).peekable();
        if made.peek().is_some() && has_graph(node) {
            return None;
        }
        alive = alive.checked_add(sum(made.map(|name| shapes.bytes(name)))?)?;
        if alive > most.0 {
            most = (alive, Some(node_name(node)));
        }
        alive = alive.checked_sub(sum(freed.into_iter().map(|name| shapes.bytes(name)))?)?;
    }
    Some(most)
}

/// The values that outputs need: what nobody uses is not computed.
fn used(graph: &GraphProto) -> BTreeSet<&str> {
    let mut used: BTreeSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    for node in graph.node.iter().rev() {
        let mut results = node.output.iter();
        if results.any(|name| used.contains(name.as_str())) {
            used.extend(node.input.iter().map(String::as_str));
        }
    }
    used.remove("");
    used
}

/// The results of a node that are used and are no weights.
fn made<'a>(node: &'a NodeProto, used: &BTreeSet<&str>) -> impl Iterator<Item = &'a str> {
    let results = node.output.iter().map(String::as_str);
    results.filter(|name| !is_constant(node) && used.contains(name))
}

/// Per node: the results that nobody uses behind it. Outputs stay to the end.
fn freed<'a>(graph: &'a GraphProto, used: &BTreeSet<&str>) -> Vec<BTreeSet<&'a str>> {
    let mut last_use: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for input in &node.input {
            if let Some(last) = last_use.get_mut(input.as_str()) {
                *last = index;
            }
        }
        last_use.extend(made(node, used).map(|name| (name, index)));
    }
    for output in &graph.output {
        last_use.remove(output.name());
    }
    let mut freed = vec![BTreeSet::new(); graph.node.len()];
    for (name, index) in last_use {
        freed[index].insert(name);
    }
    freed
}

/// Is the node one of those that hold weights?
fn is_constant(node: &NodeProto) -> bool {
    node.op_type() == "Constant"
}

/// Does the node hold a graph of its own, whose values come and go unseen?
fn has_graph(node: &NodeProto) -> bool {
    let mut attributes = node.attribute.iter();
    attributes.any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::onnx::proto::tensor_shape_proto::{Dimension, dimension};
    use crate::source::onnx::proto::{
        AttributeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
    };

    /// A value of that element type, `[batch, extents…]`.
    fn info(name: &str, elem_type: i32, batch: Option<i64>, extents: &[i64]) -> ValueInfoProto {
        let batch = match batch {
            Some(size) => dimension::Value::DimValue(size),
            None => dimension::Value::DimParam("N".to_string()),
        };
        let extents = extents.iter().map(|&size| dimension::Value::DimValue(size));
        let dims = std::iter::once(batch)
            .chain(extents)
            .map(|value| Dimension {
                value: Some(value),
                ..Dimension::default()
            });
        let tensor = type_proto::Tensor {
            elem_type: Some(elem_type),
            shape: Some(TensorShapeProto {
                dim: dims.collect(),
            }),
        };
        ValueInfoProto {
            name: Some(name.to_string()),
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        }
    }

    fn node(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        NodeProto {
            name: Some(name.to_string()),
            input: names(inputs),
            output: names(outputs),
            ..NodeProto::default()
        }
    }

    /// x [8] f32 → wide [100] f16 → mask [100] bool and half [50] f16 → y [8] f32, with a weight of ten f32.
    fn graph(batch: Option<i64>) -> GraphProto {
        GraphProto {
            node: vec![
                node("widen", &["x", "w"], &["wide"]),
                node("compare", &["wide"], &["mask"]),
                node("halve", &["wide"], &["half", ""]),
                node("end", &["half", "mask"], &["y"]),
            ],
            initializer: vec![TensorProto {
                name: Some("w".to_string()),
                data_type: Some(1),
                dims: vec![10],
                ..TensorProto::default()
            }],
            input: vec![info("x", 1, batch, &[8])],
            value_info: vec![
                info("wide", 10, batch, &[100]),
                info("mask", 9, batch, &[100]),
                info("half", 10, batch, &[50]),
            ],
            output: vec![info("y", 1, batch, &[8])],
            ..GraphProto::default()
        }
    }

    fn of(graph: &GraphProto) -> Memory {
        memory(graph, &Shapes::stated(graph))
    }

    /// x takes 32 bytes all the time, wide 200 until it is halved, mask 100, half 100, y 32: most at `halve`.
    #[test]
    fn results_live_from_the_node_that_makes_them_to_the_last_that_uses_them() {
        let wanted = Memory {
            weight_bytes: Some(40),
            peak_bytes_per_image: Some(32 + 200 + 100 + 100),
            peak_node: Some("halve".to_string()),
        };
        assert_eq!(of(&graph(None)), wanted);
        assert_eq!(of(&graph(Some(3))), wanted, "three images");
    }

    #[test]
    fn results_that_nobody_uses_are_not_made() {
        let mut graph = graph(None);
        let wanted = of(&graph);
        graph.node.push(node("unused", &["x"], &["wide_again"]));
        let dead = node("unused_too", &["wide_again"], &["nobody_knows"]);
        graph.node.push(dead);
        graph.value_info.push(info("wide_again", 1, None, &[1000]));
        assert_eq!(of(&graph), wanted);
    }

    /// A constant of 25 f32 beside the ten of `w`.
    #[test]
    fn constants_are_weights() {
        let mut graph = graph(None);
        let constant = NodeProto {
            op_type: Some("Constant".to_string()),
            ..node("constant", &[], &["c"])
        };
        graph.node.insert(0, constant);
        graph.node[1].input.push("c".to_string());
        graph.value_info.push(info("c", 1, Some(25), &[]));
        let memory = of(&graph);
        assert_eq!(memory.weight_bytes, Some(140));
        assert_eq!(
            memory.peak_bytes_per_image,
            of(&self::graph(None)).peak_bytes_per_image
        );
    }

    #[test]
    fn what_is_not_stated_is_unknown() {
        let nested = AttributeProto {
            g: Some(GraphProto::default()),
            ..AttributeProto::default()
        };
        let mut cases = vec![("no shape", graph(None)), ("a graph within", graph(None))];
        cases[0].1.value_info.pop();
        cases[1].1.node[0].attribute.push(nested);
        for (case, info) in [
            ("an unknown type", info("wide", 99, None, &[100])),
            ("a negative extent", info("wide", 1, None, &[-1])),
        ] {
            let mut graph = graph(None);
            graph.value_info[0] = info;
            cases.push((case, graph));
        }
        for (case, graph) in cases {
            assert_eq!(of(&graph).peak_bytes_per_image, None, "{case}");
            assert_eq!(of(&graph).weight_bytes, Some(40), "{case}");
        }
    }
}
