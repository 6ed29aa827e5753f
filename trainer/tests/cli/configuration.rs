//! What the user typed, and what is refused before any work.

use std::fs;
use std::path::PathBuf;

use predicates::str::contains;

use crate::common::{TINY_FIT, fit, metrics, refused, trainer};

/// A folder with a changed copy of a preset.
fn changed_preset(from: &str, to: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let text =
        String::from_utf8(trainer("presets digits-midrun").output().unwrap().stdout).unwrap();
    assert!(text.contains(from), "{text}");
    let file = folder.path().join("my.toml");
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    (folder, file)
}

fn fit_file(file: &std::path::Path) -> assert_cmd::Command {
    trainer(&format!(
        "fit {} -o {}",
        file.display(),
        file.with_extension("run").display()
    ))
}

#[test]
fn presets_are_listed_and_printed() {
    trainer("presets")
        .assert()
        .success()
        .stdout(contains("digits-midrun"))
        .stdout(contains("cifar10-midrun-data"));
    trainer("presets cifar10-midrun-data")
        .assert()
        .success()
        .stdout(contains("rejuvenation = 0.025"));
    refused(
        &mut trainer("presets digits-midrum"),
        &[
            "\"digits-midrum\" is neither a file nor a preset",
            "digits-midrun",
        ],
    );
}

#[test]
fn a_file_over_a_preset_holds_only_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    fs::write(
        &file,
        "[learning]\nupdates = 4\nbatch = 8\n[network]\nwidths = [2, 2]\n",
    )
    .unwrap();
    let run = folder.path().join("run");
    let more = "--threads 1 --set langevin.steps=1 --set output.log_every=1";
    trainer(&format!(
        "fit {} --preset digits-midrun {more} -o {}",
        file.display(),
        run.display()
    ))
    .assert()
    .success();
    assert_eq!(metrics(&run).len(), 4);
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
    let (_folder, file) = changed_preset("step_size = 0.08", "step_sise = 0.08");
    let text = fs::read_to_string(&file).unwrap();
    let line = text
        .lines()
        .position(|line| line.starts_with("step_sise"))
        .unwrap()
        + 1;
    refused(
        &mut fit_file(&file),
        &[
            "my.toml",
            &format!("line {line}"),
            "unknown key `step_sise`",
            "[langevin]",
            "did you mean `step_size`?",
        ],
    );
}

#[test]
fn an_unknown_key_of_the_network_is_refused() {
    let (_folder, file) = changed_preset("widths =", "width =");
    refused(
        &mut fit_file(&file),
        &["unknown key `width`", "did you mean `widths`?"],
    );
}

