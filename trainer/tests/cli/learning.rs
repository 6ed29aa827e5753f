//! Learning and its files.

use std::fs;

use predicates::str::contains;

use crate::common::{
    TINY_FIT, assert_same_checkpoint, checkpoint_files, classifier, fit, metrics, refused, trainer,
};

#[test]
fn a_run_writes_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "");
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(
        config.contains("updates = 6") && config.contains("temperature = 0.01"),
        "{config}"
    );
    assert!(
        fs::read_to_string(run.join("diagnostics.svg"))
            .unwrap()
            .contains("gradient strength")
    );
    assert!(
        fs::read(run.join("samples/00000006.png"))
            .unwrap()
            .starts_with(b"\x89PNG")
    );
    let lines = metrics(&run);
    assert_eq!(
        lines
            .iter()
            .map(|line| line["update"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [2, 4, 6]
    );
    assert!(lines[0]["energy_difference"].is_f64() && lines[0]["gradient_strength"].is_f64());
    let names: Vec<String> = checkpoint_files(&run, 6)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let expected = [
        "bank.safetensors",
        "checkpoint.json",
        "ema.safetensors",
        "optimizer.safetensors",
        "weights.safetensors",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_written_configuration_gives_the_same_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
    fit(&one, "");
    let config = one.join("config.toml");
    trainer(&format!("fit {} -o {}", config.display(), other.display()))
        .assert()
        .success();
    assert_same_checkpoint(&one, &other, 6);
}

#[test]
fn another_seed_gives_another_run_and_more_threads_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let [one, seeded, threaded] =
        ["one", "seeded", "threaded"].map(|name| folder.path().join(name));
    fit(&one, "");
    fit(&seeded, "--seed 2");
    assert_ne!(checkpoint_files(&one, 6), checkpoint_files(&seeded, 6));
    trainer(&format!(
        "fit digits-midrun {} --threads 3 -o {}",
        TINY_FIT.replace("--threads 1", ""),
        threaded.display()
    ))
    .assert()
    .success();
    assert_same_checkpoint(&one, &threaded, 6);
}

#[test]
fn every_start_of_chains_learns() {
    let folder = tempfile::tempdir().unwrap();
    for start in ["data-persistent", "noise-persistent", "data", "noise"] {
        let run = folder.path().join(start);
        fit(
            &run,
            &format!(
                "--set chains.start={start} --set langevin.clip=0.5 --set learning.weight_gradient_clip=1"
            ),
        );
        let has_bank = checkpoint_files(&run, 6)
            .iter()
            .any(|(name, _)| name == "bank.safetensors");
        assert_eq!(has_bank, start.ends_with("persistent"), "{start}");
    }
}

#[test]
fn without_ema_there_is_no_such_group() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "--set learning.ema_decay=off");
    assert!(
        checkpoint_files(&run, 6)
            .iter()
            .all(|(name, _)| name != "ema.safetensors")
    );
}

#[test]
fn a_classifier_learns_and_says_its_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    classifier(&run);
    let header: serde_json::Value = serde_json::from_slice(
        &checkpoint_files(&run, 60)
            .into_iter()
            .find(|(name, _)| name == "checkpoint.json")
            .unwrap()
            .1,
    )
    .unwrap();
    assert_eq!(header["kind"], "classifier");
    assert_eq!(header["n_classes"], 10);
}

#[test]
fn an_energy_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let arguments = format!(
        "fit digits-midrun {TINY_FIT} --set learning.learning_rate=[[0,1e-3],[4,1e30]] -o {}",
        run.display()
    );
    refused(
        &mut trainer(&arguments),
        &[
            "the energy is not finite",
            "lower learning.learning_rate",
            "checkpoint is as it was",
        ],
    );
    assert!(!checkpoint_files(&run, 3).is_empty());
}

#[test]
fn cuda_is_never_replaced_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = format!(
        "fit digits-midrun {TINY_FIT} --device cuda -o {}",
        folder.path().join("run").display()
    );
    let output = trainer(&arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || text.contains("--device cuda"),
        "{text}"
    );
}

#[test]
fn help_has_examples() {
    for command in [
        "fit",
        "classifier",
        "life-cycle",
        "resume",
        "attack",
        "data check",
        "report",
        "presets",
    ] {
        trainer(&format!("{command} --help"))
            .assert()
            .success()
            .stdout(contains("Example"));
    }
}

#[test]
fn help_says_exit_codes_and_seeds_and_every_shell_and_man_page_knows_the_commands() {
    let help = trainer("--help").assert().success();
    help.stdout(contains("Exit codes:"))
        .stdout(contains("Seeds:"));
    trainer("completions bash")
        .assert()
        .success()
        .stdout(contains("life-cycle"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    let man = format!("man -o {}", pages.display());
    trainer(&man).assert().success();
    let page = fs::read_to_string(pages.join("trainer-fit.1")).unwrap();
    assert!(page.contains("PRESET_OR_FILE"), "{page}");
    refused(&mut trainer(&man), &["is there already", "--force"]);
    trainer(&format!("{man} --force")).assert().success();
    trainer("man")
        .assert()
        .success()
        .stdout(contains("trainer"));
}
