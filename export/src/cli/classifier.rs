//! `ebm-export classifier`.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use clap::Args;

use super::foreign::{batch, check_place, check_room, described};
use super::target::TargetChoice;
use super::{print, summary};
use crate::classifier::{Pixels, classifier_file};
use crate::exported::Settings;
use crate::file::Staged;
use crate::onnx::Opset;
use crate::onnx::read::{Selection, read_file};

/// Make any ONNX classifier one that the runtime defends.
#[derive(Args)]
#[command(
    after_help = "The model is one of common operators that any exporter wrote, opset 11 or newer; it takes images [N, C, H, W] and gives numbers [N, classes].
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
    /// An ONNX model
    model: PathBuf,
    /// File to write
    #[arg(short = 'o', value_name = "FILE")]
    file: PathBuf,
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
    /// Input that takes the images; the only one, or `x`, unless given
    #[arg(long, value_name = "NAME")]
    input: Option<String>,
    /// Output that gives the logits; the only one, unless given
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
    /// Extents of the images, for models that leave them open
    #[arg(long, value_delimiter = ',', value_name = "C,H,W")]
    shape: Option<Vec<usize>>,
    /// Fix the batch to a number, or leave it open with `any`
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Version of ONNX's operators, 13 to 22
    #[arg(long, default_value_t = Opset::DEFAULT.number())]
    opset: i64,
    /// What the file is to be fast on
    #[arg(long, value_enum, default_value_t = TargetChoice::Cpu)]
    target: TargetChoice,
    /// Replace the file of an earlier export
    #[arg(long)]
    force: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match arguments.force {
        true => check_place(&arguments.file, &arguments.model)?,
        false => check_room(&arguments.file, &arguments.model)?,
    }
    let shown = arguments.model.display();
    let selection = Selection {
        output: arguments.output.as_deref(),
        input: arguments.input.as_deref(),
        image: arguments.shape.as_deref(),
    };
    let foreign =
        read_file(&arguments.model, &selection).with_context(|| format!("cannot read {shown}"))?;
    let settings = Settings {
        opset: Opset::new(arguments.opset)?,
        batch: batch(arguments.batch.as_deref(), &foreign)?,
        rewrites: arguments.target.target().rewrites(),
        ..Settings::default()
    };
    let pixels = Pixels {
        range: arguments.range,
        mean: arguments.mean.clone(),
        std: arguments.std.clone(),
    };
    let model = classifier_file(&foreign, &pixels, &settings)
        .with_context(|| format!("cannot take {shown} as a classifier"))?;
    let mut staged = Staged::default();
    staged.write(&arguments.file, |out| model.write_to(out))?;
    staged.publish()?;
    print(&format!(
        "{}\n{}",
        described("logits", &foreign),
        summary(&arguments.file, &model)
    ))
}

fn range(text: &str) -> Result<[f64; 2]> {
    let numbers = text.split_once(',').and_then(|(low, high)| {
        let number = |text: &str| text.trim().parse().ok();
        Some([number(low)?, number(high)?])
    });
    numbers.ok_or_else(|| anyhow!("expected two numbers with a comma between, as in 0,1"))
}
