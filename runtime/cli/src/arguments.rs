//! The arguments as they are typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ebm_runtime::{
    Backend, Model, ModelFolder, PictureColours, PictureCrop, PictureFit, Purifier,
    PurifierBuilder, Seed, Verification,
};

use crate::certify::CertifyArguments;
use crate::dataset::FloatRange;

/// Purifies images with an energy-based model.
#[derive(Parser)]
#[command(
    name = "purify",
    version,
    max_term_width = 100,
    after_help = "Exit codes:
  0  all is done
  1  nothing could be done, or the work had to stop: the message says why
  2  the arguments are wrong
  3  the work is done, but some images could not be read or purified"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Purify images into a folder
    Run(RunArguments),
    /// Classify images, bare and through purification
    Classify(ClassifyArguments),
    /// Certify images by randomised smoothing: the radius within which no change has another class
    Certify(Box<CertifyArguments>),
    /// Print the contract of the models in a folder
    Info(InfoArguments),
    /// Measure how long purification takes on this machine
    Bench(BenchArguments),
    /// List the backends, with the reason where one is missing
    Backends(BackendsArguments),
    /// Print the completions of a shell
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
    /// Print the manual page
    Man(ManArguments),
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify run photo.png --model model -o cleaned
  purify run training-set/ --model model -o cleaned --batch 32
  purify run training-set/ --model model -o again --seed 7   the noise of a run that printed `seed 7`
  purify run training-set/ --model model -o cleaned --filter-top 10%   only the tenth of highest energy
  purify run 'photos/**/*.webp' --model model -o cleaned --sheet sheet.png
  purify run photos/ --model model -o cleaned --crop centre --colour     pictures of any size and colour
  purify run data_batch_1.bin x.npz train-images-idx3-ubyte.gz --model model -o cleaned
  purify run photo.png --model model -o cleaned --replicas 8     writes photo-r0.png … photo-r7.png
  purify run - --model model -o - < photo.png > cleaned.png

Files: PNG, JPEG and WebP pictures; npy arrays and all fitting arrays of npz files, u8 or f32, [N,C,H,W] or [N,H,W,C]; \
IDX (MNIST), plain or gzip; CIFAR's binary batches. A file of many images is written as one file of its kind and name, with \
its labels and other arrays as they were. PNG and WebP stay what they are, without loss; JPEG pictures become NAME.png, since \
JPEG would blur what was purified (--format same keeps them). Values of f32 are clamped to their range.

Pictures are seen as viewers show them: upright as their Exif notes say, on white, with 8 bits a channel. Those of another \
size or colour than the model's are refused unless --crop, --resize or --colour is given. Truncated files and animations \
are refused.

Folders are searched for *.png, *.jpg, *.jpeg, *.webp, *.npy, *.npz, *.idx, *idx3-ubyte (plain or .gz) and CIFAR's *.bin, \
sorted by name, and keep their tree below OUT. Links are followed; hidden files and what systems put beside data are passed over. \
The noise of an image depends on its place in that list and on the seed, not \
on batch, threads or backend. Whoever knows the seed knows the noise, and can attack through it: each run draws a fresh one. \
A file of many images that cannot be read has one place.

An interrupted run goes on where it stopped when the same command is given again, and ends with the same files. \
OUT/.purify.jsonl keeps the settings and what was done; other settings, another list or another model are refused. A folder \
whose run is complete takes further runs as long as their files have other names.

Pictures that cannot be read or purified are reported and left out; images of a file of many stay in it as they were. The \
exit code then is 3, or 1 where all failed. `purify --help` lists all exit codes.

Memory: the list of names, and images of at most 256 MiB at a time beside the model, however many there are.")]
pub struct RunArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Folder for the purified images, made where it does not exist; `-` writes one file to standard output
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Independent purifications of each image; several are written as NAME-r0.png, NAME-r1.png, …
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        allow_negative_numbers = true
    )]
    pub replicas: usize,
    /// Copy each original beside its purified images, as NAME-original.png
    #[arg(long)]
    pub keep_originals: bool,
    /// Purify only the P % of the images of highest energy, and write the others unchanged
    #[arg(long, value_name = "P%", allow_negative_numbers = true)]
    pub filter_top: Option<Percent>,
    /// Instead of purifying, encode the images as JPEG of this quality (1 to 100) and decode them: the free baseline
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u8).range(1..=100), allow_negative_numbers = true, conflicts_with = "replicas")]
    pub jpeg: Option<u8>,
    /// What JPEG pictures are written as
    #[arg(long, value_enum, default_value_t = OutputFormat::Lossless, conflicts_with = "jpeg")]
    pub format: OutputFormat,
    /// Write a sheet of the first images to this PNG file: before, after, difference
    #[arg(long, value_name = "FILE.png", value_parser = png)]
    pub sheet: Option<PathBuf>,
    /// Images of the sheet
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), requires = "sheet")]
    pub sheet_images: u16,
    /// Factor of the differences in the sheet
    #[arg(
        long,
        value_name = "K",
        default_value_t = 4.0,
        allow_negative_numbers = true,
        requires = "sheet"
    )]
    pub sheet_gain: f32,
    /// Print one line of JSON for the settings, each image and the summary, with energies before and after
    #[arg(long)]
    pub json: bool,
    /// Start afresh and replace files that exist in OUT, and the sheet
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub purification: PurificationArguments,
}

