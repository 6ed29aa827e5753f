//! Divergence, and how a run gets out of it.

use std::fs;
use std::path::Path;

use predicates::str::contains;

use crate::common::{
    TINY_FIT, as_killed_after, assert_same_checkpoint, checkpoint_files, metrics, refused, trainer,
};

/// A rate at which a network is gone after one update, from the fifth update on, and how it becomes a sane one.
const EXPLODES: &str =
    "--set learning.learning_rate=[[0,1e-3],[4,1e30]] --set guard.rate_factor=1e-33";
const TWELVE: &str = "--set learning.updates=12 --set output.keep=9 --set output.log_every=1";

/// `rollbacks.jsonl`.
fn rollbacks(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("rollbacks.jsonl")).unwrap();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

/// What each kind of learning is begun with.
fn kinds(rates: &str) -> Vec<(&'static str, String)> {
    let generator = "--set generator.network.widths=[3,2] --set generator.network.latent=4";
    let fit = |preset: &str, more: &str| format!("fit {preset} {TINY_FIT} {more} {TWELVE} {rates}");
    let classifier = format!(
        "classifier digits-classifier --threads 1 --set network.widths=[2,2] --set learning.batch=8 \
         --set output.checkpoint_every=3 {TWELVE} {rates}"
    );
    vec![
        ("midrun", fit("digits-midrun", "")),
        ("shortrun", fit("digits-shortrun", generator)),
        ("classifier", classifier),
    ]
}

#[test]
fn a_run_recovers_from_values_that_are_not_finite_and_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in kinds(EXPLODES) {
        let whole = folder.path().join(name);
        trainer(&format!("{arguments} -o {}", whole.display()))
            .assert()
            .success()
            .stderr(contains("diverged:"))
            .stderr(contains("back to the checkpoint of update 3"));
        let [rollback] = &rollbacks(&whole)[..] else {
            panic!("{name}: {:?}", rollbacks(&whole));
        };
        assert_eq!(rollback["to"], 3, "{name}");
        let rates: Vec<f64> = metrics(&whole)
            .iter()
            .map(|line| line["learning_rate"].as_f64().unwrap())
            .collect();
        assert_eq!(rates.len(), 12);
        assert!(rates[..3].iter().all(|rate| *rate == 1e-3), "{rates:?}");
        assert!(rates[3] < 1e-30 && rates[4..].iter().all(|rate| (rate - 1e-3).abs() < 1e-9));
        // Before divergence, and after.
        for update in [3, 6, 9] {
            let halves = folder.path().join(format!("{name}-{update}"));
            as_killed_after(&whole, update, &halves);
            if update == 6 {
                // As older versions called it.
                fs::copy(whole.join("rollbacks.jsonl"), halves.join("events.jsonl")).unwrap();
                let _ = fs::remove_file(halves.join("rollbacks.jsonl"));
            }
            trainer(&format!("resume {} --threads 1", halves.display()))
                .assert()
                .success();
            assert_same_checkpoint(&whole, &halves, 12);
            assert_eq!(metrics(&whole), metrics(&halves), "{name} {update}");
            assert_eq!(rollbacks(&whole), rollbacks(&halves), "{name} {update}");
            assert!(!halves.join("events.jsonl").exists());
        }
    }
}

#[test]
fn a_run_recovers_from_values_beyond_their_limits() {
    let folder = tempfile::tempdir().unwrap();
    let rates = "--set learning.learning_rate=[[0,1e-3],[4,10]] --set guard.rate_factor=1e-4 --set guard.patience=2";
    for (limit, reason) in [
        ("guard.energy_difference=1e3", "energy difference is"),
        ("guard.gradient_strength=5", "gradient strength is"),
        ("guard.saturation=0.9", "saturation is"),
    ] {
        let run = folder.path().join(limit);
        let off = ["energy_difference", "gradient_strength", "saturation"]
            .map(|name| format!("--set guard.{name}=off"))
            .join(" ");
        trainer(&format!(
            "fit digits-midrun {TINY_FIT} {TWELVE} {rates} {off} --set {limit} -o {}",
            run.display()
        ))
        .assert()
        .success();
        let rollbacks = rollbacks(&run);
        assert_eq!(rollbacks.len(), 1, "{limit}: {rollbacks:?}");
        let got = rollbacks[0]["reason"].as_str().unwrap();
        let limit = limit.split('=').next().unwrap();
        assert!(got.starts_with(reason) && got.contains(limit), "{got}");
        assert!(!checkpoint_files(&run, 12).is_empty());
    }
}

#[test]
fn a_run_gives_up_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    for (rollbacks, more) in [(0, ""), (2, "--set output.checkpoint_every=1")] {
        let run = folder.path().join(format!("{rollbacks}"));
        let arguments = format!(
            "fit digits-midrun {TINY_FIT} {TWELVE} {EXPLODES} --set guard.rate_factor=1 \
             --set guard.rollbacks={rollbacks} {more} -o {}",
            run.display()
        );
        refused(
            &mut trainer(&arguments),
            &[
                "stopped; its last checkpoint is as it was",
                "diverged: ",
                "not finite",
                &format!("{rollbacks} times, as often as guard.rollbacks allows"),
                "learning.learning_rate",
                "langevin.clip",
            ],
        );
        assert!(!checkpoint_files(&run, 3).is_empty());
        let resumed = format!("resume {} --threads 1", run.display());
        refused(&mut trainer(&resumed), &["guard.rollbacks"]);
    }
}

/// Divergence that follows a checkpoint twice takes the run behind that checkpoint.
#[test]
fn a_checkpoint_that_leads_to_divergence_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    trainer(&format!(
        "fit digits-midrun {TINY_FIT} {TWELVE} {EXPLODES} --set guard.rate_factor=1e-17 \
         --set output.checkpoint_every=1 -o {}",
        run.display()
    ))
    .assert()
    .success();
    let targets: Vec<u64> = rollbacks(&run)
        .iter()
        .map(|rollback| rollback["to"].as_u64().unwrap())
        .collect();
    assert_eq!(targets, [5, 4]);
}
