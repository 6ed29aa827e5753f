//! Samples of runs and their Fréchet distances.

use std::fs;
use std::path::{Path, PathBuf};

use ebm_export::source::Energy;
use ebm_export::write::{Export, Form};
use ebm_trainer::evaluate::npz::Npz;
use predicates::str::contains;

use crate::common::{TINY_FIT, classifier, fit, refused, trainer};

const TINY_GENERATOR: &str =
    "--set generator.network.widths=[3,2] --set generator.network.latent=4";

/// Runs that take moments, and a cache of their own.
struct Runs(tempfile::TempDir);

impl Runs {
    fn new() -> Runs {
        Runs(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Learns a shortrun with its generator.
    fn shortrun(self) -> Runs {
        let run = self.at("shortrun");
        trainer(&format!(
            "fit digits-shortrun {TINY_FIT} {TINY_GENERATOR} -o {}",
            run.display()
        ))
        .assert()
        .success();
        self
    }

    fn sample(&self, run: &str, output: &str, more: &str) -> assert_cmd::Command {
        let (run, output) = (self.at(run), self.at(output));
        trainer(&format!(
            "sample {} -o {} {more}",
            run.display(),
            output.display()
        ))
    }

    fn fid(&self, arguments: &str) -> assert_cmd::Command {
        let mut command = trainer(&format!("fid --threads 1 {arguments}"));
        command
            .current_dir(self.0.path())
            .env("EBM_CACHE_DIR", self.at("cache"));
        command
    }
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_sample_has_snapshots_sheets_a_plot_and_a_table() {
    let runs = Runs::new().shortrun();
    runs.sample("shortrun", "out", "-n 70 --steps 25 --threads 1")
        .assert()
        .success()
        .stdout(contains("R-hat"))
        .stdout(contains("\n         25 "));
    let out = runs.at("out");
    for step in [1, 10, 25] {
        assert!(out.join(format!("snapshots/{step:08}.png")).is_file());
    }
    for step in [1, 10] {
        assert!(out.join(format!("snapshots/{step:08}.npz")).is_file());
    }
    assert!(
        fs::read_to_string(out.join("energy.svg"))
            .unwrap()
            .contains("<svg")
    );
    let rows = lines(&out.join("snapshots.jsonl"));
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[2]["step"], &rows[2]["n_draws"]),
        (&25.into(), &13.into())
    );
    assert_eq!(rows[1]["mixing"], serde_json::Value::Null);
    assert!(rows[2]["mixing"]["r_hat"].as_f64().unwrap() > 0.9);

    let mut npz = Npz::open(&out.join("samples.npz")).unwrap();
    let images = npz.tensor("images").unwrap();
    assert_eq!(images.size(), [70, 1, 8, 8]);
    assert!(images.abs().max().double_value(&[]) <= 1.0);
    assert_eq!(npz.tensor("energies").unwrap().size(), [3, 70]);
    let steps = Vec::<i64>::try_from(npz.tensor("steps").unwrap()).unwrap();
    assert_eq!(steps, [1, 10, 25]);
    let request: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("sample.json")).unwrap()).unwrap();
    assert_eq!(request["start"], "generator");

    for (steps, which) in [(24, "another"), (25, "this")] {
        refused(
            &mut runs.sample("shortrun", "out", &format!("-n 70 --steps {steps}")),
            &[&format!("holds {which} sample already"), "--force"],
        );
    }
    // A sample that was killed before it kept anything begins anew.
    fs::remove_file(out.join("samples.npz")).unwrap();
    runs.sample("shortrun", "out", "-n 70 --steps 25")
        .assert()
        .success();
    assert!(out.join("samples.npz").is_file());
    runs.sample("shortrun", "out", "-n 3 --steps 2 --snapshots end --force")
        .assert()
        .success();
    assert!(!out.join("snapshots/00000010.npz").exists());
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let runs = Runs::new().shortrun();
    let sampled = |name: &str, more: &str| {
        let more = format!("-n 300 --steps 5 {more}");
        runs.sample("shortrun", name, &more).assert().success();
        fs::read(runs.at(name).join("samples.npz")).unwrap()
    };
    let one = sampled("one", "--threads 1");
    assert!(one == sampled("three", "--threads 3"));
    assert!(one != sampled("other", "--threads 1 --seed 2"));
    assert!(one != sampled("raw", "--threads 1 --weights raw"));
    assert!(one != sampled("hot", "--threads 1 --joint-temperature 2"));
}

