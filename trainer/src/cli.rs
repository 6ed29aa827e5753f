//! What the user can type.

mod evaluate;

use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use ebm_common::files::folder_name;

use crate::config::Source;
use crate::machine::device::DeviceName;

pub use evaluate::{AttackArgs, FidArgs, PotentialChoice, SampleArgs, StartChoice, WeightsChoice};

/// What every `--help` of a command with seeds ends with.
macro_rules! seeds {
    () => {
        "Seeds: learning, sampling and evaluation have a fixed default seed, which is recorded with what they write. What defends \
         (`purify run`, `classify` and `certify`) draws a fresh one and prints it."
    };
}

/// The last lines of `trainer --help`.
const END_OF_HELP: &str = concat!(
    "Exit codes:
  0    done
  1    failed; the message says why, and what to do
  2    wrong usage
  130  stopped by Ctrl-C; the same command, or `trainer resume`, continues

",
    seeds!()
);

/// Learns energy-based models of images, and attacks what they defend.
#[derive(Debug, Parser)]
#[command(name = "trainer", version, about, max_term_width = 120, after_help = END_OF_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Learn an energy network.
    #[command(after_help = concat!("Examples:\n  \
        trainer fit digits-midrun\n  \
        trainer fit digits-shortrun -o runs/shortrun\n  \
        trainer fit digits-prior --generator runs/shortrun -o runs/prior\n  \
        trainer fit digits-longrun --generator runs/shortrun --prior runs/prior\n  \
        trainer fit mnist-midrun-cooperative --data ~/mnist --generator runs/mnist-shortrun --set learning.updates=2000\n  \
        trainer fit my.toml --preset cifar10-midrun-data --data ~/cifar-10-batches-bin --device cuda\n\n", seeds!()))]
    Fit(FitArgs),
    /// Learn a classifier.
    #[command(after_help = concat!("Examples:\n  \
        trainer classifier digits-classifier -o runs/classifier\n  \
        trainer classifier mnist-classifier --data ~/mnist\n\n", seeds!()))]
    Classifier(LearnArgs),
    /// Learn the whole life cycle: classifier, shortrun and its generator, midrun, prior, longrun. Finished stages are kept.
    #[command(after_help = concat!("Examples:\n  \
        trainer life-cycle digits -o runs/digits\n  \
        trainer life-cycle mnist --data ~/mnist -o runs/mnist --set shortrun.learning.updates=2000\n\n\
        After an interruption, the same command continues.\n\n", seeds!()))]
    LifeCycle(LifeCycleArgs),
    /// Continue a run from its newest checkpoint, with the same result as if it had never stopped.
    #[command(after_help = "Examples:\n  \
        trainer resume runs/digits-midrun\n  \
        trainer resume runs/digits-midrun --checkpoint 00000300\n\n\
        If the newest checkpoint is damaged, the newest intact one is taken. Damaged and later checkpoints are put into RUN/aside-1 (or the\n\
        next free number), with the record of the run until then: a run of its own, which can be resumed too.\n\
        The data have to be those that the run began with: their number, labels, names and sizes, and their content too if they are in memory\n\
        or, as files of pictures, not larger than 64 MiB together.")]
    Resume(ResumeArgs),
    /// Time updates of an energy network on this machine. Needs no data and writes nothing: images and borrowed networks are random, which
    /// changes no time.
    #[command(after_help = "Examples:\n  \
        trainer bench digits-midrun\n  \
        trainer bench cifar10-shortrun --set learning.batch=32 --set langevin.steps=20 --threads 2")]
    Bench(BenchArgs),
    /// Attack a classifier, bare and defended by purification: from BPDA to exact gradients through the whole chain, each break confirmed.
    #[command(after_help = concat!("Examples:\n  \
        trainer attack --energy runs/digits-midrun --classifier runs/digits-classifier --epsilon 0.125 \\\n      \
            -o runs/digits-midrun/attack\n  \
        trainer attack --energy runs/energy --classifier runs/classifier --epsilon 8/255 --protocol quick -o quick\n  \
        trainer attack --energy runs/energy --classifier runs/classifier --norm l2 --epsilon 0.5 --attacks bpda,exact -o l2\n\n\
        Distances are of pixels in [0, 1], as in the literature; pixels of presets are in [-1, 1], where the same change has twice the number.\n\
        After an interruption, the same command continues.\n\n", seeds!()))]
    Attack(AttackArgs),
    /// Sample what a run has learned: chains of any length, looked at on the way.
    #[command(after_help = concat!("Examples:\n  \
        trainer sample runs/digits-shortrun -n 256                      # from the generator, with the run's own steps\n  \
        trainer sample runs/digits-longrun -n 5000 --steps 100000 --joint-temperature 1.005 -o long\n  \
        trainer sample runs/digits-midrun --start data --steps 2000 --snapshots 100,1000\n  \
        trainer sample runs/digits-flow --time 1 --steps 50               # a flow: Heun steps of 1/50 from normal noise\n\n\
        OUT holds samples.npz (images of the last snapshot in [-1, 1]; energies and steps of all), snapshots/STEP.png and .npz,\n\
        snapshots.jsonl, energy.svg and sample.json. After an interruption, the same command continues.\n\
        R-hat and ESS (effective sample size) are those of the energy over the second half of the steps so far.\n\n", seeds!()))]
    Sample(SampleArgs),
    /// Fréchet distance between samples and data, on the features of any network.
    #[command(after_help = "Examples:\n  \
        trainer fid --samples runs/digits-longrun/sampled --reference runs/digits-longrun --features runs/digits-classifier --snapshot all\n  \
        trainer fid --samples runs/digits-shortrun/sampled runs/digits-longrun/sampled --snapshot all --plot drift.png \\\n      \
            --reference runs/digits-longrun --features runs/digits-classifier\n  \
        trainer fid --samples samples.npz --reference cifar10-shortrun --data ~/cifar-10-batches-bin --features inception.onnx \\\n      \
            --layer pool --resize 299 --range 0,1\n  \
        trainer fid --samples totensor.npy --samples-range 0,1 --reference runs/digits-longrun --features runs/digits-classifier\n\n\
        Images are npy files, npz files (array `images`, or the only one of rank 4), folders of pictures, folders that `trainer sample` wrote, runs\n\
        (of --samples their bank, of --reference their training images), and for --reference presets (their training images) and npz\n\
        files with mu and sigma. Values on other features, of other numbers of images or other sizes cannot be compared.")]
    Fid(FidArgs),
    /// Look at data before something is learned from them.
    #[command(subcommand)]
    Data(DataCommand),
    /// Write one page about a run, or about all runs in a folder, that opens in any browser and needs nothing beside itself.
    #[command(after_help = "Examples:\n  \
        trainer report runs/digits-midrun\n  \
        trainer report runs/digits -o digits.html")]
    Report(ReportArgs),
    /// Print the completions of a shell.
    Completions {
        /// The shell to complete for.
        shell: Shell,
    },
    /// Print the manual pages, or write them into a folder.
    Man(ManArgs),
    /// List the presets, or print one.
    #[command(
        after_help = "Examples:\n  trainer presets\n  trainer presets digits-midrun > my.toml"
    )]
    Presets {
        /// The preset to print.
        name: Option<String>,
    },
}

