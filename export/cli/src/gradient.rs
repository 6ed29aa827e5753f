//! `ebm-export gradient`.

use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::model::{ModelArguments, name};
use crate::output::OutputFile;
use crate::precision::PrecisionArguments;
use crate::target::RewriteArguments;
use crate::{print, summary};
use ebm_export::transform::reduction::Reduction;
use ebm_export::write::onnx::Opset;
use ebm_export::write::{Export, Form, Names, OwnEnergy};

/// Write the gradient of any energy model as plain ONNX.
#[derive(Args)]
#[command(
    after_help = "The model is one of common operators that any exporter wrote, opset 11 or newer, in any float type; it is read in f32.
Its energy is an output of one number per image, [N] or [N, 1]; axis 0 of its inputs is the batch. A batch that the file fixes stays
fixed, unless --batch says otherwise. With a batch of 1 the energy may be summed over all axes, [] or [1]: nothing is mixed. Weights in files
of their own are looked for beside the model. Further inputs, such as a class or a time step, may hold floats, integers or booleans; they
become inputs of the file. Images with the channels last, as Keras has them, are taken as [N, C, H, W] by the file.

Low energies are likely images: the density is exp(-E/T). With --reduce the energy is made of an output of several numbers per image:
  logsumexp   E = -log(sum of exp(logit)) over the classes: of images of any class (JEM)
  class=K     E = -logit of class K, counted from 0: of images of that class
  sum         E = the sum of all numbers, which are energies themselves: of patches, or of pixels

Written: `energy [N]` and `gradient`, shaped as the input; with --hvp, from a further input `v`, `hvp` = ∂²E/∂x²·v, both shaped alike.
With --steps 1: `x_next`, `energy [N]` and `gradient_norm [N]`, from `x`, `noise`, `step_size` and `temperature`, as the runtime wants it; the
values of x are taken to be in [-1, 1]. With --steps K: the same of K steps, from `noise [K, ..]` to `energy [K, N]` and `gradient_norm [K, N]`.

Examples:
  ebm-export gradient model.onnx -o gradient.onnx
  ebm-export gradient model.onnx -o gradient.onnx --input images --output score
  ebm-export gradient model.onnx -o hvp.onnx --hvp --batch 8
  ebm-export gradient model.onnx -o half.onnx --precision f16 --max-error 0.01
  ebm-export gradient model.onnx -o model/step.onnx --steps 1
  ebm-export gradient classifier.onnx -o model/step.onnx --steps 1 --reduce logsumexp
  ebm-export gradient keras.onnx -o gradient.onnx --image-layout nhwc"
)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    output: OutputFile,
    /// Make an energy of an output of several numbers per image: logsumexp, class=K or sum
    #[arg(long, value_name = "HOW")]
    reduce: Option<Reduction>,
    /// Write the product of the Hessian with a further input `v` beside the gradient
    #[arg(long, conflicts_with = "steps")]
    hvp: bool,
    /// Write the energy under the name that the model has for it as well
    #[arg(long, conflicts_with = "reduce")]
    keep_energy: bool,
    /// Write Langevin dynamics, K steps of it in one run
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
    #[command(flatten)]
    rewrites: RewriteArguments,
    #[command(flatten)]
    precision: PrecisionArguments,
    #[command(flatten)]
    names: NameArguments,
}

#[derive(Args)]
pub(super) struct NameArguments {
    /// Name of the energy
    #[arg(long, value_name = "NAME", value_parser = name, default_value = "energy")]
    energy_name: String,
    /// Name of the gradient
    #[arg(long, value_name = "NAME", value_parser = name, default_value = "gradient")]
    gradient_name: String,
    /// Name of the product of the Hessian with v
    #[arg(long, value_name = "NAME", value_parser = name, default_value = "hvp")]
    hvp_name: String,
    /// Name of v
    #[arg(long, value_name = "NAME", value_parser = name, default_value = "v")]
    v_name: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let opset = arguments.precision.opset(arguments.opset)?;
    arguments.model.batch()?;
    arguments.precision.check()?;
    let (form, export) = (form(arguments), export(arguments, opset));
    export.check(&form)?;
    let images = arguments.precision.images.as_deref();
    let inputs: Vec<&Path> = images
        .into_iter()
        .chain([&*arguments.model.model])
        .collect();
    arguments.output.check(&inputs)?;
    let shown = arguments.model.model.display();
    let mut taken = arguments.model.read()?;
    arguments.output.check_is_none_of(&taken.files())?;
    if let Some(reduction) = arguments.reduce {
        taken.energy = reduction.applied(&taken.energy)?;
    }
    let energy = &taken.energy;
    let model = export
        .model(energy, &form)
        .with_context(|| format!("cannot differentiate {shown}"))?;
    let measured = match arguments.precision.measures() {
        true => arguments.precision.measured(&export.comparison(energy)?)?,
        false => String::new(),
    };
    let file = &arguments.output.file;
    model.save(file)?;
    let what = match arguments.reduce {
        Some(reduction) => format!("energy, {reduction} of"),
        None => "energy".to_string(),
    };
    print(&format!(
        "{}{}{measured}",
        taken.described(&what),
        summary(file, &model)
    ))
}

fn form(arguments: &Arguments) -> Form {
    match (arguments.hvp, arguments.steps) {
        (_, Some(count)) => Form::Steps(count),
        (true, None) => Form::HessianVectorProduct,
        (false, None) => Form::Gradient,
    }
}

fn export(arguments: &Arguments, opset: Opset) -> Export {
    let own_energy = match arguments.keep_energy {
        true => OwnEnergy::Kept,
        false => OwnEnergy::Renamed,
    };
    Export {
        opset,
        rewrites: arguments.rewrites.chosen(arguments.precision.precision),
        precision: arguments.precision.precision,
        clip: arguments.clip.map(f64::from),
        names: Names {
            own_energy,
            ..Names::from(&arguments.names)
        },
        ..Export::default()
    }
}

impl From<&NameArguments> for Names {
    fn from(names: &NameArguments) -> Names {
        Names {
            energy: names.energy_name.clone(),
            gradient: names.gradient_name.clone(),
            hvp: names.hvp_name.clone(),
            v: names.v_name.clone(),
            own_energy: OwnEnergy::Renamed,
        }
    }
}
