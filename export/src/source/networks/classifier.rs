//! A small convolutional classifier: per width `conv3×3 → act → [pool]`, then one affine layer over all that is left.

use serde::{Deserialize, Serialize};

use super::Activation;
use super::check::Checker;
use super::layers::Layers;
use crate::error::Result;
use crate::graph::Graph;

/// A classifier of square images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvClassifier {
    /// Rows and columns of an image.
    pub image_size: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels behind each convolution.
    pub widths: Vec<usize>,
    /// Whether the image is halved behind each convolution.
    pub pools: Vec<bool>,
    /// Number of classes.
    pub n_classes: usize,
    /// The activation behind each convolution.
    pub activation: Activation,
}

const CHECK: Checker = Checker("conv_classifier");

impl ConvClassifier {
    /// The network as a graph: input `x [N, C, S, S]`, output `logits [N, n_classes]`.
    ///
    /// # Errors
    /// The description makes no sense.
    pub fn graph(&self) -> Result<Graph> {
        CHECK.halving([self.image_size, self.channels], &self.widths, &self.pools)?;
        CHECK.classes(self.n_classes)?;
        self.activation.check(CHECK.0)?;
        let (mut layers, mut features) = Layers::on_images(self.channels, self.image_size)?;
        for (index, (&width, &pools)) in self.widths.iter().zip(&self.pools).enumerate() {
            features = layers.conv(&format!("conv{index}"), features, width, 3)?;
            features = layers.active(&format!("act{index}"), features, self.activation)?;
            if pools {
                features = layers.pool(&format!("pool{index}"), features)?;
            }
        }
        let n_features = layers.0.shape(features).elements_per_image();
        let flat = layers.reshaped("flat", features, &[n_features])?;
        let logits = layers.affine("head", flat, self.n_classes)?;
        layers.0.set_output("logits", logits);
        CHECK.size(&layers.0)?;
        Ok(layers.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;

    fn digits() -> ConvClassifier {
        ConvClassifier {
            image_size: 8,
            channels: 1,
            widths: vec![4, 8],
            pools: vec![false, true],
            n_classes: 10,
            activation: Activation::Relu,
        }
    }

    #[test]
    fn gives_logits_per_class() {
        let graph = digits().graph().unwrap();
        assert_eq!(
            graph.shape(graph.output("logits").unwrap()),
            &Shape::batched(&[10])
        );
    }

    #[test]
    fn refuses_a_single_class() {
        let error = ConvClassifier {
            n_classes: 1,
            ..digits()
        }
        .graph()
        .unwrap_err()
        .to_string();
        assert_eq!(
            error,
            "network conv_classifier: n_classes must be at least 2, got 1"
        );
    }
}
