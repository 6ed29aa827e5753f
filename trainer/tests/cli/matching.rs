//! Learning by matching.

use std::fs;

use ebm_trainer::evaluate::npz::Npz;
use predicates::str::contains;
use safetensors::SafeTensors;

use crate::common::{
    as_killed_after, assert_same_checkpoint, checkpoint_files, metrics, refused, trainer,
};
use crate::ranks::{assert_close, learned_by};

/// Makes `fit digits-denoise` a matter of moments.
const TINY: &str = "--threads 1 --set learning.batch=8 --set network.widths=[2,3] --set network.pools=[false,true] \
    --set learning.updates=6 --set output.log_every=2 --set output.checkpoint_every=3 --set output.sample_every=3 --set output.keep=9";

#[test]
fn a_run_has_its_files_and_resumes_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, halves] = ["whole", "halves"].map(|name| folder.path().join(name));
    trainer(&format!("fit digits-denoise {TINY} -o {}", whole.display()))
        .assert()
        .success();
    let lines = metrics(&whole);
    let updates: Vec<u64> = lines
        .iter()
        .map(|line| line["update"].as_u64().unwrap())
        .collect();
    assert_eq!(updates, [2, 3, 4, 6], "also where samples are shown");
    let has = |line: usize, name: &str| lines[line].get(name).is_some_and(|value| value.is_f64());
    assert!(has(0, "loss") && has(0, "loss_low_noise") && has(0, "loss_high_noise"));
    assert!(has(1, "psnr_at_0.12") && has(3, "psnr_at_0.12") && !has(0, "psnr_at_0.12"));
    let names: Vec<String> = checkpoint_files(&whole, 6)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let groups = [
        "checkpoint.json",
        "ema.safetensors",
        "optimizer.safetensors",
        "weights.safetensors",
    ];
    assert_eq!(names, groups);
    for (file, piece) in [
        ("diagnostics.svg", "PSNR of denoised test images"),
        ("diagnostics.svg", "loss by level of noise"),
    ] {
        assert!(
            fs::read_to_string(whole.join(file))
                .unwrap()
                .contains(piece),
            "{file}"
        );
    }
    as_killed_after(&whole, 3, &halves);
    trainer(&format!("resume {} --threads 1", halves.display()))
        .assert()
        .success();
    assert_same_checkpoint(&whole, &halves, 6);
    assert_eq!(metrics(&whole), metrics(&halves));

    let run = whole.display();
    trainer(&format!("sample {run} -n 8 --steps 2 --threads 1"))
        .assert()
        .success();
    trainer(&format!("report {run}")).assert().success();
    let page = fs::read_to_string(whole.join("report.html")).unwrap();
    assert!(page.contains("PSNR of denoised test images"));
}

#[test]
fn several_ranks_and_threads_learn_the_same_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for n_ranks in [1, 3] {
        let run = at(&format!("{n_ranks}"));
        learned_by(
            n_ranks,
            &format!("fit digits-denoise {TINY} -o {}", run.display()),
        );
    }
    assert_close(&at("1"), &at("3"), 6);
    let threads = TINY.replace("--threads 1", "--threads 2");
    trainer(&format!(
        "fit digits-denoise {threads} -o {}",
        at("threads").display()
    ))
    .assert()
    .success();
    assert_same_checkpoint(&at("1"), &at("threads"), 6);
}

#[test]
fn a_run_goes_back_from_values_that_are_not_finite() {
    let folder = tempfile::tempdir().unwrap();
    let rates =
        "--set learning.learning_rate=[[0,1e-3],[4,1e30],[5,1e-3]] --set guard.rate_factor=1e-35";
    trainer(&format!(
        "fit digits-denoise {TINY} {rates} -o {}",
        folder.path().join("run").display()
    ))
    .assert()
    .success()
    .stderr(contains("back to the checkpoint of update 3"));
}

