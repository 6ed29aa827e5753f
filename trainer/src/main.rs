//! The command `trainer`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use ebm_common::eprintln;
use ebm_trainer::cli::{Cli, Command, DataCommand};
use ebm_trainer::command;
use ebm_trainer::machine::device;
use ebm_trainer::run::stop::{End, INTERRUPTED};

/// Also for libtorch, which asks for large tensors and gives them back all the time: the system's allocator keeps far more than is in use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(End::Complete) => ExitCode::SUCCESS,
        Ok(End::Interrupted) => ExitCode::from(INTERRUPTED as u8),
        Err(error) => {
            eprintln!("error: {}", one_sentence(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<End> {
    device::prepare(command.device())?;
    match command {
        Command::Fit(args) => command::fit(args),
        Command::Classifier(args) => command::classifier(args),
        Command::LifeCycle(args) => command::life_cycle(args),
        Command::Resume(args) => command::resume(args),
        Command::Bench(args) => command::bench(args),
        Command::Attack(args) => command::attack(args),
        Command::Sample(args) => command::sample(args),
        Command::Fid(args) => command::fid(args),
        Command::Data(DataCommand::Check(args)) => command::check(args),
        Command::Report(args) => command::report(args),
        Command::Completions { shell } => command::completions(*shell),
        Command::Man(args) => command::man(args),
        Command::Presets { name } => command::presets(name.as_deref()),
    }
}

/// The chain of causes; of each the first line, since libtorch puts its call stack below.
fn one_sentence(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| {
        cause
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_string()
    });
    causes.collect::<Vec<String>>().join(": ")
}
