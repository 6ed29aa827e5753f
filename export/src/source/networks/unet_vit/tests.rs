use std::collections::{BTreeMap, BTreeSet};

use ndarray::ArrayD;

use super::*;
use crate::graph::reference::evaluate;
use crate::source::networks::Network;
use crate::source::networks::testing::{check_slope, n_parameters, random_values, refusals};
use crate::transform::gradient::{gradient, hessian_vector_product};

fn tiny() -> UnetVit {
    UnetVit {
        image_size: 8,
        channels: 2,
        widths: vec![4, 8],
        attention: vec![false, true],
        blocks: 1,
        groups: 2,
        head_channels: 4,
        patch: 4,
        embedding: 8,
        layers: 2,
        heads: 2,
        scale: 3.0,
        activation: Activation::Silu,
    }
}

/// Of the public code, less the biases of keys, of the last norm and of the head, on which no gradient depends.
#[test]
fn the_published_ones_have_their_parameters() {
    let linear = |v: usize, w: usize| v * w + w;
    let conv = |v: usize, w: usize, taps: usize| v * w * taps + w;
    let attention = |w: usize| 2 * w + 3 * linear(w, w) + w * w;
    let wanted = |network: &UnetVit| {
        let UnetVit {
            widths, channels, ..
        } = network;
        let first = widths[0];
        let block = |v: usize, w: usize| {
            let shortcut = if v == w { 0 } else { conv(v, w, 1) };
            2 * v + conv(v, w, 9) + linear(4 * first, w) + 2 * w + conv(w, w, 9) + shortcut
        };
        let time = linear(first, 4 * first) + linear(4 * first, 4 * first);
        let stem = conv(*channels, first, 9);
        let (mut unet, mut width, mut left) = (time + stem, first, vec![first]);
        for (level, &next) in widths.iter().enumerate() {
            for _ in 0..network.blocks {
                unet += block(width, next);
                unet += usize::from(network.attention[level]) * attention(next);
                width = next;
                left.push(width);
            }
            if level + 1 < widths.len() {
                unet += conv(width, width, 9);
                left.push(width);
            }
        }
        unet += 2 * block(width, width) + attention(width);
        for (level, &next) in widths.iter().enumerate().rev() {
            for _ in 0..=network.blocks {
                unet += block(width + left.pop().unwrap(), next);
                unet += usize::from(network.attention[level]) * attention(next);
                width = next;
            }
            unet += usize::from(level > 0) * conv(width, width, 9);
        }
        unet += 2 * width + conv(width, *channels, 9);
        let e = network.embedding;
        let layer = 3 * linear(e, e) + e * e + linear(e, 4 * e) + linear(4 * e, e) + 4 * e;
        let n_tokens = (network.image_size / network.patch).pow(2);
        let taps = network.patch * network.patch;
        unet + conv(*channels, e, taps) + n_tokens * e + network.layers * layer - e + e
    };
    for (network, millions) in [
        (UnetVit::unet_vit32(128), 49.98),
        (UnetVit::unet_vit28(32), 2.03),
        (tiny(), 0.01),
    ] {
        let graph = network.graph().unwrap();
        let n_parameters = n_parameters(&graph);
        assert_eq!(n_parameters, wanted(&network));
        assert!(
            (n_parameters as f64 / 1e6 - millions).abs() < 0.005,
            "{n_parameters}"
        );
        let energy = graph.output("energy").unwrap();
        assert_eq!(graph.shape(energy), &Shape::batched(&[]));
    }
}

/// Values that `make_golden.py` makes too, where they are explained.
fn number(name: &str, shape: &[usize]) -> ArrayD<f64> {
    let fan_in = match *shape {
        [_, channels, rows, columns] if name != "x" => channels * rows * columns,
        [fan_in, _] => fan_in,
        _ => 1,
    };
    let factor = match fan_in {
        1 => 1.0,
        summed => (12.0 / summed as f64).sqrt(),
    };
    let offset = f64::from(u8::from(name.ends_with(".gain")));
    let start: u64 = (1..)
        .zip(name.bytes())
        .map(|(place, byte)| place * u64::from(byte))
        .sum();
    let values = (0..shape.iter().product::<usize>() as u64).map(|index| {
        let scattered = (start + index).pow(2) * 7919 + index;
        ((scattered % 10007) as f64 / 10007.0 - 0.5) * factor + offset
    });
    ArrayD::from_shape_vec(shape, values.collect()).unwrap()
}

/// By autograd in f64, whose waves of the time are computed in f32.
#[test]
fn energy_and_gradient_are_those_of_the_public_code() {
    let network = UnetVit {
        image_size: 8,
        widths: vec![32, 64],
        attention: vec![false, true],
        blocks: 1,
        head_channels: 32,
        embedding: 16,
        layers: 2,
        heads: 2,
        scale: 100.0,
        ..UnetVit::unet_vit32(32)
    };
    let golden: BTreeMap<String, Vec<f64>> =
        serde_json::from_str(include_str!("golden.json")).unwrap();
    let graph = network.graph().unwrap();
    let values = |graph: &Graph| -> BTreeMap<String, ArrayD<f64>> {
        let given = graph.inputs().chain(graph.weights());
        given
            .map(|value| {
                let name = graph.node(value).name.clone();
                let array = number(&name, &graph.shape(value).concrete(2));
                (name, array)
            })
            .collect()
    };
    let derived = gradient(&graph, "energy", "x").unwrap();
    for (graph, output) in [(graph, "energy"), (derived, "gradient")] {
        let ours = evaluate(&graph, &values(&graph)).unwrap()[output].clone();
        let theirs = ArrayD::from_shape_vec(ours.shape(), golden[output].clone()).unwrap();
        let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
        let error = norm(&(&ours - &theirs)) / norm(&theirs);
        assert!(error < 1e-6, "{output}: {error}");
    }
}

