//! Classifiers that are certified by randomised smoothing.
#![allow(unsafe_code)]

use std::ffi::c_void;

use runtime::{Cancel, PixelDistance, Purifier, SmoothedClassifier};

use crate::handle::{self, Named, Opaque};
use crate::images::{Given, Pixel};
use crate::model::Model;
use crate::pointer;
use crate::request::{Progress, Request, unless_cancelled};
use crate::settings::{Choices, Settings};
use crate::status::{Result, Status, guard};

/// Answers with the class that a classifier gives most often under noise. Any number of threads may use it at once.
pub struct Smoothed(#[allow(dead_code)] Opaque);

impl Named for Smoothed {
    type Object = SmoothedClassifier;
    const NAME: &'static str = "ebm_smoothed";
}

/// How a classifier is smoothed, and how sure of its answers it has to be. Start from `ebm_smoothing_default`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Smoothing {
    /// Standard deviation of the noise, of pixels in [0, 1]: above 0, up to 1.
    pub sigma: f64,
    /// Draws of noise that select the class to certify, from 1.
    pub n0: usize,
    /// Draws of noise that estimate its probability, from n0 to 100,000; of a prediction all that there are.
    pub n: usize,
    /// The largest probability of an answer that is wrong about the smoothed classifier, between 0 and 1.
    pub alpha: f64,
}

/// Noise that is known: with it, an answer is reproduced.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct KnownNoise {
    /// The seed that an answer states.
    pub seed: u64,
    /// The index of the image in the noise, 0 if none was given.
    pub index: u32,
}

/// What is certified of an image.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// The class of the smoothed classifier at the image and at all others within the radius, from 0; -1 if there is no certificate.
    pub class_index: i64,
    /// The l2 radius, of pixels in [0, 1]; twice that of pixels in [-1, 1]. 0 if there is no certificate.
    pub radius: f64,
    /// The lower bound of the probability of the class under noise. 0 if drawing ended early, since there could be no certificate any more.
    pub probability: f64,
    /// The seed of the noise.
    pub seed: u64,
}

/// What is predicted of an image.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The class of the smoothed classifier, from 0; -1 if the votes cannot tell it.
    pub class_index: i64,
    /// The seed of the noise.
    pub seed: u64,
}

impl From<runtime::Certificate> for Certificate {
    fn from(certificate: runtime::Certificate) -> Self {
        Self {
            class_index: class_index(certificate.class),
            radius: certificate.radius.in_unit_range(),
            probability: certificate.probability,
            seed: certificate.seed.number(),
        }
    }
}

impl From<runtime::Prediction> for Prediction {
    fn from(prediction: runtime::Prediction) -> Self {
        Self {
            class_index: class_index(prediction.class),
            seed: prediction.seed.number(),
        }
    }
}

fn class_index(class: Option<usize>) -> i64 {
    class.and_then(|class| class.try_into().ok()).unwrap_or(-1)
}

/// Noise of deviation `sigma`, of pixels in [0, 1], with n0 = 100, n = 10,000 and alpha = 0.001.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_smoothing_default(sigma: f64) -> Smoothing {
    let default = runtime::Smoothing::new(PixelDistance::of_unit_range(sigma));
    Smoothing {
        sigma,
        n0: default.n0,
        n: default.n,
        alpha: default.alpha,
    }
}

/// Makes a smoothed classifier of a model of that kind, behind the steps of `step`, a model of kind step; null for the classifier alone.
///
/// `settings`, which may be null, are those of the steps; `ebm_settings_denoiser` makes one step of them that removes the noise. Backend and threads count for
/// both models. The caller owns `*smoothed`, which is null after a failure, and gives it back with `ebm_smoothed_free`.
///
/// Fails with `EBM_STATUS_ARGUMENT` (a setting or a number of `smoothing` out of range), `EBM_STATUS_SHAPE` (models for images of different shapes),
/// `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_smoothed_new(
    classifier: *const Model,
    step: *const Model,
    settings: *const Settings,
    smoothing: Smoothing,
    smoothed: *mut *mut Smoothed,
) -> Status {
    let make = || {
        let choices = Choices::of(settings)?;
        let model = handle::get("classifier", classifier)?;
        let classifier = choices
            .engine(runtime::Classifier::builder(&*model))
            .build()?;
        let smoothing = runtime::Smoothing {
            sigma: PixelDistance::of_unit_range(smoothing.sigma),
            n0: smoothing.n0,
            n: smoothing.n,
            alpha: smoothing.alpha,
        };
        let smoothed = SmoothedClassifier::new(classifier, smoothing)?;
        if step.is_null() {
            return Ok(smoothed);
        }
        let steps = Purifier::builder(&*handle::get("step", step)?);
        Ok(smoothed.behind(choices.engine(choices.dynamics(steps)))?)
    };
    // SAFETY: the caller gives a place for a handle.
    guard(|| unsafe { handle::give_at("smoothed", smoothed, make) })
}

/// Gives a smoothed classifier back. Null is fine; one that was freed is `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_smoothed_free(smoothed: *mut Smoothed) -> Status {
    guard(|| handle::free("smoothed", smoothed))
}

