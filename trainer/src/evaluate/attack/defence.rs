//! What is attacked: a classifier, bare or behind something that cleans images.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::front::Front;
use super::purification::{Noise, Purification, Stride, Trail};
use crate::machine::randomness::{Purpose, derive};
use crate::network::BoundNetwork;

/// A classifier, and what stands in front of it.
#[derive(Clone, Copy, Debug)]
pub struct Defence<'a> {
    /// With the output `logits`.
    pub classifier: &'a BoundNetwork<'a>,
    /// What images go through first, if anything.
    pub front: Option<Front<'a>>,
    /// Images per evaluation of the classifier.
    pub batch: usize,
}

impl<'a> Defence<'a> {
    /// The classifier alone.
    pub fn bare(self) -> Defence<'a> {
        Defence {
            front: None,
            ..self
        }
    }

    /// The purification in front, if that is what stands there.
    pub fn purification(&self) -> Option<Purification<'a>> {
        match self.front {
            Some(Front::Purification(purification)) => Some(purification),
            _ => None,
        }
    }

    /// The logits of each copy of each image, `[copies, n, n_classes]`; of a defence without randomness there is one copy, whatever is asked for.
    ///
    /// # Errors
    /// The images do not fit the networks.
    pub fn logits(&self, images: &Tensor, copies: usize, noise_seed: u64) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let logits = self.classified(&self.cleaned(images, copies, noise_seed)?)?;
        Ok(logits.f_view([-1, images.size()[0], logits.size()[1]])?)
    }

    /// Copies of images as the classifier sees them: `[copies · n, C, H, W]`, those of one image n apart.
    pub(super) fn cleaned(
        &self,
        images: &Tensor,
        copies: usize,
        noise_seed: u64,
    ) -> Result<Tensor> {
        let copies = self.copies(copies);
        match &self.front {
            None => Ok(images.detach()),
            Some(Front::Purification(purification)) => {
                purified(purification, images, copies, noise_seed)
            }
            Some(Front::Cleaner(cleaner)) => {
                cleaner.clean(&images.f_repeat([copies as i64, 1, 1, 1])?, noise_seed)
            }
        }
    }

    /// How many of these copies of an image differ: all, or one if nothing is random.
    pub fn copies(&self, wanted: usize) -> usize {
        self.front.map_or(1, |front| front.differing(wanted))
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
fn purified(
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
        Noise::OfEachImage | Noise::Off => (1, copies),
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
