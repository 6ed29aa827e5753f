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
mod shell;
mod target;
mod triton;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use ebm_export::check::inspect::inspect_model;
use ebm_export::write::model::Model;
use ebm_export::{Choice, Error};

/// Write energy networks, and their gradients, as plain ONNX.
#[derive(Parser)]
#[command(
    name = "ebm-export",
    bin_name = "ebm-export",
    version,
    after_help = "Exit codes:
  0  done
  1  failed: the last line says why
  2  wrong usage"
)]
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
    Completions(shell::CompletionArguments),
    Man(shell::ManArguments),
}

/// Does what was typed, and says in one line what went wrong.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // That nobody reads it any more changes nothing.
            ebm_common::eprintln!("{}", told(&error));
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
        Command::Completions(arguments) => shell::completions(&arguments),
        Command::Man(arguments) => shell::man(&arguments),
    }
}

/// What went wrong, and with which option it is put right: the library says what has to be chosen, and knows no options.
fn told(error: &anyhow::Error) -> String {
    let option = match error.downcast_ref::<Error>() {
        Some(Error::Choice { choice, .. }) => option(*choice),
        Some(Error::NotScalarPerImage { .. }) => " with --reduce logsumexp, class=K or sum".into(),
        _ => String::new(),
    };
    format!("error: {error:#}{option}")
}

fn option(choice: Choice) -> String {
    let option = match choice {
        Choice::Name(what) => return format!(" with --{what}-name"),
        Choice::Input => "--input",
        Choice::Output => "--output",
        Choice::Shape => "--shape, such as --shape 3,32,32",
        Choice::Layout => "--image-layout nchw or --image-layout nhwc",
        Choice::Map => "--map",
        Choice::Classifier => "--classifier",
        Choice::Comparison => "--against",
        Choice::Prior => "--prior",
        Choice::Images => "--seed or --images",
        _ => return String::new(),
    };
    format!(" with {option}")
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

/// Prints; that the reader has gone away is not an error.
fn print(text: &str) -> Result<()> {
    Ok(ebm_common::console::print(text)?)
}
