//! Purifiers.
#![allow(unsafe_code)]

use runtime::{Cancel, Images, PurifierBuilder, Seed};

use crate::handle::{self, Named, Opaque};
use crate::images::{Given, Pixel, Room, n_values, times};
use crate::model::Model;
use crate::request::{Report, Request, unless_cancelled};
use crate::settings::{Choices, Settings};
use crate::status::{Result, Status, guard};

/// Purifies images by Langevin steps. Any number of threads may use it at once.
pub struct Purifier(#[allow(dead_code)] Opaque);

impl Named for Purifier {
    type Object = Chains;
    const NAME: &'static str = "ebm_purifier";
}

/// A prepared model and the dynamics of its chains.
#[derive(Clone)]
pub(crate) struct Chains {
    /// On a model that is prepared, so that building a purifier from it costs next to nothing.
    builder: PurifierBuilder,
    model: runtime::Prepared,
    seed: Seed,
}

impl Chains {
    fn new(model: &runtime::Model, choices: &Choices, seed: Seed) -> Result<Self> {
        // The settings are checked before the model is prepared, which may take long.
        let checked = runtime::Purifier::builder(model);
        let purifier = choices.engine(choices.dynamics(checked)).build(seed)?;
        Self::on(purifier.model(), choices, seed)
    }

    /// Chains on a prepared model, without a say in its engine.
    fn on(model: &runtime::Prepared, choices: &Choices, seed: Seed) -> Result<Self> {
        let builder = choices.dynamics(runtime::Purifier::builder(model));
        builder.clone().build(seed)?;
        Ok(Self {
            builder,
            model: model.clone(),
            seed,
        })
    }

    /// The prepared model.
    pub fn model(&self) -> &runtime::Prepared {
        &self.model
    }

    /// A purifier that takes the steps.
    pub fn purifier(&self) -> Result<runtime::Purifier> {
        Ok(self.builder.clone().build(self.seed)?)
    }

    /// A purifier that tells the caller of its progress.
    pub fn watched(&self, request: &Request, cancel: &Cancel) -> Result<runtime::Purifier> {
        let builder = self.builder.clone();
        let builder = match request.watcher(cancel) {
            None => builder,
            Some(watcher) => builder.on_progress(move |progress| watcher.report(progress)),
        };
        Ok(builder.build(self.seed)?)
    }

    /// Runs chains from these images.
    pub fn run(&self, request: &Request, images: &Images) -> Result<runtime::Purified> {
        let cancel = Cancel::new();
        let purifier = self.watched(request, &cancel)?;
        let ends = purifier.run(&request.of(images, &cancel))?;
        unless_cancelled(&cancel, ends)
    }
}

/// Where the ends of chains go.
#[derive(Clone, Copy)]
pub(crate) struct Ends<P> {
    pub images: Room<P>,
    pub reports: Room<Report>,
}

impl<P: Pixel> Ends<P> {
    /// Returns Ok if there is room for the ends of all chains.
    pub fn check(
        &self,
        shape: runtime::ImageShape,
        n_images: usize,
        n_replicas: usize,
    ) -> Result<()> {
        let n_chains = times("n_replicas", n_images, n_replicas)?;
        self.images.check(n_values(shape, n_chains)?)?;
        self.reports.check_unless_null(n_chains)
    }

    /// Writes the ends of chains. One that has failed is an error if nobody reads the reports.
    ///
    /// # Safety
    /// As for [`Room::write`], for both rooms.
    pub unsafe fn write(&self, ends: &runtime::Purified) -> Result<()> {
        if self.reports.values.is_null() {
            ends.expect_all_finite()?;
        }
        let values: Vec<P> = ends
            .replicas
            .iter()
            .flat_map(|images| P::write(images))
            .collect();
        let reports: Vec<Report> = ends.reports.iter().map(Report::from).collect();
        // SAFETY: as for this function.
        unsafe {
            self.images.write(&values)?;
            self.reports.write(&reports)
        }
    }
}

/// Makes a purifier for a model of kind step.
///
/// `settings` may be null: all is as the contract recommends. Whoever knows `seed` knows the noise, and can attack through it: `ebm_seed_fresh` draws one; a
/// number of your own repeats a run. The caller owns `*purifier`, which is null after a failure, and gives it back with
/// `ebm_purifier_free`.
///
/// Fails with `EBM_STATUS_WRONG_KIND`, `EBM_STATUS_ARGUMENT` (a setting out of range, or set neither here nor in the contract),
/// `EBM_STATUS_BACKEND_MISSING` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_purifier_new(
    model: *const Model,
    settings: *const Settings,
    seed: u64,
    purifier: *mut *mut Purifier,
) -> Status {
    guard(|| {
        // SAFETY: the caller gives a place for a handle.
        unsafe {
            handle::give_at("purifier", purifier, || {
                let choices = Choices::of(settings)?;
                Chains::new(&*handle::get("model", model)?, &choices, seed.into())
            })
        }
    })
}

