//! Where chains start and live on.

use serde::{Deserialize, Serialize};

use super::{Schedule, Setting};

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
    /// A chain is also restarted when it is drawn after more updates than this.
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
