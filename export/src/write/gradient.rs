//! The shortest way: a model in, its gradient out.

use std::path::Path;

use crate::error::Result;
use crate::source::onnx::{Selection, read_file};
use crate::transform::layout::{ImageLayout, with_channels_first};
use crate::write::model::Model;
use crate::write::{Export, Form};

/// The gradient of the energy that an ONNX model computes, as a file: `energy [N]` and `gradient`, shaped as the input. Images with the
/// channels last are taken as `[N, C, H, W]`. [`Export`] leaves more to choose.
///
/// # Errors
/// The model cannot be read, its output is not one number per image, or an operator has no derivative.
pub fn gradient(model: impl AsRef<Path>) -> Result<Model> {
    let energy = read_file(model.as_ref(), &Selection::default())?;
    let energy = match ImageLayout::of(&energy)? {
        ImageLayout::Nchw => energy,
        ImageLayout::Nhwc => with_channels_first(&energy)?,
    };
    Export::default().model(&energy, &Form::Gradient)
}
