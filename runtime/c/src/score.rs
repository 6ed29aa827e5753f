//! Energies of images.
#![allow(unsafe_code)]

use runtime::EnergyScore;

use crate::handle::{self, Named, Opaque};
use crate::images::{Given, Pixel, Room};
use crate::model::Model;
use crate::pointer;
use crate::settings::{Choices, Settings};
use crate::status::{Result, Status, guard};

/// Scores images by their energy: the lower, the more like the images that the energy was learned from. Any number of threads may use it at once.
pub struct Score(#[allow(dead_code)] Opaque);

impl Named for Score {
    type Object = Scored;
    const NAME: &'static str = "ebm_score";
}

/// A score and the shape of its images.
pub(crate) struct Scored {
    score: EnergyScore,
    image: runtime::ImageShape,
}

/// Makes a score with a model of kind energy, gradient or step; the first does the least work. Of `settings`, which may be null, the backend and the
/// threads count.
///
/// The caller owns `*score`, which is null after a failure, and gives it back with `ebm_score_free`. Fails with `EBM_STATUS_WRONG_KIND`,
/// `EBM_STATUS_ARGUMENT`, `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_score_new(
    model: *const Model,
    settings: *const Settings,
    score: *mut *mut Score,
) -> Status {
    let make = || {
        let choices = Choices::of(settings)?;
        let model = handle::get("model", model)?;
        Ok(Scored {
            score: choices.engine(EnergyScore::builder(&*model)).build()?,
            image: model.contract().image,
        })
    };
    // SAFETY: the caller gives a place for a handle.
    guard(|| unsafe { handle::give_at("score", score, make) })
}

/// Gives a score back. Null is fine; a score that was freed is `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_score_free(score: *mut Score) -> Status {
    guard(|| handle::free("score", score))
}

/// Tells the energy of each of `n_images` images, f32 [N, C, H, W] in [-1, 1]; `n_values` is N·C·H·W, and `n_energies` is N.
///
/// Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (a pixel that is not finite) or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_energies(
    score: *const Score,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    energies: *mut f32,
    n_energies: usize,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images and room.
    guard(|| unsafe { tell(score, given, energies, n_energies) })
}

/// Like `ebm_energies` for bytes [N, H, W, C].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_energies_u8(
    score: *const Score,
    images: *const u8,
    n_images: usize,
    n_values: usize,
    energies: *mut f32,
    n_energies: usize,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    // SAFETY: the caller gives images and room.
    guard(|| unsafe { tell(score, given, energies, n_energies) })
}

/// # Safety
/// The pointers are null, misaligned, or to as much as is stated beside them.
unsafe fn tell<P: Pixel>(
    score: *const Score,
    images: Given<P>,
    energies: *mut f32,
    n: usize,
) -> Result<()> {
    let scored = handle::get("score", score)?;
    let energies = Room::new("energies", energies, n);
    energies.check(images.n_images)?;
    // SAFETY: as for this function.
    unsafe {
        let images = images.read(scored.image)?;
        energies.write(&scored.score.energies(&images)?)
    }
}

/// Fits a threshold to images that are as they should, f32 [N, C, H, W] in [-1, 1]: `*threshold` is the energy above which at most the share `rejected`
/// of them lies, in [0, 1). An image whose energy is above it, or not finite, is taken for an outlier.
///
/// Fails with `EBM_STATUS_ARGUMENT` (a share out of range, or no images) or as `ebm_energies`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_score_fit(
    score: *const Score,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    rejected: f64,
    threshold: *mut f32,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    guard(|| {
        let scored = handle::get("score", score)?;
        pointer::check("threshold", threshold, 1)?;
        // SAFETY: the caller gives images and a place for the threshold.
        unsafe {
            let images = given.read(scored.image)?;
            let fitted = scored.score.fit(&images, rejected)?;
            pointer::write("threshold", threshold, &[fitted.energy])
        }
    })
}
