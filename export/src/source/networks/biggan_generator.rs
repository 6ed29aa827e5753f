//! The BigGAN-deep generators (Brock et al. 2019), with batch norm as it is once they are learned.
//!
//! `affine → [width, 4, 4]`, blocks, one layer of self-attention before one of them, then `norm → act → conv3×3 → tanh`. **block**, with m a quarter of its
//! input's channels: `norm → act → conv1×1(→m) → norm → act → [nearest ×2] → conv3×3 → norm → act → conv3×3 → norm → act → conv1×1(→out)` plus the shortcut: the first of
//! the input's channels `[nearest ×2]`. With classes, z and an embedding of the class stand side by side: the first affine map takes both,
//! and each norm of a block has a gain and bias that are linear in both; the last norm has a gain and bias of its own. That the
//! image is enlarged behind the second norm, and that channels are dropped from the end, is as in the published design's code.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use super::sngan_generator::BOTTOM;
use crate::error::Result;
use crate::graph::op::{self, Binary, Concat, Slice};
use crate::graph::{Graph, Shape, Value};

/// A BigGAN-deep generator of square images. `widths` and `upsamples` have one entry per block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BigganGenerator {
    /// Values of z, which are normal, truncated at two deviations.
    pub latent: usize,
    /// Channels of an image.
    pub channels: usize,
    /// The classes that it distinguishes, if it does.
    pub classes: Option<Classes>,
    /// Channels of the first 4×4 pixels.
    pub bottom: usize,
    /// Channels behind each block; no block has more than its input.
    pub widths: Vec<usize>,
    /// Whether each block doubles the image.
    pub upsamples: Vec<bool>,
    /// The block before which attention stands, counted from 0.
    pub attention: Option<usize>,
    /// Rows and columns to which the image is resized in the end, bilinear.
    pub resize: Option<usize>,
    /// The term that batch norms add to variances.
    pub norm_epsilon: f32,
    /// The activation everywhere.
    pub activation: Activation,
}

/// What a generator knows of classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    /// Their number.
    pub n_classes: usize,
    /// Values that stand for a class.
    pub embedding: usize,
}

const CHECK: Checker = Checker("biggan_generator");
/// Input channels of a block per channel within it.
const REDUCTION: usize = 4;

impl BigganGenerator {
    /// 3×64×64 without classes; width 128 in the reference.
    pub fn gen_biggan64(width: usize) -> BigganGenerator {
        let mut network = BigganGenerator::gen_biggan128(width);
        network.widths.pop();
        network.upsamples.pop();
        network
    }

    /// 3×128×128 without classes; width 128 in the reference.
    pub fn gen_biggan128(width: usize) -> BigganGenerator {
        BigganGenerator::published(width, &[16, 16, 16, 8, 8, 4, 4, 2, 2, 1], None)
    }

    /// 3×128×128 of one of 1000 classes; width 128 in the reference.
    pub fn gen_biggan_cond128(width: usize) -> BigganGenerator {
        let classes = Classes {
            n_classes: 1000,
            embedding: 128,
        };
        BigganGenerator {
            classes: Some(classes),
            ..BigganGenerator::gen_biggan128(width)
        }
    }

    /// 3×256×256 of one of 1000 classes; width 128 in the reference.
    pub fn gen_biggan_cond256(width: usize) -> BigganGenerator {
        let classes = BigganGenerator::gen_biggan_cond128(width).classes;
        let factors = [16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1];
        BigganGenerator::published(width, &factors, classes)
    }

    /// Every second block doubles the image, from the second on; the first 4×4 pixels have the width of the first block.
    fn published(width: usize, factors: &[usize], classes: Option<Classes>) -> BigganGenerator {
        let widths: Vec<usize> = factors
            .iter()
            .map(|factor| width.saturating_mul(*factor))
            .collect();
        BigganGenerator {
            latent: 128,
            channels: 3,
            classes,
            bottom: widths[0],
            upsamples: (0..widths.len()).map(|index| index % 2 == 1).collect(),
            widths,
            attention: Some(8),
            resize: None,
            norm_epsilon: 1e-4,
            activation: Activation::Relu,
        }
    }

    /// Rows and columns of an image.
    pub fn image_size(&self) -> usize {
        self.resize.unwrap_or(self.natural_size())
    }

    /// Rows and columns before the image is resized.
    fn natural_size(&self) -> usize {
        let doublings = self.upsamples.iter().filter(|&&upsamples| upsamples);
        doublings.fold(BOTTOM, |size, _| size.saturating_mul(2))
    }

