//! The generator of cooperative starts.

use std::path::PathBuf;

use ebm_export::source::networks::Network;
use serde::{Deserialize, Serialize};

use super::{AdamConfig, Schedule, Setting};
use crate::network::Norms;

/// What the batch norms of a generator take for mean and variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// Those of the batch at hand.
    Training,
    /// The running ones.
    Inference,
}

impl From<BatchNormMode> for Norms {
    fn from(mode: BatchNormMode) -> Norms {
        match mode {
            BatchNormMode::Training => Norms::OfTheBatch,
            BatchNormMode::Inference => Norms::Running,
        }
    }
}

/// The generator of cooperative starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum GeneratorConfig {
    /// It learns to map each z to where its chain ended.
    Learned(LearnedGenerator),
    /// It stays as it is.
    Fixed(FixedGenerator),
}

/// A generator that learns `‖x⁻ − G(z)‖²` beside the energy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnedGenerator {
    /// What is learned.
    pub network: Network,
    /// Pairs `[from update, rate]`.
    pub learning_rate: Schedule<f64>,
    /// Adam.
    pub adam: AdamConfig,
    /// Decay of the moving average of the weights; at update u it is at most `(1 + u) / (10 + u)`.
    pub ema_decay: Setting,
    /// Largest L2 norm of all weight gradients together.
    pub weight_gradient_clip: Setting,
    /// How batch norms work while it makes starts and learns.
    pub batch_norm: BatchNormMode,
    /// z is normal; if this is on, within that many standard deviations.
    pub truncation: Setting,
}

/// A generator from a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedGenerator {
    /// What the checkpoint holds.
    pub network: Network,
    /// A run that learned a generator, or a generator's checkpoint. Empty: it is given with `--generator`.
    pub checkpoint: PathBuf,
    /// How batch norms work while it makes starts.
    pub batch_norm: BatchNormMode,
    /// z is normal; if this is on, within that many standard deviations.
    pub truncation: Setting,
}

impl GeneratorConfig {
    /// The network.
    pub fn network(&self) -> &Network {
        match self {
            GeneratorConfig::Learned(learned) => &learned.network,
            GeneratorConfig::Fixed(fixed) => &fixed.network,
        }
    }

    /// How batch norms work.
    pub fn batch_norm(&self) -> BatchNormMode {
        match self {
            GeneratorConfig::Learned(learned) => learned.batch_norm,
            GeneratorConfig::Fixed(fixed) => fixed.batch_norm,
        }
    }

    /// Where z is truncated.
    pub fn truncation(&self) -> Setting {
        match self {
            GeneratorConfig::Learned(learned) => learned.truncation,
            GeneratorConfig::Fixed(fixed) => fixed.truncation,
        }
    }
}
