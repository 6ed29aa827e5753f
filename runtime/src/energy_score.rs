//! Energies as a score of how far images are from what a model has learned.

use crate::backend::Backend;
use crate::contract::Kind;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::model::Model;
use crate::prepared::Prepared;
use crate::rows::{Rows, RowsOut};

/// Scores images by their energy: the lower, the more like the images that the energy was learned from.
///
/// Energies have no zero of their own, so that a threshold is [fitted](EnergyScore::fit) to images that are known to be as they should.
/// Source: Liu, Wang, Owens, Li, *Energy-based Out-of-distribution Detection*, NeurIPS 2020, whose score is −E.
#[derive(Debug, Clone)]
pub struct EnergyScore {
    model: Prepared,
}

/// An energy above which an image is taken for an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// The highest energy that passes.
    pub energy: f32,
}

impl Threshold {
    /// Whether an image of this energy is taken for an outlier. One of no finite energy is.
    pub fn is_outlier(&self, energy: f32) -> bool {
        !(energy <= self.energy && energy.is_finite())
    }
}

impl EnergyScore {
    /// Prepares a model of kind `energy`, `gradient` or `step`; the first does the least work. `n_threads` is as in [`Backend::prepare`].
    ///
    /// # Errors
    /// As [`EnergyScore::on`], and the errors of [`Backend::prepare`].
    pub fn new(model: &Model, backend: &Backend, n_threads: usize) -> Result<Self> {
        Self::on(&Prepared::new(model, backend, n_threads)?)
    }

    /// A score on a prepared model of kind `energy`, `gradient` or `step`, which it shares with others.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, or one that takes several steps in a run.
    pub fn on(model: &Prepared) -> Result<Self> {
        model.expect_kind(&[Kind::Energy, Kind::Gradient, Kind::Step])?;
        if let Some(n_steps) = model.contract().n_steps.filter(|&n_steps| n_steps > 1) {
            return Err(Error::new(
                ErrorKind::WrongKind,
                "a model of several steps in a run gives no energies alone",
            )
            .expected("energy.onnx, gradient.onnx, or a step.onnx of one step")
            .but_got(format!("{n_steps} steps")));
        }
        Ok(Self {
            model: model.clone(),
        })
    }

    /// The energies E(x) of images `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] and [`ErrorKind::NonFinite`] for images that do not fit or have bad pixels, [`ErrorKind::Backend`] where the engine fails.
    pub fn energies(&self, images: &Images) -> Result<Vec<f32>> {
        let image = self.model.contract().image;
        images.check(image)?;
        let shape = [image.channels, image.height, image.width];
        let x = Rows {
            name: "x",
            shape: &shape,
            values: images.values(),
        };
        let no_noise = vec![0.0; images.values().len()];
        let noise = Rows {
            name: "noise",
            values: &no_noise,
            ..x
        };
        let energy = RowsOut {
            name: "energy",
            shape: &[],
        };
        // The step that is taken along the way goes nowhere.
        let step = [("step_size", 1.0), ("temperature", 1.0)];
        let mut energies = match self.model.contract().kind {
            Kind::Step => self
                .model
                .rows(images.len(), &[x, noise], &step, &[energy])?,
            _ => self.model.rows(images.len(), &[x], &[], &[energy])?,
        };
        Ok(energies.swap_remove(0))
    }

    /// The threshold that takes at most the share `rejected` of these images for outliers: a quantile of their energies.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for a share outside `[0, 1)` or no images, and as [`EnergyScore::energies`].
    pub fn fit(&self, images: &Images, rejected: f64) -> Result<Threshold> {
        if !(0.0..1.0).contains(&rejected) {
            return Err(Error::out_of_range(
                "rejected",
                "a share in [0, 1)",
                rejected,
            ));
        }
        if images.is_empty() {
            return Err(Error::out_of_range("images", "at least one image", 0));
        }
        let mut energies = self.energies(images)?;
        energies.sort_by(f32::total_cmp);
        let n_rejected = (rejected * energies.len() as f64).floor() as usize;
        Ok(Threshold {
            energy: energies[energies.len() - 1 - n_rejected],
        })
    }
}
