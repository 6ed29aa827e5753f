//! The folder of a run: `config.toml`, `metrics.jsonl`, `updates.csv`, `sessions.jsonl`, `rollbacks.jsonl`, event files of TensorBoard, `samples/`,
//! `diagnostics.{svg,png}`, `checkpoints/` and `best/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ebm_common::files::final_path;
use ebm_common::staged::{NewFolder, write_whole};
use ebm_common::target::Existing;
use ebm_export::graph::tensor::Tensors;
use ebm_export::source::Kind;
use ebm_export::source::checkpoint::{self, Header};

use crate::run::guard::History;
use crate::run::lock::FolderLock;
use crate::run::record::{metrics, sessions, tensorboard, updates};
use crate::run::saved::Saved;

/// Returns Ok if a file can be written.
pub fn expect_free(file: &Path, existing: Existing) -> Result<()> {
    ensure!(
        existing == Existing::Replaced || !file.exists(),
        "{} is there already: choose another place, or replace it with --force",
        file.display()
    );
    Ok(())
}

const CONFIG: &str = "config.toml";
const ROLLBACKS: &str = "rollbacks.jsonl";
/// What earlier versions called it.
const OLD_ROLLBACKS: &str = "events.jsonl";
/// The configuration and what is recorded of updates.
const RECORDS: [&str; 6] = [
    CONFIG,
    metrics::FILE,
    updates::FILE,
    sessions::FILE,
    ROLLBACKS,
    OLD_ROLLBACKS,
];
const SAMPLES: &str = "samples";
const DIAGNOSTICS: [&str; 2] = ["diagnostics.svg", "diagnostics.png"];
/// The folder of an attack on what the run defends, if one is put into the run's folder.
pub const ATTACK: &str = "attack";
/// What an attack came to, in its folder.
pub const ATTACK_RESULTS: &str = "attack.json";
/// Where samples of a run are, unless asked otherwise.
pub const SAMPLED: &str = "sampled";
/// The Fréchet distances of what was sampled from the run, if they are put there.
pub const DISTANCES: &str = "fid.json";
/// The page of `trainer report`.
pub const REPORT: &str = "report.html";
const CHECKPOINTS: &str = "checkpoints";
/// The best checkpoint.
const BEST: &str = "best";
/// Its name before it is the best, and after.
const NEXT_BEST: &str = ".unfinished-next-best";
const LAST_BEST: &str = ".unfinished-last-best";
/// What a checkpoint's state says of how good it is.
const MERIT: &str = "merit";
/// What it says if the user stopped the run at it.
const INTERRUPTED: &str = "interrupted";
/// How the temporary names of folders begin that `ebm_common::staged` makes.
const UNFINISHED: &str = ".unfinished-";

/// How the folders begin into which checkpoints are put that a run does not go on from.
const ASIDE: &str = "aside-";

