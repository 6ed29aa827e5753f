//! Maximum-likelihood learning of an energy network.
//!
//! Each update compares data with the ends of Langevin chains and follows
//! `∇_θ [ mean E(x⁺ + σz) − mean E(x⁻) ] / T`: energy falls where data are and rises where chains end. What else the chains descend,
//! a prior or a Gaussian term, does not depend on θ. A generator that is learned follows `∇ mean ‖x⁻ − G(z)‖²` in the same update.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::{EMA, Header, PRIOR, PriorHeader, WEIGHTS};
use ebm_export::source::{Langevin, Purification};
use ebm_export::transform::potential::{Potential, Prior};
use ebm_export::transform::rewrite::{self, Rewrite};
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::chains::bank::{Bank, Restart};
use crate::chains::burn_in::BurnIn;
use crate::chains::descent::{Descent, Rounding};
use crate::chains::langevin::{self, ChainEnds, saturation};
use crate::chains::pool::Pool;
use crate::chains::start::{Source, with_noise};
use crate::config::{BurnInConfig, EnergyConfig, Output, Precision};
use crate::data::Share;
use crate::draw::sheet::Block;
use crate::learn::borrowed::Borrowed;
use crate::learn::examples::Examples;
use crate::learn::generator::Generator;
use crate::machine::memory::{Estimate, checkpoint};
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, after_rollbacks, derive, seed_torch};
use crate::machine::ranks::Ranks;
use crate::network::{Program, Statistics, Weights};
use crate::run::guard::{Guard, NotFinite};
use crate::run::record::{IMAGE_STEPS, Measured};
use crate::run::session::{Learning, Machine, Place};
use crate::weights::gradients::{of_loss, sum};
use crate::weights::learned::{Groups, Learned};

/// Groups of the energy network.
const GROUPS: Groups = Groups {
    weights: WEIGHTS,
    average: EMA,
    optimizer: "optimizer",
};
/// The group of the persistent chains.
pub const BANK: &str = "bank";
/// The group of the chains that burn in.
pub const BURN_IN: &str = "burn_in";

/// Share of the updates before which no checkpoint is the best: energies are still far from what they become.
const BEST_FROM: f64 = 0.5;

/// Images in each block of a sample sheet.
const N_SAMPLES: usize = 64;

/// An energy network while it learns.
#[derive(Debug)]
pub struct Learner {
    config: EnergyConfig,
    device: Device,
    team: Team,
    examples: Examples,
    energy: Program,
    descent: Descent,
    learned: Learned,
    prior: Option<Prior>,
    generator: Option<Generator>,
    bank: Option<Bank>,
    burn_in: Option<BurnIn>,
    /// All draws derive from it.
    seed: u64,
    update: u64,
    last_ends: Option<Tensor>,
}

/// What an update begins from.
#[derive(Debug)]
pub struct Inputs {
    /// Data images of this process, with noise σ: `[n, C, H, W]`.
    pub positives: Tensor,
    /// Where the chains are: `[batch, C, H, W]`.
    pub starts: Tensor,
    /// With this seed libtorch's generator draws the noise of the Langevin steps, `[batch, C, H, W]` for each.
    pub noise_seed: i64,
}

/// The chains of an update where they ended.
struct Negatives {
    chains: Chains,
    gradient_strength: f64,
}

impl Learner {
    /// A network before its first update.
    ///
    /// # Errors
    /// A network makes no sense, or what is borrowed does not suit it.
    pub fn new(
        config: EnergyConfig,
        examples: Examples,
        borrowed: Borrowed,
        machine: Machine,
    ) -> Result<Learner> {
        let Machine { device, team } = machine;
        let graph = config.network.graph()?;
        let energy = rewrite::apply(&graph, &Rewrite::COMMON)?;
        let prior = borrowed.prior(&config);
        let potential = Potential {
            prior: prior.clone(),
            tau: config.langevin.tau.value(),
        };
        let generator = config.generator.as_ref().map(|generator| {
            let fixed = borrowed.generator.as_ref();
            Generator::new(generator, fixed, config.seed, device)
        });
        let mut learner = Learner {
            energy: Program::new(&energy, Kind::Float, device),
            descent: Descent::new(
                &config.network,
                &potential,
                config.langevin.precision,
                device,
            )?,
            learned: Learned::new(
                &config.network,
                config.learning.recipe(),
                config.seed,
                device,
            )?,
            generator: generator.transpose()?,
            bank: None,
            burn_in: None,
            seed: config.seed,
            update: 0,
            last_ends: None,
            config,
            device,
            team,
            examples,
            prior,
        };
        learner.begin_chains()?;
        Ok(learner)
    }

