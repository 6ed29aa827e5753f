//! Settings: what a purifier, a score or a classifier is made with.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::{Backend, Buildable, Builder, PixelDistance, PurifierBuilder};

use crate::handle::{self, Named, Opaque};
use crate::pointer;
use crate::status::{Result, Status, guard};

/// Settings. What is not set is as the model's contract recommends. Ranges are checked when something is made with them.
pub struct Settings(#[allow(dead_code)] Opaque);

impl Named for Settings {
    type Object = Mutex<Choices>;
    const NAME: &'static str = "ebm_settings";
}

/// Which dynamics hold if nothing is set.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Stated {
    #[default]
    Recommended,
    Learned,
    Denoiser(PixelDistance),
}

/// Whether the steps have noise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Noise {
    #[default]
    Drawn,
    LeftOut,
}

/// Whether something is wanted that has to be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Asked {
    #[default]
    No,
    Yes,
}

/// What a caller has set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    stated: Stated,
    steps: Option<usize>,
    step_size: Option<f64>,
    temperature: Option<f64>,
    clip: Option<f64>,
    energy_range: Option<(f32, f32)>,
    noise: Noise,
    replica: u32,
    batch: Option<usize>,
    threads: Option<usize>,
    backend: Option<Backend>,
    library: Option<PathBuf>,
    cache: Option<PathBuf>,
    device: u32,
    fallback: Asked,
    f16: Asked,
}

impl Choices {
    /// What a handle holds; nothing is set if it is null.
    pub fn of(settings: *const Settings) -> Result<Self> {
        if settings.is_null() {
            return Ok(Self::default());
        }
        let choices = handle::get("settings", settings)?;
        Ok(lock(&choices).clone())
    }

    /// What is set of the dynamics.
    pub fn dynamics(&self, on: PurifierBuilder) -> PurifierBuilder {
        let on = match self.stated {
            Stated::Recommended => on,
            Stated::Learned => on.as_learned(),
            Stated::Denoiser(sigma) => on.denoiser(sigma),
        };
        let on = set(on, self.steps, PurifierBuilder::steps);
        let on = set(on, self.step_size, PurifierBuilder::step_size);
        let on = set(on, self.temperature, PurifierBuilder::temperature);
        let on = set(on, self.clip, PurifierBuilder::clip);
        let on = set(on, self.batch, PurifierBuilder::batch);
        let range = |on: PurifierBuilder, (low, high)| on.energy_range(low..=high);
        let on = set(on, self.energy_range, range);
        let on = match self.noise {
            Noise::Drawn => on,
            Noise::LeftOut => on.without_noise(),
        };
        on.replica(self.replica)
    }

    /// What is set of the engine, for a builder on a model that has one already, which then refuses it.
    pub fn engine<T: Buildable>(&self, on: Builder<T>) -> Builder<T> {
        let on = set(on, self.threads, Builder::threads);
        let given = self.backend.is_some() || self.library.is_some();
        set(on, given.then(|| self.backend()), Builder::backend)
    }

    fn backend(&self) -> Backend {
        let backend = self.backend.clone().unwrap_or_default();
        let backend = backend.with_device(self.device);
        let backend = set(backend, self.library.clone(), Backend::with_library);
        let backend = set(backend, self.cache.clone(), Backend::with_cache);
        let backend = match self.fallback {
            Asked::No => backend,
            Asked::Yes => backend.allow_fallback(),
        };
        match self.f16 {
            Asked::No => backend,
            Asked::Yes => backend.with_f16(),
        }
    }
}

fn set<B, T>(on: B, value: Option<T>, setter: impl FnOnce(B, T) -> B) -> B {
    match value {
        Some(value) => setter(on, value),
        None => on,
    }
}

fn lock(choices: &Mutex<Choices>) -> MutexGuard<'_, Choices> {
    choices.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Changes what a handle holds.
fn change(settings: *mut Settings, change: impl FnOnce(&mut Choices) -> Result<()>) -> Status {
    guard(|| {
        let choices = handle::get("settings", settings)?;
        change(&mut lock(&choices))
    })
}

/// Like [`change`], for a setting that cannot be refused.
fn choose(settings: *mut Settings, choice: impl FnOnce(&mut Choices)) -> Status {
    change(settings, |choices| {
        choice(choices);
        Ok(())
    })
}

/// Makes settings of which nothing is set. The caller owns `*settings` and gives it back with `ebm_settings_free`. What was made with settings does not
/// change with them, nor need them any longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_settings_new(settings: *mut *mut Settings) -> Status {
    // SAFETY: the caller gives a place for a handle.
    guard(|| unsafe { handle::give_at("settings", settings, || Ok(Mutex::default())) })
}

/// Gives settings back. Null is fine; settings that were freed are `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_free(settings: *mut Settings) -> Status {
    guard(|| handle::free("settings", settings))
}

