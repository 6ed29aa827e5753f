//! What commands ask of a device, and what a Langevin step and an update may.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::library::fake_cuda;
use super::on_device;

/// What a process asked of its devices. An operator of libtorch counts as one kernel.
#[derive(Debug, Deserialize)]
pub struct Counts {
    /// Operators that computed something.
    pub kernels: i64,
    /// How often the host waited for a device.
    pub waits: i64,
    /// Copies from the host to a device.
    pub copies_from_host: i64,
    /// Sums over processes by NCCL.
    pub sums: i64,
}

impl Counts {
    /// What a process wrote where `FAKE_CUDA_COUNTS` told it to.
    pub fn read(file: &Path) -> Counts {
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }
}

/// The published network for images of 32×32, narrow: kernels are the same in number.
const NARROW: &str = "bench cifar10-midrun --threads 1 --set learning.batch=3 --set chains.bank=6 --set network.widths=[2,2,2,2] \
    --set generator.network.widths=[2,2,2,2] --set generator.network.latent=3";

/// A launch of a kernel takes longer than the kernel where networks are small, and a wait takes longer than many launches: more of either
/// makes learning on a GPU slower. Whoever needs more says so here; whoever needs less lowers the number.
#[test]
fn a_step_and_an_update_ask_for_so_many_kernels_and_waits() {
    let Some(device) = fake_cuda() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let counts = |updates: i64, steps: i64| {
        let file = folder.path().join("counts.json");
        let arguments = format!("{NARROW} --updates {updates} --set langevin.steps={steps}");
        on_device(device, folder.path(), &arguments)
            .env("FAKE_CUDA_COUNTS", &file)
            .assert()
            .success();
        Counts::read(&file)
    };
    let (few, more_steps, more_updates) = (counts(1, 1), counts(1, 3), counts(2, 1));
    // `bench` does one update before those that it times. The updates that are counted have one step each.
    let per_step = |of: fn(&Counts) -> i64| (of(&more_steps) - of(&few)) as f64 / 4.0;
    let per_update = |of: fn(&Counts) -> i64| of(&more_updates) - of(&few);
    assert_eq!(per_step(|counts| counts.kernels), 63.0);
    assert_eq!(per_step(|counts| counts.waits), 1.0);
    assert_eq!(per_step(|counts| counts.copies_from_host), 0.0);
    assert_eq!(per_update(|counts| counts.kernels), 425);
    assert_eq!(per_update(|counts| counts.waits), 13);
}
