//! Models by name: the folders with a step file in a folder `models`.

use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Result, ensure};
use clap::Args;
use ebm_runtime::ModelFolder;
use serde_json::json;

/// Names a folder that holds models, before all others.
const VARIABLE: &str = "EBM_MODELS";

#[derive(Args)]
#[command(after_help = "Example:
  purify run photo.png --model cifar10-denoise-small -o cleaned --resize

Models are looked for in the folder that EBM_MODELS names, in folders `models` beside this program and up to the root of the \
repository that it was built in, in share/ebm-life-cycle/models of its installation, and in `models` of the folder at hand.")]
pub struct ModelsArguments {
    /// Print one line of JSON for each
    #[arg(long)]
    pub json: bool,
}

/// The folder that a path means, or that of the model of this name; a folder that is there comes first.
pub fn find(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let is_name = matches!(
        path.components().collect::<Vec<_>>()[..],
        [Component::Normal(_)]
    );
    if !is_name || path.exists() {
        return Ok(path);
    }
    let mut known = known().into_iter();
    Ok(known.find(|known| known.ends_with(&path)).unwrap_or(path))
}

/// `purify models`.
pub fn models(arguments: &ModelsArguments) -> Result<ExitCode> {
    let known = known();
    let places = places().into_iter();
    let places: Vec<String> = places.map(|place| place.display().to_string()).collect();
    ensure!(
        !known.is_empty(),
        "expected folders with step.onnx in one of {}, got none; name the folder that holds them with {VARIABLE}",
        places.join(", ")
    );
    let mut out = std::io::stdout().lock();
    for path in known {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let model = ModelFolder::open(&path)?;
        let image = model.step.contract().image;
        let (classifies, about) = (model.classifier.is_some(), about(&path));
        match arguments.json {
            true => {
                let image = [image.channels, image.height, image.width];
                let line = json!({ "name": name, "image": image, "classifies": classifies, "about": about, "path": path });
                writeln!(out, "{line}")?;
            }
            false => writeln!(out, "{name:<24} {image:<12} {about}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folders of all models, the first of each name, sorted by name within a place.
fn known() -> Vec<PathBuf> {
    let mut known: Vec<PathBuf> = Vec::new();
    for place in places() {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.join("step.onnx").is_file())
            .filter(|path| {
                known
                    .iter()
                    .all(|other| other.file_name() != path.file_name())
            })
            .collect();
        found.sort();
        known.extend(found);
    }
    known
}

/// Where models are looked for: where the environment says; beside the program, up to the root of the repository that it was built in; where
/// installers put data; in the folder at hand.
fn places() -> Vec<PathBuf> {
    let own = env::var_os(VARIABLE).map(PathBuf::from);
    let program = env::current_exe().unwrap_or_default();
    let beside = program
        .ancestors()
        .skip(1)
        .take(4)
        .map(|folder| folder.join("models"));
    let installed = program.ancestors().nth(2);
    let installed = installed.map(|prefix| prefix.join("share/ebm-life-cycle/models"));
    let here = PathBuf::from("models");
    own.into_iter()
        .chain(beside)
        .chain(installed)
        .chain([here])
        .collect()
}

/// What its card says first, below the heading.
fn about(model: &Path) -> String {
    let card = fs::read_to_string(model.join("README.md")).unwrap_or_default();
    let mut lines = card.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.unwrap_or_default().to_string()
}
