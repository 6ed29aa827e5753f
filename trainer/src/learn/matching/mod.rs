//! Learning of an energy network by matching: `∇_x E` is regressed on a target that is known, with one gradient per update.
//!
//! The gradient is a graph of plain operators, so that its derivatives with respect to the weights are ordinary backpropagation through it.

mod contrast;
mod dropout;
mod regression;
mod trial;

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::Purification;
use ebm_export::source::checkpoint::{EMA, Header, WEIGHTS};
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::rewrite::{self, Rewrite};
use tch::{Device, Kind, Tensor};

use crate::config::MatchingConfig;
use crate::data::{Dataset, Share, Stream, augment};
use crate::draw::sheet::Block;
use crate::learn::warm_start::{First, scale_head};
use crate::machine::memory::{Estimate, checkpoint};
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, after_rollbacks, seed_torch};
use crate::machine::{Machine, Place};
use crate::network::{Program, Statistics, Weights};
use crate::run::learning::{Described, Learning, Terms};
use crate::run::record::{IMAGES, LEVELS, Measured};
use crate::run::stop::End;
use crate::run::training::Training;
use crate::weights::NotFinite;
use crate::weights::gradients::{of_loss, sum};
use crate::weights::learned::{Groups, Held, Learned, OPTIMIZER, ReadGroup};
use contrast::{Contrasted, SecondPhase, contrast, ends, starts};
use dropout::{Dropout, Masks, split};
pub use regression::Regression;
use regression::{N_LEVELS, level};
use trial::{Trial, Use};

const GROUPS: Groups = Groups {
    weights: WEIGHTS,
    average: EMA,
    optimizer: OPTIMIZER,
};

/// An energy network while it learns by matching.
#[derive(Debug)]
pub struct MatchingLearner {
    config: MatchingConfig,
    device: Device,
    team: Team,
    train: Stream,
    trial: Trial,
    /// Outputs `gradient [N, C, H, W]`.
    program: Program,
    /// The same with dropout, if it learns with it.
    forgetful: Option<(Program, Dropout)>,
    second: Option<SecondPhase>,
    learned: Learned,
    /// All draws derive from it.
    seed: u64,
    update: u64,
}

impl MatchingLearner {
    /// A network before its first update, with the weights of another run if there are some.
    ///
    /// # Errors
    /// The network makes no sense.
    pub fn new(
        config: MatchingConfig,
        dataset: Dataset,
        first: Option<First>,
        machine: Machine,
    ) -> Result<MatchingLearner> {
        let Machine { device, team } = machine;
        let graph = config.network.graph()?;
        let gradient = gradient_graph(&graph, &Rewrite::COMMON)?;
        let forgetful = config.learning.dropout.map(|rate| {
            let masked = config.network.graph_with_dropout()?;
            let gradient = gradient_graph(&masked, &Rewrite::COMMON)?;
            let dropout = Dropout::new(&masked, rate);
            Ok::<_, anyhow::Error>((Program::new(&gradient, Kind::Float, device), dropout))
        });
        let second = config.objective.contrast().map(|_| {
            let graph = rewrite::apply(&graph, &Rewrite::COMMON)?;
            Ok::<_, anyhow::Error>(SecondPhase {
                energy: Program::new(&graph, Kind::Float, device),
                chains: Program::new(&gradient, Kind::Float, device).on_engine(&gradient),
            })
        });
        let first = match first {
            Some(first) => first,
            None => {
                let mut weights = config.network.initial_weights(config.seed)?;
                scale_head(&mut weights, config.learning.head_factor)?;
                First {
                    weights,
                    optimizer: None,
                }
            }
        };
        let learned =
            Learned::beginning_with(&config.network, &first.weights, &config.learning, device)?;
        let learned = match &first.optimizer {
            Some((updates, state)) => learned.with_optimizer(*updates, state)?,
            None => learned,
        };
        let (images, use_of_images) = match dataset.test.is_empty() {
            true => (&dataset.train, Use::Shown),
            false => (&dataset.test, Use::Tested),
        };
        Ok(MatchingLearner {
            trial: Trial::new(&config, images, use_of_images)?,
            train: Stream::new(dataset.train, config.seed, config.data.buffer),
            program: Program::new(&gradient, Kind::Float, device),
            forgetful: forgetful.transpose()?,
            second: second.transpose()?,
            learned,
            seed: config.seed,
            update: 0,
            config,
            device,
            team,
        })
    }

    /// Images of an update.
    pub fn batch(&self) -> usize {
        self.config.learning.batch
    }

    /// What the next update regresses on, of the rows of this process.
    ///
    /// # Errors
    /// Pictures are damaged or lost, or libtorch fails.
    pub fn regression(&mut self) -> Result<Regression> {
        Ok(self.draw()?.0)
    }