#[derive(Args)]
#[command(after_help = "Example:
  purify classify photos/ --model model --replicas 32 --json answers.json

Takes the same files as `purify run`. Prints one line for each image, separated by tabs: file, class without defence,
class with it, share of the replicas that agree. The images of a file of many are FILE#0, FILE#1, …")]
pub struct ClassifyArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Independent purifications of each image, over which the logits are averaged
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        allow_negative_numbers = true
    )]
    pub replicas: usize,
    /// Write the answers, with logits, to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Replace the file of answers if it exists
    #[arg(long, requires = "json")]
    pub force: bool,
    #[command(flatten)]
    pub purification: PurificationArguments,
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify man | man -l -
  purify man -o ~/.local/share/man/man1")]
pub struct ManArguments {
    /// Folder for one page each for `purify` and its commands, instead of all on standard output
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace pages that exist
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// What a JPEG picture becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// PNG, which keeps every pixel as it was purified
    Lossless,
    /// JPEG of quality 95 under the same name
    Same,
}

/// A share above 0 and up to 100 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text).trim().parse();
        match number {
            Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(Self(percent)),
            _ => Err("expected a number above 0 and up to 100, as in 10%".into()),
        }
    }
}

#[derive(Args)]
#[command(after_help = "Example:
  purify info --model model --json | jq .step.purification")]
pub struct InfoArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Print the contracts as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify bench --model model
  purify bench --model model --backend ort --batch 1,8,64 --threads 1,2,4 --json latency.json

A sample is a run of all steps of a batch; p50, p95 and p99 are over samples. Before anything is timed, the chains
must stay finite and a batch must give what its images give one by one.")]
pub struct BenchArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Numbers of images that are purified together
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<usize>,
    /// Numbers of threads
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2")]
    pub threads: Vec<usize>,
    /// Langevin steps of a sample
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub steps: usize,
    /// Seconds for each batch on each number of threads
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Replace the file of figures if it exists
    #[arg(long, requires = "json")]
    pub force: bool,
    /// Answer lines on standard input with single samples of the first batch and number of threads
    #[arg(long, hide = true)]
    pub on_request: bool,
    #[command(flatten)]
    pub backend: BackendArguments,
}

#[derive(Args)]
pub struct BackendsArguments {
    /// Shared library of ONNX Runtime [default: ORT_DYLIB_PATH, beside this program, the cache of `cargo xtask setup`, the system's]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

#[derive(Args)]
pub struct ImageArguments {
    /// Files of images, folders that are searched for them, or patterns with `*`, `?` and `**`; `-` is standard input
    #[arg(required = true, value_name = "IMAGES_OR_FOLDER")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArguments,
    /// Values of the darkest and the brightest pixel in f32 arrays, as in 0,1 [default: -1,1]
    #[arg(long, value_name = "LOW,HIGH", value_parser = float_range, allow_hyphen_values = true)]
    pub range: Option<FloatRange>,
    /// Pictures of another size: cut the largest part of the model's aspect, and resize it
    #[arg(long, value_name = "PART", value_enum, num_args = 0..=1, default_missing_value = "centre")]
    pub crop: Option<Part>,
    /// Pictures of another size: resize the whole picture, whatever its aspect, or the part that --crop cuts
    #[arg(long)]
    pub resize: bool,
    /// Make grey pictures coloured for a model of coloured images, and coloured ones grey for a model of grey images
    #[arg(long, visible_alias = "color")]
    pub colour: bool,
}

/// Which part of a picture is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The largest one in the middle, as `data.crop = "centre"` of the trainer
    #[value(alias = "center")]
    Centre,
}

impl ImageArguments {
    /// What becomes of pictures of other sizes and colours.
    pub fn fit(&self) -> PictureFit {
        let crop = match (self.crop, self.resize) {
            (Some(Part::Centre), _) => PictureCrop::Centre,
            (None, true) => PictureCrop::Resize,
            (None, false) => PictureCrop::Off,
        };
        let colours = match self.colour {
            true => PictureColours::Converted,
            false => PictureColours::Kept,
        };
        PictureFit { crop, colours }
    }
}