    /// The network as a graph: input `z [N, latent]` and, with classes, `class [N, n_classes]` (one-hot); output `image [N, C, S, S]` in
    /// `[-1, 1]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        self.check()?;
        let mut layers = Layers(Graph::new());
        let z = layers.0.input("z", Shape::batched(&[self.latent]))?;
        let (seed, condition) = match self.classes {
            Some(classes) => {
                let condition = classes.beside(&mut layers, z)?;
                (condition, Some(condition))
            }
            None => (z, None),
        };
        let mut features = layers.seed(seed, self.bottom)?;
        for (index, (&width, &upsamples)) in self.widths.iter().zip(&self.upsamples).enumerate() {
            if self.attention == Some(index) {
                features = layers.attention("attention", features)?;
            }
            let block = Block {
                network: self,
                condition,
                name: format!("block{index}"),
            };
            features = block.applied(&mut layers, features, width, upsamples)?;
        }
        let image = self.tail(&mut layers, features)?;
        layers.0.set_output("image", image);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn tail(&self, layers: &mut Layers, features: Value) -> Result<Value> {
        let normal = layers.norm("norm", features, self.norm_epsilon)?;
        let active = self.activation.apply(&mut layers.0, "norm.act", normal)?;
        let image = layers.conv("rgb", active, self.channels, 3)?;
        let image = layers.0.apply("image", op::Activation::Tanh, &[image])?;
        match self.resize {
            Some(size) => layers.resized("resized", image, [size, size]),
            None => Ok(image),
        }
    }

    fn check(&self) -> Result<()> {
        CHECK.extents(&[
            ("latent", self.latent),
            ("channels", self.channels),
            ("bottom", self.bottom),
            ("resize", self.resize.unwrap_or(1)),
        ])?;
        if let Some(classes) = self.classes {
            CHECK.extents(&[
                ("n_classes", classes.n_classes),
                ("embedding", classes.embedding),
            ])?;
        }
        CHECK.blocks(&self.widths, ("upsamples", &self.upsamples))?;
        CHECK.extents(&[("the image's size", self.natural_size())])?;
        let mut inputs = self.bottom;
        for (index, &width) in self.widths.iter().enumerate() {
            if self.attention == Some(index) {
                CHECK.attention(inputs, BOTTOM)?;
            }
            CHECK.multiple(
                &format!("the input width of block {index}"),
                inputs,
                REDUCTION,
            )?;
            CHECK.ensure(width <= inputs, || {
                format!("block {index} must not have more channels than its input, got {width} behind {inputs}")
            })?;
            inputs = width;
        }
        CHECK.position(self.attention, self.widths.len())?;
        CHECK.epsilon(self.norm_epsilon)?;
        self.activation.check(CHECK.0)
    }
}

impl Classes {
    /// z and the embedding of the input `class`, side by side. Weight `embedding.weight [n_classes, embedding]`.
    fn beside(self, layers: &mut Layers, z: Value) -> Result<Value> {
        let class = layers.0.input("class", Shape::batched(&[self.n_classes]))?;
        let embedded = layers.linear("embedding", class, self.embedding)?;
        layers
            .0
            .apply("condition", Concat { axis: 1 }, &[z, embedded])
    }
}

struct Block<'a> {
    network: &'a BigganGenerator,
    condition: Option<Value>,
    name: String,
}

