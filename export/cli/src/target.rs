//! What files are written for, and the rewrites that follow from it.

use clap::{Args, ValueEnum};

use ebm_export::transform::precision::Precision;
use ebm_export::transform::rewrite::{Rewrite, Target};

/// Which rewrites are applied.
#[derive(Args)]
pub struct RewriteArguments {
    /// What the files are to be fast on
    #[arg(long, value_enum, default_value_t = TargetChoice::Cpu)]
    target: TargetChoice,
    /// Apply no rewrites
    #[arg(long, conflicts_with = "rewrites")]
    raw: bool,
    /// Apply only these rewrites, in this order: simplify, fold_affine, pool_conv, flip_conv, mask
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    rewrites: Option<Vec<Rewrite>>,
}

impl RewriteArguments {
    /// Those that were asked for, or those that pay on the target in these types.
    pub fn chosen(&self, precision: Precision) -> Vec<Rewrite> {
        match (&self.rewrites, precision) {
            (Some(rewrites), _) => rewrites.clone(),
            (None, _) if self.raw => Vec::new(),
            (None, Precision::F32) => self.target.target().rewrites(),
            // Low types have no room for the steep mask of `mask`.
            (None, _) => Rewrite::COMMON.to_vec(),
        }
    }
}

/// What `--target` takes.
#[derive(Clone, Copy, ValueEnum)]
pub enum TargetChoice {
    /// ONNX Runtime on a CPU
    Cpu,
    /// ONNX Runtime on an NVIDIA GPU
    Cuda,
    /// tract
    Tract,
}

impl TargetChoice {
    /// The target of that name.
    pub fn target(self) -> Target {
        match self {
            TargetChoice::Cpu => Target::Cpu,
            TargetChoice::Cuda => Target::Cuda,
            TargetChoice::Tract => Target::Tract,
        }
    }
}
