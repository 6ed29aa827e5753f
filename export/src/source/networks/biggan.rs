//! The BigGAN-deep energy networks (Brock et al. 2019), without any normalisation.
//!
//! `conv3×3`, blocks, one layer of self-attention before one of them, then `act → mean over H, W → linear to 1, no bias`. **block**, with m a
//! quarter of its input's channels: `act → conv1×1(→m) → act → conv3×3 → act → conv3×3 → act → [pool] → conv1×1(→out)` plus the shortcut `[pool]`,
//! behind which the missing channels are put, where there are any: a `conv1×1` of the pooled input.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::op::{Binary, Concat};
use crate::graph::{Graph, Value};

/// A BigGAN-deep energy network on square images. `widths` and `pools` have one entry per block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Biggan {
    /// Rows and columns of an image.
    pub image_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels behind the first convolution.
    pub stem: usize,
    /// Channels behind each block; no block has fewer than its input.
    pub widths: Vec<usize>,
    /// Whether each block halves the image; an odd last row and column is left out.
    pub pools: Vec<bool>,
    /// The block before which attention stands, counted from 0.
    pub attention: Option<usize>,
    /// The activation everywhere.
    pub activation: Activation,
}

const CHECK: Checker = Checker("biggan");
/// Input channels of a block per channel within it.
const REDUCTION: usize = 4;

impl Biggan {
    /// 3×64×64; width 48 in the reference.
    pub fn biggan64(width: usize) -> Biggan {
        let blocks = [
            (false, 1),
            (true, 2),
            (false, 2),
            (true, 4),
            (false, 4),
            (true, 8),
            (false, 8),
            (true, 16),
            (false, 16),
        ];
        Biggan::published(64, width, &blocks, 1)
    }

    /// 3×128×128; width 48 in the reference.
    pub fn biggan128(width: usize) -> Biggan {
        let blocks = [
            (true, 2),
            (false, 2),
            (true, 4),
            (false, 4),
            (true, 8),
            (false, 8),
            (true, 16),
            (false, 16),
            (true, 16),
            (false, 16),
        ];
        Biggan::published(128, width, &blocks, 2)
    }

    /// 3×224×224; width 48 in the reference.
    pub fn biggan224(width: usize) -> Biggan {
        let blocks = [
            (true, 2),
            (false, 2),
            (true, 4),
            (false, 4),
            (true, 8),
            (false, 8),
            (true, 8),
            (false, 8),
            (true, 16),
            (false, 16),
            (true, 16),
            (false, 16),
        ];
        Biggan::published(224, width, &blocks, 4)
    }

    /// [`Biggan::biggan224`] on 3×256×256.
    pub fn biggan256(width: usize) -> Biggan {
        Biggan {
            image_size: 256,
            ..Biggan::biggan224(width)
        }
    }

    fn published(
        image_size: usize,
        width: usize,
        blocks: &[(bool, usize)],
        attention: usize,
    ) -> Biggan {
        Biggan {
            image_size,
            channels: 3,
            stem: width,
            widths: blocks
                .iter()
                .map(|(_, factor)| width.saturating_mul(*factor))
                .collect(),
            pools: blocks.iter().map(|(pools, _)| *pools).collect(),
            attention: Some(attention),
            activation: Activation::Relu,
        }
    }

