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

/// Checks what all networks that halve square images have in common.
pub(super) fn check_description(
    network: &'static str,
    image: [usize; 2],
    widths: &[usize],
    pools: &[bool],
) -> Result<()> {
    let [image_size, channels] = image;
    let problem = |problem: String| Err(Error::Network { network, problem });
    if widths.is_empty() || widths.len() != pools.len() {
        let counts = (widths.len(), pools.len());
        return problem(format!(
            "expected as many pools as widths and at least one, got {} widths and {} pools",
            counts.0, counts.1
        ));
    }
    if channels == 0 || widths.contains(&0) {
        return problem(format!(
            "channels and widths must be positive, got {channels} and {widths:?}"
        ));
    }
    let largest = widths
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(image_size)
        .max(channels);
    let convolutions = widths.iter().fold(0, |sum: usize, &width| {
        sum.saturating_add(18usize.saturating_mul(width.saturating_mul(width)))
    });
    if largest > MAX_EXTENT || widths.len() > MAX_BLOCKS {
        return problem(format!(
            "expected at most {MAX_BLOCKS} widths, and sizes, channels and widths of at most {MAX_EXTENT}, got {} widths and {largest}",
            widths.len()
        ));
    }
    if channels * image_size * image_size > MAX_VALUES || convolutions > MAX_VALUES {
        return problem(format!(
            "{channels}×{image_size}×{image_size} images and widths {widths:?} are too large: at most {MAX_VALUES} values each for an image and all weights"
        ));
    }
    let halvings = pools.iter().filter(|&&pools| pools).count() as u32;
    let tile = 2usize.checked_pow(halvings).unwrap_or(usize::MAX);
    if image_size == 0 || image_size % tile != 0 {
        return problem(format!(
            "image_size must be a positive multiple of {tile} for {halvings} pools, got {image_size}"
        ));
    }
    Ok(())
}

/// Checks the affine layer of a classifier.
pub(super) fn check_head(n_features: usize, n_classes: usize) -> Result<()> {
    let network = "conv_classifier";
    if n_classes < 2 {
        let problem = format!("n_classes must be at least 2, got {n_classes}");
        return Err(Error::Network { network, problem });
    }
    if n_features.saturating_mul(n_classes) > MAX_VALUES {
        let problem = format!(
            "{n_features} features times {n_classes} classes are too large: at most {MAX_VALUES} weights"
        );
        return Err(Error::Network { network, problem });
    }
    Ok(())
}
