//! Commands: what the user types, what is done, what is printed.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use ebm_export::arch::{Network, Sngan};
use ebm_export::checkpoint::{self, EMA, Header, WEIGHTS};
use ebm_export::contract::{Contract, FORMAT_VERSION, Kind, Langevin, Purification};
use ebm_export::exported::{Settings, exported_files, file_names};
use ebm_export::file::write_all_whole;
use ebm_export::onnx::{Batch, Inspection, Opset, inspect, inspect_bytes};
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
    /// Apply only these rewrites, in this order: simplify, fold_affine, pool_conv, flip_conv, share
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
    let settings = Settings {
        opset: Opset::new(arguments.opset).context("--opset")?,
        batch: arguments
            .batch
            .map_or(Ok(Batch::Symbolic), Batch::fixed)
            .context("--batch")?,
        rewrites: match &arguments.rewrites {
            Some(rewrites) => rewrites.clone(),
            None if arguments.raw => Vec::new(),
            None => Rewrite::ALL.to_vec(),
        },
    };
    let folder = checkpoint::resolve(&arguments.checkpoint)?;
    let header = checkpoint::read_header(&folder)?;
    check_room(arguments, &header)?;
    let weights = match arguments.weights {
        WeightChoice::Average => checkpoint::read_best_weights(&folder, &header),
        WeightChoice::Last => checkpoint::read_group(&folder, &header, WEIGHTS),
    }?;
    let files = exported_files(&header, &weights, &settings)
        .with_context(|| format!("cannot export {}", folder.display()))?;
    let files: Vec<(PathBuf, Vec<u8>)> = files
        .into_iter()
        .map(|file| (arguments.output.join(file.name), file.bytes))
        .collect();
    let whole: Vec<(&Path, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
        .collect();
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("cannot make folder {}", arguments.output.display()))?;
    write_all_whole(&whole)?;
    let which = match (arguments.weights, header.groups.contains_key(EMA)) {
        (WeightChoice::Average, true) => "moving average of the weights",
        _ => "weights",
    };
    print(&format!(
        "{} at update {}, {which}\n{}",
        folder.display(),
        header.update,
        summary(&files)?
    ))
}

/// Refuses what stands in the way of the files, before any work starts.
fn check_room(arguments: &OnnxArguments, header: &Header) -> Result<()> {
    let output = &arguments.output;
    ensure!(
        !output.is_file(),
        "{} is a file, expected a folder; give another name with -o",
        output.display()
    );
    for path in file_names(&header.network)
        .iter()
        .map(|name| output.join(name))
    {
        let path_shown = path.display();
        ensure!(
            !path.is_dir(),
            "{path_shown} is a folder, expected a file or nothing; give another folder with -o"
        );
        ensure!(
            !path.exists() || arguments.force,
            "{path_shown} exists already; give another folder with -o, or --force to replace it"
        );
    }
    Ok(())
}

/// One line per file: what it costs and how large it is.
fn summary(files: &[(PathBuf, Vec<u8>)]) -> Result<String> {
    let line = |(path, bytes): &(PathBuf, Vec<u8>)| {
        let inspection = inspect_bytes(bytes).map_err(anyhow::Error::msg)?;
        let nodes: usize = inspection
            .operators
            .values()
            .map(|operator| operator.nodes)
            .sum();
        let count = inspection
            .multiplications_per_image
            .map_or("an unknown number of".to_string(), in_millions);
        let megabytes = bytes.len() as f64 / 1e6;
        Ok(format!(
            "{}: {nodes} operators, {count} multiplications per image, {megabytes:.2} MB\n",
            path.display()
        ))
    };
    files.iter().map(line).collect()
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
        Some(contract) => format!(
            "contract: {}{}\n",
            serde_json::to_string_pretty(contract)?,
            foreign(contract)
        ),
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
    let number =
        |count: Option<usize>| count.map_or("unknown".to_string(), |count| count.to_string());
    text += &format!(
        "opset: {}\n",
        inspection
            .opset
            .map_or("unknown".to_string(), |opset| opset.to_string())
    );
    text += &format!("parameters: {}\n", number(inspection.parameters));
    text += &format!("stored values: {}\n", number(inspection.stored_values));
    text += &format!(
        "{:<20} {:>6} {:>28}\n",
        "operator", "nodes", "multiplications per image"
    );
    for (name, operator) in &inspection.operators {
        text += &format!(
            "{name:<20} {:>6} {:>28}\n",
            operator.nodes,
            number(operator.multiplications_per_image)
        );
    }
    let nodes: usize = inspection
        .operators
        .values()
        .map(|operator| operator.nodes)
        .sum();
    text += &format!(
        "{:<20} {nodes:>6} {:>28}\n",
        "all",
        number(inspection.multiplications_per_image)
    );
    if inspection.multiplications_per_image.is_none() {
        text +=
            "unknown: the file does not state all shapes, or has operators that are not counted\n";
    }
    Ok(text)
}

/// A remark on a contract that this version does not understand.
fn foreign(contract: &serde_json::Value) -> String {
    match serde_json::from_value::<Contract>(contract.clone()) {
        Ok(contract) if contract.format_version == FORMAT_VERSION => String::new(),
        Ok(contract) => format!(
            "\n(of format_version {}, this program knows {FORMAT_VERSION})",
            contract.format_version
        ),
        Err(error) => format!("\n(not a contract that this program knows: {error})"),
    }
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
    let mut header = Header::new(network);
    if header.kind == Kind::Energy {
        let InitArguments {
            step_size,
            temperature,
            steps,
            ..
        } = *arguments;
        header.langevin = Some(Langevin {
            step_size,
            temperature,
            steps,
            tau: None,
        });
        header.purification = Some(Purification {
            step_size,
            temperature,
            steps,
        });
    }
    header.check().map_err(anyhow::Error::msg)?;
    ensure!(
        !arguments.output.exists(),
        "{} exists already; give another name with -o",
        arguments.output.display()
    );
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
