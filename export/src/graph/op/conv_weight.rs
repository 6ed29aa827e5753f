//! The slopes of a convolution by its weight and its bias, where these depend on the input too. They belong to no image of a batch, so that the
//! input is one image.

use super::{BackwardStep, Conv, KeepDims, Reduce, ReduceKind, Reshape, Slice, Transpose};
use crate::error::Result;
use crate::graph::{Shape, Value};

/// By the weight `[O, C/groups, kh, kw]` of a convolution of `image [N, C, H, W]`, given the slope by its result `[N, O, H', W']`.
///
/// `Σ_n Σ_h' image[n, c, stride·h' + dilation·k − pad] · slope[n, o, h']` is a convolution as well: of the image with its channels for the batch, the
/// slope being the kernel, in which stride and dilation change places. What the stride left over at the end makes it too large.
pub(super) fn by_weight(
    step: &mut BackwardStep<'_>,
    conv: &Conv,
    [image, slope]: [Value; 2],
) -> Result<Value> {
    let groups = conv.groups;
    // [N, groups·c, H, W] to [c, groups·N, H, W].
    let image = {
        let [n, channels, rows, columns] = four(&step.graph.shape(image).concrete(1));
        let own = channels / groups;
        let apart = [n, groups, own, rows, columns];
        let joined = [own, groups * n, rows, columns];
        moved(step, image, &apart, [2, 1, 0, 3, 4], &joined)?
    };
    // [N, groups·o, H', W'] to [groups·o, N, H', W'].
    let slope = {
        let [n, channels, rows, columns] = four(&step.graph.shape(slope).concrete(1));
        let apart = [n, groups, channels / groups, rows, columns];
        let joined = [channels, n, rows, columns];
        moved(step, slope, &apart, [1, 2, 0, 3, 4], &joined)?
    };
    let transposed = Conv {
        strides: conv.dilations,
        dilations: conv.strides,
        pads: conv.pads,
        groups,
    };
    let mut weight = step.apply("weight", transposed, &[image, slope])?;
    let wanted = step.graph.shape(step.inputs[1]).concrete(1);
    for axis in [2, 3] {
        if step.graph.shape(weight).size(axis) != Some(wanted[axis]) {
            let part = Slice::range(axis, 0..wanted[axis]);
            weight = step.apply("weight", part, &[weight])?;
        }
    }
    let axes = vec![1, 0, 2, 3];
    step.apply("weight", Transpose { axes }, &[weight])
}

/// By the bias `[O]`.
pub(super) fn by_bias(step: &mut BackwardStep<'_>, slope: Value) -> Result<Value> {
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: vec![0, 2, 3],
        keep_dims: KeepDims::No,
    };
    step.apply("bias", sum, &[slope])
}

fn four(sizes: &[usize]) -> [usize; 4] {
    std::array::from_fn(|axis| sizes[axis])
}

fn moved(
    step: &mut BackwardStep<'_>,
    value: Value,
    apart: &[usize],
    axes: [usize; 5],
    joined: &[usize],
) -> Result<Value> {
    let shape = Shape::fixed(apart);
    let apart = step.apply("weight", Reshape { shape }, &[value])?;
    let axes = axes.to_vec();
    let permuted = step.apply("weight", Transpose { axes }, &[apart])?;
    let shape = Shape::fixed(joined);
    step.apply("weight", Reshape { shape }, &[permuted])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Graph;
    use crate::graph::op::testing::{check_derivatives, random_array};
    use crate::graph::op::{ConvTranspose, Op};

    /// Image, weight and bias are parts of one input `x [1, count]`.
    fn check(op: impl Into<Op>, shapes: [&[usize]; 3], seed: u64) {
        let counts = shapes.map(|shape| shape.iter().product::<usize>());
        let count: usize = counts.iter().sum();
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::fixed(&[1, count])).unwrap();
        let mut start = 0;
        let mut operands = Vec::new();
        for (shape, count) in shapes.into_iter().zip(counts) {
            let part = Slice::range(1, start..start + count);
            let part = graph.apply("part", part, &[x]).unwrap();
            let shape = Shape::fixed(shape);
            operands.push(graph.apply("operand", Reshape { shape }, &[part]).unwrap());
            start += count;
        }
        let y = graph.apply("y", op, &operands).unwrap();
        let shape = Shape::fixed(&[1, graph.shape(y).elements_per_image()]);
        let y = graph.apply("flat", Reshape { shape }, &[y]).unwrap();
        check_derivatives(graph, y, [("x", random_array(&[1, count], seed))]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn slopes_by_all_operands_match_finite_differences(
            stride in 1usize..3, pad in 0usize..2, dilation in 1usize..3, groups in 1usize..3,
            kernel in 1usize..3, extent in 4usize..6, images in 1usize..3, seed in 0u64..1000,
        ) {
            let channels = 2 * groups;
            let image = [images, channels, extent, extent];
            let conv = Conv { strides: [stride, 1], pads: [pad, 0, pad, pad], dilations: [1, dilation], groups };
            check(conv, [&image, &[3 * groups, 2, kernel, 2], &[3 * groups]], seed);
            let transpose = ConvTranspose {
                strides: [stride, 2],
                pads: [pad, 0, 0, 0],
                output_pads: [stride - 1, 1],
                dilations: [dilation, 1],
                groups,
            };
            check(transpose, [&image, &[channels, 3, 2, kernel], &[3 * groups]], seed);
        }
    }
}