#[test]
fn what_does_not_fit_is_refused_before_any_work() {
    for (sets, pieces) in [
        (
            "network.activation=relu",
            &["network.activation = relu", "biases", "no gradient", "silu"][..],
        ),
        (
            "network.activation={leaky_relu={slope=0.1}}",
            &["network.activation = leaky_relu", "biases"],
        ),
        (
            "objective.sigma=[0.3,0.3]",
            &["objective.sigma = [0.3, 0.3]", "zero width"],
        ),
        (
            "objective.sigma=[0.5,0.3]",
            &["objective.sigma = [0.5, 0.3]"],
        ),
        (
            "objective.sigma=[-0.1,0.3]",
            &["objective.sigma = [-0.1, 0.3]"],
        ),
        (
            "objective.sigma=[0,0.3] --set objective.draw=log-uniform",
            &["objective.sigma = [0, 0.3]", "logarithm"],
        ),
        (
            "objective.sigma=[0,0.3] --set objective.offset=0",
            &["objective.offset = 0", "σ²"],
        ),
        ("objective.psnr_at=[0]", &["objective.psnr_at = 0"]),
        ("objective.name=matchin", &["matchin", "maximum-likelihood"]),
        ("objective.kind=denoize", &["denoize", "denoise"]),
        (
            "data.source=generator",
            &["data.source = generator", "a data set"],
        ),
        ("learning.head_factor=0", &["learning.head_factor = 0"]),
        (
            "learning.dropout=0.1",
            &["learning.dropout = 0.1", "expected none", "unet_vit"],
        ),
        (
            "learning.dropout=1",
            &["learning.dropout = 1", "between 0 and 1"],
        ),
        ("langevin.steps=3", &["unknown key `langevin`"]),
    ] {
        refused(
            &mut trainer(&format!("fit digits-denoise --set {sets}")),
            pieces,
        );
    }
    refused(
        &mut trainer("fit digits-midrun --set objective.name=matching"),
        &["unknown key"],
    );
}

#[test]
fn updates_are_timed_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("record");
    let tiny = "--threads 1 --set learning.batch=8 --set network.widths=[2,3] --set network.pools=[false,true]";
    trainer(&format!(
        "bench digits-denoise {tiny} --updates 2 --record {}",
        record.display()
    ))
    .assert()
    .success()
    .stdout(contains("images/s"));
    for file in ["before", "inputs", "after"] {
        assert!(
            record.join(format!("{file}.safetensors")).is_file(),
            "{file}"
        );
    }
}

#[test]
fn a_run_begins_with_the_weights_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    trainer(&format!("fit digits-denoise {TINY} -o {}", at("denoise")))
        .assert()
        .success();
    let network =
        "--set network.widths=[2,3] --set network.pools=[false,true] --set network.activation=silu";
    let midrun = format!(
        "fit digits-midrun --threads 1 --set learning.batch=8 --set chains.bank=12 --set langevin.steps=2 --set learning.updates=2 {network}"
    );
    // T_new/σ₀² = 0.01/0.2².
    trainer(&format!(
        "{midrun} --from {} --set from.sigma=0.2 -o {}",
        at("denoise"),
        at("midrun")
    ))
    .assert()
    .success()
    .stderr(contains(
        "after update 6; its head is multiplied by T_new/σ₀² = 0.01/",
    ))
    .stderr(contains("= 0.2500"));
    let first = |run: &str, group: &str, update: u64| {
        let files = checkpoint_files(&folder.path().join(run), update);
        let (_, bytes) = files
            .into_iter()
            .find(|(name, _)| *name == format!("{group}.safetensors"))
            .unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let head = tensors.tensor("head.weight").unwrap().data().to_vec();
        let four: Vec<f32> = head
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
        four
    };
    let (old, new) = (first("denoise", "ema", 6), first("midrun", "weights", 2));
    for (old, new) in old.iter().zip(&new) {
        // Two updates of Adam move a weight by at most twice the rate of 2e-3.
        assert!((old * 0.25 - new).abs() < 5e-3, "{old} {new}");
    }
    trainer(&format!(
        "{midrun} --from {} -o {}",
        at("midrun"),
        at("again")
    ))
    .assert()
    .success()
    .stderr(contains(
        "its head is multiplied by T_new/T_old = 0.01/0.01 = 1.0000",
    ));
    trainer(&format!(
        "fit digits-denoise {TINY} --from {} -o {}",
        at("denoise"),
        at("more")
    ))
    .assert()
    .success()
    .stderr(contains("its scale stays"));

    let denoise = at("denoise");
    for (arguments, pieces) in [
        (
            format!("{midrun} --from {denoise}"),
            &["σ from 0.02 to 0.8", "--set from.sigma=0.13"][..],
        ),
        (
            format!("{midrun} --from {denoise} --set from.sigma=0.9"),
            &["from.sigma = 0.9", "from 0.02 to 0.8"],
        ),
        (
            format!("{midrun} --from {denoise} --set from.sigma=0"),
            &["from.sigma = 0", "above 0"],
        ),
        (
            format!("{midrun} --from {} --set from.sigma=0.2", at("midrun")),
            &["from.sigma = 0.2", "expected none"],
        ),
        (
            format!("{midrun} --set network.widths=[3,3] --from {denoise} --set from.sigma=0.2"),
            &["expected the weights of the network", "[3,3]", "[2,3]"],
        ),
        (
            format!("{midrun} --set from.sigma=0.2"),
            &["name it with --from RUN"],
        ),
        (
            format!("fit digits-denoise {TINY} --from {}", at("midrun")),
            &["the same objective.kind", "another scale"],
        ),
        (
            format!("fit digits-flow {TINY} --from {denoise}"),
            &["the same objective.kind"],
        ),
        (
            format!("fit digits-denoise --from {}", at("nowhere")),
            &["nowhere"],
        ),
    ] {
        refused(
            &mut trainer(&format!("{arguments} -o {}", at("refused"))),
            pieces,
        );
    }
}

