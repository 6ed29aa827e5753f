//! Processes that add up tensors through a fake NCCL.

use std::path::Path;
use std::process::{Command, Output};

use super::counts::Counts;
use super::library::{FakeCuda, fake_cuda};
use super::spelled_out;
use crate::ranks::{assert_close, finished, start_each};

/// Which GPUs the processes of a machine find.
#[derive(Clone, Copy, Debug)]
enum Gpus {
    /// So many, which all see.
    ForAll(usize),
    /// One for each, which sees no other.
    OneEach,
}

impl Gpus {
    fn show(self, rank: usize, command: &mut Command) {
        match self {
            Gpus::ForAll(n) => command
                .env("FAKE_CUDA_DEVICES", n.to_string())
                .env_remove("CUDA_VISIBLE_DEVICES"),
            Gpus::OneEach => command
                .env("FAKE_CUDA_DEVICES", "4")
                .env("CUDA_VISIBLE_DEVICES", (3 - rank).to_string()),
        };
    }
}

/// What becomes of a tiny run in that many processes. The network is smooth, so that no drift jumps where rounding differs.
fn learned_by(device: FakeCuda, n_ranks: usize, gpus: Gpus, run: &Path) -> Vec<Output> {
    let arguments = format!(
        "fit digits-midrun TINY --set network.activation=silu --device cuda -o {}",
        run.display()
    );
    let prepare = |rank: usize, command: &mut Command| {
        gpus.show(rank, command);
        command
            .envs(device.variables())
            .env("LOCAL_RANK", rank.to_string())
            .env("FAKE_CUDA_COUNTS", run.with_extension(rank.to_string()));
    };
    finished(start_each(n_ranks, &spelled_out(&arguments), prepare))
}

#[test]
fn two_ranks_with_a_gpu_each_learn_the_same_as_one() {
    let Some(device) = fake_cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let one = folder.path().join("one");
    let alone = learned_by(device, 1, Gpus::ForAll(1), &one);
    assert!(alone[0].status.success(), "{alone:?}");
    for (name, gpus) in [("all", Gpus::ForAll(2)), ("each", Gpus::OneEach)] {
        let two = folder.path().join(name);
        let outputs = learned_by(device, 2, gpus, &two);
        for (rank, output) in outputs.iter().enumerate() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{gpus:?}: {said}");
            assert_eq!(said.contains("exchange by NCCL"), rank == 0, "{said}");
            let counts = Counts::read(&two.with_extension(rank.to_string()));
            assert!(counts.sums > 10, "{counts:?}");
        }
        assert_close(&one, &two, 6);
    }
}

#[test]
fn two_ranks_on_one_gpu_are_refused() {
    let Some(device) = fake_cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let outputs = learned_by(device, 2, Gpus::ForAll(1), &folder.path().join("run"));
    for output in outputs {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("ranks 0 and 1 have the same GPU"), "{said}");
    }
}
