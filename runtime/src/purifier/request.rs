//! What to purify, and what came out.

use crate::error::{Error, ErrorKind, Result, out_of_range};
use crate::images::Images;
use crate::langevin::Measurement;

/// What to purify, how often, and under which indices in the noise.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub(super) images: &'a Images,
    indices: NoiseIndices,
    pub(super) n_replicas: usize,
    pub(super) measure_end: MeasureEnd,
}

#[derive(Debug, Clone)]
enum NoiseIndices {
    From(u32),
    Each(Vec<u32>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum MeasureEnd {
    Yes,
    No,
}

impl<'a> Request<'a> {
    /// One purification of each image, with noise indices from 0 on.
    pub fn new(images: &'a Images) -> Self {
        Self {
            images,
            indices: NoiseIndices::From(0),
            n_replicas: 1,
            measure_end: MeasureEnd::No,
        }
    }

    /// The noise index of the first image; the others follow.
    pub fn first_index(mut self, first_index: u32) -> Self {
        self.indices = NoiseIndices::From(first_index);
        self
    }

    /// The noise index of each image.
    pub fn indices(mut self, indices: Vec<u32>) -> Self {
        self.indices = NoiseIndices::Each(indices);
        self
    }

    /// The number of independent purifications of each image.
    pub fn n_replicas(mut self, n_replicas: usize) -> Self {
        self.n_replicas = n_replicas;
        self
    }

    /// Measures energy and gradient at the end of each chain too, which costs one more run of the model.
    pub fn measure_end(mut self) -> Self {
        self.measure_end = MeasureEnd::Yes;
        self
    }

    pub(crate) fn n_images(&self) -> usize {
        self.images.len()
    }

    pub(super) fn noise_indices(&self, n_images: usize) -> Result<Vec<u32>> {
        let indices = match &self.indices {
            NoiseIndices::Each(indices) => indices.clone(),
            NoiseIndices::From(first) => match u32::try_from(n_images)
                .ok()
                .and_then(|n| first.checked_add(n))
            {
                Some(end) => (*first..end).collect(),
                None => {
                    return Err(out_of_range(
                        "first_index",
                        "indices below 2³² − 1 for all images",
                        first,
                    ));
                }
            },
        };
        if indices.len() != n_images {
            let got = format!("{} indices", indices.len());
            return Err(out_of_range(
                "indices",
                &format!("one for each of {n_images} images"),
                got,
            ));
        }
        Ok(indices)
    }
}

/// What is known of one chain at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChainReport {
    /// Place of the image in the request.
    pub image: usize,
    /// Number of the replica in the noise.
    pub replica: u32,
    /// Energy and gradient norm of the image as it was given.
    pub start: Measurement,
    /// Energy and gradient norm of the purified image, where they were asked for.
    pub end: Option<Measurement>,
    /// The step, counted from 0, that made the chain non-finite, if one did. The image is returned as it was given.
    pub failed_step: Option<u32>,
}

/// The result of [`Purifier::run`](crate::Purifier::run).
#[derive(Debug, Clone)]
pub struct Purified {
    /// For each replica the purified images `[N, C, H, W]`.
    pub replicas: Vec<Images>,
    /// One report for each chain, replica by replica.
    pub reports: Vec<ChainReport>,
}

impl Purified {
    /// Nothing where all chains stayed finite.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names the first image and step that did not.
    pub fn expect_all_finite(&self) -> Result<()> {
        self.reports.iter().try_for_each(ChainReport::expect_finite)
    }
}

impl ChainReport {
    /// Nothing where the chain stayed finite.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names image and step, where it did not.
    pub fn expect_finite(&self) -> Result<()> {
        let Some(step) = self.failed_step else {
            return Ok(());
        };
        let problem = format!(
            "image {} left the finite numbers at step {step}",
            self.image
        );
        Err(Error::new(ErrorKind::NonFinite, problem)
            .advise("take a smaller step size, a higher temperature, or clip the drift"))
    }
}
