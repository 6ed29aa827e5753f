//! When a run counts as diverging, and what is done then.

use serde::{Deserialize, Serialize};

use super::Setting;

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

/// Watches what learns by a loss alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossGuard {
    /// The most that the loss may be.
    pub loss: Setting,
    /// Updates in a row after which a value that is out of its range means divergence. One that is not finite means it at once.
    pub patience: u64,
    /// How often the run goes back to a checkpoint before it gives up.
    pub rollbacks: u64,
    /// Each time the learning rate is multiplied by it.
    pub rate_factor: f64,
}
