//! `purify certify`.

mod fixed;
mod record;
mod summary;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ebm_common::target::{Existing, Target};
use ebm_runtime::{
    Classifier, Model, ModelFolder, Prepared, Purifier, Seed, SmoothedClassifier, Smoothing,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::arguments::{CertifyArguments, LabelSource};
use crate::chosen::{self, backend_line};
use crate::exit_code;
use crate::inputs::{Input, Item, Reading, find_inputs};
use crate::labels::Labels;
use crate::ledger::{self, Earlier, Ledger, SEED};
use crate::lines::Lines;
use crate::notes::Notes;
use crate::progress::Bar;
use crate::ranges;
use fixed::Fixed;
use record::{Record, distance};
use summary::Summary;

/// The key of whether the seed was drawn after the images were fixed.
const EVIDENCE: &str = "evidence";
const FRESH: &str = "the seed was drawn after the images were fixed";
const REPRODUCED: &str = "none: the seed was known before, which reproduces certificates";

pub fn certify(arguments: &CertifyArguments) -> Result<ExitCode> {
    let bar = Bar::new();
    let smoothing = Smoothing {
        sigma: arguments.sigma,
        n0: arguments.n0,
        n: arguments.n,
        alpha: arguments.alpha,
    };
    let models = arguments.images.model.open()?;
    let classifier = classifier(arguments, &models)?;
    let smoothed = smoothed(arguments, &models, &classifier, smoothing)?;
    let reading = Reading::new(models.step.contract().image, &arguments.images)?;
    let inputs = find_inputs(&arguments.images, None, reading)?;
    ranges::tell(&arguments.images, &inputs, reading)?;
    check_output(arguments, &inputs)?;
    let n_classes = smoothed.classifier().n_classes();
    let mut labels = Labels::find(&arguments.labels, &inputs, n_classes)?;
    let mut notes = Notes::default();
    let fixed = Fixed::new(&inputs, reading, arguments.take, |item| {
        notes.add(item);
        if let Some(label) = item.label {
            labels.state(item.place(), label);
        }
    })?;
    notes.tell();
    labels.check(n_classes)?;
    let labels = expect_all(&arguments.labels, labels, &fixed, &bar)?;
    let settings = settings(arguments, &models, &classifier, &smoothed, &fixed, &labels)?;
    for model in prepared(&smoothed) {
        bar.say(&backend_line(model));
    }
    let (ledger, settings) = begin(arguments, settings)?;
    let seed = settings[SEED]
        .as_u64()
        .context("the settings have a seed")?;
    let mut work = Work {
        smoothed: smoothed.on_progress(bar.on_progress()),
        reading,
        inputs,
        labels,
        fixed,
        seed: seed.into(),
        ledger,
        lines: Lines::of(arguments.json),
        table: Lines::of(!arguments.json),
        bar,
    };
    work.introduce(&settings);
    work.print(&format!("{}\n", json!({ "settings": settings })))?;
    work.all()
}

/// Returns Ok if the file of results can be written and is none of those that are read. One that is there may be that of an earlier run.
fn check_output(arguments: &CertifyArguments, inputs: &[Input]) -> Result<()> {
    let Some(path) = &arguments.output else {
        return Ok(());
    };
    let target = Target {
        option: "-o",
        path,
        existing: Existing::Replaced,
    };
    let labels = match &arguments.labels {
        LabelSource::File(path) => Some(path.clone()),
        _ => None,
    };
    let read = arguments.images.model.files().into_iter();
    let read = read.chain(arguments.classifier.clone()).chain(labels);
    Ok(target.check(read.chain(inputs.iter().map(Input::path)), None)?)
}

/// The classifier that was given, or that of the folder, for the images of the energy.
fn classifier(arguments: &CertifyArguments, models: &ModelFolder) -> Result<Model> {
    let Some(path) = &arguments.classifier else {
        return Ok(models.require_classifier()?.clone());
    };
    let classifier = Model::open_with(path, arguments.images.model.verification())?;
    let (expected, got) = (models.step.contract().image, classifier.contract().image);
    if expected != got {
        bail!(
            "--classifier `{}`: expected a classifier of images {expected}, for which the energy is, got one of images {got}",
            path.display()
        );
    }
    Ok(classifier)
}

/// The classifier under noise, behind the steps that are asked for.
fn smoothed(
    arguments: &CertifyArguments,
    models: &ModelFolder,
    classifier: &Model,
    smoothing: Smoothing,
) -> Result<SmoothedClassifier> {
    let purification = &arguments.purification;
    let backend = purification.backend.backend()?;
    let n_threads = match purification.threads {
        Some(0) => bail!("--threads: expected a number from 1, got 0"),
        Some(n_threads) => n_threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let classifier = Classifier::builder(classifier)
        .backend(backend)
        .threads(n_threads)
        .build()?;
    let smoothed = SmoothedClassifier::new(classifier, smoothing)?;
    if purification.steps == Some(0) {
        if arguments.denoise {
            bail!(
                "--denoise takes a step of the energy, and --steps 0 takes none; leave out one of them"
            );
        }
        return Ok(smoothed);
    }
    let energy = Purifier::builder(&models.step);
    let energy = match arguments.denoise {
        true => energy.denoiser(smoothing.sigma),
        false => energy,
    };
    Ok(smoothed.behind(purification.adjust(energy)?)?)
}

/// The models of the classifier and of the steps before it.
fn prepared(smoothed: &SmoothedClassifier) -> impl Iterator<Item = &Prepared> {
    let energy = smoothed.energy().map(Purifier::model);
    [smoothed.classifier().model()].into_iter().chain(energy)
}

/// The labels, if they are known of all images. If only some are known, that is an error if they were asked for.
fn expect_all(source: &LabelSource, labels: Labels, fixed: &Fixed, bar: &Bar) -> Result<Labels> {
    let n_known = fixed
        .places()
        .filter(|place| labels.get(*place).is_some())
        .count();
    match n_known {
        0 if *source == LabelSource::Auto || *source == LabelSource::None => Ok(Labels::default()),
        n if n == fixed.len() => {
            bar.say(&format!("note: labels from {labels}"));
            Ok(labels)
        }
        n if *source == LabelSource::Auto => {
            bar.say(&format!(
                "warning: labels are known of {n} of {} images only (from {labels}), so that there will be no accuracy",
                fixed.len()
            ));
            Ok(Labels::default())
        }
        n => bail!(
            "--labels {source}: expected labels of all {} images, got them of {n}; give a file with all of them, or --labels none",
            fixed.len()
        ),
    }
}

/// All that decides about the certificates; the seed is null if it is to be drawn yet.
fn settings(
    arguments: &CertifyArguments,
    models: &ModelFolder,
    classifier: &Model,
    smoothed: &SmoothedClassifier,
    fixed: &Fixed,
    labels: &Labels,
) -> Result<Value> {
    let smoothing = smoothed.smoothing();
    let given = arguments.purification.seed;
    let known: Vec<Option<usize>> = fixed.places().map(|place| labels.get(place)).collect();
    let mut settings = json!({
        "command": "certify",
        "classifier_sha256": format!("{:x}", Sha256::digest(classifier.bytes()?)),
        "images": fixed.len(),
        "images_sha256": format!("{:x}", fixed.hash()),
        "labels": labels.to_string(),
        "labels_sha256": format!("{:x}", Sha256::digest(format!("{known:?}"))),
        "range": arguments.images.range.unwrap_or_default().to_string(),
        "sigma": distance(smoothing.sigma),
        "n0": smoothing.n0,
        "n": smoothing.n,
        "alpha": smoothing.alpha,
        "network_runs_per_image": smoothed.n_network_runs(),
        "f16": arguments.purification.backend.f16,
        SEED: given,
        EVIDENCE: if given.is_some() { REPRODUCED } else { FRESH },
        "holds": "for the smoothed classifier, with confidence 1 - alpha for each image, in exact arithmetic, for the image after resizing",
    });
    chosen::record(&mut settings, prepared(smoothed));
    arguments.images.record(&mut settings);
    if let Some(energy) = smoothed.energy() {
        settings["model_sha256"] = json!(format!("{:x}", Sha256::digest(models.step.bytes()?)));
        settings["steps"] = json!(energy.n_steps());
        settings["step_size"] = json!(energy.step_size());
        settings["temperature"] = json!(energy.temperature());
        settings["clip"] = json!(arguments.purification.clip);
        settings["denoise"] = json!(arguments.denoise);
    }
    Ok(settings)
}

/// Opens the file of results, if one is wanted, and settles the seed: that of a run which goes on, or a fresh one. The images are fixed by now.
fn begin(arguments: &CertifyArguments, mut settings: Value) -> Result<(Option<Ledger>, Value)> {
    let draws_seed = ledger::lacks_seed(&settings);
    let Some(path) = &arguments.output else {
        if draws_seed {
            ledger::draw_seed(&mut settings)?;
        }
        return Ok((None, settings));
    };
    let name = path.display();
    let mut ledger = Ledger::open(
        path.clone(),
        &format!(
            "`{name}`: another run works on this file; wait for it, or give another one with -o"
        ),
    )?;
    let earlier = ledger.earlier()?;
    if !arguments.force {
        ledger::take_over_seed(&mut settings, &earlier);
        match earlier {
            Earlier::Nothing => {}
            Earlier::Run { settings: old, .. } => {
                // The seed of a run that goes on may be given too.
                if old[SEED] == settings[SEED] {
                    settings[EVIDENCE] = old[EVIDENCE].clone();
                }
                if old != settings {
                    bail!(
                        "`{name}` holds a run with other settings: {}; give the same ones to go on with it, --force to start afresh, or another \
                         file with -o",
                        ledger::differences(&old, &settings)
                    );
                }
                return Ok((Some(ledger), settings));
            }
            Earlier::Foreign => bail!(
                "`{name}`: expected a file that `purify certify` wrote, got something else; give another one with -o, or --force to replace it"
            ),
        }
    }
    if draws_seed {
        ledger::draw_seed(&mut settings)?;
    }
    ledger.restart(&settings)?;
    Ok((Some(ledger), settings))
}

/// What is needed while images are certified.
struct Work {
    smoothed: SmoothedClassifier,
    reading: Reading,
    inputs: Vec<Input>,
    labels: Labels,
    fixed: Fixed,
    seed: Seed,
    ledger: Option<Ledger>,
    /// Of JSON.
    lines: Lines,
    /// For people.
    table: Lines,
    bar: Bar,
}

impl Work {
    /// Says what will be done, and what it costs.
    fn introduce(&self, settings: &Value) {
        let smoothing = self.smoothed.smoothing();
        let energy = match self.smoothed.energy() {
            None => "the classifier alone".to_owned(),
            Some(energy) => match energy.n_steps() {
                1 => "one step of the energy and the classifier".to_owned(),
                n => format!("{n} steps of the energy and the classifier"),
            },
        };
        let say = |line: String| self.bar.say(&format!("note: {line}"));
        say(format!(
            "noise of deviation {}, n0 = {}, n = {}, alpha = {}: no radius is above {}",
            smoothing.sigma,
            smoothing.n0,
            smoothing.n,
            smoothing.alpha,
            smoothing.largest_radius()
        ));
        say(format!(
            "each of {} images takes up to {} runs of networks: {} draws of noise through {energy}",
            self.fixed.len(),
            self.smoothed.n_network_runs(),
            smoothing.n0 + smoothing.n,
        ));
        say(match settings[EVIDENCE] == FRESH {
            true => format!(
                "seed {0}, drawn after the images were fixed; --seed {0} reproduces these certificates",
                self.seed
            ),
            false => format!(
                "seed {}, which was known before: this reproduces certificates, and is no new evidence",
                self.seed
            ),
        });
    }

    fn all(mut self) -> Result<ExitCode> {
        let n_values = self.reading.shape.n_values();
        let mut summary = Summary::new(*self.smoothed.smoothing(), n_values);
        self.repeat(&mut summary)?;
        let started = Instant::now();
        let n_draws = (self.smoothed.smoothing().n0 + self.smoothed.smoothing().n) as u64;
        let done = summary.places().clone();
        let n_left = self.fixed.len() - done.len();
        self.bar.start("", n_left as u64, n_draws);
        let inputs = std::mem::take(&mut self.inputs);
        let fixed = std::mem::take(&mut self.fixed);
        fixed.for_each(
            &inputs,
            self.reading,
            |place| !done.contains(&place),
            |item| {
                fixed.check(&item)?;
                let record = self.record(&item)?;
                self.tell(&record)?;
                self.keep(&record)?;
                summary.add(&record);
                self.bar.advance(n_draws);
                Ok(())
            },
        )?;
        self.bar.finish();
        let line = summary.line(n_left, started.elapsed());
        if let Some(ledger) = &mut self.ledger {
            ledger.append(&line)?;
        }
        self.print(&line)?;
        summary.say(n_left, started.elapsed());
        Ok(exit_code(summary.n_failed(), fixed.len()))
    }

    /// Tells again what an earlier run has done. Images that could not be read are tried again.
    fn repeat(&mut self, summary: &mut Summary) -> Result<()> {
        let Some(ledger) = &mut self.ledger else {
            return Ok(());
        };
        let mut records = Vec::new();
        ledger.each_line(|line| {
            records.extend(serde_json::from_str::<Record>(line).ok());
            Ok(())
        })?;
        for record in records {
            let is_new = !summary.places().contains(&record.place);
            if is_new && record.error.is_none() && self.fixed.holds(record.place) {
                self.tell(&record)?;
                summary.add(&record);
            }
        }
        Ok(())
    }

    fn record(&self, item: &Item<'_>) -> Result<Record> {
        let label = self.labels.get(item.place());
        let image = match &item.image {
            Ok(image) => image,
            Err(error) => {
                self.bar.say(&format!("warning: left out: {error}"));
                return Ok(Record::failed(item, label, error));
            }
        };
        let started = Instant::now();
        let certificate = self
            .smoothed
            .certify_with(self.seed, item.place(), &image.padded(self.reading.padding))
            .with_context(|| format!("`{item}`"))?;
        Ok(Record::new(item, label, &certificate, started.elapsed()))
    }

    fn tell(&mut self, record: &Record) -> Result<()> {
        self.table.print(&record.row())?;
        self.print(&record.line()?)
    }

    fn keep(&mut self, record: &Record) -> Result<()> {
        match &mut self.ledger {
            Some(ledger) => ledger.append(&record.line()?),
            None => Ok(()),
        }
    }

    fn print(&mut self, line: &str) -> Result<()> {
        self.lines.print(line)
    }
}