/// A name that says what is written under it.
fn png(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("expected a name that ends in .png".into()),
    }
}

fn float_range(text: &str) -> Result<FloatRange, String> {
    let parsed = text.split_once(',').and_then(|(low, high)| {
        let number = |text: &str| text.trim().parse::<f32>().ok();
        Some((number(low)?, number(high)?))
    });
    let (low, high) = parsed.ok_or("expected two numbers with a comma between, as in 0,1")?;
    FloatRange::new(low, high).map_err(|error| error.to_string())
}

#[derive(Args)]
#[command(next_help_heading = "Purification (by default as the model recommends)")]
pub struct PurificationArguments {
    /// Number of Langevin steps
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Step size ε, which is also the noise's standard deviation
    #[arg(long, value_name = "ε", allow_negative_numbers = true)]
    pub step_size: Option<f64>,
    /// Temperature T
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Largest L2 norm of an image's drift (ε²/2T)·∇E
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip: Option<f64>,
    /// Seed of the noise, to repeat a run; by default one that nobody knows, which is printed
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Number of threads; all of the machine's by default
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Images that run together; changes the speed only
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub backend: BackendArguments,
}

#[derive(Args)]
pub struct ModelArguments {
    /// Folder with step.onnx, as `ebm-export onnx` writes it
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
    /// Take files that were changed after they were exported
    #[arg(long)]
    pub no_verify: bool,
}

impl ModelArguments {
    /// The files that the models are read from.
    pub fn files(&self) -> [PathBuf; 2] {
        ["step.onnx", "classifier.onnx"].map(|name| self.model.join(name))
    }

    /// The models of the folder.
    pub fn open(&self) -> ebm_runtime::Result<ModelFolder> {
        ModelFolder::open_with(&self.model, self.verification())
    }

    /// Whether files must be as they were exported.
    pub fn verification(&self) -> Verification {
        match self.no_verify {
            true => Verification::None,
            false => Verification::Hash,
        }
    }
}

#[derive(Args)]
#[command(next_help_heading = "Backend")]
pub struct BackendArguments {
    /// What runs the model: auto (the first of native, tract and ort that takes it), native, tract, ort, ort-cuda, ort-tensorrt, ort-xnnpack, ort-coreml or ort-directml
    #[arg(long, value_name = "NAME", default_value_t)]
    pub backend: Backend,
    /// Shared library of ONNX Runtime for the backends ort… [default: ORT_DYLIB_PATH, beside this program, the cache of `cargo xtask setup`, the system's]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Let parts of the model that a backend ort-… does not know run on the CPU
    #[arg(long)]
    pub allow_fallback: bool,
    /// Number of the card for backends that run on one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: u32,
    /// Folder in which ort-tensorrt keeps its engines, so that only the first start is slow
    #[arg(long, value_name = "DIR")]
    pub engine_cache: Option<PathBuf>,
    /// Let ort-tensorrt compute in f16
    #[arg(long)]
    pub f16: bool,
}

impl BackendArguments {
    /// The backend with its settings.
    pub fn backend(&self) -> Backend {
        let mut backend = self.backend.clone().with_device(self.device);
        if let Some(library) = &self.onnxruntime {
            backend = backend.with_library(library);
        }
        if self.allow_fallback {
            backend = backend.allow_fallback();
        }
        if let Some(folder) = &self.engine_cache {
            backend = backend.with_cache(folder);
        }
        if self.f16 {
            backend = backend.with_f16();
        }
        backend
    }
}

impl PurificationArguments {
    /// The seed that was given, or a fresh one.
    pub fn seed(&self) -> ebm_runtime::Result<Seed> {
        self.seed.map_or_else(Seed::fresh, |seed| Ok(seed.into()))
    }

    /// The purifier of the model with these settings.
    pub fn purifier(&self, model: &Model) -> PurifierBuilder {
        self.adjust(Purifier::builder(model))
    }

    /// A purifier with these settings, as far as they are given.
    pub fn adjust(&self, builder: PurifierBuilder) -> PurifierBuilder {
        let mut builder = builder.backend(self.backend.backend());
        if let Some(steps) = self.steps {
            builder = builder.steps(steps);
        }
        if let Some(step_size) = self.step_size {
            builder = builder.step_size(step_size);
        }
        if let Some(temperature) = self.temperature {
            builder = builder.temperature(temperature);
        }
        if let Some(clip) = self.clip {
            builder = builder.clip(clip);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads);
        }
        if let Some(batch) = self.batch {
            builder = builder.batch(batch);
        }
        builder
    }
}
