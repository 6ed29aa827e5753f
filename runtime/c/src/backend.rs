//! Backends.
#![allow(unsafe_code)]

use std::ffi::c_char;

use crate::pointer;
use crate::status::{Status, guard};

/// Whether a backend can be used here: `EBM_STATUS_OK`, or `EBM_STATUS_BACKEND_MISSING` with the reason and the way out in `ebm_last_error`.
///
/// `name` is one of "auto", "native", "rten", "tract", "ort", "ort-cuda", "ort-tensorrt", "ort-xnnpack", "ort-coreml" and "ort-directml". `library` is the file of the ONNX Runtime
/// library, or null: then it is looked for as `ORT_DYLIB_PATH` says, beside the executable, in the cache of `cargo xtask setup`, and where the system
/// looks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ebm_backend_check(name: *const c_char, library: *const c_char) -> Status {
    guard(|| {
        // SAFETY: the caller gives strings, or null.
        let (name, library) = unsafe {
            (
                pointer::text("name", name)?,
                pointer::path_or_null("library", library)?,
            )
        };
        let mut backend: runtime::Backend = name.parse()?;
        if let Some(library) = library {
            backend = backend.with_library(library);
        }
        Ok(backend.check()?)
    })
}
