//! The layers that networks are built from.

use crate::error::Error;
use crate::graph::{Graph, Value};
use crate::op::{AveragePool, Binary, Conv, MatMul};

/// A graph under construction.
pub(super) struct Layers(pub Graph);

impl Layers {
    /// `kernel × kernel` convolution to `outputs` channels with a bias, stride 1, same size. Weights `NAME.weight`, `NAME.bias`.
    pub fn conv(
        &mut self,
        name: &str,
        x: Value,
        outputs: usize,
        kernel: usize,
    ) -> Result<Value, Error> {
        let inputs = self.0.shape(x).size(1).unwrap_or(0);
        let weight = self.0.weight(
            &format!("{name}.weight"),
            &[outputs, inputs, kernel, kernel],
        )?;
        let bias = self.0.weight(&format!("{name}.bias"), &[outputs])?;
        self.0
            .apply(name, Conv::padded(kernel / 2), &[x, weight, bias])
    }

    /// The mean over tiles of 2×2.
    pub fn pool(&mut self, name: &str, x: Value) -> Result<Value, Error> {
        self.0.apply(name, AveragePool::tiles(2), &[x])
    }

    /// The matrix product of `[N, K]` with weight `NAME.weight [K, outputs]`.
    pub fn linear(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value, Error> {
        let inputs = self.0.shape(x).size(1).unwrap_or(0);
        let weight = self
            .0
            .weight(&format!("{name}.weight"), &[inputs, outputs])?;
        self.0.apply(name, MatMul, &[x, weight])
    }

    /// [`Layers::linear`] plus weight `NAME.bias [outputs]`.
    pub fn affine(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value, Error> {
        let product = self.linear(&format!("{name}.product"), x, outputs)?;
        let bias = self.0.weight(&format!("{name}.bias"), &[outputs])?;
        self.0.apply(name, Binary::Add, &[product, bias])
    }
}

/// Largest image size, width and number of classes.
const MAX_EXTENT: usize = 1 << 16;
/// Largest number of values of an image, and of the weights together: four bytes each, and ONNX files end at 2 GiB.
const MAX_VALUES: usize = 1 << 28;
/// Largest number of blocks.
const MAX_BLOCKS: usize = 1000;

/// Checks what all networks on square images have in common.
pub(super) fn check_description(
    network: &'static str,
    image: [usize; 2],
    widths: &[usize],
    pools: &[bool],
) -> Result<(), Error> {
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
pub(super) fn check_head(n_features: usize, n_classes: usize) -> Result<(), Error> {
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