    /// That, and the data images of all processes that a second phase compares with the ends of chains: `[batch, C, H, W]` on the CPU.
    fn draw(&mut self) -> Result<(Regression, Option<Tensor>)> {
        let (seed, update) = (self.seed, self.update);
        let batch = self.batch();
        let rows = self.team.ranks().rows(batch);
        let share = match self.second {
            Some(_) => Share::whole(2 * batch),
            None => Share { n: batch, rows },
        };
        let (images, _) = self.train.batch(update, &share)?;
        let images = {
            let _draws = seed_torch(seed, update, Purpose::Augmentation);
            augment(images, &self.config.data)
        };
        let n = batch as i64;
        let regressed = images.f_narrow(0, 0, n)?;
        let compared = self.second.as_ref().map(|_| images.f_narrow(0, n, n));
        let regression = Regression::draw(&self.config.objective, &regressed, (seed, update))?;
        let own = |whole: &Tensor| Ok(self.team.ranks().own(whole)?.to_device(self.device));
        Ok((regression.map(own)?, compared.transpose()?))
    }

    /// What the second phase adds to the loss.
    fn contrasted(&self, images: &Tensor) -> Result<Option<Contrasted>> {
        let (Some(second), Some(config)) = (&self.second, self.config.objective.contrast()) else {
            return Ok(None);
        };
        let at = (self.seed, self.update);
        let detached = self.learned.detached();
        let network = second.chains.bind(&detached)?;
        let ends = ends(&self.team, &network, &starts(images, at)?, config, at)?;
        let data = self.team.ranks().own(images)?.to_device(self.device);
        let weights = self.learned.weights();
        contrast(
            &self.team,
            &second.energy,
            weights,
            (&data, &ends),
            (config, self.batch()),
        )
        .map(Some)
    }

    /// What is evaluated to learn.
    fn learning_program(&self) -> &Program {
        let forgetful = self.forgetful.as_ref();
        forgetful.map_or(&self.program, |(program, _)| program)
    }

    /// What the network forgets at this update, if it does.
    fn masks(&self) -> Result<Masks> {
        let at = (self.seed, self.update);
        match &self.forgetful {
            Some((_, dropout)) => dropout.draw(&self.team, self.batch(), at, self.device),
            None => Ok(Vec::new()),
        }
    }

    /// The loss of each image of this process, and the gradient of the mean of all with respect to the weights.
    fn differentiate(&self, regression: &Regression) -> Result<(Vec<f64>, Weights)> {
        let scale = 1.0 / self.batch() as f64;
        let program = self.learning_program();
        let most = program.images_at_once();
        let n = regression.inputs.size()[0] as usize;
        let masks = split(&self.team, &self.masks()?, n, most)?;
        let parts = |whole: &Tensor| self.team.split(whole, most);
        let parts = parts(&regression.inputs)?
            .into_iter()
            .zip(parts(&regression.targets)?)
            .zip(parts(&regression.weights)?)
            .map(|((inputs, targets), weights)| Regression {
                inputs,
                targets,
                weights,
            })
            .zip(masks);
        let (program, weights) = (Shared::new(program), Shared::new(self.learned.weights()));
        let parts = self
            .team
            .map(parts.collect(), |(part, masks): (_, Masks)| {
                let part: Regression = part;
                let mut network = program.get().bind(weights.get())?;
                for (name, mask) in &masks {
                    network = network.given(name, mask)?;
                }
                let losses = part.losses(&network.output("gradient", &part.inputs)?)?;
                let loss = losses.f_sum(Kind::Float)? * scale;
                let gradients = of_loss(&loss, weights.get())?;
                let losses = losses.detach().to_device(Device::Cpu).to_kind(Kind::Double);
                Ok((Vec::<f64>::try_from(losses)?, gradients))
            })?;
        let (losses, gradients): (Vec<Vec<f64>>, Vec<Weights>) = parts.into_iter().unzip();
        let gradients = self.team.ranks().sum_weights(sum(gradients)?)?;
        Ok((losses.concat(), gradients))
    }

    /// The mean loss over all processes, and that of each level of noise if all of them have images.
    fn measured(&self, losses: &[f64]) -> Result<Measured> {
        let batch = self.batch();
        let ranks = self.team.ranks();
        let numbers = ranks.rows(batch);
        let mut sums = [0.0; N_LEVELS];
        for (number, loss) in numbers.zip(losses) {
            sums[level(number, batch)] += loss;
        }
        let sums = ranks.sums(sums)?;
        let n_images = |wanted: usize| {
            (0..batch)
                .filter(|&number| level(number, batch) == wanted)
                .count()
        };
        let mut measured = vec![("loss", sums.iter().sum::<f64>() / batch as f64)];
        if batch >= N_LEVELS {
            let levels = LEVELS.into_iter().zip(sums).enumerate();
            measured
                .extend(levels.map(|(level, (name, sum))| (name, sum / n_images(level) as f64)));
        }
        measured.push((IMAGES, batch as f64));
        Ok(measured)
    }

