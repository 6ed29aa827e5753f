//! `purify classify`.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ebm_runtime::{AtomicFile, Classifier, DefendedClassifier, Images, Seed};
use serde_json::{Value, json};

use crate::arguments::ClassifyArguments;
use crate::exit_code;
use crate::inputs::{Input, Item, Reading, find_inputs, for_each_image};
use crate::notes::Notes;
use crate::progress::Bar;
use crate::ranges;
use crate::run::seed_line;
use crate::target::{Existing, Target};
use crate::treatment::group_size;

pub fn classify(arguments: &ClassifyArguments) -> Result<ExitCode> {
    let models = arguments.images.model.open()?;
    let reading = Reading::new(models.step.contract().image, &arguments.images);
    let inputs = find_inputs(&arguments.images, None, reading)?;
    if let Some(path) = &arguments.json {
        let target = Target {
            option: "--json",
            path,
            existing: Existing::of(arguments.force),
        };
        let read = arguments.images.model.files().into_iter();
        target.check(read.chain(inputs.iter().map(Input::path)), None)?;
    }
    ranges::tell(&arguments.images, &inputs, reading)?;
    let bar = Bar::new();
    let purifier = arguments
        .purification
        .purifier(&models.step)
        .on_progress(bar.on_progress())
        .build(arguments.purification.seed()?)?;
    let n_steps = u64::from(purifier.n_steps()) * arguments.replicas as u64;
    let (backend, n_threads) = (
        arguments.purification.backend.backend(),
        purifier.n_threads(),
    );
    let classifier = Classifier::builder(models.require_classifier()?)
        .backend(backend.clone())
        .threads(n_threads)
        .build()?;
    let seed = purifier.seed();
    let defended = DefendedClassifier::new(purifier, classifier, arguments.replicas)?;
    bar.say(&seed_line(seed));
    let mut answers = match &arguments.json {
        Some(path) => Some(Answers::create(path, arguments.replicas, seed)?),
        None => None,
    };

    let n_images: u64 = inputs.iter().map(|input| u64::from(input.n_images())).sum();
    bar.start("", n_images, n_steps);
    let (mut n_failed, mut notes) = (0, Notes::default());
    let mut group: Vec<Item<'_>> = Vec::new();
    let mut answer = |group: &mut Vec<Item<'_>>| -> Result<()> {
        let n = group.len() as u64;
        let (items, images) = readable(std::mem::take(group), |error| {
            n_failed += 1;
            bar.say(&format!("left out: {error}"));
        });
        if !images.is_empty() {
            for (line, value) in answer(&defended, &items, &images)? {
                match writeln!(std::io::stdout().lock(), "{line}") {
                    // The reader has gone, but the file of answers is wanted too.
                    Err(e) if e.kind() == ErrorKind::BrokenPipe && answers.is_some() => {}
                    result => result?,
                }
                if let Some(answers) = &mut answers {
                    answers.add(&value)?;
                }
            }
        }
        bar.advance(n * n_steps);
        Ok(())
    };
    let size = group_size(defended.purifier(), 1);
    for_each_image(
        &inputs,
        reading,
        |_| 0,
        |item| {
            notes.add(&item);
            group.push(item);
            if group.len() == size {
                answer(&mut group)?;
            }
            Ok(())
        },
    )?;
    answer(&mut group)?;
    bar.finish();
    notes.tell();
    if let Some(answers) = answers {
        answers.finish()?;
    }
    Ok(exit_code(n_failed, n_images as usize))
}

/// The names and places of the images that could be read; the errors of the others are handed to `report`.
fn readable(
    group: Vec<Item<'_>>,
    mut report: impl FnMut(&str),
) -> (Vec<(String, u32)>, Vec<Images>) {
    let (mut names, mut images) = (Vec::new(), Vec::new());
    for item in group {
        let name = (item.to_string(), item.place());
        match item.image {
            Ok(image) => {
                names.push(name);
                images.push(image);
            }
            Err(error) => report(&error),
        }
    }
    (names, images)
}

/// For each image the line to print, and the answer with logits.
fn answer(
    defended: &DefendedClassifier,
    items: &[(String, u32)],
    images: &[Images],
) -> Result<Vec<(String, Value)>> {
    let images = Images::concatenate(images)?;
    let bare = defended.classifier().classify(&images)?;
    let places = items.iter().map(|(_, place)| *place).collect();
    let answer = defended.classify_with(places, &images)?;
    let agreements = answer.agreement();
    let answers = items.iter().enumerate().map(|(row, (file, _))| {
        let (without, with) = (bare.predictions[row], answer.predictions[row]);
        let agreement = agreements[row];
        let line = format!("{file}\t{without}\t{with}\t{agreement:.3}");
        let value = json!({
            "file": file, "bare": without, "defended": with, "agreement": agreement,
            "bare_logits": bare.logits.row(row).to_vec(), "defended_logits": answer.logits.row(row).to_vec(),
        });
        (line, value)
    });
    Ok(answers.collect())
}

/// The file of all answers. It gets its name when it is complete.
struct Answers<'a> {
    path: &'a Path,
    file: AtomicFile,
    separator: &'static str,
}

impl<'a> Answers<'a> {
    fn create(path: &'a Path, replicas: usize, seed: Seed) -> Result<Self> {
        let mut file = AtomicFile::create(path).with_context(|| unwritable(path))?;
        write!(
            file,
            "{{\"replicas\": {replicas}, \"seed\": {seed}, \"images\": ["
        )
        .with_context(|| unwritable(path))?;
        Ok(Self {
            path,
            file,
            separator: "\n",
        })
    }

    fn add(&mut self, answer: &Value) -> Result<()> {
        let separator = std::mem::replace(&mut self.separator, ",\n");
        write!(self.file, "{separator}{answer}").with_context(|| unwritable(self.path))
    }

    fn finish(mut self) -> Result<()> {
        writeln!(self.file, "\n]}}")
            .and_then(|()| self.file.commit())
            .with_context(|| unwritable(self.path))
    }
}

fn unwritable(path: &Path) -> String {
    format!("`{}`: the answers cannot be written", path.display())
}
