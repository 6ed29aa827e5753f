//! From a network and its weights to the graphs that are written: each stage a pure function of the one before.

use crate::error::Result;
use crate::graph::Graph;
use crate::graph::fold::{Folding, check_cost};
use crate::graph::tensor::Tensors;
use crate::transform::gradient::gradient;
use crate::transform::precision::{Precision, lowered};
use crate::transform::rewrite::{Rewrite, apply, apply_before_gradient};

/// Outputs `energy [N]` and `gradient [N, C, H, W]` from a graph with input `x` and output `energy`.
///
/// The rewrites are applied before differentiation, so that the backward pass is that of the cheaper forward pass, and
/// after it, to what it added; those that only spell operators out for an engine are applied after it alone.
///
/// # Errors
/// As [`gradient`].
pub fn gradient_graph(energy_graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
    let network = apply_before_gradient(energy_graph, rewrites)?;
    apply(&gradient(&network, "energy", "x")?, rewrites)
}

/// Puts the weights into the graph as constants, and computes once whatever depends on nothing but them.
///
/// Constants are f32: operators of another type stay as they are, and what is made of their results is computed through them.
///
/// # Errors
/// A weight is missing, has another shape, or holds a value that is not finite; or what depends on the weights alone is out of proportion to them.
pub fn bind(graph: &Graph, weights: &Tensors) -> Result<Graph> {
    check_cost(graph)?;
    let mut folding = Folding::new(graph);
    graph.rebuild(|target, _, value| {
        if !folding.is_fixed(value) {
            return Ok(None);
        }
        let constant = folding.constant(value, weights)?;
        Ok(constant.map(|tensor| target.constant(&graph.node(value).name, tensor)))
    })
}

/// A graph as it is written: its weights bound, in the types of that precision. What is added behind it, as steps are, stays in f32.
///
/// # Errors
/// As [`bind`].
pub(crate) fn written(graph: &Graph, weights: &Tensors, precision: Precision) -> Result<Graph> {
    lowered(&bind(graph, weights)?, precision)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::graph::op::{Binary, Cast, Compare, Where};
    use crate::graph::reference::{evaluate, to_array, to_tensor};
    use crate::graph::tensor::Tensor;
    use crate::graph::{Shape, Value};
    use crate::transform::rewrite::testing::operators;

    fn bound(graph: &Graph) -> (Graph, Tensor) {
        let weights = Tensors::from([("w".to_string(), Tensor::new(&[2], vec![-2.0, 3.0]))]);
        let bound = bind(graph, &weights).unwrap();
        let x = to_array(&Tensor::new(&[1, 2], vec![5.0, 7.0]));
        let outputs = evaluate(&bound, &BTreeMap::from([("x".to_string(), x)])).unwrap();
        (bound, to_tensor(&outputs["y"]))
    }

    /// `w > 0`, with x beside it.
    fn fixed_truths() -> (Graph, [Value; 3]) {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let w = graph.weight("w", &[2]).unwrap();
        let zero = graph.scalar("zero", 0.0);
        let truths = graph.apply("truths", Compare::Greater, &[w, zero]).unwrap();
        (graph, [x, w, truths])
    }

    #[test]
    fn fixed_truths_stay_truths_for_what_needs_them() {
        let (mut graph, [x, w, truths]) = fixed_truths();
        let y = graph.apply("y", Where, &[truths, x, w]).unwrap();
        graph.set_output("y", y);
        let (bound, y) = bound(&graph);
        assert_eq!(operators(&bound), ["Greater", "Where"]);
        assert_eq!(y.data(), [-2.0, 7.0]);
    }

    #[test]
    fn numbers_made_of_fixed_truths_are_folded() {
        let (mut graph, [x, w, truths]) = fixed_truths();
        let mask = graph.apply("mask", Cast::F32, &[truths]).unwrap();
        let chosen = graph.apply("chosen", Where, &[truths, w, mask]).unwrap();
        let y = graph.apply("y", Binary::Mul, &[x, chosen]).unwrap();
        graph.set_output("y", y);
        let (bound, y) = bound(&graph);
        assert_eq!(operators(&bound), ["Mul"]);
        assert_eq!(y.data(), [0.0, 21.0]);
    }
}
