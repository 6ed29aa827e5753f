//! What an energy network is learned from: images of a data set, or of a generator.

use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

use crate::config::{DataConfig, EnergyConfig, Source};
use crate::data::{self, Images, Order, augment};
use crate::generator::Generator;
use crate::randomness::{Purpose, seed_torch};

/// Images to learn from.
#[derive(Debug)]
pub enum Examples {
    /// Those of a data set.
    Stored {
        /// The images.
        images: Images,
        /// In which order they are visited.
        order: Order,
    },
    /// Those that the fixed generator of the run makes.
    Generated,
}

impl Examples {
    /// As configured, from the folder where the source needs one.
    ///
    /// # Errors
    /// The data are refused.
    pub fn load(config: &EnergyConfig, directory: Option<&Path>) -> Result<Examples> {
        if config.data.source == Source::Generator {
            return Ok(Examples::Generated);
        }
        let images = data::load(&config.data, directory, config.network.image())?.train;
        Ok(Examples::Stored {
            order: Order::new(config.seed, images.len()),
            images,
        })
    }

    /// Random images, where only their shape matters.
    pub fn random(config: &EnergyConfig) -> Examples {
        if config.data.source == Source::Generator {
            return Examples::Generated;
        }
        let images = Images::random(config.network.image(), config.learning.batch);
        Examples::Stored {
            order: Order::new(config.seed, images.len()),
            images,
        }
    }

    /// The images of an update, augmented, f32 `[n, C, H, W]`.
    ///
    /// # Errors
    /// There is no generator where one is needed, or libtorch fails.
    pub fn batch(
        &mut self,
        (seed, update): (u64, u64),
        n: usize,
        config: &DataConfig,
        generator: Option<&Generator>,
    ) -> Result<Tensor> {
        match self {
            Examples::Stored { images, order } => {
                let (images, _) = images.batch(&order.batch(update, n));
                seed_torch(seed, update, Purpose::Augmentation);
                Ok(augment(images, config))
            }
            Examples::Generated => {
                seed_torch(seed, update, Purpose::Examples);
                generated(n, generator)
            }
        }
    }

    /// Draws `n` images, augmented, f32 `[n, C, H, W]`, from libtorch's generator of numbers, which the caller has seeded.
    ///
    /// # Errors
    /// As [`Examples::batch`].
    pub fn draw(
        &self,
        n: usize,
        config: &DataConfig,
        generator: Option<&Generator>,
    ) -> Result<Tensor> {
        match self {
            Examples::Stored { images, .. } => {
                let options = (Kind::Int64, Device::Cpu);
                let indices = Tensor::f_randint(images.len() as i64, [n as i64], options)?;
                Ok(augment(images.batch(&indices).0, config))
            }
            Examples::Generated => generated(n, generator),
        }
    }

    /// Bytes of the images that are held.
    pub fn bytes(&self) -> u64 {
        match self {
            Examples::Stored { images, .. } => images.bytes(),
            Examples::Generated => 0,
        }
    }

    /// `n` images to look at, f32 `[n, C, H, W]`, or all where a data set has fewer. The caller has seeded libtorch's generator of numbers.
    ///
    /// # Errors
    /// As [`Examples::batch`].
    pub fn shown(&self, n: usize, generator: Option<&Generator>) -> Result<Tensor> {
        match self {
            Examples::Stored { images, .. } => Ok(images.first(n).0),
            Examples::Generated => generated(n, generator),
        }
    }
}

fn generated(n: usize, generator: Option<&Generator>) -> Result<Tensor> {
    let generator = generator.context("data.source = \"generator\" needs a section [generator]")?;
    generator.finished_images(&generator.draw_latents(n)?)
}
