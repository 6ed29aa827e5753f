//! Every command that computes, on a fake CUDA device: that nothing lies on another device than it should, and what each step asks of one.
//! `tests/fake_cuda/README.md` says what this does not show.

mod counts;
mod library;
mod mistakes;
mod ranks;

use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;

use crate::common::{TINY_FIT, as_killed_after, assert_same_checkpoint, trainer};
use crate::regimes::tiny_stages;
use counts::Counts;
use library::{FakeCuda, fake_cuda};

/// From the fifth update on the rate is one at which nothing stays finite, until it is lowered.
const DIVERGING: &str =
    "--set learning.learning_rate=[[0,1e-3],[4,1e30]] --set guard.rate_factor=1e-33";

/// Every command that computes, each with the runs of those before it, and what it says in the end. TINY and STAGES stand for what makes runs
/// a matter of moments.
const COMMANDS: [(&str, &str); 11] = [
    (
        "life-cycle digits STAGES -o all",
        "life cycle complete: all",
    ),
    (
        "fit digits-midrun TINY --set output.sample_every=3 -o midrun",
        "done: midrun",
    ),
    (
        "fit digits-midrun TINY --set langevin.precision=tf32 -o tf32",
        "gradients in tf32",
    ),
    (
        "fit digits-midrun TINY --set langevin.precision=bf16 -o bf16",
        "gradients in bf16",
    ),
    (
        "fit digits-midrun TINY DIVERGING -o diverged",
        "back to the checkpoint of update 3",
    ),
    (
        "classifier digits-classifier --threads 1 --set network.widths=[4,6] --set learning.updates=6 -o classifier",
        "test accuracy",
    ),
    (
        "attack --energy midrun --classifier classifier --epsilon 0.125 --protocol quick -n 7 --pgd-steps 2 --replicas 2 \
         --verify-replicas 3 --steps 2 --threads 1 -o attack",
        "what no attack broke",
    ),
    (
        "sample midrun -n 70 --steps 4 --snapshots 2 --threads 1 -o sampled",
        "done: sampled",
    ),
    (
        "sample all/longrun -n 9 --steps 3 --threads 1 -o long",
        "done: long",
    ),
    (
        "fid --samples sampled --features classifier --reference midrun --threads 1",
        "",
    ),
    (
        "bench digits-midrun --updates 1 --set langevin.steps=2 --set network.widths=[2,3] --threads 1",
        "images·steps/s",
    ),
];

fn spelled_out(command: &str) -> String {
    command
        .replace("TINY", TINY_FIT)
        .replace("STAGES", &tiny_stages())
        .replace("DIVERGING", DIVERGING)
}

/// A command in a folder, on the first device.
fn on_device(device: FakeCuda, folder: &Path, arguments: &str) -> Command {
    let mut command = trainer(&format!("{arguments} --device cuda"));
    command
        .current_dir(folder)
        .envs(device.variables())
        .env("EBM_CACHE_DIR", folder.join("cache"))
        .env_remove("CUDA_VISIBLE_DEVICES");
    command
}

#[test]
fn every_command_runs_on_the_device() {
    let Some(device) = fake_cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for (command, says) in COMMANDS {
        let file = folder.path().join("counts.json");
        let output = on_device(device, folder.path(), &spelled_out(command))
            .env("FAKE_CUDA_COUNTS", &file)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{command}: {said}");
        assert!(said.contains(says), "{command}: {said}");
        let counts = Counts::read(&file);
        assert!(
            counts.kernels > 20,
            "{command} computed elsewhere: {counts:?}"
        );
    }
}

#[test]
fn a_run_that_goes_on_ends_with_the_same_bits() {
    let Some(device) = fake_cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let fit = spelled_out("fit digits-midrun TINY -o whole");
    on_device(device, folder.path(), &fit).assert().success();
    as_killed_after(&whole, 3, &killed);
    on_device(device, folder.path(), "resume killed --threads 1")
        .assert()
        .success()
        .stderr(contains("resuming killed after update 3"));
    assert_same_checkpoint(&whole, &killed, 6);
}
