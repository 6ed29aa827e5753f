//! What every network has while it is learned: weights, their moving average, an optimiser.

use anyhow::{Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::graph::weights::check_weights;
use ebm_export::source::networks::{Network, batch_norms};
use tch::{Device, Kind};

use crate::config::{
    ClassifierLearning, EnergyLearning, LearnedGenerator, MatchingLearning, OptimizerConfig,
    Schedule, Setting,
};
use crate::network::{Statistics, Weights, bytes, to_device, to_host};
use crate::weights::NotFinite;
use crate::weights::adam::Adam;
use crate::weights::ema;
use crate::weights::gradients::{clip, detached, norm};
use crate::weights::optimizer::Optimizer;
use crate::weights::sgd::Sgd;

/// Reads a group of a checkpoint.
pub type ReadGroup<'a> = &'a dyn Fn(&str) -> Result<Tensors>;

/// How the weights of a network move.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Its rate.
    pub learning_rate: Schedule<f64>,
    /// Decay of the moving average of the weights.
    pub ema_decay: Setting,
    /// Largest L2 norm of all gradients together.
    pub gradient_clip: Setting,
}

impl From<&EnergyLearning> for Recipe {
    fn from(learning: &EnergyLearning) -> Recipe {
        Recipe {
            optimizer: OptimizerConfig::Adam(learning.adam),
            learning_rate: learning.learning_rate.clone(),
            ema_decay: learning.ema_decay,
            gradient_clip: learning.weight_gradient_clip,
        }
    }
}

impl From<&MatchingLearning> for Recipe {
    fn from(learning: &MatchingLearning) -> Recipe {
        Recipe {
            optimizer: OptimizerConfig::Adam(learning.adam),
            learning_rate: learning.learning_rate.clone(),
            ema_decay: learning.ema_decay,
            gradient_clip: learning.weight_gradient_clip,
        }
    }
}

impl From<&LearnedGenerator> for Recipe {
    fn from(generator: &LearnedGenerator) -> Recipe {
        Recipe {
            optimizer: OptimizerConfig::Adam(generator.adam),
            learning_rate: generator.learning_rate.clone(),
            ema_decay: generator.ema_decay,
            gradient_clip: generator.weight_gradient_clip,
        }
    }
}

impl From<&ClassifierLearning> for Recipe {
    fn from(learning: &ClassifierLearning) -> Recipe {
        Recipe {
            optimizer: learning.optimizer,
            learning_rate: learning.learning_rate.clone(),
            ema_decay: Setting::OFF,
            gradient_clip: Setting::OFF,
        }
    }
}

/// Names of a network's groups in a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    /// The weights as they are learned.
    pub weights: &'static str,
    /// Their moving average.
    pub average: &'static str,
    /// The optimiser's state.
    pub optimizer: &'static str,
}

/// The usual name of the group of the optimiser.
pub const OPTIMIZER: &str = "optimizer";

/// Bytes of what a network has while it is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The weights.
    pub weights: u64,
    /// Their moving average.
    pub average: u64,
    /// The optimiser's state.
    pub optimizer: u64,
}

/// A network's weights while they are learned.
#[derive(Debug)]
pub struct Learned {
    recipe: Recipe,
    network: Network,
    device: Device,
    weights: Weights,
    average: Option<Weights>,
    optimizer: Box<dyn Optimizer>,
    pace: f64,
}

impl Learned {
    /// Before the first update.
    pub fn new(
        network: &Network,
        recipe: impl Into<Recipe>,
        seed: u64,
        device: Device,
    ) -> Result<Learned> {
        Learned::beginning_with(network, &network.initial_weights(seed)?, recipe, device)
    }

    /// Before the first update, with weights of that network.
    pub fn beginning_with(
        network: &Network,
        first: &Tensors,
        recipe: impl Into<Recipe>,
        device: Device,
    ) -> Result<Learned> {
        let recipe = recipe.into();
        let weights = trainable(network, first, device)?;
        Ok(Learned {
            average: recipe.ema_decay.value().map(|_| ema::copied(&weights)),
            optimizer: optimizer(recipe.optimizer, &followed(&weights)),
            network: network.clone(),
            recipe,
            device,
            weights,
            pace: 1.0,
        })
    }

    /// The optimiser goes on as it was after that many updates.
    ///
    /// # Errors
    /// The state is of another optimiser or network.
    pub fn with_optimizer(mut self, updates: u64, state: &Tensors) -> Result<Learned> {
        self.optimizer.restore(updates, state, self.device)?;
        Ok(self)
    }

