//! What can be asked about what was learned: attacks, samples and distances.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ebm_common::FloatRange;
use ebm_common::files::folder_name;
use serde::Serialize;

use super::MachineArgs;
use crate::config::Norm;
use crate::evaluate::attack::{Attack, Axis, PixelDistance, Protocol};
use crate::evaluate::frechet::SnapshotChoice;
use crate::evaluate::sampling::Snapshots;

/// An attack.
#[derive(Debug, Args)]
pub struct AttackArgs {
    /// The energy that purifies: a run, a checkpoint, or an ONNX file that maps images in [-1, 1] to one energy each. Without it the classifier is
    /// attacked as it is.
    #[arg(long, value_name = "RUN|ONNX")]
    pub energy: Option<PathBuf>,
    /// The classifier: a run or a checkpoint, whose test images are attacked; or an ONNX file from images in [-1, 1] to logits [N, classes].
    #[arg(long, value_name = "RUN|ONNX")]
    pub classifier: PathBuf,
    /// The labelled images to attack: a folder of data, or a preset, with --data [default: the test images of the classifier's run].
    #[arg(long, value_name = "DIR|PRESET")]
    pub images: Option<String>,
    /// Another classifier of the same images, for example one that was learned adversarially: a line of the table; may be repeated.
    #[arg(long = "baseline", value_name = "RUN|ONNX")]
    pub baselines: Vec<PathBuf>,
    /// Bound ε of the change, of pixels in [0, 1]: a number, or a fraction such as 8/255.
    #[arg(long, value_name = "DISTANCE")]
    pub epsilon: PixelDistance,
    /// How the change is measured.
    #[arg(long, value_enum, default_value_t = Norm::Linf)]
    pub norm: Norm,
    /// How thoroughly to look; the options below change its values one by one.
    #[arg(long, value_enum, default_value_t = Protocol::Standard)]
    pub protocol: Protocol,
    /// The attacks, with commas between [default: those of the protocol].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ATTACK,…")]
    pub attacks: Vec<Attack>,
    /// Images to attack: the first N [default: those of the protocol].
    #[arg(short, value_name = "N")]
    pub n: Option<usize>,
    /// Curves to draw under the strongest attack, with commas between [default: those of the protocol].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "AXIS,…")]
    pub curves: Vec<Axis>,
    /// Number of first images that meet every attack; the others only until they are broken.
    #[arg(long, value_name = "IMAGES")]
    pub in_all: Option<usize>,
    /// Steps of an attack.
    #[arg(long)]
    pub pgd_steps: Option<usize>,
    /// Length of each step, of pixels in [0, 1] [default: ε/4].
    #[arg(long, value_name = "DISTANCE")]
    pub pgd_step_size: Option<PixelDistance>,
    /// Purifications per image and step over which the gradient is averaged.
    #[arg(long)]
    pub replicas: Option<usize>,
    /// Fresh purifications whose vote confirms a break.
    #[arg(long)]
    pub verify_replicas: Option<usize>,
    /// Megabytes that the states of chains may take on their way back; with fewer, only every √K-th is kept.
    #[arg(long, value_name = "MB", default_value_t = 2_000)]
    pub memory: u64,
    /// Langevin steps of a purification [default: as the energy recommends].
    #[arg(long)]
    pub steps: Option<usize>,
    /// Langevin step size of a purification [default: as the energy recommends].
    #[arg(long)]
    pub step_size: Option<f64>,
    /// Temperature of a purification [default: as the energy recommends].
    #[arg(long)]
    pub temperature: Option<f64>,
    /// Seed of the attack; it is recorded in attack.json.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seed of the verification; it has to differ from that of the attack.
    #[arg(long, default_value_t = 1001)]
    pub verify_seed: u64,
    /// Images per evaluation of a network.
    #[arg(long, default_value_t = 400)]
    pub batch: usize,
    /// Folder of the data files, if they have moved.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the results; `trainer report RUN` shows them if it is RUN/attack.
    #[arg(short, long, value_name = "OUT", value_parser = PathBufValueParser::new().try_map(folder_name))]
    pub output: PathBuf,
    /// Replace results that are in the folder already.
    #[arg(long)]
    pub force: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A sample of what a run has learned.
#[derive(Debug, Args)]
pub struct SampleArgs {
    /// Run or checkpoint of an energy network.
    pub run: PathBuf,
    /// Number of chains.
    #[arg(short, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub n: usize,
    /// Langevin steps [default: those of the run's last update]; of a flow, Heun steps [default: as its preset says].
    #[arg(long, value_name = "STEPS")]
    pub steps: Option<u64>,
    /// When the samples of a flow end, which begins at 0 and reaches data at 1 [default: as its preset says].
    #[arg(long, value_name = "TIME")]
    pub time: Option<f64>,
    /// Steps whose images are kept beside the last: decades (1, 10, 100, …), end (none), or steps with commas between.
    #[arg(long, default_value = "decades")]
    pub snapshots: Snapshots,
    /// What chains start from [default: the run's generator if it has one, else as it learned].
    #[arg(long, value_enum)]
    pub start: Option<StartChoice>,
    /// What chains descend.
    #[arg(long, value_enum, default_value_t = PotentialChoice::Whole)]
    pub potential: PotentialChoice,
    /// T of the energy [default: the run's]; of a flow, T from time 1 on, 0 for no noise.
    #[arg(long)]
    pub temperature: Option<f64>,
    /// The whole potential is divided by it.
    #[arg(long, value_name = "T_JOINT", default_value_t = 1.0)]
    pub joint_temperature: f64,
    /// ε [default: the run's].
    #[arg(long)]
    pub step_size: Option<f64>,
    /// Which weights of the energy and of a generator that was learned with it.
    #[arg(long, value_enum, default_value_t = WeightsChoice::Ema)]
    pub weights: WeightsChoice,
    /// Seed of starts and noise; it is recorded in sample.json.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of the data files, if chains start from data that have moved.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the sample [default: RUN/sampled].
    #[arg(short, long, value_name = "OUT", value_parser = PathBufValueParser::new().try_map(folder_name))]
    pub output: Option<PathBuf>,
    /// Replace another sample that is in the folder already.
    #[arg(long)]
    pub force: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// What chains start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartChoice {
    /// Images of the run's generator.
    Generator,
    /// Uniform noise; of a flow, normal noise.
    Noise,
    /// Images that the run learned from.
    Data,
}

/// What chains descend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PotentialChoice {
    /// What the run descended while it learned: the energy, with its prior and Gaussian term if it has them.
    Whole,
    /// The energy alone.
    Energy,
}