/// The folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Of the process that writes the run.
    lock: Option<FolderLock>,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// It holds a run that is to be kept, another process writes into it, or it cannot be made.
    pub fn create(path: &Path, existing: Existing) -> Result<RunFolder> {
        let folder = RunFolder {
            lock: Some(FolderLock::take(path)?),
            ..RunFolder::of_first_rank(path)
        };
        folder.check_free(existing)?;
        if folder.holds_a_run() {
            folder.clear()?;
        }
        folder.with_samples()
    }

    /// Checks that a new run can begin in the folder.
    fn check_free(&self, existing: Existing) -> Result<()> {
        let path = self.path.display();
        if self.holds_a_run() && existing == Existing::Kept {
            bail!(
                "{path} holds a run already: continue it with `trainer resume {path}`, choose another folder with -o, or replace it with --force"
            );
        }
        Ok(())
    }

    /// As [`RunFolder::create`] would, but nothing is made or removed.
    ///
    /// # Errors
    /// It holds a run that is to be kept, or another process writes into it.
    pub fn expect_free(path: &Path, existing: Existing) -> Result<()> {
        RunFolder::of_first_rank(path).check_free(existing)?;
        FolderLock::expect_free(path)
    }

    /// The folder of a run that is there, which this process does not write.
    pub fn open(path: &Path) -> Result<RunFolder> {
        let folder = RunFolder::of_first_rank(path);
        if folder.checkpoints().is_empty() && !folder.best().exists() {
            bail!(
                "{} holds no run: expected a folder with checkpoints that `trainer fit` or `trainer classifier` made; \
                 a run that was stopped before its first one has to begin again",
                path.display()
            );
        }
        Ok(folder)
    }

    /// What its network is, as its newest checkpoint says whose header can be read.
    pub fn kind(&self) -> Result<Kind> {
        let mut header = checkpoint::read_header(&self.best());
        for (_, path) in self.checkpoints() {
            header = checkpoint::read_header(&path).or(header);
        }
        Ok(header?.kind)
    }

    /// The folder, which this process now writes.
    pub fn locked(self) -> Result<RunFolder> {
        RunFolder {
            lock: Some(FolderLock::take(&self.path)?),
            ..self
        }
        .with_samples()
    }

    fn with_samples(self) -> Result<RunFolder> {
        fs::create_dir_all(self.path.join(SAMPLES))
            .with_context(|| format!("cannot make the folder {}", self.path.display()))?;
        Ok(self)
    }

    /// The folder of a run that another process writes.
    pub fn of_first_rank(path: &Path) -> RunFolder {
        RunFolder {
            path: path.to_path_buf(),
            lock: None,
        }
    }

    /// The folder of a run that is there, to look at: nothing in it changes, so that a process may be learning in it.
    pub fn look_at(path: &Path) -> Result<RunFolder> {
        let folder = RunFolder::of_first_rank(path);
        match folder.path.join(CONFIG).exists() {
            true => Ok(folder),
            false => bail!(
                "{} holds no run: expected a folder that `trainer fit` or `trainer classifier` made",
                path.display()
            ),
        }
    }

    /// Removes what a process that was killed left half-written.
    pub fn sweep(&self) {
        for folder in [
            self.path.clone(),
            self.path.join(CHECKPOINTS),
            self.path.join(SAMPLES),
        ] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(UNFINISHED) || final_path(&entry.path()).is_some() {
                    // What cannot be removed is in nobody's way.
                    let _ =
                        fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
                }
            }
        }
    }

    /// A run begins with its first checkpoint; what was there before is of no use.
    fn holds_a_run(&self) -> bool {
        self.metrics().exists() || checkpoint::resolve(&self.path).is_ok()
    }

    fn clear(&self) -> Result<()> {
        let failed = || format!("cannot remove the old run in {}", self.path.display());
        let own = [CHECKPOINTS, BEST, SAMPLES, SAMPLED].map(|folder| self.path.join(folder));
        let attack = self.path.join(ATTACK);
        let attack = Some(attack).filter(|folder| folder.join(ATTACK_RESULTS).exists());
        let folders = own.into_iter().chain(attack).chain(self.asides());
        let folders: Vec<PathBuf> = folders.filter(|folder| folder.exists()).collect();
        for folder in &folders {
            FolderLock::expect_free(folder)?;
        }
        for folder in folders {
            fs::remove_dir_all(folder).with_context(failed)?;
        }
        for entry in fs::read_dir(&self.path).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            if is_written_by_a_run(&entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).with_context(failed)?;
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `metrics.jsonl`.
    pub fn metrics(&self) -> PathBuf {
        self.path.join(metrics::FILE)
    }

    /// `updates.csv`.
    pub fn updates_csv(&self) -> PathBuf {
        self.path.join(updates::FILE)
    }

    /// `sessions.jsonl`.
    pub fn sessions(&self) -> PathBuf {
        self.path.join(sessions::FILE)
    }

    /// `rollbacks.jsonl`: when learning diverged.
    pub fn rollbacks(&self) -> PathBuf {
        let [new, old] = [ROLLBACKS, OLD_ROLLBACKS].map(|file| self.path.join(file));
        match old.exists() && !new.exists() {
            true => old,
            false => new,
        }
    }

    /// Sample sheets by update, oldest first.
    pub fn sheets(&self) -> Vec<(u64, PathBuf)> {
        by_update(&self.path.join(SAMPLES))
    }

    /// Checkpoints by update, oldest first.
    pub fn checkpoints(&self) -> Vec<(u64, PathBuf)> {
        by_update(&self.path.join(CHECKPOINTS))
    }

    /// The best checkpoint up to now, if one is kept.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// The configuration and what is recorded of updates.
    pub fn records(&self) -> Vec<PathBuf> {
        RECORDS.map(|file| self.path.join(file)).into()
    }

    /// The folders into which checkpoints were put that the run did not go on from.
    fn asides(&self) -> impl Iterator<Item = PathBuf> + '_ {
        (1..)
            .map(|number| self.path.join(format!("{ASIDE}{number}")))
            .take_while(|folder| folder.exists())
    }

    /// The next such folder, which is not there yet.
    pub fn next_aside(&self) -> PathBuf {
        self.path
            .join(format!("{ASIDE}{}", self.asides().count() + 1))
    }

    /// Reads the resolved configuration.
    pub fn read_config(&self) -> Result<String> {
        let path = self.path.join(CONFIG);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes the resolved configuration.
    pub fn write_config(&self, text: &str) -> Result<()> {
        Ok(write_whole(&self.path.join(CONFIG), text.as_bytes())?)
    }

    /// Writes the diagnostics as SVG and as PNG.
    pub fn write_diagnostics(&self, svg: &str, png: &[u8]) -> Result<()> {
        for (name, bytes) in DIAGNOSTICS.into_iter().zip([svg.as_bytes(), png]) {
            write_whole(&self.path.join(name), bytes)?;
        }
        Ok(())
    }

    /// Writes the sample sheet of an update.
    pub fn write_sheet(&self, update: u64, png: &[u8]) -> Result<()> {
        Ok(write_whole(
            &self.path.join(SAMPLES).join(format!("{update:08}.png")),
            png,
        )?)
    }

    /// Writes `rollbacks.jsonl` anew, if there are lines.
    pub fn write_rollbacks(&self, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        write_whole(&self.path.join(ROLLBACKS), lines.as_bytes())?;
        // All of its lines are in the new file.
        let _ = fs::remove_file(self.path.join(OLD_ROLLBACKS));
        Ok(())
    }

    /// Writes the checkpoint of `header.update`, then removes all but the newest `keep` that were due, the newest good one of these, and what
    /// an interruption left behind them.
    ///
    /// # Errors
    /// The disk is full, for example; earlier checkpoints stay.
    pub fn write_checkpoint(
        &self,
        header: &Header,
        groups: &[(&str, &Tensors)],
        keep: usize,
    ) -> Result<()> {
        debug_assert!(self.lock.is_some(), "a run is written under its lock");
        let path = self.checkpoint(header.update);
        if path.exists() {
            return Ok(());
        }
        checkpoint::write(&path, header, groups).with_context(|| {
            format!(
                "the checkpoint of update {} was not written; earlier ones are as they were",
                header.update
            )
        })?;
        self.prune(keep)
    }

    fn checkpoint(&self, update: u64) -> PathBuf {
        self.path.join(CHECKPOINTS).join(format!("{update:08}"))
    }

    fn prune(&self, keep: usize) -> Result<()> {
        let (due, extra): (Vec<u64>, Vec<u64>) = self
            .updates()?
            .into_iter()
            .partition(|update| self.was_due(*update));
        let surplus = due.len().saturating_sub(keep);
        let good = due.iter().rev().find(|update| self.is_good(**update));
        let old = due[..surplus].iter().filter(|update| Some(*update) != good);
        let passed = extra.iter().filter(|update| Some(*update) < due.last());
        old.chain(passed)
            .try_for_each(|update| self.remove(*update))
    }

    /// Whether a checkpoint was written at its turn, and not because the user stopped the run: one that never stopped has it too.
    fn was_due(&self, update: u64) -> bool {
        let header = checkpoint::read_header(&self.checkpoint(update));
        let interrupted = header
            .ok()
            .and_then(|header| header.state.get(INTERRUPTED)?.as_bool());
        interrupted != Some(true)
    }

    /// The updates of all checkpoints, ascending.
    fn updates(&self) -> Result<Vec<u64>> {
        let folder = self.path.join(CHECKPOINTS);
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("cannot read the folder {}", folder.display()))?;
        let mut updates: Vec<u64> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        updates.sort_unstable();
        Ok(updates)
    }

    /// Whether all watched values were in their ranges when the checkpoint was written.
    fn is_good(&self, update: u64) -> bool {
        let header = checkpoint::read_header(&self.checkpoint(update));
        let history = header.ok().and_then(|header| History::of(&header));
        history.is_some_and(|history| history.is_in_range())
    }

    /// What is removed loses its name first, so that a checkpoint is whole as long as it has one.
    fn remove(&self, update: u64) -> Result<()> {
        let path = self.checkpoint(update);
        let nameless = path.with_file_name(format!("{UNFINISHED}{update:08}"));
        fs::rename(&path, &nameless)
            .and_then(|()| fs::remove_dir_all(nameless))
            .with_context(|| format!("cannot remove the old checkpoint {}", path.display()))
    }

    /// The update of the good checkpoint to go back to, as the history of the run chooses it.
    pub fn target(&self, history: &History) -> Result<u64> {
        let mut good = self.updates()?;
        good.retain(|update| self.was_due(*update) && self.is_good(*update));
        history.target(&good).with_context(|| {
            format!(
                "no checkpoint in {} was written while all watched values were in their ranges",
                self.path.join(CHECKPOINTS).display()
            )
        })
    }

    /// The checkpoint of an update.
    pub fn saved(&self, update: u64) -> Result<Saved> {
        Saved::open(&self.checkpoint(update))
    }

    /// Removes the checkpoints of later updates, the newest first.
    pub fn remove_after(&self, update: u64) -> Result<()> {
        let updates = self.updates()?;
        let later = updates.iter().rev().filter(|later| **later > update);
        later.copied().try_for_each(|later| self.remove(later))
    }

    /// Keeps the checkpoint of an update as the best, if its merit is higher than that of the best up to now: `best/` holds second names
    /// of its files, so that nothing that becomes of the checkpoint itself touches them.
    pub fn offer_best(&self, update: u64, merit: f64) -> Result<()> {
        let best = self.path.join(BEST);
        let merit_of = |header: Header| header.state.get(MERIT)?.as_f64();
        let up_to_now = checkpoint::read_header(&best).ok().and_then(merit_of);
        if up_to_now.is_some_and(|up_to_now| up_to_now >= merit) {
            return Ok(());
        }
        let keep = || -> Result<()> {
            let next = self.path.join(NEXT_BEST);
            let new = NewFolder::begin(&next)?;
            for entry in fs::read_dir(self.checkpoint(update))? {
                new.take_in(&entry?.path())?;
            }
            new.publish()?;
            if !best.exists() {
                return Ok(fs::rename(next, &best)?);
            }
            let last = self.path.join(LAST_BEST);
            fs::rename(&best, &last)?;
            fs::rename(next, &best)?;
            Ok(fs::remove_dir_all(last)?)
        };
        keep().with_context(|| format!("cannot keep the best checkpoint in {}", best.display()))
    }
}

