//! Images to evaluate models at.

use std::fs;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::{Error, Result};

/// Name of the tensor in a file of images.
pub const IMAGES: &str = "x";

/// The tensor [`IMAGES`], `[n, …]` of f32 or f64, of a safetensors file.
///
/// # Errors
/// The file cannot be read, is not safetensors, has no such tensor, or one of another type, or of values that are not finite.
pub fn read(path: &Path) -> Result<ArrayD<f64>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let problem = |problem: String| Error::Onnx(format!("{}: {problem}", path.display()));
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| problem(format!("not a safetensors file: {error}")))?;
    let view = file.tensor(IMAGES).map_err(|_| {
        let names = file.names();
        problem(format!("expected a tensor {IMAGES:?}, found {names:?}"))
    })?;
    images(&view).map_err(problem)
}

fn images(view: &TensorView<'_>) -> Result<ArrayD<f64>, String> {
    let values: Vec<f64> = match view.dtype() {
        Dtype::F32 => {
            let elements = view.data().as_chunks().0.iter();
            elements.map(|&b| f32::from_le_bytes(b).into()).collect()
        }
        Dtype::F64 => {
            let elements = view.data().as_chunks().0.iter();
            elements.map(|&b| f64::from_le_bytes(b)).collect()
        }
        dtype => return Err(format!("expected F32 or F64, got {dtype:?}")),
    };
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        return Err(format!("its element {position} is {}", values[position]));
    }
    if view.shape().is_empty() {
        return Err("expected images [n, …], got a number".to_string());
    }
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|error| error.to_string())
}
