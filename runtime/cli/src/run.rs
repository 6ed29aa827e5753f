//! `purify run`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ebm_common::target::{Existing, Target};
use ebm_runtime::ModelFolder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::arguments::RunArguments;
use crate::chosen;
use crate::inputs::{Input, Item, Reading, find_inputs, for_each_group, n_images};
use crate::journal::{Beginning, Entry, Journal, Status};
use crate::ledger::SEED;
use crate::notes::Notes;
use crate::outputs::Outputs;
use crate::progress::Bar;
use crate::report::{Report, seed_line};
use crate::selection::{Selection, energies};
use crate::treatment::{Outcome, Treatment};
use crate::{exit_code, ranges, sheet, stream};

pub fn run(arguments: &RunArguments) -> Result<ExitCode> {
    let models = arguments.images.model.open()?;
    check(arguments)?;
    let reading = Reading::new(models.step.contract().image, &arguments.images)?;
    if stream::is_wanted(arguments) {
        return stream::run(arguments, &models, reading);
    }
    let plan = PreparedRun {
        arguments,
        inputs: find_inputs(&arguments.images, Some(&arguments.output), reading)?,
        outputs: Outputs::new(arguments),
        models,
        reading,
        bar: Bar::new(),
    };
    plan.outputs.check(&plan.inputs)?;
    plan.check_sheet()?;
    ranges::tell(&arguments.images, &plan.inputs, reading)?;
    let treatment = Treatment::new(arguments, &plan.models, &plan.bar)?;
    plan.make_folder()?;
    plan.carry_out(treatment)
}

/// What a run is to do.
struct PreparedRun<'a> {
    arguments: &'a RunArguments,
    models: ModelFolder,
    reading: Reading,
    inputs: Vec<Input>,
    outputs: Outputs,
    bar: Bar,
}

impl PreparedRun<'_> {
    fn check_sheet(&self) -> Result<()> {
        let Some(path) = &self.arguments.sheet else {
            return Ok(());
        };
        if self.outputs.holds(path, &self.inputs) {
            bail!(
                "--sheet `{}`: a purified image is written under this name; give another one",
                path.display()
            );
        }
        let target = Target {
            option: "--sheet",
            path,
            existing: Existing::of(self.arguments.force),
        };
        let read = self.inputs.iter().map(Input::path);
        Ok(target.check(read, Some(&self.arguments.output))?)
    }

    fn make_folder(&self) -> Result<()> {
        let folder = &self.arguments.output;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("`{}`: the output folder cannot be made", folder.display()))
    }

    fn carry_out(&self, treatment: Treatment) -> Result<ExitCode> {
        let (inputs, outputs) = (&self.inputs, &self.outputs);
        let settings = settings(self.arguments, &self.models, &treatment, inputs)?;
        let wanted = match self.arguments.force {
            true => Beginning::Afresh,
            false => Beginning::GoOn,
        };
        let (mut journal, beginning, settings) = Journal::open(outputs, inputs, settings, wanted)?;
        let treatment = match settings[SEED].as_u64() {
            Some(seed) => {
                self.bar.say(&seed_line(seed.into()));
                treatment.with_seed(seed.into())
            }
            None => treatment,
        };
        outputs.remove_leftovers(inputs);
        if beginning == Beginning::Afresh {
            remove(&self.energies_file());
        }
        let mut report = Report::new(self.arguments);
        report.settings(&settings)?;
        let done = journal.done(outputs, inputs, self.reading, |line, status| {
            report.image(line, status)
        })?;
        let n_earlier = done.iter().filter(|&&done| done).count();
        let n_left = done.len() - n_earlier;

        let selection = self.selection(n_left)?;
        let started = Instant::now();
        let mut work = Work {
            treatment: &treatment,
            selection: &selection,
            outputs,
            journal: &mut journal,
            report: &mut report,
            notes: Notes::default(),
            bar: &self.bar,
        };
        work.all(inputs, self.reading, &done)?;
        let time = started.elapsed();
        let summary = report.summary(n_left, time);
        journal.append(&summary)?;
        report.print(&summary)?;
        remove(&self.energies_file());
        report.say(&self.arguments.output, n_earlier, n_left, time);
        if let Some(path) = &self.arguments.sheet {
            sheet::write(path, self.arguments, inputs, outputs, self.reading)?;
        }
        Ok(exit_code(report.n_failed(), done.len()))
    }

    /// Which images are treated, as long as there are any left.
    fn selection(&self, n_left: usize) -> Result<Selection> {
        let Some(percent) = self.arguments.filter_top.filter(|_| n_left > 0) else {
            return Ok(Selection::All);
        };
        let shortest = || {
            let model = &self.models.step;
            let n_steps = model.contract().n_steps.unwrap_or(1);
            let purifier = self.arguments.purification.purifier(model)?;
            // Energies are measured before the first step has added noise.
            Ok(purifier.steps(n_steps).build(0)?)
        };
        let energies = energies(
            &self.energies_file(),
            shortest,
            &self.inputs,
            self.reading,
            &self.bar,
        )?;
        Ok(Selection::top(percent, energies))
    }

    /// The energies by which images are selected, as long as the run is not complete.
    fn energies_file(&self) -> PathBuf {
        self.arguments.output.join(".purify.energies")
    }
}

