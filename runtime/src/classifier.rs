//! Classifiers, bare and defended by purification.

use ndarray::Array2;

use crate::contract::{ImageShape, Kind};
use crate::error::{Error, ErrorKind, Result};
use crate::images::Images;
use crate::prepared::{AnyModel, Builder, Prepared, buildable};
use crate::purifier::{ChainReport, Purifier, Request};
use crate::rows::{Rows, RowsOut};

/// A classifier on a backend.
#[derive(Clone)]
pub struct Classifier {
    model: Prepared,
    n_classes: usize,
}

buildable!(Classifier, ());

impl Builder<Classifier> {
    /// Prepares the classifier.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] for a model of another kind, and the errors of [`Backend::prepare`](crate::Backend::prepare).
    pub fn build(self) -> Result<Classifier> {
        self.expect_kind(&[Kind::Classifier])?;
        let model = self.prepare()?;
        let n_classes = model.contract().n_classes;
        Ok(Classifier {
            n_classes: n_classes.expect("a classifier's contract has been checked for it"),
            model,
        })
    }
}

impl Classifier {
    /// Starts from a model of kind `classifier`.
    pub fn builder(model: impl Into<AnyModel>) -> Builder<Self> {
        Builder::new(model.into(), ())
    }

    /// The prepared model.
    pub fn model(&self) -> &Prepared {
        &self.model
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Shape of the images that it classifies.
    pub fn image(&self) -> ImageShape {
        self.model.contract().image
    }

    /// The logits `[N, n_classes]` of images `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] and [`ErrorKind::NonFinite`] for images that do not fit or have bad pixels, [`ErrorKind::Backend`] if the engine fails.
    pub fn logits(&self, images: &Images) -> Result<Array2<f32>> {
        images.check(self.image())?;
        let values = self.logits_of(images.values())?;
        Ok(
            Array2::from_shape_vec((images.len(), self.n_classes), values)
                .expect("there are as many logits as images and classes"),
        )
    }

    /// The classes of images `[N, C, H, W]`, with the logits.
    ///
    /// # Errors
    /// As [`Classifier::logits`].
    ///
    /// ```
    /// use ebm_runtime::{Classifier, Images, ModelFolder};
    ///
    /// # fn main() -> ebm_runtime::Result<()> {
    /// let models = ModelFolder::open("tests/fixtures/digits")?;
    /// let classifier = Classifier::builder(models.require_classifier()?).build()?;
    /// let black = Images::from_bytes(classifier.image(), &[0; 64])?;
    /// let answers = classifier.classify(&black)?;
    /// assert_eq!(answers.logits.dim(), (1, 2));
    /// assert_eq!(answers.predictions.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn classify(&self, images: &Images) -> Result<Classified> {
        let logits = self.logits(images)?;
        Ok(Classified {
            predictions: argmax(&logits),
            logits,
        })
    }

    /// The logits of states `[n, C, H, W]` of any number.
    pub(crate) fn logits_of(&self, states: &[f32]) -> Result<Vec<f32>> {
        let image = self.image();
        let shape = image.dimensions();
        let x = Rows::new("x", &shape, states);
        let logits: RowsOut<'_> = ("logits", &[self.n_classes]);
        let n = states.len() / image.n_values();
        Ok(self.model.rows(n, &[x], &[], &[logits])?.swap_remove(0))
    }
}

/// The answers of a [`Classifier`] to N images.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Classified {
    /// `[N, n_classes]`
    pub logits: Array2<f32>,
    /// The class of the largest logit, from 0, for each image; the first one if several are equal.
    pub predictions: Vec<usize>,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier")
            .field("image", &self.image())
            .field("n_classes", &self.n_classes)
            .finish_non_exhaustive()
    }
}

/// A classifier that sees each image through several independent purifications and answers with the mean of its logits over them.
#[derive(Debug)]
pub struct DefendedClassifier {
    purifier: Purifier,
    classifier: Classifier,
    n_replicas: usize,
}

impl DefendedClassifier {
    /// Puts a classifier behind `n_replicas` purifications of each image.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if purifier and classifier are for images of different shapes, [`ErrorKind::Argument`] for no replicas.
    pub fn new(purifier: Purifier, classifier: Classifier, n_replicas: usize) -> Result<Self> {
        expect_same_images(&purifier, &classifier)?;
        if n_replicas == 0 {
            return Err(Error::out_of_range("n_replicas", "a number from 1", 0));
        }
        Ok(Self {
            purifier,
            classifier,
            n_replicas,
        })
    }

    /// The classifier itself.
    pub fn classifier(&self) -> &Classifier {
        &self.classifier
    }

