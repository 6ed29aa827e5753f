//! A run on its way: whether it goes on, what becomes of each update, and its checkpoints.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::checkpoint::sha256;

use crate::draw::plot;
use crate::draw::sheet::{Block, sheet};
use crate::run::folder::RunFolder;
use crate::run::guard::{GaveUp, Setback, Verdict};
use crate::run::learning::{Described, Learning, Terms};
use crate::run::record::diagnostics;
use crate::run::record::metrics;
use crate::run::record::sessions::Session;
use crate::run::record::updates::Recent;
use crate::run::record::{Measured, RunRecord};
use crate::run::state::State;
use crate::run::stop::{End, StopSignal};

/// What accompanies updates: it judges each, records it, and keeps checkpoints. It goes back to the last good one on divergence.
#[derive(Debug)]
pub struct Training<'a> {
    terms: Terms,
    /// Of a run; nothing is kept of updates without one.
    folder: Option<&'a RunFolder>,
    state: State,
    stop: StopSignal,
    /// What the first process shows and writes of each update.
    record: Option<RunRecord>,
    began: Instant,
    /// The update that is on its way, counted from 1.
    update: u64,
    last: Measured,
}

impl<'a> Training<'a> {
    /// Learns with `learn` in the folder of a run, which has a checkpoint from its beginning on.
    ///
    /// # Errors
    /// Learning diverged once more than the guard allows, an update failed for another reason, or a file cannot be written; the last
    /// checkpoint is as it was.
    pub fn run<L: Learning>(
        learning: &mut L,
        folder: &'a RunFolder,
        state: State,
        stop: &StopSignal,
        learn: fn(&mut L, &mut Training<'_>) -> Result<End>,
    ) -> Result<End> {
        let path = folder.path().display();
        let end = Training::begin(learning, folder, state, stop)
            .and_then(|mut training| learn(learning, &mut training));
        end.map_err(|error| {
            let stopped = format!("the run in {path} stopped; its last checkpoint is as it was");
            let gave_up = error.is::<GaveUp>();
            error.context(match gave_up {
                true => stopped,
                false => format!(
                    "{stopped}, and `trainer resume {path}` continues from it once the cause is mended"
                ),
            })
        })
    }

    fn begin(
        learning: &mut dyn Learning,
        folder: &'a RunFolder,
        state: State,
        stop: &StopSignal,
    ) -> Result<Training<'a>> {
        learning.set_rollbacks(state.history.rollbacks());
        let mut training = Training {
            terms: learning.terms(),
            folder: Some(folder),
            state,
            stop: stop.clone(),
            record: None,
            began: Instant::now(),
            update: learning.update_number(),
            last: Measured::new(),
        };
        let Terms { memory, place, .. } = &training.terms;
        if training.is_first() {
            folder.sweep();
            folder.write_rollbacks(&training.state.history.rollback_lines()?)?;
            note!("{memory}");
            Session::now(training.update, *place).append(&folder.sessions())?;
        }
        training.check_agreement(learning)?;
        training.write_checkpoint(learning)?;
        training.state.interrupted = false;
        // A process before may have been stopped between a checkpoint and this.
        training.keep_best(learning)?;
        training.began = Instant::now();
        training.open_record(learning)?;
        Ok(training)
    }

