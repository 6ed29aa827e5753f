//! The programs of this workspace, as a user runs them.

use std::path::{Path, PathBuf};

use assert_cmd::Command;

/// Where a program lies. `cargo build --workspace` makes them all; `cargo xtask test` does that first.
pub fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build --release --workspace` first",
        path.display()
    );
    path
}

pub fn program(name: &str) -> Command {
    let mut command = Command::new(path_of(name));
    command.env("OMP_NUM_THREADS", "1");
    command
}

/// What a program prints that succeeds in a folder; the arguments stand between blanks.
pub fn run(folder: &Path, name: &str, arguments: &str) -> String {
    let output = program(name)
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .assert()
        .success();
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}
