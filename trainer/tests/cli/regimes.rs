//! Every regime and every way to start chains, on tiny networks.

use std::fs;
use std::path::{Path, PathBuf};

use predicates::str::contains;

use crate::common::{
    TINY_FIT, as_killed_after, assert_same_checkpoint, checkpoint_files, metrics, refused, trainer,
};

const TINY_GENERATOR: &str =
    "--set generator.network.widths=[3,2] --set generator.network.latent=4";
const TINY_PRIOR: &str = "--set prior.network.widths=[2,3]";
const TINY_BURN_IN: &str = "--set burn_in.bank=10 --set burn_in.batch=5 \
    --set burn_in.steps=[[0,1],[4,2]] --set burn_in.visits=[[0,2],[5,1]]";
/// Also has a checkpoint in the middle, and values that change there.
const HALVES: &str = "--set learning.updates=8 --set output.keep=9 --set langevin.steps=[[0,2],[4,3]] \
    --set chains.rejuvenation=[[0,0.5],[4,0.2]] --set learning.learning_rate=[[0,1e-3],[4,1e-4]]";

fn run(folder: &Path, name: &str, arguments: &str) -> PathBuf {
    let run = folder.join(name);
    trainer(&format!(
        "fit {arguments} {TINY_FIT} {HALVES} -o {}",
        run.display()
    ))
    .assert()
    .success();
    run
}

/// Groups of the last checkpoint.
fn groups(run: &Path) -> Vec<String> {
    let files = checkpoint_files(run, 8).into_iter();
    files
        .filter_map(|(name, _)| Some(name.strip_suffix(".safetensors")?.to_string()))
        .collect()
}

#[test]
fn a_run_says_how_far_its_gradients_are_from_f32() {
    let folder = tempfile::tempdir().unwrap();
    let said = |precision: &str| {
        let run = folder.path().join(precision);
        let fit = format!("fit digits-midrun {TINY_FIT} --set langevin.precision={precision}");
        let output = trainer(&format!("{fit} -o {}", run.display())).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        let (_, rest) = text.split_once("differ from those in f32 by ")?;
        Some(rest.split_once(" %").unwrap().0.parse::<f64>().unwrap())
    };
    let percent = said("bf16").unwrap();
    assert!(percent > 0.01 && percent < 15.0, "{percent}");
    // Processors have no TF32.
    for precision in ["f32", "tf32"] {
        assert_eq!(said(precision), None, "{precision}");
    }
}

