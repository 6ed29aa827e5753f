//! `ebm-export onnx`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, ensure};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::output::{check_is_none_of, check_output, files_of};
use crate::precision::PrecisionArguments;
use crate::target::RewriteArguments;
use crate::triton::TritonArguments;
use crate::{print, summary};
use ebm_common::files::folder_name;
use ebm_common::staged::Staged;
use ebm_common::target::Existing;
use ebm_export::graph::Batch;
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::{self, EMA, GENERATOR, GENERATOR_EMA, Header, WEIGHTS};
use ebm_export::transform::langevin::Steps;
use ebm_export::transform::potential::{Potential, Prior, read_potential};
use ebm_export::write::triton::{Content, RepositoryFile, Served, repository};
use ebm_export::write::{Export, ModelFile, file_names};

/// Write a checkpoint as ONNX: energy, gradient and Langevin step, with the generator that made the starts of its chains, if one did; or the
/// classifier or generator that it is.
#[derive(Args)]
#[command(after_help = "Examples:
  ebm-export onnx runs/digits -o model             the latest checkpoint of a run, any batch
  ebm-export onnx runs/digits -o model --batch 1   for runtimes that want static shapes
  ebm-export onnx runs/digits -o model --target tract           in the forms that are fast on tract
  ebm-export onnx runs/digits -o raw --raw         the gradient as differentiated, without rewrites
  ebm-export onnx runs/digits -o half --precision f16 --max-error 0.01
  ebm-export onnx runs/digits -o repository --layout triton --classifier runs/classifier    for Triton Inference Server
  ebm-export onnx runs/longrun -o model            a step down what it was learned with, E/T + E_prior/T_prior + ‖x‖²/(2τ²)
  ebm-export onnx runs/digits -o model --prior runs/prior --tau 0.15    the same of networks that were learned apart")]
