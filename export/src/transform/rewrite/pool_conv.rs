//! Mean pooling commutes with convolution.
//!
//! Let `y = conv(x, W, b)` with stride 1 and `pool_s` the mean over tiles of `s × s`. Then
//! `pool_s(y)[i] = 1/s² Σ_d y[s·i + d] = b + 1/s² Σ_d Σ_k W[k]·x̂[s·i + d + k] = b + Σ_k W[k]·box(x̂)[s·i + k]`,
//! where `x̂` is the zero-padded input, `d` runs over the tile and `box(x̂)[j] = 1/s² Σ_d x̂[j + d]` is a mean over `s × s` with
//! stride 1. So `pool_s(conv(x))` is the same convolution without padding and with stride `s` of `box(x̂)`, and computes
//! only the outputs that are needed: `s²` times fewer multiplications. Dilation and groups do not enter the argument.
//! For a 1×1 convolution without padding the box and the stride together are `pool_s` itself.

use crate::error::Result;
use crate::graph::op::{AveragePool, Conv, Op};
use crate::graph::{Graph, Value};

pub(super) fn rewritten(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    graph.rebuild(|target, mapping, value| {
        let Some((pool, conv, operands)) = pooled_conv(graph, &uses, value) else {
            return Ok(None);
        };
        let mut inputs: Vec<Value> = operands
            .iter()
            .map(|&operand| mapping.get(operand))
            .collect();
        let name = &graph.node(value).name;
        if is_pointwise(graph, conv, operands) {
            inputs[0] = target.apply(&format!("{name}.pooled"), pool.clone(), &[inputs[0]])?;
            return target.apply(name, conv.clone(), &inputs).map(Some);
        }
        let filter = AveragePool {
            kernel: pool.kernel,
            strides: [1, 1],
            pads: conv.pads,
        };
        inputs[0] = target.apply(&format!("{name}.box"), filter, &[inputs[0]])?;
        let strided = Conv {
            strides: pool.strides,
            pads: [0; 4],
            ..conv.clone()
        };
        target.apply(name, strided, &inputs).map(Some)
    })
}

/// Pooling in tiles of a stride-1 convolution that nobody else uses, and the operands of that convolution.
fn pooled_conv<'a>(
    graph: &'a Graph,
    uses: &[usize],
    value: Value,
) -> Option<(&'a AveragePool, &'a Conv, &'a [Value])> {
    let (Op::AveragePool(pool), [pooled]) = graph.operator(value)? else {
        return None;
    };
    let (Op::Conv(conv), operands) = graph.operator(*pooled)? else {
        return None;
    };
    let tiles = pool.kernel == pool.strides && pool.pads == [0; 4];
    let box_can_pad = (0..4).all(|side| conv.pads[side] < pool.kernel[side % 2]);
    (tiles && box_can_pad && conv.strides == [1, 1] && uses[pooled.0] == 1)
        .then_some((pool, conv, operands))
}

fn is_pointwise(graph: &Graph, conv: &Conv, operands: &[Value]) -> bool {
    let weight = graph.shape(operands[1]);
    conv.pads == [0; 4] && weight.size(2) == Some(1) && weight.size(3) == Some(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Shape;
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    fn pooled(conv: Conv, kernel: usize, tile: usize, extent: usize) -> Graph {
        let mut graph = Graph::new();
        let x = graph
            .input("x", Shape::batched(&[2 * conv.groups, extent, extent]))
            .unwrap();
        let weight = graph
            .weight("weight", &[3 * conv.groups, 2, kernel, kernel])
            .unwrap();
        let bias = graph.weight("bias", &[3 * conv.groups]).unwrap();
        let y = graph.apply("conv", conv, &[x, weight, bias]).unwrap();
        let pooled = graph.apply("pool", AveragePool::tiles(tile), &[y]).unwrap();
        graph.set_output("pooled", pooled);
        graph
    }

    #[test]
    fn the_box_form_has_one_pool_and_one_conv() {
        let rewritten = check_rewrite(&pooled(Conv::padded(1), 3, 2, 8), Rewrite::PoolConv, 1);
        assert_eq!(operators(&rewritten), ["AveragePool", "Conv"]);
        let pooled = rewritten.output("pooled").unwrap();
        let (op, _) = rewritten.operator(pooled).unwrap();
        assert_eq!(*op, Op::Conv(Conv::strided(2)));
    }

    #[test]
    fn a_pointwise_conv_is_pooled_first() {
        let rewritten = check_rewrite(&pooled(Conv::padded(0), 1, 2, 8), Rewrite::PoolConv, 2);
        assert_eq!(operators(&rewritten), ["AveragePool", "Conv"]);
        assert_eq!(
            rewritten.shape(rewritten.output("pooled").unwrap()),
            &Shape::batched(&[3, 4, 4])
        );
    }

    #[test]
    fn a_conv_that_is_used_elsewhere_stays() {
        let mut graph = pooled(Conv::padded(1), 3, 2, 8);
        let conv = graph
            .values()
            .find(|&value| matches!(graph.operator(value), Some((Op::Conv(_), _))))
            .unwrap();
        graph.set_output("conv", conv);
        assert_eq!(
            operators(&check_rewrite(&graph, Rewrite::PoolConv, 3)),
            ["Conv", "AveragePool"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn keeps_the_value(
            kernel in 1usize..4, pad in 0usize..3, dilation in 1usize..3, groups in 1usize..3,
            tile in 1usize..4, extent in 5usize..10, seed in 0u64..1000,
        ) {
            let conv = Conv { strides: [1, 1], pads: [pad; 4], dilations: [dilation; 2], groups };
            let extent = extent.max(dilation * (kernel - 1) + tile);
            check_rewrite(&pooled(conv, kernel, tile, extent), Rewrite::PoolConv, seed);
        }
    }
}
