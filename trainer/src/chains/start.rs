//! Where chains start.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::config::{EnergyConfig, Start};
use crate::learn::examples::Examples;
use crate::learn::generator::Generator;

/// What chains start from.
#[derive(Debug)]
pub enum Source<'a> {
    /// Uniform noise in `[-1, 1]` of that `[C, H, W]`.
    Noise([i64; 3]),
    /// Images that are learned from, augmented and with noise σ as when they are compared.
    Data {
        /// The images.
        examples: &'a Examples,
        /// How they are augmented, and σ.
        config: &'a EnergyConfig,
        /// What makes them, if a generator does.
        generator: Option<&'a Generator>,
    },
    /// Images of a generator.
    Generator(&'a Generator),
}

impl<'a> Source<'a> {
    /// As configured.
    pub fn new(
        config: &'a EnergyConfig,
        examples: &'a Examples,
        generator: Option<&'a Generator>,
    ) -> Source<'a> {
        match (config.chains.start, generator) {
            (Start::Cooperative | Start::CooperativePersistent, Some(generator)) => {
                Source::Generator(generator)
            }
            (Start::Data | Start::DataPersistent, _) => Source::Data {
                examples,
                config,
                generator,
            },
            _ => Source::noise(config),
        }
    }

    /// Noise of the shape of the configured images.
    pub fn noise(config: &EnergyConfig) -> Source<'static> {
        let image = config.network.image();
        Source::Noise([image.channels, image.height, image.width].map(|size| size as i64))
    }

    /// Draws `n` chains at their start from libtorch's generator, which the caller has seeded.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn draw(&self, n: usize, device: Device) -> Result<Chains> {
        self.draw_where(&vec![true; n], device)
    }

    /// As [`Source::draw`], for chains of which only some are wanted, so that no picture is decoded for the others.
    ///
    /// # Errors
    /// As [`Source::draw`].
    pub fn draw_where(&self, wanted: &[bool], device: Device) -> Result<Chains> {
        let n = wanted.len();
        match self {
            Source::Noise([channels, height, width]) => {
                let size = [n as i64, *channels, *height, *width];
                let noise = Tensor::f_rand(size, (Kind::Float, Device::Cpu))? * 2.0 - 1.0;
                Ok(Chains::begin(noise.to_device(device), None))
            }
            Source::Data {
                examples,
                config,
                generator,
            } => {
                let drawn = examples.draw(wanted, &config.data, *generator)?;
                let states = with_noise(drawn, config.learning.data_noise);
                Ok(Chains::begin(states.to_device(device), None))
            }
            Source::Generator(generator) => {
                let latents = generator.draw_latents(n)?;
                let states = generator.images(&latents)?;
                Ok(Chains::begin(states, Some(latents)))
            }
        }
    }

    /// As [`Source::draw`], in batches of at most `batch`, of which each is drawn when it is asked for.
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

/// Images plus normal noise of standard deviation `sigma`.
pub(crate) fn with_noise(images: Tensor, sigma: f64) -> Tensor {
    if sigma == 0.0 {
        images
    } else {
        &images + images.randn_like() * sigma
    }
}
