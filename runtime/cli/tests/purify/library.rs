//! Where `purify` finds the library of ONNX Runtime if nobody names it.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use predicates::str::contains;

use crate::workbench::{Workbench, has_ort};

const NAME: &str = "libonnxruntime.so";
const OF_SETUP: &str = "cache/onnxruntime-1.32.0/libonnxruntime.so";

/// The library that the tests run with.
fn library() -> Option<PathBuf> {
    if !has_ort() {
        return None;
    }
    let path = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let found = path.filter(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: no library of ONNX Runtime: run `cargo xtask setup`");
    }
    found
}

/// `bin/purify backends` of a copy of the program that finds nothing but what is in the folder.
fn backends(bench: &Workbench) -> assert_cmd::Command {
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    // By another process: what this one has open for writing cannot be run while another test starts a program.
    let copied = std::process::Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_purify"))
        .arg(bench.path("bin/purify"))
        .status();
    assert!(copied.unwrap().success());
    // What the system would find, if it has one, is damaged.
    bench.file("system/libonnxruntime.so.1", b"no library");
    let mut command = assert_cmd::Command::new(bench.path("bin/purify"));
    command
        .env_clear()
        .env("EBM_CACHE_DIR", bench.path("cache"))
        .env("LD_LIBRARY_PATH", bench.path("system"))
        .arg("backends");
    command
}

#[test]
fn it_lies_beside_the_program_or_in_the_cache_of_setup() {
    let Some(library) = library() else { return };
    for place in ["bin/libonnxruntime.so", OF_SETUP] {
        let bench = Workbench::new();
        std::fs::create_dir_all(bench.path(place).parent().unwrap()).unwrap();
        symlink(&library, bench.path(place)).unwrap();
        let available = contains("\nort: available");
        backends(&bench).assert().success().stdout(available);
    }
}

#[test]
fn one_that_cannot_be_used_makes_way_for_the_next() {
    let Some(library) = library() else { return };
    let bench = Workbench::new();
    bench.file(&format!("bin/{NAME}"), b"no library");
    std::fs::create_dir_all(bench.path(OF_SETUP).parent().unwrap()).unwrap();
    symlink(&library, bench.path(OF_SETUP)).unwrap();
    backends(&bench)
        .assert()
        .success()
        .stdout(contains("\nort: available"));
}

#[test]
fn every_place_that_was_tried_is_named_with_what_the_loader_said() {
    if !has_ort() {
        return;
    }
    let bench = Workbench::new();
    let beside = bench.file(&format!("bin/{NAME}"), b"no library");
    let said = [
        ("beside the program", beside, "file too short"),
        (
            "in the cache of `cargo xtask setup`",
            bench.path(OF_SETUP),
            "cannot open shared object file",
        ),
        (
            "in the system's folders",
            bench.path("system/libonnxruntime.so.1"),
            "file too short",
        ),
    ];
    let mut assert = backends(&bench).assert().success();
    for (found, path, reason) in said {
        assert = assert.stdout(contains(format!("{found}: {}: {reason}", path.display())));
    }
}

/// What somebody names is not replaced in silence.
#[test]
fn a_named_library_is_the_only_one_that_is_tried() {
    let Some(library) = library() else { return };
    let bench = Workbench::new();
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    symlink(&library, bench.path("bin").join(NAME)).unwrap();
    backends(&bench)
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .assert()
        .success()
        .stdout(contains("\nort: missing: `/nowhere/libonnxruntime.so`"));
}
