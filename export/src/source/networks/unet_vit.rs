//! The energy networks of Energy Matching (Balcerak et al. 2025): a U-Net (Dhariwal and Nichol 2021) from images to images, and a transformer
//! that makes a number of the result.
//!
//! **U-Net**: `conv3×3`; on the way down, at each level, `blocks` residual blocks, then a `conv3×3` of stride 2 unless it is the last level;
//! block, attention, block; on the way up, at each level, `blocks + 1` residual blocks, each of which also sees what the way down left there,
//! the latest first, then, unless it is the first level, pixels doubled and a `conv3×3`; `norm → act → conv3×3` to the channels of the image.
//! Attention stands behind each block of the levels that have it. **block**: `norm → act → conv3×3 → + time → norm → act → conv3×3` plus the
//! shortcut, a `conv1×1` if the width changes. The same network with a time learns diffusion; this one is given the time ½.
//!
//! **Transformer**: patches, each a token with a learned position; encoder layers; the mean over tokens; a linear map to one number, no bias,
//! times `scale`.

use serde::{Deserialize, Serialize};

use super::check::{Checker, MAX_BLOCKS};
use super::layers::Layers;
use super::tokens::Offset;
use super::{Activation, glorot};
use crate::error::Result;
use crate::graph::op::{Binary, Concat, Conv, KeepDims, Reduce, ReduceKind, Reshape};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Graph, Shape, Value};

/// A U-Net with a transformer behind it, on square images. `widths` and `attention` have one entry per level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetVit {
    /// Rows and columns of an image.
    pub image_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels of each level of the U-Net; each level has half the rows and columns of the one before.
    pub widths: Vec<usize>,
    /// Which levels have attention.
    pub attention: Vec<bool>,
    /// Residual blocks of a level on the way down.
    pub blocks: usize,
    /// Groups of channels that are normalised together.
    pub groups: usize,
    /// Channels of each head of the U-Net's attention.
    pub head_channels: usize,
    /// Rows and columns of a patch.
    pub patch: usize,
    /// Values of a token.
    pub embedding: usize,
    /// Layers of the transformer.
    pub layers: usize,
    /// Heads of its attention.
    pub heads: usize,
    /// What the energy is multiplied by.
    pub scale: f32,
    /// The activation of the U-Net; the transformer has GELU.
    pub activation: Activation,
}

const CHECK: Checker = Checker("unet_vit");
/// What stands in the place of the time.
const TIME: f64 = 0.5;

/// The U-Net under construction.
struct Unet<'a> {
    network: &'a UnetVit,
    layers: Layers,
    /// The activation of what the time becomes, `[1, 4·width]`.
    time: Value,
}

impl UnetVit {
    /// 3×32×32; width 128 in the reference.
    pub fn unet_vit32(width: usize) -> UnetVit {
        let twice = width.saturating_mul(2);
        UnetVit {
            image_size: 32,
            channels: 3,
            widths: vec![width, twice, twice, twice],
            attention: vec![false, true, false, false],
            blocks: 2,
            groups: width.min(32),
            head_channels: twice.min(64),
            patch: 4,
            embedding: width.saturating_mul(3),
            layers: 8,
            heads: 4,
            scale: 1000.0,
            activation: Activation::Silu,
        }
    }

    /// 1×28×28; width 32 in the reference.
    pub fn unet_vit28(width: usize) -> UnetVit {
        let twice = width.saturating_mul(2);
        UnetVit {
            image_size: 28,
            channels: 1,
            widths: vec![width, twice, twice],
            attention: vec![false, true, false],
            embedding: width.saturating_mul(4),
            layers: 2,
            heads: 2,
            scale: 100.0,
            ..UnetVit::unet_vit32(width)
        }
    }

