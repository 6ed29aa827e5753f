//! The arguments as they are typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ebm_runtime::{Backend, Model, Purifier, PurifierBuilder};

/// Purifies images with an energy-based model.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Purify PNG images into a folder
    Run(RunArguments),
    /// Classify PNG images, bare and through purification
    Classify(ClassifyArguments),
    /// Print the contract of the models in a folder
    Info(InfoArguments),
    /// Measure how long purification takes on this machine
    Bench(BenchArguments),
    /// List the backends, with the reason where one is missing
    Backends(BackendsArguments),
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify run photo.png --model model -o cleaned
  purify run training-set/ --model model -o cleaned --seed 7 --batch 32
  purify run photo.png --model model -o cleaned --replicas 8     writes photo-r0.png … photo-r7.png

Folders are searched for *.png, sorted by name, and keep their tree below OUT. The noise of an image depends on
its place in that list and on the seed, not on batch, threads or backend. Files that cannot be read are reported
and left out; the exit code then is 1.")]
pub struct RunArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Folder for the purified images; made where it does not exist
    #[arg(short, long, value_name = "OUT")]
    pub output: PathBuf,
    /// Independent purifications of each image; several are written as NAME-r0.png, NAME-r1.png, …
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub replicas: usize,
    /// Replace files that exist in OUT
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub purification: PurificationArguments,
}

#[derive(Args)]
#[command(after_help = "Example:
  purify classify photos/ --model model --replicas 32 --json answers.json

Prints one line for each image, separated by tabs: file, class without defence, class with it, share of the
replicas that agree.")]
pub struct ClassifyArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Independent purifications of each image, over which the logits are averaged
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub replicas: usize,
    /// Write the answers, with logits, to this file too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    #[command(flatten)]
    pub purification: PurificationArguments,
}

#[derive(Args)]
#[command(after_help = "Example:
  purify info --model model --json | jq .step.purification")]
pub struct InfoArguments {
    /// Folder with step.onnx, as `export onnx` writes it
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
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
    /// Folder with step.onnx, as `export onnx` writes it
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
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
    /// Answer lines on standard input with single samples of the first batch and number of threads
    #[arg(long, hide = true)]
    pub on_request: bool,
    #[command(flatten)]
    pub backend: BackendArguments,
}

#[derive(Args)]
pub struct BackendsArguments {
    /// Shared library of ONNX Runtime, before ORT_DYLIB_PATH and the system's
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

#[derive(Args)]
pub struct ImageArguments {
    /// PNG files, or folders that are searched for them
    #[arg(required = true, value_name = "IMAGES_OR_FOLDER")]
    pub paths: Vec<PathBuf>,
    /// Folder with step.onnx, as `export onnx` writes it
    #[arg(short, long, value_name = "DIR")]
    pub model: PathBuf,
}

#[derive(Args)]
#[command(next_help_heading = "Purification (by default as the model recommends)")]
pub struct PurificationArguments {
    /// Number of Langevin steps
    #[arg(long, value_name = "K")]
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
    /// Seed of the noise
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
    /// Number of threads; all of the machine's by default
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Images that run together; changes the speed only
    #[arg(long, value_name = "N")]
    pub batch: Option<usize>,
    #[command(flatten)]
    pub backend: BackendArguments,
}

#[derive(Args)]
#[command(next_help_heading = "Backend")]
pub struct BackendArguments {
    /// What runs the model: tract, ort, ort-cuda, ort-tensorrt, ort-xnnpack, ort-coreml or ort-directml
    #[arg(long, value_name = "NAME", default_value_t)]
    pub backend: Backend,
    /// Shared library of ONNX Runtime for the backends ort…, before ORT_DYLIB_PATH and the system's
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
    /// The purifier of the model with these settings.
    pub fn purifier(&self, model: &Model) -> PurifierBuilder {
        let mut builder = Purifier::builder(model)
            .seed(self.seed)
            .backend(self.backend.backend());
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
