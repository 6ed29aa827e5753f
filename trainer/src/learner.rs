//! Maximum-likelihood learning of an energy network.
//!
//! Each update compares data with the ends of Langevin chains and follows
//! `∇_θ [ mean E(x⁺ + σz) − mean E(x⁻) ] / T`: energy falls where data are and rises where chains end.

use anyhow::{Context, Result, ensure};
use ebm_export::checkpoint::{EMA, Header, WEIGHTS};
use ebm_export::contract;
use ebm_export::pipeline::gradient_graph;
use ebm_export::rewrite::{self, Rewrite};
use ebm_export::tensor::Tensors;
use tch::{Device, Kind, Tensor};

use crate::adam::Adam;
use crate::bank::{Bank, FreshStarts, UniformNoise};
use crate::config::{DataConfig, EnergyConfig, Output, Start};
use crate::data::{Dataset, Images, Order, augment};
use crate::ema;
use crate::gradients::{clip, detached, of_loss, sum};
use crate::langevin::{self, ChainEnds};
use crate::network::{Program, Weights, from_host, tensor_to_host, to_device, to_host};
use crate::parallel::{Shared, Team};
use crate::randomness::{Purpose, seed_torch};
use crate::record::Measured;
use crate::report;
use crate::schedule::value_at;
use crate::session::{Learning, Machine};

/// The group of Adam's moments.
pub const OPTIMIZER: &str = "optimizer";
/// The group of the persistent chains, a single tensor `states`.
pub const BANK: &str = "bank";
const STATES: &str = "states";

/// Images in each half of a sample sheet.
const N_SAMPLES: usize = 64;

/// An energy network while it learns.
#[derive(Debug)]
pub struct Learner {
    config: EnergyConfig,
    device: Device,
    team: Team,
    dataset: Dataset,
    order: Order,
    energy: Program,
    gradient: Program,
    weights: Weights,
    average: Option<Weights>,
    adam: Adam,
    bank: Bank,
    update: u64,
    last_ends: Option<Tensor>,
}

impl Learner {
    /// A network before its first update.
    ///
    /// # Errors
    /// The network makes no sense.
    pub fn new(config: EnergyConfig, dataset: Dataset, machine: Machine) -> Result<Learner> {
        let Machine { device, team } = machine;
        let weights = config.network.initial_weights(config.seed)?;
        let weights = trainable(&weights, device);
        let graph = config.network.graph()?;
        let energy = Program::new(
            &rewrite::apply(&graph, &Rewrite::COMMON)?,
            Kind::Float,
            device,
        );
        let gradient = Program::new(
            &gradient_graph(&graph, &Rewrite::COMMON)?,
            Kind::Float,
            device,
        );
        let bank = Bank::new(
            &config.chains,
            config.seed,
            fresh_starts(&config, &dataset.train).as_ref(),
            device,
        );
        Ok(Learner {
            order: Order::new(config.seed, dataset.train.len()),
            average: config
                .learning
                .ema_decay
                .value()
                .map(|_| ema::copied(&weights)),
            adam: Adam::new(config.learning.adam, &weights),
            update: 0,
            last_ends: None,
            config,
            device,
            team,
            dataset,
            energy,
            gradient,
            weights,
            bank,
        })
    }

    /// Goes on from a checkpoint; `group` reads one of its groups.
    ///
    /// # Errors
    /// The checkpoint is of another network or configuration.
    pub fn restore(
        &mut self,
        header: &Header,
        group: impl Fn(&str) -> Result<Tensors>,
    ) -> Result<()> {
        let graph = self.config.network.graph()?;
        let read_weights = |name| -> Result<Tensors> {
            let weights = group(name)?;
            ebm_export::pipeline::check_weights(&graph, &weights)?;
            Ok(weights)
        };
        self.weights = trainable(&read_weights(WEIGHTS)?, self.device);
        if self.average.is_some() {
            self.average = Some(to_device(&read_weights(EMA)?, Kind::Float, self.device));
        }
        self.adam
            .restore(header.update, &group(OPTIMIZER)?, self.device)?;
        if self.bank.states().is_some() {
            let saved = group(BANK)?;
            let states = saved
                .get(STATES)
                .with_context(|| format!("the saved bank has no tensor {STATES:?}"))?;
            self.bank
                .restore(from_host(states, Kind::Float, self.device))?;
        }
        self.update = header.update;
        Ok(())
    }

    /// Data images of this update with noise σ, `[batch, C, H, W]`.
    fn positives(&mut self) -> Tensor {
        let (seed, update) = (self.config.seed, self.update);
        let indices = self.order.batch(update, self.config.learning.batch);
        let (images, _) = self.dataset.train.batch(&indices);
        seed_torch(seed, update, Purpose::Augmentation);
        let images = augment(images, &self.config.data);
        seed_torch(seed, update, Purpose::DataNoise);
        with_noise(images, self.config.learning.data_noise).to_device(self.device)
    }

    /// Ends of this update's chains.
    fn negatives(&mut self) -> Result<ChainEnds> {
        let fresh = fresh_starts(&self.config, &self.dataset.train);
        let drawn = self.bank.draw(
            self.update,
            self.config.learning.batch,
            fresh.as_ref(),
            self.device,
        );
        let weights = detached(&self.weights);
        let network = self.gradient.bind(&weights)?;
        seed_torch(self.config.seed, self.update, Purpose::Langevin);
        let ends = langevin::run(&self.team, &network, &drawn.states, &self.config.langevin)?;
        self.bank.store(&drawn, &ends.images);
        Ok(ends)
    }

