//! Networks as graphs over named weights.

mod attention;
mod biggan;
mod biggan_generator;
mod check;
mod classifier;
mod dropout;
mod interpolation;
mod layers;
mod norm;
mod published;
mod sngan;
mod sngan_generator;
#[cfg(test)]
pub(crate) mod testing;
mod tokens;
mod unet_vit;
mod wide_resnet;

use ebm_common::contract::{ImageShape, Kind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use biggan::Biggan;
pub use biggan_generator::{BigganGenerator, Classes};
pub use classifier::ConvClassifier;
pub use norm::{BatchNorm, batch_norms};
pub use sngan::{Hidden, Shortcut, Sngan};
pub use sngan_generator::SnganGenerator;
pub use unet_vit::UnetVit;
pub use wide_resnet::WideResnet;

use crate::error::{Error, Result};
use crate::graph::op;
use crate::graph::tensor::{Tensor, Tensors};
use crate::graph::{Graph, Value};

/// The activation of a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Activation {
    /// `max(x, 0)`, the reference.
    Relu,
    /// `x` where positive, else `slope · x`.
    LeakyRelu {
        /// Factor of negative values.
        slope: f32,
    },
    /// `x · sigmoid(x)`.
    Silu,
    /// `log(1 + e^(βx)) / β`.
    Softplus {
        /// Sharpness, > 0.
        beta: f32,
    },
    /// `x · Φ(x)`, with the error function.
    Gelu,
    /// `(1 − a) x + a √(x² + e²) − a e`: a leaky ReLU that has second derivatives.
    SoftLeakyRelu {
        /// Half of the difference of the two slopes; the reference's is 0.49.
        a: f32,
        /// Width of the bend; the reference's is 0.01.
        e: f32,
    },
}

impl Activation {
    /// Applies it under that name.
    ///
    /// # Errors
    /// The value is not f32.
    pub fn apply(self, graph: &mut Graph, name: &str, x: Value) -> Result<Value> {
        match self {
            Activation::Relu => graph.apply(name, op::Activation::Relu, &[x]),
            Activation::LeakyRelu { slope } => {
                graph.apply(name, op::Activation::LeakyRelu { slope }, &[x])
            }
            Activation::Silu => op::Activation::silu(graph, name, x),
            Activation::Softplus { beta } => op::Activation::softplus(graph, name, x, beta),
            Activation::Gelu => op::Activation::gelu(graph, name, x),
            Activation::SoftLeakyRelu { a, e } => {
                op::Activation::soft_leaky_relu(graph, name, x, a, e)
            }
        }
    }

    fn check(self, network: &'static str) -> Result<()> {
        let valid = match self {
            Activation::LeakyRelu { slope } => slope.is_finite(),
            Activation::Softplus { beta } => {
                beta > 0.0 && beta.is_finite() && (1.0 / beta).is_finite()
            }
            Activation::SoftLeakyRelu { a, e } => a.is_finite() && e > 0.0 && (e * e).is_normal(),
            Activation::Relu | Activation::Silu | Activation::Gelu => true,
        };
        let problem = format!(
            "parameters of {self:?} must be finite, beta and e positive and neither tiny nor huge"
        );
        if valid {
            Ok(())
        } else {
            Err(Error::Network { network, problem })
        }
    }
}

/// A network by name and parameters, as presets, checkpoints and contracts write it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum Network {
    /// A residual energy network.
    Sngan(Sngan),
    /// A residual energy network of bottlenecks, with attention.
    Biggan(Biggan),
    /// A U-Net with a transformer that makes an energy of its result.
    UnetVit(UnetVit),
    /// A small convolutional classifier.
    ConvClassifier(ConvClassifier),
    /// A residual classifier.
    WideResnet(WideResnet),
    /// A residual generator.
    SnganGenerator(SnganGenerator),
    /// A residual generator of bottlenecks, with attention.
    BigganGenerator(BigganGenerator),
}

