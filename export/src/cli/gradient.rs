//! `ebm-export gradient`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::foreign::{batch, check_place, check_room, described};
use super::precision::PrecisionArguments;
use super::target::TargetChoice;
use super::{print, summary};
use crate::derived::{Derivation, EnergyOutput, Names, Request, comparison, derived_file};
use crate::exported::Settings;
use crate::file::Staged;
use crate::langevin::Steps;
use crate::onnx::read::{Selection, read_file};
use crate::rewrite::Rewrite;

/// Write the gradient of any energy model as plain ONNX.
#[derive(Args)]
#[command(
    after_help = "The model is one of common operators that any exporter wrote, opset 11 or newer, in any float type; it is read in f32.
Its energy is an output of one number per image, [N] or [N, 1]; axis 0 of its inputs is the batch. A batch that the file fixes stays
fixed, unless --batch says otherwise. Weights in files of their own are looked for beside the model.

Written: `energy [N]` and `gradient`, shaped as the input; with --hvp, from a further input `v`, `hvp` = ∂²E/∂x²·v, both shaped alike.
With --steps 1: `x_next`, `energy [N]` and `gradient_norm [N]`, from `x`, `noise`, `step_size` and `temperature`, as the runtime wants it; the
values of x are taken to be in [-1, 1]. With --steps K: the same of K steps, from `noise [K, ..]` to `energy [K, N]` and `gradient_norm [K, N]`.

Examples:
  ebm-export gradient model.onnx -o gradient.onnx
  ebm-export gradient model.onnx -o gradient.onnx --input images --output score
  ebm-export gradient model.onnx -o hvp.onnx --hvp --batch 8
  ebm-export gradient model.onnx -o half.onnx --precision f16 --max-error 0.01
  ebm-export gradient model.onnx -o model/step.onnx --steps 1"
)]
pub struct Arguments {
    /// An ONNX model
    model: PathBuf,
    /// File to write
    #[arg(short = 'o', value_name = "FILE")]
    file: PathBuf,
    /// Input to differentiate with respect to; the only one, or `x`, unless given
    #[arg(long, value_name = "NAME")]
    input: Option<String>,
    /// Output, or value within, that is the energy; the only output, or `energy`, unless given
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Write the product of the Hessian with a further input `v` beside the gradient
    #[arg(long, conflicts_with = "steps")]
    hvp: bool,
    /// Write the energy under the name that the model has for it as well
    #[arg(long)]
    keep_energy: bool,
    /// Write Langevin dynamics, so many steps of it in one run
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
    /// Limit the L2 norm of each image's drift (ε²/(2T))·∇E
    #[arg(
        long,
        value_name = "LENGTH",
        requires = "steps",
        allow_negative_numbers = true
    )]
    clip: Option<f32>,
    /// Version of ONNX's operators, 13 to 22; 17 unless given, 22 for bf16
    #[arg(long)]
    opset: Option<i64>,
    /// Fix the batch to a number, or leave it open with `any`
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Extents of the input behind the batch, for models that leave them open
    #[arg(long, value_delimiter = ',', value_name = "C,H,W")]
    shape: Option<Vec<usize>>,
    /// What the file is to be fast on
    #[arg(long, value_enum, default_value_t = TargetChoice::Cpu)]
    target: TargetChoice,
    /// Apply no rewrites
    #[arg(long, conflicts_with = "rewrites")]
    raw: bool,
    /// Apply only these rewrites, in this order
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    rewrites: Option<Vec<Rewrite>>,
    /// Replace the file of an earlier export
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    precision: PrecisionArguments,
    #[command(flatten)]
    names: NameArguments,
}

#[derive(Args)]
pub(super) struct NameArguments {
    /// Name of the energy
    #[arg(long, value_name = "NAME", default_value = "energy")]
    energy_name: String,
    /// Name of the gradient
    #[arg(long, value_name = "NAME", default_value = "gradient")]
    gradient_name: String,
    /// Name of the product of the Hessian with v
    #[arg(long, value_name = "NAME", default_value = "hvp")]
    hvp_name: String,
    /// Name of v
    #[arg(long, value_name = "NAME", default_value = "v")]
    v_name: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let opset = arguments.precision.opset(arguments.opset)?;
    match arguments.force {
        true => check_place(&arguments.file, &arguments.model)?,
        false => check_room(&arguments.file, &arguments.model)?,
    }
    let selection = Selection {
        output: arguments.output.as_deref(),
        input: arguments.input.as_deref(),
        image: arguments.shape.as_deref(),
    };
    let shown = arguments.model.display();
    let foreign =
        read_file(&arguments.model, &selection).with_context(|| format!("cannot read {shown}"))?;
    let batch = batch(arguments.batch.as_deref(), &foreign)?;
    let settings = Settings {
        opset,
        batch,
        rewrites: match &arguments.rewrites {
            Some(rewrites) => rewrites.clone(),
            None if arguments.raw => Vec::new(),
            None => arguments
                .precision
                .rewrites(arguments.target.target(), batch),
        },
        precision: arguments.precision.precision,
        ..Settings::default()
    };
    let model = derived_file(&foreign, &request(arguments), &settings)
        .with_context(|| format!("cannot differentiate {shown}"))?;
    let measured = match arguments.precision.measures() {
        true => {
            let comparison = comparison(&foreign, &settings)?;
            arguments
                .precision
                .measured(&comparison, &BTreeMap::new())?
        }
        false => String::new(),
    };
    let mut staged = Staged::default();
    staged.write(&arguments.file, |out| model.write_to(out))?;
    staged.publish()?;
    print(&format!(
        "{}\n{}{measured}",
        described("energy", &foreign),
        summary(&arguments.file, &model)
    ))
}

fn request(arguments: &Arguments) -> Request {
    Request {
        derivation: match (arguments.hvp, arguments.steps) {
            (_, Some(count)) => Derivation::Steps(Steps {
                count,
                clip: arguments.clip,
            }),
            (true, None) => Derivation::HessianVectorProduct,
            (false, None) => Derivation::Gradient,
        },
        energy: match arguments.keep_energy {
            true => EnergyOutput::OwnNameToo,
            false => EnergyOutput::Renamed,
        },
        names: Names::from(&arguments.names),
    }
}

impl From<&NameArguments> for Names {
    fn from(names: &NameArguments) -> Names {
        Names {
            energy: names.energy_name.clone(),
            gradient: names.gradient_name.clone(),
            hvp: names.hvp_name.clone(),
            v: names.v_name.clone(),
        }
    }
}
