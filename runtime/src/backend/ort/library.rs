//! The shared library of ONNX Runtime, which is loaded when it is first asked for.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::{Error, ErrorKind, Result};

/// The environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The library that this process has loaded, and its environment: ONNX Runtime allows one of each.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Loads the library where that has not been done yet.
pub(super) fn load(library: Option<&Path>) -> Result<Environment> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let (path, found) = find_library(library)?;
    if let Some((loaded_path, environment)) = loaded.as_ref() {
        if library.is_some() && *loaded_path != path {
            return Err(
                missing("this process has already loaded another library of ONNX Runtime")
                    .at_path(path)
                    .but_got(loaded_path.display())
                    .advise("name one library for the whole process"),
            );
        }
        return Ok(environment.clone());
    }
    let environment = open_library(&path).map_err(|source| {
        missing(&format!("the library of ONNX Runtime ({found}) cannot be used"))
            .at_path(&path)
            .advise(format!(
                "install ONNX Runtime 1.{} or newer and name its library in {LIBRARY_VARIABLE}, or use the backend `tract`",
                ort::MINOR_VERSION
            ))
            .caused_by(source)
    })?;
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

fn missing(problem: &str) -> Error {
    Error::new(ErrorKind::BackendMissing, problem)
}

/// Opening through [`ort::init_from`] gives an error where the library is missing or too old; the crate's other ways panic.
fn open_library(path: &Path) -> Result<Environment, Box<dyn std::error::Error + Send + Sync>> {
    let environment = ort::init_from(path).map_err(|e| e.to_string())?;
    Ok(environment
        .with_name("ebm-runtime")
        .with_telemetry(false)
        .build()?)
}

/// The library's path, and how it was found. A path that somebody named is used even where nothing is there, so that the mistake comes to light.
fn find_library(library: Option<&Path>) -> Result<(PathBuf, &'static str)> {
    let named = |path: &Path, how| {
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|e| {
            missing("this path cannot be used")
                .at_path(path)
                .caused_by(e)
        })?;
        Ok((absolute, how))
    };
    if let Some(path) = library {
        return named(path, "given explicitly");
    }
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return named(Path::new(&path), "named in ORT_DYLIB_PATH");
    }
    let name = format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join(&name)));
    match beside.filter(|path| path.is_file()) {
        Some(path) => Ok((path, "beside the executable")),
        None => Ok((name.into(), "looked for in the system's folders")),
    }
}
