//! What a run does: every value of a preset or of a user's TOML file, checked before any work starts.

mod adversarial;
mod chains;
mod check;
mod generator;
mod guard;
mod langevin;
mod layers;
mod matching;
mod objective;
mod presets;
mod schedule;
mod warm_start;

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use ebm_common::named;
use ebm_export::source::networks::Network;
use serde::{Deserialize, Serialize};

pub use adversarial::{AdversarialConfig, Begin, NoiseConfig, Norm};
pub use chains::{BurnInConfig, ChainsConfig, Start};
pub use generator::{BatchNormMode, FixedGenerator, GeneratorConfig, LearnedGenerator};
pub use guard::{EnergyGuard, LossGuard};
pub use langevin::{Dynamics, LangevinConfig, Precision};
pub use layers::Layers;
pub use matching::{MatchingConfig, MatchingLearning};
pub use objective::{
    ContrastConfig, DenoiseObjective, FlowObjective, FlowSampling, Likelihood, LikelihoodObjective,
    Matching, MatchingObjective, Pairs, SigmaDraw, Warming,
};
pub use presets::{PRESETS, Preset, preset};
pub use schedule::Schedule;
pub use warm_start::WarmStart;

use objective::{Named, ObjectiveName};

/// What a configuration describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The learning of an energy network (`trainer fit`).
    Energy,
    /// The learning of a classifier (`trainer classifier`).
    Classifier,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Task::Energy => "an energy network",
            Task::Classifier => "a classifier",
        })
    }
}

/// The learning of an energy network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyConfig {
    /// Always [`Task::Energy`].
    pub kind: Task,
    /// All random draws derive from it.
    pub seed: u64,
    /// What is learned from.
    pub data: DataConfig,
    /// What is learned.
    pub network: Network,
    /// What it learns by.
    #[serde(default, skip_serializing_if = "LikelihoodObjective::is_default")]
    pub objective: LikelihoodObjective,
    /// How weights move.
    pub learning: EnergyLearning,
    /// How chains move while learning.
    pub langevin: LangevinConfig,
    /// Where chains start.
    pub chains: ChainsConfig,
    /// The generator of cooperative starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<GeneratorConfig>,
    /// The bank in which chains burn in, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burn_in: Option<BurnInConfig>,
    /// An energy that was learned before and is part of the potential, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorConfig>,
    /// The run whose weights it begins with, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WarmStart>,
    /// When it counts as diverging, and what is done then.
    pub guard: EnergyGuard,
    /// What is recommended for purification with the result.
    pub purification: Purification,
    /// What is written, and when.
    pub output: Output,
}

/// The learning of a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Always [`Task::Classifier`].
    pub kind: Task,
    /// All random draws derive from it.
    pub seed: u64,
    /// What is learned from.
    pub data: DataConfig,
    /// What is learned.
    pub network: Network,
    /// How weights move.
    pub learning: ClassifierLearning,
    /// The adversary that it learns against, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialConfig>,
    /// The noise that it learns with, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise: Option<NoiseConfig>,
    /// When it counts as diverging, and what is done then.
    pub guard: LossGuard,
    /// What is written, and when.
    pub output: Output,
}

/// A configuration of an energy network, by what that learns by.
#[derive(Clone, Debug)]
pub enum Fit {
    /// Maximum likelihood.
    Likelihood(Box<EnergyConfig>),
    /// Matching.
    Matching(Box<MatchingConfig>),
}

impl Fit {
    /// Reads a configuration that a run has written, and checks its values.
    ///
    /// # Errors
    /// It is not one of this version.
    pub fn of_run(config: &serde_json::Value) -> Result<Fit> {
        let named: Named = serde_json::from_value(config.clone())?;
        Ok(match named.objective.name {
            ObjectiveName::MaximumLikelihood => Fit::Likelihood(Box::new(checked(config)?)),
            ObjectiveName::Matching => Fit::Matching(Box::new(checked(config)?)),
        })
    }

