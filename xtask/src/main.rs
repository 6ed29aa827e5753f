//! `cargo xtask`: reads what was typed, runs the task, says in one sentence what went wrong.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use xtask::api;
use xtask::bench::{self, Effort};
use xtask::browser;
use xtask::demo::{self, Existing};
use xtask::install;
use xtask::lines;
use xtask::programs;
use xtask::setup::{self, Flavour, Libtorch};
use xtask::surroundings::Surroundings;
use xtask::test;

const EXAMPLES: &str = "Examples:
  cargo xtask setup          libraries for learning on the CPU (0.6 GB to fetch), once per user
  cargo xtask setup --cuda   libraries for an NVIDIA GPU (2.5 GB to fetch)
  cargo xtask demo           learn, export, attack, purify and certify on real digits
  cargo xtask install        the programs trainer, purify and ebm-export on your PATH
  cargo xtask test           everything that a change has to pass
  cargo xtask browser        a page that purifies pictures without a server
  cargo xtask api            whether programs for the last commit still compile against the libraries
  cargo xtask bench gradient one gradient on ONNX Runtime against PyTorch
  cargo xtask bench latency  one Langevin step of the runtime against PyTorch
  cargo xtask bench learning one update of the trainer against PyTorch
  cargo xtask lines main     how much code there is outside tests, and how much more than on main

Building only the runtime and the exporter needs no set-up:
  cargo build --release -p ebm-export-cli -p ebm-runtime-cli";

const SETUP_VARIABLES: &str = "Variables:
  EBM_CACHE_DIR    where the libraries are kept [default: $XDG_CACHE_HOME/ebm-life-cycle or ~/.cache/ebm-life-cycle]
  LIBTORCH         a libtorch 2.11.0 of your own: nothing is fetched in its place
  ORT_DYLIB_PATH   an ONNX Runtime library of your own (1.24 or later): nothing is fetched in its place";

const TEST_VARIABLES: &str = "Variables:
  EBM_TEST_EVERYWHERE    if set, a platform that cannot be tested here is a failure; otherwise what was left out is said, with how to get it

The runtime is also tested in a browser (needs the target wasm32-unknown-unknown, and chromium) and on aarch64 (needs the target
aarch64-unknown-linux-gnu, a cross compiler, and qemu-user).";

const INSTALL_EXAMPLES: &str = "Examples:
  cargo xtask install                  where cargo installs: $CARGO_INSTALL_ROOT, $CARGO_HOME or ~/.cargo
  cargo xtask install --root ~/.local

DIR/lib/ebm-life-cycle gets the programs and the libraries that they need, DIR/bin links to the programs. What you brought yourself with
LIBTORCH or ORT_DYLIB_PATH stays where it is.";

const BROWSER_EXAMPLES: &str = "Examples:
  cargo xtask browser                                a page with the model of digits that comes with the clone
  cargo xtask browser --model demo/model/step.onnx   a page with yours; others can still be chosen in it

Needs `rustup target add wasm32-unknown-unknown`.";

/// What the help of a benchmark adds. `variables` are those that it alone has.
fn bench_help(name: &str, minutes: u32, variables: &str) -> String {
    let line = |options: &str, what: &str| {
        let command = format!("cargo xtask bench {name}{options}");
        format!("  {command:<44}  {what}\n")
    };
    let all = format!(
        "all cases (about {minutes} minutes); writes benches/results/{name}.{{json,md,svg}}"
    );
    format!(
        "Examples:\n{}{}{}\n\
         Variables:\n  \
         EBM_BENCH_PYTHON    a python with torch, onnxruntime, openvino, safetensors and numpy [default: an environment that is made in the cache]\n\
         {variables}\n\
         Leave the machine alone meanwhile: the forms take turns, but what else runs still widens the quartiles.",
        line("", &all),
        line(" --quick", "one case, to see that everything works"),
        line(" --json rows.json", "the rows in a file of yours as well"),
    )
}

/// The variable of the benchmark that runs the backend ort.
const ORT_VARIABLE: &str = "  ORT_DYLIB_PATH      the library of ONNX Runtime for the backend ort [default: that of `cargo xtask setup`]\n";

