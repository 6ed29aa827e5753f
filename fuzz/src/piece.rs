//! Pieces of models: one of their values with no more than it needs, its square as the energy.
//!
//! Small models run fast, and a change of a small model hits what matters more often.

use std::collections::{BTreeSet, HashSet};

use ebm_export::source::onnx::proto::attribute_proto::AttributeType;
use ebm_export::source::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, type_proto,
};
use prost::Message;

use crate::way::{Derivative, go};

/// Most nodes of a piece.
const MAX_NODES: usize = 8;

/// For every type of operator of the model, the first small piece that ends with it and has a gradient; and the model itself if it is small.
pub fn pieces(model: &ModelProto) -> Vec<ModelProto> {
    let nodes = &model.graph.as_ref().expect("models have graphs").node;
    let mut found = Vec::new();
    let mut ends = BTreeSet::new();
    for (index, node) in nodes.iter().enumerate() {
        if ends.contains(node.op_type()) {
            continue;
        }
        let piece = ending_with(model, index);
        let is_small = |piece: &ModelProto| {
            let graph = piece.graph.as_ref();
            graph.is_some_and(|graph| graph.node.len() <= MAX_NODES)
        };
        if is_small(&piece) && go(&piece.encode_to_vec(), Derivative::Rewritten).is_ok() {
            ends.insert(node.op_type());
            found.push(piece);
        }
    }
    if nodes.len() <= MAX_NODES {
        found.push(model.clone());
    }
    found
}

/// The model with the first output of that node, squared and summed per image, as its only output.
fn ending_with(model: &ModelProto, index: usize) -> ModelProto {
    let mut piece = model.clone();
    let graph = piece.graph.get_or_insert_default();
    let end = graph.node[index]
        .output
        .first()
        .cloned()
        .unwrap_or_default();
    keep_needed(graph, index);
    graph.node.push(NodeProto {
        op_type: Some("Flatten".to_string()),
        input: vec![end],
        output: vec!["piece.flat".to_string()],
        ..NodeProto::default()
    });
    graph.node.push(NodeProto {
        op_type: Some("ReduceSumSquare".to_string()),
        input: vec!["piece.flat".to_string()],
        output: vec!["piece.energy".to_string()],
        attribute: vec![AttributeProto {
            name: Some("axes".to_string()),
            r#type: Some(AttributeType::Ints as i32),
            ints: vec![1],
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    });
    graph.output = vec![floats("piece.energy")];
    piece
}

/// Drops all nodes that one does not need, and what only they use.
fn keep_needed(graph: &mut GraphProto, index: usize) {
    let mut needed: HashSet<String> = graph.node[index].output.iter().cloned().collect();
    let mut kept = Vec::new();
    for node in graph.node[..=index].iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            kept.push(node.clone());
        }
    }
    kept.reverse();
    graph.node = kept;
    graph
        .initializer
        .retain(|tensor| needed.contains(tensor.name()));
    graph.input.retain(|input| needed.contains(input.name()));
    graph.value_info.clear();
}

/// Floats of any shape.
fn floats(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor {
        elem_type: Some(1),
        shape: None,
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
