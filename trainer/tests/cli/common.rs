//! Tiny runs.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;

/// `trainer` with blank-separated arguments. One thread, since tests run beside each other.
pub fn trainer(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
    command
        .env("OMP_NUM_THREADS", "1")
        .args(arguments.split_whitespace());
    command
}

/// Makes `fit digits-midrun` a matter of moments.
pub const TINY_FIT: &str = "--threads 1 --set learning.batch=8 --set chains.bank=12 --set langevin.steps=2 \
    --set network.widths=[2,3] --set learning.updates=6 --set output.log_every=2 --set output.checkpoint_every=3";

/// Makes `classifier digits-classifier` a matter of moments.
pub const TINY_CLASSIFIER: &str =
    "--threads 1 --set network.widths=[4,6] --set learning.updates=60";

/// Runs `fit digits-midrun` into a folder.
pub fn fit(run: &Path, more: &str) {
    trainer(&format!(
        "fit digits-midrun {TINY_FIT} {more} -o {}",
        run.display()
    ))
    .assert()
    .success();
}

/// Runs `classifier digits-classifier` into a folder.
pub fn classifier(run: &Path) {
    trainer(&format!(
        "classifier digits-classifier {TINY_CLASSIFIER} -o {}",
        run.display()
    ))
    .assert()
    .success()
    .stdout(contains("test accuracy"))
    .stdout(contains("n = 400, 95 % interval"));
}

/// Expects a refusal: one line on standard error that holds all those pieces, and no panic.
pub fn refused(command: &mut Command, pieces: &[&str]) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let message = text.lines().last().unwrap_or_default();
    assert!(
        message.starts_with("error: ") && !text.contains("panicked"),
        "{text}"
    );
    for piece in pieces {
        assert!(message.contains(piece), "expected {piece:?} in: {message}");
    }
}

/// Every file of the checkpoint of an update, by name.
pub fn checkpoint_files(run: &Path, update: u64) -> Vec<(String, Vec<u8>)> {
    let folder = run.join("checkpoints").join(format!("{update:08}"));
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

/// Expects the same bytes in every file of a checkpoint.
pub fn assert_same_checkpoint(one: &Path, other: &Path, update: u64) {
    let [one, other] = [one, other].map(|run| checkpoint_files(run, update));
    let names = |files: &[(String, Vec<u8>)]| {
        files
            .iter()
            .map(|(name, _)| name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&one), names(&other));
    for ((name, one), (_, other)) in one.iter().zip(&other) {
        assert!(one == other, "{name} differs");
    }
}

/// A copy of a run as it was when it wrote its checkpoint of an update.
pub fn as_killed_after(whole: &Path, update: u64, copy: &Path) {
    fs::create_dir_all(copy.join("checkpoints")).unwrap();
    for file in ["config.toml", "metrics.jsonl"] {
        fs::copy(whole.join(file), copy.join(file)).unwrap();
    }
    let checkpoint = copy.join(format!("checkpoints/{update:08}"));
    fs::create_dir(&checkpoint).unwrap();
    for (name, bytes) in checkpoint_files(whole, update) {
        fs::write(checkpoint.join(name), bytes).unwrap();
    }
}

/// The lines of `metrics.jsonl` without their seconds.
pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("seconds").unwrap();
            line
        })
        .collect()
}
