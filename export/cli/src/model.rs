//! How commands take and read an ONNX model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use ebm_export::graph::Batch;
use ebm_export::source::Energy;
use ebm_export::source::onnx::{Selection, read_file};
use ebm_export::transform::layout::{ImageLayout, with_channels_first};

/// An ONNX model, and how it is read.
#[derive(Args)]
pub struct ModelArguments {
    /// An ONNX model
    pub model: PathBuf,
    /// Input that takes the images; the only one of floats, or `x`, unless given
    #[arg(long, value_name = "NAME", value_parser = name)]
    input: Option<String>,
    /// Output, or value within, that is taken; the only output, or `energy`, unless given
    #[arg(long, value_name = "NAME", value_parser = name)]
    output: Option<String>,
    /// Fix the batch to a number, or leave it open with `any`
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Extents of the input behind the batch, for models that leave them open
    #[arg(long, value_delimiter = ',', value_name = "C,H,W")]
    shape: Option<Vec<usize>>,
    /// Where the channels of the model's images stand: nchw, or nhwc as Keras has them. The file takes [N, C, H, W] in any case. By what the
    /// model does with them unless given
    #[arg(long, value_name = "LAYOUT")]
    image_layout: Option<ImageLayout>,
}

/// A model that was read, and what was made of it without being asked for.
pub struct Taken {
    pub energy: Energy,
    notes: String,
}

impl ModelArguments {
    /// Reads the model, its images as `[N, C, H, W]`.
    pub fn read(&self) -> Result<Taken> {
        let outputs = self.output.as_deref();
        let selection = Selection {
            outputs: outputs.as_slice(),
            input: self.input.as_deref(),
            image: self.shape.as_deref(),
            batch: self.batch()?,
        };
        let shown = self.model.display();
        let read = || {
            let energy = read_file(&self.model, &selection)?;
            let notes = unused(&energy);
            Ok(self.with_channels_first(Taken { energy, notes })?)
        };
        read().map_err(|error: anyhow::Error| error.context(format!("cannot read {shown}")))
    }

    /// The batch that is asked for.
    pub fn batch(&self) -> Result<Option<Batch>> {
        let Some(text) = &self.batch else {
            return Ok(None);
        };
        match (text.as_str(), text.parse()) {
            ("any", _) => Ok(Some(Batch::Symbolic)),
            (_, Ok(size)) => Ok(Some(Batch::fixed(size).context("--batch")?)),
            (_, Err(_)) => bail!("--batch: expected a number or `any`, got {text:?}"),
        }
    }

    fn with_channels_first(&self, taken: Taken) -> Result<Taken, ebm_export::Error> {
        let layout = match self.image_layout {
            Some(layout) => layout,
            None => ImageLayout::of(&taken.energy)?,
        };
        if layout == ImageLayout::Nchw {
            return Ok(taken);
        }
        let Taken { energy, mut notes } = taken;
        let transposed = with_channels_first(&energy)?;
        if self.image_layout.is_none() {
            notes += &format!(
                "input {:?} {} has the channels last: the file takes {}; --image-layout nchw leaves it as it is\n",
                energy.input,
                shape_of_input(&energy),
                shape_of_input(&transposed)
            );
        }
        Ok(Taken {
            energy: transposed,
            notes,
        })
    }
}

impl Taken {
    /// What was read, in a line, and what was made of it unasked.
    pub fn described(&self, what: &str) -> String {
        let energy = &self.energy;
        let weights = energy.weights.values();
        let weights: usize = weights.map(|weight| weight.data().len()).sum();
        let (opset, producer) = match energy.model() {
            Some(model) => (model.opset, model.producer.as_str()),
            None => (0, ""),
        };
        format!(
            "{what} {:?} of input {:?}, opset {opset}, {weights} weights, by {}\n{}",
            energy.output,
            energy.input,
            match producer {
                "" => "an unnamed program",
                producer => producer,
            },
            self.notes
        )
    }

    /// The files that the model consists of.
    pub fn files(&self) -> Vec<&Path> {
        let files = self.energy.model().map(|model| &model.files);
        files.into_iter().flatten().map(PathBuf::as_path).collect()
    }
}

fn unused(energy: &Energy) -> String {
    let line = |name: &String| {
        let output = &energy.output;
        format!("input {name:?} is left out: nothing of {output:?} needs it\n")
    };
    let unused = energy.model().map(|model| &model.unused_inputs);
    unused.into_iter().flatten().map(line).collect()
}

fn shape_of_input(energy: &Energy) -> String {
    let input = energy.graph.input_named(&energy.input);
    input.map_or(String::new(), |input| energy.graph.shape(input).to_string())
}

/// A name of a value of a model: ONNX has none that is empty.
pub fn name(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err(format!("expected a name, got {text:?}")),
        false => Ok(text.to_string()),
    }
}
