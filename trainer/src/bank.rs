//! Where chains start, and the bank in which persistent chains live on.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use crate::config::{Chains, Start};
use crate::randomness::{Purpose, index, permutation, seed_torch};

/// Draws `n` fresh starts of chains, f32 `[n, C, H, W]`, from libtorch's generator, which the caller has seeded.
pub trait FreshStarts {
    /// The draw.
    fn draw(&self, n: usize) -> Tensor;
}

/// Uniform noise in `[-1, 1]`.
#[derive(Debug)]
pub struct UniformNoise {
    /// C, H, W.
    pub shape: [i64; 3],
}

impl FreshStarts for UniformNoise {
    fn draw(&self, n: usize) -> Tensor {
        let [channels, height, width] = self.shape;
        Tensor::rand(
            [n as i64, channels, height, width],
            (Kind::Float, Device::Cpu),
        ) * 2.0
            - 1.0
    }
}

/// The chains of one update.
#[derive(Debug)]
pub struct Drawn {
    /// Their places in the bank, int64 `[n]`; none where chains do not persist.
    places: Option<Tensor>,
    /// Their states, `[n, C, H, W]`.
    pub states: Tensor,
}

/// Chains between updates.
#[derive(Debug)]
pub struct Bank {
    seed: u64,
    rejuvenation: f64,
    /// f32 `[bank, C, H, W]`; none where every chain starts afresh.
    states: Option<Tensor>,
}

impl Bank {
    /// A bank at the start of a run.
    pub fn new(config: &Chains, seed: u64, fresh: &dyn FreshStarts, device: Device) -> Bank {
        let states =
            matches!(config.start, Start::DataPersistent | Start::NoisePersistent).then(|| {
                seed_torch(seed, 0, Purpose::BankStart);
                fresh.draw(config.bank).to_device(device)
            });
        Bank {
            seed,
            rejuvenation: config.rejuvenation,
            states,
        }
    }

    /// Draws the chains of an update: different ones of the bank, each restarted with the configured chance.
    pub fn draw(&self, update: u64, n: usize, fresh: &dyn FreshStarts, device: Device) -> Drawn {
        seed_torch(self.seed, update, Purpose::Chains);
        let Some(states) = &self.states else {
            return Drawn {
                places: None,
                states: fresh.draw(n).to_device(device),
            };
        };
        let bank = states.size()[0] as usize;
        let order = permutation(
            bank,
            crate::randomness::derive(self.seed, update, Purpose::Chains),
        );
        let places = index(&order[..n]).to_device(device);
        let stored = states.index_select(0, &places);
        let restarted = Tensor::rand([n as i64, 1, 1, 1], (Kind::Float, Device::Cpu))
            .lt(self.rejuvenation)
            .to_device(device);
        let states = fresh
            .draw(n)
            .to_device(device)
            .where_self(&restarted, &stored);
        Drawn {
            places: Some(places),
            states,
        }
    }

    /// Puts the ends of drawn chains back in their places.
    pub fn store(&mut self, drawn: &Drawn, ends: &Tensor) {
        if let (Some(states), Some(places)) = (&mut self.states, &drawn.places) {
            let _ = states.index_copy_(0, places, ends);
        }
    }

    /// All states, where chains persist.
    pub fn states(&self) -> Option<&Tensor> {
        self.states.as_ref()
    }

    /// Goes on with saved states.
    ///
    /// # Errors
    /// They have another shape than the configured bank.
    pub fn restore(&mut self, saved: Tensor) -> Result<()> {
        let expected = self.states.as_ref().map(Tensor::size);
        ensure!(
            expected.as_deref() == Some(&saved.size()),
            "the saved bank has shape {:?}, expected {expected:?}",
            saved.size()
        );
        self.states = Some(saved);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros;

    impl FreshStarts for Zeros {
        fn draw(&self, n: usize) -> Tensor {
            Tensor::zeros([n as i64, 1, 1, 1], (Kind::Float, Device::Cpu))
        }
    }

    fn bank(rejuvenation: f64) -> Bank {
        let config = Chains {
            start: Start::DataPersistent,
            bank: 10,
            rejuvenation,
        };
        Bank::new(&config, 1, &Zeros, Device::Cpu)
    }

    #[test]
    fn stored_chains_are_found_again_and_each_is_drawn_once() {
        let mut bank = bank(0.0);
        let drawn = bank.draw(0, 10, &Zeros, Device::Cpu);
        bank.store(
            &drawn,
            &Tensor::arange(10, (Kind::Float, Device::Cpu)).view([10, 1, 1, 1]),
        );
        let mut values =
            Vec::<f32>::try_from(bank.draw(1, 10, &Zeros, Device::Cpu).states.view([-1])).unwrap();
        values.sort_by(f32::total_cmp);
        assert_eq!(
            values,
            (0..10).map(|value| value as f32).collect::<Vec<_>>()
        );
    }

    #[test]
    fn with_certain_rejuvenation_every_chain_restarts() {
        let mut bank = bank(1.0);
        let drawn = bank.draw(0, 10, &Zeros, Device::Cpu);
        bank.store(
            &drawn,
            &Tensor::ones([10, 1, 1, 1], (Kind::Float, Device::Cpu)),
        );
        assert_eq!(
            bank.draw(1, 10, &Zeros, Device::Cpu)
                .states
                .sum(Kind::Float)
                .double_value(&[]),
            0.0
        );
    }
}
