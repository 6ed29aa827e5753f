//! Names in a file.

use std::collections::BTreeSet;

use super::proto::{GraphProto, NodeProto};

/// What a node is called: its name, or that of its first output.
pub(crate) fn node_name(node: &NodeProto) -> String {
    match (node.name(), node.output.first()) {
        ("", Some(output)) => output.clone(),
        (name, _) => name.to_string(),
    }
}

/// Names of a surrounding graph that a branch uses, which its nodes do not list as inputs of the `If`.
pub(super) fn captured(node: &NodeProto) -> BTreeSet<&str> {
    let mut captured = BTreeSet::new();
    let attributes = node.attribute.iter();
    let mut open: Vec<&GraphProto> = attributes
        .filter_map(|attribute| attribute.g.as_ref())
        .collect();
    while let Some(graph) = open.pop() {
        let inputs = graph.node.iter().flat_map(|node| &node.input);
        let outputs = graph.output.iter().map(|output| output.name());
        captured.extend(inputs.map(String::as_str).chain(outputs));
        let attributes = graph.node.iter().flat_map(|node| &node.attribute);
        open.extend(attributes.filter_map(|attribute| attribute.g.as_ref()));
    }
    captured
}
