//! What is attacked: a classifier, bare or behind purification.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::purification::{Noise, Purification, Stride, Trail};
use crate::machine::randomness::{Purpose, derive};
use crate::network::BoundNetwork;

/// A classifier, and the purification in front of it.
#[derive(Clone, Copy, Debug)]
pub struct Defence<'a> {
    /// With the output `logits`.
    pub classifier: &'a BoundNetwork<'a>,
    /// What images go through first, if anything.
    pub purification: Option<Purification<'a>>,
    /// Images per evaluation of the classifier.
    pub batch: usize,
}

impl Defence<'_> {
    /// The logits of each copy of each image, `[copies, n, n_classes]`; a bare classifier has one copy whatever is asked for.
    pub fn logits(&self, images: &Tensor, copies: usize, noise_seed: u64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let Some(purification) = &self.purification else {
            return Ok(self.classified(images)?.f_unsqueeze(0)?);
        };
        let ends = purified(purification, images, copies, noise_seed)?;
        Ok(self
            .classified(&ends)?
            .f_view([copies as i64, images.size()[0], -1])?)
    }

    /// The logits of images as they are, `[n, n_classes]`.
    pub fn classified(&self, images: &Tensor) -> Result<Tensor> {
        let parts = images.f_split(self.batch as i64, 0)?;
        let logits = parts
            .iter()
            .map(|part| self.classifier.output("logits", part));
        Ok(Tensor::f_cat(&logits.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// Copies of images, purified: `[copies · n, C, H, W]`, those of one image n apart.
pub(super) fn purified(
    purification: &Purification<'_>,
    images: &Tensor,
    copies: usize,
    noise_seed: u64,
) -> Result<Tensor> {
    let ends = groups(purification.noise, copies, noise_seed).map(|(n_copies, seed)| {
        purification.purify(&images.f_repeat([n_copies as i64, 1, 1, 1])?, seed)
    });
    Ok(Tensor::f_cat(&ends.collect::<Result<Vec<_>>>()?, 0)?)
}

/// As [`purified`], keeping the way back.
pub(super) fn recorded(
    purification: &Purification<'_>,
    images: &Tensor,
    copies: usize,
    noise_seed: u64,
    stride: Stride,
) -> Result<Recorded> {
    let records = groups(purification.noise, copies, noise_seed).map(|(n_copies, seed)| {
        purification.record(&images.f_repeat([n_copies as i64, 1, 1, 1])?, seed, stride)
    });
    Ok(Recorded(records.collect::<Result<_>>()?))
}

/// Copies that are purified together, with the seed of their noise: a device gives the images of each copy the same noise, but each copy another.
fn groups(noise: Noise, copies: usize, noise_seed: u64) -> impl Iterator<Item = (usize, u64)> {
    let (n_groups, n_copies) = match noise {
        Noise::OfEachImage => (1, copies),
        Noise::OfTheDevice => (copies, 1),
    };
    (0..n_groups as u64)
        .map(move |group| (n_copies, derive(noise_seed, group, Purpose::ChainNoise)))
}

/// The records of all copies.
#[derive(Debug)]
pub(super) struct Recorded(Vec<Trail>);

impl Recorded {
    /// `[copies · n, C, H, W]`, those of one image n apart.
    pub fn ends(&self) -> Result<Tensor> {
        let ends: Vec<Tensor> = self
            .0
            .iter()
            .map(|record| record.ends.shallow_clone())
            .collect();
        Ok(Tensor::f_cat(&ends, 0)?)
    }

    /// As [`Purification::pull_back`], for all copies.
    pub fn pull_back(
        &self,
        purification: &Purification<'_>,
        stride: Stride,
        curvature: &BoundNetwork<'_>,
        cotangents: &Tensor,
    ) -> Result<Tensor> {
        let sizes: Vec<i64> = self.0.iter().map(|record| record.ends.size()[0]).collect();
        let parts = cotangents.f_split_with_sizes(sizes, 0)?;
        let starts = self.0.iter().zip(parts).map(|(record, cotangent)| {
            purification.pull_back(record, stride, curvature, &cotangent)
        });
        Ok(Tensor::f_cat(&starts.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// Mean logits over copies, `[n, n_classes]`: what a vote decides by.
pub fn voted(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
}