    /// Multiplies the configured learning rate from now on.
    pub fn set_pace(&mut self, pace: f64) {
        self.pace = pace;
    }

    /// The weights, which autograd follows.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The weights, which autograd does not follow.
    pub fn detached(&self) -> Weights {
        detached(&self.weights)
    }

    /// The weights to use: their moving average if there is one.
    pub fn best(&self) -> Weights {
        detached(self.average.as_ref().unwrap_or(&self.weights))
    }

    /// The learning rate of an update, counted from 0.
    pub fn learning_rate(&self, update: u64) -> f64 {
        self.recipe.learning_rate.at(update) * self.pace
    }

    /// Clips the gradients as configured and follows them; then the moving average follows the weights.
    ///
    /// # Errors
    /// The gradients are not finite, or of other weights.
    pub fn step(
        &mut self,
        mut gradients: Weights,
        statistics: &Statistics,
        update: u64,
    ) -> Result<()> {
        let norm = norm(&gradients)?;
        ensure!(
            norm.is_finite(),
            NotFinite(format!("the norm of the weights' gradients is {norm}"))
        );
        if let Some(largest) = self.recipe.gradient_clip.value() {
            clip(&mut gradients, norm, largest)?;
        }
        let learning_rate = self.learning_rate(update);
        self.optimizer
            .step(&mut self.weights, &gradients, learning_rate)?;
        statistics.enter(&mut self.weights)?;
        if let (Some(average), Some(decay)) = (&mut self.average, self.recipe.ema_decay.value()) {
            ema::advance(average, &self.weights, ema::decay_at(decay, update))?;
        }
        Ok(())
    }

    /// Bytes of all that it holds.
    pub fn held(&self) -> Held {
        Held {
            weights: bytes(self.weights.values()),
            average: self
                .average
                .as_ref()
                .map_or(0, |average| bytes(average.values())),
            optimizer: self.optimizer.bytes(),
        }
    }

    /// All tensors of a checkpoint.
    pub fn save(&self, groups: Groups) -> Result<Vec<(&'static str, Tensors)>> {
        let mut saved = vec![
            (groups.weights, to_host(&self.weights)?),
            (groups.optimizer, self.optimizer.state()?),
        ];
        if let Some(average) = &self.average {
            saved.push((groups.average, to_host(average)?));
        }
        Ok(saved)
    }

    /// Goes on from a checkpoint of that many updates.
    pub fn restore(&mut self, groups: Groups, updates: u64, group: ReadGroup<'_>) -> Result<()> {
        let graph = self.network.graph()?;
        let read = |name| -> Result<Tensors> {
            let weights = group(name)?;
            check_weights(&graph, &weights)?;
            Ok(weights)
        };
        self.weights = trainable(&self.network, &read(groups.weights)?, self.device)?;
        if self.average.is_some() {
            let average = read(groups.average)?;
            self.average = Some(to_device(&average, Kind::Float, self.device));
        }
        self.optimizer
            .restore(updates, &group(groups.optimizer)?, self.device)
    }
}

/// Weights on a device, of which autograd follows all but the running statistics of batch norms.
fn trainable(network: &Network, weights: &Tensors, device: Device) -> Result<Weights> {
    let graph = network.graph()?;
    let norms = batch_norms(&graph);
    let running: Vec<&str> = norms
        .iter()
        .flat_map(|norm| [norm.mean, norm.variance])
        .map(|value| graph.node(value).name.as_str())
        .collect();
    let follow = |(name, weight): (String, tch::Tensor)| {
        let followed = !running.contains(&name.as_str());
        let weight = weight.set_requires_grad(followed);
        (name, weight)
    };
    Ok(to_device(weights, Kind::Float, device)
        .into_iter()
        .map(follow)
        .collect())
}

/// An optimiser that has done no steps.
fn optimizer(config: OptimizerConfig, weights: &Weights) -> Box<dyn Optimizer> {
    match config {
        OptimizerConfig::Adam(config) => Box::new(Adam::new(config, weights)),
        OptimizerConfig::Sgd(config) => Box::new(Sgd::new(config, weights)),
    }
}

/// The weights that autograd follows.
fn followed(weights: &Weights) -> Weights {
    weights
        .iter()
        .filter(|(_, weight)| weight.requires_grad())
        .map(|(name, weight)| (name.clone(), weight.shallow_clone()))
        .collect()
}
