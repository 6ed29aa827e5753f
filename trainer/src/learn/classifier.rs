//! Learning of a classifier, itself a graph, by its cross-entropy. Batch norms take the statistics of each batch.

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::{EMA, Header, WEIGHTS};
use tch::{Device, Kind, Tensor};

use crate::chains::start::with_noise;
use crate::config::{ClassifierConfig, Output};
use crate::data::{Dataset, Images, Share, Stream, augment};
use crate::draw::sheet::Block;
use crate::evaluate::interval::Accuracy;
use crate::machine::memory::{Estimate, checkpoint};
use crate::machine::parallel::{Division, Shared, Team};
use crate::machine::randomness::{Purpose, after_rollbacks, seed_torch};
use crate::machine::ranks::Ranks;
use crate::network::{Network, Norms, Program, Statistics, Weights};
use crate::run::guard::{Guard, NotFinite};
use crate::run::record::{IMAGES, Measured};
use crate::run::session::{Learning, Machine, Place};
use crate::weights::gradients::{of_loss, sum};
use crate::weights::learned::{Groups, Held, Learned};

/// Images per evaluation.
const BATCH: usize = 500;

const GROUPS: Groups = Groups {
    weights: WEIGHTS,
    average: EMA,
    optimizer: "optimizer",
};

/// What one batch says.
struct Step {
    loss: f64,
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
            learned: Learned::new(
                &config.network,
                config.learning.recipe(),
                config.seed,
                device,
            )?,
            seed: config.seed,
            update: 0,
            config,
            device,
            team,
        })
    }

    /// Loss, its gradient and right answers of a batch.
    fn differentiate(&self, images: &Tensor, labels: &Tensor) -> Result<Step> {
        let scale = 1.0 / images.size()[0] as f64;
        let parts = match self.program.mixes_images() {
            true => vec![(images.shallow_clone(), labels.shallow_clone())],
            false => self
                .team
                .split_with(images, labels, self.program.images_at_once())?,
        };
        let (program, weights) = (
            Shared::new(&self.program),
            Shared::new(self.learned.weights()),
        );
        let parts = self.team.map(parts, |(images, labels): (Tensor, Tensor)| {
            let network = program.get().bind(weights.get())?;
            let evaluation = network.evaluate_batch(&images)?;
            let logits = evaluation.outputs.first().context("no logits came out")?;
            let loss = logits.f_cross_entropy_loss(
                &labels,
                None::<&Tensor>,
                tch::Reduction::Sum,
                -100,
                0.0,
            )? * scale;
            Ok(Step {
                loss: loss.double_value(&[]),
                gradients: of_loss(&loss, weights.get())?,
                right: is_right(logits, &labels)?,
                statistics: evaluation.statistics,
            })
        })?;
        let loss = parts.iter().map(|part| part.loss).sum();
        let right = parts
            .iter()
            .flat_map(|part| part.right.iter().copied())
            .collect();
        let (gradients, mut statistics): (Vec<Weights>, Vec<Statistics>) = parts
            .into_iter()
            .map(|part| (part.gradients, part.statistics))
            .unzip();
        Ok(Step {
            loss,
            right,
            gradients: sum(gradients)?,
            statistics: statistics.pop().unwrap_or_default(),
        })
    }

    /// Accuracy on the test images.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn test_accuracy(&self) -> Result<Accuracy> {
        let graph = self.config.network.graph()?;
        let program = Program::new(&graph, Kind::Float, self.device);
        accuracy(&program.bind(&self.learned.best())?, &self.test)
    }
}

/// Accuracy of a classifier on images.
///
/// # Errors
/// The images do not fit the classifier, or pictures are damaged or lost.
pub fn accuracy(classifier: &Network<'_>, images: &Images) -> Result<Accuracy> {
    let n = images.len();
    let mut right = Vec::with_capacity(n);
    for first in (0..n).step_by(BATCH) {
        let (pixels, labels) = images.range(first..n.min(first + BATCH))?;
        let logits =
            tch::no_grad(|| classifier.output("logits", &pixels.to_device(classifier.device())))?;
        right.extend(is_right(&logits, &labels.to_device(classifier.device()))?);
    }
    Ok(Accuracy::of(&right))
}

/// Per image: is the largest logit (`[N, n_classes]`) that of its label (int64 `[N]`)?
///
/// # Errors
/// The shapes differ.
pub fn is_right(logits: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
    let right = logits.f_argmax(1, false)?.f_eq_tensor(labels)?;
    Ok(Vec::<bool>::try_from(right.to_device(Device::Cpu))?)
}

impl Learning for ClassifierLearner {
    fn update(&mut self) -> Result<Measured> {
        let (seed, update) = (self.seed, self.update);
        let share = Share::whole(self.config.learning.batch);
        let (images, labels) = self.train.batch(update, &share)?;
        let _draws = seed_torch(seed, update, Purpose::Augmentation);
        let images = augment(images, &self.config.data);
        let _draws = seed_torch(seed, update, Purpose::DataNoise);
        let images = with_noise(images, self.config.learning.data_noise).to_device(self.device);
        let labels = labels.to_device(self.device);
        let Step {
            loss: value,
            gradients,
            statistics,
            right,
        } = self.differentiate(&images, &labels)?;
        ensure!(value.is_finite(), NotFinite(format!("the loss is {value}")));
        self.learned.step(gradients, &statistics, self.update)?;
        self.update += 1;
        Ok(vec![
            ("loss", value),
            ("accuracy", Accuracy::of(&right).accuracy),
            (IMAGES, right.len() as f64),
        ])
    }

    fn ranks(&self) -> &Ranks {
        self.team.ranks()
    }

    fn restore(&mut self, header: &Header, group: &dyn Fn(&str) -> Result<Tensors>) -> Result<()> {
        self.learned.restore(GROUPS, header.update, group)?;
        self.update = header.update;
        Ok(())
    }

    fn set_rollbacks(&mut self, rollbacks: u64) {
        self.seed = after_rollbacks(self.config.seed, rollbacks);
        self.learned.set_pace(self.config.guard.pace(rollbacks));
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

    fn guard(&self) -> Guard {
        self.config.guard.guard()
    }

    /// Accuracy on the test images.
    fn merit(&self, _: &[(String, f64)]) -> Result<Option<f64>> {
        Ok(Some(self.test_accuracy()?.accuracy))
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
        let mut header = Header::new(self.config.network.clone());
        header.config =
            serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        self.learned.save(GROUPS)
    }

    fn samples(&self) -> Result<Vec<Block>> {
        Ok(Vec::new())
    }

    fn place(&self) -> Place {
        Place {
            device: self.device,
            n_threads: self.team.n_threads(),
        }
    }
}
