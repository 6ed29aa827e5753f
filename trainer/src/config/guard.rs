//! When a run counts as diverging, and what is done then.

use serde::{Deserialize, Serialize};

use super::Setting;
use crate::run::guard::Guard;

/// Watches the learning of an energy network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyGuard {
    /// The most that the energy of data minus that of chain ends, over T, may differ from 0.
    pub energy_difference: Setting,
    /// The most that the mean L2 norm of a drift may be.
    pub gradient_strength: Setting,
    /// The largest share of chain ends' pixels at or beyond the ends of the range.
    pub saturation: Setting,
    /// Updates in a row after which a value that is out of its range means divergence. One that is not finite means it at once.
    pub patience: u64,
    /// How often the run goes back to a checkpoint before it gives up.
    pub rollbacks: u64,
    /// Each time all learning rates are multiplied by it.
    pub rate_factor: f64,
}

impl EnergyGuard {
    /// What is watched, by the names of `metrics.jsonl`.
    pub fn guard(&self) -> Guard {
        Guard {
            limits: on(&[
                ("energy_difference", self.energy_difference),
                ("gradient_strength", self.gradient_strength),
                ("saturation", self.saturation),
            ]),
            patience: self.patience,
            rollbacks: self.rollbacks,
            advice: "begin again with a lower learning.learning_rate or langevin.step_size, a higher langevin.temperature, or with langevin.clip",
        }
    }

    /// What learning rates are multiplied by after so many rollbacks.
    pub fn pace(&self, rollbacks: u64) -> f64 {
        pace(self.rate_factor, rollbacks)
    }
}

/// Watches the learning of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierGuard {
    /// The most that the loss may be.
    pub loss: Setting,
    /// Updates in a row after which a value that is out of its range means divergence. One that is not finite means it at once.
    pub patience: u64,
    /// How often the run goes back to a checkpoint before it gives up.
    pub rollbacks: u64,
    /// Each time the learning rate is multiplied by it.
    pub rate_factor: f64,
}

impl ClassifierGuard {
    /// What is watched, by the names of `metrics.jsonl`.
    pub fn guard(&self) -> Guard {
        Guard {
            limits: on(&[("loss", self.loss)]),
            patience: self.patience,
            rollbacks: self.rollbacks,
            advice: "begin again with a lower learning.learning_rate",
        }
    }

    /// What the learning rate is multiplied by after so many rollbacks.
    pub fn pace(&self, rollbacks: u64) -> f64 {
        pace(self.rate_factor, rollbacks)
    }
}

fn on(limits: &[(&'static str, Setting)]) -> Vec<(&'static str, f64)> {
    let limits = limits.iter();
    limits
        .filter_map(|(name, limit)| Some((*name, limit.value()?)))
        .collect()
}

fn pace(factor: f64, rollbacks: u64) -> f64 {
    factor.powi(i32::try_from(rollbacks).unwrap_or(i32::MAX))
}
