//! Batch norm with running statistics, as networks have it once they are learned; group norm and layer norm.

use super::layers::Layers;
use super::tokens::Offset;
use crate::error::Result;
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind, Reshape, Unary};
use crate::graph::{Graph, Shape, Source, Value};

/// A batch norm of a graph, for those who evaluate it with the statistics of each batch, as while it is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNorm {
    /// What is normalised, `[N, C, H, W]`.
    pub x: Value,
    /// The weight `NAME.mean [C]`: the running mean of x over images and pixels.
    pub mean: Value,
    /// The weight `NAME.variance [C]`: the running variance of x.
    pub variance: Value,
}

/// The batch norms of a graph that [`Network::graph`](super::Network::graph) made, in its order.
pub fn batch_norms(graph: &Graph) -> Vec<BatchNorm> {
    let named = |name: &str| graph.values().find(|&value| graph.node(value).name == name);
    let norm = |mean: Value| {
        let name = graph.node(mean).name.strip_suffix(".mean")?;
        let variance = named(&format!("{name}.variance"))?;
        let (_, operands) = graph.operator(named(&format!("{name}.scaled"))?)?;
        let is_weight = graph.node(variance).source == Source::Weight;
        is_weight.then_some(BatchNorm {
            x: *operands.first()?,
            mean,
            variance,
        })
    };
    graph.weights().filter_map(norm).collect()
}

impl Layers {
    /// `gain · (x − mean) / √(variance + epsilon) + bias` per channel. Weights `NAME.gain`, `NAME.bias`, `NAME.mean` and
    /// `NAME.variance`, each `[C]`. What depends on them alone is a factor and an offset, which are computed when they are bound.
    pub fn norm(&mut self, name: &str, x: Value, epsilon: f32) -> Result<Value> {
        let channels = self.extent(x, 1);
        let gain = self.0.weight(&format!("{name}.gain"), &[channels])?;
        let bias = self.0.weight(&format!("{name}.bias"), &[channels])?;
        let (mean, inverse) = self.statistics(name, channels, epsilon)?;
        self.normalised(name, x, [gain, bias, mean, inverse])
    }

    /// Batch norm whose gain and bias depend on a condition `[N, K]`: `gain = 1 + condition · NAME.gain.weight [K, C]`,
    /// `bias = condition · NAME.bias.weight [K, C]`. Further weights `NAME.mean` and `NAME.variance`, each `[C]`.
    pub fn conditional_norm(
        &mut self,
        name: &str,
        x: Value,
        condition: Value,
        epsilon: f32,
    ) -> Result<Value> {
        let channels = self.extent(x, 1);
        let change = self.linear(&format!("{name}.gain"), condition, channels)?;
        let one = self.0.scalar(&format!("{name}.one"), 1.0);
        let gain = self
            .0
            .apply(&format!("{name}.gain"), Binary::Add, &[change, one])?;
        let bias = self.linear(&format!("{name}.bias"), condition, channels)?;
        let (mean, inverse) = self.statistics(name, channels, epsilon)?;
        self.normalised(name, x, [gain, bias, mean, inverse])
    }

    /// The running mean and one over the running deviation.
    fn statistics(&mut self, name: &str, channels: usize, epsilon: f32) -> Result<(Value, Value)> {
        let mean = self.0.weight(&format!("{name}.mean"), &[channels])?;
        let variance = self.0.weight(&format!("{name}.variance"), &[channels])?;
        let inverse = self.inverse_root(name, variance, epsilon)?;
        Ok((mean, inverse))
    }

    /// `1 / √(variance + epsilon)`.
    fn inverse_root(&mut self, name: &str, variance: Value, epsilon: f32) -> Result<Value> {
        let epsilon = self.0.scalar(&format!("{name}.epsilon"), epsilon);
        let widened = self.0.apply(
            &format!("{name}.widened"),
            Binary::Add,
            &[variance, epsilon],
        )?;
        let deviation = self
            .0
            .apply(&format!("{name}.deviation"), Unary::Sqrt, &[widened])?;
        self.0
            .apply(&format!("{name}.inverse"), Unary::Reciprocal, &[deviation])
    }

    /// `x · factor + offset` with `factor = gain · inverse` and `offset = bias − mean · factor`: two operators on the image.
    fn normalised(
        &mut self,
        name: &str,
        x: Value,
        [gain, bias, mean, inverse]: [Value; 4],
    ) -> Result<Value> {
        let factor = self
            .0
            .apply(&format!("{name}.factor"), Binary::Mul, &[gain, inverse])?;
        let moved = self
            .0
            .apply(&format!("{name}.moved"), Binary::Mul, &[mean, factor])?;
        let offset = self
            .0
            .apply(&format!("{name}.offset"), Binary::Sub, &[bias, moved])?;
        let factor = self.per_channel(&format!("{name}.factor"), factor)?;
        let offset = self.per_channel(&format!("{name}.offset"), offset)?;
        let scaled = self
            .0
            .apply(&format!("{name}.scaled"), Binary::Mul, &[x, factor])?;
        self.0.apply(name, Binary::Add, &[scaled, offset])
    }