/// A U-Net with a transformer that learns by flows with dropout.
const UNET: &str = "--threads 1 --set network={name='unet_vit',image_size=8,channels=1,widths=[4,8],attention=[false,true],blocks=1,groups=2,\
    head_channels=4,patch=4,embedding=8,layers=1,heads=2,scale=10,activation='silu'} --set learning.dropout=0.2 --set learning.batch=8 \
    --set learning.head_factor=1 --set learning.updates=6 --set output.log_every=2 --set output.checkpoint_every=3 --set output.sample_every=3";

#[test]
fn dropout_resumes_to_the_same_bits_and_is_the_same_on_several_ranks_and_threads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for n_ranks in [1, 2] {
        let run = at(&format!("{n_ranks}"));
        learned_by(
            n_ranks,
            &format!("fit digits-flow {UNET} -o {}", run.display()),
        );
    }
    assert_close(&at("1"), &at("2"), 6);
    let threads = UNET.replace("--threads 1", "--threads 2");
    let run = at("threads");
    trainer(&format!("fit digits-flow {threads} -o {}", run.display()))
        .assert()
        .success();
    assert_same_checkpoint(&at("1"), &run, 6);
    as_killed_after(&run, 3, &at("halves"));
    trainer(&format!("resume {} --threads 1", at("halves").display()))
        .assert()
        .success();
    assert_same_checkpoint(&at("1"), &at("halves"), 6);

    let second = at("second");
    trainer(&format!(
        "fit digits-energy-matching {UNET} --set objective.contrast.steps=3 --from {} -o {}",
        at("1").display(),
        second.display()
    ))
    .assert()
    .success();
    as_killed_after(&second, 3, &at("second-halves"));
    trainer(&format!(
        "resume {} --threads 1",
        at("second-halves").display()
    ))
    .assert()
    .success();
    assert_same_checkpoint(&second, &at("second-halves"), 6);
}