    /// The network as a graph: input `x [N, C, S, S]`, output `energy [N]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        self.check()?;
        let (layers, x) = Layers::on_images(self.channels, self.image_size)?;
        let (mut layers, image) = Unet::new(self, layers)?.image(x)?;
        let energy = self.energy(&mut layers, image)?;
        layers.0.set_output("energy", energy);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn check(&self) -> Result<()> {
        let halvings: Vec<bool> = (0..self.widths.len()).map(|level| level > 0).collect();
        CHECK.blocks(&self.widths, ("attention", &self.attention))?;
        CHECK.halving([self.image_size, self.channels], &self.widths, &halvings)?;
        CHECK.extents(&[
            ("groups", self.groups),
            ("head_channels", self.head_channels),
            ("patch", self.patch),
            ("embedding", self.embedding),
            ("heads", self.heads),
        ])?;
        for (name, count) in [("blocks", self.blocks), ("layers", self.layers)] {
            CHECK.ensure((1..=MAX_BLOCKS).contains(&count), || {
                format!("{name} must be from 1 to {MAX_BLOCKS}, got {count}")
            })?;
        }
        CHECK.multiple("the first width", self.widths[0], 2)?;
        for (level, &width) in self.widths.iter().enumerate() {
            CHECK.multiple(&format!("width {level}"), width, self.groups)?;
            if self.attention[level] || level + 1 == self.widths.len() {
                let name = format!("width {level}, which has attention in heads,");
                CHECK.multiple(&name, width, self.head_channels)?;
            }
        }
        CHECK.multiple("image_size", self.image_size, self.patch)?;
        CHECK.multiple("embedding", self.embedding, self.heads)?;
        CHECK.ensure(self.scale > 0.0 && self.scale.is_finite(), || {
            format!("scale must be positive and finite, got {}", self.scale)
        })?;
        self.activation.check(CHECK.0)
    }

    /// What the transformer makes of an image: `[N, C, S, S] → [N]`.
    fn energy(&self, layers: &mut Layers, image: Value) -> Result<Value> {
        let tokens = self.tokens(layers, image)?;
        let mut x = tokens;
        for layer in 1..=self.layers {
            let offset = match layer == self.layers {
                true => Offset::None,
                false => Offset::Learned,
            };
            x = layers.encoder_layer(&format!("layer{layer}"), x, self.heads, offset)?;
        }
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let mean = layers.0.apply("head.mean", mean, &[x])?;
        let number = layers.linear("head", mean, 1)?;
        let shape = Shape(vec![Dim::BATCH]);
        let number = layers
            .0
            .apply("head.number", Reshape { shape }, &[number])?;
        let scale = layers.0.scalar("head.scale", self.scale);
        layers.0.apply("head.energy", Binary::Mul, &[number, scale])
    }

    /// Patches as tokens with their positions: `[N, C, S, S] → [N, T, E]`. Weights `patches.weight`, `patches.bias` and `position [1, T, E]`.
    fn tokens(&self, layers: &mut Layers, image: Value) -> Result<Value> {
        let sizes = [self.embedding, self.channels, self.patch, self.patch];
        let weight = layers.0.weight("patches.weight", &sizes)?;
        let bias = layers.0.weight("patches.bias", &[self.embedding])?;
        let conv = Conv {
            strides: [self.patch; 2],
            ..Conv::padded(0)
        };
        let patches = layers.0.apply("patches", conv, &[image, weight, bias])?;
        let tokens = layers.pixels("tokens", patches)?;
        let n_tokens = layers.extent(tokens, 1);
        let position = layers
            .0
            .weight("position", &[1, n_tokens, self.embedding])?;
        layers.0.apply("placed", Binary::Add, &[tokens, position])
    }

    /// How far from 0 a first weight is drawn: as PyTorch's layers do, but patches as Glorot and Bengio, and not at all if the layer is the
    /// last one of what is added to something, so that each of these begins as nothing.
    pub(super) fn bound(name: &str, fans: [usize; 2]) -> f32 {
        match name {
            "patches.weight" => glorot(name, fans),
            name if name.ends_with(".last.weight") => 0.0,
            _ => (fans[0] as f32).sqrt().recip(),
        }
    }
}

