//! A factor and an offset per channel behind a convolution move into its weights and bias, as of a batch norm in inference.
//!
//! A convolution is linear in its weights, output channel by output channel: `s_o · (Σ W_o x + b_o) + t_o = Σ (s_o W_o) x +
//! (s_o b_o + t_o)`. The same holds for a transposed convolution in one group, whose output channels are the second axis of
//! its weights. Factor and offset must be fixed (weights, constants, and what is computed of them alone), so that the new
//! weights are computed once.

use crate::error::Result;
use crate::graph::op::{Binary, Op, Reshape};
use crate::graph::{Dim, Graph, Mapping, Shape, Value};

pub(super) fn rewritten(graph: &Graph) -> Result<Graph> {
    // A factor and the offset behind it are two steps.
    fold_one_layer(&fold_one_layer(graph)?)
}

fn fold_one_layer(graph: &Graph) -> Result<Graph> {
    let uses = graph.use_counts();
    let dynamic = graph.is_dynamic();
    graph.rebuild(
        |target, mapping, value| match found(graph, &uses, &dynamic, value) {
            Some(affine) => affine.folded(graph, target, mapping, value).map(Some),
            None => Ok(None),
        },
    )
}

/// A convolution that nobody else uses, and what is done to each of its channels.
struct Affine<'a> {
    binary: Binary,
    conv: &'a Op,
    operands: &'a [Value],
    per_channel: Value,
    channels: usize,
}

fn found<'a>(
    graph: &'a Graph,
    uses: &[usize],
    dynamic: &[bool],
    value: Value,
) -> Option<Affine<'a>> {
    let (&Op::Binary(binary @ (Binary::Mul | Binary::Add)), &[left, right]) =
        graph.operator(value)?
    else {
        return None;
    };
    let (conv_value, per_channel) = match (dynamic[left.0], dynamic[right.0]) {
        (true, false) => (left, right),
        (false, true) => (right, left),
        _ => return None,
    };
    let (conv, operands) = graph.operator(conv_value)?;
    let foldable = match conv {
        Op::Conv(_) => true,
        Op::ConvTranspose(conv) => conv.groups == 1,
        _ => false,
    };
    let fixed_weights = operands.get(1..)?.iter().all(|weight| !dynamic[weight.0]);
    let channels = graph.shape(conv_value).size(1)?;
    let fits = foldable
        && fixed_weights
        && uses[conv_value.0] == 1
        && graph.shape(value) == graph.shape(conv_value)
        && is_per_channel(graph.shape(per_channel), channels);
    fits.then_some(Affine {
        binary,
        conv,
        operands,
        per_channel,
        channels,
    })
}

/// `[C, 1, 1]` or `[1, C, 1, 1]`, or one element for all channels.
fn is_per_channel(shape: &Shape, channels: usize) -> bool {
    let rank = shape.rank();
    rank <= 4
        && (0..rank).all(|axis| match shape.0[axis] {
            Dim::Size(1) => true,
            dim => axis + 3 == rank && dim == Dim::Size(channels),
        })
}