#[cfg(unix)]
#[test]
fn an_interrupted_sample_goes_on_to_the_same_bytes() {
    let runs = Runs::new().shortrun();
    let more = "-n 8 --steps 2000 --snapshots 5 --threads 1";
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args(["sample", runs.at("shortrun").to_str().unwrap()])
        .args(["-o", runs.at("out").to_str().unwrap()])
        .args(more.split_whitespace())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let first = runs.at("out").join("snapshots/00000005.npz");
    while !first.is_file() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let status = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let out = runs.at("out");
    let interrupted = lines(&out.join("snapshots.jsonl"));
    let stopped_at = interrupted[1]["step"].as_u64().unwrap();
    assert!((6..2000).contains(&stopped_at), "{stopped_at}");

    for name in ["out", "whole"] {
        runs.sample("shortrun", name, more).assert().success();
    }
    for file in [
        "samples.npz",
        "snapshots/00000005.npz",
        "snapshots.jsonl",
        "energy.svg",
    ] {
        let [resumed, whole] = ["out", "whole"].map(|name| fs::read(runs.at(name).join(file)));
        assert!(resumed.unwrap() == whole.unwrap(), "{file}");
    }
    let left: Vec<_> = fs::read_dir(&out).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().contains("unfinished"))
    );
}

#[test]
fn chains_start_and_descend_as_asked() {
    let runs = Runs::new();
    fit(&runs.at("midrun"), "");
    for more in [
        "--start noise",
        "--start data --steps 3 --snapshots 0,2",
        "--potential energy --temperature 0.1 --step-size 0.02",
    ] {
        runs.sample("midrun", "out", &format!("-n 4 --threads 1 --force {more}"))
            .assert()
            .success();
    }
    for (more, pieces) in [
        (
            "--start generator",
            &["has no generator", "--start data or noise"][..],
        ),
        (
            "--steps 5 --snapshots 6",
            &["--snapshots 6: expected at most"],
        ),
        (
            "-n 99000000",
            &["-n 99000000: expected at most 16", "other seeds"],
        ),
        ("--steps 0", &["sample.steps = 0: expected at least 1"]),
        (
            "--temperature 0",
            &["sample.temperature = 0: expected above 0"],
        ),
        (
            "--joint-temperature 0",
            &["--joint-temperature 0: expected above 0"],
        ),
        (
            "--steps 5 --step-size 1e15 --temperature 1e-20 --snapshots end",
            &["is not finite", "--step-size"],
        ),
    ] {
        refused(&mut runs.sample("midrun", "refused", more), pieces);
    }
    classifier(&runs.at("classifier"));
    refused(
        &mut runs.sample("classifier", "refused", ""),
        &["expected a checkpoint of kind Energy, got Classifier"],
    );
}

