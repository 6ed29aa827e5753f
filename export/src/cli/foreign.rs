//! What the commands that read a model of others have in common.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::onnx::Batch;
use crate::onnx::read::Foreign;

/// Refuses what stands in the way of a file that replaces nothing, before any work starts.
pub(super) fn check_room(file: &Path, model: &Path) -> Result<()> {
    check_place(file, model)?;
    let shown = file.display();
    ensure!(
        !file.exists(),
        "{shown} exists already; give another name with -o, or --force to replace it"
    );
    Ok(())
}

/// Refuses what stands in the way of a file that may replace another.
pub(super) fn check_place(file: &Path, model: &Path) -> Result<()> {
    let shown = file.display();
    ensure!(
        !file.is_dir(),
        "{shown} is a folder, expected a file or nothing; give another name with -o"
    );
    ensure!(
        !is_same(file, model),
        "{shown} is the model itself; give another name with -o"
    );
    Ok(())
}

fn is_same(file: &Path, model: &Path) -> bool {
    match (file.canonicalize(), model.canonicalize()) {
        (Ok(file), Ok(model)) => file == model,
        _ => false,
    }
}

/// The batch that is asked for, or else the model's own.
pub(super) fn batch(asked: Option<&str>, foreign: &Foreign) -> Result<Batch> {
    match (asked, asked.map(str::parse)) {
        (None, _) | (_, None) => Ok(foreign.batch),
        (Some("any"), _) => Ok(Batch::Symbolic),
        (_, Some(Ok(size))) => Batch::fixed(size).context("--batch"),
        (Some(text), Some(Err(_))) => {
            bail!("--batch: expected a number or `any`, got {text:?}")
        }
    }
}

/// What was read, in a line.
pub(super) fn described(what: &str, foreign: &Foreign) -> String {
    let weights = foreign.weights.values();
    let weights: usize = weights.map(|weight| weight.data().len()).sum();
    format!(
        "{what} {:?} of input {:?}, opset {}, {weights} weights, by {}",
        foreign.output,
        foreign.input,
        foreign.opset,
        match foreign.producer.as_str() {
            "" => "an unnamed program",
            producer => producer,
        }
    )
}
