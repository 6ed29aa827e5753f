//! Nothing is lost: interruption, kill, full disk, a run that is there already.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::common::{
    TINY_FIT, assert_same_checkpoint, checkpoint_files, fit, metrics, refused, trainer,
};

/// Long enough to be interrupted, short enough to be waited for.
const LONGER: &str =
    "--set learning.updates=150 --set output.checkpoint_every=20 --set output.sample_every=0";

fn start(run: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_trainer"))
        .env("OMP_NUM_THREADS", "1")
        .args(format!("fit digits-midrun {TINY_FIT} {LONGER}").split_whitespace())
        .arg("-o")
        .arg(run)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a run has logged so many lines.
fn wait_for_lines(run: &Path, lines: usize) {
    let start = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
        < lines
    {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "the run does not get on"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill")
            .args(["-s", name, &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

fn resume(run: &Path) {
    trainer(&format!("resume {} --threads 1", run.display()))
        .assert()
        .success()
        .stderr(contains("resuming"));
}

#[test]
fn fit_interrupted_and_resumed_equals_fit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, halves] = ["whole", "halves"].map(|name| folder.path().join(name));
    fit(&whole, LONGER);
    for lines in [7, 31] {
        let child = if lines == 7 {
            start(&halves)
        } else {
            Command::new(env!("CARGO_BIN_EXE_trainer"))
                .args(["resume", halves.to_str().unwrap(), "--threads", "1"])
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        wait_for_lines(&halves, lines);
        signal(&child, "INT");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{text}");
        assert!(
            text.contains(&format!("trainer resume {}", halves.display())),
            "{text}"
        );
    }
    resume(&halves);
    assert_same_checkpoint(&whole, &halves, 150);
    assert_eq!(metrics(&whole), metrics(&halves));
}

#[test]
fn a_killed_run_resumes_from_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    fit(&whole, LONGER);
    let mut child = start(&killed);
    wait_for_lines(&killed, 16);
    signal(&child, "KILL");
    child.wait().unwrap();
    resume(&killed);
    assert_same_checkpoint(&whole, &killed, 150);
    assert_eq!(metrics(&whole), metrics(&killed));
}

#[test]
fn a_complete_run_has_nothing_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let before = checkpoint_files(&run, 6);
    resume(&run);
    assert_eq!(before, checkpoint_files(&run, 6));
    assert_eq!(metrics(&run).len(), 3);
}

#[test]
fn a_run_that_is_there_is_only_replaced_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let before = checkpoint_files(&run, 6);
    let again = format!("fit digits-midrun {TINY_FIT} --seed 9 -o {}", run.display());
    refused(
        &mut trainer(&again),
        &["holds a run already", "trainer resume", "--force"],
    );
    assert_eq!(before, checkpoint_files(&run, 6));
    trainer(&format!("{again} --force")).assert().success();
    assert_ne!(before, checkpoint_files(&run, 6));
}

#[test]
fn force_removes_nothing_before_the_new_run_is_known_to_begin() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let again = format!(
        "fit mnist-midrun --data /nowhere --force -o {}",
        run.display()
    );
    refused(&mut trainer(&again), &["no data in /nowhere"]);
    assert!(!checkpoint_files(&run, 6).is_empty());
}

#[test]
fn old_checkpoints_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "--set output.checkpoint_every=1 --set output.keep=2");
    let mut kept: Vec<String> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert_eq!(kept, ["00000005", "00000006"]);
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    refused(
        &mut trainer(&format!("resume {}", folder.path().display())),
        &["holds no run", "trainer fit"],
    );
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "--set output.keep=1");
    let bank = run.join("checkpoints/00000006/bank.safetensors");
    let bytes = fs::read(&bank).unwrap();
    fs::write(&bank, &bytes[..bytes.len() - 1]).unwrap();
    refused(
        &mut trainer(&format!("resume {}", run.display())),
        &["bank.safetensors", "damaged", "expected SHA-256"],
    );
}

/// A file system of so few bytes, where the tests may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(SmallDisk(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_the_run_and_keeps_the_last_checkpoint() {
    let Some(disk) = SmallDisk::mount("200k") else {
        eprintln!(
            "SKIPPED: a full disk cannot be tried, since mounting a small one is not allowed here (it wants root)"
        );
        return;
    };
    let run = disk.0.path().join("run");
    let arguments = format!(
        "fit digits-midrun {TINY_FIT} --set output.keep=100 --set output.checkpoint_every=1 \
         --set output.sample_every=0 --set learning.updates=100 -o {}",
        run.display()
    );
    refused(
        &mut trainer(&arguments),
        &["stopped; its last checkpoint is as it was", "No space left"],
    );
    let mut kept: Vec<_> = fs::read_dir(run.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    kept.sort();
    assert!(
        kept.iter()
            .all(|name| !name.to_string_lossy().starts_with('.')),
        "{kept:?}"
    );
    let last: u64 = kept.last().unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..100).contains(&last), "{kept:?}");
    fs::remove_dir_all(run.join("checkpoints").join(&kept[0])).unwrap();
    let resumed = trainer(&format!("resume {} --threads 1", run.display()))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&resumed.stderr).contains(&format!("after update {last}")));
}