fn check(arguments: &RunArguments) -> Result<()> {
    if arguments.replicas == 0 {
        bail!("--replicas: expected a number from 1, got 0");
    }
    let gain = arguments.sheet_gain;
    if !(gain > 0.0 && gain.is_finite()) {
        bail!("--sheet-gain: expected a positive, finite number, got {gain}");
    }
    Ok(())
}

/// All that decides about the bytes of the result; the seed is null if it is to be chosen yet.
fn settings(
    arguments: &RunArguments,
    models: &ModelFolder,
    treatment: &Treatment,
    inputs: &[Input],
) -> Result<Value> {
    let mut list = Sha256::new();
    for input in inputs {
        list.update(input.name.as_os_str().as_encoded_bytes());
        list.update([0]);
        list.update(input.n_images().to_le_bytes());
    }
    let mut settings = json!({
        "model_sha256": format!("{:x}", Sha256::digest(models.step.bytes()?)),
        "files": inputs.len(),
        "images": n_images(inputs),
        "names_sha256": format!("{:x}", list.finalize()),
        "replicas": arguments.replicas,
        "keep_originals": arguments.keep_originals,
        "filter_top": arguments.filter_top.map(|percent| percent.0),
        "jpeg": arguments.jpeg,
        "format": format!("{:?}", arguments.format).to_lowercase(),
        "range": arguments.images.range.unwrap_or_default().to_string(),
    });
    arguments.images.record(&mut settings);
    if let Treatment::Purify { purifier, .. } = treatment {
        chosen::record(&mut settings, [purifier.model()]);
        settings["f16"] = json!(arguments.purification.backend.f16);
        settings["steps"] = json!(purifier.n_steps());
        settings["step_size"] = json!(purifier.step_size());
        settings["temperature"] = json!(purifier.temperature());
        settings["clip"] = json!(arguments.purification.clip);
        settings[SEED] = json!(arguments.purification.seed);
    }
    Ok(settings)
}

fn remove(path: &Path) {
    // It may never have been there.
    std::fs::remove_file(path).ok();
}

/// What a run needs while it goes through the images.
struct Work<'a> {
    treatment: &'a Treatment,
    selection: &'a Selection,
    outputs: &'a Outputs,
    journal: &'a mut Journal,
    report: &'a mut Report,
    notes: Notes,
    bar: &'a Bar,
}

impl Work<'_> {
    /// Treats all images that are not done, group by group.
    fn all(&mut self, inputs: &[Input], reading: Reading, done: &[bool]) -> Result<()> {
        let places = |input: &Input| &done[input.first as usize..][..input.n_images() as usize];
        let start = |input: &Input| places(input).iter().take_while(|&&done| done).count() as u32;
        let n_taken = (0..)
            .zip(done)
            .filter(|&(place, &done)| !done && self.selection.takes(place))
            .count();
        let n_steps = self.treatment.n_steps();
        let size = self.treatment.group_size(reading.shape.n_values());
        self.bar.start("", n_taken as u64, n_steps);
        for_each_group(inputs, reading, start, size, |group| self.group(group))?;
        self.bar.finish();
        self.notes.tell();
        Ok(())
    }

    fn group(&mut self, group: Vec<Item<'_>>) -> Result<()> {
        let outcomes = self.treatment.treat(&group, self.selection)?;
        let mut lines = String::new();
        for (item, outcome) in group.iter().zip(outcomes) {
            self.notes.add(item);
            self.outputs.deliver(item, &outcome)?;
            let record = self.record(item, outcome);
            if let Some(error) = &record.error {
                let consequence = match item.record {
                    Some(_) => "left as it was",
                    None => "left out",
                };
                self.bar.say(&format!("warning: {consequence}: {error}"));
            }
            let line = format!("{}\n", serde_json::to_string(&record)?);
            self.report.image(&line, record.status)?;
            lines += &line;
        }
        self.journal.append(&lines)?;
        for item in &group {
            if item.number + 1 == item.input.n_images() {
                self.outputs.tidy(item.input);
            }
        }
        let taken = group
            .iter()
            .filter(|item| self.selection.takes(item.place()));
        self.bar
            .advance(taken.count() as u64 * self.treatment.n_steps());
        Ok(())
    }

    fn record(&self, item: &Item<'_>, outcome: Outcome) -> Entry {
        let mut record = Entry {
            place: item.place(),
            file: item.input.path().to_string_lossy().into_owned(),
            image: item.record.as_ref().map(|_| item.number),
            status: Status::Unchanged,
            outputs: Vec::new(),
            energy_before: self
                .selection
                .energy(item.place())
                .filter(|e| e.is_finite()),
            energies_after: Vec::new(),
            failed_step: None,
            error: None,
        };
        match outcome {
            Outcome::Purified {
                energy_before,
                energies_after,
                ..
            } => {
                record.status = Status::Purified;
                record.energy_before = energy_before;
                record.energies_after = energies_after;
            }
            Outcome::Reencoded(_) => record.status = Status::Reencoded,
            Outcome::Unchanged => {}
            Outcome::Failed { error, step } => {
                record.status = Status::Failed;
                record.failed_step = step;
                record.error = Some(error);
            }
        }
        if record.status != Status::Failed || item.record.is_some() {
            let names = self.outputs.names(item.input).into_iter();
            record.outputs = names
                .map(|name| name.to_string_lossy().into_owned())
                .collect();
        }
        record
    }
}
