//! A constant factor moves into the weights: `c·conv(x, W) = conv(x, c·W)`, since a convolution (and its transpose) is linear in
//! its weights. Only for those without a bias, which is where backward passes have their factors.

use crate::error::Error;
use crate::graph::{Graph, Source, Value};
use crate::op::{Binary, Op};
use crate::tensor::Tensor;

pub(super) fn rewritten(graph: &Graph) -> Result<Graph, Error> {
    let uses = graph.use_counts();
    let dynamic = graph.is_dynamic();
    graph.rebuild(|target, mapping, value| {
        let Some((factor, conv)) = scaled_conv(graph, &uses, value) else {
            return Ok(None);
        };
        let Some((op, &[x, weight])) = graph.operator(conv) else {
            return Ok(None);
        };
        if dynamic[weight.0] {
            return Ok(None);
        }
        let factor = target.constant(
            &format!("{}.factor", graph.node(weight).name),
            factor.clone(),
        );
        let name = format!("{}.scaled", graph.node(weight).name);
        let weight = target.apply(&name, Binary::Mul, &[mapping.get(weight), factor])?;
        target
            .apply(
                &graph.node(value).name,
                op.clone(),
                &[mapping.get(x), weight],
            )
            .map(Some)
    })
}

/// A scalar times a convolution without bias that nobody else uses.
fn scaled_conv<'a>(graph: &'a Graph, uses: &[usize], value: Value) -> Option<(&'a Tensor, Value)> {
    let (Op::Binary(Binary::Mul), &[left, right]) = graph.operator(value)? else {
        return None;
    };
    let scalar = |value: Value| match &graph.node(value).source {
        Source::Constant(tensor) if tensor.shape().is_empty() => Some(tensor),
        _ => None,
    };
    let (factor, conv) = match (scalar(left), scalar(right)) {
        (Some(factor), None) => (factor, right),
        (None, Some(factor)) => (factor, left),
        _ => return None,
    };
    match graph.operator(conv)? {
        (Op::Conv(_) | Op::ConvTranspose(_), [_, _]) if uses[conv.0] == 1 => Some((factor, conv)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::op::Conv;
    use crate::rewrite::Rewrite;
    use crate::rewrite::testing::{check_rewrite, operators};

    fn scaled(biased: bool) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 5, 5])).unwrap();
        let mut inputs = vec![x, graph.weight("weight", &[3, 2, 3, 3]).unwrap()];
        if biased {
            inputs.push(graph.weight("bias", &[3]).unwrap());
        }
        let y = graph.apply("conv", Conv::padded(1), &inputs).unwrap();
        let quarter = graph.scalar("quarter", 0.25);
        let y = graph.apply("share", Binary::Mul, &[y, quarter]).unwrap();
        graph.set_output("y", y);
        graph
    }

    #[test]
    fn moves_a_factor_into_weights_without_a_bias() {
        assert_eq!(
            operators(&check_rewrite(&scaled(false), Rewrite::FoldFactor, 1)),
            ["Mul", "Conv"]
        );
        assert_eq!(
            operators(&check_rewrite(&scaled(true), Rewrite::FoldFactor, 1)),
            ["Conv", "Mul"]
        );
    }
}