/// Certifies one image, f32 [C, H, W] in [-1, 1], by randomised smoothing (Cohen, Rosenfeld and Kolter 2019): with confidence 1 - alpha no image closer than
/// the radius has another class. It holds for the smoothed classifier, whose answers are those of `ebm_predict`, whatever attack is tried, in exact arithmetic,
/// for the image as it comes here.
///
/// `noise` is null: its seed is drawn now that the image is fixed, and stated in the certificate. Known noise reproduces a certificate, and is no new evidence:
/// an image can be chosen for noise that is known. `on_progress`, which may be null, is told of the draws of noise and can cancel the call; it is called with
/// `user_data`. `n_values` is C*H*W.
///
/// Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite), `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_certify(
    smoothed: *const Smoothed,
    noise: *const KnownNoise,
    image: *const f32,
    n_values: usize,
    on_progress: Progress,
    user_data: *mut c_void,
    certificate: *mut Certificate,
) -> Status {
    let asked = Asked::new(smoothed, noise, image, n_values, on_progress, user_data);
    // SAFETY: the caller gives an image, a place for the certificate, and noise, or null.
    guard(|| unsafe { asked.certify(certificate) })
}

/// Like `ebm_certify` for bytes [H, W, C].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_certify_u8(
    smoothed: *const Smoothed,
    noise: *const KnownNoise,
    image: *const u8,
    n_values: usize,
    on_progress: Progress,
    user_data: *mut c_void,
    certificate: *mut Certificate,
) -> Status {
    let asked = Asked::new(smoothed, noise, image, n_values, on_progress, user_data);
    // SAFETY: the caller gives an image, a place for the certificate, and noise, or null.
    guard(|| unsafe { asked.certify(certificate) })
}

/// Tells the class of the smoothed classifier at one image, f32 [C, H, W] in [-1, 1], by a vote under noise that is wrong with probability alpha at most.
/// Arguments and failures are those of `ebm_certify`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_predict(
    smoothed: *const Smoothed,
    noise: *const KnownNoise,
    image: *const f32,
    n_values: usize,
    on_progress: Progress,
    user_data: *mut c_void,
    prediction: *mut Prediction,
) -> Status {
    let asked = Asked::new(smoothed, noise, image, n_values, on_progress, user_data);
    // SAFETY: the caller gives an image, a place for the prediction, and noise, or null.
    guard(|| unsafe { asked.predict(prediction) })
}

/// Like `ebm_predict` for bytes [H, W, C].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_predict_u8(
    smoothed: *const Smoothed,
    noise: *const KnownNoise,
    image: *const u8,
    n_values: usize,
    on_progress: Progress,
    user_data: *mut c_void,
    prediction: *mut Prediction,
) -> Status {
    let asked = Asked::new(smoothed, noise, image, n_values, on_progress, user_data);
    // SAFETY: the caller gives an image, a place for the prediction, and noise, or null.
    guard(|| unsafe { asked.predict(prediction) })
}

/// What a caller asks of a smoothed classifier.
struct Asked<P> {
    smoothed: *const Smoothed,
    noise: *const KnownNoise,
    image: Given<P>,
    request: Request,
}

impl<P: Pixel> Asked<P> {
    fn new(
        smoothed: *const Smoothed,
        noise: *const KnownNoise,
        image: *const P,
        n_values: usize,
        on_progress: Progress,
        user_data: *mut c_void,
    ) -> Self {
        Self {
            smoothed,
            noise,
            image: Given::new(image, 1, n_values),
            request: Request {
                on_progress,
                user_data,
                ..Request::default()
            },
        }
    }

    /// # Safety
    /// The pointers are null, misaligned, or to as much as is stated beside them.
    unsafe fn certify(&self, place: *mut Certificate) -> Result<()> {
        pointer::check("certificate", place, 1)?;
        // SAFETY: as for this function.
        let certificate = unsafe {
            self.answer(|smoothed, noise, image| match noise {
                None => smoothed.certify(image),
                Some(noise) => smoothed.certify_with(noise.seed, noise.index, image),
            })?
        };
        // SAFETY: as for this function.
        unsafe { pointer::write("certificate", place, &[certificate.into()]) }
    }

    /// # Safety
    /// As for [`Asked::certify`].
    unsafe fn predict(&self, place: *mut Prediction) -> Result<()> {
        pointer::check("prediction", place, 1)?;
        // SAFETY: as for this function.
        let prediction = unsafe {
            self.answer(|smoothed, noise, image| match noise {
                None => smoothed.predict(image),
                Some(noise) => smoothed.predict_with(noise.seed, noise.index, image),
            })?
        };
        // SAFETY: as for this function.
        unsafe { pointer::write("prediction", place, &[prediction.into()]) }
    }

    /// What the smoothed classifier answers while the caller watches.
    ///
    /// # Safety
    /// As for [`Asked::certify`].
    unsafe fn answer<T>(
        &self,
        ask: impl FnOnce(
            &SmoothedClassifier,
            Option<KnownNoise>,
            &runtime::Images,
        ) -> runtime::Result<T>,
    ) -> Result<T> {
        let smoothed = handle::get("smoothed", self.smoothed)?;
        // SAFETY: as for this function.
        let (noise, image) = unsafe {
            let noise = match self.noise.is_null() {
                true => None,
                false => Some(pointer::read("noise", self.noise)?),
            };
            (noise, self.image.read(smoothed.classifier().image())?)
        };
        let cancel = Cancel::new();
        let watched = (*smoothed).clone().cancel(&cancel);
        let watched = match self.request.watcher(&cancel) {
            None => watched,
            Some(watcher) => watched.on_progress(move |progress| watcher.report(progress)),
        };
        unless_cancelled(&cancel, ask(&watched, noise, &image)?)
    }
}
