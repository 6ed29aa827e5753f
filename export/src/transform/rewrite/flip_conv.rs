//! The transpose of a stride-1 convolution is a convolution.
//!
//! `y[j] = Σ_i x[i]·W[j + p − d·i…]`: with stride 1 the transpose scatters `x[i]·W[k]` to `y[i + d·k − p]`. Gathered at `y[j]` that is
//! `Σ_k W[k]·x[j − d·k + p]`, and with `k' = K − 1 − k` it is `Σ_k' W[K − 1 − k']·x[j + d·k' − (d·(K − 1) − p)]`: a convolution
//! with the kernel flipped along both spatial axes, input and output channels exchanged, and padding `d·(K − 1) − p`.
//!
//! Where the transpose has very few output channels (the gradient at the image) it stays as it is: a direct convolution
//! fills its vectors with output channels, and would leave most of each empty.

use crate::error::Result;
use crate::graph::op::{Conv, ConvTranspose, Op, Reverse, Transpose};
use crate::graph::{Graph, Value};

/// Fewest output channels for which the convolution is the faster form on CPUs.
const MIN_OUTPUT_CHANNELS: usize = 8;

pub(super) fn rewritten(graph: &Graph) -> Result<Graph> {
    graph.rebuild(|target, mapping, value| {
        let Some((transpose, inputs)) = flippable(graph, value) else {
            return Ok(None);
        };
        let name = &graph.node(value).name;
        let mut inputs: Vec<Value> = inputs.iter().map(|&input| mapping.get(input)).collect();
        let kernel = [2, 3].map(|axis| target.shape(inputs[1]).size(axis).unwrap_or(1));
        let weight_name = target.node(inputs[1]).name.clone();
        let exchange = Transpose {
            axes: vec![1, 0, 2, 3],
        };
        inputs[1] = target.apply(&format!("{weight_name}.exchanged"), exchange, &[inputs[1]])?;
        if kernel != [1, 1] {
            inputs[1] = target.apply(
                &format!("{weight_name}.flipped"),
                Reverse { axes: vec![2, 3] },
                &[inputs[1]],
            )?;
        }
        let reach = |axis: usize| transpose.dilations[axis] * (kernel[axis] - 1);
        let pads = std::array::from_fn(|side| reach(side % 2) - transpose.pads[side]);
        let conv = Conv {
            strides: [1, 1],
            pads,
            dilations: transpose.dilations,
            groups: 1,
        };
        target.apply(name, conv, &inputs).map(Some)
    })
}

fn flippable(graph: &Graph, value: Value) -> Option<(&ConvTranspose, &[Value])> {
    let (Op::ConvTranspose(transpose), inputs) = graph.operator(value)? else {
        return None;
    };
    let weight = graph.shape(inputs[1]);
    let pads_fit = (0..4).all(|side| {
        let kernel = weight.size(2 + side % 2).unwrap_or(1);
        transpose.pads[side] <= transpose.dilations[side % 2] * (kernel - 1)
    });
    let wide = weight
        .size(1)
        .is_some_and(|channels| channels >= MIN_OUTPUT_CHANNELS);
    let plain =
        transpose.strides == [1, 1] && transpose.output_pads == [0, 0] && transpose.groups == 1;
    (plain && pads_fit && wide).then_some((transpose, inputs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Shape;
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    fn transposed(transpose: ConvTranspose, kernel: usize, outputs: usize, extent: usize) -> Graph {
        let mut graph = Graph::new();
        let x = graph
            .input("x", Shape::batched(&[3, extent, extent]))
            .unwrap();
        let weight = graph
            .weight("weight", &[3, outputs, kernel, kernel])
            .unwrap();
        let y = graph.apply("y", transpose, &[x, weight]).unwrap();
        graph.set_output("y", y);
        graph
    }

    fn stride(stride: usize) -> ConvTranspose {
        ConvTranspose {
            strides: [stride; 2],
            pads: [1; 4],
            output_pads: [0; 2],
            dilations: [1; 2],
            groups: 1,
        }
    }

    #[test]
    fn only_wide_stride_one_transposes_are_flipped() {
        for (case, graph, wanted) in [
            (
                "wide",
                transposed(stride(1), 3, 8, 6),
                vec!["Transpose", "Slice", "Conv"],
            ),
            (
                "pointwise",
                transposed(
                    ConvTranspose {
                        pads: [0; 4],
                        ..stride(1)
                    },
                    1,
                    8,
                    6,
                ),
                vec!["Transpose", "Conv"],
            ),
            (
                "narrow",
                transposed(stride(1), 3, 3, 6),
                vec!["ConvTranspose"],
            ),
            (
                "strided",
                transposed(stride(2), 3, 8, 6),
                vec!["ConvTranspose"],
            ),
        ] {
            assert_eq!(
                operators(&check_rewrite(&graph, Rewrite::FlipConv, 1)),
                wanted,
                "{case}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn keeps_the_value(
            kernel in 1usize..5, pads in proptest::array::uniform4(0usize..4), dilation in 1usize..3,
            extent in 5usize..9, seed in 0u64..1000,
        ) {
            let pads = pads.map(|pad| pad.min(2));
            let transpose = ConvTranspose { pads, dilations: [dilation; 2], ..stride(1) };
            check_rewrite(&transposed(transpose, kernel, 8, extent), Rewrite::FlipConv, seed);
        }
    }
}
