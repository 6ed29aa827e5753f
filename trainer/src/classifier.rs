//! Learning of a classifier, itself a graph: Adam on the cross-entropy.

use anyhow::{Context, Result, ensure};
use ebm_export::checkpoint::{Header, WEIGHTS};
use ebm_export::tensor::Tensors;
use tch::{Device, Kind, Tensor};

use crate::adam::Adam;
use crate::config::{ClassifierConfig, Output};
use crate::data::{Dataset, Images, Order, augment};
use crate::gradients::{detached, of_loss};
use crate::interval::Accuracy;
use crate::learner::{OPTIMIZER, trainable, with_noise};
use crate::network::{Network, Program, Weights, to_host};
use crate::randomness::{Purpose, seed_torch};
use crate::record::Measured;
use crate::schedule::value_at;
use crate::session::Learning;

/// Images per evaluation.
const BATCH: i64 = 500;

/// A classifier while it learns.
#[derive(Debug)]
pub struct ClassifierLearner {
    config: ClassifierConfig,
    device: Device,
    dataset: Dataset,
    order: Order,
    program: Program,
    weights: Weights,
    adam: Adam,
    update: u64,
}

impl ClassifierLearner {
    /// A classifier before its first update.
    ///
    /// # Errors
    /// The network makes no sense, or has another number of classes than the data.
    pub fn new(config: ClassifierConfig, dataset: Dataset, device: Device) -> Result<ClassifierLearner> {
        ensure!(
            config.network.n_classes() == Some(dataset.n_classes),
            "the data have {} classes: set network.n_classes, which is {:?}",
            dataset.n_classes,
            config.network.n_classes().unwrap_or_default()
        );
        let weights = trainable(&config.network.initial_weights(config.seed)?, device);
        Ok(ClassifierLearner {
            order: Order::new(config.seed, dataset.train.len()),
            program: Program::new(&config.network.graph()?, Kind::Float, device),
            adam: Adam::new(config.learning.adam, &weights),
            update: 0,
            config,
            device,
            dataset,
            weights,
        })
    }

    /// Goes on from a checkpoint; `group` reads one of its groups.
    ///
    /// # Errors
    /// The checkpoint is of another network.
    pub fn restore(&mut self, header: &Header, group: impl Fn(&str) -> Result<Tensors>) -> Result<()> {
        let weights = group(WEIGHTS)?;
        ebm_export::pipeline::check_weights(&self.config.network.graph()?, &weights)?;
        self.weights = trainable(&weights, self.device);
        self.adam.restore(header.update, &group(OPTIMIZER)?, self.device)?;
        self.update = header.update;
        Ok(())
    }

    /// Accuracy on the test images.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn test_accuracy(&self) -> Result<Accuracy> {
        let weights = detached(&self.weights);
        accuracy(&self.program.bind(&weights)?, &self.dataset.test)
    }
}

/// Accuracy of a classifier on images.
///
/// # Errors
/// The images do not fit the classifier.
pub fn accuracy(classifier: &Network<'_>, images: &Images) -> Result<Accuracy> {
    let (pixels, labels) = images.first(images.len());
    let mut right = Vec::with_capacity(images.len());
    for (pixels, labels) in pixels.split(BATCH, 0).iter().zip(labels.split(BATCH, 0)) {
        let logits = tch::no_grad(|| classifier.output("logits", &pixels.to_device(classifier.device())))?;
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
        let (seed, update) = (self.config.seed, self.update);
        let learning_rate = value_at(&self.config.learning.learning_rate, update);
        let (images, labels) = self.dataset.train.batch(&self.order.batch(update, self.config.learning.batch));
        seed_torch(seed, update, Purpose::Augmentation);
        let images = augment(images, &self.config.data);
        seed_torch(seed, update, Purpose::DataNoise);
        let images = with_noise(images, self.config.learning.data_noise).to_device(self.device);
        let labels = labels.to_device(self.device);
        let logits = self.program.bind(&self.weights)?.output("logits", &images)?;
        let loss = logits.f_cross_entropy_loss(&labels, None::<&Tensor>, tch::Reduction::Mean, -100, 0.0)?;
        let value = loss.double_value(&[]);
        ensure!(value.is_finite(), "update {}: the loss is {value}: lower learning.learning_rate", update + 1);
        let gradients = of_loss(&loss, &self.weights)?;
        self.adam.step(&mut self.weights, &gradients, learning_rate)?;
        let right = is_right(&logits, &labels)?;
        self.update += 1;
        Ok(vec![("loss", value), ("accuracy", Accuracy::of(&right).accuracy), ("learning_rate", learning_rate)])
    }

    fn update_number(&self) -> u64 {
        self.update
    }

    fn n_updates(&self) -> u64 {
        self.config.learning.updates
    }

    fn output(&self) -> Output {
        self.config.output
    }

    fn header(&self) -> Result<Header> {
        let mut header = Header::new(self.config.network.clone());
        header.config = serde_json::to_value(&self.config).context("cannot write the configuration")?;
        Ok(header)
    }

    fn groups(&self) -> Result<Vec<(&'static str, Tensors)>> {
        Ok(vec![(WEIGHTS, to_host(&self.weights)?), (OPTIMIZER, self.adam.state()?)])
    }

    fn sheet(&self) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn curves(&self) -> &'static [(&'static str, &'static str)] {
        &[("loss", "cross-entropy of training images"), ("accuracy", "accuracy on training images")]
    }
}