#[test]
fn every_regime_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let generator = format!("{TINY_GENERATOR} --generator {}", at("shortrun"));
    let prior = format!("{TINY_PRIOR} --prior {}", at("prior"));
    let prior_alone = "--set prior.temperature=0.01 \
        --set prior.network={name=\"sngan\",image_size=8,channels=1,widths=[2,3],pools=[true,false],activation=\"relu\"}";
    let learned = "generator generator_ema generator_optimizer";
    for (name, arguments, more_groups) in [
        (
            "shortrun",
            format!("digits-shortrun {TINY_GENERATOR}"),
            format!("bank {learned}"),
        ),
        (
            "shortrun-inference",
            format!(
                "digits-shortrun {TINY_GENERATOR} --set generator.batch_norm=inference \
                 --set generator.truncation=2 --set generator.weight_gradient_clip=5"
            ),
            format!("bank {learned}"),
        ),
        (
            "cooperative",
            format!("digits-shortrun {TINY_GENERATOR} --set chains.start=cooperative"),
            learned.to_string(),
        ),
        (
            "midrun-data",
            "digits-midrun".to_string(),
            "bank".to_string(),
        ),
        (
            "midrun-bf16",
            "digits-midrun --set langevin.precision=bf16".to_string(),
            "bank".to_string(),
        ),
        (
            "midrun",
            format!("digits-midrun-cooperative {generator}"),
            "bank generator".to_string(),
        ),
        (
            "prior",
            format!("digits-prior {generator}"),
            "bank generator".to_string(),
        ),
        (
            "longrun",
            format!("digits-longrun {generator} {prior} {TINY_BURN_IN}"),
            "bank burn_in generator prior".to_string(),
        ),
        (
            "longrun-data",
            format!(
                "digits-midrun --prior {} {prior_alone} {TINY_BURN_IN} --set langevin.tau=0.5",
                at("prior")
            ),
            "bank burn_in prior".to_string(),
        ),
        (
            "generated",
            format!("digits-midrun-cooperative {generator} --set data.source=generator"),
            "bank generator".to_string(),
        ),
        (
            "generated-persistent",
            format!(
                "digits-midrun-cooperative {generator} --set data.source=generator --set chains.start=data-persistent"
            ),
            "bank generator".to_string(),
        ),
        (
            "noise-persistent",
            "digits-midrun --set chains.start=noise-persistent --set chains.max_updates=1"
                .to_string(),
            "bank".to_string(),
        ),
        (
            "data",
            "digits-midrun --set chains.start=data --set langevin.clip=0.5".to_string(),
            String::new(),
        ),
        (
            "noise",
            "digits-midrun --set chains.start=noise --set learning.weight_gradient_clip=1"
                .to_string(),
            String::new(),
        ),
    ] {
        let whole = run(folder.path(), name, &arguments);
        let mut wanted: Vec<&str> = more_groups.split_whitespace().collect();
        wanted.extend(["weights", "optimizer"]);
        wanted.extend((name != "longrun").then_some("ema"));
        wanted.sort_unstable();
        assert_eq!(groups(&whole), wanted, "{name}");
        let halves = folder.path().join(format!("{name}-halves"));
        as_killed_after(&whole, 3, &halves);
        trainer(&format!("resume {} --threads 1", halves.display()))
            .assert()
            .success();
        assert_same_checkpoint(&whole, &halves, 8);
        assert_eq!(metrics(&whole), metrics(&halves), "{name}");
    }
}

/// Batch norms and their running statistics, and descent with momentum; on images as they are, on attacked and on noisy ones.
#[test]
fn a_residual_classifier_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let network = "{name=\"wide_resnet\",image_size=8,channels=1,depth=10,widening=1,n_classes=10,norm_epsilon=1e-5,activation=\"relu\"}";
    let optimizer = "{name=\"sgd\",momentum=0.9,weight_decay=5e-4}";
    let preset = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("presets/digits-classifier.toml"),
    )
    .unwrap();
    let (before, rest) = preset.split_once("[network]").unwrap();
    let (_, after) = rest.split_once("[learning]").unwrap();
    let file = folder.path().join("residual.toml");
    fs::write(
        &file,
        format!("network = {network}\n{before}[learning]{after}"),
    )
    .unwrap();
    let attacked = "--set adversarial.norm=linf --set adversarial.epsilon=8/255 --set adversarial.steps=2 \
         --set adversarial.step_size=4/255 --set adversarial.start=random";
    let mut ends = Vec::new();
    for (name, more, said) in [
        ("plain", "", "test accuracy"),
        (
            "attacked",
            attacked,
            "attacked within ℓ∞ 0.031373 of [0, 1] (0.062745 of [-1, 1]) by 2 steps",
        ),
        (
            "noisy",
            "--set noise.sigma=0.25",
            "with noise of σ 0.25 of [0, 1]",
        ),
    ] {
        let [whole, halves] =
            ["whole", "halves"].map(|part| folder.path().join(format!("{name}-{part}")));
        trainer(&format!(
            "classifier {} --threads 1 --set learning.updates=8 --set learning.batch=8 --set learning.optimizer={optimizer} \
             --set output.checkpoint_every=3 --set output.keep=9 {more} -o {}",
            file.display(),
            whole.display()
        ))
        .assert()
        .success()
        .stdout(contains(said));
        as_killed_after(&whole, 3, &halves);
        trainer(&format!("resume {} --threads 1", halves.display()))
            .assert()
            .success();
        assert_same_checkpoint(&whole, &halves, 8);
        assert_eq!(metrics(&whole), metrics(&halves));
        ends.push(metrics(&whole));
    }
    assert!(ends[0] != ends[1] && ends[0] != ends[2], "{ends:?}");
}

