//! An energy network while it learns: what [`fit`](crate::learn::fit::fit) is made of.

mod description;

use std::rc::Rc;

use anyhow::{Result, ensure};
use ebm_export::source::checkpoint::{EMA, WEIGHTS};
use ebm_export::transform::potential::{Potential, Prior};
use ebm_export::transform::rewrite::{self, Rewrite};
use tch::{Device, Kind, Tensor};

use crate::chains::Chains;
use crate::chains::bank::Restart;
use crate::chains::descent::{Descent, Rounding};
use crate::chains::langevin::{self, ChainEnds, saturation};
use crate::chains::pool::Pool;
use crate::chains::start::{Origin, with_noise};
use crate::config::{EnergyConfig, Precision};
use crate::data::Share;
use crate::learn::borrowed::Borrowed;
use crate::learn::examples::Examples;
use crate::learn::generator::Generator;
use crate::learn::origin::origin;
use crate::machine::Machine;
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, derive, seed_torch};
use crate::network::{Program, Statistics, Weights};
use crate::run::record::{IMAGE_STEPS, Measured};
use crate::weights::NotFinite;
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

/// Images in each block of a sample sheet.
const N_SAMPLES: usize = 64;

/// An energy network while it learns.
#[derive(Debug)]
pub struct EnergyLearner {
    config: EnergyConfig,
    device: Device,
    team: Team,
    examples: Examples,
    energy: Program,
    descent: Descent,
    learned: Learned,
    prior: Option<Prior>,
    generator: Option<Generator>,
    /// Chains that live on between updates.
    bank: Option<Pool>,
    /// Chains that burn in before they enter the bank.
    burn_in: Option<Pool>,
    /// All draws derive from it.
    seed: u64,
    update: u64,
    last_ends: Option<Tensor>,
}

/// The chains of an update where they start.
#[derive(Debug)]
pub struct Starts {
    /// Themselves.
    pub chains: Chains,
    /// Their places in the bank, if there is one.
    places: Option<Tensor>,
}

/// The chains of an update where they ended.
#[derive(Debug)]
pub struct Ends {
    chains: Chains,
    gradient_strength: f64,
}

/// What data and chain ends say about the weights.
#[derive(Debug)]
pub struct Loss {
    /// Energy of data minus energy of chain ends, over T.
    energy_difference: f64,
    gradients: Weights,
}

impl EnergyLearner {
    /// A network before its first update.
    ///
    /// # Errors
    /// The networks of the configuration are not valid, or what is borrowed does not suit them.
    pub fn new(
        config: EnergyConfig,
        examples: Examples,
        borrowed: Borrowed,
        machine: Machine,
    ) -> Result<EnergyLearner> {
        let Machine { device, team } = machine;
        let graph = config.network.graph()?;
        let energy = rewrite::apply(&graph, &Rewrite::COMMON)?;
        let prior = borrowed.prior(&config);
        let first = match &borrowed.first {
            Some(first) => first.clone(),
            None => config.network.initial_weights(config.seed)?,
        };
        let generator = config.generator.as_ref().map(|generator| {
            let fixed = borrowed.generator.as_ref();
            Generator::new(generator, fixed, config.seed, device)
        });
        let mut learner = EnergyLearner {
            energy: Program::new(&energy, Kind::Float, device),
            descent: descent(&config, prior.clone(), config.langevin.precision, device)?,
            learned: Learned::beginning_with(&config.network, &first, &config.learning, device)?,
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
        let config = &self.config;
        let origin = self.origin();
        let filled = |n, purpose| {
            let _draws = seed_torch(config.seed, 0, purpose);
            let parts = origin.draw_in_batches(n, config.learning.batch, self.device);
            Pool::gathered(parts, n, Rc::clone(self.team.ranks()))
        };
        let persists = config.chains.start.persists();
        let bank = persists.then(|| filled(config.chains.bank, Purpose::BankStart));
        let bank = bank.transpose()?;
        let burn_in = config.burn_in.as_ref();
        let burn_in = burn_in.map(|burn_in| filled(burn_in.bank, Purpose::BurnInStart));
        let burn_in = burn_in.transpose()?;
        drop(origin);
        (self.bank, self.burn_in) = (bank, burn_in);
        Ok(())
    }

    /// Where chains start.
    fn origin(&self) -> Box<dyn Origin + '_> {
        origin(&self.config, &self.examples, self.generator.as_ref())
    }