    /// The network as a graph: input `x [N, C, S, S]`, output `energy [N]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        self.check()?;
        let (mut layers, x) = Layers::on_images(self.channels, self.image_size)?;
        let mut features = layers.conv("stem", x, self.stem, 3)?;
        for (index, (&width, &pools)) in self.widths.iter().zip(&self.pools).enumerate() {
            if self.attention == Some(index) {
                features = layers.attention("attention", features)?;
            }
            features = self.block(
                &mut layers,
                &format!("block{index}"),
                features,
                width,
                pools,
            )?;
        }
        let energy = layers.energy_head(features, self.activation)?;
        layers.0.set_output("energy", energy);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }

    fn check(&self) -> Result<()> {
        CHECK.extents(&[
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("stem", self.stem),
        ])?;
        CHECK.blocks(&self.widths, ("pools", &self.pools))?;
        let mut size = self.image_size;
        let mut inputs = self.stem;
        for (index, (&width, &pools)) in self.widths.iter().zip(&self.pools).enumerate() {
            if self.attention == Some(index) {
                CHECK.attention(inputs, size)?;
            }
            CHECK.multiple(
                &format!("the input width of block {index}"),
                inputs,
                REDUCTION,
            )?;
            CHECK.ensure(width >= inputs, || {
                format!("block {index} must not have fewer channels than its input, got {width} behind {inputs}")
            })?;
            CHECK.ensure(!pools || size >= 2, || {
                format!("image_size {} is too small for its pools", self.image_size)
            })?;
            size = if pools { size / 2 } else { size };
            inputs = width;
        }
        CHECK.position(self.attention, self.widths.len())?;
        self.activation.check(CHECK.0)
    }

    fn block(
        &self,
        layers: &mut Layers,
        name: &str,
        x: Value,
        width: usize,
        pools: bool,
    ) -> Result<Value> {
        let inner = layers.extent(x, 1) / REDUCTION;
        let mut branch = x;
        for (index, kernel) in [(0, 1), (1, 3), (2, 3)] {
            branch = layers.active(&format!("{name}.act{index}"), branch, self.activation)?;
            branch = layers.conv(&format!("{name}.conv{index}"), branch, inner, kernel)?;
        }
        branch = layers.active(&format!("{name}.act3"), branch, self.activation)?;
        let mut shortcut = x;
        if pools {
            branch = layers.pool(&format!("{name}.pool"), branch)?;
            shortcut = layers.pool(&format!("{name}.shortcut.pool"), shortcut)?;
        }
        branch = layers.conv(&format!("{name}.conv3"), branch, width, 1)?;
        let missing = width - layers.extent(x, 1);
        if missing > 0 {
            let more = layers.conv(&format!("{name}.shortcut"), shortcut, missing, 1)?;
            let concat = Concat { axis: 1 };
            shortcut = layers
                .0
                .apply(&format!("{name}.widened"), concat, &[shortcut, more])?;
        }
        layers.0.apply(name, Binary::Add, &[branch, shortcut])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::source::networks::testing::{check_slope, n_parameters, refusals};

    fn tiny(activation: Activation) -> Biggan {
        Biggan {
            image_size: 7,
            channels: 2,
            stem: 8,
            widths: vec![8, 12, 12],
            pools: vec![false, true, true],
            attention: Some(1),
            activation,
        }
    }

    /// With m = v/4, a block from v to w channels has vm + m, twice 9m² + m, mw + w, and (w − v)v + (w − v) of the shortcut; attention
    /// on v channels v²/8 twice, v²/2 twice and γ.
    #[test]
    fn the_published_ones_have_their_parameters() {
        let block = |v: usize, w: usize| {
            let m = v / 4;
            v * m + m + 2 * (9 * m * m + m) + m * w + w + (w - v) * v + (w - v)
        };
        let attention = |v: usize| 2 * v * v / 8 + 2 * v * v / 2 + 1;
        let factors: [(Biggan, &[usize], usize); 4] = [
            (Biggan::biggan64(48), &[1, 1, 2, 2, 4, 4, 8, 8, 16, 16], 1),
            (
                Biggan::biggan128(48),
                &[1, 2, 2, 4, 4, 8, 8, 16, 16, 16, 16],
                2,
            ),
            (
                Biggan::biggan224(48),
                &[1, 2, 2, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16],
                4,
            ),
            (
                Biggan::biggan256(48),
                &[1, 2, 2, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16],
                4,
            ),
        ];
        for (network, factors, attended) in factors {
            let blocks: usize = factors
                .windows(2)
                .map(|pair| block(48 * pair[0], 48 * pair[1]))
                .sum();
            let wanted = 3 * 9 * 48 + 48 + blocks + attention(48 * attended) + 16 * 48;
            let graph = network.graph().unwrap();
            assert_eq!(n_parameters(&graph), wanted, "{}", network.image_size);
            let energy = graph.output("energy").unwrap();
            assert_eq!(graph.shape(energy), &Shape::batched(&[]));
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for activation in [Activation::Relu, Activation::Silu] {
            let graph = tiny(activation).graph().unwrap();
            check_slope(&graph, "energy", "x");
        }
    }

    #[test]
    fn refuses_descriptions_that_make_no_sense() {
        let changed = |change: &dyn Fn(&mut Biggan)| {
            let mut network = tiny(Activation::Relu);
            change(&mut network);
            network.graph()
        };
        refusals([
            (
                changed(&|network| network.stem = 6),
                "must be a positive multiple of 4, got 6",
            ),
            (changed(&|network| network.widths[1] = 4), "got 4 behind 8"),
            (
                changed(&|network| network.attention = Some(3)),
                "attention must stand before one of the 3 blocks, got 3",
            ),
            (
                changed(&|network| network.attention = Some(2)),
                "must be a positive multiple of 8, got 12",
            ),
            (
                changed(&|network| network.image_size = 3),
                "is too small for its pools",
            ),
            (
                changed(&|network| network.image_size = 1),
                "attention needs an image of at least 2×2",
            ),
            (
                changed(&|network| network.pools.truncate(2)),
                "got 3 widths and 2 pools",
            ),
            (
                changed(&|network| network.widths[2] = 1 << 20),
                "each width must be from 1 to 65536",
            ),
            (
                changed(&|network| network.image_size = 1 << 16),
                "are too large",
            ),
            (
                Biggan::biggan64(usize::MAX).graph(),
                "stem must be from 1 to 65536",
            ),
        ]);
    }
}
