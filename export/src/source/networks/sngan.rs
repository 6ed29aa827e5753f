//! The residual energy networks of the SNGAN family (Miyato et al. 2018), without any normalisation.
//!
//! **stem**: `conv3×3 → act → conv3×3 → [pool]` plus `[pool] → conv1×1`. **block**: `act → conv3×3 → act → conv3×3 → [pool]` plus the shortcut
//! `[conv1×1 if the width changes or it pools] → [pool]`. **head**: `act → mean over H, W → linear to 1, no bias`.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::op::Binary;
use crate::graph::{Graph, Value};

/// Where the shortcut of a block begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shortcut {
    /// At the block's input, the reference.
    #[default]
    Input,
    /// Behind the block's first activation, as where that overwrites its operand.
    Activated,
}

/// How many channels lie between the two convolutions of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// As many as behind the block, the reference.
    #[default]
    Output,
    /// As many as before the block.
    Input,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A residual energy network on square images. Index 0 of `widths` and `pools` is the stem, the others are blocks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sngan {
    /// Rows and columns of an image.
    pub image_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels behind the stem and behind each block.
    pub widths: Vec<usize>,
    /// Whether the stem and each block halve the image.
    pub pools: Vec<bool>,
    /// The activation everywhere.
    pub activation: Activation,
    /// Where the shortcuts of the blocks begin.
    #[serde(default, skip_serializing_if = "is_default")]
    pub shortcut: Shortcut,
    /// Channels between the convolutions of the blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden: Hidden,
}

const CHECK: Checker = Checker("sngan");

impl Sngan {
    /// The free form, for small networks.
    pub fn small(
        image_size: usize,
        channels: usize,
        widths: &[usize],
        pools: &[bool],
        activation: Activation,
    ) -> Sngan {
        Sngan {
            image_size,
            channels,
            widths: widths.to_vec(),
            pools: pools.to_vec(),
            activation,
            shortcut: Shortcut::Input,
            hidden: Hidden::Output,
        }
    }

    /// As the discriminators of torch-mimicry compute: there the first activation of a block overwrites the block's input, so that
    /// the shortcut sees it, and the first convolution keeps the number of channels.
    pub fn as_in_mimicry(self) -> Sngan {
        Sngan {
            shortcut: Shortcut::Activated,
            hidden: Hidden::Input,
            ..self
        }
    }

    /// 3×32×32: stem, one halving block and two more of the same width; 256 in the reference.
    pub fn sngan32(width: usize) -> Sngan {
        Sngan::small(
            32,
            3,
            &[width; 4],
            &[true, true, false, false],
            Activation::Relu,
        )
    }

    /// 3×64×64: stem and four halving blocks that double the width, which begins at `width`; 64 in the reference.
    pub fn sngan64(width: usize) -> Sngan {
        let widths: Vec<usize> = (0..5)
            .map(|level| width.saturating_mul(1 << level))
            .collect();
        Sngan::small(64, 3, &widths, &[true; 5], Activation::Relu)
    }

    /// 3×128×128: as [`Sngan::sngan64`] with one more block that does not halve; 64 in the reference.
    pub fn sngan128(width: usize) -> Sngan {
        let mut network = Sngan {
            image_size: 128,
            ..Sngan::sngan64(width)
        };
        network.widths.push(width.saturating_mul(1 << 4));
        network.pools.push(false);
        network
    }

    /// The network as a graph: input `x [N, C, S, S]`, output `energy [N]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        CHECK.halving([self.image_size, self.channels], &self.widths, &self.pools)?;
        self.activation.check(CHECK.0)?;
        let (mut layers, x) = Layers::on_images(self.channels, self.image_size)?;
        let mut features = self.stem(&mut layers, x)?;
        for index in 1..self.widths.len() {
            features = self.block(&mut layers, features, index)?;
        }
        let energy = layers.energy_head(features, self.activation)?;
        layers.0.set_output("energy", energy);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn stem(&self, layers: &mut Layers, x: Value) -> Result<Value> {
        let width = self.widths[0];
        let branch = layers.conv("stem.conv1", x, width, 3)?;
        let branch = layers.active("stem.act", branch, self.activation)?;
        let mut branch = layers.conv("stem.conv2", branch, width, 3)?;
        let mut shortcut = x;
        if self.pools[0] {
            branch = layers.pool("stem.pool", branch)?;
            shortcut = layers.pool("stem.shortcut.pool", shortcut)?;
        }
        let shortcut = layers.conv("stem.shortcut", shortcut, width, 1)?;
        layers.0.apply("stem", Binary::Add, &[branch, shortcut])
    }