impl Affine<'_> {
    fn folded(
        &self,
        graph: &Graph,
        target: &mut Graph,
        mapping: &Mapping,
        value: Value,
    ) -> Result<Value> {
        let name = &graph.node(value).name;
        let mut operands: Vec<Value> = self.operands.iter().map(|&old| mapping.get(old)).collect();
        let per_channel = mapping.get(self.per_channel);
        match self.binary {
            Binary::Mul => {
                let axis = usize::from(matches!(self.conv, Op::ConvTranspose(_)));
                let rank = target.shape(operands[1]).rank();
                let weight = self.along(target, name, per_channel, axis, rank)?;
                operands[1] = target.apply(
                    &format!("{name}.weight"),
                    Binary::Mul,
                    &[operands[1], weight],
                )?;
                if let Some(bias) = operands.get_mut(2) {
                    let factor = self.along(target, name, per_channel, 0, 1)?;
                    *bias = target.apply(&format!("{name}.bias"), Binary::Mul, &[*bias, factor])?;
                }
            }
            _ => {
                let offset = self.along(target, name, per_channel, 0, 1)?;
                let bias = match operands.get(2) {
                    Some(&bias) => bias,
                    None => target.constant(
                        &format!("{name}.no_bias"),
                        crate::Tensor::filled(&[self.channels], 0.0),
                    ),
                };
                operands.truncate(2);
                operands.push(target.apply(
                    &format!("{name}.bias"),
                    Binary::Add,
                    &[bias, offset],
                )?);
            }
        }
        target.apply(name, self.conv.clone(), &operands)
    }

    /// The factors or offsets along one axis of a value of that rank.
    fn along(
        &self,
        target: &mut Graph,
        name: &str,
        per_channel: Value,
        axis: usize,
        rank: usize,
    ) -> Result<Value> {
        let mut sizes = vec![1; rank];
        sizes[axis] = target.shape(per_channel).elements_per_image();
        let shape = Shape::fixed(&sizes);
        target.apply(
            &format!("{name}.per_channel"),
            Reshape { shape },
            &[per_channel],
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::op::{Conv, ConvTranspose};
    use crate::transform::rewrite::Rewrite;
    use crate::transform::rewrite::testing::{check_rewrite, operators};

    #[derive(Clone, Copy, Debug)]
    enum Bias {
        Own,
        None,
    }

    /// `factor · conv(x) + offset`, both of that shape.
    fn normed(
        conv: impl Into<Op>,
        weight: [usize; 4],
        outputs: usize,
        bias: Bias,
        sizes: &[usize],
    ) -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[4, 6, 5])).unwrap();
        let mut operands = vec![x, graph.weight("weight", &weight).unwrap()];
        if let Bias::Own = bias {
            operands.push(graph.weight("bias", &[outputs]).unwrap());
        }
        let y = graph.apply("conv", conv, &operands).unwrap();
        let factor = graph.weight("factor", sizes).unwrap();
        let offset = graph.weight("offset", sizes).unwrap();
        let y = graph.apply("scaled", Binary::Mul, &[factor, y]).unwrap();
        let y = graph.apply("moved", Binary::Add, &[y, offset]).unwrap();
        graph.set_output("y", y);
        graph
    }

    fn transpose(groups: usize) -> ConvTranspose {
        ConvTranspose {
            strides: [2, 2],
            pads: [1; 4],
            output_pads: [0; 2],
            dilations: [1; 2],
            groups,
        }
    }

    /// Of what depends on the input nothing but the convolution is left.
    fn flowing(graph: &Graph) -> Vec<&'static str> {
        let dynamic = graph.is_dynamic();
        let values = graph.values().filter(|value| dynamic[value.0]);
        values
            .filter_map(|value| graph.operator(value).map(|(op, _)| op.name()))
            .collect()
    }

    #[test]
    fn folds_norms_into_the_convolution_before_them() {
        for bias in [Bias::Own, Bias::None] {
            for sizes in [&[6usize, 1, 1][..], &[1, 6, 1, 1], &[], &[1]] {
                let conv = normed(Conv::padded(1), [6, 4, 3, 3], 6, bias, sizes);
                let folded = check_rewrite(&conv, Rewrite::FoldAffine, 1);
                assert_eq!(flowing(&folded), ["Conv"], "{bias:?} {sizes:?}");
                let conv = normed(transpose(1), [4, 6, 3, 3], 6, bias, sizes);
                let folded = check_rewrite(&conv, Rewrite::FoldAffine, 2);
                assert_eq!(flowing(&folded), ["ConvTranspose"], "{bias:?} {sizes:?}");
            }
        }
    }

    #[test]
    fn leaves_what_it_cannot_fold() {
        let grouped = normed(transpose(2), [4, 3, 3, 3], 6, Bias::Own, &[6, 1, 1]);
        let per_pixel = normed(Conv::padded(1), [6, 4, 3, 3], 6, Bias::Own, &[1, 6, 5]);
        let per_column = normed(Conv::padded(1), [5, 4, 3, 3], 5, Bias::Own, &[5]);
        for (graph, wanted) in [
            (grouped, ["ConvTranspose", "Mul", "Add"]),
            (per_pixel, ["Conv", "Mul", "Add"]),
            (per_column, ["Conv", "Mul", "Add"]),
        ] {
            assert_eq!(
                operators(&check_rewrite(&graph, Rewrite::FoldAffine, 3)),
                wanted
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn keeps_the_value(
            groups in prop_oneof![Just(1usize), Just(2)], pad in 0usize..2, stride in 1usize..3, seed in 0u64..1000,
        ) {
            let conv = Conv { strides: [stride; 2], groups, ..Conv::padded(pad) };
            let graph = normed(conv, [6, 4 / groups, 3, 3], 6, Bias::Own, &[6, 1, 1]);
            check_rewrite(&graph, Rewrite::FoldAffine, seed);
        }
    }
}
