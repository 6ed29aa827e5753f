//! What a run has done, kept in the output folder so that an interrupted one goes on.
//!
//! Lines of JSON: the settings, one record for each image in the order of their places, a summary when all is done. The same lines are
//! printed under `--json`.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inputs::{Input, Reading, n_images};
use crate::ledger::{self, Earlier, Ledger, differences};
use crate::outputs::Outputs;

/// Its name in the output folder.
pub const FILE_NAME: &str = ".purify.jsonl";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Purified,
    Reencoded,
    Unchanged,
    Failed,
}

/// What became of one image.
#[derive(Debug, Serialize)]
pub struct Entry {
    pub place: u32,
    pub file: String,
    /// Its number in a file of many images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    pub status: Status,
    /// Files below the output folder.
    pub outputs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy_before: Option<f32>,
    /// For each replica.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub energies_after: Vec<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_step: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a record has to say to go on.
#[derive(Deserialize)]
struct Known {
    place: u32,
    status: Status,
}

pub struct Journal(Ledger);

/// How to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// Go on where an earlier run with the same settings stopped.
    GoOn,
    /// Forget an earlier run and replace its files.
    Afresh,
}

impl Journal {
    /// Opens the journal of the output folder for a run with these settings, and locks it.
    ///
    /// Files of other origin are not replaced unless the run begins afresh, and neither are those of a run with other settings. Returns how
    /// the run really begins, and the settings with their seed: that of the run that goes on, or a fresh one if none was given.
    pub fn open(
        outputs: &Outputs,
        inputs: &[Input],
        mut settings: Value,
        beginning: Beginning,
    ) -> Result<(Self, Beginning, Value)> {
        let path = outputs.folder.join(FILE_NAME);
        if !path.exists() {
            refuse_existing(outputs, inputs, beginning)?;
        }
        let in_use = format!(
            "`{}`: another run works in this folder; wait for it, or take another folder with -o",
            outputs.folder.display()
        );
        let mut ledger = Ledger::open(path, &in_use)?;
        let earlier = ledger.earlier()?;
        let draws_seed = ledger::lacks_seed(&settings);
        ledger::take_over_seed(&mut settings, &earlier);
        match earlier {
            Earlier::Nothing => refuse_existing(outputs, inputs, beginning)?,
            Earlier::Run {
                settings: ref old, ..
            } if *old == settings && beginning == Beginning::GoOn => {
                return Ok((Self(ledger), beginning, settings));
            }
            Earlier::Run {
                is_complete: true, ..
            } if outputs.existing(inputs).is_none() => {}
            Earlier::Run { settings: old, .. } if beginning == Beginning::GoOn => bail!(
                "`{}` holds a run with other settings: {}; give the same ones to go on with it, --force to start afresh, or another folder \
                 with -o",
                outputs.folder.display(),
                differences(&old, &settings)
            ),
            Earlier::Foreign if beginning == Beginning::GoOn => bail!(
                "`{}`: expected what an earlier run has left, got something else; remove it, or give --force to start afresh",
                ledger.path().display()
            ),
            _ => {}
        }
        if draws_seed {
            ledger::draw_seed(&mut settings)?;
        }
        ledger.restart(&settings)?;
        Ok((Self(ledger), Beginning::Afresh, settings))
    }

    /// Which images are done, by their places. `report` gets the line of each.
    pub fn done(
        &mut self,
        outputs: &Outputs,
        inputs: &[Input],
        reading: Reading,
        mut report: impl FnMut(&str, Status) -> Result<()>,
    ) -> Result<Vec<bool>> {
        let mut done = vec![false; n_images(inputs) as usize];
        self.each_record(|known, _| {
            // What failed may be mended by now; in files of many images it stays in its place.
            let is_done =
                known.status != Status::Failed || input_of(inputs, known.place).is_data_set();
            if let Some(done) = done.get_mut(known.place as usize) {
                *done |= is_done;
            }
            Ok(())
        })?;
        for input in inputs {
            let places = &mut done[input.first as usize..][..input.n_images() as usize];
            let n_done = places.iter().take_while(|&&done| done).count();
            if n_done > 0 {
                let n_kept = outputs.n_kept(input, n_done as u32, reading)?;
                places[n_kept as usize..].fill(false);
            }
        }
        let mut told = vec![false; done.len()];
        self.each_record(|known, line| {
            let place = known.place as usize;
            if done.get(place) == Some(&true) && !std::mem::replace(&mut told[place], true) {
                report(line, known.status)?;
            }
            Ok(())
        })?;
        Ok(done)
    }

    /// Adds lines, all of them or, in an accident, some that the next run passes over.
    pub fn append(&mut self, lines: &str) -> Result<()> {
        self.0.append(lines)
    }

    fn each_record(&mut self, mut visit: impl FnMut(Known, &str) -> Result<()>) -> Result<()> {
        self.0
            .each_line(|line| match serde_json::from_str::<Known>(line) {
                Ok(known) => visit(known, line),
                Err(_) => Ok(()),
            })
    }
}

fn input_of(inputs: &[Input], place: u32) -> &Input {
    let after = inputs.partition_point(|input| input.first <= place);
    &inputs[after.saturating_sub(1)]
}

fn refuse_existing(outputs: &Outputs, inputs: &[Input], beginning: Beginning) -> Result<()> {
    match outputs.existing(inputs) {
        Some(path) if beginning == Beginning::GoOn => bail!(
            "`{}` exists; give --force to replace it, or another folder with -o",
            path.display()
        ),
        _ => Ok(()),
    }
}
