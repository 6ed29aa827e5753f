//! What files are written for, and the rewrites that follow from it.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use ebm_export::transform::precision::Precision;
use ebm_export::transform::rewrite::{Rewrite, Target};

/// What files are to be fast on.
#[derive(Args)]
pub struct TargetArgument {
    /// What the files are to be fast on: ONNX Runtime on a CPU or on an NVIDIA GPU, or tract
    #[arg(long, default_value_t = Target::Cpu, value_parser = PossibleValuesParser::new(Target::ALL.map(Target::name)).try_map(|name| name.parse::<Target>()))]
    pub target: Target,
}

/// Which rewrites are applied.
#[derive(Args)]
pub struct RewriteArguments {
    #[command(flatten)]
    target: TargetArgument,
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
            (None, Precision::F32) => self.target.target.rewrites(),
            // Low types have no room for the steep mask of `mask`.
            (None, _) => Rewrite::COMMON.to_vec(),
        }
    }
}
