//! The configuration of learning by matching.

use anyhow::Result;
use ebm_export::source::networks::{Activation, Network};
use serde::{Deserialize, Serialize};

use super::check::{
    above_zero, above_zero_if_on, at_least_one, below_one_if_on, check_adam, check_data,
    check_energy, check_output, check_rate, check_rollbacks, range,
};
use super::{
    AdamConfig, ChainsConfig, Configuration, DataConfig, Dynamics, EnergyConfig, EnergyGuard,
    EnergyLearning, LangevinConfig, LikelihoodObjective, LossGuard, MatchingObjective, Output,
    Precision, Purification, Schedule, Setting, Source, Start, Task, WarmStart,
};

/// The learning of an energy network by matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchingConfig {
    /// Always [`Task::Energy`].
    pub kind: Task,
    /// All random draws derive from it.
    pub seed: u64,
    /// What is learned from.
    pub data: DataConfig,
    /// What is learned.
    pub network: Network,
    /// What its gradient is regressed on.
    pub objective: MatchingObjective,
    /// How weights move.
    pub learning: MatchingLearning,
    /// The run whose weights it begins with, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WarmStart>,
    /// When it counts as diverging, and what is done then.
    pub guard: LossGuard,
    /// What is recommended for purification with the result.
    pub purification: Purification,
    /// What is written, and when.
    pub output: Output,
}

/// How the weights of an energy network move that learns by matching.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchingLearning {
    /// Updates of the weights.
    pub updates: u64,
    /// Images per update.
    pub batch: usize,
    /// Pairs `[from update, rate]`.
    pub learning_rate: Schedule<f64>,
    /// Adam.
    pub adam: AdamConfig,
    /// Decay of the moving average of the weights; at update u it is at most `(1 + u) / (10 + u)`.
    pub ema_decay: Setting,
    /// Largest L2 norm of all weight gradients together.
    pub weight_gradient_clip: Setting,
    /// How likely each value is forgotten where the network has places for that; off in everything but learning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// The first weights of the head are multiplied by it: as they are drawn, gradients are far smaller than what they have to become.
    pub head_factor: f64,
}

impl Configuration for MatchingConfig {
    const KIND: Task = Task::Energy;
    const COMMAND: &'static str = "trainer fit";

    fn kind(&self) -> Task {
        self.kind
    }

    fn check(&self) -> Result<()> {
        let learning = &self.learning;
        check_energy("network", &self.network)?;
        check_smooth(&self.network)?;
        check_data(&self.data)?;
        if self.data.source == Source::Generator {
            let expected = "a data set: matching learns from data, not from what a generator makes";
            return Err(range("data.source", "generator", expected));
        }
        check_output(&self.output)?;
        self.objective.check()?;
        at_least_one("learning.updates", learning.updates)?;
        at_least_one("learning.batch", learning.batch as u64)?;
        check_rate("learning.learning_rate", &learning.learning_rate)?;
        check_adam("learning.adam", &learning.adam)?;
        below_one_if_on("learning.ema_decay", learning.ema_decay)?;
        above_zero_if_on(
            "learning.weight_gradient_clip",
            learning.weight_gradient_clip,
        )?;
        self.from.as_ref().map_or(Ok(()), WarmStart::check)?;
        if self.objective.contrast().is_some() && self.from.is_none() {
            let expected = "none without --from RUN, since this second phase goes on from a run that learned the flow alone";
            return Err(range("objective.contrast", "a second phase", expected));
        }
        above_zero("learning.head_factor", learning.head_factor)?;
        self.check_dropout()?;
        above_zero_if_on("guard.loss", self.guard.loss)?;
        check_rollbacks(self.guard.patience, self.guard.rate_factor)?;
        Dynamics::from(self.purification).check("purification")
    }
}

impl MatchingConfig {
    fn check_dropout(&self) -> Result<()> {
        let Some(rate) = self.learning.dropout else {
            return Ok(());
        };
        if !(rate > 0.0 && rate < 1.0) {
            let expected = "between 0 and 1; leave the key out for none";
            return Err(range("learning.dropout", rate, expected));
        }
        match self.network.has_dropout() {
            true => Ok(()),
            false => {
                let expected =
                    "none: of all networks unet_vit alone has places for it; leave the key out";
                Err(range("learning.dropout", rate, expected))
            }
        }
    }

    /// The same network and data as of a run by maximum likelihood, with the recommended purification for chains: what samples are drawn with.
    pub fn into_chains(self) -> EnergyConfig {
        let MatchingLearning {
            updates,
            batch,
            learning_rate,
            adam,
            ema_decay,
            weight_gradient_clip,
            ..
        } = self.learning;
        EnergyConfig {
            kind: self.kind,
            seed: self.seed,
            data: self.data,
            network: self.network,
            objective: LikelihoodObjective::default(),
            learning: EnergyLearning {
                updates,
                batch,
                learning_rate,
                adam,
                ema_decay,
                data_noise: 0.0,
                weight_gradient_clip,
            },
            langevin: LangevinConfig {
                steps: Schedule::Constant(self.purification.steps),
                step_size: self.purification.step_size,
                temperature: self.purification.temperature,
                clip: Setting::OFF,
                tau: Setting::OFF,
                precision: Precision::F32,
            },
            chains: ChainsConfig {
                start: Start::Data,
                bank: batch,
                rejuvenation: Schedule::Constant(0.0),
                max_updates: Setting::OFF,
            },
            generator: None,
            burn_in: None,
            prior: None,
            from: None,
            guard: EnergyGuard {
                energy_difference: Setting::OFF,
                gradient_strength: Setting::OFF,
                saturation: Setting::OFF,
                patience: self.guard.patience,
                rollbacks: self.guard.rollbacks,
                rate_factor: self.guard.rate_factor,
            },
            purification: self.purification,
            output: self.output,
        }
    }
}

/// Refuses networks of which the gradient does not depend on the biases.
fn check_smooth(network: &Network) -> Result<()> {
    let name = match network.activation() {
        Activation::Relu => "relu",
        Activation::LeakyRelu { .. } => "leaky_relu",
        _ => return Ok(()),
    };
    let expected = "a smooth activation, such as \"silu\" or { soft_leaky_relu = { a = 0.49, e = 0.01 } }: \
        matching gives the biases of a piecewise linear network no gradient, since ∇E does not change with them";
    Err(range("network.activation", name, expected))
}
