//! `ebm-export init`.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use crate::network::{Dynamics, Parameters};
use crate::print;
use ebm_common::files::folder_name;
use ebm_common::staged::check_writable;
use ebm_export::source::checkpoint::{self, WEIGHTS};

/// Write a checkpoint of a network with random weights (Glorot uniform, zero biases), for benchmarks and tests.
#[derive(Args)]
#[command(after_help = "Examples:
  ebm-export init sngan32 -o checkpoint                the published network, width 256
  ebm-export init sngan32 --width 64 -o checkpoint     a narrower one
  ebm-export init biggan128 --activation silu -o checkpoint
  ebm-export init '{\"name\":\"sngan\",\"image_size\":8,\"channels\":1,\"widths\":[16,16],\"pools\":[true,false],\"activation\":\"silu\"}' -o checkpoint")]
pub struct Arguments {
    /// sngan32, sngan64, sngan128, biggan64, biggan128, biggan224, biggan256, unet_vit32, unet_vit28, gen_sngan32, gen_sngan64, gen_sngan128, gen_biggan64,
    /// gen_biggan128, gen_biggan_cond128, gen_biggan_cond256, wrn28_10, mimicry_sngan32, mimicry_sngan64, mimicry_sngan128, or a description as JSON
    network: String,
    /// Folder of the new checkpoint
    #[arg(short, long, value_name = "DIR", value_parser = PathBufValueParser::new().try_map(folder_name))]
    output: PathBuf,
    #[command(flatten)]
    parameters: Parameters,
    /// Seed of the weights: fixed unless given; the same seed gives the same weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    dynamics: Dynamics,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let network = arguments.parameters.network(&arguments.network)?;
    let header = arguments.dynamics.header(network)?;
    ensure!(
        !arguments.output.exists(),
        "{} exists already; give another name with -o",
        arguments.output.display()
    );
    check_writable(&arguments.output)?;
    let weights = header.network.initial_weights(arguments.seed)?;
    checkpoint::write(&arguments.output, &header, &[(WEIGHTS, &weights)])?;
    let parameters: usize = weights.values().map(|weight| weight.data().len()).sum();
    print(&format!(
        "{}: random weights, {parameters} parameters\n",
        arguments.output.display()
    ))
}
