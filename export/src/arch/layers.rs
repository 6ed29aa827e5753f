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
        self.0.apply(name, AveragePool::halving(2), &[x])
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
    let halvings = pools.iter().filter(|&&pools| pools).count() as u32;
    let tile = 2usize.checked_pow(halvings).unwrap_or(usize::MAX);
    if image_size == 0 || image_size % tile != 0 {
        return problem(format!(
            "image_size must be a positive multiple of {tile} for {halvings} pools, got {image_size}"
        ));
    }
    Ok(())
}
