//! Learning of a classifier, itself a graph, by its cross-entropy. Batch norms take the statistics of each batch.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::{EMA, Header, WEIGHTS};
use tch::{Device, Kind, Tensor};

use crate::chains::start::with_noise;
use crate::config::ClassifierConfig;
use crate::data::{Dataset, Images, Share, Stream, augment};
use crate::evaluate::interval::Accuracy;
use crate::evaluate::is_right;
use crate::learn::adversary::Adversary;
use crate::machine::memory::{Estimate, checkpoint};
use crate::machine::parallel::{Division, Shared, Team};
use crate::machine::randomness::{Purpose, after_rollbacks, seed_torch};
use crate::machine::{Machine, Place};
use crate::network::{BoundNetwork, ImagesAtOnce, Norms, Program, Statistics, Weights};
use crate::run::learning::{Described, Learning, Terms};
use crate::run::record::{IMAGES, Measured};
use crate::run::stop::End;
use crate::run::training::Training;
use crate::weights::NotFinite;
use crate::weights::gradients::{of_loss, sum};
use crate::weights::learned::{Groups, Held, Learned, ReadGroup};

/// Images per evaluation.
const BATCH: usize = 500;
/// Test images that are made as hard as those that are learned from, of which a test takes that many.
const N_HARD: usize = 1000;

const GROUPS: Groups = Groups {
    weights: WEIGHTS,
    average: EMA,
    optimizer: "optimizer",
};

/// What one batch says.
struct Loss {
    value: f64,
    gradients: Weights,
    statistics: Statistics,
    /// Per image.
    right: Vec<bool>,
}

/// A classifier while it learns.
#[derive(Debug)]
pub struct ClassifierLearner {
    config: ClassifierConfig,
    device: Device,
    team: Team,
    adversary: Option<Adversary>,
    train: Stream,
    test: Images,
    /// Batch norms take the statistics of the batch.
    program: Program,
    learned: Learned,
    /// All draws derive from it.
    seed: u64,
    update: u64,
}

impl ClassifierLearner {
    /// A classifier before its first update.
    ///
    /// # Errors
    /// The network makes no sense, or has another number of classes than the data.
    pub fn new(
        config: ClassifierConfig,
        dataset: Dataset,
        machine: Machine,
    ) -> Result<ClassifierLearner> {
        let Machine { device, team } = machine;
        ensure!(
            config.network.n_classes() == Some(dataset.n_classes),
            "the data have {} classes: set network.n_classes, which is {:?}",
            dataset.n_classes,
            config.network.n_classes().unwrap_or_default()
        );
        ensure!(
            !dataset.test.is_empty(),
            "there are no images to test a classifier on: put them into a folder or files named `test` or `val`, or set data.n_test"
        );
        let graph = config.network.graph()?;
        Ok(ClassifierLearner {
            train: Stream::new(dataset.train, config.seed, config.data.buffer),
            test: dataset.test,
            program: Program::with_norms(&graph, Kind::Float, device, Norms::OfTheBatch),
            learned: Learned::new(&config.network, &config.learning, config.seed, device)?,
            seed: config.seed,
            update: 0,
            adversary: config.adversarial.map(Adversary::new),
            config,
            device,
            team,
        })
    }

    /// Loss, its gradient and right answers of a batch, or of what the adversary makes of it.
    fn loss(&self, images: &Tensor, labels: &Tensor) -> Result<Loss> {
        let scale = 1.0 / images.size()[0] as f64;
        let starts = self.starts(images, self.update)?;
        let most = match self.program.mixes_images() {
            true => ImagesAtOnce::All,
            false => self.program.images_at_once(),
        };
        let starts = self.team.split(&starts, most)?;
        let parts = self.team.split_with(images, labels, most)?;
        let parts = parts.into_iter().zip(starts).collect();
        let (program, weights) = (
            Shared::new(&self.program),
            Shared::new(self.learned.weights()),
        );
        let adversary = self.adversary;
        type Part = ((Tensor, Tensor), Tensor);
        let parts = self.team.map(parts, |((images, labels), starts): Part| {
            let network = program.get().bind(weights.get())?;
            let images = match adversary {
                Some(adversary) => adversary.attacked(&network, &images, starts, &labels)?,
                None => images,
            };
            let evaluation = network.evaluate_batch(&images)?;
            let logits = evaluation.outputs.first().context("no logits came out")?;
            let loss = logits.f_cross_entropy_loss(
                &labels,
                None::<&Tensor>,
                tch::Reduction::Sum,
                -100,
                0.0,
            )? * scale;
            Ok(Loss {
                value: loss.double_value(&[]),
                gradients: of_loss(&loss, weights.get())?,
                right: is_right(logits, &labels)?,
                statistics: evaluation.statistics,
            })
        })?;
        let value = parts.iter().map(|part| part.value).sum();
        let right = parts
            .iter()
            .flat_map(|part| part.right.iter().copied())
            .collect();
        let (gradients, mut statistics): (Vec<Weights>, Vec<Statistics>) = parts
            .into_iter()
            .map(|part| (part.gradients, part.statistics))
            .unzip();
        Ok(Loss {
            value,
            right,
            gradients: sum(gradients)?,
            statistics: statistics.pop().unwrap_or_default(),
        })
    }

    /// The images of this update, augmented and with noise, and their labels.
    fn batch(&mut self) -> Result<(Tensor, Tensor)> {
        let (seed, update) = (self.seed, self.update);
        let share = Share::whole(self.config.learning.batch);
        let (images, labels) = self.train.batch(update, &share)?;
        let _draws = seed_torch(seed, update, Purpose::Augmentation);
        let images = augment(images, &self.config.data);
        let _draws = seed_torch(seed, update, Purpose::DataNoise);
        let images = with_noise(images, self.config.data_noise());
        Ok((images.to_device(self.device), labels.to_device(self.device)))
    }