impl Command {
    /// What it computes on.
    pub fn device(&self) -> DeviceName {
        let machine = match self {
            Command::Fit(args) => &args.learn.machine,
            Command::Classifier(args) => &args.machine,
            Command::LifeCycle(args) => &args.machine,
            Command::Resume(args) => &args.machine,
            Command::Bench(args) => &args.machine,
            Command::Attack(args) => &args.machine,
            Command::Sample(args) => &args.machine,
            Command::Fid(args) => &args.machine,
            _ => return DeviceName::Cpu,
        };
        machine.device
    }
}

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Say what is in a data set: images, sizes, classes, mean and standard deviation, damaged images and duplicates.
    #[command(after_help = "Examples:\n  \
        trainer data check ~/celeba/img_align_celeba -o celeba.png\n  \
        trainer data check ~/imagenet --source parquet --json > imagenet.json\n  \
        trainer data check celeba64-shortrun --data ~/celeba/img_align_celeba\n  \
        trainer data check digits-midrun\n\n\
        Fails if more images are damaged than allowed, or if the data do not fit the preset.")]
    Check(DataCheckArgs),
}

/// Data to look at.
#[derive(Debug, Args)]
pub struct DataCheckArgs {
    /// A folder of data; or a preset's name or a TOML file, whose images must come out.
    #[arg(value_name = "DIR_OR_PRESET")]
    pub what: String,
    /// Folder of the data files, if a preset is given.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What the files are [default: as the preset says, or as their names say].
    #[arg(long, value_enum)]
    pub source: Option<Source>,
    /// Largest share of damaged images [default: as the preset says, or 0.01].
    #[arg(long, value_name = "SHARE")]
    pub max_damaged: Option<f64>,
    /// The column of pictures in Parquet files [default: as the preset says, or one of a usual name].
    #[arg(long, value_name = "NAME")]
    pub image_column: Option<String>,
    /// The column of labels in Parquet files [default: as the preset says, or one of a usual name].
    #[arg(long, value_name = "NAME")]
    pub label_column: Option<String>,
    /// File of the contact sheet (PNG), from left to right of training and test images.
    #[arg(short, long, value_name = "SHEET")]
    pub output: Option<PathBuf>,
    /// Replace SHEET if it is there already.
    #[arg(long)]
    pub force: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Threads [default: one per core].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, Args)]