#[test]
fn networks_of_earlier_runs_have_to_suit() {
    let folder = tempfile::tempdir().unwrap();
    let shortrun = run(
        folder.path(),
        "shortrun",
        &format!("digits-shortrun {TINY_GENERATOR}"),
    );
    let midrun = run(folder.path(), "midrun", "digits-midrun");
    let path = |run: &Path| run.display().to_string();
    for (arguments, expected) in [
        (
            format!(
                "digits-prior {TINY_GENERATOR} --generator {}",
                path(&midrun)
            ),
            "the checkpoint holds no generator",
        ),
        (
            format!("digits-prior --generator {}", path(&shortrun)),
            "is not that of [generator.network]",
        ),
        (
            format!(
                "digits-longrun {TINY_GENERATOR} {TINY_BURN_IN} --generator {} --prior {}",
                path(&shortrun),
                path(&midrun)
            ),
            "is not that of [prior.network]",
        ),
        (
            format!(
                "digits-longrun {TINY_GENERATOR} {TINY_BURN_IN} --generator {}",
                path(&shortrun)
            ),
            "name the run that learned it (for example one of a prior preset)",
        ),
    ] {
        let command = format!(
            "fit {arguments} {TINY_FIT} -o {}/run",
            folder.path().display()
        );
        refused(&mut trainer(&command), &[expected]);
    }
}

/// Makes `life-cycle digits` a matter of moments.
pub fn tiny_stages() -> String {
    let mut sets = "--threads 1".to_string();
    for stage in ["shortrun", "midrun", "prior", "longrun"] {
        for set in format!("{TINY_FIT} {TINY_GENERATOR}")
            .split(" --set ")
            .skip(1)
        {
            sets += &format!(" --set {stage}.{}", set.trim());
        }
    }
    for set in format!(" {TINY_PRIOR} {TINY_BURN_IN}")
        .split(" --set ")
        .skip(1)
    {
        sets += &format!(" --set longrun.{}", set.trim());
    }
    sets + " --set classifier.network.widths=[2,2] --set classifier.learning.updates=6 --set classifier.output.checkpoint_every=3"
}

/// Every stage is a run of its own; an interrupted one goes on, and a finished one is as it was.
#[test]
fn a_life_cycle_learns_what_is_not_learned_yet() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    let life_cycle = |run: &Path| {
        let (run, tiny) = (run.display(), tiny_stages());
        trainer(&format!("life-cycle digits -o {run} {tiny}"))
    };
    life_cycle(&whole)
        .assert()
        .success()
        .stdout(contains("report.html"));
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(page.contains("5 runs, 5 of them complete"));
    for stage in ["classifier", "shortrun", "midrun"] {
        let [from, to] = [&whole, &broken].map(|run| run.join(stage));
        as_killed_after(&from, if stage == "midrun" { 3 } else { 6 }, &to);
    }
    life_cycle(&broken)
        .assert()
        .success()
        .stderr(contains("shortrun: learned already"));
    for stage in ["midrun", "prior"] {
        let [one, other] = [&whole, &broken].map(|run| checkpoint_files(&run.join(stage), 6));
        // The configurations name the folders of their generators.
        let tensors = |files: Vec<(String, Vec<u8>)>| -> Vec<(String, Vec<u8>)> {
            let is_tensor = |(name, _): &(String, Vec<u8>)| name.ends_with(".safetensors");
            files.into_iter().filter(is_tensor).collect()
        };
        assert!(tensors(one) == tensors(other), "{stage}");
    }
    assert_eq!(checkpoint_files(&broken.join("longrun"), 6).len(), 7);
    refused(
        &mut trainer("life-cycle celeba64 -o /nowhere"),
        &["families with one for each are digits, mnist, cifar10, cifar10-small"],
    );
    refused(
        &mut trainer("life-cycle digits -o /nowhere --set longer.seed=1"),
        &["expected one of the stages"],
    );
}