    /// With this seed libtorch's generator draws the noise of the next Langevin steps, `[batch, C, H, W]` for each.
    pub fn noise_seed(&self) -> i64 {
        derive(self.seed, self.update, Purpose::Langevin) as i64
    }

    /// How far the gradient that chains descend is from that in f32, if it is computed in other numbers: at up to 64 starts of the next
    /// update.
    pub fn rounding(&self) -> Result<Option<Rounding>> {
        let langevin = &self.config.langevin;
        let exact = match langevin.precision {
            Precision::F32 => true,
            Precision::Tf32 => !matches!(self.device, Device::Cuda(_)),
            Precision::Bf16 => false,
        };
        if exact {
            return Ok(None);
        }
        let prior = self.prior.clone();
        let exact = descent(&self.config, prior, Precision::F32, self.device)?;
        let starts = self.starts()?.chains.states().shallow_clone();
        let starts = starts.narrow(0, 0, starts.size()[0].min(N_SAMPLES as i64));
        let weights = self.learned.detached();
        let gradient = |descent: &Descent| {
            let bound = descent.bind(&weights, langevin.temperature)?;
            langevin::gradient_at(&bound, &starts)
        };
        let exact = gradient(&exact)?;
        let error = (gradient(&self.descent)? - &exact).norm() / exact.norm();
        Ok(Some(Rounding {
            precision: langevin.precision,
            error: error.double_value(&[]),
        }))
    }

