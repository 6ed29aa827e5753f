//! How weights follow their gradients.

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use tch::Device;

use crate::config::OptimizerConfig;
use crate::network::Weights;
use crate::weights::adam::Adam;
use crate::weights::sgd::Sgd;

/// An optimiser over named weights, with a state that can be saved.
#[derive(Debug)]
pub enum Optimizer {
    /// Adam.
    Adam(Adam),
    /// Gradient descent with momentum.
    Sgd(Sgd),
}

impl Optimizer {
    /// No steps done.
    pub fn new(config: OptimizerConfig, weights: &Weights) -> Optimizer {
        match config {
            OptimizerConfig::Adam(config) => Optimizer::Adam(Adam::new(config, weights)),
            OptimizerConfig::Sgd(config) => Optimizer::Sgd(Sgd::new(config, weights)),
        }
    }

    /// Moves each weight that the optimiser knows by its gradient.
    ///
    /// # Errors
    /// A weight or gradient is missing or of another shape.
    pub fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &Weights,
        learning_rate: f64,
    ) -> Result<()> {
        match self {
            Optimizer::Adam(adam) => adam.step(weights, gradients, learning_rate),
            Optimizer::Sgd(sgd) => sgd.step(weights, gradients, learning_rate),
        }
    }

    /// Bytes of the state.
    pub fn bytes(&self) -> u64 {
        match self {
            Optimizer::Adam(adam) => adam.bytes(),
            Optimizer::Sgd(sgd) => sgd.bytes(),
        }
    }

    /// The state by name.
    ///
    /// # Errors
    /// libtorch cannot copy.
    pub fn state(&self) -> Result<Tensors> {
        match self {
            Optimizer::Adam(adam) => adam.state(),
            Optimizer::Sgd(sgd) => sgd.state(),
        }
    }

    /// Goes on from a state after that many steps.
    ///
    /// # Errors
    /// The state is of other weights.
    pub fn restore(&mut self, steps: u64, state: &Tensors, device: Device) -> Result<()> {
        match self {
            Optimizer::Adam(adam) => adam.restore(steps, state, device),
            Optimizer::Sgd(sgd) => sgd.restore(state, device),
        }
    }
}

/// Copies saved tensors called `prefix` + name over those of an optimiser.
///
/// # Errors
/// One is missing or of another shape.
pub(crate) fn restore_named(own: &mut Weights, saved: &Weights, prefix: &str) -> Result<()> {
    for (name, tensor) in own {
        let saved = saved
            .get(&format!("{prefix}{name}"))
            .with_context(|| format!("the saved optimiser knows no weight {name:?}"))?;
        ensure!(
            saved.size() == tensor.size(),
            "the saved optimiser has another shape of weight {name:?}"
        );
        *tensor = saved.shallow_clone();
    }
    Ok(())
}

/// A tensor of zeros for each weight.
pub(crate) fn zeros(weights: &Weights) -> Weights {
    weights
        .iter()
        .map(|(name, weight)| (name.clone(), weight.zeros_like().set_requires_grad(false)))
        .collect()
}
