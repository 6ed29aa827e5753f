//! How commands take the types of files, and how they measure what these cost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ndarray::{ArrayD, Axis, Slice};

use ebm_export::check::images;
use ebm_export::transform::precision::{Comparison, Precision, random_images};
use ebm_export::write::onnx::Opset;

/// Random images that are tried.
const N_RANDOM: usize = 4;
/// Given images that are tried, the first ones.
const MOST_GIVEN: usize = 16;
/// Seed of the random images.
const SEED: u64 = 0;

/// The types of a file, and how far they may take it from f64.
#[derive(Args)]
pub struct PrecisionArguments {
    /// Types to work in: f32; f16 or bf16 but for sums, inputs and outputs; mixed: f16 in convolutions and matrix products alone
    #[arg(long, default_value_t = Precision::F32, value_name = "TYPE")]
    pub precision: Precision,
    /// Largest relative error against f64 that the gradient of any image tried may have, or nothing is written; 0.1 for f16 and mixed,
    /// 0.3 for bf16, 0.01 for f32, unless given
    #[arg(long, value_name = "ERROR", allow_negative_numbers = true)]
    max_error: Option<f64>,
    /// Images to try beside random ones: the first 16 of a safetensors file with a tensor `x` [n, C, H, W] of f32 or f64
    #[arg(long, value_name = "FILE")]
    pub images: Option<PathBuf>,
}

impl PrecisionArguments {
    /// The opset that was asked for, or the one that suits the types.
    pub fn opset(&self, number: Option<i64>) -> Result<Opset> {
        match number {
            Some(number) => Opset::new(number).context("--opset"),
            None if self.precision == Precision::Bf16 => Ok(Opset::OLDEST_WITH_BF16),
            None => Ok(Opset::DEFAULT),
        }
    }

    /// Refuses a bound and images that make no sense, before any work starts.
    pub fn check(&self) -> Result<()> {
        self.max_error()?;
        match &self.images {
            Some(path) => images::read(path).map(drop).context("--images"),
            None => Ok(()),
        }
    }

    /// Is anything to be measured? f32 is, if it was asked for.
    pub fn measures(&self) -> bool {
        self.precision != Precision::F32 || self.max_error.is_some() || self.images.is_some()
    }

    /// Measures on random and on given images, and says what came out.
    ///
    /// # Errors
    /// The error of an image is too large, or the given images cannot be used.
    pub fn measured(&self, comparison: &Comparison) -> Result<String> {
        let max_error = self.max_error()?;
        let extents = comparison.extents()?;
        let random = random_images(N_RANDOM, &extents, SEED);
        let mut sets = vec![(format!("{N_RANDOM} random images"), random)];
        if let Some(path) = &self.images {
            let images =
                given(path, &extents).with_context(|| format!("--images {}", path.display()))?;
            let n_images = images.shape()[0];
            sets.push((format!("{n_images} images of {}", path.display()), images));
        }
        let mut text = String::new();
        for (name, images) in sets {
            let mut errors = comparison.relative_errors(&images)?;
            errors.sort_by(f64::total_cmp);
            let (median, worst) = (errors[errors.len() / 2], errors[errors.len() - 1]);
            let output = &comparison.output;
            let precision = self.precision;
            ensure!(
                worst <= max_error,
                "in {precision} the relative error of the {output} against f64 is {worst:.1e} (median {median:.1e} of {name}), \
                 above {max_error:.1e}; take another --precision, or allow it with --max-error"
            );
            text += &format!(
                "{output} in {precision} against f64: relative error at most {worst:.1e}, median {median:.1e}, of {name}\n"
            );
        }
        Ok(text)
    }

    fn max_error(&self) -> Result<f64> {
        match self.max_error {
            Some(bound) if bound > 0.0 => Ok(bound),
            Some(bound) => bail!("--max-error: expected a positive number, got {bound}"),
            None => Ok(match self.precision {
                Precision::F32 => 0.01,
                Precision::F16 | Precision::Mixed => 0.1,
                Precision::Bf16 => 0.3,
            }),
        }
    }
}

/// The first images of a file.
fn given(path: &Path, extents: &[usize]) -> Result<ArrayD<f64>> {
    let images = images::read(path)?;
    let (n_images, each) = (images.shape()[0], &images.shape()[1..]);
    ensure!(
        n_images > 0 && each == extents,
        "expected images [n, ..] with {extents:?} behind n, got {:?}",
        images.shape()
    );
    let first = Slice::from(..n_images.min(MOST_GIVEN));
    Ok(images.slice_axis(Axis(0), first).to_owned())
}
