//! Commands: what the user types, what is done, what is printed.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ebm_export::arch::{Network, Sngan};
use ebm_export::checkpoint::{self, EMA, Header, WEIGHTS};
use ebm_export::contract::{Kind, Langevin};
use ebm_export::exported::{Settings, exported_files};
use ebm_export::file::write_whole;
use ebm_export::onnx::{Batch, Inspection, Opset, inspect};
use ebm_export::rewrite::Rewrite;

/// Writes energy networks, and their gradients, as plain ONNX.
#[derive(Parser)]
#[command(name = "export", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Onnx(OnnxArguments),
    Inspect(InspectArguments),
    Init(InitArguments),
}

/// Write a checkpoint as ONNX: energy, gradient and Langevin step, or the classifier.
#[derive(Args)]
#[command(after_help = "Examples:
  export onnx runs/digits -o model             the latest checkpoint of a run, any batch
  export onnx runs/digits -o model --batch 1   for runtimes that want static shapes
  export onnx runs/digits -o raw --raw         the gradient as differentiated, without rewrites")]
struct OnnxArguments {
    /// A checkpoint folder, or a run folder (its latest checkpoint is taken)
    checkpoint: PathBuf,
    /// Folder to write into; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Version of ONNX's operators, 13 to 21
    #[arg(long, default_value_t = Opset::DEFAULT.number())]
    opset: i64,
    /// Fix the batch; without it any batch is taken
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Which weights: their moving average where the checkpoint has one, or as they were learned last
    #[arg(long, value_enum, default_value_t = WeightChoice::Average)]
    weights: WeightChoice,
    /// Apply no rewrites
    #[arg(long, conflicts_with = "rewrites")]
    raw: bool,
    /// Apply only these rewrites, in this order: pool_conv, flip_conv, fold_factor
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    rewrites: Option<Vec<Rewrite>>,
    /// Replace files of an earlier export
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightChoice {
    /// The moving average, or the last weights of a checkpoint that keeps none
    Average,
    /// The weights as they were learned last
    Last,
}

/// Show what an ONNX file says and costs.
#[derive(Args)]
#[command(after_help = "Examples:
  export inspect model/gradient.onnx
  export inspect model/gradient.onnx --json | jq .multiplications_per_image")]
struct InspectArguments {
    /// An ONNX file
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Write a checkpoint of a network with random weights (Glorot uniform, zero biases), for benchmarks and tests.
#[derive(Args)]
#[command(after_help = "Examples:
  export init sngan32 -o checkpoint                the published network, width 256
  export init sngan32 --width 64 -o checkpoint     a narrower one
  export init '{\"name\":\"sngan\",\"image_size\":8,\"channels\":1,\"widths\":[16,16],\"pools\":[true,false],\"activation\":\"silu\"}' -o checkpoint")]
struct InitArguments {
    /// sngan32, sngan64, sngan128, or a description as JSON
    network: String,
    /// Folder of the new checkpoint
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Channels behind the stem; the published ones are 256 of sngan32 and 64 of sngan64 and sngan128
    #[arg(long)]
    width: Option<usize>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Langevin step size ε to recommend
    #[arg(long, default_value_t = 0.01)]
    step_size: f64,
    /// Temperature T to recommend
    #[arg(long, default_value_t = 1e-4)]
    temperature: f64,
    /// Langevin steps K to recommend
    #[arg(long, default_value_t = 100)]
    steps: usize,
}

pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Onnx(arguments) => onnx(&arguments),
        Command::Inspect(arguments) => inspected(&arguments),
        Command::Init(arguments) => init(&arguments),
    }
}

fn onnx(arguments: &OnnxArguments) -> Result<()> {
    ensure!(
        arguments.batch != Some(0),
        "--batch must be at least 1, got 0"
    );
    let settings = Settings {
        opset: Opset::new(arguments.opset).context("--opset")?,
        batch: arguments.batch.map_or(Batch::Symbolic, Batch::Fixed),
        rewrites: match &arguments.rewrites {
            Some(rewrites) => rewrites.clone(),
            None if arguments.raw => Vec::new(),
            None => Rewrite::ALL.to_vec(),
        },
    };
    let folder = checkpoint::resolve(&arguments.checkpoint)?;
    let header = checkpoint::read_header(&folder)?;
    let weights = match arguments.weights {
        WeightChoice::Average => checkpoint::read_best_weights(&folder, &header),
        WeightChoice::Last => checkpoint::read_group(&folder, &header, WEIGHTS),
    }?;
    let files = exported_files(&header, &weights, &settings)
        .with_context(|| format!("cannot export {}", folder.display()))?;
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|file| arguments.output.join(file.name))
        .collect();
    if let Some(existing) = paths.iter().find(|path| path.exists() && !arguments.force) {
        anyhow::bail!(
            "{} exists already; give another folder with -o, or --force to replace it",
            existing.display()
        );
    }
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("cannot make folder {}", arguments.output.display()))?;
    for (file, path) in files.iter().zip(&paths) {
        write_whole(path, &file.bytes)?;
    }
    let which = match (arguments.weights, header.groups.contains_key(EMA)) {
        (WeightChoice::Average, true) => "moving average of the weights",
        _ => "weights",
    };
    print(&format!(
        "{} at update {}, {which}\n{}",
        folder.display(),
        header.update,
        summary(&paths)?
    ))
}

