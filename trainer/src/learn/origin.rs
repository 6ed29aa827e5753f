//! What the chains of learning start from, as configured.

use anyhow::Result;
use tch::Device;

use crate::chains::Chains;
use crate::chains::start::{Noise, Origin, with_noise};
use crate::config::{EnergyConfig, Start};
use crate::learn::examples::Examples;
use crate::learn::generator::Generator;

/// What is configured.
pub fn origin<'a>(
    config: &'a EnergyConfig,
    examples: &'a Examples,
    generator: Option<&'a Generator>,
) -> Box<dyn Origin + 'a> {
    match (config.chains.start, generator) {
        (Start::Cooperative | Start::CooperativePersistent, Some(generator)) => Box::new(generator),
        (Start::Data | Start::DataPersistent, _) => Box::new(Data {
            examples,
            config,
            generator,
        }),
        (Start::Noise | Start::NoisePersistent, _) | (_, None) => Box::new(Noise::of(config)),
    }
}

/// Images that are learned from, augmented and with noise σ as when their energies are compared.
#[derive(Debug)]
pub struct Data<'a> {
    /// The images.
    pub examples: &'a Examples,
    /// How they are augmented, and σ.
    pub config: &'a EnergyConfig,
    /// What makes them, if a generator does.
    pub generator: Option<&'a Generator>,
}

impl Origin for Data<'_> {
    fn draw_where(&self, wanted: &[bool], device: Device) -> Result<Chains> {
        let drawn = self
            .examples
            .draw(wanted, &self.config.data, self.generator)?;
        let states = with_noise(drawn, self.config.learning.data_noise);
        Ok(Chains::begin(states.to_device(device), None))
    }
}

/// Images of a generator.
impl Origin for &Generator {
    fn draw_where(&self, wanted: &[bool], _: Device) -> Result<Chains> {
        let latents = self.draw_latents(wanted.len())?;
        let states = self.images(&latents)?;
        Ok(Chains::begin(states, Some(latents)))
    }
}
