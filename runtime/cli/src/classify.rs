//! `purify classify`.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use ebm_common::files::AtomicFile;
use ebm_runtime::{Classifier, DefendedClassifier, Images, Request};
use serde_json::{Value, json};

use crate::arguments::ClassifyArguments;
use crate::chosen::{self, backend_line};
use crate::exit_code;
use crate::groups::group_size;
use crate::inputs::{Input, Item, Reading, find_inputs, for_each_group, from_the_start, n_images};
use crate::lines::Lines;
use crate::notes::Notes;
use crate::progress::Bar;
use crate::ranges;
use crate::report::seed_line;

pub fn classify(arguments: &ClassifyArguments) -> Result<ExitCode> {
    let models = arguments.images.model.open()?;
    let reading = Reading::new(models.step.contract().image, &arguments.images)?;
    let inputs = find_inputs(&arguments.images, None, reading)?;
    let read = arguments.images.model.files().into_iter();
    let read = read.chain(inputs.iter().map(Input::path));
    arguments.results.check(read)?;
    ranges::tell(&arguments.images, &inputs, reading)?;
    let bar = Bar::new();
    let purifier = arguments
        .purification
        .purifier(&models.step)?
        .on_progress(bar.on_progress())
        .build(arguments.purification.seed()?)?;
    let n_steps = u64::from(purifier.n_steps()) * arguments.replicas as u64;
    let classifier = Classifier::builder(models.require_classifier()?)
        .backend(arguments.purification.backend.backend()?)
        .threads(purifier.n_threads())
        .build()?;
    let seed = purifier.seed();
    let defended = DefendedClassifier::new(purifier, classifier, arguments.replicas)?;
    let models = [defended.purifier().model(), defended.classifier().model()];
    for model in models {
        bar.say(&backend_line(model));
    }
    bar.say(&seed_line(seed));
    let mut about = json!({ "replicas": arguments.replicas, "seed": seed.number() });
    chosen::record(&mut about, models);
    let mut answers = Answers::begin(arguments, &about)?;

    let n_images = n_images(&inputs);
    bar.start("", n_images.into(), n_steps);
    let (mut n_failed, mut notes) = (0, Notes::default());
    let size = group_size(defended.purifier(), 1);
    for_each_group(&inputs, reading, from_the_start, size, |group| {
        let n = group.len() as u64;
        group.iter().for_each(|item| notes.add(item));
        let (items, images) = readable(group, |error| {
            n_failed += 1;
            bar.say(&format!("warning: left out: {error}"));
        });
        if !images.is_empty() {
            let images = Images::concatenate(&images)?.padded(reading.padding);
            for (line, value) in answer(&defended, &items, &images)? {
                answers.add(&line, &value)?;
            }
        }
        bar.advance(n * n_steps);
        Ok(())
    })?;
    bar.finish();
    notes.tell();
    answers.finish()?;
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
    images: &Images,
) -> Result<Vec<(String, Value)>> {
    let bare = defended.classifier().classify(images)?;
    let places = items.iter().map(|(_, place)| *place).collect();
    let answer = defended.classify_request(&Request::new(images).indices(places))?;
    let agreements = answer.agreement();
    let answers = items.iter().enumerate().map(|(row, (file, _))| {
        let (without, with) = (bare.predictions[row], answer.predictions[row]);
        let agreement = agreements[row];
        let line = format!("{file}\t{without}\t{with}\t{agreement:.3}\n");
        let value = json!({
            "file": file, "bare": without, "defended": with, "agreement": agreement,
            "bare_logits": bare.logits.row(row).to_vec(), "defended_logits": answer.logits.row(row).to_vec(),
        });
        (line, value)
    });
    Ok(answers.collect())
}

/// Where the answers go: lines for people, or one JSON value, on standard output, and that value in a file, which gets its name when it is complete.
struct Answers {
    table: Lines,
    json: Lines,
    file: Option<AtomicFile>,
    separator: &'static str,
}

impl Answers {
    fn begin(arguments: &ClassifyArguments, about: &Value) -> Result<Self> {
        let file = arguments
            .results
            .output
            .as_ref()
            .map(|path| AtomicFile::create(path));
        let mut this = Self {
            table: Lines::of(!arguments.results.json),
            json: Lines::of(arguments.results.json),
            file: file.transpose().context(UNWRITABLE)?,
            separator: "\n",
        };
        let about = about.to_string();
        let about = about.trim_end_matches('}');
        this.write(&format!("{about}, \"images\": ["))?;
        Ok(this)
    }

    fn add(&mut self, line: &str, answer: &Value) -> Result<()> {
        self.table.print(line)?;
        let separator = std::mem::replace(&mut self.separator, ",\n");
        self.write(&format!("{separator}{answer}"))?;
        // If the reader of standard output has gone, a file of answers may still be wanted.
        match [self.table, self.json] == [Lines::Silent; 2] && self.file.is_none() {
            true => Err(std::io::Error::from(ErrorKind::BrokenPipe).into()),
            false => Ok(()),
        }
    }

    fn write(&mut self, json: &str) -> Result<()> {
        self.json.print(json)?;
        let file = self.file.as_mut();
        file.map_or(Ok(()), |file| file.write_all(json.as_bytes()))
            .context(UNWRITABLE)
    }

    fn finish(mut self) -> Result<()> {
        self.write("\n]}\n")?;
        self.file
            .map_or(Ok(()), AtomicFile::commit)
            .context(UNWRITABLE)
    }
}

const UNWRITABLE: &str = "-o: the answers cannot be written";
