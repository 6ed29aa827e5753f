//! The layers that networks are built from.

use super::Activation;
use crate::error::Result;
use crate::graph::op::{
    AveragePool, Binary, Conv, KeepDims, MatMul, Reduce, ReduceKind, Reshape, Upsample,
};
use crate::graph::{Dim, Graph, Shape, Value};

/// A graph under construction.
pub(super) struct Layers(pub Graph);

impl Layers {
    /// A network that begins with images `x [N, C, S, S]`.
    pub fn on_images(channels: usize, size: usize) -> Result<(Layers, Value)> {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[channels, size, size]))?;
        Ok((Layers(graph), x))
    }

    /// The activation.
    pub fn active(&mut self, name: &str, x: Value, activation: Activation) -> Result<Value> {
        activation.apply(&mut self.0, name, x)
    }

    /// `kernel × kernel` convolution to `outputs` channels with a bias, stride 1, same size. Weights `NAME.weight`, `NAME.bias`.
    pub fn conv(&mut self, name: &str, x: Value, outputs: usize, kernel: usize) -> Result<Value> {
        self.strided_conv(name, x, outputs, kernel, 1)
    }

    /// [`Layers::conv`] of which every `stride`-th row and column stays.
    pub fn strided_conv(
        &mut self,
        name: &str,
        x: Value,
        outputs: usize,
        kernel: usize,
        stride: usize,
    ) -> Result<Value> {
        let weight = self.kernel(name, x, outputs, kernel)?;
        let bias = self.0.weight(&format!("{name}.bias"), &[outputs])?;
        let conv = Conv {
            strides: [stride; 2],
            ..Conv::padded(kernel / 2)
        };
        self.0.apply(name, conv, &[x, weight, bias])
    }

    /// The linear map of channels at each pixel, without a bias. Weight `NAME.weight [outputs, C, 1, 1]`.
    pub fn pixelwise(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let weight = self.kernel(name, x, outputs, 1)?;
        self.0.apply(name, Conv::padded(0), &[x, weight])
    }

    fn kernel(&mut self, name: &str, x: Value, outputs: usize, kernel: usize) -> Result<Value> {
        let inputs = self.extent(x, 1);
        let sizes = [outputs, inputs, kernel, kernel];
        self.0.weight(&format!("{name}.weight"), &sizes)
    }

    /// The mean over tiles of 2×2; an odd last row or column is left out.
    pub fn pool(&mut self, name: &str, x: Value) -> Result<Value> {
        self.0.apply(name, AveragePool::tiles(2), &[x])
    }

    /// The mean over rows and columns: `[N, C, H, W] → [N, C]`.
    pub fn mean(&mut self, name: &str, x: Value) -> Result<Value> {
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![2, 3],
            keep_dims: KeepDims::No,
        };
        self.0.apply(name, mean, &[x])
    }

    /// The matrix product of `[.., K]` with weight `NAME.weight [K, outputs]`.
    pub fn linear(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let weight = self.matrix(name, x, outputs)?;
        self.0.apply(name, MatMul, &[x, weight])
    }

    /// [`Layers::linear`] plus weight `NAME.bias [outputs]`.
    pub fn affine(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let weight = self.matrix(name, x, outputs)?;
        let bias = self.0.weight(&format!("{name}.bias"), &[outputs])?;
        let product = self
            .0
            .apply(&format!("{name}.product"), MatMul, &[x, weight])?;
        self.0.apply(name, Binary::Add, &[product, bias])
    }

    fn matrix(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let last = self.0.shape(x).rank() - 1;
        let inputs = self.extent(x, last);
        self.0.weight(&format!("{name}.weight"), &[inputs, outputs])
    }

    /// The head of an energy: activation, mean over rows and columns, linear map to one number without a bias:
    /// `[N, C, H, W] → [N]`. Weight `head.weight [C, 1]`.
    pub fn energy_head(&mut self, x: Value, activation: Activation) -> Result<Value> {
        let active = activation.apply(&mut self.0, "head.act", x)?;
        let mean = self.mean("head.mean", active)?;
        let energy = self.linear("head", mean, 1)?;
        let shape = Shape(vec![Dim::BATCH]);
        self.0.apply("head.energy", Reshape { shape }, &[energy])
    }

    /// Each pixel as 2×2 of them.
    pub fn repeated(&mut self, name: &str, x: Value) -> Result<Value> {
        self.0.apply(name, Upsample { scales: [2, 2] }, &[x])
    }

    /// The pixels as tokens: `[N, C, H, W] → [N, H·W, C]`.
    pub fn pixels(&mut self, name: &str, x: Value) -> Result<Value> {
        let [channels, height, width] = [1, 2, 3].map(|axis| self.extent(x, axis));
        let flat = self.reshaped(&format!("{name}.flat"), x, &[channels, height * width])?;
        self.swapped(name, flat)
    }

    /// The value in another shape for each image.
    pub fn reshaped(&mut self, name: &str, x: Value, sizes: &[usize]) -> Result<Value> {
        let shape = Shape::batched(sizes);
        self.0.apply(name, Reshape { shape }, &[x])
    }

    /// The extent of an axis that is known.
    pub fn extent(&self, x: Value, axis: usize) -> usize {
        self.0.shape(x).size(axis).unwrap_or(0)
    }
}
