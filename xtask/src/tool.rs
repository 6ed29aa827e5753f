//! What must be on the machine before anything is fetched, each missing thing in one sentence.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, bail};

use crate::surroundings::Surroundings;

/// The C++ compiler that the libtorch bindings will be built with.
pub fn compiler(surroundings: &Surroundings) -> Result<()> {
    if let Some(value) = surroundings.variable("CXX") {
        // A value like `ccache g++` names a launcher first.
        let text = value.to_string_lossy();
        let program = text.split_whitespace().next().unwrap_or_default();
        if surroundings.find_program(program).is_none() {
            bail!(
                "CXX is {text:?}, but there is no such program: set CXX to your C++ compiler, or unset it"
            );
        }
        return Ok(());
    }
    if surroundings.find_program("c++").is_some() {
        return Ok(());
    }
    match ["g++", "clang++"]
        .into_iter()
        .find(|name| surroundings.find_program(name).is_some())
    {
        Some(name) => bail!(
            "the C++ compiler is expected as `c++`, but there is only `{name}`: run `export CXX={name}`"
        ),
        None => bail!(
            "there is no C++ compiler, which the libtorch bindings need: install one (Debian and Ubuntu: `apt install g++`, Fedora: `dnf install gcc-c++`)"
        ),
    }
}

/// python3 with pip, which fetches the wheels. Python is used for nothing else.
pub fn python(surroundings: &Surroundings) -> Result<()> {
    if surroundings.find_program("python3").is_none() {
        bail!(
            "there is no python3, whose pip fetches the libraries: install it (Debian and Ubuntu: `apt install python3 python3-pip`, Fedora: `dnf install python3-pip`)"
        );
    }
    let pip = surroundings
        .command("python3")
        .args(["-m", "pip", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !pip.is_ok_and(|status| status.success()) {
        bail!(
            "python3 has no pip, which fetches the libraries: install it (Debian and Ubuntu: `apt install python3-pip`, Fedora: `dnf install python3-pip`, elsewhere `python3 -m ensurepip`)"
        );
    }
    Ok(())
}

/// Rust's standard library for a platform to compile for.
pub fn target(surroundings: &Surroundings, target: &str) -> Result<()> {
    let output = surroundings
        .command("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .stderr(Stdio::null())
        .output();
    let folder = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if !folder.is_ok_and(|folder| Path::new(&folder).is_dir()) {
        bail!("Rust cannot compile for {target} here: run `rustup target add {target}`");
    }
    Ok(())
}

/// The platform that the pinned wheels are for.
pub fn platform(os: &str, architecture: &str) -> Result<()> {
    if (os, architecture) != ("linux", "x86_64") {
        bail!(
            "libraries are fetched for Linux on x86_64 only, and this is {os} on {architecture}: set LIBTORCH to the \
             folder of a libtorch 2.11.0 and ORT_DYLIB_PATH to an ONNX Runtime library (1.24 or later)"
        );
    }
    Ok(())
}

/// Free room on the disk of `folder`, which must exist.
pub fn room(surroundings: &Surroundings, folder: &Path, wanted_bytes: u64) -> Result<()> {
    let Some(free_bytes) = free_bytes(surroundings, folder) else {
        // Without an answer from df the room is not known to be short; a full disk is still reported while writing.
        return Ok(());
    };
    if free_bytes < wanted_bytes {
        bail!(
            "{} has {:.1} GB free, and {:.1} GB are needed while unpacking: free some, or set EBM_CACHE_DIR to a \
             folder on a larger disk",
            folder.display(),
            free_bytes as f64 / 1e9,
            wanted_bytes as f64 / 1e9
        );
    }
    Ok(())
}

/// The fourth column of `df -Pk`, whose form POSIX fixes.
fn free_bytes(surroundings: &Surroundings, folder: &Path) -> Option<u64> {
    let output = surroundings
        .command("df")
        .arg("-Pk")
        .arg(folder)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let kilobytes: u64 = text
        .lines()
        .nth(1)?
        .split_whitespace()
        .nth(3)?
        .parse()
        .ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_platform_is_told_how_to_bring_its_own_libraries() {
        platform("linux", "x86_64").unwrap();
        let error = platform("macos", "aarch64").unwrap_err().to_string();
        assert!(
            error.contains("macos on aarch64") && error.contains("set LIBTORCH"),
            "{error}"
        );
    }
}