impl Network {
    /// The network as a graph: input `x [N, C, H, W]`, output `energy [N]` or `logits [N, n_classes]`; of a generator inputs
    /// `z [N, latent]` and perhaps `class [N, n_classes]`, output `image [N, C, H, W]`.
    ///
    /// # Errors
    /// The description makes no sense; the error says what was expected.
    pub fn graph(&self) -> Result<Graph> {
        match self {
            Network::Sngan(network) => network.graph(),
            Network::Biggan(network) => network.graph(),
            Network::UnetVit(network) => network.graph(),
            Network::ConvClassifier(network) => network.graph(),
            Network::WideResnet(network) => network.graph(),
            Network::SnganGenerator(network) => network.graph(),
            Network::BigganGenerator(network) => network.graph(),
        }
    }

    /// Extents of the images that it takes or generates.
    pub fn image(&self) -> ImageShape {
        let (channels, size) = match self {
            Network::Sngan(network) => (network.channels, network.image_size),
            Network::Biggan(network) => (network.channels, network.image_size),
            Network::UnetVit(network) => (network.channels, network.image_size),
            Network::ConvClassifier(network) => (network.channels, network.image_size),
            Network::WideResnet(network) => (network.channels, network.image_size),
            Network::SnganGenerator(network) => (network.channels, network.image_size()),
            Network::BigganGenerator(network) => (network.channels, network.image_size()),
        };
        ImageShape {
            channels,
            height: size,
            width: size,
        }
    }

    /// What it computes: an energy, a classifier's logits or images.
    pub fn kind(&self) -> Kind {
        match self {
            Network::Sngan(_) | Network::Biggan(_) | Network::UnetVit(_) => Kind::Energy,
            Network::ConvClassifier(_) | Network::WideResnet(_) => Kind::Classifier,
            Network::SnganGenerator(_) | Network::BigganGenerator(_) => Kind::Generator,
        }
    }

    /// Number of classes that a classifier or a generator distinguishes.
    pub fn n_classes(&self) -> Option<usize> {
        match self {
            Network::ConvClassifier(network) => Some(network.n_classes),
            Network::WideResnet(network) => Some(network.n_classes),
            Network::BigganGenerator(network) => network.classes.map(|classes| classes.n_classes),
            Network::Sngan(_)
            | Network::Biggan(_)
            | Network::UnetVit(_)
            | Network::SnganGenerator(_) => None,
        }
    }

    /// The activation everywhere in it.
    pub fn activation(&self) -> Activation {
        match self {
            Network::Sngan(network) => network.activation,
            Network::Biggan(network) => network.activation,
            Network::UnetVit(network) => network.activation,
            Network::ConvClassifier(network) => network.activation,
            Network::WideResnet(network) => network.activation,
            Network::SnganGenerator(network) => network.activation,
            Network::BigganGenerator(network) => network.activation,
        }
    }

    /// The same network with another activation.
    pub fn with_activation(mut self, activation: Activation) -> Network {
        let place = match &mut self {
            Network::Sngan(network) => &mut network.activation,
            Network::Biggan(network) => &mut network.activation,
            Network::UnetVit(network) => &mut network.activation,
            Network::ConvClassifier(network) => &mut network.activation,
            Network::WideResnet(network) => &mut network.activation,
            Network::SnganGenerator(network) => &mut network.activation,
            Network::BigganGenerator(network) => &mut network.activation,
        };
        *place = activation;
        self
    }

