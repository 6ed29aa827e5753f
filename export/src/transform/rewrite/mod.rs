//! Rewrites: functions from graphs to graphs that keep the value up to rounding and make it cheaper.

mod flip_conv;
mod fold_affine;
mod mask;
mod pool_conv;
mod simplify;

use ebm_common::named;

use crate::error::Result;
use crate::graph::Graph;

named! {
    "rewrite";
    /// A rewrite by name, in the order in which they are applied. Each module states what it does and why that is exact.
    pub enum Rewrite {
        /// Operators that do nothing go, and neighbours that are one operator become it.
        Simplify = "simplify",
        /// A factor and an offset per channel behind a convolution move into its weights and bias.
        FoldAffine = "fold_affine",
        /// A mean-pooled convolution becomes a strided convolution of a box-filtered input.
        PoolConv = "pool_conv",
        /// A stride-1 transposed convolution becomes a convolution with flipped weights.
        FlipConv = "flip_conv",
        /// The mask of a ReLU's derivative becomes one operator on the ReLU's result.
        Mask = "mask",
    }
}

impl Rewrite {
    /// Those that pay on every engine, in order: fewer or smaller operators of the same kinds.
    pub const COMMON: [Rewrite; 4] = [
        Rewrite::Simplify,
        Rewrite::FoldAffine,
        Rewrite::PoolConv,
        Rewrite::FlipConv,
    ];

    fn rewritten(self, graph: &Graph) -> Result<Graph> {
        match self {
            Rewrite::PoolConv => pool_conv::rewritten(graph),
            Rewrite::FlipConv => flip_conv::rewritten(graph),
            Rewrite::FoldAffine => fold_affine::rewritten(graph),
            Rewrite::Simplify => simplify::rewritten(graph),
            Rewrite::Mask => mask::rewritten(graph),
        }
    }

    /// Does it write forms whose derivatives would be slow? Such a rewrite waits until nothing is differentiated any more.
    fn comes_last(self) -> bool {
        self == Rewrite::Mask
    }
}

named! {
    "target";
    /// What a file is written for: which forms are fast differs.
    pub enum Target {
        /// ONNX Runtime on a CPU.
        Cpu = "cpu",
        /// ONNX Runtime on an NVIDIA GPU.
        Cuda = "cuda",
        /// tract.
        Tract = "tract",
    }
}

impl Target {
    /// The rewrites that pay there, in order.
    pub fn rewrites(self) -> Vec<Rewrite> {
        match self {
            Target::Cpu | Target::Tract => Rewrite::ALL.to_vec(),
            Target::Cuda => Rewrite::COMMON.to_vec(),
        }
    }
}

/// Applies the rewrites in the given order; one that finds nothing leaves the graph as it is.
///
/// # Errors
/// A rewrite built a node whose operands do not fit, which its tests exclude.
pub fn apply(graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
    rewrites
        .iter()
        .try_fold(graph.clone(), |graph, rewrite| rewrite.rewritten(&graph))
}

/// Applies those of the rewrites that may stand before differentiation, in the given order; the others wait for [`apply`] after it.
///
/// # Errors
/// As [`apply`].
pub fn apply_before_gradient(graph: &Graph, rewrites: &[Rewrite]) -> Result<Graph> {
    let first: Vec<Rewrite> = rewrites
        .iter()
        .copied()
        .filter(|rewrite| !rewrite.comes_last())
        .collect();
    apply(graph, &first)
}

#[cfg(test)]
pub(crate) mod testing {
    use std::collections::BTreeMap;

    use ndarray::ArrayD;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::op::Op;
    use crate::graph::reference::evaluate;

    /// Bound on the relative L2 difference of raw and rewritten in f64.
    pub const REWRITE_TOLERANCE: f64 = 1e-12;

    /// Asserts that raw and rewritten agree on random inputs and weights, and gives the rewritten graph.
    pub fn check_rewrite(graph: &Graph, rewrite: Rewrite, seed: u64) -> Graph {
        let rewritten = apply(graph, &[rewrite]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: BTreeMap<String, ArrayD<f64>> = graph
            .inputs()
            .chain(graph.weights())
            .map(|value| {
                let shape = graph.shape(value).concrete(2);
                (
                    graph.node(value).name.clone(),
                    ArrayD::from_shape_fn(shape, |_| rng.random_range(-1.0..1.0)),
                )
            })
            .collect();
        let (before, after) = (
            evaluate(graph, &values).unwrap(),
            evaluate(&rewritten, &values).unwrap(),
        );
        for (name, before) in before {
            let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
            let error = norm(&(&before - &after[&name])) / norm(&before).max(1.0);
            assert!(
                error <= REWRITE_TOLERANCE,
                "{rewrite} changes {name} by {error}"
            );
        }
        rewritten
    }

    /// The operators of a graph by name, in order.
    pub fn operators(graph: &Graph) -> Vec<&'static str> {
        graph
            .values()
            .filter_map(|value| graph.operator(value))
            .map(|(op, _): (&Op, _)| op.name())
            .collect()
    }
}
