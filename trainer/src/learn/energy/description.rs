//! What is said of an energy network that learns, and how it continues from a checkpoint.

use std::rc::Rc;

use anyhow::{Context, Result};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source;
use ebm_export::source::checkpoint::{Header, PRIOR, PriorHeader};

use super::{BANK, EnergyLearner, GROUPS, N_SAMPLES};
use crate::chains::pool::Pool;
use crate::config::EnergyConfig;
use crate::draw::sheet::Block;
use crate::learn::generator::Generator;
use crate::learn::origin::origin;
use crate::machine::Place;
use crate::machine::memory::{Estimate, checkpoint};
use crate::machine::randomness::{Purpose, after_rollbacks, seed_torch};
use crate::run::learning::{Described, Learning, Terms};
use crate::weights::learned::ReadGroup;

/// The group of the chains that burn in.
const BURN_IN: &str = "burn_in";

/// Share of the updates before which no checkpoint is the best: energies are still far from what they become.
const BEST_FROM: f64 = 0.5;

impl EnergyLearner {
    /// The banks that there are, each with the name of its group in a checkpoint.
    fn banks(&self) -> impl Iterator<Item = (&'static str, &Pool)> {
        let banks = [(BANK, &self.bank), (BURN_IN, &self.burn_in)];
        banks
            .into_iter()
            .filter_map(|(name, bank)| Some((name, bank.as_ref()?)))
    }

    /// What it needs of memory.
    fn memory(&self) -> Estimate {
        let own = self.learned.held();
        let generator = self.generator.as_ref();
        let others = generator.map(Generator::held).unwrap_or_default();
        let banks = self.banks().map(|(_, bank)| bank.own().bytes()).sum();
        // The prior's once as they are computed with, and once as they are written.
        let weights = own.weights + others.weights + 2 * self.descent.prior_bytes();
        let saved = [
            ("weights", weights),
            ("moving averages", own.average + others.average),
            ("optimisers", own.optimizer + others.optimizer),
            ("banks", banks),
        ];
        Estimate {
            held: [&saved[..], &[("data", self.examples.bytes())]].concat(),
            passing: vec![("an update", self.passing()), checkpoint(&saved)],
        }
    }

    /// Bytes that an update holds for a while: chains descend, then energies are compared, then a generator learns.
    fn passing(&self) -> u64 {
        let batch = self.config.learning.batch;
        let own = self.team.ranks().rows(batch).len();
        let (descent, energy) = (self.descent.footprint(), self.energy.footprint());
        let chains = self.team.division(own, self.descent.images_at_once());
        let descends = descent.bound + chains.at_once * chains.images * descent.plain;
        let pairs = self.team.division(own, self.energy.images_at_once());
        let compares = pairs.at_once * (energy.bound + 2 * pairs.images * energy.tracked)
            + pairs.n_parts * self.learned.held().weights;
        let generates = self
            .generator
            .as_ref()
            .map_or(0, |generator| generator.passing(batch));
        descends.max(compares).max(generates)
    }
}

impl Described for EnergyLearner {
    fn terms(&self) -> Terms {
        Terms {
            n_updates: self.config.learning.updates,
            output: self.config.output,
            guard: self.config.guard.guard(),
            ranks: Rc::clone(self.team.ranks()),
            place: Place {
                device: self.device,
                n_threads: self.team.n_threads(),
            },
            memory: self.memory(),
        }
    }

    fn update_number(&self) -> u64 {
        self.update
    }

    fn learning_rate(&self, update: u64) -> f64 {
        self.learned.learning_rate(update)
    }

    /// In the second half of a run: the less energies of data and of chain ends differ, the better.
    fn merit(&self, magnitudes: &[(String, f64)]) -> Result<Option<f64>> {
        if (self.update as f64) < BEST_FROM * self.config.learning.updates as f64 {
            return Ok(None);
        }
        let mut magnitudes = magnitudes.iter();
        let difference = magnitudes.find(|(name, _)| name == "energy_difference");
        Ok(difference.map(|(_, difference)| -difference))
    }

