//! The arguments of `purify bench`.

use clap::Args;

use super::{BackendArguments, ModelArguments, ResultArguments};

#[derive(Args)]
#[command(after_help = "Examples:
  purify bench --model model
  purify bench --model model --backend ort --batch 1,8,64 --threads 1,2,4 -o latency.json

A sample is a run of all steps of a batch; p50, p95 and p99 are over samples. Before anything is timed, the chains
must stay finite and a batch must give what its images give one by one.")]
pub struct BenchArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Numbers of images that are purified together
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8")]
    pub batch: Vec<usize>,
    /// Numbers of threads
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,2")]
    pub threads: Vec<usize>,
    /// Langevin steps of a sample
    #[arg(long, value_name = "K", default_value_t = 10)]
    pub steps: usize,
    /// Seconds for each batch on each number of threads
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    pub seconds: f64,
    #[command(flatten)]
    pub results: ResultArguments,
    /// Answer lines on standard input with single samples of the first batch and number of threads
    #[arg(long, hide = true)]
    pub on_request: bool,
    #[command(flatten)]
    pub backend: BackendArguments,
}