pub struct Arguments {
    /// A checkpoint folder, or a run folder (its latest checkpoint is taken)
    checkpoint: PathBuf,
    /// Folder to write into; made if it is not there
    #[arg(short, long, value_name = "DIR", value_parser = PathBufValueParser::new().try_map(folder_name))]
    output: PathBuf,
    /// Version of ONNX's operators, 13 to 22; 17 unless given, 22 for bf16
    #[arg(long)]
    opset: Option<i64>,
    /// Fix the batch; without it any batch is taken
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Which weights: their moving average if the checkpoint has one, or as they were learned last
    #[arg(long, value_enum, default_value_t = WeightChoice::Average)]
    weights: WeightChoice,
    #[command(flatten)]
    rewrites: RewriteArguments,
    /// Add the energy of this checkpoint, divided by its own temperature, to what the files descend; without it, the prior that the
    /// energy was learned beside, if it was
    #[arg(long, value_name = "CHECKPOINT")]
    prior: Option<PathBuf>,
    /// Temperature of the prior; without it, the one that the prior was learned with
    #[arg(long, value_name = "T", requires = "prior")]
    prior_temperature: Option<f64>,
    /// Add ‖x‖²/(2τ²), or `none`; without it, the term with which the checkpoint was learned, if it has one
    #[arg(long, value_name = "TAU")]
    tau: Option<Tau>,
    /// Shorten the drift (ε²/2)·∇U of a step to this L2 norm per image
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// Langevin steps that step.onnx takes in one run, for engines on which a run is slow to start; the noise is then `[K, N, C, H, W]`
    #[arg(long, value_name = "K", default_value_t = 1)]
    steps_per_run: usize,
    #[command(flatten)]
    precision: PrecisionArguments,
    /// What to write: the model's files, or a model repository of Triton Inference Server with a purifier that batches requests
    #[arg(long, value_enum, default_value_t = Layout::Files)]
    layout: Layout,
    #[command(flatten)]
    triton: TritonArguments,
    /// Replace files of an earlier export
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Layout {
    /// energy.onnx, gradient.onnx and step.onnx, perhaps with generator.onnx; or classifier.onnx; or generator.onnx
    Files,
    /// A folder for each model: purifier, and with --classifier, classifier and defended_classifier
    Triton,
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightChoice {
    /// The moving average, or the last weights of a checkpoint that keeps none
    Average,
    /// The weights as they were learned last
    Last,
}

/// The deviation of the Gaussian term.
#[derive(Clone, Copy)]
struct Tau(Option<f64>);

impl FromStr for Tau {
    type Err = String;

    fn from_str(text: &str) -> Result<Tau, String> {
        match text {
            "none" => Ok(Tau(None)),
            number => number
                .parse()
                .map(|tau| Tau(Some(tau)))
                .map_err(|_| format!("expected a number or none, got {number:?}")),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let (mut export, batch) = (export(arguments)?, batch(arguments)?);
    arguments.precision.check()?;
    let folder = checkpoint::resolve(&arguments.checkpoint)?;
    let header = checkpoint::read_header(&folder)?;
    export.potential = Some(potential(arguments, &folder, &header)?);
    let served = match arguments.layout {
        Layout::Files => {
            arguments.triton.refuse()?;
            None
        }
        Layout::Triton => {
            ensure!(
                arguments.steps_per_run == 1,
                "--steps-per-run is for step.onnx; give --steps for --layout triton"
            );
            Some(arguments.triton.served(&header, batch, &export)?)
        }
    };
    check_outputs(arguments, &folder, &names(&header, served.as_ref()))?;
    let weights = match arguments.weights {
        WeightChoice::Average => checkpoint::read_best_weights(&folder, &header),
        WeightChoice::Last => checkpoint::read_group(&folder, &header, WEIGHTS),
    }?;
    let shown = format!("cannot export {}", folder.display());
    let energy = Energy {
        batch,
        ..Energy::of_network(&header, &weights).context(shown.clone())?
    };
    let files = match &served {
        None => model_files(arguments, &folder, &energy, &export),
        Some(served) => repository(&energy, &export, served),
    };
    let files = files.context(shown)?;
    let measured = match arguments.precision.measures() {
        true => arguments.precision.measured(&export.comparison(&energy)?)?,
        false => String::new(),
    };
    write(&arguments.output, &files)?;
    let which = match (arguments.weights, header.groups.contains_key(EMA)) {
        (WeightChoice::Average, true) => "moving average of the weights",
        _ => "weights",
    };
    let lines: String = files
        .iter()
        .map(|file| line(&arguments.output, file))
        .collect();
    print(&format!(
        "{} at update {}, {which}\n{}{measured}",
        folder.display(),
        header.update,
        lines
    ))
}

fn batch(arguments: &Arguments) -> Result<Batch> {
    let fixed = arguments.batch.map_or(Ok(Batch::Symbolic), Batch::fixed);
    fixed.context("--batch")
}

/// All but what the checkpoint says.
fn export(arguments: &Arguments) -> Result<Export> {
    let steps = Steps {
        count: arguments.steps_per_run,
        clip: None,
    };
    steps.check().context("--steps-per-run")?;
    Ok(Export {
        opset: arguments.precision.opset(arguments.opset)?,
        rewrites: arguments.rewrites.chosen(arguments.precision.precision),
        precision: arguments.precision.precision,
        clip: arguments.clip,
        ..Export::default()
    })
}

/// The files of the network, and of the generator that the checkpoint holds beside it.
fn model_files(
    arguments: &Arguments,
    folder: &Path,
    energy: &Energy,
    export: &Export,
) -> Result<Vec<RepositoryFile>, ebm_export::Error> {
    let mut files = export.files(energy, arguments.steps_per_run)?;
    let header = energy.header();
    if let Some((header, network)) =
        header.and_then(|header| Some((header, header.generator.as_ref()?)))
    {
        let averaged = header.groups.contains_key(GENERATOR_EMA);
        let group = match (arguments.weights, averaged) {
            (WeightChoice::Average, true) => GENERATOR_EMA,
            _ => GENERATOR,
        };
        let weights = checkpoint::read_group(folder, header, group)?;
        let generator = Energy {
            batch: energy.batch,
            ..Energy::of_network(&Header::new(network.clone()), &weights)?
        };
        let export = Export {
            potential: None,
            clip: None,
            ..export.clone()
        };
        files.extend(export.files(&generator, 1)?);
    }
    Ok(in_a_folder(files))
}

/// Names of the files to write.
fn names(header: &Header, served: Option<&Served>) -> Vec<String> {
    match served {
        Some(served) => served.paths(),
        None => std::iter::once(&header.network)
            .chain(&header.generator)
            .flat_map(|network| file_names(network.kind()))
            .map(|name| (*name).to_string())
            .collect(),
    }
}

fn in_a_folder(files: Vec<ModelFile>) -> Vec<RepositoryFile> {
    let named = |file: ModelFile| RepositoryFile {
        path: file.name.to_string(),
        content: Content::Model(Box::new(file.model)),
    };
    files.into_iter().map(named).collect()
}

fn write(output: &Path, files: &[RepositoryFile]) -> Result<()> {
    let mut staged = Staged::default();
    for file in files {
        let path = output.join(&file.path);
        staged.make_folder(path.parent().unwrap_or(output))?;
        staged.write(&path, |out| file.content.write_to(out))?;
    }
    Ok(staged.publish()?)
}

/// What is said of a file.
fn line(output: &Path, file: &RepositoryFile) -> String {
    let path = output.join(&file.path);
    match &file.content {
        Content::Model(model) => summary(&path, model),
        Content::Bytes(bytes) if bytes.is_empty() => String::new(),
        Content::Bytes(bytes) => format!("{}: {} bytes\n", path.display(), bytes.len()),
    }
}

/// What the files descend.
fn potential(arguments: &Arguments, folder: &Path, header: &Header) -> Result<Potential> {
    let mut potential = read_potential(folder, header)?;
    if let Some(Tau(tau)) = arguments.tau {
        potential.tau = tau;
    }
    if let Some(path) = &arguments.prior {
        potential.prior = Some(prior(path, arguments.prior_temperature)?);
    }
    Ok(potential)
}

fn prior(path: &Path, temperature: Option<f64>) -> Result<Prior> {
    let folder = checkpoint::resolve(path).context("--prior")?;
    let header = checkpoint::read_header(&folder).context("--prior")?;
    let learned = header.langevin.as_ref();
    let temperature = temperature
        .or(learned.map(|langevin| langevin.temperature))
        .with_context(|| {
            format!(
                "{} does not state the temperature that it was learned with; give --prior-temperature",
                folder.display()
            )
        })?;
    Ok(Prior {
        weights: checkpoint::read_best_weights(&folder, &header).context("--prior")?,
        network: header.network,
        temperature,
    })
}

/// Refuses what stands in the way of the files, and to replace what is read, before any work starts.
fn check_outputs(arguments: &Arguments, folder: &Path, names: &[String]) -> Result<()> {
    let output = &arguments.output;
    ensure!(
        !output.is_file(),
        "{} is a file, expected a folder; give another name with -o",
        output.display()
    );
    let prior = arguments.prior.as_deref().map(checkpoint::resolve);
    let prior = prior.transpose().context("--prior")?;
    let others = [
        arguments.triton.classifier.as_deref(),
        arguments.precision.images.as_deref(),
    ];
    let read = [Some(folder), prior.as_deref()].into_iter().chain(others);
    let inputs: Vec<PathBuf> = read.flatten().flat_map(files_of).collect();
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    for path in names.iter().map(|name| output.join(name)) {
        check_output(&path, Existing::of(arguments.force))?;
        check_is_none_of(&path, &inputs)?;
    }
    Ok(())
}