#[test]
fn an_unknown_key_in_set_is_refused() {
    refused(
        &mut trainer("fit digits-midrun --set langevin.step=3"),
        &["--set langevin.step=3", "unknown key `step`", "`steps`"],
    );
    refused(
        &mut trainer("fit digits-midrun --set langevn.steps=3"),
        &["unknown key `langevn`", "`langevin`"],
    );
    refused(
        &mut trainer("fit digits-midrun --set steps"),
        &["expected section.key=value"],
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    refused(
        &mut trainer("fit digits-midrun --set langevin.steps=many"),
        &[
            "--set langevin.steps=many",
            "expected a number, or pairs [from update, number]",
        ],
    );
    refused(
        &mut trainer("fit digits-midrun --set learning.ema_decay=none"),
        &["expected a number or \"off\""],
    );
}

#[test]
fn runs_that_nothing_is_taken_from_are_refused() {
    refused(
        &mut trainer("fit digits-midrun --generator runs/shortrun"),
        &[
            "--generator runs/shortrun: preset digits-midrun has no section [generator]",
            "mnist-midrun-cooperative",
        ],
    );
    refused(
        &mut trainer("fit digits-midrun --prior runs/prior"),
        &[
            "--prior runs/prior: preset digits-midrun has no section [prior]",
            "mnist-longrun",
        ],
    );
    refused(
        &mut trainer("fit digits-shortrun --generator runs/shortrun"),
        &[
            "--generator runs/shortrun: preset digits-shortrun learns its generator itself",
            "mnist-midrun-cooperative",
        ],
    );
}

#[test]
fn a_missing_key_is_named() {
    let (_folder, file) = changed_preset("bank = 2000\n", "");
    refused(&mut fit_file(&file), &["missing field `bank`", "chains"]);
}

#[test]
fn broken_toml_is_refused_with_its_line() {
    let (_folder, file) = changed_preset("seed = 1", "seed = = 1");
    refused(&mut fit_file(&file), &["my.toml, line 3", "not valid TOML"]);
}

#[test]
fn values_out_of_range_are_refused() {
    for (set, expected) in [
        (
            "langevin.step_size=0",
            "langevin.step_size = 0: expected above 0",
        ),
        (
            "langevin.step_size=-0.1",
            "langevin.step_size = -0.1: expected above 0",
        ),
        (
            "langevin.temperature=0",
            "langevin.temperature = 0: expected above 0",
        ),
        (
            "langevin.temperature=nan",
            "langevin.temperature = NaN: expected above 0",
        ),
        (
            "langevin.steps=0",
            "langevin.steps = 0: expected at least 1",
        ),
        (
            "purification.temperature=-1",
            "purification.temperature = -1: expected above 0",
        ),
        ("learning.learning_rate=[[5,1e-3]]", "begin at update 0"),
        (
            "learning.ema_decay=1",
            "learning.ema_decay = 1: expected from 0 to below 1",
        ),
        (
            "learning.data_noise=-1",
            "learning.data_noise = -1: expected 0 or above",
        ),
        (
            "chains.bank=5",
            "chains.bank = 5: expected at least learning.batch",
        ),
        (
            "chains.rejuvenation=1.5",
            "chains.rejuvenation = 1.5: expected from 0 to 1",
        ),
        (
            "langevin.steps=[[0,5],[3,0]]",
            "langevin.steps = 0: expected at least 1",
        ),
        ("langevin.tau=0", "langevin.tau = 0: expected above 0"),
        (
            "chains.start=cooperative",
            "generator = none: expected a section [generator]",
        ),
        ("network.widths=[]", "network"),
        ("data.n_test=1797", "data.n_test = 1797 of 1797 images"),
        (
            "data.max_damaged=1",
            "data.max_damaged = 1: expected from 0 to below 1",
        ),
        ("data.buffer=0", "data.buffer = 0: expected at least 1"),
        (
            "data.crop={random={area=[0.5,1.5],aspect=[1.0,1.0]}}",
            "data.crop.random.area = [0.5, 1.5]: expected [least, most], above 0 and at most 1",
        ),
        (
            "data.crop={random={area=[0.5,1.0],aspect=[2.0,1.0]}}",
            "data.crop.random.aspect = [2.0, 1.0]: expected [least, most], above 0",
        ),
    ] {
        refused(
            &mut trainer(&format!("fit digits-midrun --set {set} -o /nowhere/run")),
            &[expected],
        );
    }
}

#[test]
fn a_generator_teaches_no_classifier() {
    refused(
        &mut trainer("classifier digits-classifier --set data.source=generator -o /nowhere/run"),
        &["the images of a generator have no labels"],
    );
}

#[test]
fn sections_that_do_not_go_together_are_refused() {
    let burn_in =
        "--set burn_in.bank=20 --set burn_in.batch=8 --set burn_in.steps=1 --set burn_in.visits=2";
    for (arguments, expected) in [
        (
            "digits-shortrun --set chains.start=data".to_string(),
            "generator = a generator: expected none",
        ),
        (
            "digits-shortrun --set data.source=generator".to_string(),
            "generator.mode = learned: expected \"fixed\"",
        ),
        (
            "digits-shortrun --set generator.network.channels=3".to_string(),
            "expected images of the same channels and size",
        ),
        (
            "digits-shortrun --set generator.ema_decay=1".to_string(),
            "generator.ema_decay = 1",
        ),
        (
            format!("digits-midrun {burn_in} --set chains.start=data"),
            "burn_in = a second bank: expected none",
        ),
        (
            format!("digits-midrun {burn_in} --set burn_in.batch=101"),
            "burn_in.batch = 101: expected from 1 to learning.batch",
        ),
        (
            format!("digits-midrun {burn_in} --set burn_in.bank=7"),
            "burn_in.bank = 7: expected at least burn_in.batch",
        ),
        (
            "digits-prior".to_string(),
            "name the run that learned it (for example one of a shortrun preset)",
        ),
        (
            "digits-prior --generator /nowhere".to_string(),
            "--generator /nowhere",
        ),
    ] {
        refused(
            &mut trainer(&format!("fit {arguments} -o /nowhere/run")),
            &[expected],
        );
    }
}

#[test]
fn a_preset_of_the_other_kind_is_refused() {
    refused(
        &mut trainer("fit digits-classifier"),
        &[
            "describes a classifier",
            "`trainer fit` expects an energy network",
        ],
    );
    refused(
        &mut trainer("classifier digits-midrun"),
        &[
            "describes an energy network",
            "`trainer classifier` expects a classifier",
        ],
    );
}

#[test]
fn the_seed_option_is_part_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    fit(&run, "--seed 77");
    assert!(
        fs::read_to_string(run.join("config.toml"))
            .unwrap()
            .contains("seed = 77"),
        "{TINY_FIT}"
    );
}
