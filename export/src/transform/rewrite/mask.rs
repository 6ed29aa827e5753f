//! The derivative of a ReLU in one operator, read off its result.
//!
//! Differentiation gives the mask `[x > 0]` as a cast of a comparison. With `y = max(x, 0)`, `x > 0` exactly where `y > 0`: the mask may be that of y.
//! Then nobody but the ReLU needs x, so that an engine can compute the ReLU together with the convolution before it.
//! [`Activation::Positive`] is the same mask as one operator that engines compute in their own layouts of images; comparisons and casts make
//! them rearrange every feature map.

use crate::error::Result;
use crate::graph::op::{Activation, Cast, Compare, Op};
use crate::graph::{DType, Graph, Source, Value};

pub(super) fn rewritten(graph: &Graph) -> Result<Graph> {
    graph.rebuild(|target, mapping, value| {
        let Some(x) = masked(graph, value) else {
            return Ok(None);
        };
        let result = relu_of(graph, x).filter(|&relu| relu < value).unwrap_or(x);
        let name = &graph.node(value).name;
        target
            .apply(name, Activation::Positive, &[mapping.get(result)])
            .map(Some)
    })
}

/// The x of a mask `[x > 0]` as f32.
fn masked(graph: &Graph, value: Value) -> Option<Value> {
    let (Op::Cast(Cast { to: DType::F32 }), &[truth]) = graph.operator(value)? else {
        return None;
    };
    let (Op::Compare(Compare::Greater), &[x, zero]) = graph.operator(truth)? else {
        return None;
    };
    let zero = &graph.node(zero);
    let is_zero = matches!(&zero.source, Source::Constant(constant)
        if constant.shape().is_empty() && constant.data() == [0.0]);
    (is_zero && graph.value_type(x).dtype == DType::F32).then_some(x)
}

fn relu_of(graph: &Graph, x: Value) -> Option<Value> {
    graph.values().find(|&value| {
        matches!(graph.operator(value), Some((Op::Activation(Activation::Relu), &[operand])) if operand == x)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind};
    use crate::transform::gradient::gradient;
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    /// `Σ act(x)²` and its gradient.
    fn derived(activation: Activation) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[5])).unwrap();
        let y = graph.apply("y", activation, &[x]).unwrap();
        let square = graph.apply("square", Binary::Mul, &[y, y]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[square]).unwrap();
        graph.set_output("energy", energy);
        gradient(&graph, "energy", "x").unwrap()
    }

    #[test]
    fn masks_become_one_operator() {
        for (activation, wanted_operand) in [
            (Activation::Relu, "y"),
            (Activation::LeakyRelu { slope: 0.2 }, "x"),
        ] {
            let rewritten = check_rewrite(&derived(activation), Rewrite::Mask, 1);
            let names = operators(&rewritten);
            assert!(
                !names.contains(&"Greater") && !names.contains(&"Cast"),
                "{names:?}"
            );
            let operand = rewritten
                .values()
                .find_map(|value| match rewritten.operator(value) {
                    Some((Op::Activation(Activation::Positive), &[operand])) => Some(operand),
                    _ => None,
                })
                .unwrap();
            assert_eq!(rewritten.node(operand).name, wanted_operand);
        }
    }

    #[test]
    fn comparisons_with_anything_but_zero_stay() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[5])).unwrap();
        let half = graph.scalar("half", 0.5);
        let truth = graph.apply("truth", Compare::Greater, &[x, half]).unwrap();
        let mask = graph.apply("mask", Cast::F32, &[truth]).unwrap();
        graph.set_output("mask", mask);
        assert_eq!(
            operators(&check_rewrite(&graph, Rewrite::Mask, 1)),
            ["Greater", "Cast"]
        );
    }
}