/// Makes a purifier with other settings on the loaded model of `other`, which both then share. Backend, library and threads are those of `other`: settings
/// that hold them are `EBM_STATUS_ARGUMENT`.
///
/// Ownership is as for `ebm_purifier_new`; either purifier may be freed first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_purifier_share(
    other: *const Purifier,
    settings: *const Settings,
    seed: u64,
    purifier: *mut *mut Purifier,
) -> Status {
    guard(|| {
        // SAFETY: the caller gives a place for a handle.
        unsafe {
            handle::give_at("purifier", purifier, || {
                let choices = Choices::of(settings)?;
                let other = handle::get("other", other)?;
                choices
                    .engine(runtime::Purifier::builder(other.model()))
                    .build(seed)?;
                Chains::on(other.model(), &choices, seed.into())
            })
        }
    })
}

/// Gives a purifier back. Null is fine; a purifier that was freed is `EBM_STATUS_HANDLE`. A call that uses it on another thread ends as if it were not
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_purifier_free(purifier: *mut Purifier) -> Status {
    guard(|| handle::free("purifier", purifier))
}

/// Purifies `n_images` images, f32 [N, C, H, W] in [-1, 1], as the model's contract says.
///
/// - `request` may be null: one purification of each image.
/// - `n_values` is N·C·H·W.
/// - `purified` has room for `n_purified` = n_replicas·N·C·H·W values: replica by replica the purified images [N, C, H, W], of which pixels may lie a little
///   outside [-1, 1]. It may be the memory of `images`. After a failure it is as before.
/// - `reports` has room for `n_reports` = n_replicas·N reports, replica by replica. It may be null: then a chain that leaves the finite numbers is
///   `EBM_STATUS_NON_FINITE`, which otherwise its report says.
///
/// Fails with `EBM_STATUS_SHAPE`, `EBM_STATUS_NON_FINITE` (also for a pixel that is not finite), `EBM_STATUS_ARGUMENT` (a request out of range),
/// `EBM_STATUS_CANCELLED` or `EBM_STATUS_BACKEND`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_purify(
    purifier: *const Purifier,
    request: *const Request,
    images: *const f32,
    n_images: usize,
    n_values: usize,
    purified: *mut f32,
    n_purified: usize,
    reports: *mut Report,
    n_reports: usize,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    let ends = ends("purified", purified, n_purified, reports, n_reports);
    // SAFETY: the caller gives images, room and a request, or null.
    guard(|| unsafe { purify(purifier, request, given, ends) })
}

/// Like `ebm_purify` for bytes [N, H, W, C], as image files have them: x = v/127.5 − 1, and back by v = round((x + 1)·127.5), clamped to [0, 255].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_purify_u8(
    purifier: *const Purifier,
    request: *const Request,
    images: *const u8,
    n_images: usize,
    n_values: usize,
    purified: *mut u8,
    n_purified: usize,
    reports: *mut Report,
    n_reports: usize,
) -> Status {
    let given = Given::new(images, n_images, n_values);
    let ends = ends("purified", purified, n_purified, reports, n_reports);
    // SAFETY: the caller gives images, room and a request, or null.
    guard(|| unsafe { purify(purifier, request, given, ends) })
}

/// # Safety
/// The pointers are null, misaligned, or to as much as is stated beside them.
unsafe fn purify<P: Pixel>(
    purifier: *const Purifier,
    request: *const Request,
    images: Given<P>,
    ends: Ends<P>,
) -> Result<()> {
    let chains = handle::get("purifier", purifier)?;
    let shape = chains.model().contract().image;
    // SAFETY: as for this function.
    unsafe {
        let request = Request::read(request)?;
        ends.check(shape, images.n_images, request.n_replicas)?;
        let images = images.read(shape)?;
        ends.write(&chains.run(&request, &images)?)
    }
}

/// Room for the ends of chains, as the caller states it.
pub(crate) fn ends<P: Copy>(
    name: &'static str,
    images: *mut P,
    n_values: usize,
    reports: *mut Report,
    n_reports: usize,
) -> Ends<P> {
    Ends {
        images: Room::new(name, images, n_values),
        reports: Room::new("reports", reports, n_reports),
    }
}