    /// The flow that it learns, if it is one.
    pub fn flow(&self) -> Option<&FlowObjective> {
        match self {
            Fit::Likelihood(_) => None,
            Fit::Matching(config) => config.objective.flow(),
        }
    }

    /// What samples are drawn with.
    pub fn into_chains(self) -> EnergyConfig {
        match self {
            Fit::Likelihood(config) => *config,
            Fit::Matching(config) => config.into_chains(),
        }
    }

    /// What is learned from, and what is learned.
    pub fn into_data(self) -> (DataConfig, Network) {
        match self {
            Fit::Likelihood(config) => (config.data, config.network),
            Fit::Matching(config) => (config.data, config.network),
        }
    }
}

named! {
    "kind of data";
    /// A kind of data set.
    #[derive(Serialize, Deserialize, ValueEnum)]
    #[serde(rename_all = "lowercase")]
    pub enum Source {
        /// The handwritten digits that are bundled with the trainer, 1×8×8.
        #[value(skip)]
        Digits = "digits",
        /// MNIST, Fashion-MNIST and others in the IDX format.
        Idx = "idx",
        /// CIFAR-10 in its binary version, 3×32×32.
        Cifar10 = "cifar10",
        /// CIFAR-100 in its binary version, 3×32×32.
        Cifar100 = "cifar100",
        /// PNG, JPEG and WebP pictures in a folder, or in one folder per class.
        Images = "images",
        /// The same in tar files, as WebDataset has them.
        Tar = "tar",
        /// The same in a column of Parquet files.
        Parquet = "parquet",
        /// What a fixed generator makes; of energies only.
        #[value(skip)]
        Generator = "generator",
    }
}

/// What becomes of pictures that have another size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// All are of the size that is stated.
    Off,
    /// The largest square in the middle, resized.
    Centre,
    /// Another rectangle each time, resized; the square in the middle for testing.
    Random(RandomCrop),
}

/// How random rectangles are drawn: an aspect, then a share of the largest one of that aspect, then its place, each equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Least and largest share of the area of the largest rectangle that fits into the picture.
    pub area: [f64; 2],
    /// Least and largest width over height, drawn by its logarithm.
    pub aspect: [f64; 2],
}

/// Mirroring of training images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mirror {
    /// None.
    Off,
    /// Each image is mirrored left to right with probability one half.
    Half,
}

/// What is learned from. The folder is not part of it: it is given with `--data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The kind of data set.
    pub source: Source,
    /// Labels are below it.
    pub n_classes: usize,
    /// What becomes of pictures of another size than the network's. Only used by `images`, `tar` and `parquet`.
    pub crop: Crop,
    /// Largest share of damaged pictures: up to it they are skipped, beyond it the run stops. Only used by these three.
    pub max_damaged: f64,
    /// The number of pictures that are decoded ahead of their use, and so in memory, however large the set is. Only used by these three.
    pub buffer: usize,
    /// Images held out for testing. Only used where the source has no test files of its own.
    pub n_test: usize,
    /// Seed of that split.
    pub split_seed: u64,
    /// Pixels of background put around each image.
    pub padding: usize,
    /// Training images are shifted by up to this many pixels in each direction.
    pub shift: usize,
    /// Mirroring of training images.
    pub mirror: Mirror,
    /// The column of pictures, unless it has a usual name. Only used by `parquet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_column: Option<String>,
    /// The column of labels, unless it has a usual name. Only used by `parquet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
}

/// A number that may be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or \"off\"")]
pub enum Setting<T = f64> {
    /// In use, with this value.
    On(T),
    /// Written `"off"`.
    Off(Off),
}

/// The word `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Off {
    /// The only one.
    #[serde(rename = "off")]
    Off,
}

impl<T> Setting<T> {
    /// Not in use.
    pub const OFF: Setting<T> = Setting::Off(Off::Off);