    /// The data images of this process in this update with noise σ, `[n, C, H, W]`. Asking again gives the same.
    ///
    /// # Errors
    /// Pictures are damaged or lost, or libtorch fails.
    pub fn data(&mut self) -> Result<Tensor> {
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

    /// The chains of this update, `[batch, C, H, W]`, where they start. Asking again gives the same.
    ///
    /// # Errors
    /// Pictures are damaged or lost, libtorch fails, or a process has ended.
    pub fn starts(&self) -> Result<Starts> {
        let (seed, update) = (self.seed, self.update);
        let (batch, config) = (self.config.learning.batch, &self.config.chains);
        let origin = self.origin();
        let Some(bank) = &self.bank else {
            let _draws = seed_torch(seed, update, Purpose::Chains);
            return Ok(Starts {
                chains: origin.draw(batch, self.device)?,
                places: None,
            });
        };
        let restart = Restart {
            chance: config.rejuvenation.at(update),
            max_updates: config.max_updates.value(),
        };
        let drawn = bank.draw_with_restarts((seed, update), batch, restart, origin.as_ref())?;
        Ok(Starts {
            chains: drawn.chains,
            places: Some(drawn.places),
        })
    }

    /// Moves chains by the Langevin steps of this update, and puts them back into the bank.
    pub fn langevin(&mut self, starts: Starts) -> Result<Ends> {
        let Starts { chains, places } = starts;
        let steps = self.config.langevin.steps.at(self.update);
        let ends = self.descended(chains.states(), steps, Purpose::Langevin)?;
        let chains = chains.moved(&ends.images);
        if let (Some(bank), Some(places)) = (&mut self.bank, places) {
            bank.put(&places, &chains)?;
            self.visit_burn_in(&places)?;
        }
        Ok(Ends {
            chains,
            gradient_strength: ends.gradient_strength,
        })
    }

    /// Moves chains that burn in; those that have done so take the first of the places in the bank.
    fn visit_burn_in(&mut self, places: &Tensor) -> Result<()> {
        let at = (self.seed, self.update);
        let (Some(burn_in), Some(config)) = (&self.burn_in, &self.config.burn_in) else {
            return Ok(());
        };
        let (steps, visits) = (config.steps.at(self.update), config.visits.at(self.update));
        let seed = derive(self.seed, self.update, Purpose::BurnInChains);
        let visited = burn_in.draw(seed, config.batch)?;
        let ends = self.descended(visited.chains.states(), steps, Purpose::BurnInLangevin)?;
        let origin = origin(&self.config, &self.examples, self.generator.as_ref());
        let (Some(burn_in), Some(bank)) = (&mut self.burn_in, &mut self.bank) else {
            return Ok(());
        };
        match burn_in.promote(at, visited, &ends.images, visits, origin.as_ref())? {
            Some(promoted) => {
                let places = places.f_narrow(0, 0, promoted.len() as i64)?;
                bank.put(&places, &promoted)
            }
            None => Ok(()),
        }
    }

    /// Where states `[n, C, H, W]` are after that many steps down the potential.
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

    /// The loss that weights learn from and its gradient with respect to them. Of the data each process has its own.
    pub fn loss(&self, data: &Tensor, ends: &Ends) -> Result<Loss> {
        let ends = ends.chains.states();
        let scale = 1.0 / (self.config.langevin.temperature * ends.size()[0] as f64);
        let ranks = self.team.ranks();
        let most = self.energy.images_at_once();
        let parts = self.team.split_with(data, &ranks.own(ends)?, most)?;
        let (program, weights) = (
            Shared::new(&self.energy),
            Shared::new(self.learned.weights()),
        );
        let parts = self.team.map(parts, |(data, ends): (Tensor, Tensor)| {
            let n = data.size()[0];
            let energies = program
                .get()
                .bind(weights.get())?
                .output("energy", &Tensor::f_cat(&[data, ends], 0)?)?;
            let loss = (energies.narrow(0, 0, n).sum(Kind::Float)
                - energies.narrow(0, n, n).sum(Kind::Float))
                * scale;
            Ok((loss.double_value(&[]), of_loss(&loss, weights.get())?))
        })?;
        let difference = parts.iter().map(|(difference, _)| difference).sum();
        let gradients = sum(parts.into_iter().map(|(_, gradients)| gradients))?;
        let [energy_difference] = ranks.sums([difference])?;
        Ok(Loss {
            energy_difference,
            gradients: ranks.sum_weights(gradients)?,
        })
    }

    /// Follows the gradient: the weights, their moving average, and the generator if one learns. The update is then done.
    ///
    /// # Errors
    /// A value is not finite, libtorch fails, or a process has ended.
    pub fn step(&mut self, loss: Loss, ends: Ends) -> Result<Measured> {
        let Loss {
            energy_difference,
            gradients,
        } = loss;
        let Ends {
            chains,
            gradient_strength,
        } = ends;
        ensure!(
            energy_difference.is_finite() && gradient_strength.is_finite(),
            NotFinite(format!(
                "the energy is not finite (energy difference {energy_difference}, gradient strength {gradient_strength})"
            ))
        );
        self.learned
            .step(gradients, &Statistics::default(), self.update)?;
        let saturation = saturation(chains.states())?.f_mean(Kind::Float)?;
        let mut measured = vec![
            ("energy_difference", energy_difference),
            ("gradient_strength", gradient_strength),
            ("saturation", saturation.double_value(&[])),
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
}

/// Down the configured potential.
fn descent(
    config: &EnergyConfig,
    prior: Option<Prior>,
    precision: Precision,
    device: Device,
) -> Result<Descent> {
    let tau = config.langevin.tau.value();
    Descent::new(
        &config.network,
        &Potential { prior, tau },
        precision,
        device,
    )
}

#[cfg(test)]
mod tests;
