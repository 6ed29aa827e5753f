//! Models that were opened.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::path::PathBuf;

use runtime::{ModelFolder, Verification};

use crate::handle::{self, Named, Opaque};
use crate::pointer;
use crate::status::{Result, Status, guard};

/// An ONNX file whose contract has been checked. Any number of threads may use it at once.
pub struct Model(#[allow(dead_code)] Opaque);

impl Named for Model {
    type Object = runtime::Model;
    const NAME: &'static str = "ebm_model";
}

/// What a model computes.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something that has no number here yet.
    Other = 0,
    /// Energies of images.
    Energy = 1,
    /// Energies and their gradients.
    Gradient = 2,
    /// Langevin steps: what purifiers and samplers take.
    Step = 3,
    /// Logits of images.
    Classifier = 4,
    /// Images from latents.
    Generator = 5,
    /// Several Langevin steps of fixed step size and temperature, for servers.
    Purifier = 6,
}

impl From<runtime::Kind> for Kind {
    fn from(kind: runtime::Kind) -> Self {
        match kind {
            runtime::Kind::Energy => Self::Energy,
            runtime::Kind::Gradient => Self::Gradient,
            runtime::Kind::Step => Self::Step,
            runtime::Kind::Classifier => Self::Classifier,
            runtime::Kind::Generator => Self::Generator,
            runtime::Kind::Purifier => Self::Purifier,
            _ => Self::Other,
        }
    }
}

/// The shape of one image.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageShape {
    /// C, from 1.
    pub channels: usize,
    /// H in pixels, from 1.
    pub height: usize,
    /// W in pixels, from 1.
    pub width: usize,
}

/// Settings of Langevin dynamics that a contract states.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dynamics {
    /// Number of steps; 0 if the contract states none.
    pub steps: usize,
    /// Step size ε; 0 if the contract states none.
    pub step_size: f64,
    /// Temperature T; 0 if the contract states none.
    pub temperature: f64,
}

impl Dynamics {
    const NONE: Self = Self {
        steps: 0,
        step_size: 0.0,
        temperature: 0.0,
    };
}

/// Opens an ONNX file and checks its contract, and that graph and contract are those that the file's hash was made of.
///
/// `path` ends with 0: any bytes on Unix, else UTF-8. The caller owns `*model`, which is null after a failure, and gives it back with `ebm_model_free`;
/// what was made from the model does not need it any longer.
///
/// Fails with `EBM_STATUS_IO`, `EBM_STATUS_MODEL` (not whole, or not ONNX), `EBM_STATUS_CONTRACT`, `EBM_STATUS_VERSION` or `EBM_STATUS_TAMPERED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_open(path: *const c_char, model: *mut *mut Model) -> Status {
    // SAFETY: the caller gives a string and a place for a handle.
    unsafe { open(path, model, Verification::Hash) }
}

/// Like `ebm_model_open`, without the hash, for files that were changed on purpose.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_open_unverified(
    path: *const c_char,
    model: *mut *mut Model,
) -> Status {
    // SAFETY: the caller gives a string and a place for a handle.
    unsafe { open(path, model, Verification::None) }
}

/// # Safety
/// `path` is null or a string that ends with 0; `model` is null or a place for a handle.
unsafe fn open(path: *const c_char, model: *mut *mut Model, verification: Verification) -> Status {
    guard(|| {
        // SAFETY: as for this function.
        unsafe {
            handle::give_at("model", model, || {
                let path = pointer::path("path", path)?;
                Ok(runtime::Model::open_with(path, verification)?)
            })
        }
    })
}

/// Like `ebm_model_open` for the `n_bytes` of an ONNX file in memory, which are copied.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_from_bytes(
    bytes: *const u8,
    n_bytes: usize,
    model: *mut *mut Model,
) -> Status {
    guard(|| {
        // SAFETY: the caller gives as many bytes, and a place for a handle.
        unsafe {
            handle::give_at("model", model, || {
                let bytes =
                    pointer::with_slice("bytes", bytes, n_bytes, |bytes| Ok(bytes.to_vec()))?;
                Ok(runtime::Model::from_bytes(bytes, "bytes")?)
            })
        }
    })
}

