//! The names that published code gives to weights, as maps to the networks of this crate.
//!
//! A layer under spectral norm is found by what it keeps beside its weight: `weight_orig`, `weight_u`, `weight_v` (`torch.nn.utils.spectral_norm`),
//! `parametrizations.weight` (its successor), `sn_u` (torch-mimicry) or `u0` (BigGAN-PyTorch). The last two take one step of the power
//! iteration each time they are used, and so does the import.

use std::collections::BTreeSet;

use ebm_common::named;

use super::map::{NameMap, Target, Through};
use super::source::Source;
use super::step::{SpectralNorm, Step};
use super::{full_name, root_of};
use crate::error::{Choice, Error, Result};
use crate::source::networks::{Biggan, BigganGenerator, Network, Sngan, SnganGenerator};

named! {
    "names";
    /// Whose names a file has.
    pub enum Convention {
        /// torch-mimicry: `block2.c1.weight`, `l5.weight`. Energies of the SNGAN family (its discriminators) and their generators.
        Mimicry = "mimicry",
        /// BigGAN-PyTorch, its BigGANdeep.py: `blocks.0.1.conv1.weight`. BigGAN energies without classes, and generators.
        BigganPytorch = "biggan-pytorch",
        /// pytorch-pretrained-BigGAN: `generator.layers.0.conv_0.weight_orig`. Generators with classes.
        PretrainedBiggan = "pytorch-pretrained-biggan",
    }
}

/// What the names do not tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// How the network of the file pools before its last layer.
    pub pooling: Pooling,
    /// What the number is that it computes.
    pub output: Output,
    /// The truncation of z for which pytorch-pretrained-BigGAN keeps statistics.
    pub truncation: f64,
}

/// How pixels become one value per channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// By their sum, as in both discriminators.
    Sum,
    /// By their mean, as in the energies of this crate.
    Mean,
}

/// What a network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// An energy, low for images that are likely.
    Energy,
    /// A discriminator's logit, high for them: the energy is its negative.
    Logit,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            pooling: Pooling::Sum,
            output: Output::Energy,
            truncation: 1.0,
        }
    }
}

/// Dictionaries in which checkpoints keep the weights of a network.
const ROOTS: [&str; 4] = ["model_state_dict", "state_dict", "module", ""];

impl Convention {
    /// The convention of the published weights of a network, if there are any.
    pub fn of(network: &Network) -> Option<Convention> {
        match network {
            Network::Sngan(_) | Network::SnganGenerator(_) => Some(Convention::Mimicry),
            Network::BigganGenerator(network) if network.classes.is_some() => {
                Some(Convention::PretrainedBiggan)
            }
            Network::Biggan(_) | Network::BigganGenerator(_) => Some(Convention::BigganPytorch),
            Network::UnetVit(_) | Network::ConvClassifier(_) | Network::WideResnet(_) => None,
        }
    }

    /// The map from the names of a file to those of a network.
    ///
    /// # Errors
    /// The convention has no names for that network; or there are no statistics for the truncation.
    pub fn name_map(
        self,
        source: &Source,
        network: &Network,
        reading: &Reading,
    ) -> Result<NameMap> {
        let mut names = Names::new(source)?;
        match (self, network) {
            (Convention::Mimicry, Network::Sngan(network)) => {
                names.mimicry_energy(network, reading)
            }
            (Convention::Mimicry, Network::SnganGenerator(network)) => {
                names.mimicry_generator(network)
            }
            (Convention::BigganPytorch, Network::Biggan(network)) => {
                names.biggan_energy(network, reading)
            }
            (Convention::BigganPytorch, Network::BigganGenerator(network)) => {
                names.biggan_generator(network)
            }
            (Convention::PretrainedBiggan, Network::BigganGenerator(network))
                if network.classes.is_some() =>
            {
                names.pretrained_generator(network, reading.truncation)?
            }
            _ => {
                return Err(Error::choice(
                    Choice::Map,
                    format!("{self} has no names for this network; give a map"),
                ));
            }
        }
        Ok(names.map)
    }
}

/// A map under construction for one file.
struct Names<'a> {
    source: &'a Source,
    root: &'static str,
    present: BTreeSet<&'a str>,
    map: NameMap,
}

/// Axes of a matrix, exchanged: PyTorch has `[outputs, inputs]`.
fn transposed() -> Step {
    Step::Transpose(vec![1, 0])
}

