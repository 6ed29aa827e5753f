//! `ebm-export import`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::network::{Dynamics, Parameters};
use crate::print;
use ebm_common::files::folder_name;
use ebm_common::staged::check_writable;
use ebm_export::source::checkpoint::{self, WEIGHTS};
use ebm_export::source::import::{self, Convention, NameMap, Output, Pooling, Reading, Source};
use ebm_export::source::networks::Network;

/// Make a checkpoint of weights that were learned elsewhere: safetensors, or what torch.save wrote. Nothing in the file is executed.
#[derive(Args)]
#[command(after_help = "Examples:
  ebm-export import netG_100000_steps.pth --network gen_sngan32 -o checkpoint           torch-mimicry
  ebm-export import netD_100000_steps.pth --network mimicry_sngan32 --logit -o checkpoint
  ebm-export import pytorch_model.bin --network gen_biggan_cond128 --truncation 0.4 -o checkpoint
  ebm-export import own.safetensors --network sngan32 --map names.toml -o checkpoint    docs/importing-weights.md
  ebm-export import netG_100000_steps.pth --network gen_sngan32 --show-map > names.toml")]
pub struct Arguments {
    /// A safetensors file, or a PyTorch checkpoint (.pt, .pth, .bin)
    file: PathBuf,
    /// A published network (see `ebm-export init --help`), or a description as JSON
    #[arg(long)]
    network: String,
    /// Folder of the new checkpoint
    #[arg(short, long, value_name = "DIR", required_unless_present = "show_map", value_parser = PathBufValueParser::new().try_map(folder_name))]
    output: Option<PathBuf>,
    #[command(flatten)]
    parameters: Parameters,
    /// Whose names the file has: mimicry, biggan-pytorch or pytorch-pretrained-biggan; without it, those of the network's published weights
    #[arg(long, value_name = "CONVENTION", conflicts_with = "map")]
    names: Option<Convention>,
    /// A file that maps names of tensors to names of weights
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// How the network in the file pools before its last layer; the published discriminators sum
    #[arg(long, value_enum, default_value_t = PoolingChoice::Sum, conflicts_with = "map")]
    pooling: PoolingChoice,
    /// The network in the file is a discriminator: the energy is its negative
    #[arg(long, conflicts_with = "map")]
    logit: bool,
    /// The truncation of z whose statistics are taken, of pytorch-pretrained-biggan
    #[arg(long, default_value_t = 1.0, conflicts_with = "map")]
    truncation: f64,
    /// Print the map of names that is used, and write nothing
    #[arg(long, conflicts_with_all = ["map", "output"])]
    show_map: bool,
    #[command(flatten)]
    dynamics: Dynamics,
}

#[derive(Clone, Copy, ValueEnum)]
enum PoolingChoice {
    /// All pixels added up
    Sum,
    /// Their mean
    Mean,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let network = arguments.parameters.network(&arguments.network)?;
    let graph = network.graph()?;
    if let Some(output) = &arguments.output {
        let shown = output.display();
        ensure!(
            !output.exists(),
            "{shown} exists already; give another name with -o"
        );
        check_writable(output)?;
    }
    let source = read(&arguments.file)?;
    let map = arguments
        .name_map(&source, &network)
        .with_context(|| format!("cannot import {}", arguments.file.display()))?;
    let Some(output) = &arguments.output else {
        return print(&toml::to_string(&map)?);
    };
    let weights = import::weights(&source, &graph, &map)
        .with_context(|| format!("cannot import {}", arguments.file.display()))?;
    let header = arguments.dynamics.header(network)?;
    checkpoint::write(output, &header, &[(WEIGHTS, &weights)])?;
    let parameters: usize = weights.values().map(|weight| weight.data().len()).sum();
    print(&format!(
        "{}: {parameters} parameters from {} tensors of {}\n",
        output.display(),
        source.names().count(),
        arguments.file.display()
    ))
}

fn read(file: &Path) -> Result<Source> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    Source::read(bytes).map_err(|problem| anyhow!("{shown}: {problem}"))
}

impl Arguments {
    fn name_map(&self, source: &Source, network: &Network) -> Result<NameMap> {
        if let Some(file) = &self.map {
            let shown = file.display();
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            return toml::from_str(&text)
                .map_err(|error| anyhow!("{shown}: not a map of names: {}", one_line(&error)));
        }
        let convention = self.names.or(Convention::of(network)).context(
            "there are no published weights of this network; give a map of names with --map",
        )?;
        let reading = Reading {
            pooling: match self.pooling {
                PoolingChoice::Sum => Pooling::Sum,
                PoolingChoice::Mean => Pooling::Mean,
            },
            output: match self.logit {
                true => Output::Logit,
                false => Output::Energy,
            },
            truncation: self.truncation,
        };
        Ok(convention.name_map(source, network, &reading)?)
    }
}

/// What is wrong with a TOML text, without the picture of it.
fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join(" ")
}