/// From the same starts the energies of the whole potential are those of the energy plus `T·(E_prior/T_prior + ‖x‖²/(2τ²))`, of which the
/// last term is known.
#[test]
fn a_prior_and_a_gaussian_term_are_descended_unless_the_energy_alone_is_asked_for() {
    let runs = Runs::new().shortrun();
    let generator = format!(
        "{TINY_GENERATOR} --generator {}",
        runs.at("shortrun").display()
    );
    for (run, more) in [
        ("prior", String::new()),
        (
            "longrun",
            format!(
                "--prior {} --set prior.network.widths=[2,3] --set prior.temperature=1e6 \
                 --set burn_in.bank=10 --set burn_in.batch=5",
                runs.at("prior").display()
            ),
        ),
    ] {
        trainer(&format!(
            "fit digits-{run} {TINY_FIT} {generator} {more} -o {}",
            runs.at(run).display()
        ))
        .assert()
        .success();
    }
    let sampled = |potential: &str| {
        let more = format!("-n 9 --steps 3 --snapshots 0 --threads 1 --potential {potential}");
        runs.sample("longrun", potential, &more).assert().success();
        let out = runs.at(potential);
        let request = fs::read(out.join("sample.json")).unwrap();
        let request: serde_json::Value = serde_json::from_slice(&request).unwrap();
        let mut start = Npz::open(&out.join("snapshots/00000000.npz")).unwrap();
        let [energies, images] = ["energies", "images"].map(|name| start.tensor(name).unwrap());
        (
            request,
            energies,
            images,
            fs::read(out.join("samples.npz")).unwrap(),
        )
    };
    let (request, whole, images, ends) = sampled("whole");
    assert_eq!(
        (&request["tau"], &request["prior_temperature"]),
        (&0.6.into(), &1e6.into())
    );
    let (request, energy, _, other_ends) = sampled("energy");
    assert_eq!(request["tau"], serde_json::Value::Null);
    // T = 0.01, and the prior is next to nothing at its temperature.
    let gaussian = images
        .square()
        .flatten(1, -1)
        .sum_dim_intlist([1i64].as_slice(), false, None)
        * (0.01 / (2.0 * 0.6 * 0.6));
    let difference = (whole - energy - gaussian).abs().max().double_value(&[]);
    assert!(difference < 1e-5, "{difference}");
    assert!(ends != other_ends);
}

