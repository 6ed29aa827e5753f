//! WideResNet classifiers (Zagoruyko and Komodakis 2016).
//!
//! `conv3×3(→16)`, three groups of `(depth − 4) / 6` blocks of widths 16k, 32k and 64k, `norm → act → mean over H, W → affine`. The first
//! block of the second and third group halves the image. **block**: `norm → act → conv3×3 → norm → act → conv3×3 (stride)` plus the
//! input, through a strided `conv1×1` where width or size change. As in the published system's code, and unlike the paper's, all
//! convolutions have a bias, the second one of a block strides, and the shortcut starts at the block's input.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::op::Binary;
use crate::graph::{Graph, Value};

/// A residual classifier of square images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WideResnet {
    /// Rows and columns of an image, a multiple of 4.
    pub image_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Layers with weights along the longest path but the shortcuts': 6n + 4 with n blocks a group.
    pub depth: usize,
    /// The factor k of the widths.
    pub widening: usize,
    /// Number of classes.
    pub n_classes: usize,
    /// The term that batch norms add to variances.
    pub norm_epsilon: f32,
    /// The activation everywhere.
    pub activation: Activation,
}

const CHECK: Checker = Checker("wide_resnet");
/// Channels behind the first convolution, and of the first group without widening.
const BASE_WIDTH: usize = 16;

impl WideResnet {
    /// Depth 28 on 3×32×32 for 10 classes; widening 10 in the reference.
    pub fn wrn28(widening: usize) -> WideResnet {
        WideResnet {
            image_size: 32,
            channels: 3,
            depth: 28,
            widening,
            n_classes: 10,
            norm_epsilon: 1e-5,
            activation: Activation::Relu,
        }
    }

    /// The network as a graph: input `x [N, C, S, S]`, output `logits [N, n_classes]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        self.check()?;
        let (mut layers, x) = Layers::on_images(self.channels, self.image_size)?;
        let mut features = layers.conv("conv1", x, BASE_WIDTH, 3)?;
        for (group, stride) in [(1, 1), (2, 2), (3, 2)] {
            features = self.group(&mut layers, features, group, stride)?;
        }
        features = self.active(&mut layers, "norm", features)?;
        let mean = layers.mean("head.mean", features)?;
        let logits = layers.affine("head", mean, self.n_classes)?;
        layers.0.set_output("logits", logits);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn check(&self) -> Result<()> {
        CHECK.extents(&[
            ("image_size", self.image_size),
            ("channels", self.channels),
            (
                "64 · widening",
                self.widening.saturating_mul(4 * BASE_WIDTH),
            ),
        ])?;
        CHECK.multiple("image_size", self.image_size, 4)?;
        CHECK.classes(self.n_classes)?;
        CHECK.ensure(
            (10..=1000).contains(&self.depth) && self.depth % 6 == 4,
            || {
                format!(
                    "depth must be 6n + 4 with n from 1 to 166, got {}",
                    self.depth
                )
            },
        )?;
        CHECK.epsilon(self.norm_epsilon)?;
        self.activation.check(CHECK.0)
    }

    fn group(
        &self,
        layers: &mut Layers,
        mut x: Value,
        group: usize,
        stride: usize,
    ) -> Result<Value> {
        let width = self.widening * (BASE_WIDTH << (group - 1));
        for block in 1..=(self.depth - 4) / 6 {
            let stride = if block == 1 { stride } else { 1 };
            x = self.block(
                layers,
                &format!("group{group}.block{block}"),
                x,
                width,
                stride,
            )?;
        }
        Ok(x)
    }

    fn block(
        &self,
        layers: &mut Layers,
        name: &str,
        x: Value,
        width: usize,
        stride: usize,
    ) -> Result<Value> {
        let branch = self.active(layers, &format!("{name}.norm1"), x)?;
        let branch = layers.conv(&format!("{name}.conv1"), branch, width, 3)?;
        let branch = self.active(layers, &format!("{name}.norm2"), branch)?;
        let branch = layers.strided_conv(&format!("{name}.conv2"), branch, width, 3, stride)?;
        let shortcut = match stride == 1 && layers.extent(x, 1) == width {
            true => x,
            false => layers.strided_conv(&format!("{name}.shortcut"), x, width, 1, stride)?,
        };
        layers.0.apply(name, Binary::Add, &[branch, shortcut])
    }

    /// Batch norm and activation.
    fn active(&self, layers: &mut Layers, norm: &str, x: Value) -> Result<Value> {
        let normal = layers.norm(norm, x, self.norm_epsilon)?;
        layers.active(&format!("{norm}.act"), normal, self.activation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::source::networks::testing::{check_slope, n_parameters, refusals};

    fn tiny() -> WideResnet {
        WideResnet {
            image_size: 8,
            channels: 2,
            depth: 10,
            widening: 1,
            n_classes: 3,
            ..WideResnet::wrn28(1)
        }
    }

    /// Per block of width w behind v channels: norms 4v + 4w, convolutions 9vw + w and 9w² + w, shortcut vw + w where there is one.
    #[test]
    fn the_published_one_has_its_parameters() {
        let block = |v: usize, w: usize| {
            let shortcut = if v == w { 0 } else { v * w + w };
            4 * v + 4 * w + 9 * v * w + w + 9 * w * w + w + shortcut
        };
        let group = |v: usize, w: usize| block(v, w) + 3 * block(w, w);
        let wanted = 3 * 9 * 16 + 16 + group(16, 160) + group(160, 320) + group(320, 640);
        let wanted = wanted + 4 * 640 + 640 * 10 + 10;
        let graph = WideResnet::wrn28(10).graph().unwrap();
        assert_eq!(n_parameters(&graph), wanted);
        let logits = graph.output("logits").unwrap();
        assert_eq!(graph.shape(logits), &Shape::batched(&[10]));
    }

    #[test]
    fn gradients_match_finite_differences() {
        for activation in [Activation::Relu, Activation::Silu] {
            let network = WideResnet {
                activation,
                ..tiny()
            };
            check_slope(&network.graph().unwrap(), "logits", "x");
        }
    }

    #[test]
    fn refuses_descriptions_that_make_no_sense() {
        let changed = |change: &dyn Fn(&mut WideResnet)| {
            let mut network = tiny();
            change(&mut network);
            network.graph()
        };
        refusals([
            (
                changed(&|network| network.depth = 12),
                "depth must be 6n + 4 with n from 1 to 166, got 12",
            ),
            (
                changed(&|network| network.image_size = 30),
                "image_size must be a positive multiple of 4, got 30",
            ),
            (
                changed(&|network| network.n_classes = 1),
                "n_classes must be at least 2, got 1",
            ),
            (
                changed(&|network| network.widening = usize::MAX),
                "64 · widening must be from 1 to 65536",
            ),
            (
                changed(&|network| network.widening = 1000),
                "are too large: at most",
            ),
            (
                changed(&|network| network.norm_epsilon = 0.0),
                "norm_epsilon must be positive and finite, got 0",
            ),
        ]);
    }
}
