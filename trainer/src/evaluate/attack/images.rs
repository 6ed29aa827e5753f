//! Attacked images as files.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Tensor};

/// The file of all images.
pub const IMAGES: &str = "attacked.safetensors";

/// Writes tensors into a safetensors file, whole or not at all.
pub fn write(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let host = |tensor: &Tensor| tensor.to_device(Device::Cpu).contiguous();
    let tensors: Vec<(&str, Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| (*name, host(tensor)))
        .collect();
    let unfinished = path.with_extension("unfinished");
    let write = || -> Result<()> {
        Tensor::write_safetensors(&tensors, &unfinished)?;
        File::open(&unfinished)?.sync_all()?;
        Ok(fs::rename(&unfinished, path)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a tensor of such a file.
///
/// # Errors
/// The file or the tensor is not there, or damaged.
pub fn read(path: &Path, name: &str) -> Result<Tensor> {
    let tensors = Tensor::read_safetensors(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let found = tensors.into_iter().find(|(own, _)| own == name);
    let (_, tensor) = found.with_context(|| format!("{} is damaged", path.display()))?;
    Ok(tensor)
}

/// As u8, 1 for true.
pub fn flags(flags: &[bool]) -> Tensor {
    let bytes: Vec<u8> = flags.iter().map(|&flag| u8::from(flag)).collect();
    Tensor::from_slice(&bytes)
}