#[test]
fn every_snapshot_has_a_distance_that_is_cached_and_labelled() {
    let runs = Runs::new().shortrun();
    classifier(&runs.at("classifier"));
    runs.sample("shortrun", "out", "-n 200 --steps 10 --threads 1")
        .assert()
        .success();
    let common = "--reference shortrun --features classifier";
    let scored = |more: &str| {
        let output = runs
            .fid(&format!("{common} --json {more}"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice::<Vec<serde_json::Value>>(&output.stdout).unwrap()
    };
    let all = scored("--samples out --snapshot all");
    let steps: Vec<u64> = all
        .iter()
        .map(|score| score["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 10]);
    assert_eq!(
        (&all[0]["label"], &all[0]["n_reference"]),
        (&"FID-200".into(), &1397.into())
    );
    assert_eq!(
        (&all[0]["output"], &all[0]["n_features"]),
        (&"flat".into(), &24.into())
    );
    let n_cached = fs::read_dir(runs.at("cache/frechet")).unwrap().count();
    assert_eq!(n_cached, 3);
    let mut of_file = scored("--samples out/samples.npz --snapshot all");
    for score in &mut of_file {
        assert_eq!(score["samples"], "samples.npz");
        score["samples"] = "out".into();
    }
    assert_eq!(all, of_file);
    assert_eq!(all[1..], scored("--samples out")[..]);
    assert_eq!(all[..1], scored("--samples out --snapshot 1")[..]);
    assert_eq!(
        fs::read_dir(runs.at("cache/frechet")).unwrap().count(),
        n_cached
    );

    runs.sample(
        "shortrun",
        "shortrun/sampled",
        "-n 200 --steps 10 --seed 2 --threads 1",
    )
    .assert()
    .success();
    let both = scored("--samples out shortrun/sampled --snapshot all --plot drift.svg");
    let of: Vec<&str> = both
        .iter()
        .map(|score| score["samples"].as_str().unwrap())
        .collect();
    assert_eq!(of, ["out", "out", "shortrun", "shortrun"]);
    let plot = fs::read_to_string(runs.at("drift.svg")).unwrap();
    for piece in ["FID-200", "steps of the chains", "out", "shortrun"] {
        assert!(plot.contains(piece), "{piece}");
    }

    // Samples are at no distance from themselves.
    let mut same = runs.fid("--samples out --reference out --features classifier --json");
    let same: Vec<serde_json::Value> =
        serde_json::from_slice(&same.output().unwrap().stdout).unwrap();
    assert!(same[0]["value"].as_f64().unwrap() < 1e-3 * all[1]["value"].as_f64().unwrap());
    runs.fid("--samples out -n 100 --reference digits-midrun --features classifier --layer pool1 --resize 8")
        .assert()
        .success()
        .stdout(contains("FID-100 "))
        .stdout(contains("n 100 against 1397, resize 8, network classifier "))
        .stdout(contains("\"pool1\" (24 features)"));
}

/// A network in ONNX gives the features that it gives as a run; of ONNX files any value within can be taken.
#[test]
fn a_network_in_onnx_gives_the_distance_of_the_run_that_it_was_exported_from() {
    let runs = Runs::new();
    fit(&runs.at("midrun"), "--set chains.bank=90");
    classifier(&runs.at("classifier"));
    let classifier = Energy::of_checkpoint(&runs.at("classifier")).unwrap();
    let file = Export::default()
        .model(&classifier, &Form::Forward)
        .unwrap();
    fs::write(runs.at("net.onnx"), file.to_bytes()).unwrap();
    // The bank of a run against the data of a preset.
    let distance = |more: &str| {
        let arguments = format!("--samples midrun --reference digits-midrun --json {more}");
        let output = runs.fid(&arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let scores: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&scores[0]["n"], &scores[0]["n_features"]),
            (&90.into(), &24.into())
        );
        scores[0]["value"].as_f64().unwrap()
    };
    let of_run = distance("--features classifier");
    let of_file = distance("--features net.onnx --layer flat");
    assert!((of_run / of_file - 1.0).abs() < 1e-4, "{of_run} {of_file}");
    let of_other_pixels =
        distance("--features net.onnx --layer flat --range 0,1 --mean 0.1 --std 0.5");
    assert!(
        (of_run / of_other_pixels - 1.0).abs() > 1e-2,
        "{of_other_pixels}"
    );
    refused(
        &mut runs
            .fid("--samples midrun --reference digits-midrun --features net.onnx --layer nothing"),
        &["no output \"nothing\"; it has [\"logits\"", "\"flat\""],
    );
}

#[test]
fn distances_that_cannot_be_are_refused() {
    let runs = Runs::new().shortrun();
    classifier(&runs.at("classifier"));
    runs.sample("shortrun", "out", "-n 20 --threads 1")
        .assert()
        .success();
    let ok = "--reference shortrun --features classifier";
    for (arguments, pieces) in [
        (
            format!("--samples out {ok}"),
            &["20 images do not determine the covariance of 24 features"][..],
        ),
        (
            format!("--samples out -n 21 {ok}"),
            &["-n 21: there are only 20 samples"],
        ),
        (
            format!("--samples none {ok}"),
            &["--samples none: no such file or folder"],
        ),
        (
            format!("--samples out --snapshot 3 {ok}"),
            &["--snapshot 3", "has snapshots of the steps [1, 2]"],
        ),
        (
            format!("--samples classifier {ok}"),
            &["classifier has no bank of chains", "trainer sample"],
        ),
        (
            "--samples out --reference none --features classifier".to_string(),
            &["--reference none: no such file, folder or preset"],
        ),
        (
            format!("--samples out {ok} --layer nothing"),
            &["no value \"nothing\"", "\"flat\""],
        ),
        (
            "--samples out --reference shortrun --features shortrun".to_string(),
            &["expected a checkpoint of kind Classifier, got Energy"],
        ),
        (
            format!("--samples out {ok} --resize 16"),
            &["takes images of 8×8, got 16×16: say --resize 8"],
        ),
        (
            format!("--samples out {ok} --range 1,1"),
            &["no finite numbers that differ"],
        ),
        (
            "--samples out --reference shortrun --features out/energy.svg".to_string(),
            &["out/energy.svg", "not a whole ONNX model"],
        ),
    ] {
        refused(&mut runs.fid(&arguments), pieces);
    }
    runs.fid(&format!("--samples out {ok} --plot drift.pdf"))
        .assert()
        .code(2)
        .stderr(contains("a file that ends in .svg or .png"));
    refused(
        &mut runs.fid(&format!("--samples shortrun {ok} --plot drift.svg")),
        &["--plot: these samples are of no steps"],
    );
}