    fn block(&self, layers: &mut Layers, x: Value, index: usize) -> Result<Value> {
        let name = format!("block{index}");
        let (width, pools) = (self.widths[index], self.pools[index]);
        let hidden = match self.hidden {
            Hidden::Output => width,
            Hidden::Input => self.widths[index - 1],
        };
        let active = layers.active(&format!("{name}.act1"), x, self.activation)?;
        let branch = layers.conv(&format!("{name}.conv1"), active, hidden, 3)?;
        let branch = layers.active(&format!("{name}.act2"), branch, self.activation)?;
        let mut branch = layers.conv(&format!("{name}.conv2"), branch, width, 3)?;
        let mut shortcut = match self.shortcut {
            Shortcut::Input => x,
            Shortcut::Activated => active,
        };
        if pools || width != self.widths[index - 1] {
            shortcut = layers.conv(&format!("{name}.shortcut"), shortcut, width, 1)?;
        }
        if pools {
            branch = layers.pool(&format!("{name}.pool"), branch)?;
            shortcut = layers.pool(&format!("{name}.shortcut.pool"), shortcut)?;
        }
        layers.0.apply(&name, Binary::Add, &[branch, shortcut])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::ArrayD;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::testing::DERIVATIVE_TOLERANCE;
    use crate::graph::reference::{bindings, evaluate};
    use crate::source::networks::Network;
    use crate::source::networks::testing::{check_slope, n_parameters};
    use crate::transform::gradient::{gradient, hessian_vector_product};
    use crate::transform::pipeline::gradient_graph;
    use crate::transform::rewrite::Rewrite;

    const ACTIVATIONS: [Activation; 6] = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Silu,
        Activation::Softplus { beta: 2.0 },
        Activation::Gelu,
        Activation::SoftLeakyRelu { a: 0.49, e: 0.01 },
    ];

    fn tiny(activation: Activation) -> Network {
        Network::Sngan(Sngan::small(
            8,
            2,
            &[3, 4, 4],
            &[true, true, false],
            activation,
        ))
    }

    fn values(network: &Network) -> BTreeMap<String, ArrayD<f64>> {
        let mut values = bindings(&network.initial_weights(3).unwrap());
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for name in ["x", "v"] {
            values.insert(
                name.to_string(),
                ArrayD::from_shape_fn(vec![2, 2, 8, 8], |_| rng.random_range(-1.0..1.0)),
            );
        }
        values
    }

    fn norm(array: &ArrayD<f64>) -> f64 {
        array.mapv(|value| value * value).sum().sqrt()
    }