/// Which weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsChoice {
    /// Their moving average, if there is one.
    Ema,
    /// As they were learned.
    Raw,
}

/// A Fréchet distance.
#[derive(Debug, Args)]
pub struct FidArgs {
    /// The images to judge; several are judged in turn.
    #[arg(long, value_name = "NPY|NPZ|DIR|RUN", required = true, num_args = 1..)]
    pub samples: Vec<PathBuf>,
    /// The images to compare them with.
    #[arg(long, value_name = "NPY|NPZ|DIR|RUN|PRESET")]
    pub reference: PathBuf,
    /// The network whose features are compared: an ONNX file, or the run of a classifier.
    #[arg(long, value_name = "ONNX|RUN")]
    pub features: PathBuf,
    /// The value of that network that is taken, one of its outputs or any within [default: its only output; of a classifier what its last layer takes].
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// The number of samples to take, from the first on [default: all]; the reference is taken whole.
    #[arg(short, value_name = "N", value_parser = positive)]
    pub n: Option<usize>,
    /// Resize images to S × S, bilinear with antialiasing.
    #[arg(long, value_name = "S", value_parser = positive)]
    pub resize: Option<usize>,
    /// The values of a black and a white pixel that the network expects [default: -1,1].
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub range: Option<Vec<f64>>,
    /// The values of a black and a white pixel in samples that are floating-point numbers of an npy or npz file [default: -1,1].
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    pub samples_range: Option<FloatRange>,
    /// The same of the reference.
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    pub reference_range: Option<FloatRange>,
    /// The mean, of all channels or of each, that the network expects to be taken off pixels of that range.
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub mean: Vec<f64>,
    /// The standard deviation by which it then expects them to be divided.
    #[arg(long, value_delimiter = ',')]
    pub std: Vec<f64>,
    /// Of a folder that `trainer sample` wrote, or of its samples.npz: the last snapshot, all, or that of a step.
    #[arg(long, value_name = "last|all|STEP", default_value = "last")]
    pub snapshot: SnapshotChoice,
    /// Draw the distances over the steps of the chains into this file, a curve for each of --samples.
    #[arg(long, value_name = "SVG|PNG", value_parser = picture)]
    pub plot: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long, requires = "plot")]
    pub force: bool,
    /// Folder of the data files, if the reference is a preset or has moved.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON; `trainer report RUN` shows it if it is in RUN/fid.json.
    #[arg(long)]
    pub json: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(OsStr::to_str) {
        Some("svg" | "png") => Ok(path),
        _ => Err("expected a file that ends in .svg or .png".to_string()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number above 0".to_string()),
    }
}
