//! From a network and its weights to the graphs that are written: each stage a pure function of the one before.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::gradient::gradient;
use crate::graph::{Graph, Node, Shape, Source};
use crate::op::Operator;
use crate::reference::{to_array, to_tensor};
use crate::rewrite::{Rewrite, apply};
use crate::tensor::{Tensor, Tensors};

/// Outputs `energy [N]` and `gradient [N, C, H, W]` from a graph with input `x` and output `energy`.
///
/// The rewrites are applied before differentiation, so that the backward pass is that of the cheaper forward pass, and
/// after it, to what it added.
///
/// # Errors
/// As [`gradient`].
pub fn gradient_graph(energy_graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph, Error> {
    apply(
        &gradient(&apply(energy_graph, rewrites)?, "energy", "x")?,
        rewrites,
    )
}

/// Puts the weights into the graph as constants, and computes once whatever depends on nothing but them.
///
/// # Errors
/// A weight is missing, has another shape, or holds a value that is not finite.
pub fn bind(graph: &Graph, weights: &Tensors) -> Result<Graph, Error> {
    let dynamic = graph.is_dynamic();
    let mut folded: BTreeMap<_, Tensor> = BTreeMap::new();
    graph.rebuild(|target, _, value| {
        let node = graph.node(value);
        let tensor = match &node.source {
            _ if dynamic[value.0] => return Ok(None),
            Source::Input => return Ok(None),
            Source::Constant(tensor) => tensor.clone(),
            Source::Weight => checked_weight(node, weights)?.clone(),
            Source::Operator { op, inputs } => {
                let operands: Vec<_> = inputs
                    .iter()
                    .map(|input| to_array(&folded[input]))
                    .collect();
                to_tensor(&op.evaluate(&operands))
            }
        };
        folded.insert(value, tensor.clone());
        Ok(Some(target.constant(&node.name, tensor)))
    })
}

/// Checks that the weights are those of the graph: all there, of the right shapes, finite, and no others.
///
/// # Errors
/// The first weight that is not so, with what was expected and what came.
pub fn check_weights(graph: &Graph, weights: &Tensors) -> Result<(), Error> {
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

fn checked_weight<'a>(node: &Node, weights: &'a Tensors) -> Result<&'a Tensor, Error> {
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