    /// Weights to begin learning with: matrices and kernels Glorot-uniform (Glorot and Bengio 2010), i.e. uniform in `±√(6 / (fan_in +
    /// fan_out))`, those of a [`UnetVit`] in `±1/√fan_in` or zero; gains and variances of norms one; biases, running means, positions and
    /// gains of attention zero, so that attention begins as the identity. The same seed gives the same weights on every machine.
    ///
    /// # Errors
    /// As [`Network::graph`].
    pub fn initial_weights(&self, seed: u64) -> Result<Tensors> {
        let graph = self.graph()?;
        let bound = match self {
            Network::UnetVit(_) => UnetVit::bound,
            _ => glorot,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = |value| {
            let sizes = graph.shape(value).concrete(1);
            let name = graph.node(value).name.clone();
            let weight = initial_weight(&name, &sizes, bound, &mut rng);
            (name, weight)
        };
        Ok(graph.weights().map(draw).collect())
    }
}

fn glorot(_: &str, [fan_in, fan_out]: [usize; 2]) -> f32 {
    (6.0 / (fan_in + fan_out) as f32).sqrt()
}

fn initial_weight(
    name: &str,
    sizes: &[usize],
    bound: fn(&str, [usize; 2]) -> f32,
    rng: &mut ChaCha8Rng,
) -> Tensor {
    let fans = match sizes {
        [inputs, outputs] => [*inputs, *outputs],
        [outputs, inputs, rows, columns] => [inputs * rows * columns, outputs * rows * columns],
        _ if name.ends_with(".gain") || name.ends_with(".variance") => {
            return Tensor::filled(sizes, 1.0);
        }
        _ => return Tensor::filled(sizes, 0.0),
    };
    let bound = bound(name, fans);
    if bound == 0.0 {
        return Tensor::filled(sizes, 0.0);
    }
    let data = (0..sizes.iter().product())
        .map(|_| rng.random_range(-bound..bound))
        .collect();
    Tensor::new(sizes, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_are_glorot_uniform_and_repeatable() {
        let network = Network::Sngan(Sngan::sngan32(16));
        let weights = network.initial_weights(7).unwrap();
        assert_eq!(weights, network.initial_weights(7).unwrap());
        assert_ne!(weights, network.initial_weights(8).unwrap());
        // stem.conv2: 16 → 16 with 3×3 taps has bound √(6 / (144 + 144)).
        let kernel = weights["stem.conv2.weight"].data();
        let largest = kernel
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!((0.142..0.1443376).contains(&largest), "{largest}");
        let classifier = Network::WideResnet(WideResnet::wrn28(1));
        let weights_of_norms = classifier.initial_weights(1).unwrap();
        for (name, wanted) in [
            ("gain", 1.0),
            ("variance", 1.0),
            ("bias", 0.0),
            ("mean", 0.0),
        ] {
            let data = weights_of_norms[&format!("norm.{name}")].data();
            assert!(data.iter().all(|&value| value == wanted), "{name}");
        }
        assert!(
            weights["stem.conv2.bias"]
                .data()
                .iter()
                .all(|&value| value == 0.0)
        );
    }

    #[test]
    fn descriptions_read_and_write_as_json() {
        for (network, text) in [
            (
                Network::Sngan(Sngan::small(
                    8,
                    1,
                    &[4, 6],
                    &[false, true],
                    Activation::LeakyRelu { slope: 0.25 },
                )),
                r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4,6],"pools":[false,true],"activation":{"leaky_relu":{"slope":0.25}}}"#,
            ),
            (
                Network::Sngan(Sngan::small(8, 1, &[4], &[true], Activation::Relu)),
                r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4],"pools":[true],"activation":"relu"}"#,
            ),
            (
                Network::Biggan(Biggan {
                    widths: vec![8],
                    pools: vec![true],
                    attention: Some(0),
                    ..Biggan::biggan64(8)
                }),
                r#"{"name":"biggan","image_size":64,"channels":3,"stem":8,"widths":[8],"pools":[true],"attention":0,"activation":"relu"}"#,
            ),
            (
                Network::SnganGenerator(SnganGenerator::gen_sngan32(4)),
                r#"{"name":"sngan_generator","latent":128,"channels":3,"widths":[4,4,4,4],"norm_epsilon":0.00001,"activation":"relu"}"#,
            ),
            (
                Network::Sngan(Sngan::small(8, 1, &[4], &[true], Activation::Silu).as_in_mimicry()),
                r#"{"name":"sngan","image_size":8,"channels":1,"widths":[4],"pools":[true],"activation":"silu","shortcut":"activated","hidden":"input"}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&network).unwrap(), text);
            assert_eq!(serde_json::from_str::<Network>(text).unwrap(), network);
        }
    }
}