/// What a layer keeps beside its weight under spectral norm: weight, u, v, and what is of no use.
const SPECTRAL_NORMS: [(&str, &str, Option<&str>, &str); 4] = [
    ("weight_orig", "weight_u", Some("weight_v"), "weight_sigma"),
    (
        "parametrizations.weight.original",
        "parametrizations.weight.0._u",
        Some("parametrizations.weight.0._v"),
        "parametrizations.weight.0._sigma",
    ),
    ("weight", "sn_u", None, "sn_sigma"),
    ("weight", "u0", None, "sv0"),
];

impl<'a> Names<'a> {
    fn new(source: &'a Source) -> Result<Names<'a>> {
        let root = root_of(source, &ROOTS)?;
        let below = full_name(root, "");
        let names = source.names().filter_map(|name| name.strip_prefix(&below));
        Ok(Names {
            source,
            root,
            present: names.collect(),
            map: NameMap {
                roots: vec![root.to_string()],
                ..NameMap::default()
            },
        })
    }

    fn add(&mut self, from: String, to: String, steps: Vec<Step>) {
        let target = match steps.is_empty() {
            true => Target::Same(to),
            false => Target::Through(Through { to, steps }),
        };
        self.map.weights.insert(from, target);
    }

    /// The weight of a layer, divided by its spectral norm if it has one.
    fn weight(&mut self, layer: &str, to: String, mut steps: Vec<Step>) {
        for (weight, u, v, of_no_use) in SPECTRAL_NORMS {
            let [weight, u, of_no_use] =
                [weight, u, of_no_use].map(|name| format!("{layer}.{name}"));
            if self.present.contains(u.as_str()) {
                let v = v
                    .map(|v| format!("{layer}.{v}"))
                    .filter(|v| self.present.contains(v.as_str()));
                steps.insert(0, Step::SpectralNorm(SpectralNorm { u, v }));
                self.map.ignore.push(of_no_use);
                return self.add(weight, to, steps);
            }
        }
        self.add(format!("{layer}.weight"), to, steps);
    }

    fn conv(&mut self, layer: &str, to: &str) {
        self.weight(layer, format!("{to}.weight"), Vec::new());
        self.add(format!("{layer}.bias"), format!("{to}.bias"), Vec::new());
    }

    fn linear(&mut self, layer: &str, to: &str) {
        self.weight(layer, format!("{to}.weight"), vec![transposed()]);
        self.add(format!("{layer}.bias"), format!("{to}.bias"), Vec::new());
    }

    /// The last convolution of a BigGAN, of whose outputs only the first are used.
    fn first_outputs(&mut self, layer: &str, to: &str, count: usize) {
        let rows = || vec![Step::Rows([0, count])];
        self.weight(layer, format!("{to}.weight"), rows());
        self.add(format!("{layer}.bias"), format!("{to}.bias"), rows());
    }

    /// Gain, bias, mean and variance by those names.
    fn norm(&mut self, layer: &str, names: [&str; 4], to: &str) {
        for (from, own) in names.iter().zip(["gain", "bias", "mean", "variance"]) {
            self.add(format!("{layer}.{from}"), format!("{to}.{own}"), Vec::new());
        }
    }

    fn torch_norm(&mut self, layer: &str, to: &str) {
        self.norm(layer, ["weight", "bias", "running_mean", "running_var"], to);
        self.map.ignore.push(format!("{layer}.num_batches_tracked"));
    }

    /// The last layer of an energy. Its bias moves all energies alike, which nothing depends on.
    fn head(&mut self, layer: &str, last_size: usize, reading: &Reading) {
        let n_pixels = (last_size * last_size) as f64;
        let mut factor = match reading.pooling {
            Pooling::Sum => n_pixels,
            Pooling::Mean => 1.0,
        };
        if reading.output == Output::Logit {
            factor = -factor;
        }
        let steps = vec![transposed(), Step::Scale(factor)];
        self.weight(layer, "head.weight".to_string(), steps);
        self.map.ignore.push(format!("{layer}.bias"));
    }

    fn mimicry_energy(&mut self, network: &Sngan, reading: &Reading) {
        let mut size = network.image_size;
        for (index, (&width, &pools)) in network.widths.iter().zip(&network.pools).enumerate() {
            let layer = format!("block{}", index + 1);
            let to = match index {
                0 => "stem".to_string(),
                _ => format!("block{index}"),
            };
            self.conv(&format!("{layer}.c1"), &format!("{to}.conv1"));
            self.conv(&format!("{layer}.c2"), &format!("{to}.conv2"));
            if index == 0 || pools || width != network.widths[index - 1] {
                self.conv(&format!("{layer}.c_sc"), &format!("{to}.shortcut"));
            }
            size = if pools { size / 2 } else { size };
        }
        self.head(&format!("l{}", network.widths.len() + 1), size, reading);
    }

    fn mimicry_generator(&mut self, network: &SnganGenerator) {
        self.linear("l1", "seed");
        let n_widths = network.widths.len();
        for index in 1..n_widths {
            let layer = format!("block{}", index + 1);
            let to = format!("block{index}");
            for number in [1, 2] {
                self.torch_norm(&format!("{layer}.b{number}"), &format!("{to}.norm{number}"));
                self.conv(&format!("{layer}.c{number}"), &format!("{to}.conv{number}"));
            }
            self.conv(&format!("{layer}.c_sc"), &format!("{to}.shortcut"));
        }
        self.torch_norm(&format!("b{}", n_widths + 1), "norm");
        self.conv(&format!("c{}", n_widths + 1), "rgb");
    }

    fn biggan_energy(&mut self, network: &Biggan, reading: &Reading) {
        self.conv("input_conv", "stem");
        let starts_group = |index: usize| index > 0 && network.pools[index];
        let mut inputs = network.stem;
        let mut size = network.image_size;
        let layers = grouped(network.widths.len(), network.attention, &starts_group);
        for (index, (layer, &width)) in layers.blocks.iter().zip(&network.widths).enumerate() {
            for number in 0..4 {
                let from = format!("{layer}.conv{}", number + 1);
                self.conv(&from, &format!("block{index}.conv{number}"));
            }
            if width > inputs {
                self.conv(
                    &format!("{layer}.conv_sc"),
                    &format!("block{index}.shortcut"),
                );
            }
            inputs = width;
            size = if network.pools[index] { size / 2 } else { size };
        }
        self.attention(layers.attention, ["theta", "phi", "g", "o"]);
        self.head("linear", size, reading);
    }

    fn biggan_generator(&mut self, network: &BigganGenerator) {
        if network.classes.is_some() {
            self.weight("shared", "embedding.weight".to_string(), Vec::new());
        }
        self.linear("linear", "seed");
        let own = ["gain", "bias", "stored_mean", "stored_var"];
        let starts_group = |index: usize| index > 0 && network.upsamples[index - 1];
        let layers = grouped(network.widths.len(), network.attention, &starts_group);
        for (index, layer) in layers.blocks.iter().enumerate() {
            for number in 0..4 {
                let [norm, conv] =
                    ["bn", "conv"].map(|kind| format!("{layer}.{kind}{}", number + 1));
                let to = format!("block{index}.norm{number}");
                match network.classes {
                    Some(_) => self.conditional_norm(&norm, own, &to),
                    None => self.norm(&norm, own, &to),
                }
                self.conv(&conv, &format!("block{index}.conv{number}"));
            }
        }
        self.attention(layers.attention, ["theta", "phi", "g", "o"]);
        self.norm("output_layer.0", own, "norm");
        self.first_outputs("output_layer.2", "rgb", network.channels);
    }

    fn conditional_norm(&mut self, layer: &str, names: [&str; 4], to: &str) {
        for (from, own) in names[..2].iter().zip(["gain", "bias"]) {
            let to = format!("{to}.{own}.weight");
            self.weight(&format!("{layer}.{from}"), to, vec![transposed()]);
        }
        for (from, own) in names[2..].iter().zip(["mean", "variance"]) {
            self.add(format!("{layer}.{from}"), format!("{to}.{own}"), Vec::new());
        }
    }

    fn attention(&mut self, layer: Option<String>, names: [&str; 4]) {
        let Some(layer) = layer else { return };
        for (from, own) in names.iter().zip(["theta", "phi", "g", "o"]) {
            let to = format!("attention.{own}.weight");
            self.weight(&format!("{layer}.{from}"), to, Vec::new());
        }
        let steps = vec![Step::Reshape(vec![1])];
        self.add(
            format!("{layer}.gamma"),
            "attention.gamma".to_string(),
            steps,
        );
    }

    fn pretrained_generator(&mut self, network: &BigganGenerator, truncation: f64) -> Result<()> {
        self.weight(
            "embeddings",
            "embedding.weight".to_string(),
            vec![transposed()],
        );
        self.pretrained_seed(network);
        let position = network.attention.unwrap_or(network.widths.len());
        let mut inputs = network.bottom;
        for (index, &width) in network.widths.iter().enumerate() {
            let layer = format!(
                "generator.layers.{}",
                index + usize::from(index >= position)
            );
            for number in 0..4 {
                let channels = if number == 0 { inputs } else { inputs / 4 };
                let norm = format!("{layer}.bn_{number}");
                let to = format!("block{index}.norm{number}");
                for (from, own) in [("scale", "gain"), ("offset", "bias")] {
                    let to = format!("{to}.{own}.weight");
                    self.weight(&format!("{norm}.{from}"), to, vec![transposed()]);
                }
                self.statistics(&norm, &to, channels, truncation)?;
                self.conv(
                    &format!("{layer}.conv_{number}"),
                    &format!("block{index}.conv{number}"),
                );
            }
            inputs = width;
        }
        let attention = network
            .attention
            .map(|position| format!("generator.layers.{position}"));
        let names = ["theta", "phi", "g", "o_conv"].map(|name| format!("snconv1x1_{name}"));
        self.attention(attention, names.each_ref().map(String::as_str));
        for (from, own) in [("weight", "gain"), ("bias", "bias")] {
            self.add(
                format!("generator.bn.{from}"),
                format!("norm.{own}"),
                Vec::new(),
            );
        }
        self.statistics("generator.bn", "norm", inputs, truncation)?;
        self.first_outputs("generator.conv_to_rgb", "rgb", network.channels);
        Ok(())
    }

    /// The first affine map: there its outputs are ordered by row, column, channel.
    fn pretrained_seed(&mut self, network: &BigganGenerator) {
        let embedding = network.classes.map_or(0, |classes| classes.embedding);
        let inputs = network.latent + embedding;
        let (n_pixels, channels) = (16, network.bottom);
        let weight = vec![
            Step::Reshape(vec![n_pixels, channels, inputs]),
            Step::Transpose(vec![2, 1, 0]),
            Step::Reshape(vec![inputs, channels * n_pixels]),
        ];
        self.weight("generator.gen_z", "seed.weight".to_string(), weight);
        let bias = vec![
            Step::Reshape(vec![n_pixels, channels]),
            transposed(),
            Step::Reshape(vec![channels * n_pixels]),
        ];
        self.add(
            "generator.gen_z.bias".to_string(),
            "seed.bias".to_string(),
            bias,
        );
    }

    /// Mean and variance for a truncation: one row of as many as there are, from truncation 0 to 1.
    fn statistics(
        &mut self,
        layer: &str,
        to: &str,
        channels: usize,
        truncation: f64,
    ) -> Result<()> {
        for (from, own) in [("running_means", "mean"), ("running_vars", "variance")] {
            let from = format!("{layer}.{from}");
            let shape = self.source.shape(&full_name(self.root, &from));
            let n_rows = shape.and_then(|shape| shape.first()).copied().unwrap_or(1);
            let row = truncation * n_rows.saturating_sub(1) as f64;
            if !(0.0..=1.0).contains(&truncation) || (row - row.round()).abs() > 1e-6 {
                return Err(Error::Import(format!(
                    "tensor {from:?} has statistics for multiples of 1/{} as truncation, got {truncation}",
                    n_rows.saturating_sub(1)
                )));
            }
            let row = row.round() as usize;
            let steps = vec![Step::Rows([row, row + 1]), Step::Reshape(vec![channels])];
            self.add(from, format!("{to}.{own}"), steps);
        }
        Ok(())
    }
}

/// Names of the blocks and of the attention between them, where blocks come in groups and attention ends a group.
struct Grouped {
    blocks: Vec<String>,
    attention: Option<String>,
}

fn grouped(
    n_blocks: usize,
    attention: Option<usize>,
    starts_group: &dyn Fn(usize) -> bool,
) -> Grouped {
    let mut blocks = Vec::new();
    let (mut group, mut member) = (0, 0);
    let mut place = None;
    for index in 0..n_blocks {
        if attention == Some(index) {
            place = Some(format!("blocks.{group}.{member}"));
            member += 1;
        }
        if starts_group(index) {
            (group, member) = (group + 1, 0);
        }
        blocks.push(format!("blocks.{group}.{member}"));
        member += 1;
    }
    Grouped {
        blocks,
        attention: place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_ends_a_group() {
        let network = Biggan::biggan128(48);
        let pools = network.pools.clone();
        let names = grouped(4, network.attention, &|index| index > 0 && pools[index]);
        assert_eq!(
            names.blocks,
            ["blocks.0.0", "blocks.0.1", "blocks.1.0", "blocks.1.1"]
        );
        assert_eq!(names.attention.as_deref(), Some("blocks.0.2"));
    }

    #[test]
    fn conventions_have_names() {
        for convention in Convention::ALL {
            assert_eq!(convention.name().parse(), Ok(convention));
        }
        let error = "keras".parse::<Convention>().unwrap_err();
        assert!(
            error.contains("there are mimicry, biggan-pytorch"),
            "{error}"
        );
    }
}