#[test]
fn samples_of_a_flow_follow_it_by_heun_steps() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    trainer(&format!("fit digits-flow {TINY} -o {}", at("flow")))
        .assert()
        .success();
    let sampled = |name: &str, more: &str, note: &str| {
        trainer(&format!(
            "sample {} -o {} -n 4 --threads 1 --snapshots end {more}",
            at("flow"),
            at(name)
        ))
        .assert()
        .success()
        .stderr(contains(note));
        let file = folder.path().join(name).join("samples.npz");
        let request = fs::read_to_string(folder.path().join(name).join("sample.json")).unwrap();
        let request: serde_json::Value = serde_json::from_str(&request).unwrap();
        (Npz::open(&file).unwrap().tensor("images").unwrap(), request)
    };
    let (_, request) = sampled("own", "", "40 Heun steps of Δt = 0.025, without noise");
    assert_eq!(
        (&request["start"], &request["n_steps"]),
        (&"noise".into(), &40.into())
    );
    assert_eq!(request["step_size"], serde_json::Value::Null);
    // Half the step, a quarter of the error: the difference of 8 and 16 steps is four times that of 16 and 32.
    let ends = [8, 16, 32].map(|steps| {
        let more = format!("--time 0.8 --steps {steps}");
        sampled(&format!("{steps}"), &more, &format!("{steps} Heun steps")).0
    });
    let difference = |one: &tch::Tensor, other: &tch::Tensor| {
        (one - other).square().mean(None).sqrt().double_value(&[])
    };
    let ratio = difference(&ends[0], &ends[1]) / difference(&ends[1], &ends[2]);
    assert!((3.0..5.0).contains(&ratio), "{ratio}");
    let (warm, request) = sampled(
        "warm",
        "--time 2 --steps 10 --temperature 0.1",
        "T = 0 before time 1, then 0.1",
    );
    assert_eq!(request["temperature"], 0.1);
    let (cold, _) = sampled(
        "cold",
        "--time 2 --steps 10 --temperature 0",
        "without noise",
    );
    assert!(difference(&warm, &cold) > 0.05);
    let _ = sampled("data", "--start data --time 0.1", "4 Heun steps");

    for (more, pieces) in [
        (
            "--step-size 0.1",
            &["--step-size", "learned a flow", "--time divided by --steps"][..],
        ),
        ("--joint-temperature 2", &["--joint-temperature 2", "flow"]),
        ("--time 0", &["--time 0", "above 0"]),
        ("--steps 0", &["--steps 0", "at least 1"]),
        ("--temperature=-1", &["--temperature -1", "or above"]),
    ] {
        refused(
            &mut trainer(&format!(
                "sample {} -o {} {more}",
                at("flow"),
                at("refused")
            )),
            pieces,
        );
    }
    trainer(&format!("fit digits-denoise {TINY} -o {}", at("denoise")))
        .assert()
        .success();
    refused(
        &mut trainer(&format!("sample {} --time 1", at("denoise"))),
        &["--time 1", "learned no flow", "--steps"],
    );
    refused(
        &mut trainer("fit digits-flow --set objective.sampling.drift=0"),
        &["objective.sampling.drift = 0", "above 0"],
    );
}

#[test]
fn both_phases_of_energy_matching_learn_and_resume_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let flow = at("flow");
    trainer(&format!("fit digits-flow {TINY} -o {}", flow.display()))
        .assert()
        .success();
    assert!(metrics(&flow).last().unwrap()["test_loss"].is_f64());
    let (whole, halves) = (at("whole"), at("halves"));
    let second = format!("fit digits-energy-matching {TINY} --set objective.contrast.steps=3");
    trainer(&format!(
        "{second} --from {} -o {}",
        flow.display(),
        whole.display()
    ))
    .assert()
    .success()
    .stderr(contains("after update 6; its optimiser goes on"));
    assert!(metrics(&whole)[0]["contrast"].is_f64());
    as_killed_after(&whole, 3, &halves);
    trainer(&format!("resume {} --threads 1", halves.display()))
        .assert()
        .success();
    assert_same_checkpoint(&whole, &halves, 6);
    assert_eq!(metrics(&whole), metrics(&halves));
    let ranks = at("ranks");
    let arguments = format!("{second} --from {} -o {}", flow.display(), ranks.display());
    learned_by(2, &arguments);
    assert_close(&whole, &ranks, 6);

    let denoise = at("denoise");
    trainer(&format!(
        "fit digits-denoise {TINY} -o {}",
        denoise.display()
    ))
    .assert()
    .success();
    for (arguments, pieces) in [
        (second.clone(), &["name it with --from RUN"][..]),
        (format!("{second} --from {}", denoise.display()), &["second phase", "\"flow\""]),
        (format!("{second} --set objective.contrast.temperature=0"), &["objective.contrast.temperature = 0", "noise"]),
        (format!("{second} --set objective.contrast.trim=1"), &["objective.contrast.trim = 1"]),
        (format!("{second} --set objective.contrast.warm_from=1.5"), &["objective.contrast.warm_from = 1.5", "time"]),
        (format!("fit digits-flow {TINY} --set objective.decay_from=0"), &["objective.decay_from = 0"]),
        (
            "fit digits-flow --set objective.contrast={weight=1e-3,steps=3,drift=0.1,warm_from=1,temperature=0.1,trim=0,clamp=1}".to_string(),
            &["objective.contrast", "--from RUN", "goes on from a run"],
        ),
    ] {
        refused(&mut trainer(&format!("{arguments} -o {}", at("refused").display())), pieces);
    }
}