    /// The value, if it is in use.
    pub fn value(self) -> Option<T> {
        match self {
            Setting::On(value) => Some(value),
            Setting::Off(_) => None,
        }
    }
}

impl<T: fmt::Display> fmt::Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::On(value) => write!(f, "{value}"),
            Setting::Off(_) => write!(f, "off"),
        }
    }
}

/// An energy network that was learned before and is part of the potential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorConfig {
    /// What the checkpoint holds.
    pub network: Network,
    /// The run that learned it. Empty: it is given with `--prior`.
    pub checkpoint: PathBuf,
    /// T_prior.
    pub temperature: f64,
}

/// The moments of Adam.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
}

/// Gradient descent with momentum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SgdConfig {
    /// Share of the velocity that stays.
    pub momentum: f64,
    /// The gradient of `decay · w²/2` is added to that of the loss.
    pub weight_decay: f64,
}

/// An optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum OptimizerConfig {
    /// Adam.
    Adam(AdamConfig),
    /// Gradient descent with momentum.
    Sgd(SgdConfig),
}

/// How the weights of an energy network move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyLearning {
    /// Updates of the weights.
    pub updates: u64,
    /// Data images, and chains, per update.
    pub batch: usize,
    /// Pairs `[from update, rate]`.
    pub learning_rate: Schedule<f64>,
    /// Adam.
    pub adam: AdamConfig,
    /// Decay of the moving average of the weights; at update u it is at most `(1 + u) / (10 + u)`.
    pub ema_decay: Setting,
    /// Standard deviation σ of the noise that is added to data.
    pub data_noise: f64,
    /// Largest L2 norm of all weight gradients together.
    pub weight_gradient_clip: Setting,
}

/// How the weights of a classifier move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierLearning {
    /// Updates of the weights.
    pub updates: u64,
    /// Images per update.
    pub batch: usize,
    /// Pairs `[from update, rate]`.
    pub learning_rate: Schedule<f64>,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// Standard deviation of the noise that is added to data.
    pub data_noise: f64,
}

/// Recommended for purification.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purification {
    /// Langevin steps.
    pub steps: usize,
    /// ε.
    pub step_size: f64,
    /// T.
    pub temperature: f64,
}

/// What is written, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Updates per line of `metrics.jsonl`.
    pub log_every: u64,
    /// Updates per sample sheet; 0 writes none but the last.
    pub sample_every: u64,
    /// Updates per checkpoint; 0 writes none but the last.
    pub checkpoint_every: u64,
    /// The number of newest checkpoints that are kept. The newest good one and the best one stay in any case.
    pub keep: usize,
}

/// A whole configuration that can be read, checked and written.
pub trait Configuration: Serialize + serde::de::DeserializeOwned {
    /// What such a configuration describes.
    const KIND: Task;
    /// The command that takes it.
    const COMMAND: &'static str;

    /// The kind that stands in it.
    fn kind(&self) -> Task;

    /// Says which value is out of its range.
    ///
    /// # Errors
    /// The first such value: its key, the value, and what is possible.
    fn check(&self) -> Result<()>;
}

/// A configuration that a run has written.
///
/// # Errors
/// It is not one of this version, or a value is out of its range.
pub fn checked<C: Configuration>(config: &serde_json::Value) -> Result<C> {
    let config: C = serde_json::from_value(config.clone())?;
    config.check()?;
    Ok(config)
}

#[cfg(test)]
impl DataConfig {
    /// The bundled digits without augmentation.
    pub(crate) fn digits_for_tests() -> DataConfig {
        DataConfig {
            source: Source::Digits,
            n_classes: 10,
            crop: Crop::Off,
            max_damaged: 0.01,
            buffer: 512,
            n_test: 400,
            split_seed: 0,
            padding: 0,
            shift: 0,
            mirror: Mirror::Off,
            image_column: None,
            label_column: None,
        }
    }
}
