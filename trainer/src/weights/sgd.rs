//! Gradient descent with momentum.

use anyhow::{Context, Result};
use ebm_export::graph::tensor::Tensors;
use tch::{Device, Kind};

use crate::config::SgdConfig;
use crate::network::{Weights, bytes, to_device};
use crate::weights::optimizer::{Optimizer, named, restore_named, zeros};

/// Stands before the names of the saved velocities.
const VELOCITY: &str = "velocity.";

/// Gradient descent over named weights.
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    velocities: Weights,
}

impl Sgd {
    /// At rest.
    pub fn new(config: SgdConfig, weights: &Weights) -> Sgd {
        Sgd {
            config,
            velocities: zeros(weights),
        }
    }
}

impl Optimizer for Sgd {
    /// `v ← momentum · v + g + decay · w`, `w ← w − rate · v`.
    fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &Weights,
        learning_rate: f64,
    ) -> Result<()> {
        let SgdConfig {
            momentum,
            weight_decay,
        } = self.config;
        tch::no_grad(|| {
            for (name, velocity) in &mut self.velocities {
                let missing = || format!("weight {name:?} is unknown to the optimiser");
                let gradient = gradients.get(name).with_context(missing)?;
                let weight = weights.get_mut(name).with_context(missing)?;
                let _ = velocity.f_mul_scalar_(momentum)?;
                let _ = velocity.f_add_(gradient)?;
                let _ = velocity.f_add_(&weight.f_mul_scalar(weight_decay)?)?;
                let _ = weight.f_sub_(&velocity.f_mul_scalar(learning_rate)?)?;
            }
            Ok(())
        })
    }

    fn bytes(&self) -> u64 {
        bytes(self.velocities.values())
    }

    fn state(&self) -> Result<Tensors> {
        named(VELOCITY, &self.velocities)
    }

    fn restore(&mut self, _: u64, state: &Tensors, device: Device) -> Result<()> {
        let saved = to_device(state, Kind::Float, device);
        restore_named(&mut self.velocities, &saved, VELOCITY)
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn single(value: f64) -> Weights {
        Weights::from([("w".to_string(), Tensor::from_slice(&[value as f32]))])
    }

    /// From w = 1 with g = 2, momentum 1/2, decay 1/4 and rate 1/2: v = 2.25, w = −0.125; then v = 1.125 + 2 − 0.03125, w = −1.671875.
    #[test]
    fn steps_have_their_closed_form_also_behind_a_restored_state() {
        let config = SgdConfig {
            momentum: 0.5,
            weight_decay: 0.25,
        };
        let mut weights = single(1.0);
        let mut sgd = Sgd::new(config, &weights);
        sgd.step(&mut weights, &single(2.0), 0.5).unwrap();
        assert_eq!(weights["w"].double_value(&[0]), -0.125);
        let mut resumed = Sgd::new(config, &single(0.0));
        resumed
            .restore(1, &sgd.state().unwrap(), Device::Cpu)
            .unwrap();
        resumed.step(&mut weights, &single(2.0), 0.5).unwrap();
        assert_eq!(weights["w"].double_value(&[0]), -1.671875);
    }
}
