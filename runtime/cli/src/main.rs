//! The program `purify`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebm_runtime_cli::main()
}
