//! `purify classify`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ebm_runtime::{Classifier, DefendedClassifier, ModelFolder, argmax};
use serde_json::json;

use crate::arguments::ClassifyArguments;
use crate::inputs::{find_inputs, read_group};
use crate::progress::Bar;
use crate::run::group_size;

pub fn classify(arguments: &ClassifyArguments) -> Result<ExitCode> {
    let models = ModelFolder::open(&arguments.images.model)?;
    let inputs = find_inputs(&arguments.images.paths, None)?;
    let bar = Bar::new();
    let purifier = arguments
        .purification
        .purifier(&models.step)
        .on_progress(bar.on_progress())
        .build()?;
    let steps_per_image = u64::from(purifier.n_steps()) * arguments.replicas as u64;
    let (backend, n_threads) = (
        arguments.purification.backend.backend(),
        purifier.n_threads(),
    );
    let classifier = Classifier::new(models.require_classifier()?, &backend, n_threads)?;
    let defended = DefendedClassifier::new(purifier, classifier, arguments.replicas)?;

    bar.start(inputs.len(), steps_per_image);
    let mut answers = Vec::new();
    let mut n_failed = 0;
    let mut lines = std::io::stdout().lock();
    for group in inputs.chunks(group_size(defended.purifier())) {
        let (readable, images) = read_group(group, defended.classifier().image(), |error| {
            n_failed += 1;
            bar.say(&format!("left out: {error:#}"));
        })?;
        if let Some(images) = images {
            let bare = defended.classifier().logits(&images)?;
            let bare_predictions = argmax(&bare);
            let indices = readable.iter().map(|input| input.index).collect();
            let answer = defended.classify_with(indices, &images)?;
            let agreements = answer.agreement();
            for (place, input) in readable.iter().enumerate() {
                let (without, with) = (bare_predictions[place], answer.predictions[place]);
                let agreement = agreements[place];
                writeln!(
                    lines,
                    "{}\t{without}\t{with}\t{agreement:.3}",
                    input.path.display()
                )?;
                answers.push(json!({
                    "file": input.path.to_string_lossy(), "bare": without, "defended": with, "agreement": agreement,
                    "bare_logits": bare.row(place).to_vec(), "defended_logits": answer.logits.row(place).to_vec(),
                }));
            }
        }
        bar.finish_group(group.len() as u64 * steps_per_image);
    }
    bar.finish();
    if let Some(path) = &arguments.json {
        write_json(
            path,
            &json!({ "replicas": arguments.replicas, "seed": arguments.purification.seed, "images": answers }),
        )?;
    }
    Ok(if n_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes a file under a temporary name and renames it when all is on the disk.
pub fn write_json(path: &Path, value: &serde_json::Value) -> Result<()> {
    ebm_runtime::write_atomically(path, format!("{value:#}\n").as_bytes())
        .with_context(|| format!("`{}`: this file cannot be written", path.display()))
}
