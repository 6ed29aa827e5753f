//! The command `ebm-export`: what the user types, what is done, what is printed.

mod classifier;
mod gradient;
mod import;
mod init;
mod inspect;
mod model;
mod network;
mod onnx;
mod output;
mod precision;
mod target;
mod triton;
mod verify;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Parser, Subcommand};

use ebm_export::Error;
use ebm_export::check::inspect::inspect_model;
use ebm_export::write::model::Model;

/// Writes energy networks, and their gradients, as plain ONNX.
#[derive(Parser)]
#[command(name = "ebm-export", bin_name = "ebm-export", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Onnx(onnx::Arguments),
    Gradient(gradient::Arguments),
    Classifier(classifier::Arguments),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
    Init(init::Arguments),
    Import(import::Arguments),
}

/// Does what was typed, and says in one line what went wrong.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // That nobody reads it any more changes nothing.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Onnx(arguments) => onnx::run(&arguments),
        Command::Gradient(arguments) => gradient::run(&arguments),
        Command::Classifier(arguments) => classifier::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
    }
}

/// The library knows what has to be said; which option says it is known here.
fn with_options(error: Error) -> anyhow::Error {
    let option = match &error {
        Error::Name { what, .. } => format!(" with --{what}-name"),
        Error::NotScalarPerImage { .. } => " with --reduce logsumexp, class=K or sum".to_string(),
        _ => return error.into(),
    };
    anyhow!("{error}{option}")
}

/// What a file costs and how large it is, in a line.
fn summary(path: &Path, model: &Model) -> String {
    let inspection = inspect_model(model);
    let operators = inspection.operators.values();
    let nodes: usize = operators.map(|operator| operator.nodes).sum();
    let count = inspection
        .multiplications_per_image
        .map_or("an unknown number of".to_string(), in_millions);
    let megabytes = model.size_bytes() as f64 / 1e6;
    format!(
        "{}: {nodes} operators, {count} multiplications per image, {megabytes:.2} MB\n",
        path.display()
    )
}

fn in_millions(count: usize) -> String {
    format!("{:.2} million", count as f64 / 1e6)
}

/// Prints; that the reader has gone away (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print"),
    }
}
