//! Networks that a run takes from earlier ones: a fixed generator, a prior.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::weights::check_weights;
use ebm_export::source::Kind;
use ebm_export::source::checkpoint::{GENERATOR, GENERATOR_EMA, PRIOR};
use ebm_export::transform::potential::Prior;

use crate::config::{EnergyConfig, FixedGenerator, GeneratorConfig};
use crate::learn::warm_start::{Scale, first_weights};
use crate::run::saved::Saved;

/// The weights of those networks; the configuration describes them.
#[derive(Debug, Default)]
pub struct Borrowed {
    /// Of a fixed generator.
    pub generator: Option<Tensors>,
    /// Of the prior.
    pub prior: Option<Tensors>,
    /// What the energy network begins with, if not with drawn weights.
    pub first: Option<Tensors>,
}

impl Borrowed {
    /// From the checkpoints that a configuration names.
    ///
    /// # Errors
    /// One is not named, not there, or of another network than the configured one.
    pub fn from_earlier_runs(config: &EnergyConfig) -> Result<Borrowed> {
        let scale = Scale::Temperature(config.langevin.temperature);
        let borrowed = Borrowed {
            generator: fixed(config).map(generator_weights).transpose()?,
            prior: config
                .prior
                .as_ref()
                .map(|prior| prior_weights(&prior.checkpoint))
                .transpose()?,
            first: config
                .from
                .as_ref()
                .map(|from| first_weights(from, &config.network, scale))
                .transpose()?,
        };
        borrowed.check(config)?;
        Ok(borrowed)
    }

    /// From a checkpoint of the run itself, which holds them too.
    ///
    /// # Errors
    /// They are missing, or of another network than the configured one.
    pub fn from_own_checkpoint(saved: &Saved, config: &EnergyConfig) -> Result<Borrowed> {
        let read = |name| saved.group(name);
        let borrowed = Borrowed {
            generator: fixed(config).map(|_| read(GENERATOR)).transpose()?,
            prior: config.prior.as_ref().map(|_| read(PRIOR)).transpose()?,
            first: None,
        };
        borrowed.check(config)?;
        Ok(borrowed)
    }

    /// Networks as they begin, where only their shapes matter.
    pub fn untrained(config: &EnergyConfig) -> Result<Borrowed> {
        let generator = fixed(config).map(|fixed| fixed.network.initial_weights(config.seed));
        let prior = config.prior.as_ref();
        let prior = prior.map(|prior| prior.network.initial_weights(config.seed));
        Ok(Borrowed {
            generator: generator.transpose()?,
            prior: prior.transpose()?,
            first: None,
        })
    }

    /// The prior with its description.
    pub fn prior(&self, config: &EnergyConfig) -> Option<Prior> {
        Some(Prior {
            network: config.prior.as_ref()?.network.clone(),
            temperature: config.prior.as_ref()?.temperature,
            weights: self.prior.clone()?,
        })
    }

    fn check(&self, config: &EnergyConfig) -> Result<()> {
        if let (Some(fixed), Some(weights)) = (fixed(config), &self.generator) {
            check_weights(&fixed.network.graph()?, weights).with_context(|| {
                format!(
                    "the generator in {} is not that of [generator.network]",
                    fixed.checkpoint.display()
                )
            })?;
        }
        if let (Some(prior), Some(weights)) = (&config.prior, &self.prior) {
            check_weights(&prior.network.graph()?, weights).with_context(|| {
                format!(
                    "the prior in {} is not that of [prior.network]",
                    prior.checkpoint.display()
                )
            })?;
        }
        Ok(())
    }
}

fn fixed(config: &EnergyConfig) -> Option<&FixedGenerator> {
    match config.generator.as_ref()? {
        GeneratorConfig::Fixed(fixed) => Some(fixed),
        GeneratorConfig::Learned(_) => None,
    }
}

/// The generator of a run that learned one, or of a checkpoint that is one.
fn generator_weights(config: &FixedGenerator) -> Result<Tensors> {
    let path = &config.checkpoint;
    if path.as_os_str().is_empty() {
        bail!(
            "this configuration starts its chains from a fixed generator: name the run that learned it (for example one of a shortrun preset), \
             or a generator's checkpoint, with --generator RUN"
        );
    }
    let saved = Saved::open(path).with_context(|| format!("--generator {}", path.display()))?;
    if saved.header.kind == Kind::Generator {
        return saved.weights();
    }
    let groups = &saved.header.groups;
    let held = [GENERATOR_EMA, GENERATOR]
        .into_iter()
        .find(|name| groups.contains_key(*name));
    let name = held.with_context(|| {
        format!(
            "--generator {}: the checkpoint holds no generator, but {:?}; give a run of a shortrun preset, or a generator's checkpoint",
            path.display(),
            groups.keys().collect::<Vec<_>>()
        )
    })?;
    saved.group(name)
}

fn prior_weights(path: &Path) -> Result<Tensors> {
    if path.as_os_str().is_empty() {
        bail!(
            "this configuration learns beside a prior: name the run that learned it (for example one of a prior preset) with --prior RUN"
        );
    }
    Saved::open_kind(path, Kind::Energy, "--prior")?.weights()
}
