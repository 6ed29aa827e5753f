//! Where chains start.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::config::{DataConfig, EnergyConfig};
use crate::data::{Images, augment};
use crate::generator::Generator;

/// What chains start from.
#[derive(Debug)]
pub enum Source<'a> {
    /// Uniform noise in `[-1, 1]` of that `[C, H, W]`.
    Noise([i64; 3]),
    /// Training images, augmented and with noise σ as when they are compared.
    Data {
        /// The images.
        images: &'a Images,
        /// How they are augmented.
        config: &'a DataConfig,
        /// σ.
        sigma: f64,
    },
    /// Images of a generator.
    Generator(&'a Generator),
}

impl<'a> Source<'a> {
    /// As configured.
    pub fn new(
        config: &'a EnergyConfig,
        images: &'a Images,
        generator: Option<&'a Generator>,
    ) -> Source<'a> {
        use crate::config::Start;
        let shape = images.shape();
        let noise =
            || Source::Noise([shape.channels, shape.height, shape.width].map(|size| size as i64));
        match (config.chains.start, generator) {
            (Start::Cooperative | Start::CooperativePersistent, Some(generator)) => {
                Source::Generator(generator)
            }
            (Start::Data | Start::DataPersistent, _) => Source::Data {
                images,
                config: &config.data,
                sigma: config.learning.data_noise,
            },
            _ => noise(),
        }
    }

    /// Draws `n` chains at their start from libtorch's generator, which the caller has seeded.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn draw(&self, n: usize, device: Device) -> Result<Chains> {
        match self {
            Source::Noise([channels, height, width]) => {
                let size = [n as i64, *channels, *height, *width];
                let noise = Tensor::f_rand(size, (Kind::Float, Device::Cpu))? * 2.0 - 1.0;
                Ok(Chains::begin(noise.to_device(device), None))
            }
            Source::Data {
                images,
                config,
                sigma,
            } => {
                let options = (Kind::Int64, Device::Cpu);
                let indices = Tensor::f_randint(images.len() as i64, [n as i64], options)?;
                let drawn = augment(images.batch(&indices).0, config);
                let states = with_noise(drawn, *sigma).to_device(device);
                Ok(Chains::begin(states, None))
            }
            Source::Generator(generator) => {
                let latents = generator.draw_latents(n)?;
                let states = generator.images(&latents)?;
                Ok(Chains::begin(states, Some(latents)))
            }
        }
    }

    /// As [`Source::draw`], in batches of at most `batch`.
    ///
    /// # Errors
    /// As [`Source::draw`].
    pub fn draw_in_batches(&self, n: usize, batch: usize, device: Device) -> Result<Chains> {
        let parts = (0..n)
            .step_by(batch)
            .map(|first| self.draw(batch.min(n - first), device))
            .collect::<Result<Vec<Chains>>>()?;
        Chains::joined(&parts)
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
