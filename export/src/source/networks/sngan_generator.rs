//! The generators of the SNGAN family (Miyato et al. 2018), with batch norm as it is once they are learned.
//!
//! `affine → [width, 4, 4]`, up-blocks, then `norm → act → conv3×3 → tanh`. **up-block**: `norm → act → bilinear ×2 → conv3×3 → norm → act → conv3×3`
//! plus the shortcut `bilinear ×2 → conv1×1`. Pixels are areas, as with `align_corners=False`.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::op::{self, Binary};
use crate::graph::{Graph, Shape, Value};

/// A generator of square images of `4 · 2^(number of up-blocks)` rows and columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnganGenerator {
    /// Values of z, which are standard normal.
    pub latent: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels of the first 4×4 pixels, and behind each up-block.
    pub widths: Vec<usize>,
    /// The term that batch norms add to variances.
    pub norm_epsilon: f32,
    /// The activation everywhere.
    pub activation: Activation,
}

const CHECK: Checker = Checker("sngan_generator");
/// Rows and columns before the first up-block.
pub(super) const BOTTOM: usize = 4;

impl SnganGenerator {
    /// 3×32×32; width 256 in the reference.
    pub fn gen_sngan32(width: usize) -> SnganGenerator {
        SnganGenerator::published(width, &[1; 4])
    }

    /// 3×64×64; `width` channels behind the last up-block, 64 in the reference.
    pub fn gen_sngan64(width: usize) -> SnganGenerator {
        SnganGenerator::published(width, &[16, 8, 4, 2, 1])
    }

    /// 3×128×128; `width` channels behind the last up-block, 64 in the reference.
    pub fn gen_sngan128(width: usize) -> SnganGenerator {
        SnganGenerator::published(width, &[16, 16, 8, 4, 2, 1])
    }

    fn published(width: usize, factors: &[usize]) -> SnganGenerator {
        SnganGenerator {
            latent: 128,
            channels: 3,
            widths: factors
                .iter()
                .map(|factor| width.saturating_mul(*factor))
                .collect(),
            norm_epsilon: 1e-5,
            activation: Activation::Relu,
        }
    }

    /// Rows and columns of an image.
    pub fn image_size(&self) -> usize {
        (1..self.widths.len()).fold(BOTTOM, |size, _| size.saturating_mul(2))
    }

    /// The network as a graph: input `z [N, latent]`, output `image [N, C, S, S]` in `[-1, 1]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        self.check()?;
        let mut layers = Layers(Graph::new());
        let z = layers.0.input("z", Shape::batched(&[self.latent]))?;
        let mut features = layers.seed(z, self.widths[0])?;
        for (index, &width) in self.widths.iter().enumerate().skip(1) {
            features = self.block(&mut layers, &format!("block{index}"), features, width)?;
        }
        let active = self.active(&mut layers, "norm", features)?;
        let image = layers.conv("rgb", active, self.channels, 3)?;
        let image = layers.0.apply("image", op::Activation::Tanh, &[image])?;
        layers.0.set_output("image", image);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn check(&self) -> Result<()> {
        CHECK.extents(&[("latent", self.latent), ("channels", self.channels)])?;
        CHECK.blocks(&self.widths, ("widths", &vec![true; self.widths.len()]))?;
        CHECK.extents(&[("the image's size", self.image_size())])?;
        CHECK.epsilon(self.norm_epsilon)?;
        self.activation.check(CHECK.0)
    }

    fn block(&self, layers: &mut Layers, name: &str, x: Value, width: usize) -> Result<Value> {
        let branch = self.active(layers, &format!("{name}.norm1"), x)?;
        let branch = layers.doubled(&format!("{name}.doubled"), branch)?;
        let branch = layers.conv(&format!("{name}.conv1"), branch, width, 3)?;
        let branch = self.active(layers, &format!("{name}.norm2"), branch)?;
        let branch = layers.conv(&format!("{name}.conv2"), branch, width, 3)?;
        let shortcut = layers.doubled(&format!("{name}.shortcut.doubled"), x)?;
        let shortcut = layers.conv(&format!("{name}.shortcut"), shortcut, width, 1)?;
        layers.0.apply(name, Binary::Add, &[branch, shortcut])
    }

    /// Batch norm and activation.
    fn active(&self, layers: &mut Layers, norm: &str, x: Value) -> Result<Value> {
        let normal = layers.norm(norm, x, self.norm_epsilon)?;
        layers.active(&format!("{norm}.act"), normal, self.activation)
    }
}

impl Layers {
    /// An affine map of `[N, K]` to the first pixels, `[N, width, 4, 4]`. Weights `seed.weight [K, 16·width]` and `seed.bias`.
    pub(super) fn seed(&mut self, x: Value, width: usize) -> Result<Value> {
        let flat = self.affine("seed", x, width * BOTTOM * BOTTOM)?;
        self.reshaped("seed.image", flat, &[width, BOTTOM, BOTTOM])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::networks::testing::{check_slope, n_parameters, refusals};

    fn tiny() -> SnganGenerator {
        SnganGenerator {
            latent: 3,
            channels: 2,
            widths: vec![4, 3, 2],
            ..SnganGenerator::gen_sngan32(1)
        }
    }

    /// A block from v to w channels has norms 4v + 4w, convolutions 9vw + w and 9w² + w, and a shortcut vw + w.
    #[test]
    fn the_published_ones_have_their_parameters_and_images() {
        let block = |v: usize, w: usize| 4 * v + 4 * w + 9 * v * w + 9 * w * w + v * w + 3 * w;
        let networks: [(SnganGenerator, &[usize], usize); 3] = [
            (SnganGenerator::gen_sngan32(256), &[256; 4], 32),
            (
                SnganGenerator::gen_sngan64(64),
                &[1024, 512, 256, 128, 64],
                64,
            ),
            (
                SnganGenerator::gen_sngan128(64),
                &[1024, 1024, 512, 256, 128, 64],
                128,
            ),
        ];
        for (network, widths, size) in networks {
            let [first, last] = [widths[0], widths[widths.len() - 1]];
            let blocks: usize = widths.windows(2).map(|pair| block(pair[0], pair[1])).sum();
            let wanted = 129 * 16 * first + blocks + 4 * last + 27 * last + 3;
            let graph = network.graph().unwrap();
            assert_eq!(n_parameters(&graph), wanted);
            assert_eq!(network.image_size(), size);
            let image = graph.output("image").unwrap();
            assert_eq!(graph.shape(image), &Shape::batched(&[3, size, size]));
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for activation in [Activation::Relu, Activation::Silu] {
            let network = SnganGenerator {
                activation,
                ..tiny()
            };
            check_slope(&network.graph().unwrap(), "image", "z");
        }
    }

    #[test]
    fn refuses_descriptions_that_make_no_sense() {
        let changed = |change: &dyn Fn(&mut SnganGenerator)| {
            let mut network = tiny();
            change(&mut network);
            network.graph()
        };
        refusals([
            (
                changed(&|network| network.widths.clear()),
                "expected from 1 to 1000 widths",
            ),
            (
                changed(&|network| network.widths = vec![1; 20]),
                "the image's size must be from 1 to 65536",
            ),
            (
                changed(&|network| network.widths = vec![1 << 16; 2]),
                "are too large",
            ),
            (
                changed(&|network| network.latent = 0),
                "latent must be from 1",
            ),
            (
                changed(&|network| network.norm_epsilon = f32::NAN),
                "norm_epsilon must be positive",
            ),
        ]);
    }
}
