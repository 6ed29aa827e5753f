//! Nothing is lost: interruption, kill, full disk, a run that is there already.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use predicates::str::contains;

use crate::common::{
    TINY_FIT, as_killed_after, assert_same_checkpoint, checkpoint_files, fit, metrics, refused,
    trainer,
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

/// Waits until a run has logged that many lines.
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

/// The best checkpoint is one that the run wrote, whole, and stays where later ones are not better.
#[test]
fn the_best_checkpoint_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let read = |path: &Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path.join("checkpoint.json")).unwrap()).unwrap()
    };
    let merits = |run: &Path| -> Vec<(u64, Option<f64>)> {
        let entries = fs::read_dir(run.join("checkpoints")).unwrap();
        let mut merits: Vec<_> = entries
            .map(|entry| read(&entry.unwrap().path()))
            .map(|header| {
                let merit = header["state"]["merit"].as_f64();
                (header["update"].as_u64().unwrap(), merit)
            })
            .collect();
        merits.sort_by_key(|(update, _)| *update);
        merits
    };
    let classifier = "--set network.widths=[4,6] --set learning.updates=60 --set output.checkpoint_every=10 --threads 1";
    for (name, arguments, first) in [
        (
            "energy",
            format!("fit digits-midrun {TINY_FIT} --set learning.updates=16"),
            9,
        ),
        (
            "classifier",
            format!("classifier digits-classifier {classifier}"),
            10,
        ),
    ] {
        let [all, few] = ["all", "few"].map(|keep| folder.path().join(format!("{name}-{keep}")));
        for (run, keep) in [(&all, 99), (&few, 1)] {
            trainer(&format!(
                "{arguments} --set output.keep={keep} -o {}",
                run.display()
            ))
            .assert()
            .success();
        }
        let merits = merits(&all);
        let with_merit = merits.iter().filter(|(_, merit)| merit.is_some());
        assert_eq!(with_merit.map(|(update, _)| *update).min(), Some(first));
        let (best, _) = merits
            .iter()
            .filter_map(|(update, merit)| Some((*update, (*merit)?)))
            .rev()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .unwrap();
        for run in [&all, &few] {
            assert_eq!(
                read(&run.join("best"))["update"],
                best,
                "{name}: {merits:?}"
            );
        }
        // The configurations differ in what is kept.
        for (file, bytes) in checkpoint_files(&all, best) {
            let kept = fs::read(few.join("best").join(&file)).unwrap();
            assert!(kept == bytes || file == "checkpoint.json", "{file}");
        }
        assert_eq!(fs::read_dir(few.join("checkpoints")).unwrap().count(), 1);
    }
}

/// Files may not become larger than that many kilobytes or, for other shells, half of that.
#[cfg(unix)]
#[test]
fn what_cannot_be_written_stops_the_run_and_it_goes_on_later() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, limited] = ["whole", "limited"].map(|name| folder.path().join(name));
    let more = "--set learning.updates=600 --set output.log_every=1 --set output.checkpoint_every=20 --set output.sample_every=0";
    fit(&whole, more);
    let arguments = format!(
        "fit digits-midrun {TINY_FIT} {more} -o {}",
        limited.display()
    );
    let limited_shell = "trap '' XFSZ; ulimit -f 80; exec \"$@\"";
    let output = Command::new("sh")
        .args(["-c", limited_shell, "sh", env!("CARGO_BIN_EXE_trainer")])
        .args(arguments.split_whitespace())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for piece in [
        "metrics.jsonl",
        "File too large",
        "stopped; its last checkpoint is as it was",
        &format!("`trainer resume {}`", limited.display()),
    ] {
        assert!(text.contains(piece), "expected {piece:?} in: {text}");
    }
    resume(&limited);
    assert_same_checkpoint(&whole, &limited, 600);
    assert_eq!(metrics(&whole), metrics(&limited));
}

#[test]
fn a_run_whose_data_are_gone_says_so_and_goes_on_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let [data, moved, whole, halves] =
        ["data", "moved", "whole", "halves"].map(|name| folder.path().join(name));
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/digits/digits.csv.gz");
    fs::create_dir(&data).unwrap();
    fs::copy(bundled, data.join("digits.csv.gz")).unwrap();
    fit(&whole, &format!("--data {}", data.display()));
    as_killed_after(&whole, 3, &halves);
    fs::rename(&data, &moved).unwrap();
    let resume = format!("resume {} --threads 1", halves.display());
    refused(
        &mut trainer(&resume),
        &[&format!("no data in {}", data.display()), "--data DIR"],
    );
    trainer(&format!("{resume} --data {}", moved.display()))
        .assert()
        .success();
    assert_eq!(metrics(&whole), metrics(&halves));
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

#[test]
fn a_file_that_is_there_is_replaced_only_if_that_is_asked_for() {
    let [folder, empty] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let file = folder.path().join("precious.png");
    fs::write(&file, b"precious").unwrap();
    let (place, shown) = (empty.path().display(), file.display());
    for command in [
        format!("data check {place} -o {shown}"),
        format!("report {place} -o {shown}"),
        format!("fid --samples {place} --reference {place} --features {place} --plot {shown}"),
    ] {
        let wanted = format!("{shown} is there already");
        refused(&mut trainer(&command), &[&wanted, "--force"]);
        let forced = trainer(&format!("{command} --force")).output().unwrap();
        let said = String::from_utf8(forced.stderr).unwrap();
        assert!(!said.contains("there already"), "{command}: {said}");
        assert_eq!(fs::read(&file).unwrap(), b"precious", "nothing came of it");
    }
}