impl<'a> Unet<'a> {
    /// With what the time becomes: `cos(t·f)` and `sin(t·f)` for frequencies f from 1 down to almost 1/10,000, `linear → act → linear → act`.
    fn new(network: &'a UnetVit, mut layers: Layers) -> Result<Unet<'a>> {
        const LONGEST: f64 = 10_000.0;
        let width = network.widths[0];
        let half = width / 2;
        let angles = (0..half).map(|index| TIME * LONGEST.powf(-(index as f64) / half as f64));
        let waves = angles
            .clone()
            .map(f64::cos)
            .chain(angles.map(f64::sin))
            .map(|wave| wave as f32);
        let waves = layers
            .0
            .constant("time.waves", Tensor::new(&[1, width], waves.collect()));
        let mut time = waves;
        for index in 1..=2 {
            let name = format!("time.linear{index}");
            time = layers.affine(&name, time, 4 * width)?;
            time = layers.active(&format!("time.act{index}"), time, network.activation)?;
        }
        Ok(Unet {
            network,
            layers,
            time,
        })
    }

    /// The image that becomes of one.
    fn image(mut self, x: Value) -> Result<(Layers, Value)> {
        let UnetVit {
            widths, channels, ..
        } = self.network;
        let mut features = self.layers.conv("stem", x, widths[0], 3)?;
        let mut left = vec![features];
        for level in 0..widths.len() {
            for block in 1..=self.network.blocks {
                features = self.step(&format!("down{level}.{block}"), features, level)?;
                left.push(features);
            }
            if level + 1 < widths.len() {
                let name = format!("down{level}.halved");
                features = self
                    .layers
                    .strided_conv(&name, features, widths[level], 3, 2)?;
                left.push(features);
            }
        }
        features = self.middle(features)?;
        for level in (0..widths.len()).rev() {
            for block in 1..=self.network.blocks + 1 {
                let name = format!("up{level}.{block}");
                let beside = left.pop().map(|beside| vec![features, beside]);
                let joined = self.layers.0.apply(
                    &format!("{name}.joined"),
                    Concat { axis: 1 },
                    &beside.unwrap_or_default(),
                )?;
                features = self.step(&name, joined, level)?;
            }
            if level > 0 {
                let name = format!("up{level}.doubled");
                features = self.layers.repeated(&format!("{name}.pixels"), features)?;
                features = self.layers.conv(&name, features, widths[level], 3)?;
            }
        }
        features = self.active("image", features)?;
        let image = self.layers.conv("image.last", features, *channels, 3)?;
        Ok((self.layers, image))
    }

    fn middle(&mut self, x: Value) -> Result<Value> {
        let width = self.layers.extent(x, 1);
        let x = self.block("middle.1", x, width)?;
        let x = self.attention("middle.attention", x)?;
        self.block("middle.2", x, width)
    }

    /// A residual block, and attention if the level has it.
    fn step(&mut self, name: &str, x: Value, level: usize) -> Result<Value> {
        let x = self.block(name, x, self.network.widths[level])?;
        match self.network.attention[level] {
            true => self.attention(&format!("{name}.attention"), x),
            false => Ok(x),
        }
    }

    fn block(&mut self, name: &str, x: Value, width: usize) -> Result<Value> {
        let branch = self.active(&format!("{name}.before"), x)?;
        let branch = self
            .layers
            .conv(&format!("{name}.first"), branch, width, 3)?;
        let time = self
            .layers
            .affine(&format!("{name}.time"), self.time, width)?;
        let shape = Shape::fixed(&[1, width, 1, 1]);
        let time =
            self.layers
                .0
                .apply(&format!("{name}.time.image"), Reshape { shape }, &[time])?;
        let branch = self
            .layers
            .0
            .apply(&format!("{name}.timed"), Binary::Add, &[branch, time])?;
        let branch = self.active(&format!("{name}.between"), branch)?;
        let branch = self
            .layers
            .conv(&format!("{name}.last"), branch, width, 3)?;
        let shortcut = match self.layers.extent(x, 1) == width {
            true => x,
            false => self.layers.conv(&format!("{name}.shortcut"), x, width, 1)?,
        };
        self.layers.0.apply(name, Binary::Add, &[shortcut, branch])
    }

    /// `x + attention(norm(x))` over all pixels.
    fn attention(&mut self, name: &str, x: Value) -> Result<Value> {
        let [channels, height, width] = [1, 2, 3].map(|axis| self.layers.extent(x, axis));
        let normal = self
            .layers
            .group_norm(&format!("{name}.norm"), x, self.network.groups)?;
        let pixels = self.layers.pixels(&format!("{name}.pixels"), normal)?;
        let heads = channels / self.network.head_channels;
        let seen = self.layers.self_attention(name, pixels, heads)?;
        let seen = self
            .layers
            .affine(&format!("{name}.last"), seen, channels)?;
        let seen = self.layers.swapped(&format!("{name}.channels"), seen)?;
        let seen =
            self.layers
                .reshaped(&format!("{name}.image"), seen, &[channels, height, width])?;
        self.layers
            .0
            .apply(&format!("{name}.added"), Binary::Add, &[x, seen])
    }

    /// Group norm and activation.
    fn active(&mut self, name: &str, x: Value) -> Result<Value> {
        let norm = format!("{name}.norm");
        let normal = self.layers.group_norm(&norm, x, self.network.groups)?;
        self.layers
            .active(&format!("{name}.act"), normal, self.network.activation)
    }
}

#[cfg(test)]
mod tests;
