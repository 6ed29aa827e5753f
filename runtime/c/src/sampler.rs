//! Samplers.
#![allow(unsafe_code)]

use runtime::{Generator, Start};

use crate::handle::{self, Named, Opaque};
use crate::images::{Given, Pixel};
use crate::model::Model;
use crate::purifier::{Chains, Ends, Purifier, ends};
use crate::request::{Report, Request};
use crate::status::{Failure, Result, Status, guard};

/// Draws samples: Langevin chains from noise, from images, or from what a generator makes. Sample i depends on nothing but seed, start and i. Any number of
/// threads may use it at once.
pub struct Sampler(#[allow(dead_code)] Opaque);

impl Named for Sampler {
    type Object = Drawing;
    const NAME: &'static str = "ebm_sampler";
}

/// What the chains start from, and what runs them.
pub(crate) struct Drawing {
    sampler: runtime::Sampler,
    chains: Chains,
}

impl Drawing {
    fn new(
        purifier: *const Purifier,
        start: impl FnOnce(&Chains) -> Result<Start>,
    ) -> Result<Self> {
        let chains = (*handle::get("purifier", purifier)?).clone();
        let start = start(&chains)?;
        Ok(Self {
            sampler: runtime::Sampler::new(chains.purifier()?, start)?,
            chains,
        })
    }
}

/// Makes a sampler whose chains start from values that are uniform in [-1, 1].
///
/// Its steps are those of `purifier`, which it shares: make that with `ebm_settings_as_learned` for the dynamics under which the energy was learned. The
/// caller owns `*sampler`, which is null after a failure, and gives it back with `ebm_sampler_free`; the purifier may be freed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_sampler_from_noise(
    purifier: *const Purifier,
    sampler: *mut *mut Sampler,
) -> Status {
    guard(|| {
        let make = || Drawing::new(purifier, |_| Ok(Start::Noise));
        // SAFETY: the caller gives a place for a handle.
        unsafe { handle::give_at("sampler", sampler, make) }
    })
}

/// Makes a sampler whose chains start from images, f32 [N, C, H, W] in [-1, 1], over and over: sample i from image i mod N. `n_values` is N·C·H·W, and N
/// is at least 1. The images are copied.
///
/// Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_SHAPE` or `EBM_STATUS_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_sampler_from_images(
    purifier: *const Purifier,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    sampler: *mut *mut Sampler,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    guard(|| {
        let start = |chains: &Chains| -> Result<Start> {
            // SAFETY: the caller gives as many values.
            let images = unsafe { given.read(chains.model().contract().image)? };
            Ok(Start::Images(images))
        };
        // SAFETY: the caller gives a place for a handle.
        unsafe { handle::give_at("sampler", sampler, || Drawing::new(purifier, start)) }
    })
}

/// Makes a sampler whose chains start from what a generator makes of standard normal latents. The generator runs on the backend of `purifier`.
///
/// `class_index` is the class of the images, from 0, for a generator that distinguishes classes; negative for one that does not.
///
/// Else it is as `ebm_sampler_from_noise`. Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_SHAPE` (images of another shape than the energy's),
/// `EBM_STATUS_ARGUMENT` (a class that the generator does not have) or as `ebm_purifier_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_sampler_from_generator(
    purifier: *const Purifier,
    generator: *const Model,
    class_index: i64,
    sampler: *mut *mut Sampler,
) -> Status {
    guard(|| {
        let start = |chains: &Chains| -> Result<Start> {
            let model = handle::get("generator", generator)?;
            model.expect_kind(runtime::Kind::Generator)?;
            let generator = Generator::builder(&*model)
                .backend(chains.model().backend().clone())
                .threads(chains.model().n_threads());
            let generator = match usize::try_from(class_index) {
                Ok(class) => generator.class(class),
                Err(_) if model.contract().n_classes.is_some() => {
                    let message = format!(
                        "`class_index`: this generator distinguishes classes: expected one from 0, got {class_index}"
                    );
                    return Err(Failure::new(Status::Argument, message));
                }
                Err(_) => generator,
            };
            Ok(Start::Generator(generator.build()?))
        };
        // SAFETY: the caller gives a place for a handle.
        unsafe { handle::give_at("sampler", sampler, || Drawing::new(purifier, start)) }
    })
}

/// Gives a sampler back. Null is fine; a sampler that was freed is `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_sampler_free(sampler: *mut Sampler) -> Status {
    guard(|| handle::free("sampler", sampler))
}

/// Draws `n_samples` samples, f32 [N, C, H, W], of which values may lie outside [-1, 1].
///
/// - `request` may be null: the samples 0 to N − 1, one chain each. Its `first_index` is the number of the first sample, and its replicas are chains from
///   the same start.
/// - `samples` has room for `n_values` = n_replicas·N·C·H·W values, and `reports`, which may be null, for `n_reports` = n_replicas·N.
///
/// All else, failures too, is as for `ebm_purify`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_sample(
    sampler: *const Sampler,
    request: *const Request,
    n_samples: usize,
    samples: *mut f32,
    n_values: usize,
    reports: *mut Report,
    n_reports: usize,
) -> Status {
    let ends = ends("samples", samples, n_values, reports, n_reports);
    // SAFETY: the caller gives room and a request, or null.
    guard(|| unsafe { sample(sampler, request, n_samples, ends) })
}

/// Like `ebm_sample` for bytes [N, H, W, C], clamped to the range of images.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_sample_u8(
    sampler: *const Sampler,
    request: *const Request,
    n_samples: usize,
    samples: *mut u8,
    n_values: usize,
    reports: *mut Report,
    n_reports: usize,
) -> Status {
    let ends = ends("samples", samples, n_values, reports, n_reports);
    // SAFETY: the caller gives room and a request, or null.
    guard(|| unsafe { sample(sampler, request, n_samples, ends) })
}

/// # Safety
/// The pointers are null, misaligned, or to as much as is stated beside them.
unsafe fn sample<P: Pixel>(
    sampler: *const Sampler,
    request: *const Request,
    n_samples: usize,
    ends: Ends<P>,
) -> Result<()> {
    let drawing = handle::get("sampler", sampler)?;
    let shape = drawing.chains.model().contract().image;
    // SAFETY: as for this function.
    unsafe {
        let request = Request::read(request)?;
        ends.check(shape, n_samples, request.n_replicas)?;
        let starts = drawing.sampler.starts(request.first_index, n_samples)?;
        ends.write(&drawing.chains.run(&request, &starts)?)
    }
}