#[test]
fn gradients_match_finite_differences() {
    for activation in [Activation::Silu, Activation::Gelu] {
        let network = UnetVit {
            activation,
            ..tiny()
        };
        check_slope(&network.graph().unwrap(), "energy", "x");
    }
}

/// Along a direction, against differences of the gradient.
#[test]
fn it_has_hessian_vector_products() {
    let graph = tiny().graph().unwrap();
    let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
    let mut values = random_values(&twice, 5);
    let product = evaluate(&twice, &values).unwrap()["hvp"].clone();
    let derived = gradient(&graph, "energy", "x").unwrap();
    let (x, step) = (values["x"].clone(), 1e-5);
    let mut at = |shift: f64| {
        values.insert("x".to_string(), &x + &(&values["v"] * shift));
        evaluate(&derived, &values).unwrap()["gradient"].clone()
    };
    let difference = (at(step) - at(-step)) / (2.0 * step);
    let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
    let error = norm(&(&product - &difference)) / norm(&difference);
    assert!(error < 1e-5, "{error}");
}

/// A weight that no gradient depends on would never be learned by matching.
#[test]
fn the_gradient_depends_on_every_weight() {
    let graph = tiny().graph().unwrap();
    let derived = gradient(&graph, "energy", "x").unwrap();
    let names = |graph: &Graph| -> BTreeSet<String> {
        let weights = graph
            .weights()
            .map(|weight| graph.node(weight).name.clone());
        weights.collect()
    };
    assert_eq!(names(&graph), names(&derived));
    let values = random_values(&derived, 6);
    let before = evaluate(&derived, &values).unwrap()["gradient"].clone();
    for name in names(&graph) {
        let mut moved = values.clone();
        let weight = moved.get_mut(&name).unwrap();
        weight
            .iter_mut()
            .enumerate()
            .for_each(|(place, value)| *value += 0.1 * (1.0 + place as f64).sin());
        let after = &evaluate(&derived, &moved).unwrap()["gradient"];
        let change = (after - &before).mapv(f64::abs).sum();
        assert!(change > 1e-9, "{name}");
    }
}

/// What is added to something begins as nothing: the U-Net's image is 0 everywhere, whatever comes in.
#[test]
fn first_weights_begin_with_nothing_but_the_way_of_the_image() {
    let network = Network::UnetVit(tiny());
    let weights = network.initial_weights(1).unwrap();
    let largest = |name: &str| {
        let values = weights[name].data().iter();
        values.fold(0.0f32, |largest, value| largest.max(value.abs()))
    };
    for name in [
        "image.last.weight",
        "down0.1.last.weight",
        "middle.attention.last.weight",
    ] {
        assert_eq!(largest(name), 0.0, "{name}");
    }
    assert_eq!(largest("position"), 0.0);
    // 8 channels with 3×3 taps, and 16 values of the time.
    for (name, fan_in) in [
        ("middle.1.first.weight", 72.0),
        ("middle.1.time.weight", 16.0),
    ] {
        let bound = f32::sqrt(fan_in).recip();
        assert!((0.8 * bound..bound).contains(&largest(name)), "{name}");
    }
}

#[test]
fn refuses_descriptions_that_make_no_sense() {
    let changed = |change: &dyn Fn(&mut UnetVit)| {
        let mut network = tiny();
        change(&mut network);
        network.graph()
    };
    refusals([
        (
            changed(&|network| network.attention.truncate(1)),
            "got 2 widths and 1 attention",
        ),
        (
            changed(&|network| network.image_size = 9),
            "image_size must be a positive multiple of 2",
        ),
        (
            changed(&|network| network.patch = 3),
            "image_size must be a positive multiple of 3, got 8",
        ),
        (
            changed(&|network| network.groups = 3),
            "width 0 must be a positive multiple of 3, got 4",
        ),
        (
            changed(&|network| network.head_channels = 3),
            "width 1, which has attention in heads, must be a positive multiple of 3, got 8",
        ),
        (
            changed(&|network| network.heads = 3),
            "embedding must be a positive multiple of 3, got 8",
        ),
        (
            changed(&|network| (network.widths[0], network.groups) = (3, 1)),
            "the first width must be a positive multiple of 2, got 3",
        ),
        (
            changed(&|network| network.blocks = 0),
            "blocks must be from 1 to 1000, got 0",
        ),
        (
            changed(&|network| network.layers = 1001),
            "layers must be from 1 to 1000, got 1001",
        ),
        (
            changed(&|network| network.scale = 0.0),
            "scale must be positive and finite, got 0",
        ),
        (
            UnetVit::unet_vit32(usize::MAX).graph(),
            "each width must be from 1 to 65536",
        ),
    ]);
}
