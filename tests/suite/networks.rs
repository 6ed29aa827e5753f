//! The networks under test, their weights and images.

use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::networks::{Activation, Biggan, Network, Sngan, UnetVit};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const ACTIVATIONS: [Activation; 6] = [
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.1 },
    Activation::Silu,
    Activation::Softplus { beta: 2.0 },
    Activation::Gelu,
    Activation::SoftLeakyRelu { a: 0.49, e: 0.01 },
];

/// A small network of the free form, and a name for it.
pub fn free_form(activation: Activation) -> (String, Network) {
    let network = Sngan::small(
        8,
        2,
        &[9, 12, 12, 10],
        &[false, true, false, true],
        activation,
    );
    (
        format!("free form with {activation:?}"),
        Network::Sngan(network),
    )
}

/// A small BigGAN energy with everything that the published ones have, on images of which a pool leaves a row and a column out.
fn bottlenecks(activation: Activation) -> (String, Network) {
    let network = Biggan {
        image_size: 10,
        channels: 2,
        stem: 8,
        widths: vec![8, 16, 16, 20],
        pools: vec![false, true, true, false],
        attention: Some(1),
        activation,
    };
    let name = format!("bottlenecks with {activation:?}");
    (name, Network::Biggan(network))
}

/// A small U-Net with a transformer behind it, with everything that the published ones have.
pub fn unet_vit() -> (String, Network) {
    let network = UnetVit {
        image_size: 12,
        channels: 2,
        widths: vec![8, 16],
        attention: vec![false, true],
        blocks: 1,
        groups: 4,
        head_channels: 8,
        patch: 4,
        embedding: 12,
        layers: 2,
        heads: 3,
        scale: 10.0,
        activation: Activation::Silu,
    };
    (
        "U-Net and transformer".to_string(),
        Network::UnetVit(network),
    )
}

/// Every energy network, narrow: the published ones of the SNGAN family, bottlenecks with attention, a U-Net with a transformer, and the free
/// form with every activation.
pub fn energies() -> Vec<(String, Network)> {
    let published = [
        ("sngan32", Sngan::sngan32(8)),
        ("sngan64", Sngan::sngan64(4)),
        ("sngan128", Sngan::sngan128(2)),
    ];
    let published = published.map(|(name, network)| (name.to_string(), Network::Sngan(network)));
    published
        .into_iter()
        .chain([Activation::Relu, Activation::Silu].map(bottlenecks))
        .chain([unet_vit()])
        .chain(ACTIVATIONS.map(free_form))
        .collect()
}

/// Initial weights, of which none is zero, so that none of them goes untested.
pub fn weights(network: &Network, seed: u64) -> Tensors {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = network.initial_weights(seed).unwrap();
    let begins_at_zero = |name: &str| {
        [".bias", ".mean", ".gamma", ".last.weight", "position"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    for (_, bias) in weights.iter_mut().filter(|(name, _)| begins_at_zero(name)) {
        let data = bias
            .data()
            .iter()
            .map(|_| rng.random_range(-0.1f32..0.1))
            .collect();
        *bias = Tensor::new(bias.shape(), data);
    }
    weights
}

/// Images `[batch, C, H, W]`, uniform in `[-1, 1]`.
pub fn images(network: &Network, batch: usize, seed: u64) -> Tensor {
    let image = network.image();
    let shape = [batch, image.channels, image.height, image.width];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Tensor::new(
        &shape,
        (0..shape.iter().product())
            .map(|_| rng.random_range(-1.0f32..1.0))
            .collect(),
    )
}

/// The relative L2 difference of each image, ascending.
pub fn differences(wanted: &[f64], got: &[f64], batch: usize) -> Vec<f64> {
    assert_eq!(wanted.len(), got.len());
    let length = wanted.len() / batch;
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let mut differences: Vec<f64> = wanted
        .chunks(length)
        .zip(got.chunks(length))
        .map(|(wanted, got)| {
            norm(&mut wanted.iter().zip(got).map(|(a, b)| a - b))
                / norm(&mut wanted.iter().copied()).max(1e-12)
        })
        .collect();
    assert!(differences.iter().all(|value| value.is_finite()));
    differences.sort_by(f64::total_cmp);
    differences
}

/// The relative L2 difference of the worst image.
pub fn worst_difference(wanted: &[f64], got: &[f64], batch: usize) -> f64 {
    differences(wanted, got, batch)[batch - 1]
}

/// The difference of gradients, or of chains that follow them, that were computed in f32: of the worst image where the activation is
/// smooth, of the median one if it is piecewise linear. There an operand that is zero up to rounding falls on either side of zero,
/// which switches a whole path of that one image's gradient on or off, in any implementation. Energies are continuous, and in
/// f64 no operand of the tests' images is that close to zero: both take [`worst_difference`].
pub fn slope_difference(network: &Network, wanted: &[f64], got: &[f64], batch: usize) -> f64 {
    if is_piecewise_linear(network) {
        differences(wanted, got, batch)[batch / 2]
    } else {
        worst_difference(wanted, got, batch)
    }
}

fn is_piecewise_linear(network: &Network) -> bool {
    matches!(
        network.activation(),
        Activation::Relu | Activation::LeakyRelu { .. }
    )
}