    /// Where the adversary starts at an update, if there is one; else the images themselves.
    fn starts(&self, images: &Tensor, update: u64) -> Result<Tensor> {
        let _draws = seed_torch(self.seed, update, Purpose::AttackStart);
        match self.adversary {
            Some(adversary) => adversary.starts(images),
            None => Ok(images.shallow_clone()),
        }
    }

    /// Follows the gradient of the loss. The update is then done.
    fn step(&mut self, loss: Loss) -> Result<Measured> {
        let Loss {
            value,
            gradients,
            statistics,
            right,
        } = loss;
        ensure!(value.is_finite(), NotFinite(format!("the loss is {value}")));
        self.learned.step(gradients, &statistics, self.update)?;
        self.update += 1;
        Ok(vec![
            ("loss", value),
            ("accuracy", Accuracy::of(&right).accuracy),
            (IMAGES, right.len() as f64),
        ])
    }

    fn memory(&self) -> Estimate {
        let Held {
            weights,
            average,
            optimizer,
        } = self.learned.held();
        let batch = self.config.learning.batch;
        let Division {
            n_parts,
            images,
            at_once,
        } = match self.program.mixes_images() {
            true => Division::none(batch),
            false => self.team.division(batch, self.program.images_at_once()),
        };
        let footprint = self.program.footprint();
        let learns = at_once * (footprint.bound + images * footprint.tracked) + n_parts * weights;
        let tests = footprint.bound + BATCH as u64 * footprint.plain;
        let saved = [
            ("weights", weights),
            ("moving averages", average),
            ("optimisers", optimizer),
        ];
        Estimate {
            held: [
                &saved[..],
                &[("data", self.train.bytes() + self.test.bytes())],
            ]
            .concat(),
            passing: vec![("an update", learns), ("a test", tests), checkpoint(&saved)],
        }
    }

    /// Accuracy on the test images.
    pub fn test_accuracy(&self) -> Result<Accuracy> {
        self.accuracy(self.test.len(), |_, images, _| Ok(images))
    }

    /// What the first test images meet, if those that are learned from are not as they are, and the accuracy on them then.
    pub fn hard_test_accuracy(&self) -> Result<Option<(String, Accuracy)>> {
        let n = self.test.len().min(N_HARD);
        if let Some(adversary) = self.adversary {
            let accuracy = self.accuracy(n, |classifier, images, labels| {
                let starts = self.starts(&images, 0)?;
                adversary.attacked(classifier, &images, starts, labels)
            })?;
            return Ok(Some((format!("attacked within {adversary}"), accuracy)));
        }
        let Some(noise) = self.config.noise else {
            return Ok(None);
        };
        let accuracy = self.accuracy(n, |_, images, _| {
            let _draws = seed_torch(self.seed, 0, Purpose::DataNoise);
            Ok(with_noise(images, noise.sigma.in_signed_range()))
        })?;
        Ok(Some((format!("with noise of σ {}", noise.sigma), accuracy)))
    }

    /// Accuracy on the first n test images, each batch as `meet` makes it.
    fn accuracy(
        &self,
        n: usize,
        meet: impl Fn(&BoundNetwork<'_>, Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Accuracy> {
        let graph = self.config.network.graph()?;
        let program = Program::new(&graph, Kind::Float, self.device);
        let best = self.learned.best();
        let classifier = program.bind(&best)?;
        let mut right = Vec::with_capacity(n);
        for first in (0..n).step_by(BATCH) {
            let (images, labels) = self.test.range(first..n.min(first + BATCH))?;
            let labels = labels.to_device(self.device);
            let images = meet(&classifier, images.to_device(self.device), &labels)?;
            let logits = tch::no_grad(|| classifier.output("logits", &images))?;
            right.extend(is_right(&logits, &labels)?);
        }
        Ok(Accuracy::of(&right))
    }
}

/// Learns until all updates are done or the user stops.
pub fn learn(classifier: &mut ClassifierLearner, training: &mut Training<'_>) -> Result<End> {
    while training.goes_on(classifier)? {
        let update = training.attempt(classifier, |classifier| {
            let (images, labels) = classifier.batch()?;
            let loss = classifier.loss(&images, &labels)?;
            classifier.step(loss)
        });
        let Some(measured) = update? else { continue };
        training.record(&measured, classifier)?;
        training.checkpoint(classifier)?;
    }
    training.end(classifier)
}

impl Described for ClassifierLearner {
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

    /// Accuracy on test images like those that it learns from.
    fn merit(&self, _: &[(String, f64)]) -> Result<Option<f64>> {
        Ok(Some(match self.hard_test_accuracy()? {
            Some((_, accuracy)) => accuracy.accuracy,
            None => self.test_accuracy()?.accuracy,
        }))
    }

    fn header(&self) -> Result<Header> {
        let mut header = Header::new(self.config.network.clone());
        header.config =
            serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        self.learned.save(GROUPS)
    }
}

impl Learning for ClassifierLearner {
    fn restore(&mut self, header: &Header, group: ReadGroup<'_>) -> Result<()> {
        self.learned.restore(GROUPS, header.update, group)?;
        self.update = header.update;
        Ok(())
    }

    fn set_rollbacks(&mut self, rollbacks: u64) {
        self.seed = after_rollbacks(self.config.seed, rollbacks);
        self.learned.set_pace(self.config.guard.pace(rollbacks));
    }
}
