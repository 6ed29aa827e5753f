//! How commands take networks and Langevin dynamics.

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, Network};
use ebm_export::source::{Kind, Langevin, Purification};

/// What a published network is built with.
#[derive(Args)]
pub struct Parameters {
    /// Width parameter of a published network, in place of the published one
    #[arg(long)]
    width: Option<usize>,
    /// Activation in place of the network's own: relu, silu, gelu, or as JSON '{"leaky_relu":{"slope":0.2}}',
    /// '{"softplus":{"beta":2}}', '{"soft_leaky_relu":{"a":0.49,"e":0.01}}'
    #[arg(long)]
    activation: Option<String>,
}

impl Parameters {
    /// The published network of that name, or the one that a JSON text describes.
    pub fn network(&self, name: &str) -> Result<Network> {
        let network = match Network::published(name, self.width) {
            Some(network) => network,
            None => {
                let network = described(name)?;
                ensure!(
                    self.width.is_none(),
                    "--width belongs to published networks; a description states its widths"
                );
                network
            }
        };
        match &self.activation {
            Some(text) => Ok(network.with_activation(activation(text)?)),
            None => Ok(network),
        }
    }
}

fn described(text: &str) -> Result<Network> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).context("not a description of a network");
    }
    let names: Vec<&str> = Network::published_names().collect();
    bail!(
        "expected {} or a description as JSON, got {text:?}",
        names.join(", ")
    )
}

fn activation(text: &str) -> Result<Activation> {
    let json = match text.starts_with('{') {
        true => text.to_string(),
        false => format!("{text:?}"),
    };
    serde_json::from_str(&json).with_context(|| format!("--activation {text}"))
}

/// Langevin dynamics to recommend.
#[derive(Args)]
pub struct Dynamics {
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

impl Dynamics {
    /// The header of a network, with the dynamics if it is an energy.
    pub fn header(&self, network: Network) -> Result<Header> {
        let Dynamics {
            step_size,
            temperature,
            steps,
        } = *self;
        let mut header = Header::new(network);
        if header.kind == Kind::Energy {
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
        Ok(header)
    }
}
