//! What to purify, and what came out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clock::Instant;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::langevin::Measurement;

/// What to purify, how often, under which indices in the noise, and what to report.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub(super) images: &'a Images,
    indices: NoiseIndices,
    pub(super) first_step: u32,
    pub(super) n_replicas: usize,
    pub(super) measured: Measured,
    pub(super) snapshots: BTreeSet<u32>,
    pub(super) cancel: Cancel,
    pub(super) deadline: Option<Instant>,
}

#[derive(Debug, Clone)]
enum NoiseIndices {
    From(u32),
    Each(Vec<u32>),
}

/// At which states energies and gradients are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measured {
    Start,
    StartAndEnd,
    EveryStep,
}

impl<'a> Request<'a> {
    /// One purification of each image, with noise indices from 0 on.
    pub fn new(images: &'a Images) -> Self {
        Self {
            images,
            indices: NoiseIndices::From(0),
            first_step: 0,
            n_replicas: 1,
            measured: Measured::Start,
            snapshots: BTreeSet::new(),
            cancel: Cancel::new(),
            deadline: None,
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

    /// The number of steps that the images have taken before; 0 by default. The noise goes on from there, so that a run in parts, each from where the
    /// part before ended, gives the bits of one whole run.
    pub fn first_step(mut self, first_step: u32) -> Self {
        self.first_step = first_step;
        self
    }

    /// The number of independent purifications of each image.
    pub fn n_replicas(mut self, n_replicas: usize) -> Self {
        self.n_replicas = n_replicas;
        self
    }

    /// Measures energy and gradient at the end of each chain too, which costs one more run of the model.
    pub fn measure_end(mut self) -> Self {
        self.measured = self.measured.max(Measured::StartAndEnd);
        self
    }

    /// Measures energy and gradient at every state of each chain: [`ChainReport::path`].
    pub fn trace(mut self) -> Self {
        self.measured = Measured::EveryStep;
        self
    }

    /// Copies all images after these numbers of steps too: [`Purified::snapshots`]. For a model that takes k steps in a run, they are multiples of k.
    pub fn snapshots(mut self, n_steps: impl IntoIterator<Item = u32>) -> Self {
        self.snapshots.extend(n_steps);
        self
    }

    /// A switch that stops the run.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Takes as many steps as fit into this time from now; then the images are returned as they are. No chain is more than one run of the model ahead of
    /// another. A step is begun only if the longest one so far would still fit. Results then depend on the speed of the machine:
    /// [`ChainReport::n_steps`] says what they are.
    pub fn within(mut self, time: Duration) -> Self {
        self.deadline = Instant::now().checked_add(time);
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
                    return Err(Error::out_of_range(
                        "first_index",
                        "indices below 2³² − 1 for all images",
                        first,
                    ));
                }
            },
        };
        if indices.len() != n_images {
            let got = format!("{} indices", indices.len());
            return Err(Error::out_of_range(
                "indices",
                &format!("one for each of {n_images} images"),
                got,
            ));
        }
        Ok(indices)
    }
}

/// What is known of one chain at its end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChainReport {
    /// Place of the image in the request.
    pub image: usize,
    /// Number of the replica in the noise.
    pub replica: u32,
    /// Energy and gradient norm of the image as it was given; `None` if there was no time for a single step.
    pub start: Option<Measurement>,
    /// Energy and gradient norm of the purified image, if they were asked for.
    pub end: Option<Measurement>,
    /// Energy and gradient norm of the state before each step, and of the last one, if they were asked for with [`Request::trace`].
    pub path: Vec<Measurement>,
    /// The steps that were taken in this run: those of the purifier, unless a deadline cut them short.
    pub n_steps: u32,
    /// The share of the values of the purified image at or beyond the ends of `[-1, 1]`, in `[0, 1]`; the trainer means the same by it.
    pub saturation: f32,
    /// The step at which the chain was found outside the finite numbers or its range of energies, if it was: counted from 0, those of
    /// [`Request::first_step`] included. The image is then returned as it was given.
    pub failed_step: Option<u32>,
}

/// The images at a number of steps.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// Steps taken.
    pub n_steps: u32,
    /// For each replica the images `[N, C, H, W]`.
    pub replicas: Vec<Images>,
}

/// The result of [`Purifier::run`](crate::Purifier::run).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Purified {
    /// For each replica the purified images `[N, C, H, W]`.
    pub replicas: Vec<Images>,
    /// One report for each chain, replica by replica.
    pub reports: Vec<ChainReport>,
    /// The images at the numbers of steps that were asked for and reached, in their order.
    pub snapshots: Vec<Snapshot>,
}

impl Purified {
    /// Returns Ok if all chains stayed finite and in their range of energies.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names the first image and step that did not.
    pub fn expect_all_finite(&self) -> Result<()> {
        self.reports.iter().try_for_each(ChainReport::expect_finite)
    }
}

impl ChainReport {
    /// Returns Ok if the chain stayed finite and in its range of energies.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`], which names image and step, if it did not.
    pub fn expect_finite(&self) -> Result<()> {
        let Some(step) = self.failed_step else {
            return Ok(());
        };
        let problem = format!(
            "image {} left the finite numbers, or its range of energies, at step {step}",
            self.image
        );
        Err(Error::new(ErrorKind::NonFinite, problem)
            .advise("take a smaller step size, a higher temperature, or clip the drift"))
    }
}