/// Set-up, demonstration, tests and benchmarks of EBM Life Cycle.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch libtorch and ONNX Runtime into a cache of yours and link them into this clone
    ///
    /// Afterwards plain `cargo build`, `cargo test` and `cargo run` work without any variable. Repeating it changes
    /// nothing; interrupting it does no harm; with a filled cache it needs no network.
    #[command(after_help = SETUP_VARIABLES)]
    Setup {
        /// Fetch the parts for NVIDIA GPUs as well (2.5 GB to fetch, 3.9 GB on disk)
        #[arg(long)]
        cuda: bool,
    },
    /// Check formatting, lints and documentation, run all tests, build what must build without libtorch
    ///
    /// Everything is built in the release profile, so that the C++ part of the libtorch bindings is compiled once. The
    /// first step that fails ends the run and prints the command that repeats it.
    #[command(after_help = TEST_VARIABLES)]
    Test {
        /// Run every benchmark with --quick in place of the tests, to see that each runs
        #[arg(long)]
        benches: bool,
    },
    /// Build the programs and install them with the libraries that they need, so that they can be typed anywhere
    #[command(after_help = INSTALL_EXAMPLES)]
    Install {
        /// Folder that gets `bin` and `lib` [default: where cargo installs]
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// Build what the tests build, so that they build nothing again
        #[arg(long, hide = true)]
        as_tested: bool,
    },
    /// Write a page that purifies pictures in a browser, whole in one file that opens by a double click
    #[command(after_help = BROWSER_EXAMPLES)]
    Browser {
        /// The model that comes with the page [default: examples/browser/model/step.onnx]
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// Where to write the page [default: target/browser/purify.html]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Learn, export, attack, purify and certify on the bundled digits; writes demo/summary.png and demo/results.json
    Demo {
        /// Overwrite a folder `demo` that no earlier demo has written
        #[arg(long)]
        force: bool,
    },
    /// Compare the public items of the libraries with those of a git revision: whatever breaks programs is named
    ///
    /// Needs cargo-semver-checks. `cargo xtask test` does not run it.
    Api {
        /// What to compare with: a commit, branch or tag
        #[arg(default_value = "HEAD")]
        revision: String,
    },
    /// Measure against others
    #[command(subcommand)]
    Bench(Benchmark),
    /// Count the lines of common, export, trainer and runtime outside tests and generated files
    Lines {
        /// A revision of git to compare with
        revision: Option<String>,
    },
}

#[derive(Subcommand)]
enum Benchmark {
    /// Time one gradient of energy networks on ONNX Runtime against PyTorch, after comparing both with f64
    #[command(after_help = bench_help("gradient", 20, ""))]
    Gradient(Measurement),
    /// Time whole Langevin steps of the runtime against PyTorch eager, torch.compile and ONNX Runtime from Python, after comparing all with f64
    #[command(after_help = bench_help("latency", 30, ORT_VARIABLE))]
    Latency(Measurement),
    /// Time one update of the trainer against the same update in PyTorch, after comparing the weights that both come to
    #[command(after_help = bench_help("learning", 10, ""))]
    Learning(Measurement),
}

#[derive(Args)]
struct Measurement {
    /// Write the rows to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// One case and few rounds; nothing is written below benches/results
    #[arg(long)]
    quick: bool,
}

impl Measurement {
    fn effort(&self) -> Effort {
        match self.quick {
            true => Effort::Quick,
            false => Effort::Full,
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ebm_common::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    let surroundings = Surroundings::of_process()?;
    match task {
        Task::Setup { cuda: false } => setup::setup(&surroundings, Libtorch::Fetched(Flavour::Cpu)),
        Task::Setup { cuda: true } => setup::setup(&surroundings, Libtorch::Fetched(Flavour::Cuda)),
        Task::Test { benches: false } => test::test(&surroundings),
        Task::Test { benches: true } => test::benches(&surroundings),
        Task::Install { root, as_tested } => {
            let selection = match as_tested {
                true => programs::EVERYTHING,
                false => programs::FOR_USERS,
            };
            install::install(&surroundings, root.as_deref(), selection)
        }
        Task::Browser { model, output } => {
            browser::browser(&surroundings, model.as_deref(), output.as_deref())
        }
        Task::Demo { force: false } => demo::demo(&surroundings, Existing::OfDemo),
        Task::Demo { force: true } => demo::demo(&surroundings, Existing::Any),
        Task::Lines { revision } => lines::lines(&surroundings, revision.as_deref()),
        Task::Api { revision } => api::api(&surroundings, &revision),
        Task::Bench(benchmark) => {
            let (bench, measurement): (bench::Benchmark, _) = match benchmark {
                Benchmark::Gradient(measurement) => (bench::gradient, measurement),
                Benchmark::Latency(measurement) => (bench::latency, measurement),
                Benchmark::Learning(measurement) => (bench::learning, measurement),
            };
            bench(
                &surroundings,
                measurement.effort(),
                measurement.json.as_deref(),
            )
        }
    }
}
