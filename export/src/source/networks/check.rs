//! What descriptions of networks have to fulfil before a graph is built.

use crate::error::{Error, Result};
use crate::graph::Graph;

/// Largest image size, width and number of classes.
pub(super) const MAX_EXTENT: usize = 1 << 16;
/// Largest number of values of an image, and of the weights together: four bytes each, and ONNX files end at 2 GiB.
pub(super) const MAX_VALUES: usize = 1 << 28;
/// Largest number of blocks.
pub(super) const MAX_BLOCKS: usize = 1000;

/// A network's name, for what is wrong with its description.
#[derive(Clone, Copy)]
pub(super) struct Checker(pub &'static str);

impl Checker {
    /// The error that says so.
    pub fn error(self, problem: String) -> Error {
        Error::Network {
            network: self.0,
            problem,
        }
    }

    /// `Err` with that problem unless the condition holds.
    pub fn ensure(self, holds: bool, problem: impl FnOnce() -> String) -> Result<()> {
        match holds {
            true => Ok(()),
            false => Err(self.error(problem())),
        }
    }

    /// Extents that must lie between 1 and [`MAX_EXTENT`].
    pub fn extents(self, extents: &[(&str, usize)]) -> Result<()> {
        extents.iter().try_for_each(|(name, extent)| {
            self.ensure((1..=MAX_EXTENT).contains(extent), || {
                format!("{name} must be from 1 to {MAX_EXTENT}, got {extent}")
            })
        })
    }

    /// Widths of blocks: at least one, at most [`MAX_BLOCKS`], each an extent; and as many flags as widths.
    pub fn blocks(self, widths: &[usize], flags: (&str, &[bool])) -> Result<()> {
        self.ensure(
            (1..=MAX_BLOCKS).contains(&widths.len()) && widths.len() == flags.1.len(),
            || {
                let (n_widths, n_flags) = (widths.len(), flags.1.len());
                format!(
                    "expected from 1 to {MAX_BLOCKS} widths and as many {}, got {n_widths} widths and {n_flags} {}",
                    flags.0, flags.0
                )
            },
        )?;
        widths
            .iter()
            .try_for_each(|&width| self.extents(&[("each width", width)]))
    }

    /// Square images of which some blocks halve rows and columns, which leaves none out.
    pub fn halving(
        self,
        [image_size, channels]: [usize; 2],
        widths: &[usize],
        pools: &[bool],
    ) -> Result<()> {
        self.extents(&[("image_size", image_size), ("channels", channels)])?;
        self.blocks(widths, ("pools", pools))?;
        let halvings = pools.iter().filter(|&&pools| pools).count() as u32;
        let tile = 2usize.checked_pow(halvings).unwrap_or(usize::MAX);
        self.ensure(image_size.is_multiple_of(tile), || {
            format!("image_size must be a positive multiple of {tile} for {halvings} pools, got {image_size}")
        })
    }

    /// Classes that are distinguished.
    pub fn classes(self, n_classes: usize) -> Result<()> {
        self.extents(&[("n_classes", n_classes)])?;
        self.ensure(n_classes >= 2, || {
            format!("n_classes must be at least 2, got {n_classes}")
        })
    }

    /// A width that is split into a number of parts.
    pub fn multiple(self, name: &str, width: usize, of: usize) -> Result<()> {
        self.ensure(width > 0 && width.is_multiple_of(of), || {
            format!("{name} must be a positive multiple of {of}, got {width}")
        })
    }

    /// Attention on images of those channels and that size.
    pub fn attention(self, channels: usize, size: usize) -> Result<()> {
        self.multiple("the width before attention", channels, 8)?;
        self.ensure(size >= 2, || {
            format!("attention needs an image of at least 2×2, got {size}×{size}")
        })
    }

    /// The block before which attention stands.
    pub fn position(self, attention: Option<usize>, n_blocks: usize) -> Result<()> {
        self.ensure(attention.is_none_or(|index| index < n_blocks), || {
            let index = attention.unwrap_or_default();
            format!("attention must stand before one of the {n_blocks} blocks, got {index}")
        })
    }

    /// The term under the root of a batch norm.
    pub fn epsilon(self, epsilon: f32) -> Result<()> {
        self.ensure(epsilon > 0.0 && epsilon.is_finite(), || {
            format!("norm_epsilon must be positive and finite, got {epsilon}")
        })
    }

    /// Checks that all weights together, and each value of one image, are not too many.
    pub fn size(self, graph: &Graph) -> Result<()> {
        let elements = |value| graph.shape(value).elements_per_image();
        let n_parameters: usize = graph.weights().map(elements).sum();
        let largest = graph.values().map(elements).max().unwrap_or(0);
        self.ensure(n_parameters.max(largest) <= MAX_VALUES, || {
            format!("{n_parameters} parameters and layers of up to {largest} values are too large: at most {MAX_VALUES} of each")
        })
    }
}
