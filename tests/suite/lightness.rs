//! The runtime stays light: what an application links is counted, so that a change that makes it grow has to say so here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Crates in the tree of the runtime, itself included, for each set of features that applications choose.
const MOST_CRATES: [(&[&str], usize); 2] = [
    (&["--no-default-features", "--features", "tract"], 96),
    (&["--no-default-features", "--features", "ort"], 39),
];

/// Bytes of `runtime/examples/smallest.rs` on tract alone, stripped: it had 23,453,088, and an eighth is added.
const MOST_BYTES: u64 = 26_400_000;

#[test]
#[ignore = "wants the program, which is built without what the other tests need: `cargo xtask test`"]
fn the_smallest_program_stays_small() {
    let program = std::env::var_os("EBM_SMALLEST_PROGRAM");
    let program = PathBuf::from(program.expect("`cargo xtask test` sets EBM_SMALLEST_PROGRAM"));
    let folder = tempfile::tempdir().unwrap();
    let stripped = folder.path().join("smallest");
    let strip = Command::new("strip")
        .arg(&program)
        .arg("-o")
        .arg(&stripped)
        .status();
    assert!(strip.unwrap().success());
    let n_bytes = stripped.metadata().unwrap().len();

    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/browser/model/step.onnx");
    let output = Command::new(&stripped).arg(model).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!(
        "smallest program: {n_bytes} bytes; {}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(n_bytes <= MOST_BYTES, "{n_bytes} of {MOST_BYTES}");
}

#[test]
fn no_more_crates_than_are_known_of() {
    for (features, most) in MOST_CRATES {
        let output = Command::new(env!("CARGO"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .args(["tree", "--locked", "-p", "ebm-runtime"])
            .args(["-e", "normal", "--prefix", "none", "--format", "{p}"])
            .args(features)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let tree = String::from_utf8(output.stdout).unwrap();
        let crates: BTreeSet<&str> = tree
            .lines()
            .filter_map(|line| line.split(" (").next())
            .collect();
        assert!(
            (2..=most).contains(&crates.len()),
            "{features:?}: expected at most {most} crates, got {}: {crates:?}",
            crates.len()
        );
    }
}
