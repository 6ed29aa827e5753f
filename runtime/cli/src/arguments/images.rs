//! Which images a command reads, and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ebm_runtime::{PictureColours, PictureCrop, PictureFit};

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
}
