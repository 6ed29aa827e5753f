//! Self-attention over the pixels of an image (Zhang et al. 2019), as BigGAN has it.

use super::layers::Layers;
use crate::error::Result;
use crate::graph::Value;
use crate::graph::op::{Binary, MatMul, MaxPool, Softmax, Transpose};

impl Layers {
    /// `x + γ · o(β g)` for `[N, C, H, W]`: θ and φ are linear maps of the channels to C/8, g one to C/2 and o one back to C, none with a
    /// bias; φ and g keep the largest of each tile of 2×2; β `[N, H·W, P]` is the softmax of θᵀφ over the P tiles. Weights
    /// `NAME.theta.weight`, `NAME.phi.weight`, `NAME.g.weight`, `NAME.o.weight` and `NAME.gamma [1]`.
    pub fn attention(&mut self, name: &str, x: Value) -> Result<Value> {
        let [channels, height, width] = [1, 2, 3].map(|axis| self.extent(x, axis));
        let n_pixels = height * width;
        let theta = self.pixelwise(&format!("{name}.theta"), x, channels / 8)?;
        let theta = self.reshaped(
            &format!("{name}.theta.flat"),
            theta,
            &[channels / 8, n_pixels],
        )?;
        let theta = self.swapped(&format!("{name}.theta.pixels"), theta)?;
        let phi = self.tiles(&format!("{name}.phi"), x, channels / 8)?;
        let scores = self
            .0
            .apply(&format!("{name}.scores"), MatMul, &[theta, phi])?;
        let beta = self
            .0
            .apply(&format!("{name}.beta"), Softmax { axis: 2 }, &[scores])?;
        let g = self.tiles(&format!("{name}.g"), x, channels / 2)?;
        let g = self.swapped(&format!("{name}.g.tiles"), g)?;
        let weighted = self
            .0
            .apply(&format!("{name}.weighted"), MatMul, &[beta, g])?;
        let weighted = self.swapped(&format!("{name}.weighted.channels"), weighted)?;
        let sizes = [channels / 2, height, width];
        let weighted = self.reshaped(&format!("{name}.weighted.image"), weighted, &sizes)?;
        let seen = self.pixelwise(&format!("{name}.o"), weighted, channels)?;
        let gamma = self.0.weight(&format!("{name}.gamma"), &[1])?;
        let seen = self
            .0
            .apply(&format!("{name}.scaled"), Binary::Mul, &[seen, gamma])?;
        self.0.apply(name, Binary::Add, &[x, seen])
    }

    /// A linear map of the channels, the largest value of each tile of 2×2, tiles in a row: `[N, outputs, P]`.
    fn tiles(&mut self, name: &str, x: Value, outputs: usize) -> Result<Value> {
        let mapped = self.pixelwise(name, x, outputs)?;
        let pool = MaxPool {
            kernel: [2, 2],
            strides: [2, 2],
            pads: [0; 4],
        };
        let pooled = self.0.apply(&format!("{name}.pool"), pool, &[mapped])?;
        let n_tiles = self.extent(pooled, 2) * self.extent(pooled, 3);
        self.reshaped(&format!("{name}.flat"), pooled, &[outputs, n_tiles])
    }

    /// `[N, A, B] → [N, B, A]`.
    pub fn swapped(&mut self, name: &str, x: Value) -> Result<Value> {
        let axes = vec![0, 2, 1];
        self.0.apply(name, Transpose { axes }, &[x])
    }
}