    /// Fills the banks.
    fn begin_chains(&mut self) -> Result<()> {
        let Learner { config, device, .. } = self;
        let source = Source::new(config, &self.examples, self.generator.as_ref());
        let draw = |n, purpose| {
            let _draws = seed_torch(config.seed, 0, purpose);
            let parts = source.draw_in_batches(n, config.learning.batch, *device);
            Pool::gathered(parts, n, Rc::clone(self.team.ranks()))
        };
        if config.chains.start.persists() {
            let pool = draw(config.chains.bank, Purpose::BankStart)?;
            self.bank = Some(Bank::new(pool));
        }
        if let Some(burn_in) = &config.burn_in {
            let pool = draw(burn_in.bank, Purpose::BurnInStart)?;
            self.burn_in = Some(BurnIn::new(pool));
        }
        Ok(())
    }

    /// What the next update begins from. Asking changes nothing.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn inputs(&mut self) -> Result<Inputs> {
        Ok(Inputs {
            positives: self.positives()?,
            starts: self.drawn()?.1.states().shallow_clone(),
            noise_seed: derive(self.seed, self.update, Purpose::Langevin) as i64,
        })
    }

    /// How far the gradient that chains descend is from that in f32, where it is computed in other numbers: at the starts of the next update, at
    /// most 64 of them.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn rounding(&self) -> Result<Option<Rounding>> {
        let EnergyConfig {
            network, langevin, ..
        } = &self.config;
        let exact = match langevin.precision {
            Precision::F32 => true,
            Precision::Tf32 => !matches!(self.device, Device::Cuda(_)),
            Precision::Bf16 => false,
        };
        if exact {
            return Ok(None);
        }
        let potential = Potential {
            prior: self.prior.clone(),
            tau: langevin.tau.value(),
        };
        let exact = Descent::new(network, &potential, Precision::F32, self.device)?;
        let starts = self.drawn()?.1.states().shallow_clone();
        let starts = starts.narrow(0, 0, starts.size()[0].min(N_SAMPLES as i64));
        let weights = self.learned.detached();
        let gradient = |descent: &Descent| {
            let bound = descent.bind(&weights, self.config.langevin.temperature)?;
            langevin::gradient_at(&bound, &starts)
        };
        let exact = gradient(&exact)?;
        let error = (gradient(&self.descent)? - &exact).norm() / exact.norm();
        Ok(Some(Rounding {
            precision: langevin.precision,
            error: error.double_value(&[]),
        }))
    }

    /// The data images of this process in this update with noise σ, `[n, C, H, W]`.
    fn positives(&mut self) -> Result<Tensor> {
        let (seed, update) = (self.seed, self.update);
        let EnergyConfig { data, learning, .. } = &self.config;
        let generator = self.generator.as_ref();
        let ranks = self.team.ranks();
        let share = Share {
            n: learning.batch,
            rows: ranks.rows(learning.batch),
        };
        let images = self
            .examples
            .batch((seed, update), &share, data, generator)?;
        let _draws = seed_torch(seed, update, Purpose::DataNoise);
        let images = with_noise(images, learning.data_noise);
        Ok(ranks.own(&images)?.to_device(self.device))
    }

    /// This update's chains, and their places where there is a bank.
    fn drawn(&self) -> Result<(Option<Tensor>, Chains)> {
        let (seed, update) = (self.seed, self.update);
        let batch = self.config.learning.batch;
        let source = Source::new(&self.config, &self.examples, self.generator.as_ref());
        Ok(match &self.bank {
            Some(bank) => {
                let restart = Restart {
                    chance: self.config.chains.rejuvenation.at(update),
                    max_updates: self.config.chains.max_updates.value(),
                };
                let drawn = bank.draw((seed, update), batch, restart, &source)?;
                (Some(drawn.places), drawn.chains)
            }
            None => {
                let _draws = seed_torch(seed, update, Purpose::Chains);
                (None, source.draw(batch, self.device)?)
            }
        })
    }

    /// This update's chains: drawn, moved, and put back.
    fn negatives(&mut self) -> Result<Negatives> {
        let (places, chains) = self.drawn()?;
        let steps = self.config.langevin.steps.at(self.update);
        let ends = self.descended(chains.states(), steps, Purpose::Langevin)?;
        let chains = chains.moved(&ends.images);
        if let (Some(bank), Some(places)) = (&mut self.bank, places) {
            bank.put(&places, &chains)?;
            self.visit_burn_in(&places)?;
        }
        Ok(Negatives {
            chains,
            gradient_strength: ends.gradient_strength,
        })
    }

    /// Moves chains that burn in; those that have done so take the first of the places in the bank.
    fn visit_burn_in(&mut self, places: &Tensor) -> Result<()> {
        let (seed, update) = (self.seed, self.update);
        let (Some(burn_in), Some(config)) = (&self.burn_in, &self.config.burn_in) else {
            return Ok(());
        };
        let BurnInConfig {
            batch,
            steps,
            visits,
            ..
        } = config;
        let (steps, visits) = (steps.at(update), visits.at(update));
        let visited = burn_in.draw((seed, update), *batch)?;
        let ends = self.descended(visited.chains.states(), steps, Purpose::BurnInLangevin)?;
        let source = Source::new(&self.config, &self.examples, self.generator.as_ref());
        let (Some(burn_in), Some(bank)) = (&mut self.burn_in, &mut self.bank) else {
            return Ok(());
        };
        let promoted = burn_in.promote((seed, update), visited, &ends.images, visits, &source)?;
        match promoted {
            Some(promoted) => {
                let places = places.f_narrow(0, 0, promoted.len() as i64)?;
                bank.put(&places, &promoted)
            }
            None => Ok(()),
        }
    }

    /// Where states `[n, C, H, W]` are after so many steps down the potential.
    fn descended(&self, states: &Tensor, steps: usize, purpose: Purpose) -> Result<ChainEnds> {
        let dynamics = self.config.langevin.with_steps(steps);
        let weights = self.learned.detached();
        let network = self.descent.bind(&weights, dynamics.temperature)?;
        let _draws = seed_torch(self.seed, self.update, purpose);
        langevin::run(&self.team, &network, states, &dynamics)
    }

    /// Langevin steps of the next update times the images that make them, those that burn in among them.
    pub fn image_steps(&self) -> usize {
        let EnergyConfig {
            learning, langevin, ..
        } = &self.config;
        let burn_in = self.config.burn_in.as_ref();
        learning.batch * langevin.steps.at(self.update)
            + burn_in.map_or(0, |burn_in| burn_in.batch * burn_in.steps.at(self.update))
    }

    /// Energy of data minus energy of chain ends, over T, and its gradient with respect to the weights. Of the data each process has its own.
    fn compare(&self, positives: &Tensor, negatives: &Tensor) -> Result<(f64, Weights)> {
        let scale = 1.0 / (self.config.langevin.temperature * negatives.size()[0] as f64);
        let ranks = self.team.ranks();
        let most = self.energy.images_at_once();
        let parts = self
            .team
            .split_with(positives, &ranks.own(negatives)?, most)?;
        let (program, weights) = (
            Shared::new(&self.energy),
            Shared::new(self.learned.weights()),
        );
        let parts = self
            .team
            .map(parts, |(positives, negatives): (Tensor, Tensor)| {
                let n = positives.size()[0];
                let energies = program
                    .get()
                    .bind(weights.get())?
                    .output("energy", &Tensor::f_cat(&[positives, negatives], 0)?)?;
                let loss = (energies.narrow(0, 0, n).sum(Kind::Float)
                    - energies.narrow(0, n, n).sum(Kind::Float))
                    * scale;
                Ok((loss.double_value(&[]), of_loss(&loss, weights.get())?))
            })?;
        let difference = parts.iter().map(|(difference, _)| difference).sum();
        let gradients = sum(parts.into_iter().map(|(_, gradients)| gradients))?;
        let [difference] = ranks.sums([difference])?;
        Ok((difference, ranks.sum_weights(gradients)?))
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

fn mean_saturation(images: &Tensor) -> Result<f64> {
    Ok(saturation(images)?.f_mean(Kind::Float)?.double_value(&[]))
}

impl Learning for Learner {
    fn update(&mut self) -> Result<Measured> {
        let positives = self.positives()?;
        let Negatives {
            chains,
            gradient_strength,
        } = self.negatives()?;
        let (energy_difference, gradients) = self.compare(&positives, chains.states())?;
        ensure!(
            energy_difference.is_finite() && gradient_strength.is_finite(),
            NotFinite(format!(
                "the energy is not finite (energy difference {energy_difference}, gradient strength {gradient_strength})"
            ))
        );
        self.learned
            .step(gradients, &Statistics::default(), self.update)?;
        let mut measured = vec![
            ("energy_difference", energy_difference),
            ("gradient_strength", gradient_strength),
            ("saturation", mean_saturation(chains.states())?),
            (IMAGE_STEPS, self.image_steps() as f64),
        ];
        if let (Some(generator), Some(latents)) = (&mut self.generator, chains.latents()) {
            let loss =
                generator.learn(&latents, chains.states(), self.update, self.team.ranks())?;
            measured.extend(loss.map(|loss| ("generator_loss", loss)));
        }
        self.last_ends = Some(chains.states().shallow_clone());
        self.update += 1;
        Ok(measured)
    }

    fn ranks(&self) -> &Ranks {
        self.team.ranks()
    }

    fn restore(&mut self, header: &Header, group: &dyn Fn(&str) -> Result<Tensors>) -> Result<()> {
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
        let (seed, update, batch) = (self.seed, self.update, self.config.learning.batch);
        let most = self
            .config
            .guard
            .saturation
            .value()
            .unwrap_or(f64::INFINITY);
        let source = Source::new(&self.config, &self.examples, self.generator.as_ref());
        if let Some(bank) = &mut self.bank {
            let _draws = seed_torch(seed, update, Purpose::BankStart);
            bank.restart_lost(most, batch, &source)?;
        }
        if let Some(burn_in) = &mut self.burn_in {
            let _draws = seed_torch(seed, update, Purpose::BurnInStart);
            burn_in.restart_lost(most, batch, &source)?;
        }
        Ok(())
    }

    fn memory(&self) -> Estimate {
        let own = self.learned.held();
        let generator = self.generator.as_ref();
        let others = generator.map(Generator::held).unwrap_or_default();
        let bank = self.bank.as_ref().map_or(0, Bank::bytes);
        let burn_in = self.burn_in.as_ref().map_or(0, BurnIn::bytes);
        // The prior's once as they are computed with, and once as they are written.
        let weights = own.weights + others.weights + 2 * self.descent.prior_bytes();
        let saved = [
            ("weights", weights),
            ("moving averages", own.average + others.average),
            ("optimisers", own.optimizer + others.optimizer),
            ("banks", bank + burn_in),
        ];
        Estimate {
            held: [&saved[..], &[("data", self.examples.bytes())]].concat(),
            passing: vec![("an update", self.passing()), checkpoint(&saved)],
        }
    }

    fn guard(&self) -> Guard {
        self.config.guard.guard()
    }

    /// In the second half of a run: the less energies of data and of chain ends differ, the better.
    fn merit(&self, magnitudes: &[(String, f64)]) -> Result<Option<f64>> {
        if (self.update as f64) < BEST_FROM * self.n_updates() as f64 {
            return Ok(None);
        }
        let mut magnitudes = magnitudes.iter();
        let difference = magnitudes.find(|(name, _)| name == "energy_difference");
        Ok(difference.map(|(_, difference)| -difference))
    }

    fn update_number(&self) -> u64 {
        self.update
    }

    fn n_updates(&self) -> u64 {
        self.config.learning.updates
    }

    fn learning_rate(&self, update: u64) -> f64 {
        self.learned.learning_rate(update)
    }

    fn output(&self) -> Output {
        self.config.output
    }

    fn header(&self) -> Result<Header> {
        let EnergyConfig {
            langevin,
            purification,
            ..
        } = &self.config;
        let mut header = Header::new(self.config.network.clone());
        header.langevin = Some(Langevin {
            step_size: langevin.step_size,
            temperature: langevin.temperature,
            steps: langevin.steps.at(self.update),
            tau: langevin.tau.value(),
        });
        header.purification = Some(Purification {
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
        if let Some(bank) = &self.bank {
            groups.push((BANK, bank.save()?));
        }
        if let Some(burn_in) = &self.burn_in {
            groups.push((BURN_IN, burn_in.save()?));
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
        blocks.extend(
            self.bank
                .iter()
                .map(|bank| Block::new("bank", bank.first_states(n))),
        );
        blocks.extend(
            self.burn_in
                .iter()
                .map(|burn_in| Block::new("burn-in bank", burn_in.first_states(n))),
        );
        if let Some(generator) = generator {
            let _draws = seed_torch(self.config.seed, 0, Purpose::Samples);
            let images = generator.finished_images(&generator.draw_latents(n)?)?;
            blocks.push(Block::new("generator", images));
        }
        Ok(blocks)
    }

    fn place(&self) -> Place {
        Place {
            device: self.device,
            n_threads: self.team.n_threads(),
        }
    }
}

#[cfg(test)]
mod tests;
