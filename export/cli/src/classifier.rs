//! `ebm-export classifier`.

use anyhow::{Context, Result, anyhow};
use clap::Args;

use crate::model::ModelArguments;
use crate::output::OutputFile;
use crate::target::TargetArgument;
use crate::{print, summary};
use ebm_export::transform::pixels::{Pixels, classifier};
use ebm_export::write::onnx::Opset;
use ebm_export::write::{Export, Form};

/// Make any ONNX classifier one that the runtime defends.
#[derive(Args)]
#[command(
    after_help = "The model is one of common operators that any exporter wrote, opset 11 or newer; it takes images [N, C, H, W], or [N, H, W, C] as Keras has them, and gives numbers [N, classes].
Written is `x [N, C, H, W]` with values in [-1, 1] to `logits [N, classes]`, with a contract; put it as classifier.onnx beside a step.onnx for
images of the same shape, and `purify classify` and the runtime's DefendedClassifier purify what it sees.

--range, --mean and --std say which pixel values the model was trained on; what they do becomes a part of the written model.

Examples:
  ebm-export classifier resnet20.onnx -o model/classifier.onnx                     it takes [-1, 1] itself
  ebm-export classifier net.onnx -o model/classifier.onnx --range 0,1
  ebm-export classifier imagenet.onnx -o model/classifier.onnx --range 0,1 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  ebm-export classifier net.onnx -o model/classifier.onnx --shape 3,32,32 --output scores"
)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    output: OutputFile,
    /// Values of a black and a white pixel as the model takes them
    #[arg(
        long,
        value_name = "LOW,HIGH",
        value_parser = range,
        allow_hyphen_values = true,
        default_value = "-1,1"
    )]
    range: [f64; 2],
    /// What the model's training subtracted from pixels: one number, or one for each channel
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    mean: Vec<f64>,
    /// What it divided them by thereafter: one number, or one for each channel
    #[arg(long, value_delimiter = ',')]
    std: Vec<f64>,
    /// Version of ONNX's operators, 13 to 22
    #[arg(long, default_value_t = Opset::DEFAULT.number())]
    opset: i64,
    #[command(flatten)]
    target: TargetArgument,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let opset = Opset::new(arguments.opset)?;
    arguments.model.batch()?;
    arguments.output.check(&[&arguments.model.model])?;
    let shown = arguments.model.model.display();
    let taken = arguments.model.read()?;
    arguments.output.check_is_none_of(&taken.files())?;
    let export = Export {
        opset,
        rewrites: arguments.target.target.rewrites(),
        ..Export::default()
    };
    let pixels = Pixels {
        range: arguments.range,
        mean: arguments.mean.clone(),
        std: arguments.std.clone(),
    };
    let model = classifier(&taken.energy, &pixels)
        .and_then(|classifier| export.model(&classifier, &Form::Forward))
        .with_context(|| format!("cannot take {shown} as a classifier"))?;
    let file = &arguments.output.file;
    model.save(file)?;
    print(&format!(
        "{}{}",
        taken.described("logits"),
        summary(file, &model)
    ))
}

fn range(text: &str) -> Result<[f64; 2]> {
    let numbers = text.split_once(',').and_then(|(low, high)| {
        let number = |text: &str| text.trim().parse().ok();
        Some([number(low)?, number(high)?])
    });
    numbers.ok_or_else(|| anyhow!("expected two numbers with a comma between, as in 0,1"))
}
