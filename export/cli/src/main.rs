//! The command `ebm-export`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebm_export_cli::main()
}
