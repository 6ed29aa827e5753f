//! A classifier that answers with the class that it gives most often under noise.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Certificate, Prediction, Smoothing, Votes};
use crate::cancel::Cancel;
use crate::classifier::{Classifier, expect_same_images, largest};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::langevin::Chain;
use crate::noise::fill_normal;
use crate::purifier::{Progress, Purifier, PurifierBuilder, Request};
use crate::seed::Seed;

/// The number of a step that no chain takes, which the noise of smoothing has.
const SMOOTHING: u32 = u32::MAX - 1;
/// Draws that are worked on together.
const MOST_TOGETHER: usize = 256;
/// Noisy images that are held at a time take no more than this, unless a single one does.
const BUFFER_BYTES: usize = 64 << 20;

/// The smoothed classifier of Cohen, Rosenfeld and Kolter (2019): its class at x is the one that a base classifier gives most often at `x + σz`, z ~ N(0, I).
/// The base is any classifier, and [`SmoothedClassifier::behind`] puts steps of an energy before it. Steps with noise of their own are fine, as the base
/// may be random.
///
/// **What a certificate says.** With confidence 1 − α, no image closer than the radius has another class. It holds
/// - for the *smoothed* classifier, whose answers are those of [`SmoothedClassifier::predict`], not for the base alone;
/// - whatever attack is tried, if the noise is drawn after the image is fixed: whoever knows the seed before can choose the image for it. [`SmoothedClassifier::certify`] draws a
///   fresh one; computing again with the seed of a certificate reproduces it, and is no new evidence;
/// - for the image as it comes here, after any resizing, in exact arithmetic: attacks on smoothing by the rounding of floating-point numbers are published.
///
/// ```no_run
/// use ebm_runtime::{Classifier, Images, ModelFolder, PixelDistance, Purifier, SmoothedClassifier, Smoothing};
///
/// # fn main() -> ebm_runtime::Result<()> {
/// let models = ModelFolder::open("model")?;
/// # let image = Images::from_vec(models.step.contract().image, vec![])?;
/// let sigma = PixelDistance::of_unit_range(0.25);
/// let classifier = Classifier::builder(models.require_classifier()?).build()?;
/// let smoothed = SmoothedClassifier::new(classifier, Smoothing::new(sigma))?
///     .behind(Purifier::builder(&models.step).denoiser(sigma))?;
/// let certificate = smoothed.certify(&image)?;
/// match certificate.class {
///     Some(class) => println!("class {class} within {}", certificate.radius),
///     None => println!("no certificate"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SmoothedClassifier {
    classifier: Classifier,
    energy: Option<Purifier>,
    smoothing: Smoothing,
    cancel: Cancel,
    on_progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl SmoothedClassifier {
    /// Smooths a classifier.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for settings out of their range.
    pub fn new(classifier: Classifier, smoothing: Smoothing) -> Result<Self> {
        smoothing.check()?;
        Ok(Self {
            classifier,
            energy: None,
            smoothing,
            cancel: Cancel::new(),
            on_progress: None,
        })
    }

    /// Puts steps of an energy between the noise and the classifier. Their noise follows from the seed of each answer.
    ///
    /// # Errors
    /// Those of [`PurifierBuilder::build`], and [`ErrorKind::Shape`](crate::ErrorKind::Shape) if energy and classifier are for images of different shapes.
    pub fn behind(mut self, energy: PurifierBuilder) -> Result<Self> {
        // The seed is replaced for each answer.
        let energy = energy.build(0)?;
        expect_same_images(&energy, &self.classifier)?;
        self.energy = Some(energy);
        Ok(self)
    }

    /// A switch that stops the work.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// What is called after each part of the draws for an image, whose numbers it is told.
    pub fn on_progress(mut self, on_progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.on_progress = Some(Arc::new(on_progress));
        self
    }

    /// How it is smoothed.
    pub fn smoothing(&self) -> &Smoothing {
        &self.smoothing
    }

    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// What takes the steps in front of it.
    pub fn energy(&self) -> Option<&Purifier> {
        self.energy.as_ref()
    }

    /// The most runs of networks that a certificate costs: `(n₀ + n)·(k + 1)` for k steps of the energy.
    pub fn n_network_runs(&self) -> u64 {
        let n_steps = self.energy.as_ref().map_or(0, Purifier::n_steps);
        let n_draws = self.smoothing.n0 + self.smoothing.n;
        n_draws as u64 * (u64::from(n_steps) + 1)
    }

    /// The class of one image `[1, C, H, W]`, or none if the votes cannot tell it. The seed of the noise is fresh.
    ///
    /// # Errors
    /// As [`SmoothedClassifier::certify`].
    pub fn predict(&self, image: &Images) -> Result<Prediction> {
        self.predict_with(Seed::fresh()?, 0, image)
    }

    /// Like [`SmoothedClassifier::predict`] with a known seed and the image's index in the noise.
    ///
    /// # Errors
    /// As [`SmoothedClassifier::certify`].
    pub fn predict_with(
        &self,
        seed: impl Into<Seed>,
        index: u32,
        image: &Images,
    ) -> Result<Prediction> {
        let seed = seed.into();
        let n = self.smoothing.n;
        let draws = self.draws(seed, index, image, n)?;
        let votes = draws.votes(0..n, |votes| {
            self.smoothing.winner(votes, n - votes.n()).is_some()
        })?;
        Ok(Prediction {
            class: self.smoothing.winner(&votes, n - votes.n()),
            votes,
            seed,
            index,
        })
    }

    /// Certifies one image `[1, C, H, W]`. The seed of the noise is fresh, drawn now that the image is fixed.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for another number of images, [`ErrorKind::Shape`](crate::ErrorKind::Shape) and
    /// [`ErrorKind::NonFinite`](crate::ErrorKind::NonFinite) for one that does not fit or has bad pixels, [`ErrorKind::Backend`](crate::ErrorKind::Backend) if the engine fails,
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), and those of [`Seed::fresh`].
    pub fn certify(&self, image: &Images) -> Result<Certificate> {
        self.certify_with(Seed::fresh()?, 0, image)
    }

    /// Like [`SmoothedClassifier::certify`] with a known seed and the image's index in the noise. It is a certificate only if that seed was drawn after the image was fixed.
    ///
    /// # Errors
    /// As [`SmoothedClassifier::certify`].
    pub fn certify_with(
        &self,
        seed: impl Into<Seed>,
        index: u32,
        image: &Images,
    ) -> Result<Certificate> {
        let seed = seed.into();
        let (n0, n) = (self.smoothing.n0, self.smoothing.n);
        let draws = self.draws(seed, index, image, n0 + n)?;
        let selection = draws.votes(0..n0, |_| true)?;
        let class = selection.leader();
        // Other draws than those of the selection, or the estimate would favour the class that they chose.
        let estimation = draws.votes(n0..n0 + n, |votes| {
            self.smoothing.probability(class, votes, n - votes.n()) > 0.5
        })?;
        Ok(self
            .smoothing
            .certificate(selection, estimation, (seed, index)))
    }

    /// Prepares to draw noise on an image.
    fn draws<'a>(
        &'a self,
        seed: Seed,
        index: u32,
        image: &'a Images,
        n_total: usize,
    ) -> Result<Draws<'a>> {
        image.check(self.classifier.image())?;
        if image.len() != 1 {
            return Err(Error::out_of_range("image", "one image", image.len()));
        }
        Ok(Draws {
            smoothed: self,
            energy: self.energy.as_ref().map(|energy| energy.with_seed(seed)),
            seed,
            index,
            image,
            n_total,
        })
    }
}

