//! The command `ebm-export` by its second name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ebm_export_cli::main()
}
