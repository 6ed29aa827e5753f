//! Where chains start.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::config::EnergyConfig;

/// What chains start from.
pub trait Origin {
    /// Draws a chain at its start for each that is wanted, from libtorch's generator, which the caller has seeded. A chain is the same whatever
    /// else is wanted; those that are not wanted may be anything, so that no picture is decoded for them.
    ///
    /// # Errors
    /// A picture is damaged or lost, or libtorch fails.
    fn draw_where(&self, wanted: &[bool], device: Device) -> Result<Chains>;
}

impl dyn Origin + '_ {
    /// Draws `n` chains.
    pub fn draw(&self, n: usize, device: Device) -> Result<Chains> {
        self.draw_where(&vec![true; n], device)
    }

    /// Draws `n` chains in batches of at most `batch`, each when it is asked for.
    pub fn draw_in_batches(
        &self,
        n: usize,
        batch: usize,
        device: Device,
    ) -> impl Iterator<Item = Result<Chains>> {
        let firsts = (0..n).step_by(batch);
        firsts.map(move |first| self.draw(batch.min(n - first), device))
    }
}

/// Uniform noise in `[-1, 1]` of that `[C, H, W]`.
#[derive(Clone, Copy, Debug)]
pub struct Noise(pub [i64; 3]);

impl Noise {
    /// Of the shape of the configured images.
    pub fn of(config: &EnergyConfig) -> Noise {
        let image = config.network.image();
        Noise([image.channels, image.height, image.width].map(|size| size as i64))
    }
}

impl Origin for Noise {
    fn draw_where(&self, wanted: &[bool], device: Device) -> Result<Chains> {
        let [channels, height, width] = self.0;
        let size = [wanted.len() as i64, channels, height, width];
        let noise = Tensor::f_rand(size, (Kind::Float, Device::Cpu))? * 2.0 - 1.0;
        Ok(Chains::begin(noise.to_device(device), None))
    }
}

/// Images plus normal noise of standard deviation `sigma`.
pub(crate) fn with_noise(images: Tensor, sigma: f64) -> Tensor {
    if sigma == 0.0 {
        images
    } else {
        &images + images.randn_like() * sigma
    }
}
