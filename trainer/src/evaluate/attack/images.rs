//! Attacked images as files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

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

/// An image that an attack broke.
#[derive(Debug)]
pub struct Broken {
    /// Its number among all that were attacked.
    pub number: usize,
    /// Its class.
    pub label: i64,
    /// What the vote answers after the attack.
    pub answer: i64,
    /// `[C, H, W]`, as the following.
    pub clean: Tensor,
    /// What the attack made of it.
    pub attacked: Tensor,
    /// That after one purification.
    pub purified: Tensor,
}

/// The broken images in a folder of results, the largest margin of a wrong class first; up to `most` of them. There are none if the audit has not
/// come so far, or if an earlier version wrote the file.
///
/// # Errors
/// The file is damaged.
pub fn worst_broken(folder: &Path, most: usize) -> Result<Vec<Broken>> {
    let path = folder.join(IMAGES);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let tensors: BTreeMap<String, Tensor> = Tensor::read_safetensors(&path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .into_iter()
        .collect();
    if !tensors.contains_key("margins") {
        return Ok(Vec::new());
    }
    let get = |name: &str| {
        let tensor = tensors.get(name);
        tensor.with_context(|| format!("{} is damaged: it has no {name}", path.display()))
    };
    // An image that is wrong without an attack counts as broken, but nothing was made of it.
    let change = get("attacked")?.f_sub(get("clean")?)?.f_abs()?;
    let is_changed = change.f_amax([1i64, 2, 3].as_slice(), false)?.f_gt(0.0)?;
    let is_broken = get("broken")?.f_ne(0)?.f_logical_and(&is_changed)?;
    let margins = get("margins")?;
    let margins = margins.f_masked_fill(&is_broken.f_logical_not()?, f64::NEG_INFINITY)?;
    let (_, order) = margins.f_sort(0, true)?;
    let n_broken = is_broken.f_sum(Kind::Int64)?.int64_value(&[]) as usize;
    let order = Vec::<i64>::try_from(order)?.into_iter();
    let broken = order.take(most.min(n_broken)).map(|number| {
        let row = |name: &str| -> Result<Tensor> { Ok(get(name)?.f_get(number)?) };
        Ok(Broken {
            number: number as usize,
            label: row("labels")?.int64_value(&[]),
            answer: row("answers")?.int64_value(&[]),
            clean: row("clean")?,
            attacked: row("attacked")?,
            purified: row("purified")?,
        })
    });
    broken.collect()
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