    /// `gain · (x − mean) / √(variance + ε) + bias` per channel, with mean and variance of each image over its pixels and the channels of a
    /// group, of which there are that many. Weights `NAME.gain` and `NAME.bias`, each `[C]`.
    pub fn group_norm(&mut self, name: &str, x: Value, groups: usize) -> Result<Value> {
        let [channels, height, width] = [1, 2, 3].map(|axis| self.extent(x, axis));
        let sizes = [groups, channels / groups * height * width];
        let grouped = self.reshaped(&format!("{name}.groups"), x, &sizes)?;
        let normal = self.standardised(name, grouped)?;
        let normal = self.reshaped(&format!("{name}.image"), normal, &[channels, height, width])?;
        let [gain, bias] = self.gain_and_bias(name, channels)?;
        let gain = self.per_channel(&format!("{name}.gains"), gain)?;
        let bias = self.per_channel(&format!("{name}.offsets"), bias)?;
        self.stretched(name, normal, gain, Some(bias))
    }

    /// The same of each token `[N, T, E]` over its values, with weights `[E]`.
    pub fn layer_norm(&mut self, name: &str, x: Value, offset: Offset) -> Result<Value> {
        let width = self.extent(x, 2);
        let normal = self.standardised(name, x)?;
        match offset {
            Offset::Learned => {
                let [gain, bias] = self.gain_and_bias(name, width)?;
                self.stretched(name, normal, gain, Some(bias))
            }
            Offset::None => {
                let gain = self.0.weight(&format!("{name}.gain"), &[width])?;
                self.stretched(name, normal, gain, None)
            }
        }
    }

    fn gain_and_bias(&mut self, name: &str, channels: usize) -> Result<[Value; 2]> {
        let gain = self.0.weight(&format!("{name}.gain"), &[channels])?;
        let bias = self.0.weight(&format!("{name}.bias"), &[channels])?;
        Ok([gain, bias])
    }

    fn stretched(
        &mut self,
        name: &str,
        x: Value,
        gain: Value,
        bias: Option<Value>,
    ) -> Result<Value> {
        let stretched = self
            .0
            .apply(&format!("{name}.stretched"), Binary::Mul, &[x, gain])?;
        match bias {
            Some(bias) => self.0.apply(name, Binary::Add, &[stretched, bias]),
            None => Ok(stretched),
        }
    }

    /// `(x − mean) / √(variance + ε)` of `[N, A, B]` over its last axis.
    fn standardised(&mut self, name: &str, x: Value) -> Result<Value> {
        /// PyTorch's.
        const EPSILON: f32 = 1e-5;
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![2],
            keep_dims: KeepDims::Yes,
        };
        let centre = self
            .0
            .apply(&format!("{name}.centre"), mean.clone(), &[x])?;
        let centred = self
            .0
            .apply(&format!("{name}.centred"), Binary::Sub, &[x, centre])?;
        let squares = self
            .0
            .apply(&format!("{name}.squares"), Binary::Mul, &[centred, centred])?;
        let variance = self.0.apply(&format!("{name}.spread"), mean, &[squares])?;
        let inverse = self.inverse_root(name, variance, EPSILON)?;
        self.0.apply(
            &format!("{name}.standard"),
            Binary::Mul,
            &[centred, inverse],
        )
    }

    /// `[C]` or `[N, C]` with two further axes, to broadcast over rows and columns.
    fn per_channel(&mut self, name: &str, value: Value) -> Result<Value> {
        let mut shape = self.0.shape(value).clone();
        shape.0.extend(Shape::fixed(&[1, 1]).0);
        self.0.apply(name, Reshape { shape }, &[value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::networks::{BigganGenerator, Network, Sngan, SnganGenerator, WideResnet};

    /// Two norms a block and one behind them; BigGAN's blocks have four.
    #[test]
    fn the_batch_norms_of_networks_are_found() {
        for (network, wanted) in [
            (Network::Sngan(Sngan::sngan32(4)), 0),
            (Network::SnganGenerator(SnganGenerator::gen_sngan32(4)), 7),
            (Network::WideResnet(WideResnet::wrn28(1)), 25),
            (
                Network::BigganGenerator(BigganGenerator::gen_biggan_cond128(8)),
                41,
            ),
        ] {
            let graph = network.graph().unwrap();
            let norms = batch_norms(&graph);
            assert_eq!(norms.len(), wanted);
            for norm in norms {
                let channels = graph.shape(norm.x).size(1).unwrap();
                assert_eq!(graph.shape(norm.mean), &Shape::fixed(&[channels]));
                assert_eq!(graph.shape(norm.variance), &Shape::fixed(&[channels]));
                assert!(graph.is_dynamic()[norm.x.0]);
            }
        }
    }
}
