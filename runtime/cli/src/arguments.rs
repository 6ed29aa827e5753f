//! The arguments as they are typed.

mod backend;
mod bench;
mod certify;
mod classify;
mod images;
mod labels;
mod memory;
mod model;
mod purification;
mod results;
mod run;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::models::ModelsArguments;

pub use backend::BackendArguments;
pub use bench::BenchArguments;
pub use certify::CertifyArguments;
pub use classify::ClassifyArguments;
pub use images::ImageArguments;
pub use labels::LabelSource;
pub use model::ModelArguments;
pub use purification::PurificationArguments;
pub use results::ResultArguments;
pub use run::{OutputFormat, Percent, RunArguments};

/// The end of the help of each command.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage";
/// The same for commands that go on after an image that failed.
const EXIT_CODES_OF_IMAGES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done, but some images failed";

/// Purifies images with an energy-based model.
#[derive(Parser)]
#[command(
    name = "purify",
    version,
    max_term_width = 100,
    after_help = "Exit codes:
  0  everything is done
  1  it failed: the message says why
  2  wrong usage
  3  the work is done, but some images could not be read or purified"
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// What was typed. Wrong usage ends the program.
    pub fn typed() -> Self {
        let matches = Self::command_line().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// All commands, each with the exit codes at the end of its help.
    pub fn command_line() -> clap::Command {
        Self::command().mut_subcommands(|command| {
            let codes = match command.get_name() {
                "run" | "classify" | "certify" => EXIT_CODES_OF_IMAGES,
                _ => EXIT_CODES,
            };
            let help = command.get_after_help();
            let help = help.map_or(codes.to_owned(), |help| format!("{help}\n\n{codes}"));
            command.after_help(help)
        })
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Purify images into a folder
    Run(RunArguments),
    /// Classify images, bare and through purification
    Classify(ClassifyArguments),
    /// Certify images by randomised smoothing: the radius within which no change alters the class
    Certify(Box<CertifyArguments>),
    /// List the models that can be named
    Models(ModelsArguments),
    /// Print the contract of the models in a folder
    Info(InfoArguments),
    /// Measure how long purification takes on this machine
    Bench(BenchArguments),
    /// List the backends, with the reason if one is missing
    Backends(BackendsArguments),
    /// Print the completions of a shell
    Completions {
        /// Shell to complete for
        shell: Shell,
    },
    /// Print the manual page
    Man(ManArguments),
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify man | man -l -
  purify man -o ~/.local/share/man/man1")]
pub struct ManArguments {
    /// Folder for one page each for `purify` and its commands, instead of all on standard output
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Replace pages that exist
    #[arg(long, requires = "output")]
    pub force: bool,
}

#[derive(Args)]
#[command(after_help = "Examples:
  purify info --model model --json | jq .step.purification
  purify info --model model --accuracy high --memory 64MiB")]
pub struct InfoArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Print the contracts as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub backend: BackendArguments,
}

#[derive(Args)]
pub struct BackendsArguments {
    /// Shared library of ONNX Runtime [default: ORT_DYLIB_PATH, beside this program, the cache of `cargo xtask setup`, the system's]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}
