//! Libraries that the user brings: looked at, never touched.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::surroundings::Surroundings;

/// The libtorch that the bindings are written for.
const LIBTORCH_VERSION: &str = "2.11.0";

/// Checks that `value` of LIBTORCH is a libtorch that the trainer can be built with.
pub fn check_libtorch(surroundings: &Surroundings, value: &OsStr) -> Result<()> {
    let folder = Path::new(value);
    if !folder.is_absolute() {
        bail!(
            "LIBTORCH is {}, which means another folder to each crate: give an absolute path, or unset it",
            folder.display()
        );
    }
    if !folder.join("lib/libtorch_cpu.so").is_file() {
        bail!(
            "LIBTORCH is {}, which holds no lib/libtorch_cpu.so: set it to the folder of a libtorch \
             {LIBTORCH_VERSION} (in a pip installation the folder `torch`), or unset it to have one fetched",
            folder.display()
        );
    }
    if surroundings
        .variable("LIBTORCH_BYPASS_VERSION_CHECK")
        .is_some()
    {
        return Ok(());
    }
    match version(folder) {
        Some(found) if found.split('+').next() == Some(LIBTORCH_VERSION) => Ok(()),
        Some(found) => bail!(
            "LIBTORCH is {}, whose version is {found}, but {LIBTORCH_VERSION} is needed: set it to a libtorch \
             {LIBTORCH_VERSION}, or unset it to have one fetched",
            folder.display()
        ),
        None => bail!(
            "LIBTORCH is {}, which has neither build-version nor version.py to tell its version: if it is \
             {LIBTORCH_VERSION}, set LIBTORCH_BYPASS_VERSION_CHECK=1",
            folder.display()
        ),
    }
}

/// Checks that `value` of ORT_DYLIB_PATH is a file.
pub fn check_onnxruntime(value: &OsStr) -> Result<()> {
    let library = Path::new(value);
    if !library.is_file() {
        bail!(
            "ORT_DYLIB_PATH is {}, which is not a file: set it to a libonnxruntime.so (1.24 or later), or unset it to \
             have one fetched",
            library.display()
        );
    }
    Ok(())
}

/// What the folder says of itself: `build-version` of a libtorch, or `version.py` of a pip installation.
fn version(folder: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(folder.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(folder.join("version.py")).ok()?;
    let quoted = text
        .lines()
        .find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(quoted.trim().trim_matches(['\'', '"']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a folder that holds `files`.
    fn said_of(files: &[(&str, &str)]) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let surroundings = Surroundings::new("/clone", []);
        check_libtorch(&surroundings, folder.path().as_os_str()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_libtorch_of_the_users_is_checked() {
        let library = ("lib/libtorch_cpu.so", "");
        said_of(&[library, ("build-version", "2.11.0+cpu\n")]).unwrap();
        said_of(&[
            library,
            (
                "version.py",
                "from typing import Optional\n__version__ = '2.11.0+cu130'\n",
            ),
        ])
        .unwrap();
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[], "holds no lib/libtorch_cpu.so"),
            (&[library], "neither build-version nor version.py"),
            (
                &[library, ("build-version", "2.12.1+cpu")],
                "version is 2.12.1+cpu, but 2.11.0 is needed",
            ),
        ];
        for (files, expected) in cases {
            let error = said_of(files).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_version_check_can_be_bypassed_as_in_the_bindings() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lib")).unwrap();
        fs::write(folder.path().join("lib/libtorch_cpu.so"), "").unwrap();
        let bypass = ("LIBTORCH_BYPASS_VERSION_CHECK".into(), "1".into());
        check_libtorch(
            &Surroundings::new("/clone", [bypass]),
            folder.path().as_os_str(),
        )
        .unwrap();
    }

    #[test]
    fn a_relative_libtorch_is_refused() {
        let error = check_libtorch(&Surroundings::new("/clone", []), OsStr::new("torch"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("absolute path"), "{error}");
    }

    #[test]
    fn a_missing_onnx_runtime_is_named() {
        let error = check_onnxruntime(OsStr::new("/nowhere/libonnxruntime.so"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/nowhere/libonnxruntime.so, which is not a file"),
            "{error}"
        );
    }
}
