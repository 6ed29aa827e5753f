//! The command `purify`: arguments, work, report, exit code.

mod arguments;
mod bench;
mod classify;
mod info;
mod inputs;
mod progress;
mod run;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Classify(arguments) => classify::classify(arguments),
        Command::Info(arguments) => info::info(arguments),
        Command::Bench(arguments) => bench::bench(arguments),
        Command::Backends(arguments) => info::backends(arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output has gone, as `purify info … | head` makes it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