/// Takes the dynamics under which the energy was learned in place of the recommended purification, as sampling does. What else is set goes before.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_as_learned(settings: *mut Settings) -> Status {
    choose(settings, |choices| choices.stated = Stated::Learned)
}

/// Sets the number of Langevin steps, from 1; a multiple of the steps that the model takes in one run.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_steps(settings: *mut Settings, steps: usize) -> Status {
    choose(settings, |choices| choices.steps = Some(steps))
}

/// Sets the step size ε > 0: the noise of a step has this standard deviation.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_step_size(settings: *mut Settings, step_size: f64) -> Status {
    choose(settings, |choices| choices.step_size = Some(step_size))
}

/// Sets the temperature T > 0.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_temperature(settings: *mut Settings, temperature: f64) -> Status {
    choose(settings, |choices| choices.temperature = Some(temperature))
}

/// Sets the largest L2 norm > 0 of an image's drift in a step; none by default.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_clip(settings: *mut Settings, clip: f64) -> Status {
    choose(settings, |choices| choices.clip = Some(clip))
}

/// Sets the energies, `low` and `high` included, that a chain may have; all finite ones by default. A chain that leaves them is stopped, and its image
/// returned as it was given.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_energy_range(
    settings: *mut Settings,
    low: f32,
    high: f32,
) -> Status {
    choose(settings, |choices| choices.energy_range = Some((low, high)))
}

/// Leaves out the noise of the steps: plain gradient descent down the potential.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_without_noise(settings: *mut Settings) -> Status {
    choose(settings, |choices| choices.noise = Noise::LeftOut)
}

/// Takes the one step without noise that denoises images with Gaussian noise of deviation `sigma`, of pixels in [0, 1]: x - sigma^2*grad U(x), which is
/// x - grad E(x) for an energy learned by denoise matching. It sets steps, step size and temperature.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_denoiser(settings: *mut Settings, sigma: f64) -> Status {
    choose(settings, |choices| {
        choices.stated = Stated::Denoiser(PixelDistance::of_unit_range(sigma))
    })
}

/// Sets the number of the first replica in the noise; 0 by default.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_replica(settings: *mut Settings, replica: u32) -> Status {
    choose(settings, |choices| choices.replica = replica)
}

/// Sets the largest number of chains that run as one batch, from 1; 8 by default. It does not change the result.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_batch(settings: *mut Settings, batch: usize) -> Status {
    choose(settings, |choices| choices.batch = Some(batch))
}

/// Sets the number of threads that a model may use, from 1; all of the machine's by default.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_threads(settings: *mut Settings, threads: usize) -> Status {
    choose(settings, |choices| choices.threads = Some(threads))
}

/// Sets the backend by a name of those at `ebm_backend_check`; "auto" by default, which is the first of "native", "rten", "tract" and "ort" that is
/// here and takes the model. One that is named is never replaced by another. Fails with `EBM_STATUS_BACKEND_MISSING` if no
/// backend has this name; whether it can be used here shows when something is made with it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_settings_backend(
    settings: *mut Settings,
    name: *const c_char,
) -> Status {
    change(settings, |choices| {
        // SAFETY: the caller gives a string.
        let name = unsafe { pointer::text("name", name)? };
        choices.backend = Some(name.parse()?);
        Ok(())
    })
}

/// Sets the file of the ONNX Runtime library, or null: then it is looked for as `ebm_backend_check` says. One process loads it once: a later other path is an error.
/// Only the backends "ort…" need it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_settings_library(
    settings: *mut Settings,
    path: *const c_char,
) -> Status {
    change(settings, |choices| {
        // SAFETY: the caller gives a string, or null.
        choices.library = unsafe { pointer::path_or_null("path", path)? };
        Ok(())
    })
}

/// Lets what a provider of ONNX Runtime does not know run on the CPU, which is an error otherwise.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_allow_fallback(settings: *mut Settings) -> Status {
    choose(settings, |choices| choices.fallback = Asked::Yes)
}

/// Sets the number of the card, from 0, for the providers that run on one; 0 by default.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_device(settings: *mut Settings, device: u32) -> Status {
    choose(settings, |choices| choices.device = device)
}

/// Sets the folder, or null for none, in which TensorRT keeps its engines, so that only the first start is slow.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_settings_cache(
    settings: *mut Settings,
    folder: *const c_char,
) -> Status {
    change(settings, |choices| {
        // SAFETY: the caller gives a string, or null.
        choices.cache = unsafe { pointer::path_or_null("folder", folder)? };
        Ok(())
    })
}

/// Lets TensorRT compute in f16.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_settings_f16(settings: *mut Settings) -> Status {
    choose(settings, |choices| choices.f16 = Asked::Yes)
}
