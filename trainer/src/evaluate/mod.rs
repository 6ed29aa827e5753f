//! What networks are worth that have been learned.

pub mod attack;
pub mod frechet;
pub mod interval;
pub mod npz;
pub mod sampling;

use anyhow::Result;
use tch::{Device, Tensor};

/// Per image: is the largest logit (`[N, n_classes]`) that of its label (int64 `[N]`)?
pub fn is_right(logits: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
    let right = logits.f_argmax(1, false)?.f_eq_tensor(labels)?;
    Ok(Vec::<bool>::try_from(right.to_device(Device::Cpu))?)
}
