//! The runtime stays light: what an application links is counted, so that a change that makes it grow has to say so here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::programs::path_of;

/// Crates in the tree of the runtime, itself included, for each set of features that applications choose.
const MOST_CRATES: [(&[&str], usize); 5] = [
    (&["--no-default-features", "--features", "native"], 37),
    (&[], 69),
    (&["--no-default-features", "--features", "rten"], 54),
    (&["--no-default-features", "--features", "ort"], 40),
    (
        &["--no-default-features", "--features", "native,certificates"],
        42,
    ),
];

/// Bytes of `runtime/examples/smallest.rs` on `native` alone, stripped, by the number that ELF files have for the machine.
const MOST_BYTES: [(u8, u64); 2] = [(X86_64, 2_500_000), (AARCH64, 2_500_000)];
const X86_64: u8 = 62;
const AARCH64: u8 = 183;

/// Bytes of `purify` on `native`, with PNG files alone, stripped.
const MOST_BYTES_OF_PURIFY: u64 = 4_000_000;

#[test]
#[ignore = "wants the program, which is built without what the other tests need: `cargo xtask test`"]
fn the_smallest_program_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let stripped = stripped("EBM_SMALLEST_PROGRAM", folder.path());
    let bytes = std::fs::read(&stripped).unwrap();
    let (machine, n_bytes) = (bytes[18], bytes.len() as u64);
    let known = MOST_BYTES.iter().find(|(known, _)| *known == machine);
    let (_, most) = known.unwrap_or_else(|| panic!("no bound for the machine {machine}"));

    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/browser/model/step.onnx");
    let runner = std::env::var("EBM_SMALLEST_RUNNER").unwrap_or_default();
    let command = runner.split_whitespace().chain([stripped.as_str()]);
    let command: Vec<&str> = command.chain(model.to_str()).collect();
    println!("smallest program: {n_bytes} bytes; {}", said(&command));
    assert!(n_bytes <= *most, "{n_bytes} of {most}");
}

#[test]
#[ignore = "wants the program with these features alone: `cargo xtask test`"]
fn purify_alone_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let purify = stripped("EBM_SMALLEST_PURIFY", folder.path());
    let n_bytes = std::fs::metadata(&purify).unwrap().len();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/browser/model");
    let info = said(&[&purify, "info", "--model", &model.display().to_string()]);
    assert!(info.contains("runs on          native"), "{info}");
    println!("purify on native alone: {n_bytes} bytes");
    let most = MOST_BYTES_OF_PURIFY;
    assert!(n_bytes <= most, "{n_bytes} of {most}");
}

/// The program that a variable names, without its symbols.
fn stripped(variable: &str, folder: &Path) -> String {
    let given = |name: &str| std::env::var(name).ok();
    let program = given(variable);
    let program = program.unwrap_or_else(|| panic!("`cargo xtask test` sets {variable}"));
    let strip = given("EBM_SMALLEST_STRIP").unwrap_or("strip".to_string());
    let stripped = folder.join("stripped").display().to_string();
    said(&[&strip, &program, "-o", &stripped]);
    stripped
}

/// What a program says that succeeds.
fn said(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {failed}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is checked without libtorch also runs without it.
#[cfg(target_os = "linux")]
#[test]
fn the_exporter_and_the_runtime_do_not_link_libtorch() {
    for name in ["ebm-export", "purify", "libebm_runtime.so"] {
        let program = path_of(name).display().to_string();
        let said = said(&["readelf", "--dynamic", "--wide", &program]);
        // Addresses may hold "c10" too.
        let needed: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("(NEEDED)"))
            .collect();
        assert!(!needed.is_empty(), "{said}");
        let is_torch = |line: &&str| line.contains("torch") || line.contains("c10");
        assert!(!needed.iter().any(is_torch), "{name}: {needed:?}");
    }
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