impl Block<'_> {
    fn applied(
        &self,
        layers: &mut Layers,
        x: Value,
        width: usize,
        upsamples: bool,
    ) -> Result<Value> {
        let name = &self.name;
        let inner = layers.extent(x, 1) / REDUCTION;
        let branch = self.active(layers, 0, x)?;
        let branch = layers.conv(&format!("{name}.conv0"), branch, inner, 1)?;
        let mut branch = self.active(layers, 1, branch)?;
        let mut shortcut = self.first_channels(layers, x, width)?;
        if upsamples {
            branch = layers.repeated(&format!("{name}.doubled"), branch)?;
            shortcut = layers.repeated(&format!("{name}.shortcut.doubled"), shortcut)?;
        }
        let branch = layers.conv(&format!("{name}.conv1"), branch, inner, 3)?;
        let branch = self.active(layers, 2, branch)?;
        let branch = layers.conv(&format!("{name}.conv2"), branch, inner, 3)?;
        let branch = self.active(layers, 3, branch)?;
        let branch = layers.conv(&format!("{name}.conv3"), branch, width, 1)?;
        layers.0.apply(name, Binary::Add, &[branch, shortcut])
    }

    fn first_channels(&self, layers: &mut Layers, x: Value, width: usize) -> Result<Value> {
        if layers.extent(x, 1) == width {
            return Ok(x);
        }
        let first = Slice {
            axis: 1,
            start: 0,
            end: width,
            step: 1,
        };
        layers
            .0
            .apply(&format!("{}.shortcut", self.name), first, &[x])
    }

    /// Batch norm, conditional where there are classes, and activation.
    fn active(&self, layers: &mut Layers, index: usize, x: Value) -> Result<Value> {
        let name = format!("{}.norm{index}", self.name);
        let epsilon = self.network.norm_epsilon;
        let normal = match self.condition {
            Some(condition) => layers.conditional_norm(&name, x, condition, epsilon)?,
            None => layers.norm(&name, x, epsilon)?,
        };
        let activation = self.network.activation;
        activation.apply(&mut layers.0, &format!("{name}.act"), normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::networks::testing::{check_slope, n_parameters, refusals};

    fn tiny(classes: Option<Classes>) -> BigganGenerator {
        BigganGenerator {
            latent: 3,
            channels: 2,
            classes,
            bottom: 8,
            widths: vec![8, 4],
            upsamples: vec![false, true],
            attention: Some(1),
            ..BigganGenerator::gen_biggan128(1)
        }
    }

    const CLASSES: Classes = Classes {
        n_classes: 5,
        embedding: 2,
    };

    /// With m = v/4 and norms of k values per channel, a block from v to w channels has kv + 3km, vm + m, twice 9m² + m, and mw + w; k is 4, or
    /// 2 + 2·256 with a condition of 256 values.
    #[test]
    fn the_published_ones_have_their_parameters_and_images() {
        let block = |v: usize, w: usize, k: usize| {
            let m = v / 4;
            k * v + 3 * k * m + v * m + m + 2 * (9 * m * m + m) + m * w + w
        };
        let attention = |v: usize| 2 * v * v / 8 + 2 * v * v / 2 + 1;
        let short: &[usize] = &[16, 16, 16, 16, 8, 8, 4, 4, 2, 2, 1];
        let long: &[usize] = &[16, 16, 16, 16, 8, 8, 8, 8, 4, 4, 2, 2, 1];
        for (network, factors, attended, size) in [
            (BigganGenerator::gen_biggan64(128), &short[..10], 2, 64),
            (BigganGenerator::gen_biggan128(128), short, 2, 128),
            (BigganGenerator::gen_biggan_cond128(128), short, 2, 128),
            (BigganGenerator::gen_biggan_cond256(128), long, 4, 256),
        ] {
            let (k, condition, embedding) = match network.classes {
                Some(_) => (2 + 2 * 256, 256, 1000 * 128),
                None => (4, 128, 0),
            };
            let blocks: usize = factors
                .windows(2)
                .map(|pair| block(128 * pair[0], 128 * pair[1], k))
                .sum();
            let last = 128 * factors[factors.len() - 1];
            let seed = (condition + 1) * 16 * 16 * 128;
            let tail = 4 * last + 27 * last + 3;
            let wanted = embedding + seed + blocks + attention(128 * attended) + tail;
            let graph = network.graph().unwrap();
            assert_eq!(n_parameters(&graph), wanted, "{size}");
            let image = graph.output("image").unwrap();
            assert_eq!(graph.shape(image), &Shape::batched(&[3, size, size]));
        }
    }

    #[test]
    fn images_are_resized_on_demand() {
        let network = BigganGenerator {
            resize: Some(224),
            ..BigganGenerator::gen_biggan_cond256(4)
        };
        let graph = network.graph().unwrap();
        let image = graph.output("image").unwrap();
        assert_eq!(graph.shape(image), &Shape::batched(&[3, 224, 224]));
        assert_eq!(network.image_size(), 224);
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (classes, resize, input) in [
            (None, None, "z"),
            (Some(CLASSES), None, "z"),
            (Some(CLASSES), Some(5), "class"),
        ] {
            let network = BigganGenerator {
                resize,
                ..tiny(classes)
            };
            check_slope(&network.graph().unwrap(), "image", input);
        }
    }

    #[test]
    fn refuses_descriptions_that_make_no_sense() {
        let changed = |change: &dyn Fn(&mut BigganGenerator)| {
            let mut network = tiny(Some(CLASSES));
            change(&mut network);
            network.graph()
        };
        refusals([
            (changed(&|network| network.widths[1] = 9), "got 9 behind 8"),
            (
                changed(&|network| network.bottom = 6),
                "must be a positive multiple of 4, got 6",
            ),
            (
                changed(&|network| network.attention = Some(2)),
                "attention must stand before one of the 2 blocks",
            ),
            (
                changed(&|network| network.upsamples = vec![true]),
                "got 2 widths and 1 upsamples",
            ),
            (
                changed(&|network| network.resize = Some(0)),
                "resize must be from 1",
            ),
            (
                changed(&|network| {
                    network.classes = Some(Classes {
                        n_classes: 0,
                        ..CLASSES
                    })
                }),
                "n_classes must be from 1",
            ),
        ]);
    }
}
