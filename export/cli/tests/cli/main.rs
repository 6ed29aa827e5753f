//! The command `ebm-export`, as a user types it.
#![allow(clippy::unwrap_used)]

mod classifier;
mod gradient;
mod onnx;
mod shell;
mod triton;
mod verify;
mod workplace;

#[test]
fn both_names_run_the_program_that_calls_itself_by_the_first() {
    for program in [
        env!("CARGO_BIN_EXE_ebm-export"),
        env!("CARGO_BIN_EXE_export"),
    ] {
        let help = assert_cmd::Command::new(program)
            .args(["gradient", "--help"])
            .assert()
            .success();
        let text = String::from_utf8_lossy(&help.get_output().stdout).into_owned();
        assert!(
            text.contains("Usage: ebm-export gradient "),
            "{program}: {text}"
        );
    }
}