/// Whether a file of that name in the folder of a run is replaced with it.
fn is_written_by_a_run(name: &str) -> bool {
    let others = [DISTANCES, REPORT];
    let mut files = RECORDS.iter().chain(&others).chain(&DIAGNOSTICS);
    files.any(|file| *file == name) || name.starts_with(tensorboard::PREFIX)
}

/// What a folder holds whose name is an update, oldest first.
fn by_update(folder: &Path) -> Vec<(u64, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries
        .filter_map(|entry| {
            Some((
                entry.path().file_stem()?.to_str()?.parse().ok()?,
                entry.path(),
            ))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use ebm_export::source::checkpoint::WEIGHTS;
    use ebm_export::source::networks::{Network, Sngan};
    use serde_json::json;

    use super::*;
    use crate::run::lock;

    /// Writes a checkpoint after that many updates in a row out of range.
    fn write(folder: &RunFolder, update: u64, out_of_range: u64, merit: f64, keep: usize) {
        let watch = json!({"out_of_range": out_of_range, "setbacks": []});
        write_state(
            folder,
            update,
            json!({"watch": watch, "merit": merit}),
            keep,
        );
    }

    fn interrupt(folder: &RunFolder, update: u64, keep: usize) {
        let watch = json!({"out_of_range": 0, "setbacks": []});
        write_state(
            folder,
            update,
            json!({"watch": watch, "interrupted": true}),
            keep,
        );
    }

    fn write_state(folder: &RunFolder, update: u64, state: serde_json::Value, keep: usize) {
        let mut header = Header::new(Network::Sngan(Sngan::sngan32(2)));
        header.update = update;
        header.state = state;
        let weights = header.network.initial_weights(update).unwrap();
        folder
            .write_checkpoint(&header, &[(WEIGHTS, &weights)], keep)
            .unwrap();
    }

    fn run() -> (tempfile::TempDir, RunFolder) {
        let parent = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(&parent.path().join("run"), Existing::Kept).unwrap();
        (parent, folder)
    }

    #[test]
    fn the_newest_good_checkpoint_is_kept_and_gone_back_to() {
        let (_parent, folder) = run();
        for (update, out_of_range) in [(1, 0), (2, 0), (3, 1), (4, 2), (5, 3)] {
            write(&folder, update, out_of_range, 0.0, 2);
        }
        assert_eq!(folder.updates().unwrap(), [2, 4, 5]);
        assert_eq!(folder.target(&History::default()).unwrap(), 2);
        folder.remove_after(2).unwrap();
        assert_eq!(folder.updates().unwrap(), [2]);
    }

    #[test]
    fn a_checkpoint_of_an_interruption_changes_nothing() {
        let (_parent, folder) = run();
        write(&folder, 10, 0, 0.0, 2);
        write(&folder, 20, 0, 0.0, 2);
        interrupt(&folder, 25, 2);
        assert_eq!(folder.updates().unwrap(), [10, 20, 25]);
        assert_eq!(folder.target(&History::default()).unwrap(), 20);
        write(&folder, 30, 0, 0.0, 2);
        assert_eq!(folder.updates().unwrap(), [20, 30]);
    }

    #[test]
    fn a_replaced_run_leaves_nothing_behind() {
        let (_parent, folder) = run();
        write(&folder, 1, 0, 0.5, 1);
        for sampled in [SAMPLED, ATTACK] {
            fs::create_dir(folder.path().join(sampled)).unwrap();
        }
        fs::write(folder.path().join(ATTACK).join(ATTACK_RESULTS), "{}").unwrap();
        fs::write(folder.path().join(DISTANCES), "[]").unwrap();
        fs::create_dir(folder.next_aside()).unwrap();
        let path = folder.path().to_path_buf();
        let error = RunFolder::create(&path, Existing::Replaced)
            .unwrap_err()
            .to_string();
        assert!(error.contains("another process"), "{error}");
        drop(folder);
        let sampling = FolderLock::take(&path.join(SAMPLED)).unwrap();
        let error = RunFolder::create(&path, Existing::Replaced)
            .unwrap_err()
            .to_string();
        assert!(error.contains(SAMPLED), "{error}");
        assert!(path.join(CHECKPOINTS).join("00000001").exists());
        drop(sampling);
        let folder = RunFolder::create(&path, Existing::Replaced).unwrap();
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, [SAMPLES, lock::NAME]);
    }

    #[test]
    fn the_best_checkpoint_outlives_the_others() {
        let (_parent, folder) = run();
        for (update, merit, wanted) in [(1, 0.2, 1), (2, 0.5, 2), (3, 0.5, 2), (4, 0.1, 2)] {
            write(&folder, update, 0, merit, 1);
            folder.offer_best(update, merit).unwrap();
            let best = Saved::open(&folder.path().join(BEST)).unwrap();
            assert_eq!(best.header.update, wanted);
            assert!(best.weights().is_ok());
        }
        assert_eq!(folder.updates().unwrap(), [4]);
    }
}
