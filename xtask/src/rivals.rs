//! The Python that runs the rivals of benchmarks: the user's, or an environment that is made in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::lock::Lock;
use crate::surroundings::Surroundings;
use crate::tool;

/// What the environment holds, as pip reads it.
const REQUIREMENTS: &str =
    "torch==2.11.0\nonnxruntime==1.32.0\nopenvino==2026.4.1\nsafetensors==0.8.0\nnumpy==2.4.6\n";

/// What the rivals import.
const MODULES: [&str; 5] = [
    "torch",
    "onnxruntime",
    "openvino",
    "safetensors.torch",
    "numpy",
];

/// Name of the environment in the cache.
const FOLDER: &str = "bench-python";

/// File in the environment that is written when everything is in it: the requirements that it was made of.
const LIST: &str = ".complete";

/// What pip downloads and unpacks, of which libraries of CUDA are the most.
const PEAK_BYTES: u64 = 10_000_000_000;

/// The variable that names a Python of the user's.
const VARIABLE: &str = "EBM_BENCH_PYTHON";

/// A Python that is fit to run rivals, or to make the environment that is.
#[derive(Debug)]
pub enum Rivals {
    /// The user's, with all modules.
    Own(PathBuf),
    /// The one of this environment, which may have to be made first.
    Environment(PathBuf),
}

impl Rivals {
    /// Says what is missing before anything is fetched or built.
    pub fn check(surroundings: &Surroundings) -> Result<Self> {
        match surroundings.variable(VARIABLE) {
            Some(value) => own(surroundings, &value.to_string_lossy()),
            None => {
                let folder = surroundings.cache()?.join(FOLDER);
                if !is_complete(&folder) {
                    check_maker(surroundings)?;
                }
                Ok(Self::Environment(folder))
            }
        }
    }

    /// What `torch.compile` needs besides, which builds extensions of Python.
    pub fn check_headers(&self, surroundings: &Surroundings) -> Result<()> {
        let python = match self {
            Self::Own(python) => python.as_path(),
            Self::Environment(_) => Path::new("python3"),
        };
        let code = "import os, sys, sysconfig; sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path('include'), 'Python.h')))";
        if !succeeds(surroundings, python, &["-c", code]) {
            bail!(
                "{} has no Python.h, with which torch.compile builds: install it (Debian and Ubuntu: `apt install python3-dev`, Fedora: \
                 `dnf install python3-devel`)",
                python.display()
            );
        }
        Ok(())
    }

    /// The program, once its environment is there.
    pub fn python(self, surroundings: &Surroundings) -> Result<String> {
        let program = match self {
            Self::Own(program) => program,
            Self::Environment(folder) => {
                make(surroundings, &folder)?;
                folder.join("bin/python")
            }
        };
        Ok(program.display().to_string())
    }
}

fn own(surroundings: &Surroundings, python: &str) -> Result<Rivals> {
    let way_out = format!(
        "set {VARIABLE} to one that has `{}`, or unset it to have an environment made",
        REQUIREMENTS.trim().replace('\n', " ")
    );
    let Some(program) = surroundings.find_program(python) else {
        bail!("{VARIABLE} is {python:?}, but there is no such program: {way_out}");
    };
    let missing: Vec<&str> = MODULES
        .into_iter()
        .filter(|module| !succeeds(surroundings, &program, &["-c", &format!("import {module}")]))
        .collect();
    if !missing.is_empty() {
        bail!(
            "{VARIABLE} is {python:?}, which cannot import {}: {way_out}",
            missing.join(", ")
        );
    }
    Ok(Rivals::Own(program))
}

/// Checks that python3 can make an environment and is one that the pinned packages are built for.
fn check_maker(surroundings: &Surroundings) -> Result<()> {
    tool::python(surroundings)?;
    let python = Path::new("python3");
    if !succeeds(surroundings, python, &["-c", "import ensurepip, venv"]) {
        bail!(
            "python3 cannot make the environment of the rivals: install its module venv (Debian and Ubuntu: `apt install python3-venv`), or set \
             {VARIABLE} to a python that has torch"
        );
    }
    let code = "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))";
    if !succeeds(surroundings, python, &["-c", code]) {
        bail!(
            "python3 is not one of 3.11 to 3.14, for which the packages of the rivals are built: put such a python3 first on the PATH, or set \
             {VARIABLE} to a python that has torch"
        );
    }
    Ok(())
}

fn is_complete(folder: &Path) -> bool {
    fs::read_to_string(folder.join(LIST)).is_ok_and(|list| list == REQUIREMENTS)
        && folder.join("bin/python").exists()
}

/// Makes the environment unless it is there. One that was interrupted is made anew.
fn make(surroundings: &Surroundings, folder: &Path) -> Result<()> {
    let cache = surroundings.cache()?;
    fs::create_dir_all(&cache).with_context(|| {
        format!(
            "could not create {}: set EBM_CACHE_DIR to a folder of yours",
            cache.display()
        )
    })?;
    let _lock = Lock::wait(&cache)?;
    if is_complete(folder) {
        return Ok(());
    }
    tool::room(surroundings, &cache, PEAK_BYTES)?;
    println!(
        "Making the Python environment of the rivals in {} (2.5 GB to fetch, once per user).",
        folder.display()
    );
    let environment = folder.display().to_string();
    step(
        surroundings,
        Path::new("python3"),
        &["-m", "venv", "--clear", &environment],
    )?;
    let list = folder.join("requirements.txt");
    fs::write(&list, REQUIREMENTS)
        .with_context(|| format!("could not write {}", list.display()))?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-cache-dir",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "--requirement",
        &list.display().to_string(),
    ];
    step(surroundings, &folder.join("bin/python"), &install)?;
    fs::rename(&list, folder.join(LIST))
        .with_context(|| format!("could not complete {}", folder.display()))
}

fn step(surroundings: &Surroundings, python: &Path, arguments: &[&str]) -> Result<()> {
    let status = surroundings
        .command(python)
        .args(arguments)
        .status()
        .with_context(|| format!("could not start {}", python.display()))?;
    if !status.success() {
        bail!(
            "`{} {}` failed ({status}; its own words are above): check the network and repeat, or set {VARIABLE} to a python that has torch",
            python.display(),
            arguments.join(" ")
        );
    }
    Ok(())
}

fn succeeds(surroundings: &Surroundings, python: &Path, arguments: &[&str]) -> bool {
    let status = surroundings
        .command(python)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
