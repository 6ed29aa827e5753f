//! Which images a command reads, and how.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use ebm_runtime::{ImageShape, PictureColours, PictureCrop, PictureFit};
use serde_json::{Value, json};

use super::ModelArguments;
use crate::dataset::FloatRange;

#[derive(Args)]
pub struct ImageArguments {
    /// Files of images, folders that are searched for them, or patterns with `*`, `?` and `**`; `-` is standard input
    #[arg(required = true, value_name = "IMAGES_OR_FOLDER")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArguments,
    /// Values of the darkest and the brightest pixel in f32 arrays, as in 0,1 [default: -1,1]
    #[arg(long, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    pub range: Option<FloatRange>,
    /// Pictures of another size: cut the largest part of the model's aspect, and resize it
    #[arg(long, value_name = "PART", value_enum, num_args = 0..=1, default_missing_value = "centre")]
    pub crop: Option<Part>,
    /// Pictures of another size: resize the whole picture, whatever its aspect, or the part that --crop cuts
    #[arg(long)]
    pub resize: bool,
    /// Put N black pixels on every side of each image, as `data.padding` of the trainer: 2 for a model of 32×32 that
    /// learned MNIST's 28×28. Results are written without them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub padding: usize,
    /// Make grey pictures coloured for a model of coloured images, and coloured ones grey for a model of grey images
    #[arg(long, visible_alias = "color")]
    pub colour: bool,
}

/// Which part of a picture is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The largest one in the middle, as `data.crop = "centre"` of the trainer
    #[value(alias = "center")]
    Centre,
}

impl ImageArguments {
    /// The shape of the images in files for a model of this one: without the padding.
    ///
    /// # Errors
    /// No pixel would be left.
    pub fn shape(&self, model: ImageShape) -> Result<ImageShape> {
        let inner = |extent: usize| {
            self.padding
                .checked_mul(2)
                .and_then(|padding| extent.checked_sub(padding))
                .filter(|&extent| extent > 0)
        };
        match (inner(model.height), inner(model.width)) {
            (Some(height), Some(width)) => Ok(ImageShape::new(model.channels, height, width)),
            _ => bail!(
                "--padding {}: the model's images are {model}; expected a number that leaves a pixel between both sides",
                self.padding
            ),
        }
    }

    /// What becomes of pictures of other sizes and colours.
    pub fn fit(&self) -> PictureFit {
        let crop = match (self.crop, self.resize) {
            (Some(Part::Centre), _) => PictureCrop::Centre,
            (None, true) => PictureCrop::Resize,
            (None, false) => PictureCrop::Off,
        };
        let colours = match self.colour {
            true => PictureColours::Converted,
            false => PictureColours::Kept,
        };
        PictureFit { crop, colours }
    }

    /// States in the settings of a run what becomes of its images, beside their range, if anything does.
    pub fn record(&self, settings: &mut Value) {
        let fit = self.fit();
        if fit != PictureFit::default() {
            settings["fit"] = json!(format!("{fit:?}"));
        }
        if self.padding > 0 {
            settings["padding"] = json!(self.padding);
        }
    }
}