    fn header(&self) -> Result<Header> {
        let EnergyConfig {
            langevin,
            purification,
            ..
        } = &self.config;
        let mut header = Header::new(self.config.network.clone());
        header.langevin = Some(source::Langevin {
            step_size: langevin.step_size,
            temperature: langevin.temperature,
            steps: langevin.steps.at(self.update),
            tau: langevin.tau.value(),
        });
        header.purification = Some(source::Purification {
            step_size: purification.step_size,
            temperature: purification.temperature,
            steps: purification.steps,
        });
        header.prior = self.prior.as_ref().map(|prior| PriorHeader {
            network: prior.network.clone(),
            temperature: prior.temperature,
        });
        let generator = self.config.generator.as_ref();
        header.generator = generator.map(|generator| generator.network().clone());
        header.config =
            serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        let mut groups = self.learned.save(GROUPS)?;
        if let Some(generator) = &self.generator {
            groups.extend(generator.save()?);
        }
        if let Some(prior) = &self.prior {
            groups.push((PRIOR, prior.weights.clone()));
        }
        for (name, bank) in self.banks() {
            groups.push((name, bank.save()?));
        }
        Ok(groups)
    }

    /// Data, chain ends, the banks, images of the generator.
    fn samples(&self) -> Result<Vec<Block>> {
        let Some(ends) = &self.last_ends else {
            return Ok(Vec::new());
        };
        let shown = ends.narrow(0, 0, ends.size()[0].min(N_SAMPLES as i64));
        let n = shown.size()[0] as usize;
        let generator = self.generator.as_ref();
        let _draws = seed_torch(self.config.seed, 0, Purpose::Samples);
        let mut blocks = vec![
            Block::new("data", self.examples.shown(n, generator)?),
            Block::new("chain ends", shown),
        ];
        blocks.extend(self.banks().map(|(name, bank)| {
            let title = match name {
                BURN_IN => "burn-in bank",
                bank => bank,
            };
            Block::new(title, bank.first_states(n))
        }));
        if let Some(generator) = generator {
            let _draws = seed_torch(self.config.seed, 0, Purpose::Samples);
            let images = generator.finished_images(&generator.draw_latents(n)?)?;
            blocks.push(Block::new("generator", images));
        }
        Ok(blocks)
    }
}

impl Learning for EnergyLearner {
    fn restore(&mut self, header: &Header, group: ReadGroup<'_>) -> Result<()> {
        self.learned.restore(GROUPS, header.update, group)?;
        if let Some(generator) = &mut self.generator {
            generator.restore(header.update, group)?;
        }
        if let Some(bank) = &mut self.bank {
            bank.restore(&group(BANK)?)?;
        }
        if let Some(burn_in) = &mut self.burn_in {
            burn_in.restore(&group(BURN_IN)?)?;
        }
        self.update = header.update;
        Ok(())
    }

    fn set_rollbacks(&mut self, rollbacks: u64) {
        let pace = self.config.guard.pace(rollbacks);
        self.seed = after_rollbacks(self.config.seed, rollbacks);
        self.learned.set_pace(pace);
        if let Some(generator) = &mut self.generator {
            generator.set_pace(pace);
        }
    }

    fn restart_lost_chains(&mut self) -> Result<()> {
        let EnergyLearner { config, update, .. } = self;
        let most = config.guard.saturation.value().unwrap_or(f64::INFINITY);
        let origin = origin(config, &self.examples, self.generator.as_ref());
        let banks = [
            (&mut self.bank, Purpose::BankStart),
            (&mut self.burn_in, Purpose::BurnInStart),
        ];
        for (bank, purpose) in banks {
            if let Some(bank) = bank {
                let _draws = seed_torch(self.seed, *update, purpose);
                bank.restart_lost(most, config.learning.batch, origin.as_ref())?;
            }
        }
        Ok(())
    }
}
