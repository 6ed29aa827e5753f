//! Energies as a score of how far images are from what a model has learned.

use crate::contract::Kind;
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::prepared::{AnyModel, Builder, Prepared, buildable};
use crate::rows::{Rows, RowsOut};

/// Scores images by their energy: the lower, the more like the images that the energy was learned from.
///
/// ```
/// use ebm_runtime::{EnergyScore, Images, Model};
///
/// # fn main() -> ebm_runtime::Result<()> {
/// let model = Model::open("tests/fixtures/digits/energy.onnx")?;
/// let score = EnergyScore::builder(&model).build()?;
/// let known = Images::from_bytes(model.contract().image, &[128; 20 * 64])?; // 20 grey images
/// let threshold = score.fit(&known, 0.05)?; // may reject 5 % of what is known to be fine
/// let white = Images::from_bytes(model.contract().image, &[255; 64])?;
/// let energy = score.energies(&white)?[0];
/// println!("{energy}: outlier {}", threshold.is_outlier(energy));
/// # Ok(())
/// # }
/// ```
///
/// Energies have no zero of their own, so that a threshold is [fitted](EnergyScore::fit) to images that are known to be as they should.
/// Source: Liu, Wang, Owens, Li, *Energy-based Out-of-distribution Detection*, NeurIPS 2020, whose score is −E.
#[derive(Debug, Clone)]
pub struct EnergyScore {
    model: Prepared,
}

/// An energy above which an image is taken for an outlier.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
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

buildable!(EnergyScore, ());

impl Builder<EnergyScore> {
    /// Prepares the score.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, or one that takes several steps in a run, and the errors of
    /// [`Backend::prepare`](crate::Backend::prepare).
    pub fn build(self) -> Result<EnergyScore> {
        self.expect_kind(&[Kind::Energy, Kind::Gradient, Kind::Step])?;
        let n_steps = self.model.contract().n_steps;
        if let Some(n_steps) = n_steps.filter(|&n_steps| n_steps > 1) {
            return Err(Error::new(
                ErrorKind::WrongKind,
                "a model of several steps in a run gives no energies alone",
            )
            .expected("energy.onnx, gradient.onnx, or a step.onnx of one step")
            .but_got(format!("{n_steps} steps")));
        }
        Ok(EnergyScore {
            model: self.prepare()?,
        })
    }
}

impl EnergyScore {
    /// Starts from a model of kind `energy`, `gradient` or `step`; the first does the least work.
    pub fn builder(model: impl Into<AnyModel>) -> Builder<Self> {
        Builder::new(model.into(), ())
    }

    /// The energies E(x) of images `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] and [`ErrorKind::NonFinite`] for images that do not fit or have bad pixels, [`ErrorKind::Backend`] if the engine fails.
    pub fn energies(&self, images: &Images) -> Result<Vec<f32>> {
        let image = self.model.contract().image;
        images.check(image)?;
        let shape = image.dimensions();
        let no_noise = vec![0.0; images.values().len()];
        let x = Rows::new("x", &shape, images.values());
        let noise = Rows::new("noise", &shape, &no_noise);
        let energy: RowsOut<'_> = ("energy", &[]);
        // The step that is taken along the way goes nowhere.
        let step = [("step_size", 1.0), ("temperature", 1.0)];
        let mut energies = match self.model.contract().kind {
            Kind::Step => (self.model).rows(images.len(), &[x, noise], &step, &[energy])?,
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
