//! How images are purified.

use anyhow::Result;
use clap::Args;
use ebm_runtime::{Model, Purifier, PurifierBuilder, Seed};

use super::BackendArguments;

#[derive(Args)]
#[command(next_help_heading = "Purification (by default as the model recommends)")]
pub struct PurificationArguments {
    /// Number of Langevin steps
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Step size ε, which is also the noise's standard deviation
    #[arg(long, value_name = "ε", allow_negative_numbers = true)]
    pub step_size: Option<f64>,
    /// Temperature T
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Largest L2 norm of an image's drift (ε²/2T)·∇E
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip: Option<f64>,
    /// Seed of the noise, to repeat a run; by default a fresh one is drawn and printed, since whoever knows it knows the noise
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Number of threads; all of the machine's by default
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Images that run together; changes the speed only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub backend: BackendArguments,
}

impl PurificationArguments {
    /// The seed that was given, or a fresh one.
    pub fn seed(&self) -> ebm_runtime::Result<Seed> {
        self.seed.map_or_else(Seed::fresh, |seed| Ok(seed.into()))
    }

    /// The purifier of the model with these settings.
    pub fn purifier(&self, model: &Model) -> Result<PurifierBuilder> {
        self.adjust(Purifier::builder(model))
    }

    /// A purifier with these settings, as far as they are given.
    pub fn adjust(&self, builder: PurifierBuilder) -> Result<PurifierBuilder> {
        let builder = builder.backend(self.backend.backend()?);
        let builder = set(builder, self.steps, PurifierBuilder::steps);
        let builder = set(builder, self.step_size, PurifierBuilder::step_size);
        let builder = set(builder, self.temperature, PurifierBuilder::temperature);
        let builder = set(builder, self.clip, PurifierBuilder::clip);
        let builder = set(builder, self.threads, PurifierBuilder::threads);
        Ok(set(builder, self.batch, PurifierBuilder::batch))
    }
}

fn set<B, T>(builder: B, given: Option<T>, setter: impl FnOnce(B, T) -> B) -> B {
    match given {
        Some(value) => setter(builder, value),
        None => builder,
    }
}
