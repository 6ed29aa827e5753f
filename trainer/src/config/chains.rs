//! Where chains start, live on and what they descend.

use std::fmt;
use std::path::PathBuf;

use ebm_export::source::networks::Network;
use serde::{Deserialize, Serialize};
use tch::Kind;

use super::{AdamConfig, OptimizerConfig, Setting};
use crate::config::schedule::Schedule;
use crate::network::{Norms, Products};
use crate::weights::learned::Recipe;

/// K Langevin steps `x ← x − (ε²/2)·∇U + ε·z` down `U(x) = E(x)/T [+ E_prior(x)/T_prior] [+ ‖x‖²/(2τ²)]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LangevinConfig {
    /// K, or pairs `[from update, K]`.
    pub steps: Schedule<usize>,
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// Largest L2 norm, per image, of the drift `(ε²/2)·∇U`.
    pub clip: Setting,
    /// τ.
    pub tau: Setting,
    /// Of the numbers in which `∇U` is computed; runs of before there was a choice have f32.
    #[serde(default)]
    pub precision: Precision,
}

/// In what numbers the gradient that chains descend is computed. States, noise and steps are f32, and so is what weights learn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 24 bits of mantissa.
    #[default]
    F32,
    /// f32, of which an NVIDIA GPU multiplies the first 11 bits of mantissa; elsewhere the same as f32.
    Tf32,
    /// 8 bits of mantissa and the exponents of f32.
    Bf16,
}

impl Precision {
    /// As libtorch names it.
    pub fn kind(self) -> Kind {
        match self {
            Precision::F32 | Precision::Tf32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        }
    }

    /// How a GPU multiplies numbers of f32.
    pub fn products(self) -> Products {
        match self {
            Precision::F32 | Precision::Bf16 => Products::Exact,
            Precision::Tf32 => Products::Tf32,
        }
    }
}

impl fmt::Display for Precision {
    /// As in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}

impl LangevinConfig {
    /// The steps of an update, counted from 0.
    pub fn at(&self, update: u64) -> Dynamics {
        self.with_steps(self.steps.at(update))
    }

    /// So many steps.
    pub fn with_steps(&self, steps: usize) -> Dynamics {
        Dynamics {
            steps,
            step_size: self.step_size,
            temperature: self.temperature,
            clip: self.clip,
        }
    }
}

/// Langevin steps `x ← x − (ε²/2)·∇U + ε·z`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynamics {
    /// K.
    pub steps: usize,
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
    /// Largest L2 norm, per image, of the drift `(ε²/2)·∇U`.
    pub clip: Setting,
}

/// Where chains start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Chains live on in a bank that begins with data; a restarted chain starts from data.
    DataPersistent,
    /// Chains live on in a bank that begins with uniform noise; a restarted chain starts from noise.
    NoisePersistent,
    /// Chains live on in a bank beside the z that a generator made their start from; a restarted chain has a new z.
    CooperativePersistent,
    /// Every chain starts from data (contrastive divergence).
    Data,
    /// Every chain starts from uniform noise.
    Noise,
    /// Every chain starts from an image of a generator.
    Cooperative,
}

impl Start {
    /// Whether chains live on in a bank.
    pub fn persists(self) -> bool {
        match self {
            Start::DataPersistent | Start::NoisePersistent | Start::CooperativePersistent => true,
            Start::Data | Start::Noise | Start::Cooperative => false,
        }
    }

    /// Whether a generator makes the starts.
    pub fn generates(self) -> bool {
        matches!(self, Start::Cooperative | Start::CooperativePersistent)
    }
}

/// The chains of learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainsConfig {
    /// Where they start.
    pub start: Start,
    /// Chains in the bank. Only used by the persistent starts.
    pub bank: usize,
    /// Chance that a chain drawn from the bank is restarted, or pairs `[from update, chance]`.
    pub rejuvenation: Schedule<f64>,
    /// A chain is also restarted when it is drawn after more than so many updates.
    pub max_updates: Setting<u64>,
}

/// A second bank, whose chains burn in before they enter the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BurnInConfig {
    /// Chains in it.
    pub bank: usize,
    /// Chains of it that each update visits.
    pub batch: usize,
    /// Langevin steps of a visit, or pairs `[from update, steps]`.
    pub steps: Schedule<usize>,
    /// Visits after which a chain takes the place of an updated one and restarts, or pairs `[from update, visits]`.
    pub visits: Schedule<u64>,
}

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
    /// z is normal, and within so many deviations where this is on.
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
    /// z is normal, and within so many deviations where this is on.
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

impl LearnedGenerator {
    /// How its weights move.
    pub fn recipe(&self) -> Recipe {
        Recipe {
            optimizer: OptimizerConfig::Adam(self.adam),
            learning_rate: self.learning_rate.clone(),
            ema_decay: self.ema_decay,
            gradient_clip: self.weight_gradient_clip,
        }
    }
}

/// An energy network that was learned before and is part of the potential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// What the checkpoint holds.
    pub network: Network,
    /// The run that learned it. Empty: it is given with `--prior`.
    pub checkpoint: PathBuf,
    /// T_prior.
    pub temperature: f64,
}
