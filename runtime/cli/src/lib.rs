//! The command `purify`: arguments, work, report, exit code. A library only so that tests and fuzzing reach [`dataset`].

#[macro_use(eprintln)]
extern crate ebm_common;

mod arguments;
mod bench;
mod certify;
mod chosen;
mod classify;
pub mod dataset;
mod groups;
mod info;
mod inputs;
mod journal;
mod labels;
mod ledger;
mod lines;
mod models;
mod notes;
mod outputs;
mod progress;
mod ranges;
mod report;
mod run;
mod selection;
mod sheet;
mod shell;
mod stream;
mod treatment;

use std::process::ExitCode;

use arguments::{Arguments, Command};

/// The exit code of work that is done, of whose images some may have failed: 0 without failures, 1 if all failed, 3 between.
fn exit_code(n_failed: usize, n_images: usize) -> ExitCode {
    match n_failed {
        0 => ExitCode::SUCCESS,
        n if n == n_images => ExitCode::FAILURE,
        _ => ExitCode::from(3),
    }
}

/// What the program does.
pub fn main() -> ExitCode {
    let arguments = Arguments::typed();
    let result = match &arguments.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Classify(arguments) => classify::classify(arguments),
        Command::Certify(arguments) => certify::certify(arguments),
        Command::Models(arguments) => models::models(arguments),
        Command::Info(arguments) => info::info(arguments),
        Command::Bench(arguments) => bench::bench(arguments),
        Command::Backends(arguments) => info::backends(arguments),
        Command::Completions { shell } => shell::completions(*shell),
        Command::Man(arguments) => shell::man(arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
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