    /// Energy of data minus energy of chain ends, over T, and its gradient with respect to the weights.
    fn compare(&self, positives: &Tensor, negatives: &Tensor) -> Result<(f64, Weights)> {
        let scale = 1.0 / (self.config.langevin.temperature * positives.size()[0] as f64);
        let parts = self.team.split_with(positives, negatives)?;
        let (program, weights) = (Shared::new(&self.energy), Shared::new(&self.weights));
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
        Ok((
            difference,
            sum(parts.into_iter().map(|(_, gradients)| gradients))?,
        ))
    }
}

impl Learning for Learner {
    fn update(&mut self) -> Result<Measured> {
        let positives = self.positives();
        let negatives = self.negatives()?;
        let (energy_difference, mut gradients) = self.compare(&positives, &negatives.images)?;
        let gradient_strength = negatives.gradient_strength;
        ensure!(
            energy_difference.is_finite() && gradient_strength.is_finite(),
            "update {}: the energy is not finite (energy difference {energy_difference}, gradient strength {gradient_strength}): \
             lower learning.learning_rate or langevin.step_size, raise langevin.temperature, or set langevin.clip",
            self.update + 1
        );
        if let Some(largest) = self.config.learning.weight_gradient_clip.value() {
            clip(&mut gradients, largest)?;
        }
        let learning_rate = self.learning_rate(self.update);
        self.adam
            .step(&mut self.weights, &gradients, learning_rate)?;
        if let (Some(average), Some(decay)) =
            (&mut self.average, self.config.learning.ema_decay.value())
        {
            ema::advance(average, &self.weights, ema::decay_at(decay, self.update))?;
        }
        self.last_ends = Some(negatives.images);
        self.update += 1;
        Ok(vec![
            ("energy_difference", energy_difference),
            ("gradient_strength", gradient_strength),
        ])
    }

    fn update_number(&self) -> u64 {
        self.update
    }

    fn n_updates(&self) -> u64 {
        self.config.learning.updates
    }

    fn learning_rate(&self, update: u64) -> f64 {
        value_at(&self.config.learning.learning_rate, update)
    }

    fn output(&self) -> Output {
        self.config.output
    }

    fn header(&self) -> Result<Header> {
        let mut header = Header::new(self.config.network.clone());
        let (langevin, purification) = (self.config.langevin, self.config.purification);
        header.langevin = Some(contract::Langevin {
            step_size: langevin.step_size,
            temperature: langevin.temperature,
            steps: langevin.steps,
            tau: None,
        });
        header.purification = Some(contract::Purification {
            step_size: purification.step_size,
            temperature: purification.temperature,
            steps: purification.steps,
        });
        header.config =
            serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        let mut groups = vec![
            (WEIGHTS, to_host(&self.weights)?),
            (OPTIMIZER, self.adam.state()?),
        ];
        if let Some(average) = &self.average {
            groups.push((EMA, to_host(average)?));
        }
        if let Some(states) = self.bank.states() {
            groups.push((
                BANK,
                Tensors::from([(STATES.to_string(), tensor_to_host(states)?)]),
            ));
        }
        Ok(groups)
    }

    fn sheet(&self) -> Result<Option<Vec<u8>>> {
        let Some(ends) = &self.last_ends else {
            return Ok(None);
        };
        let shown = ends.narrow(0, 0, ends.size()[0].min(N_SAMPLES as i64));
        let (data, _) = self.dataset.train.first(shown.size()[0] as usize);
        Ok(Some(report::sheet(&data, &shown)?))
    }

    fn curves(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "energy_difference",
                "energy of data − energy of chain ends, over T",
            ),
            (
                "gradient_strength",
                "gradient strength: mean L2 norm of (ε²/2T)·∇E",
            ),
        ]
    }
}

/// Weights on a device that autograd follows.
pub(crate) fn trainable(weights: &Tensors, device: Device) -> Weights {
    let weights = to_device(weights, Kind::Float, device);
    weights
        .into_iter()
        .map(|(name, weight)| (name, weight.set_requires_grad(true)))
        .collect()
}

/// Images plus normal noise of standard deviation `sigma`.
pub(crate) fn with_noise(images: Tensor, sigma: f64) -> Tensor {
    if sigma == 0.0 {
        images
    } else {
        &images + images.randn_like() * sigma
    }
}

fn fresh_starts<'a>(config: &'a EnergyConfig, images: &'a Images) -> Box<dyn FreshStarts + 'a> {
    match config.chains.start {
        Start::DataPersistent | Start::Data => Box::new(DataStarts {
            images,
            data: &config.data,
            sigma: config.learning.data_noise,
        }),
        Start::NoisePersistent | Start::Noise => {
            let shape = images.shape();
            Box::new(UniformNoise {
                shape: [shape.channels, shape.height, shape.width].map(|size| size as i64),
            })
        }
    }
}

/// Training images, augmented and with noise σ as when they are compared.
struct DataStarts<'a> {
    images: &'a Images,
    data: &'a DataConfig,
    sigma: f64,
}

impl FreshStarts for DataStarts<'_> {
    fn draw(&self, n: usize) -> Tensor {
        let indices = Tensor::randint(
            self.images.len() as i64,
            [n as i64],
            (Kind::Int64, Device::Cpu),
        );
        with_noise(
            augment(self.images.batch(&indices).0, self.data),
            self.sigma,
        )
    }
}
