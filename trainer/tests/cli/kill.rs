//! Killed at any moment, a run goes on as if nothing had been.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ebm_export::source::checkpoint;

use crate::common::{TINY_FIT, assert_same_checkpoint, checkpoint_files, fit, metrics, trainer};

const UPDATES: u64 = 160;
const CHECKPOINT_EVERY: u64 = 4;

fn tiny() -> String {
    format!(
        "--set learning.updates={UPDATES} --set output.checkpoint_every={CHECKPOINT_EVERY} \
         --set output.log_every=1 --set output.sample_every=40"
    )
}

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Some time after its start.
    After(Duration),
    /// While it writes or removes files, and some time later.
    Writing(Duration),
}

/// SplitMix64, so that each test run draws the same moments.
struct Dice(u64);

impl Dice {
    /// In `0..n`.
    fn roll(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % n
    }

    fn moment(&mut self) -> Moment {
        match self.roll(3) {
            0 => Moment::After(Duration::from_micros(self.roll(300_000))),
            1 => Moment::After(Duration::from_micros(self.roll(1_500_000))),
            _ => Moment::Writing(Duration::from_micros(self.roll(3_000))),
        }
    }
}

/// Names of files and folders that have no final name, in a run.
fn unfinished(run: &Path) -> Vec<PathBuf> {
    let folders = [
        run.to_path_buf(),
        run.join("checkpoints"),
        run.join("samples"),
    ];
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .collect()
}

/// Begins a run, or goes on with it where it has a checkpoint.
fn process(run: &Path) -> Child {
    let path = run.display();
    let arguments = match checkpoint::resolve(run) {
        Ok(_) => format!("resume {path} --threads 1"),
        Err(_) => format!("fit digits-midrun {TINY_FIT} {} -o {path}", tiny()),
    };
    Command::new(env!("CARGO_BIN_EXE_trainer"))
        .env("OMP_NUM_THREADS", "1")
        .args(arguments.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Whether the process was killed at the moment, and not done before.
fn kill(child: &mut Child, moment: Moment, run: &Path) -> bool {
    let begun = Instant::now();
    let (since, pause) = match moment {
        Moment::After(time) => (begun, time),
        Moment::Writing(pause) => {
            while unfinished(run).is_empty()
                && child.try_wait().unwrap().is_none()
                && begun.elapsed() < Duration::from_secs(60)
            {
                std::thread::yield_now();
            }
            (Instant::now(), pause)
        }
    };
    std::thread::sleep(pause.saturating_sub(since.elapsed()));
    child.kill().unwrap();
    match child.wait().unwrap().code() {
        None => true,
        Some(0) => false,
        Some(code) => panic!("a process ended with code {code} before {moment:?}"),
    }
}

/// Reads whatever of a run may be read, and gives the update of its last checkpoint.
fn read(run: &Path) -> Option<u64> {
    let read = |folder: &Path| {
        let header = checkpoint::read_header(folder).unwrap();
        for group in header.groups.keys() {
            checkpoint::read_group(folder, &header, group).unwrap();
        }
        header.update
    };
    let last = read(&checkpoint::resolve(run).ok()?);
    if run.join("best").exists() {
        assert!(read(&run.join("best")) <= last);
    }
    for entry in fs::read_dir(run.join("checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            read(&path);
        }
    }
    Some(last)
}

/// The last update that the run says to have done; a line that was not written to its end says nothing.
fn done(run: &Path) -> Option<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).ok()?;
    let line = text.lines().rev().find(|line| line.ends_with('}'))?;
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["update"].as_u64()
}

/// Kills a run until it is done or was killed so often; gives how often that was, and how often something was left half-written.
fn kill_again_and_again(run: &Path, dice: &mut Dice, most: usize) -> (usize, usize) {
    let (mut n_killed, mut n_torn, mut before) = (0, 0, None);
    while n_killed < most {
        let mut child = process(run);
        if !kill(&mut child, dice.moment(), run) {
            break;
        }
        n_killed += 1;
        n_torn += usize::from(!unfinished(run).is_empty());
        let last = read(run);
        assert!(last >= before, "{last:?} after {before:?}");
        if let (Some(last), Some(done)) = (last, done(run)) {
            assert!(done <= last + CHECKPOINT_EVERY, "{done} after {last}");
        }
        before = last;
    }
    assert!(process(run).wait().unwrap().success());
    (n_killed, n_torn)
}

/// As often as `EBM_TEST_EVERYWHERE=1` asks for, or as there is time for otherwise.
fn n_kills() -> usize {
    match std::env::var("EBM_TEST_EVERYWHERE") {
        Ok(everywhere) if everywhere == "1" => 200,
        _ => 40,
    }
}

#[test]
fn a_run_that_is_killed_at_random_moments_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    fit(&whole, &tiny());
    let best = |run: &Path| fs::read(run.join("best/checkpoint.json")).unwrap();
    let (mut dice, mut n_killed, mut n_torn) = (Dice(1), 0, 0);
    while n_killed < n_kills() {
        let killed = folder.path().join(format!("killed{n_killed}"));
        let (more, torn) = kill_again_and_again(&killed, &mut dice, n_kills() - n_killed);
        n_killed += more;
        n_torn += torn;
        assert_same_checkpoint(&whole, &killed, UPDATES);
        assert_eq!(metrics(&whole), metrics(&killed));
        assert!(best(&whole) == best(&killed));
        assert_eq!(unfinished(&killed), Vec::<PathBuf>::new());
    }
    eprintln!("killed {n_killed} times, {n_torn} times while something was written");
    assert!(n_torn > 0, "no process was killed while it wrote");
}

/// A process that was killed before the first checkpoint leaves nothing that stands in the way of the same command.
#[test]
fn what_was_killed_before_its_first_checkpoint_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fs::create_dir_all(run.join("checkpoints/.unfinished-abc")).unwrap();
    fs::write(run.join("config.toml"), "kind").unwrap();
    crate::common::refused(
        &mut trainer(&format!("resume {}", run.display())),
        &["holds no run", "has to begin again"],
    );
    fit(&run, "");
    assert!(!checkpoint_files(&run, 6).is_empty());
    assert_eq!(unfinished(&run), Vec::<PathBuf>::new());
}
