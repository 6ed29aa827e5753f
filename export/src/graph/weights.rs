//! Weights that fit a graph.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::{Graph, Node, Shape};

/// Checks that the weights are those of the graph: all there, of the right shapes, finite, and no others.
///
/// # Errors
/// The first weight that is not so, with what was expected and what came.
pub fn check_weights(graph: &Graph, weights: &Tensors) -> Result<()> {
    let mut known = BTreeSet::new();
    for value in graph.weights() {
        checked_weight(graph.node(value), weights)?;
        known.insert(graph.node(value).name.as_str());
    }
    match weights.keys().find(|name| !known.contains(name.as_str())) {
        Some(name) => Err(Error::Weight {
            name: name.clone(),
            problem:
                "the network has no weight of this name; the weights are those of another network"
                    .to_string(),
        }),
        None => Ok(()),
    }
}

pub(crate) fn checked_weight<'a>(node: &Node, weights: &'a Tensors) -> Result<&'a Tensor> {
    let problem = |problem: String| Error::Weight {
        name: node.name.clone(),
        problem,
    };
    let tensor = weights.get(&node.name).ok_or_else(|| {
        problem(
            "missing from the checkpoint; the weights are those of another network or incomplete"
                .to_string(),
        )
    })?;
    let wanted = &node.value_type.shape;
    if *wanted != Shape::fixed(tensor.shape()) {
        let got = Shape::fixed(tensor.shape());
        return Err(problem(format!(
            "expected shape {wanted}, got {got}; the weights are those of another network"
        )));
    }
    match tensor.data().iter().position(|value| !value.is_finite()) {
        Some(position) => {
            let value = tensor.data()[position];
            Err(problem(format!(
                "element {position} is {value}, expected finite values; take an earlier checkpoint"
            )))
        }
        None => Ok(tensor),
    }
}
