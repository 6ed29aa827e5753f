//! `purify run`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ebm_runtime::{Images, ModelFolder, Purifier, Request, write_png};

use crate::arguments::RunArguments;
use crate::inputs::{Input, find_inputs, read_group};
use crate::progress::Bar;

pub fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let models = ModelFolder::open(&arguments.images.model)?;
    if arguments.replicas == 0 {
        bail!("--replicas: expected a number from 1, got 0");
    }
    let inputs = find_inputs(&arguments.images.paths, Some(&arguments.output))?;
    let outputs = Outputs {
        folder: &arguments.output,
        n_replicas: arguments.replicas,
    };
    outputs.check(&inputs, arguments.force)?;
    let bar = Bar::new();
    let purifier = arguments
        .purification
        .purifier(&models.step)
        .on_progress(bar.on_progress())
        .build()?;
    std::fs::create_dir_all(&arguments.output).with_context(|| {
        format!(
            "`{}`: the output folder cannot be made",
            arguments.output.display()
        )
    })?;

    let steps_per_image = u64::from(purifier.n_steps()) * arguments.replicas as u64;
    bar.start(inputs.len(), steps_per_image);
    let n_failed = purify_all(&purifier, &inputs, &outputs, &bar, steps_per_image)?;
    bar.finish();
    let n_written = inputs.len() - n_failed;
    eprintln!(
        "purified {n_written} of {} images into `{}`",
        inputs.len(),
        arguments.output.display()
    );
    Ok(if n_failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Purifies and writes group by group; returns how many images could not be.
fn purify_all(
    purifier: &Purifier,
    inputs: &[Input],
    outputs: &Outputs<'_>,
    bar: &Bar,
    steps_per_image: u64,
) -> Result<usize> {
    let mut n_failed = 0;
    for group in inputs.chunks(group_size(purifier)) {
        let (readable, images) = read_group(group, purifier.contract().image, |error| {
            n_failed += 1;
            bar.say(&format!("left out: {error:#}"));
        })?;
        if let Some(images) = images {
            let indices = readable.iter().map(|input| input.index).collect();
            let purified = purifier.run(
                &Request::new(&images)
                    .indices(indices)
                    .n_replicas(outputs.n_replicas),
            )?;
            for (place, input) in readable.iter().enumerate() {
                let mut reports = purified
                    .reports
                    .iter()
                    .filter(|report| report.image == place);
                if let Some(step) = reports.find_map(|report| report.failed_step) {
                    n_failed += 1;
                    bar.say(&format!(
                        "left out: `{}`: its pixels left the finite numbers at step {step}; \
                         take a smaller --step-size, a higher --temperature, or --clip",
                        input.path.display()
                    ));
                    continue;
                }
                outputs.write(input, &purified.replicas, place)?;
            }
        }
        bar.finish_group(group.len() as u64 * steps_per_image);
    }
    Ok(n_failed)
}

/// As many images as keep all threads busy for a few batches, so that memory stays small in long runs.
pub fn group_size(purifier: &Purifier) -> usize {
    (4 * purifier.batch() * purifier.n_threads()).min(1024)
}

/// Where the purified images go.
struct Outputs<'a> {
    folder: &'a Path,
    n_replicas: usize,
}

impl Outputs<'_> {
    fn write(&self, input: &Input, replicas: &[Images], place: usize) -> Result<()> {
        for (replica, images) in replicas.iter().enumerate() {
            let path = self.path(input, replica);
            let folder = path.parent().unwrap_or(self.folder);
            std::fs::create_dir_all(folder)
                .with_context(|| format!("`{}`: the folder cannot be made", folder.display()))?;
            write_png(&path, images, place)?;
        }
        Ok(())
    }

    fn path(&self, input: &Input, replica: usize) -> PathBuf {
        let path = self.folder.join(&input.name);
        if self.n_replicas == 1 {
            return path;
        }
        let stem = input.name.file_stem().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{stem}-r{replica}.png"))
    }

    /// Nothing where each output has a name of its own, and none exists unless it may be replaced.
    fn check(&self, inputs: &[Input], force: bool) -> Result<()> {
        if self.folder.exists() && !self.folder.is_dir() {
            bail!(
                "`{}`: expected a folder for the output, got a file",
                self.folder.display()
            );
        }
        let mut taken: HashMap<PathBuf, &Input> = HashMap::new();
        for input in inputs {
            for replica in 0..self.n_replicas {
                let path = self.path(input, replica);
                if !force && path.exists() {
                    bail!(
                        "`{}` exists; give --force to replace it, or another folder with -o",
                        path.display()
                    );
                }
                if let Some(other) = taken.insert(path.clone(), input) {
                    bail!(
                        "`{}` and `{}` would both be written to `{}`; run them into different folders",
                        other.path.display(),
                        input.path.display(),
                        path.display()
                    );
                }
            }
        }
        Ok(())
    }
}