/// Opens a folder as `ebm-export onnx` writes it: its `step.onnx`, and its `classifier.onnx` if it has one.
///
/// `folder`, ownership and failures are as for `ebm_model_open`; both models are for images of the same shape. `*classifier` is null if the folder has
/// none. `classifier` may be null for callers that want none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_folder_open(
    folder: *const c_char,
    step: *mut *mut Model,
    classifier: *mut *mut Model,
) -> Status {
    guard(|| {
        // SAFETY: the caller gives a string and places for handles.
        unsafe {
            pointer::write("step", step, &[std::ptr::null_mut()])?;
            if !classifier.is_null() {
                pointer::write("classifier", classifier, &[std::ptr::null_mut()])?;
            }
            let folder: PathBuf = pointer::path("folder", folder)?;
            let models = ModelFolder::open(folder)?;
            if let (Some(model), false) = (models.classifier, classifier.is_null()) {
                pointer::write("classifier", classifier, &[handle::give(model)?])?;
            }
            pointer::write("step", step, &[handle::give(models.step)?])
        }
    })
}

/// Gives a model back. Null is fine; a model that was freed is `EBM_STATUS_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_model_free(model: *mut Model) -> Status {
    guard(|| handle::free("model", model))
}

/// Tells what a model computes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_kind(model: *const Model, kind: *mut Kind) -> Status {
    // SAFETY: the caller gives a place for the kind.
    unsafe { tell(model, "kind", kind, |contract| contract.kind.into()) }
}

/// Tells the shape of the images that a model takes or makes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_image(model: *const Model, image: *mut ImageShape) -> Status {
    // SAFETY: the caller gives a place for the shape.
    unsafe {
        tell(model, "image", image, |contract| ImageShape {
            channels: contract.image.channels,
            height: contract.image.height,
            width: contract.image.width,
        })
    }
}

/// Tells the number of classes of a classifier, or of a generator that distinguishes classes; 0 for other models.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_n_classes(model: *const Model, n_classes: *mut usize) -> Status {
    // SAFETY: the caller gives a place for the number.
    unsafe {
        tell(model, "n_classes", n_classes, |contract| {
            contract.n_classes.unwrap_or(0)
        })
    }
}

/// Tells the purification that the contract recommends, which purifiers take if nothing else is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_purification(
    model: *const Model,
    dynamics: *mut Dynamics,
) -> Status {
    // SAFETY: the caller gives a place for the dynamics.
    unsafe {
        tell(model, "dynamics", dynamics, |contract| {
            contract
                .purification
                .map_or(Dynamics::NONE, |recommended| Dynamics {
                    steps: recommended.steps,
                    step_size: recommended.step_size,
                    temperature: recommended.temperature,
                })
        })
    }
}

/// Tells the dynamics under which the energy was learned, which `ebm_settings_as_learned` chooses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_model_learned(model: *const Model, dynamics: *mut Dynamics) -> Status {
    // SAFETY: the caller gives a place for the dynamics.
    unsafe {
        tell(model, "dynamics", dynamics, |contract| {
            contract
                .langevin
                .map_or(Dynamics::NONE, |learned| Dynamics {
                    steps: learned.steps.unwrap_or(0),
                    step_size: learned.step_size,
                    temperature: learned.temperature,
                })
        })
    }
}

/// Writes something that the contract says.
///
/// # Safety
/// `place` is null, misaligned or a place for one value.
unsafe fn tell<T: Copy>(
    model: *const Model,
    argument: &str,
    place: *mut T,
    what: impl FnOnce(&runtime::Contract) -> T,
) -> Status {
    guard(|| -> Result<()> {
        let model = handle::get("model", model)?;
        // SAFETY: as for this function.
        unsafe { pointer::write(argument, place, &[what(model.contract())]) }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn every_kind_of_model_has_its_number() {
        let source = include_str!("../../../common/src/contract.rs");
        let kinds = source.split("pub enum Kind {").nth(1).unwrap();
        let kinds = kinds.split('}').next().unwrap();
        let kinds = kinds
            .lines()
            .filter_map(|line| line.trim().strip_suffix(','));
        let kinds: Vec<&str> = kinds.filter(|line| !line.starts_with("//")).collect();
        assert!(kinds.contains(&"Step") && kinds.len() >= 6, "{kinds:?}");
        let own = include_str!("model.rs");
        for kind in kinds {
            let arm = format!("runtime::Kind::{kind} => Self::{kind},");
            assert!(own.contains(&arm), "add `{arm}`, and a number for it");
        }
    }
}
