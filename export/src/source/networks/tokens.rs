//! Transformers (Vaswani et al. 2017) on tokens `[N, T, E]`: T vectors of E values for each image.

use super::Activation;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::Value;
use crate::graph::op::{Binary, MatMul, Softmax, Transpose};

impl Layers {
    /// What each token sees of all of them: with queries, keys and values in `heads` parts of d = E/heads each, `softmax(q·kᵀ/√d)·v`, the parts
    /// side by side. Weights `NAME.query`, `NAME.key` and `NAME.value`, with a bias but for the keys: the softmax of `q·(k + b)` does not
    /// depend on b.
    pub fn self_attention(&mut self, name: &str, x: Value, heads: usize) -> Result<Value> {
        let [n_tokens, width] = [1, 2].map(|axis| self.extent(x, axis));
        let depth = width / heads;
        let parts = |layers: &mut Layers, part: &str, value: Value, axes: [usize; 4]| {
            let name = format!("{name}.{part}.heads");
            let split = layers.reshaped(&name, value, &[n_tokens, heads, depth])?;
            let axes = axes.to_vec();
            layers.0.apply(&name, Transpose { axes }, &[split])
        };
        let query = self.affine(&format!("{name}.query"), x, width)?;
        let query = parts(self, "query", query, [0, 2, 1, 3])?;
        let key = self.linear(&format!("{name}.key"), x, width)?;
        let key = parts(self, "key", key, [0, 2, 3, 1])?;
        let value = self.affine(&format!("{name}.value"), x, width)?;
        let value = parts(self, "value", value, [0, 2, 1, 3])?;
        let scale = self
            .0
            .scalar(&format!("{name}.scale"), (depth as f32).sqrt().recip());
        let query = self
            .0
            .apply(&format!("{name}.scaled"), Binary::Mul, &[query, scale])?;
        let scores = self
            .0
            .apply(&format!("{name}.scores"), MatMul, &[query, key])?;
        let shares = self
            .0
            .apply(&format!("{name}.shares"), Softmax { axis: 3 }, &[scores])?;
        let seen = self
            .0
            .apply(&format!("{name}.seen"), MatMul, &[shares, value])?;
        let axes = vec![0, 2, 1, 3];
        let seen = self
            .0
            .apply(&format!("{name}.tokens"), Transpose { axes }, &[seen])?;
        self.reshaped(&format!("{name}.joined"), seen, &[n_tokens, width])
    }

    /// An encoder layer: attention and then, token by token, `E → 4E → GELU → E`, each added to what it saw and followed by a layer norm.
    pub fn encoder_layer(
        &mut self,
        name: &str,
        x: Value,
        heads: usize,
        last: Offset,
    ) -> Result<Value> {
        let width = self.extent(x, 2);
        let seen = self.self_attention(&format!("{name}.attention"), x, heads)?;
        let seen = self.affine(&format!("{name}.attention.out"), seen, width)?;
        let x = self
            .0
            .apply(&format!("{name}.attended"), Binary::Add, &[x, seen])?;
        let x = self.layer_norm(&format!("{name}.norm1"), x, Offset::Learned)?;
        let hidden = self.affine(&format!("{name}.wide"), x, 4 * width)?;
        let hidden = Activation::Gelu.apply(&mut self.0, &format!("{name}.act"), hidden)?;
        let hidden = self.affine(&format!("{name}.narrow"), hidden, width)?;
        let x = self
            .0
            .apply(&format!("{name}.mixed"), Binary::Add, &[x, hidden])?;
        self.layer_norm(&format!("{name}.norm2"), x, last)
    }
}

/// Whether a norm has a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offset {
    /// It has one.
    Learned,
    /// It has none: what follows is linear, so that it would move all energies alike.
    None,
}
