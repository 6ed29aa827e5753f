//! Dropout while a network is learned: values that are multiplied by masks, which are inputs.

use super::Network;
use crate::error::{Error, Result};
use crate::graph::op::Binary;
use crate::graph::{Graph, Value};

impl Network {
    /// Whether there is dropout in it while it is learned.
    pub fn has_dropout(&self) -> bool {
        matches!(self, Network::UnetVit(_))
    }

    /// The graph of [`Network::graph`] in which dropout has its places: what it drops is multiplied by a further input `NAME.mask` of the
    /// same shape, which has a value of its own for each value of an image.
    ///
    /// # Errors
    /// As [`Network::graph`]; or there is no dropout in this network.
    pub fn graph_with_dropout(&self) -> Result<Graph> {
        let Network::UnetVit(network) = self else {
            return Err(Error::Network {
                network: "dropout",
                problem: "expected a network with places for it, unet_vit".to_string(),
            });
        };
        let graph = network.graph()?;
        graph.rebuild(|target, mapping, value| {
            let node = graph.node(value);
            if !is_dropped(&graph, value) {
                return Ok(None);
            }
            let kept = target.copy(node, mapping)?;
            let shape = node.value_type.shape.clone();
            let mask = target.input(&format!("{}.mask", node.name), shape)?;
            let name = format!("{}.dropped", node.name);
            target.apply(&name, Binary::Mul, &[kept, mask]).map(Some)
        })
    }
}

/// In front of the last convolution of a residual block; in the transformer, shares of attention, what it gives, and what is behind the
/// activation and behind the layer that follows it.
fn is_dropped(graph: &Graph, value: Value) -> bool {
    let name = graph.node(value).name.as_str();
    let of_layer = || {
        let (layer, place) = name.strip_prefix("layer")?.split_once('.')?;
        layer.parse::<usize>().ok()?;
        Some(["attention.shares", "attention.out", "act", "narrow"].contains(&place))
    };
    name.ends_with(".between.act") || of_layer().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::ArrayD;

    use super::*;
    use crate::graph::reference::evaluate;
    use crate::source::networks::testing::random_values;
    use crate::source::networks::{Sngan, UnetVit};

    fn network() -> Network {
        Network::UnetVit(UnetVit {
            blocks: 1,
            layers: 3,
            ..UnetVit::unet_vit28(4)
        })
    }

    /// 3 levels of 1 block down and 2 up, 2 in the middle; 4 places in each of 3 layers.
    #[test]
    fn every_place_has_a_mask() {
        let graph = network().graph_with_dropout().unwrap();
        let names = graph.inputs().map(|input| graph.node(input).name.as_str());
        let masks: Vec<&str> = names.filter(|name| name.ends_with(".mask")).collect();
        assert_eq!(masks.len(), 3 + 6 + 2 + 3 * 4, "{masks:?}");
        for mask in ["up2.2.between.act.mask", "layer3.attention.shares.mask"] {
            assert!(masks.contains(&mask), "{mask}");
        }
        let error = Network::Sngan(Sngan::sngan32(4))
            .graph_with_dropout()
            .unwrap_err();
        assert!(error.to_string().contains("unet_vit"), "{error}");
    }

    /// Masks of ones change nothing; each mask has a say.
    #[test]
    fn masks_multiply_what_is_dropped() {
        let (plain, masked) = (
            network().graph().unwrap(),
            network().graph_with_dropout().unwrap(),
        );
        let mut values: BTreeMap<String, ArrayD<f64>> = random_values(&masked, 8);
        let masks: Vec<String> = values
            .keys()
            .filter(|name| name.ends_with(".mask"))
            .cloned()
            .collect();
        for name in &masks {
            values.get_mut(name).unwrap().fill(1.0);
        }
        let energy = |graph: &Graph, values: &BTreeMap<String, ArrayD<f64>>| {
            evaluate(graph, values).unwrap()["energy"].clone()
        };
        let wanted = energy(&plain, &values);
        assert_eq!(energy(&masked, &values), wanted);
        for name in &masks {
            let mut dropped = values.clone();
            dropped.get_mut(name).unwrap().fill(0.5);
            assert_ne!(energy(&masked, &dropped), wanted, "{name}");
        }
    }
}