    /// The purifier in front of it.
    pub fn purifier(&self) -> &Purifier {
        &self.purifier
    }

    /// Classifies images `[N, C, H, W]`; image `i` has index `i` in the noise.
    ///
    /// # Errors
    /// As [`Purifier::purify`].
    pub fn classify(&self, images: &Images) -> Result<Defended> {
        self.classify_request(&Request::new(images))
    }

    /// Like [`DefendedClassifier::classify`], as a request says: with its noise indices, its cancel switch and its time, and
    /// the replicas of this classifier.
    ///
    /// # Errors
    /// As [`Purifier::purify`], and [`ErrorKind::Cancelled`].
    pub fn classify_request(&self, request: &Request<'_>) -> Result<Defended> {
        let request = request.clone().n_replicas(self.n_replicas);
        let chains = self.purifier.chains(&request)?;
        let n_classes = self.classifier.n_classes;
        // Only the logits of a batch are kept, so that memory does not grow with the number of replicas.
        let logits = self.purifier.run_chains(&request, &chains, |finished| {
            let mut reports = finished.reports.iter();
            reports.try_for_each(ChainReport::expect_finite)?;
            self.classifier.logits_of(&finished.states)
        })?;
        let n_images = request.n_images();
        Ok(Defended::from_replicas(
            &logits.concat(),
            n_images,
            n_classes,
        ))
    }
}

/// The answers of a [`DefendedClassifier`] to N images.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Defended {
    /// Mean logits over the replicas, `[N, n_classes]`.
    pub logits: Array2<f32>,
    /// The class of the largest mean logit, for each image.
    pub predictions: Vec<usize>,
    /// The class that each replica alone would have given, `[replicas, N]`.
    pub votes: Array2<usize>,
}

impl Defended {
    /// `logits` are `[replicas, n_images, n_classes]`.
    fn from_replicas(logits: &[f32], n_images: usize, n_classes: usize) -> Self {
        let replicas: Vec<&[f32]> = logits.chunks_exact((n_images * n_classes).max(1)).collect();
        let n_replicas = replicas.len() as f32;
        // The sum goes over the replicas in their order, so that the mean has the same bits however they were run.
        let mean = Array2::from_shape_fn((n_images, n_classes), |(image, class)| {
            replicas
                .iter()
                .map(|replica| replica[image * n_classes + class])
                .sum::<f32>()
                / n_replicas
        });
        let votes = Array2::from_shape_fn((replicas.len(), n_images), |(replica, image)| {
            largest(&replicas[replica][image * n_classes..][..n_classes])
        });
        Self {
            predictions: argmax(&mean),
            logits: mean,
            votes,
        }
    }

    /// The share of the replicas that alone would have given the same class, for each image, in `[0, 1]`.
    pub fn agreement(&self) -> Vec<f32> {
        let share = |(image, prediction): (usize, &usize)| {
            let votes = self.votes.column(image);
            votes.iter().filter(|&vote| vote == prediction).count() as f32 / votes.len() as f32
        };
        self.predictions.iter().enumerate().map(share).collect()
    }

    /// The class that most replicas would have given, for each image; the lowest of those that tie.
    pub fn majority(&self) -> Vec<usize> {
        let winner = |votes: ndarray::ArrayView1<'_, usize>| {
            let mut counts = vec![0.0_f32; self.logits.ncols()];
            votes.iter().for_each(|&vote| counts[vote] += 1.0);
            largest(&counts)
        };
        self.votes.columns().into_iter().map(winner).collect()
    }
}

/// Returns Ok if both are for images of one shape.
pub(crate) fn expect_same_images(purifier: &Purifier, classifier: &Classifier) -> Result<()> {
    let (expected, got) = (purifier.contract().image, classifier.image());
    if expected == got {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Shape,
        "purifier and classifier are for images of different shapes",
    )
    .expected(expected)
    .but_got(got))
}

/// The class of the largest logit in each row of `[N, n_classes]`; the first one if several are equal.
fn argmax(logits: &Array2<f32>) -> Vec<usize> {
    logits
        .rows()
        .into_iter()
        .map(|row| largest(row.iter()))
        .collect()
}