    #[test]
    fn gradients_match_finite_differences() {
        for activation in ACTIVATIONS {
            let network = tiny(activation);
            let graph = network.graph().unwrap();
            let mut values = values(&network);
            let derived = evaluate(&gradient(&graph, "energy", "x").unwrap(), &values).unwrap();
            let slope = (&derived["gradient"] * &values["v"]).sum();
            let (x, step) = (values["x"].clone(), 1e-6);
            let mut at = |shift: f64| {
                let moved = &x + &(&values["v"] * shift);
                values.insert("x".to_string(), moved);
                evaluate(&graph, &values).unwrap()["energy"].sum()
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            let error = (slope - difference).abs() / difference.abs();
            assert!(
                error <= DERIVATIVE_TOLERANCE,
                "{activation:?}: {slope} against {difference}"
            );
        }
    }

    /// A block of 3 to 4 channels: `conv3×3 3 → 3, conv3×3 3 → 4` and a shortcut `conv1×1 3 → 4`.
    #[test]
    fn the_variant_of_mimicry_has_its_own_widths_and_gradients() {
        let network = Sngan::small(8, 2, &[3, 4], &[true, true], Activation::Silu).as_in_mimicry();
        let graph = network.graph().unwrap();
        let stem = 2 * 9 * 3 + 3 + 9 * 9 + 3 + 2 * 3 + 3;
        let block = 9 * 9 + 3 + 9 * 12 + 4 + 12 + 4;
        assert_eq!(n_parameters(&graph), stem + block + 4);
        check_slope(&graph, "energy", "x");
    }

    #[test]
    fn rewritten_gradients_are_the_raw_ones() {
        for activation in ACTIVATIONS {
            let network = tiny(activation);
            let graph = network.graph().unwrap();
            let values = values(&network);
            let raw = evaluate(&gradient_graph(&graph, &[]).unwrap(), &values).unwrap();
            let fast = evaluate(&gradient_graph(&graph, &Rewrite::ALL).unwrap(), &values).unwrap();
            for name in ["energy", "gradient"] {
                let error = norm(&(&raw[name] - &fast[name])) / norm(&raw[name]);
                assert!(error < 1e-12, "{activation:?}: {name} changes by {error}");
            }
        }
    }

    #[test]
    fn smooth_networks_have_hessian_vector_products() {
        for activation in ACTIVATIONS {
            let network = tiny(activation);
            let graph = network.graph().unwrap();
            let mut values = values(&network);
            let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
            let product = evaluate(&twice, &values).unwrap()["hvp"].clone();
            let derived = gradient(&graph, "energy", "x").unwrap();
            let (x, step) = (values["x"].clone(), 1e-6);
            let mut at = |shift: f64| {
                let moved = &x + &(&values["v"] * shift);
                values.insert("x".to_string(), moved);
                evaluate(&derived, &values).unwrap()["gradient"].clone()
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            let error = norm(&(&product - &difference)) / norm(&difference).max(1e-3);
            assert!(error <= 1e-5, "{activation:?}: {error}");
        }
    }

    #[test]
    fn the_published_networks_have_their_multiplications() {
        let millions = |graph: &Graph| {
            let count = |value| {
                let (op, inputs) = graph.operator(value)?;
                let shapes: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
                Some(op.multiplications(&shapes, graph.shape(value)))
            };
            graph.values().filter_map(count).sum::<usize>() as f64 / 1e6
        };
        let graph = Sngan::sngan32(256).graph().unwrap();
        let [raw, fast] = [&[][..], &Rewrite::ALL[..]]
            .map(|rewrites| millions(&gradient_graph(&graph, rewrites).unwrap()));
        assert!((raw - 2162.6).abs() < 1.0, "{raw}");
        assert!(raw / fast >= 2.1, "{raw} against {fast}");
        for network in [Sngan::sngan64(64), Sngan::sngan128(64)] {
            network.graph().unwrap();
        }
    }

    #[test]
    fn refuses_descriptions_that_make_no_sense() {
        for (network, wanted) in [
            (
                Sngan::small(10, 1, &[4, 4], &[true, true], Activation::Relu),
                "a positive multiple of 4 for 2 pools, got 10",
            ),
            (
                Sngan::small(8, 1, &[4], &[], Activation::Relu),
                "got 1 widths and 0 pools",
            ),
            (
                Sngan::small(8, 0, &[4], &[true], Activation::Relu),
                "channels must be from 1 to 65536, got 0",
            ),
            (
                Sngan::small(8, 1, &[4], &[true], Activation::Softplus { beta: 0.0 }),
                "must be finite",
            ),
            (
                Sngan::small(
                    8,
                    1,
                    &[4],
                    &[true],
                    Activation::SoftLeakyRelu { a: 0.5, e: 1e-30 },
                ),
                "neither tiny nor huge",
            ),
            (
                Sngan::small(1 << 31, 1, &[4], &[true], Activation::Relu),
                "image_size must be from 1 to 65536, got",
            ),
            (
                Sngan::small(1 << 16, 3, &[4], &[true], Activation::Relu),
                "are too large",
            ),
            (
                Sngan::small(8, 1, &[1 << 15], &[true], Activation::Relu),
                "are too large",
            ),
            (
                Sngan::sngan64(usize::MAX),
                "each width must be from 1 to 65536",
            ),
        ] {
            let error = network.graph().unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