    /// `n` more updates of which nothing is kept, as in a benchmark.
    pub fn unrecorded(learning: &dyn Described, n: u64) -> Training<'static> {
        let mut terms = learning.terms();
        terms.n_updates = learning.update_number() + n;
        Training {
            terms,
            folder: None,
            state: State::default(),
            stop: StopSignal::default(),
            record: None,
            began: Instant::now(),
            update: learning.update_number(),
            last: Measured::new(),
        }
    }

    /// What the last update measured.
    pub fn last(&self) -> &Measured {
        &self.last
    }

    /// Whether there is another update: not all are done, and the user has not stopped the run.
    pub fn goes_on(&mut self, learning: &dyn Described) -> Result<bool> {
        self.update = learning.update_number() + 1;
        Ok(self.update <= self.terms.n_updates && !self.terms.ranks.any(self.stop.is_set())?)
    }

    /// Does an update, and gives what it measured; nothing if it diverged, after which learning is back at the last good checkpoint.
    ///
    /// # Errors
    /// The update failed for another reason, it diverged once more than is allowed, or there is nothing to go back to.
    pub fn attempt<L: Learning>(
        &mut self,
        learning: &mut L,
        update: impl FnOnce(&mut L) -> Result<Measured>,
    ) -> Result<Option<Measured>> {
        let update = update(learning);
        let Some(folder) = self.folder else {
            return update.map(Some);
        };
        match self.terms.guard.judge(update, &mut self.state.history)? {
            Verdict::Fine(measured) => Ok(Some(measured)),
            Verdict::Diverged(reason) => {
                self.close_record()?;
                self.go_back(learning, folder, reason)?;
                self.open_record(learning)?;
                Ok(None)
            }
        }
    }

    /// Writes down what an update measured, and pictures if they are due.
    pub fn record(&mut self, measured: &Measured, learning: &dyn Described) -> Result<()> {
        self.last.clone_from(measured);
        self.state.window.add(measured);
        self.state.since_checkpoint.add_magnitudes(measured);
        let (update, output) = (self.update, self.terms.output);
        let shows = self.is_due(output.sample_every);
        let tested = match shows && self.record.is_some() {
            true => learning.tested()?,
            false => Vec::new(),
        };
        let logs = self.is_due(output.log_every) || !tested.is_empty();
        let means = logs.then(|| [self.state.window.take(), tested].concat());
        let (Some(record), Some(folder)) = (&mut self.record, self.folder) else {
            return Ok(());
        };
        record.add(update, measured)?;
        if let Some(means) = &means {
            record.log(update, means, learning.learning_rate(update - 1))?;
        }
        match shows {
            true => write_pictures(learning, folder, record),
            false => Ok(()),
        }
    }

    /// Writes a checkpoint if one is due; it may become the best.
    pub fn checkpoint(&mut self, learning: &dyn Described) -> Result<()> {
        if !self.is_due(self.terms.output.checkpoint_every) {
            return Ok(());
        }
        if let Some(record) = &mut self.record {
            record.flush()?;
        }
        let magnitudes = self.state.since_checkpoint.take();
        if self.folder.is_some() && self.state.history.is_in_range() {
            self.state.merit = learning.merit(&magnitudes)?;
        }
        self.write_checkpoint(learning)?;
        self.keep_best(learning)
    }

    /// Ends: all updates are done, or a checkpoint keeps those that are.
    pub fn end(&mut self, learning: &dyn Described) -> Result<End> {
        self.close_record()?;
        let complete = learning.update_number() == self.terms.n_updates;
        if !complete {
            self.state.interrupted = true;
            self.write_checkpoint(learning)?;
        }
        if self.folder.is_some() {
            self.terms.ranks.farewell()?;
        }
        Ok(match complete {
            true => End::Complete,
            false => End::Interrupted,
        })
    }

    fn is_first(&self) -> bool {
        self.terms.ranks.is_first()
    }

    /// Whether something is due that is done after each `every` updates and at the last one.
    fn is_due(&self, every: u64) -> bool {
        self.update == self.terms.n_updates || (every > 0 && self.update.is_multiple_of(every))
    }

    /// Checks that all processes begin with the same configuration and data after the same update: if one has read an older checkpoint, they
    /// would learn on without a sign of it.
    fn check_agreement(&self, learning: &dyn Described) -> Result<()> {
        let (config, update) = (learning.header()?.config, self.update);
        let digest = sha256(&serde_json::to_vec(&(config, update, &self.state.data))?);
        // Ten hexadecimal digits are 40 bits: f64 adds up such numbers of up to 8,192 processes exactly.
        let digest = u64::from_str_radix(&digest[..10], 16)? as f64;
        let ranks = &self.terms.ranks;
        let [sum] = ranks.sums([digest])?;
        ensure!(
            sum == digest * ranks.n_ranks() as f64,
            "the processes do not agree on the configuration, on the data and on the update to continue from ({update} here): \
             start all of them with the same options, the same data, and the same checkpoints in the folder of the run"
        );
        Ok(())
    }

    fn open_record(&mut self, learning: &dyn Described) -> Result<()> {
        if let (Some(folder), true) = (self.folder, self.is_first()) {
            let updates = (learning.update_number(), self.terms.n_updates);
            self.record = Some(RunRecord::open(folder.path(), updates, self.began)?);
        }
        Ok(())
    }

    fn close_record(&mut self) -> Result<()> {
        self.record.take().map_or(Ok(()), RunRecord::finish)
    }

    /// Goes back to the last good checkpoint, with other draws, lower rates, and new chains in place of lost ones.
    fn go_back(
        &mut self,
        learning: &mut dyn Learning,
        folder: &RunFolder,
        reason: String,
    ) -> Result<()> {
        let Training {
            terms,
            state,
            update,
            ..
        } = self;
        terms
            .guard
            .allow_another(*update, &reason, &state.history)?;
        // The first process chooses for all of them.
        let target = match terms.ranks.is_first() {
            true => folder.target(&state.history)?,
            false => 0,
        };
        let [target] = terms.ranks.sums([target as f64])?;
        let saved = folder.saved(target as u64)?;
        let to = saved.header.update;
        learning.restore(&saved.header, &|group| saved.group(group))?;
        let history = state.history.after(Setback {
            update: *update,
            reason,
            to,
        });
        learning.set_rollbacks(history.rollbacks());
        learning.restart_lost_chains()?;
        if terms.ranks.is_first() {
            folder.remove_after(to)?;
            folder.write_rollbacks(&history.rollback_lines()?)?;
            let rate = learning.learning_rate(to);
            warning!("{history}, with other draws and the learning rate {rate}");
        }
        *state = State {
            history,
            merit: None,
            data_directory: state.data_directory.take(),
            data: state.data.take(),
            ..saved.state()?
        };
        Ok(())
    }

    /// Keeps the checkpoint that was written last as the best, if it is.
    fn keep_best(&mut self, learning: &dyn Described) -> Result<()> {
        match (self.state.merit.take(), self.folder) {
            (Some(merit), Some(folder)) if self.is_first() => {
                folder.offer_best(learning.update_number(), merit)
            }
            _ => Ok(()),
        }
    }

    /// All processes give their parts, and the first writes.
    fn write_checkpoint(&self, learning: &dyn Described) -> Result<()> {
        let Some(folder) = self.folder else {
            return Ok(());
        };
        let mut header = learning.header()?;
        header.update = learning.update_number();
        header.state =
            serde_json::to_value(&self.state).context("cannot write the state of the run")?;
        let groups = learning.groups()?;
        if !self.is_first() {
            return Ok(());
        }
        let groups: Vec<(&str, &Tensors)> = groups
            .iter()
            .map(|(name, tensors)| (*name, tensors))
            .collect();
        folder.write_checkpoint(&header, &groups, self.terms.output.keep)
    }
}

fn write_pictures(
    learning: &dyn Described,
    folder: &RunFolder,
    record: &mut RunRecord,
) -> Result<()> {
    let (update, blocks) = (learning.update_number(), learning.samples()?);
    if !blocks.is_empty() {
        folder.write_sheet(update, &sheet(&blocks)?)?;
        let pictures = blocks.iter().map(Block::picture).collect::<Result<_>>()?;
        record.show(update, pictures)?;
    }
    record.flush()?;
    let recent = Recent::read(&folder.updates_csv(), diagnostics::N_UPDATES)?;
    let panels = diagnostics::panels(&metrics::read(&folder.metrics())?, &recent);
    folder.write_diagnostics(
        &plot::svg(&panels, diagnostics::COLUMNS)?,
        &plot::png(&panels, diagnostics::COLUMNS)?,
    )
}