pub struct MachineArgs {
    /// Where networks run: cpu, cuda (the first GPU, or of several processes one each) or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Threads [default: one per core]; results do not depend on their number.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// A new run of an energy network.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// What every new run takes.
    #[command(flatten)]
    pub learn: LearnArgs,
    /// The run that learned the fixed generator, or a generator's checkpoint; sets generator.checkpoint.
    #[arg(long, value_name = "RUN")]
    pub generator: Option<PathBuf>,
    /// The run that learned the prior; sets prior.checkpoint.
    #[arg(long, value_name = "RUN")]
    pub prior: Option<PathBuf>,
    /// The run whose weights learning begins with; sets from.checkpoint. Of a denoiser, also give --set from.sigma=σ₀: its energy is then taken
    /// as one of temperature σ₀².
    #[arg(long, value_name = "RUN")]
    pub from: Option<PathBuf>,
}

/// A new run.
#[derive(Debug, Args)]
pub struct LearnArgs {
    /// A preset's name, or a TOML file.
    #[arg(value_name = "PRESET_OR_FILE", required_unless_present = "preset")]
    pub preset_or_file: Option<String>,
    /// A preset that the file changes; the file then needs to hold only what differs.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Folder of the data files.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder of the run [default: runs/NAME].
    #[arg(short, long, value_name = "RUN", value_parser = PathBufValueParser::new().try_map(folder_name))]
    pub output: Option<PathBuf>,
    /// Seed of all random draws [default: as configured]; it is recorded in config.toml.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Override one value, for example langevin.steps=50; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Replace a run that is in the folder already.
    #[arg(long)]
    pub force: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Updates to time.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A preset's name, or a TOML file.
    #[arg(value_name = "PRESET_OR_FILE")]
    pub preset_or_file: String,
    /// Override one value, for example langevin.steps=50; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Updates to time, after one that warms up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub updates: u32,
    /// Write what the first update began from and came to into this folder, so that others can do the same update.
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// Do an update for each line on standard input instead, and answer with its seconds: for benchmarks in which rivals take turns.
    #[arg(long, conflicts_with = "updates")]
    pub on_request: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Five new runs.
#[derive(Debug, Args)]
pub struct LifeCycleArgs {
    /// What the presets of all stages begin with: digits, mnist, cifar10 or cifar10-small.
    pub family: String,
    /// Folder of the data files.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Folder in which each stage has one for its run.
    #[arg(short, long, value_name = "RUN", value_parser = PathBufValueParser::new().try_map(folder_name))]
    pub output: PathBuf,
    /// Seed of all random draws [default: as configured]; it is recorded in each config.toml.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Override one value of a stage that has not begun, for example shortrun.langevin.steps=50; may be repeated.
    #[arg(long, value_name = "STAGE.SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Continue a stage even if the data are not those that it has learned from so far.
    #[arg(long)]
    pub allow_changed_data: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// An old run.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Folder of the run, or one of its checkpoints.
    pub run: PathBuf,
    /// The checkpoint to continue from, as in 00000300, or best [default: the newest intact one]; later ones are put aside.
    #[arg(long, value_name = "UPDATE")]
    pub checkpoint: Option<String>,
    /// Folder of the data files, if they have moved.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Continue even if the data are not those that the run has learned from so far.
    #[arg(long)]
    pub allow_changed_data: bool,
    /// Where to compute.
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// A page.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folder of the run, or of several, such as the life cycle's.
    pub run: PathBuf,
    /// The file [default: report.html in that folder, which is replaced].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace FILE if it is there already.
    #[arg(long)]
    pub force: bool,
}

/// Manual pages.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Folder for a page of each command [default: all pages to standard output].
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace pages that are in the folder already.
    #[arg(long)]
    pub force: bool,
}
