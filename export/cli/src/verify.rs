//! `ebm-export verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::gradient::NameArguments;
use crate::model::name;
use crate::print;
use ebm_export::check::images;
use ebm_export::check::verify::{Check, Claims, Naming, Settings, Truth, Verification, verify};
use ebm_export::source::onnx::Selection;
use ebm_export::write::Names;

/// Check that an ONNX file computes what it claims, in f64.
#[derive(Args)]
#[command(
    after_help = "The file, which may come from any exporter, is evaluated with the built-in f64 interpreter: slow and obviously right. What is looked at follows from its outputs:
  gradient     against central differences of its `energy` along random directions
  hvp          against differences of its `gradient` along `v`
  x_next       what the step went down, against differences of its `energy`; of several steps, against single ones down its energy's derivative
  all else     energies or logits, for which --against is needed
With --against also against the values and derivatives of that model or checkpoint, which is differentiated as it is, without rewrites.

Errors are relative, in the L2 norm, per image. Where they are above --max-error, or fewer than half of the images decide, the exit code is 1.
Networks of ReLUs or maxima have kinks, where they have no derivative. Steps of differences get shorter until those to both sides agree up to a quarter of
--max-error; an image where they never do, or where the model of --against itself jumps within 1e-6 by as much as it is off, does not decide.
Weights are rounded to f32, and so are products of them that the exporter computed: two files of one network differ by about 1e-7 even in f64. A file whose weights
are f16 or bf16 needs --max-error 1e-2.

Examples:
  ebm-export verify gradient.onnx
  ebm-export verify gradient.onnx --against model.onnx --images images.safetensors --batch 8
  ebm-export verify model/step.onnx --against runs/digits --json"
)]
pub struct Arguments {
    /// An ONNX file: gradient, Hessian-vector product, Langevin steps, energy or classifier
    file: PathBuf,
    /// A forward model as ONNX, or a checkpoint or run folder
    #[arg(long, value_name = "MODEL_OR_CHECKPOINT")]
    against: Option<PathBuf>,
    /// Output of the model of --against that is its energy or logits; the only one, or `energy`, unless given
    #[arg(long, value_name = "NAME", value_parser = name, requires = "against")]
    against_output: Option<String>,
    /// Input of the model of --against; the one that the file has too, the only one, or `x`, unless given
    #[arg(long, value_name = "NAME", value_parser = name, requires = "against")]
    against_input: Option<String>,
    /// The checkpoint of the prior, if the file descends one too
    #[arg(long, value_name = "CHECKPOINT", requires = "against")]
    prior: Option<PathBuf>,
    /// A safetensors file with a tensor `x` [n, C, H, W] of f32 or f64; without it images are uniform in [-1, 1]
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// Number of images
    #[arg(long, value_name = "N", default_value_t = 2)]
    batch: usize,
    /// Seed of images, noise and directions: fixed unless given, and stated in the report
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Largest relative error that passes
    #[arg(long, value_name = "E", default_value_t = 1e-4)]
    max_error: f64,
    /// Input that is differentiated by; the only one besides noise, step size, temperature and v, or `x`, unless given
    #[arg(long, value_name = "NAME", value_parser = name)]
    input: Option<String>,
    /// Output of a forward model; the only one, or `energy`, unless given
    #[arg(long, value_name = "NAME", value_parser = name)]
    output: Option<String>,
    /// Extents of the input behind the batch, for models that leave them open
    #[arg(long, value_delimiter = ',', value_name = "C,H,W")]
    shape: Option<Vec<usize>>,
    #[command(flatten)]
    names: NameArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let settings = settings(arguments)?;
    let naming = Naming {
        input: arguments.input.clone(),
        output: arguments.output.clone(),
        derivatives: Names::from(&arguments.names),
        image: arguments.shape.clone(),
    };
    let images = arguments.images.as_deref();
    let images = images.map(images::read).transpose()?;
    let shown = arguments.file.display();
    let claims =
        Claims::read(&arguments.file, &naming).with_context(|| format!("cannot read {shown}"))?;
    let truth = arguments.against.as_deref();
    let truth = truth
        .map(|path| truth_of(path, arguments, &claims))
        .transpose()?;
    let report = verify(&claims, truth.as_ref(), images.as_ref(), &settings)
        .with_context(|| format!("cannot verify {shown}"))?;
    match arguments.json {
        true => print(&(serde_json::to_string_pretty(&report)? + "\n"))?,
        false => print(&table(&arguments.file, &report))?,
    }
    let failed = report.checks.iter().filter(|check| !check.passes).count();
    ensure!(
        report.passes,
        "{shown} is not what it claims: {failed} of {} checks failed",
        report.checks.len()
    );
    Ok(())
}

fn settings(arguments: &Arguments) -> Result<Settings> {
    ensure!(
        (1..=1024).contains(&arguments.batch),
        "--batch: expected from 1 to 1024 images, got {}",
        arguments.batch
    );
    let max_error = arguments.max_error;
    ensure!(
        max_error > 0.0 && max_error.is_finite(),
        "--max-error: expected a positive number, got {max_error}"
    );
    Ok(Settings {
        count: arguments.batch,
        seed: arguments.seed,
        max_error,
    })
}

/// What the file is compared with.
fn truth_of(path: &Path, arguments: &Arguments, claims: &Claims) -> Result<Truth> {
    let outputs = arguments.against_output.as_deref();
    let naming = Selection {
        input: arguments.against_input.as_deref(),
        outputs: outputs.as_slice(),
        image: arguments.shape.as_deref(),
        ..Selection::default()
    };
    Truth::read(path, &naming, claims, arguments.prior.as_deref())
        .with_context(|| format!("cannot read {}", path.display()))
}

fn table(file: &Path, report: &Verification) -> String {
    let mut text = format!(
        "{}: {}, {} images, seed {}, errors up to {:.1e} pass\n{:<26} {:<36} {:>9} {:>9} {:>9}\n",
        file.display(),
        report.kind,
        report.images,
        report.seed,
        report.max_error,
        "output",
        "against",
        "median",
        "worst",
        "decided"
    );
    for check in &report.checks {
        text += &line(check, report.images);
    }
    text
}

fn line(check: &Check, images: usize) -> String {
    let shown = |error: Option<f64>| error.map_or("-".to_string(), |error| format!("{error:.1e}"));
    format!(
        "{:<26} {:<36} {:>9} {:>9} {:>9} {}\n",
        check.output,
        check.against,
        shown(check.median),
        shown(check.worst),
        format!("{}/{images}", check.decided),
        if check.passes { "ok" } else { "FAILED" }
    )
}