pub(crate) fn largest<'a>(values: impl IntoIterator<Item = &'a f32>) -> usize {
    let first = (0, f32::NEG_INFINITY);
    let larger = |best: (usize, f32), (index, &value): (usize, &f32)| {
        if value > best.1 { (index, value) } else { best }
    };
    values.into_iter().enumerate().fold(first, larger).0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::backend::Backend;
    use crate::backend::tests::available_backends;
    use crate::model::ModelFolder;
    use crate::model::tests::fixture;
    use ndarray::array;

    fn defended(
        backend: &Backend,
        n_replicas: usize,
        batch: usize,
        threads: usize,
    ) -> Result<DefendedClassifier> {
        let models = ModelFolder::open(fixture("digits")).unwrap();
        let purifier = Purifier::builder(&models.step)
            .backend(backend.clone())
            .batch(batch)
            .threads(threads);
        let classifier = Classifier::builder(models.classifier.as_ref().unwrap())
            .backend(backend.clone())
            .threads(threads)
            .build()?;
        DefendedClassifier::new(purifier.build(3)?, classifier, n_replicas)
    }

    /// The upper half bright in even images, the lower half in odd ones.
    fn halves(n_images: usize) -> Images {
        let shape = ImageShape {
            channels: 1,
            height: 8,
            width: 8,
        };
        let bright = |i: usize| (i % 64 < 32) == (i / 64).is_multiple_of(2);
        Images::from_vec(
            shape,
            (0..n_images * 64)
                .map(|i| if bright(i) { 1.0 } else { -1.0 })
                .collect(),
        )
        .unwrap()
    }

    #[test]
    fn mean_and_agreement_are_over_replicas() {
        let logits = [1.0, 0.0, 3.0, 1.0, 0.0, 4.0, 1.0, 0.0, 2.0, 0.0, 0.0, 1.0];
        let defended = Defended::from_replicas(&logits, 2, 2);
        assert_eq!(
            defended.logits,
            array![[1.0, 4.0 / 3.0], [4.0 / 3.0, 2.0 / 3.0]]
        );
        assert_eq!(defended.predictions, [1, 0]);
        assert_eq!(defended.agreement(), [1.0 / 3.0, 2.0 / 3.0]);
        // One loud replica carries the mean of the first image, two quiet ones its vote.
        assert_eq!(defended.votes, array![[0, 0], [1, 0], [0, 1]]);
        assert_eq!(defended.majority(), [0, 0]);
    }

    #[test]
    fn a_defended_classifier_answers_as_the_bare_one_on_clear_images() {
        for backend in available_backends() {
            let defended = defended(&backend, 4, 3, 2).unwrap();
            let images = halves(70);
            let bare = defended.classifier().classify(&images).unwrap().predictions;
            assert_eq!(
                bare,
                (0..70).map(|i| i % 2).collect::<Vec<_>>(),
                "{backend}"
            );
            let answer = defended.classify(&images).unwrap();
            assert_eq!(answer.predictions, bare, "{backend}");
            assert!(
                answer.agreement().iter().all(|&share| share == 1.0),
                "{backend}"
            );
        }
    }

    #[test]
    fn answers_do_not_depend_on_batch_threads_or_what_else_is_in_the_call() {
        for backend in available_backends() {
            let images = halves(5);
            let whole = defended(&backend, 6, 1, 1)
                .unwrap()
                .classify(&images)
                .unwrap();
            for (batch, threads) in [(3, 1), (8, 2), (64, 3)] {
                let other = defended(&backend, 6, batch, threads)
                    .unwrap()
                    .classify(&images)
                    .unwrap();
                assert_eq!(other, whole, "{backend}, batch {batch}, {threads} threads");
            }
            let last = Images::from_vec(images.shape(), images.image(4).to_vec()).unwrap();
            let alone = defended(&backend, 6, 8, 1)
                .unwrap()
                .classify_request(&Request::new(&last).first_index(4))
                .unwrap();
            assert_eq!(alone.logits.row(0), whole.logits.row(4), "{backend}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for backend in available_backends() {
            assert_eq!(
                defended(&backend, 0, 8, 1).unwrap_err().kind(),
                ErrorKind::Argument
            );
            let digits = ModelFolder::open(fixture("digits")).unwrap();
            let colour = ModelFolder::open(fixture("colour")).unwrap();
            let classifier = |model| Classifier::builder(model).backend(backend.clone()).build();
            let error = classifier(&digits.step).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongKind);
            let classifier = classifier(colour.classifier.as_ref().unwrap()).unwrap();
            assert_eq!(
                classifier.logits(&halves(1)).unwrap_err().kind(),
                ErrorKind::Shape
            );
            let purifier = Purifier::builder(&digits.step)
                .backend(backend.clone())
                .build(0)
                .unwrap();
            let error = DefendedClassifier::new(purifier, classifier, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
        }
    }

    #[test]
    fn no_images_have_no_answers() {
        for backend in available_backends() {
            let answer = defended(&backend, 2, 8, 2)
                .unwrap()
                .classify(&halves(0))
                .unwrap();
            assert_eq!(answer.logits.dim(), (0, 2));
        }
    }
}
