//! What files are written for.

use clap::ValueEnum;

use ebm_export::transform::rewrite::Target;

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