/// One line per file: what it costs and how large it is.
fn summary(paths: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    for path in paths {
        let inspection = inspect(path)?;
        let bytes = std::fs::metadata(path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .len();
        let nodes: usize = inspection
            .operators
            .values()
            .map(|operator| operator.nodes)
            .sum();
        text += &format!(
            "{}: {nodes} operators, {} multiplications per image, {:.2} MB\n",
            path.display(),
            inspection
                .multiplications_per_image
                .map_or("an unknown number of".to_string(), in_millions),
            bytes as f64 / 1e6,
        );
    }
    Ok(text)
}

fn in_millions(count: usize) -> String {
    format!("{:.2} million", count as f64 / 1e6)
}

fn inspected(arguments: &InspectArguments) -> Result<()> {
    let inspection = inspect(&arguments.file)?;
    if arguments.json {
        return print(&(serde_json::to_string_pretty(&inspection)? + "\n"));
    }
    print(&described(&arguments.file, &inspection)?)
}

fn described(file: &Path, inspection: &Inspection) -> Result<String> {
    let mut text = format!("{}\n", file.display());
    text += &match &inspection.contract {
        Some(contract) => format!("contract: {}\n", serde_json::to_string_pretty(contract)?),
        None => "contract: none (not written by this project)\n".to_string(),
    };
    for (title, values) in [
        ("input", &inspection.inputs),
        ("output", &inspection.outputs),
    ] {
        for value in values {
            text += &format!("{title}: {} [{}]\n", value.name, value.shape.join(", "));
        }
    }
    text += &format!(
        "opset: {}\n",
        inspection
            .opset
            .map_or("unknown".to_string(), |opset| opset.to_string())
    );
    text += &format!("parameters: {}\n", inspection.parameters);
    text += &format!(
        "{:<20} {:>6} {:>28}\n",
        "operator", "nodes", "multiplications per image"
    );
    for (name, operator) in &inspection.operators {
        let count = operator
            .multiplications_per_image
            .map_or("unknown".to_string(), |count| count.to_string());
        text += &format!("{name:<20} {:>6} {count:>28}\n", operator.nodes);
    }
    let nodes: usize = inspection
        .operators
        .values()
        .map(|operator| operator.nodes)
        .sum();
    let total = inspection
        .multiplications_per_image
        .map_or("unknown: the file states no shapes".to_string(), |count| {
            count.to_string()
        });
    text += &format!("{:<20} {nodes:>6} {total:>28}\n", "all");
    Ok(text)
}

fn init(arguments: &InitArguments) -> Result<()> {
    let network = match (arguments.network.as_str(), arguments.width) {
        ("sngan32", width) => Network::Sngan(Sngan::sngan32(width.unwrap_or(256))),
        ("sngan64", width) => Network::Sngan(Sngan::sngan64(width.unwrap_or(64))),
        ("sngan128", width) => Network::Sngan(Sngan::sngan128(width.unwrap_or(64))),
        (description, None) => serde_json::from_str(description).with_context(|| {
            format!(
                "expected sngan32, sngan64, sngan128 or a description as JSON, got {description:?}"
            )
        })?,
        (_, Some(_)) => anyhow::bail!(
            "--width belongs to sngan32, sngan64 and sngan128; a description states its widths"
        ),
    };
    ensure!(
        arguments.step_size > 0.0 && arguments.step_size.is_finite(),
        "--step-size must be positive, got {}",
        arguments.step_size
    );
    ensure!(
        arguments.temperature > 0.0 && arguments.temperature.is_finite(),
        "--temperature must be positive, got {}",
        arguments.temperature
    );
    ensure!(arguments.steps > 0, "--steps must be at least 1, got 0");
    let mut header = Header::new(network);
    if header.kind == Kind::Energy {
        header.langevin = Some(Langevin {
            step_size: arguments.step_size,
            temperature: arguments.temperature,
            steps: arguments.steps,
            tau: None,
        });
    }
    let weights = header.network.initial_weights(arguments.seed)?;
    checkpoint::write(&arguments.output, &header, &[(WEIGHTS, &weights)])?;
    let parameters: usize = weights.values().map(|weight| weight.data().len()).sum();
    print(&format!(
        "{}: random weights, {parameters} parameters\n",
        arguments.output.display()
    ))
}

/// Prints; that the reader has gone away (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print"),
    }
}
