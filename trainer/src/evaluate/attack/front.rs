//! What stands before a classifier: a purification, or something cheap that a purification has to be better than.

use std::fmt;
use std::io::Cursor;

use anyhow::{Context, Result};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageFormat};
use tch::{Kind, Tensor};

use super::purification::{Noise, Purification};
use crate::machine::randomness::seeded;

/// What images go through before they are classified.
#[derive(Clone, Copy, Debug)]
pub enum Front<'a> {
    /// Langevin steps.
    Purification(Purification<'a>),
    /// Something without a network.
    Cleaner(Cleaner),
}

/// A defence without a network: the free baselines.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cleaner {
    /// Written as a JPEG file of that quality, from 1 to 100, and read again (Dziugaite et al. 2016).
    Jpeg {
        /// As encoders count it.
        quality: u8,
    },
    /// Gaussian noise, then a clamp to `[-1, 1]`.
    Noise {
        /// Its standard deviation, of pixels in `[-1, 1]`.
        sigma: f64,
    },
    /// Every pixel becomes black or white.
    Binary,
}

impl Front<'_> {
    /// How many of these copies of an image differ: all, or one if nothing is random.
    pub fn differing(&self, copies: usize) -> usize {
        match self {
            Front::Purification(purification) if purification.noise == Noise::Off => 1,
            Front::Purification(_) | Front::Cleaner(Cleaner::Noise { .. }) => copies,
            Front::Cleaner(_) => 1,
        }
    }
}

impl Cleaner {
    /// Images `[N, C, H, W]` in `[-1, 1]`, cleaned, without autograd.
    ///
    /// # Errors
    /// The images are neither grey nor coloured, or libtorch fails.
    pub fn clean(self, images: &Tensor, seed: u64) -> Result<Tensor> {
        let images = images.detach();
        match self {
            Cleaner::Noise { sigma } => {
                let _draws = seeded(seed);
                let noisy = images.f_add(&images.f_randn_like()?.f_mul_scalar(sigma)?)?;
                Ok(noisy.f_clamp(-1.0, 1.0)?)
            }
            Cleaner::Binary => {
                let white = images.f_ge(0.0)?.f_to_kind(images.kind())?;
                Ok(white.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
            }
            Cleaner::Jpeg { quality } => recoded(&images, quality),
        }
    }
}

impl fmt::Display for Cleaner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cleaner::Jpeg { quality } => write!(f, "JPEG {quality}"),
            Cleaner::Noise { sigma } => write!(f, "noise alone (σ {:.3} of [0, 1])", sigma / 2.0),
            Cleaner::Binary => f.write_str("binarisation"),
        }
    }
}

/// Every image written as JPEG and read again.
fn recoded(images: &Tensor, quality: u8) -> Result<Tensor> {
    let [n, channels, height, width] = images.size4()?.into();
    let colour = match channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    // Bytes in rows of pixels, as encoders take them.
    let bytes = images
        .f_add_scalar(1.0)?
        .f_mul_scalar(127.5)?
        .f_round()?
        .f_clamp(0.0, 255.0)?
        .f_permute([0, 2, 3, 1])?
        .f_to_kind(Kind::Uint8)?;
    let bytes = Vec::<u8>::try_from(bytes.f_contiguous()?.f_view([-1])?)?;
    let mut recoded = Vec::with_capacity(bytes.len());
    for image in bytes.chunks_exact((channels * height * width) as usize) {
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, quality)
            .encode(image, width as u32, height as u32, colour)
            .context("an image cannot be written as JPEG: expected 1 or 3 channels")?;
        let read = image::load(Cursor::new(file), ImageFormat::Jpeg)?;
        match channels {
            1 => recoded.extend(read.into_luma8().into_raw()),
            _ => recoded.extend(read.into_rgb8().into_raw()),
        }
    }
    let pixels = Tensor::from_slice(&recoded).f_view([n, height, width, channels])?;
    let pixels = pixels.f_permute([0, 3, 1, 2])?.f_to_kind(images.kind())?;
    let pixels = pixels.f_div_scalar(127.5)?.f_sub_scalar(1.0)?;
    Ok(pixels.f_contiguous()?.f_to_device(images.device())?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn cleaners_keep_what_they_should() {
        let ramp = Tensor::linspace(-1.0, 1.0, 192, (Kind::Float, Device::Cpu));
        for channels in [1, 3] {
            let images = ramp.view([-1, channels, 8, 8]);
            let distance = |cleaner: Cleaner| {
                let cleaned = cleaner.clean(&images, 1).unwrap();
                assert_eq!(cleaned.size(), images.size());
                assert!(cleaned.abs().max().double_value(&[]) <= 1.0);
                (cleaned - &images).abs().max().double_value(&[])
            };
            let fine = distance(Cleaner::Jpeg { quality: 100 });
            assert!(fine < 0.1, "{fine}");
            assert!(distance(Cleaner::Jpeg { quality: 5 }) > fine);
            assert!(distance(Cleaner::Noise { sigma: 0.0 }) == 0.0);
            assert!(distance(Cleaner::Noise { sigma: 0.1 }) > 0.1);
            let binary = Cleaner::Binary.clean(&images, 1).unwrap();
            assert_eq!(binary.abs().min().double_value(&[]), 1.0);
        }
    }
}
