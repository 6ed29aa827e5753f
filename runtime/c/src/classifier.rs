//! Classifiers, bare and defended by purification.
#![allow(unsafe_code)]

use runtime::{Cancel, Defended, DefendedClassifier};

use crate::handle::{self, Named, Opaque};
use crate::images::{Given, Pixel, Room, times};
use crate::model::Model;
use crate::purifier::Purifier;
use crate::request::{Request, unless_cancelled};
use crate::settings::{Choices, Settings};
use crate::status::{Result, Status, guard};

/// Classifies images. Any number of threads may use it at once.
pub struct Classifier(#[allow(dead_code)] Opaque);

impl Named for Classifier {
    type Object = runtime::Classifier;
    const NAME: &'static str = "ebm_classifier";
}

/// Where the answers for N images go. Any of the pointers may be null for what is not wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Answers {
    /// Room for the logits [N, n_classes], of a defended classifier their mean over the replicas.
    pub logits: *mut f32,
    /// N·n_classes.
    pub n_logits: usize,
    /// Room for the class of the largest logit of each image, from 0.
    pub predictions: *mut usize,
    /// N.
    pub n_predictions: usize,
    /// Room for the share of the replicas that alone would have given the same class, for each image, in [0, 1]; a bare classifier agrees with itself.
    pub agreement: *mut f32,
    /// N.
    pub n_agreement: usize,
}

/// The rooms of [`Answers`].
struct Rooms {
    logits: Room<f32>,
    predictions: Room<usize>,
    agreement: Room<f32>,
}

impl From<Answers> for Rooms {
    fn from(answers: Answers) -> Self {
        Self {
            logits: Room::new("logits", answers.logits, answers.n_logits),
            predictions: Room::new("predictions", answers.predictions, answers.n_predictions),
            agreement: Room::new("agreement", answers.agreement, answers.n_agreement),
        }
    }
}

impl Rooms {
    fn check(&self, n_images: usize, n_classes: usize) -> Result<()> {
        self.logits
            .check_unless_null(times("n_images", n_images, n_classes)?)?;
        self.predictions.check_unless_null(n_images)?;
        self.agreement.check_unless_null(n_images)
    }

    /// # Safety
    /// As for [`Room::write`], for all rooms.
    unsafe fn write(&self, logits: &[f32], predictions: &[usize], agreement: &[f32]) -> Result<()> {
        // SAFETY: as for this function.
        unsafe {
            self.logits.write(logits)?;
            self.predictions.write(predictions)?;
            self.agreement.write(agreement)
        }
    }
}

/// Makes a classifier of a model of that kind. Of `settings`, which may be null, the backend and the threads count.
///
/// The caller owns `*classifier`, which is null after a failure, and gives it back with `ebm_classifier_free`. Fails with `EBM_STATUS_WRONG_KIND`,
/// `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_classifier_new(
    model: *const Model,
    settings: *const Settings,
    classifier: *mut *mut Classifier,
) -> Status {
    let make = || {
        let choices = Choices::of(settings)?;
        let model = handle::get("model", model)?;
        Ok(choices
            .engine(runtime::Classifier::builder(&*model))
            .build()?)
    };
    // SAFETY: the caller gives a place for a handle.
    guard(|| unsafe { handle::give_at("classifier", classifier, make) })
}

/// Gives a classifier back. Null is fine; a classifier that was freed is `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_classifier_free(classifier: *mut Classifier) -> Status {
    guard(|| handle::free("classifier", classifier))
}

/// Classifies `n_images` images as they are, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W.
///
/// Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_classify(
    classifier: *const Classifier,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    answers: Answers,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images and room.
    guard(|| unsafe { classify(classifier, given, &answers.into()) })
}

/// Like `ebm_classify` for bytes [N, H, W, C].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_classify_u8(
    classifier: *const Classifier,
    images: *const u8,
    n_images: usize,
    n_values: usize,
    answers: Answers,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images and room.
    guard(|| unsafe { classify(classifier, given, &answers.into()) })
}

/// # Safety
/// The pointers are null, misaligned, or to as much as is stated beside them.
unsafe fn classify<P: Pixel>(
    classifier: *const Classifier,
    images: Given<P>,
    rooms: &Rooms,
) -> Result<()> {
    let classifier = handle::get("classifier", classifier)?;
    rooms.check(images.n_images, classifier.n_classes())?;
    // SAFETY: as for this function.
    unsafe {
        let images = images.read(classifier.image())?;
        let answer = classifier.classify(&images)?;
        let agreement = vec![1.0; images.len()];
        let logits: Vec<f32> = answer.logits.iter().copied().collect();
        rooms.write(&logits, &answer.predictions, &agreement)
    }
}

/// Classifies `n_images` images, f32 [N, C, H, W] in [-1, 1], each by the mean of its logits over the `n_replicas` independent purifications of `request`.
///
/// `request` may be null, but then there is a single purification; 32 and more make a defence. `n_values` is N·C·H·W.
///
/// Fails as `ebm_purify`; a chain that leaves the finite numbers is `EBM_STATUS_NON_FINITE`, and purifier and classifier for images of different shapes are
/// `EBM_STATUS_SHAPE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_classify_defended(
    purifier: *const Purifier,
    classifier: *const Classifier,
    request: *const Request,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    answers: Answers,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images, room and a request, or null.
    guard(|| unsafe { classify_defended(purifier, classifier, request, given, &answers.into()) })
}

/// Like `ebm_classify_defended` for bytes [N, H, W, C].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_classify_defended_u8(
    purifier: *const Purifier,
    classifier: *const Classifier,
    request: *const Request,
    images: *const u8,
    n_images: usize,
    n_values: usize,
    answers: Answers,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images, room and a request, or null.
    guard(|| unsafe { classify_defended(purifier, classifier, request, given, &answers.into()) })
}

/// # Safety
/// The pointers are null, misaligned, or to as much as is stated beside them.
unsafe fn classify_defended<P: Pixel>(
    purifier: *const Purifier,
    classifier: *const Classifier,
    request: *const Request,
    images: Given<P>,
    rooms: &Rooms,
) -> Result<()> {
    let chains = handle::get("purifier", purifier)?;
    let classifier = handle::get("classifier", classifier)?;
    rooms.check(images.n_images, classifier.n_classes())?;
    // SAFETY: as for this function.
    unsafe {
        let request = Request::read(request)?;
        times("n_replicas", request.n_replicas, images.n_values)?;
        let images = images.read(chains.model().contract().image)?;
        let cancel = Cancel::new();
        let purifier = chains.watched(&request, &cancel)?;
        let asked = request.of(&images, &cancel);
        let n_replicas = if images.is_empty() {
            1
        } else {
            request.n_replicas
        };
        let defended = DefendedClassifier::new(purifier, (*classifier).clone(), n_replicas)?;
        let answer = defended.classify_request(&asked)?;
        let answer: Defended = unless_cancelled(&cancel, answer)?;
        let logits: Vec<f32> = answer.logits.iter().copied().collect();
        rooms.write(&logits, &answer.predictions, &answer.agreement())
    }
}
