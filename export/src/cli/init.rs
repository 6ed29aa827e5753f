//! `export init`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ebm_export::arch::{Network, Sngan};
use ebm_export::checkpoint::{self, Header, WEIGHTS};
use ebm_export::contract::{Kind, Langevin, Purification};

use super::print;

/// Write a checkpoint of a network with random weights (Glorot uniform, zero biases), for benchmarks and tests.
#[derive(Args)]
#[command(after_help = "Examples:
  export init sngan32 -o checkpoint                the published network, width 256
  export init sngan32 --width 64 -o checkpoint     a narrower one
  export init '{\"name\":\"sngan\",\"image_size\":8,\"channels\":1,\"widths\":[16,16],\"pools\":[true,false],\"activation\":\"silu\"}' -o checkpoint")]
pub struct Arguments {
    /// sngan32, sngan64, sngan128, or a description as JSON
    network: String,
    /// Folder of the new checkpoint
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Channels behind the stem; the published ones are 256 of sngan32 and 64 of sngan64 and sngan128
    #[arg(long)]
    width: Option<usize>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Langevin step size ε to recommend
    #[arg(long, default_value_t = 0.01)]
    step_size: f64,
    /// Temperature T to recommend
    #[arg(long, default_value_t = 1e-4)]
    temperature: f64,
    /// Langevin steps K to recommend
    #[arg(long, default_value_t = 100)]
    steps: usize,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let network = match (arguments.network.as_str(), arguments.width) {
        ("sngan32", width) => Network::Sngan(Sngan::sngan32(width.unwrap_or(256))),
        ("sngan64", width) => Network::Sngan(Sngan::sngan64(width.unwrap_or(64))),
        ("sngan128", width) => Network::Sngan(Sngan::sngan128(width.unwrap_or(64))),
        (description, None) => serde_json::from_str(description).with_context(|| {
            format!(
                "expected sngan32, sngan64, sngan128 or a description as JSON, got {description:?}"
            )
        })?,
        (_, Some(_)) => anyhow::bail!(
            "--width belongs to sngan32, sngan64 and sngan128; a description states its widths"
        ),
    };
    let mut header = Header::new(network);
    if header.kind == Kind::Energy {
        let Arguments {
            step_size,
            temperature,
            steps,
            ..
        } = *arguments;
        header.langevin = Some(Langevin {
            step_size,
            temperature,
            steps,
            tau: None,
        });
        header.purification = Some(Purification {
            step_size,
            temperature,
            steps,
        });
    }
    header.check().map_err(anyhow::Error::msg)?;
    ensure!(
        !arguments.output.exists(),
        "{} exists already; give another name with -o",
        arguments.output.display()
    );
    let weights = header.network.initial_weights(arguments.seed)?;
    checkpoint::write(&arguments.output, &header, &[(WEIGHTS, &weights)])?;
    let parameters: usize = weights.values().map(|weight| weight.data().len()).sum();
    print(&format!(
        "{}: random weights, {parameters} parameters\n",
        arguments.output.display()
    ))
}
