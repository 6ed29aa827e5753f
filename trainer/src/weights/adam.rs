//! Adam (Kingma and Ba 2015).

use anyhow::{Context, Result};
use ebm_export::graph::tensor::Tensors;
use tch::{Device, Kind};

use crate::config::AdamConfig;
use crate::network::{Weights, bytes, to_device};
use crate::weights::optimizer::{Optimizer, named, restore_named, zeros};

/// How the means of the gradients, and of their squares, are called in a saved state.
const MEAN: &str = "mean.";
const SQUARE: &str = "square.";

/// Adam over named weights.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    steps: u64,
    means: Weights,
    squares: Weights,
}

impl Adam {
    /// No steps done.
    pub fn new(config: AdamConfig, weights: &Weights) -> Adam {
        Adam {
            config,
            steps: 0,
            means: zeros(weights),
            squares: zeros(weights),
        }
    }
}

impl Optimizer for Adam {
    /// `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − rate · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)`.
    fn step(
        &mut self,
        weights: &mut Weights,
        gradients: &Weights,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamConfig {
            beta1,
            beta2,
            epsilon,
        } = self.config;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let [rest1, rest2] = [1.0 - beta1.powi(steps), 1.0 - beta2.powi(steps)];
        tch::no_grad(|| {
            for (name, mean) in &mut self.means {
                let missing = || format!("weight {name:?} is unknown to the optimiser");
                let gradient = gradients.get(name).with_context(missing)?;
                let weight = weights.get_mut(name).with_context(missing)?;
                let square = self.squares.get_mut(name).with_context(missing)?;
                let _ = mean.f_lerp_(gradient, 1.0 - beta1)?;
                let _ = square.f_mul_scalar_(beta2)?;
                let _ = square.f_addcmul_(gradient, &gradient.f_mul_scalar(1.0 - beta2)?)?;
                let denominator = (square.f_div_scalar(rest2)?.f_sqrt()?).f_add_scalar(epsilon)?;
                let change = mean
                    .f_div(&denominator)?
                    .f_mul_scalar(-learning_rate / rest1)?;
                let _ = weight.f_add_(&change)?;
            }
            Ok(())
        })
    }

    fn bytes(&self) -> u64 {
        bytes(self.means.values().chain(self.squares.values()))
    }

    fn state(&self) -> Result<Tensors> {
        let mut state = named(MEAN, &self.means)?;
        state.append(&mut named(SQUARE, &self.squares)?);
        Ok(state)
    }

    fn restore(&mut self, steps: u64, state: &Tensors, device: Device) -> Result<()> {
        let state = to_device(state, Kind::Float, device);
        self.steps = steps;
        restore_named(&mut self.means, &state, MEAN)?;
        restore_named(&mut self.squares, &state, SQUARE)
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;

    fn single(value: f64) -> Weights {
        Weights::from([("w".to_string(), Tensor::from_slice(&[value as f32]))])
    }

    const CONFIG: AdamConfig = AdamConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };

    /// In the first step m/(1−β₁) = g and v/(1−β₂) = g², so that the weight moves by rate · g/|g|.
    #[test]
    fn the_first_step_moves_by_the_learning_rate() {
        let mut weights = single(1.0);
        Adam::new(CONFIG, &single(1.0))
            .step(&mut weights, &single(-3.0), 0.1)
            .unwrap();
        assert!((weights["w"].double_value(&[0]) - 1.1).abs() < 1e-6);
    }

    #[test]
    fn a_restored_state_goes_on_as_the_saved_one() {
        let (mut weights, mut twin) = (single(1.0), single(1.0));
        let mut adam = Adam::new(CONFIG, &weights);
        adam.step(&mut weights, &single(0.5), 0.1).unwrap();
        let mut resumed = Adam::new(CONFIG, &twin);
        resumed
            .restore(adam.steps, &adam.state().unwrap(), Device::Cpu)
            .unwrap();
        twin.get_mut("w").unwrap().copy_(&weights["w"]);
        adam.step(&mut weights, &single(-0.2), 0.1).unwrap();
        resumed.step(&mut twin, &single(-0.2), 0.1).unwrap();
        assert_eq!(
            weights["w"].double_value(&[0]),
            twin["w"].double_value(&[0])
        );
    }
}
