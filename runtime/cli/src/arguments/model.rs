//! Which models a command opens.

use std::path::PathBuf;

use clap::Args;
use ebm_runtime::{ModelFolder, Verification};

use crate::models;

#[derive(Args)]
pub struct ModelArguments {
    /// Folder with step.onnx, as `ebm-export onnx` writes it, or the name of one of `purify models`
    #[arg(short, long, value_name = "DIR", value_parser = models::find)]
    pub model: PathBuf,
    /// Take files that were changed after they were exported
    #[arg(long)]
    pub no_verify: bool,
}

impl ModelArguments {
    /// The files that the models are read from.
    pub fn files(&self) -> [PathBuf; 2] {
        ["step.onnx", "classifier.onnx"].map(|name| self.model.join(name))
    }

    /// The models of the folder.
    pub fn open(&self) -> ebm_runtime::Result<ModelFolder> {
        ModelFolder::open_with(&self.model, self.verification())
    }

    /// Whether files must be as they were exported.
    pub fn verification(&self) -> Verification {
        match self.no_verify {
            true => Verification::None,
            false => Verification::Hash,
        }
    }
}
