//! The shared library of ONNX Runtime, which is loaded when it is first asked for.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

use crate::error::{Error, ErrorKind, Result};

/// The environment variable that names the library.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where `cargo xtask setup` keeps the library below its cache.
const FOLDER_OF_SETUP: &str = "onnxruntime-1.32.0";

/// The library that this process has loaded, and its environment: ONNX Runtime allows one of each.
static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);

/// Where a library may lie, and how people call that.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    path: PathBuf,
    found: &'static str,
}

/// Loads the library if that has not been done yet.
pub(super) fn load(library: Option<&Path>) -> Result<Environment> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let named = named(library)?;
    if let Some((loaded_path, environment)) = loaded.as_ref() {
        return match (library, named) {
            (Some(_), Some(place)) if place.path != *loaded_path => Err(missing(
                "this process has already loaded another library of ONNX Runtime",
            )
            .at_path(place.path)
            .but_got(loaded_path.display())
            .advise("name one library for the whole process")),
            _ => Ok(environment.clone()),
        };
    }
    let (path, environment) = match named {
        Some(place) => open_named(place)?,
        None => open_first(places(
            |name| std::env::var_os(name),
            std::env::current_exe().ok(),
        ))?,
    };
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

/// The library that somebody named. No other is taken in its place, so that a mistake comes to light.
fn named(library: Option<&Path>) -> Result<Option<Place>> {
    let variable = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
    let (path, found) = match (library, &variable) {
        (Some(path), _) => (path, "given explicitly"),
        (None, Some(path)) => (Path::new(path), "named in ORT_DYLIB_PATH"),
        (None, None) => return Ok(None),
    };
    let absolute = std::path::absolute(path).map_err(|error| {
        missing("this path cannot be used")
            .at_path(path)
            .caused_by(error)
    })?;
    Ok(Some(Place {
        path: absolute,
        found,
    }))
}

/// Where a library that nobody named is looked for, in this order.
fn places(
    variable: impl Fn(&str) -> Option<OsString>,
    program: Option<PathBuf>,
) -> impl Iterator<Item = Place> {
    let name = format!(
        "{}onnxruntime{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    );
    let beside = program.and_then(|program| Some(program.parent()?.join(&name)));
    let of_setup = cache_of_setup(variable).map(|cache| cache.join(FOLDER_OF_SETUP).join(&name));
    // `ort` takes a name that lies beside the program from there. The second one is what packages of Linux have without those for developers.
    let lies_beside = beside.as_ref().is_some_and(|path| path.exists());
    let of_system = Some(PathBuf::from(&name)).filter(|_| !lies_beside);
    let of_system_by_version = cfg!(target_os = "linux").then(|| format!("{name}.1").into());
    [
        // ONNX Runtime looks for its providers beside itself, that is, where a link points to.
        (
            beside.map(|path| path.canonicalize().unwrap_or(path)),
            "beside the program",
        ),
        (of_setup, "in the cache of `cargo xtask setup`"),
        (of_system, "in the system's folders"),
        (of_system_by_version, "in the system's folders"),
    ]
    .into_iter()
    .filter_map(|(path, found)| Some(Place { path: path?, found }))
}

/// The cache of `cargo xtask setup`, as that program chooses it.
fn cache_of_setup(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let cache = folder("XDG_CACHE_HOME").filter(|folder| folder.is_absolute());
    if let Some(folder) = folder("EBM_CACHE_DIR") {
        return std::path::absolute(folder).ok();
    }
    let cache = cache.or_else(|| Some(folder("HOME")?.join(".cache")));
    Some(cache?.join("ebm-life-cycle"))
}

fn open_named(place: Place) -> Result<(PathBuf, Environment)> {
    let Place { path, found } = place;
    match open(&path) {
        Ok(environment) => Ok((path, environment)),
        Err(reason) => Err(missing(&format!(
            "the library of ONNX Runtime ({found}) cannot be used"
        ))
        .at_path(path)
        .advise(way_out())
        .caused_by(reason)),
    }
}

/// The first that can be used; if none can, an error with the reason of each.
fn open_first(places: impl Iterator<Item = Place>) -> Result<(PathBuf, Environment)> {
    let mut reasons = Vec::new();
    for Place { path, found } in places {
        match open(&path) {
            Ok(environment) => return Ok((path, environment)),
            Err(reason) => reasons.push(format!("{found}: {reason}")),
        }
    }
    Err(missing("no library of ONNX Runtime can be used")
        .advise(way_out())
        .caused_by(reasons.join("; ")))
}

fn way_out() -> String {
    format!(
        "run `cargo xtask setup`, or install ONNX Runtime 1.{} or newer and name its library with --onnxruntime or in {LIBRARY_VARIABLE}, or use the \
         backend `auto`",
        ort::MINOR_VERSION
    )
}

fn missing(problem: &str) -> Error {
    Error::new(ErrorKind::BackendMissing, problem)
}

/// Opening through [`ort::init_from`] gives an error if the library is missing or too old; the crate's other ways panic.
fn open(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|error| reason(&error))?;
    builder
        .with_name("ebm-runtime")
        .with_telemetry(false)
        .build()
        .map_err(|error| error.to_string())
}

/// Of a file that cannot be loaded, what the loader says of it, which the crate leaves out of its own message.
fn reason(error: &ort::LoadDynamicError) -> String {
    let said = match error {
        ort::LoadDynamicError::Dlopen { error, .. } => std::error::Error::source(error),
        _ => None,
    };
    said.map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_cache_is_that_of_setup() {
        /// Variables, and the folder that they mean.
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (
                &[
                    ("EBM_CACHE_DIR", "/a"),
                    ("XDG_CACHE_HOME", "/b"),
                    ("HOME", "/c"),
                ],
                Some("/a"),
            ),
            (
                &[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")],
                Some("/b/ebm-life-cycle"),
            ),
            (
                &[("XDG_CACHE_HOME", "b"), ("HOME", "/c")],
                Some("/c/.cache/ebm-life-cycle"),
            ),
            (
                &[("EBM_CACHE_DIR", ""), ("HOME", "/c")],
                Some("/c/.cache/ebm-life-cycle"),
            ),
            (&[], None),
        ];
        for (variables, expected) in cases {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsString::from(value))
            };
            let cache = cache_of_setup(variable);
            assert_eq!(
                cache.as_deref(),
                expected.map(Path::new),
                "with {variables:?}"
            );
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_is_looked_for_beside_the_program_then_in_the_cache_then_in_the_system() {
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home"));
        let found: Vec<_> = places(home, Some("/opt/purify".into()))
            .map(|place| place.path)
            .collect();
        let expected = [
            "/opt/libonnxruntime.so",
            "/home/.cache/ebm-life-cycle/onnxruntime-1.32.0/libonnxruntime.so",
            "libonnxruntime.so",
            "libonnxruntime.so.1",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
        assert_eq!(places(|_| None, None).count(), 2);
    }
}