impl fmt::Debug for SmoothedClassifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmoothedClassifier")
            .field("classifier", &self.classifier)
            .field("energy", &self.energy)
            .field("smoothing", &self.smoothing)
            .finish_non_exhaustive()
    }
}

/// The draws of noise on one image, and what the base classifier answers to them.
struct Draws<'a> {
    smoothed: &'a SmoothedClassifier,
    /// With the seed of these draws.
    energy: Option<Purifier>,
    seed: Seed,
    index: u32,
    image: &'a Images,
    /// Draws of all parts together.
    n_total: usize,
}

impl Draws<'_> {
    /// The votes of the draws with these numbers; of fewer if `is_open` says that the others cannot change the outcome. It is asked at fixed places, so that the votes do not depend
    /// on batch or threads.
    fn votes(&self, numbers: Range<usize>, is_open: impl Fn(&Votes) -> bool) -> Result<Votes> {
        let mut votes = Votes::none(self.smoothed.classifier.n_classes());
        let n_bytes = size_of_val(self.image.values());
        let n_together = (BUFFER_BYTES / n_bytes.max(1)).clamp(1, MOST_TOGETHER);
        let mut first = numbers.start;
        while first < numbers.end && is_open(&votes) {
            self.smoothed.cancel.check()?;
            let end = numbers.end.min(first + n_together);
            for answer in self.answers(first..end)? {
                votes.add(answer);
            }
            first = end;
            if let Some(on_progress) = &self.smoothed.on_progress {
                on_progress(Progress {
                    n_done: first as u64,
                    n_total: self.n_total as u64,
                });
            }
        }
        Ok(votes)
    }

    /// The answers of the base classifier to the draws with these numbers.
    fn answers(&self, numbers: Range<usize>) -> Result<Vec<Option<usize>>> {
        let noisy = self.noisy(numbers.clone())?;
        let Some(energy) = &self.energy else {
            return self.classified(noisy.values());
        };
        let chains: Vec<Chain> = (0..)
            .zip(numbers)
            .map(|(row, number)| Chain {
                image: row,
                noise_index: self.index,
                replica: number as u32,
            })
            .collect();
        let request = Request::new(&noisy).cancel(&self.smoothed.cancel);
        let answers = energy.run_chains(&request, &chains, |finished| {
            let mut answers = self.classified(&finished.states)?;
            for (answer, report) in answers.iter_mut().zip(&finished.reports) {
                if report.failed_step.is_some() {
                    *answer = None;
                }
            }
            Ok(answers)
        })?;
        Ok(answers.concat())
    }

    /// `x + σz` for the draws with these numbers.
    fn noisy(&self, numbers: Range<usize>) -> Result<Images> {
        let x = self.image.values();
        let sigma = self.smoothed.smoothing.sigma.in_signed_range() as f32;
        let mut values = vec![0.0; numbers.len() * x.len()];
        for (number, row) in numbers.zip(values.chunks_exact_mut(x.len())) {
            let number = number as u32;
            fill_normal(self.seed.number(), self.index, number, SMOOTHING, row);
            for (value, x) in row.iter_mut().zip(x) {
                *value = x + sigma * *value;
            }
        }
        Images::from_vec(self.image.shape(), values)
    }

    /// The classifier's answers to states `[n, C, H, W]`; none if its logits are not numbers.
    fn classified(&self, states: &[f32]) -> Result<Vec<Option<usize>>> {
        let classifier = &self.smoothed.classifier;
        let logits = classifier.logits_of(states)?;
        let answer = |row: &[f32]| (!row.iter().any(|x| x.is_nan())).then(|| largest(row));
        Ok(logits
            .chunks_exact(classifier.n_classes())
            .map(answer)
            .collect())
    }
}