    /// ∇E of images on the CPU, with the best weights.
    fn best_gradient(&self, images: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let best = self.learned.best();
        let network = self.program.bind(&best)?;
        let shared = Shared::new(&network);
        let parts = self.team.split(images, self.program.images_at_once())?;
        let parts = self.team.map(parts, |images: Tensor| {
            let images = images.to_device(shared.get().device());
            Ok(shared
                .get()
                .output("gradient", &images)?
                .to_device(Device::Cpu))
        })?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    /// Bytes that a second phase holds for a while.
    fn contrasts(&self) -> u64 {
        let Some(SecondPhase { energy, chains }) = &self.second else {
            return 0;
        };
        let own = self.team.ranks().rows(self.batch()).len();
        let moved = self.team.division(own, chains.images_at_once());
        let (chains, both) = (chains.footprint(), energy.footprint());
        let compared = self.team.division(2 * own, energy.images_at_once());
        let moves = chains.bound + moved.at_once * moved.images * chains.plain;
        let compares = compared.at_once * (both.bound + compared.images * both.tracked)
            + compared.n_parts * self.learned.held().weights;
        moves.max(compares)
    }

    /// Follows the gradient of the loss. The update is then done.
    fn step(&mut self) -> Result<Measured> {
        let (regression, images) = self.draw()?;
        let (losses, mut gradients) = self.differentiate(&regression)?;
        let mut measured = self.measured(&losses)?;
        let contrasted = images.map(|images| self.contrasted(&images)).transpose()?;
        if let Some(contrasted) = contrasted.flatten() {
            measured[0].1 += contrasted.loss;
            measured.push(("contrast", contrasted.difference));
            gradients = sum([Some(gradients), contrasted.gradients]
                .into_iter()
                .flatten())?;
        }
        let loss = measured[0].1;
        ensure!(loss.is_finite(), NotFinite(format!("the loss is {loss}")));
        self.learned
            .step(gradients, &Statistics::default(), self.update)?;
        self.update += 1;
        Ok(measured)
    }

    fn memory(&self) -> Estimate {
        let Held {
            weights,
            average,
            optimizer,
        } = self.learned.held();
        let own = self.team.ranks().rows(self.batch()).len();
        let learning = self.learning_program();
        let (learned, tested) = (learning.footprint(), self.program.footprint());
        let learns = self.team.division(own, learning.images_at_once());
        let most = self.program.images_at_once();
        let tests = self.team.division(self.trial.n_images(), most);
        let forgotten = self
            .forgetful
            .as_ref()
            .map_or(0, |(_, dropout)| dropout.bytes());
        let update = learns.at_once * (learned.bound + learns.images * learned.tracked)
            + learns.n_parts * weights
            + own as u64 * forgotten;
        let test = tested.bound + tests.at_once * tests.images * tested.plain;
        let saved = [
            ("weights", weights),
            ("moving averages", average),
            ("optimisers", optimizer),
        ];
        let data = self.train.bytes() + self.trial.bytes();
        Estimate {
            held: [&saved[..], &[("data", data)]].concat(),
            passing: vec![
                ("an update", update.max(self.contrasts())),
                ("a test", test),
                checkpoint(&saved),
            ],
        }
    }
}

/// Learns until all updates are done or the user stops.
pub fn learn(learner: &mut MatchingLearner, training: &mut Training<'_>) -> Result<End> {
    while training.goes_on(learner)? {
        let update = training.attempt(learner, MatchingLearner::step);
        let Some(measured) = update? else { continue };
        training.record(&measured, learner)?;
        training.checkpoint(learner)?;
    }
    training.end(learner)
}

impl Described for MatchingLearner {
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

    /// On the images that it is tried on.
    fn merit(&self, _: &[(String, f64)]) -> Result<Option<f64>> {
        self.trial.merit(|images| self.best_gradient(images))
    }

    fn tested(&self) -> Result<Vec<(String, f64)>> {
        self.trial.measured(|images| self.best_gradient(images))
    }

    fn header(&self) -> Result<Header> {
        let purification = self.config.purification;
        let mut header = Header::new(self.config.network.clone());
        header.purification = Some(Purification {
            step_size: purification.step_size,
            temperature: purification.temperature,
            steps: purification.steps,
        });
        header.config =
            serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        self.learned.save(GROUPS)
    }

    fn samples(&self) -> Result<Vec<Block>> {
        self.trial.samples(|images| self.best_gradient(images))
    }
}

impl Learning for MatchingLearner {
    fn restore(&mut self, header: &Header, group: ReadGroup<'_>) -> Result<()> {
        let before = self.config.from.as_ref().and_then(|from| from.updates);
        let steps = header.update + before.unwrap_or_default();
        self.learned.restore(GROUPS, steps, group)?;
        self.update = header.update;
        Ok(())
    }

    fn set_rollbacks(&mut self, rollbacks: u64) {
        self.seed = after_rollbacks(self.config.seed, rollbacks);
        self.learned.set_pace(self.config.guard.pace(rollbacks));
    }
}

#[cfg(test)]
mod tests;
