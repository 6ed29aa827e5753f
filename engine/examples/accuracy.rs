//! How far gradients are from those in f64, by network and largest tiles, as a table in Markdown: `accuracy [images]`.

#[allow(clippy::unwrap_used)]
#[path = "../tests/common/mod.rs"]
mod common;

use std::error::Error;
use std::sync::Arc;

use ebm_engine::{Limits, Plan, Tiles};
use ebm_export::graph::reference::{self, bindings, evaluate};
use ebm_export::graph::tensor::Tensor;
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Biggan, Network, Sngan};
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::rewrite::Target;
use ebm_export::write::{Export, Form};

const TILES: [Tiles; 3] = [Tiles::Four, Tiles::Two, Tiles::One];

fn networks() -> [(&'static str, Network); 5] {
    [
        ("sngan32, width 64", Network::Sngan(Sngan::sngan32(64))),
        ("sngan32, width 256", Network::Sngan(Sngan::sngan32(256))),
        ("sngan64, width 64", Network::Sngan(Sngan::sngan64(64))),
        ("sngan128, width 64", Network::Sngan(Sngan::sngan128(64))),
        ("biggan64, width 64", Network::Biggan(Biggan::biggan64(64))),
    ]
}

fn main() -> Result<(), Box<dyn Error>> {
    let n_images = std::env::args().nth(1).map_or(Ok(5), |n| n.parse())?;
    println!("| network | tiles of 4×4 | of 2×2 | none |\n|---|---|---|---|");
    for (name, network) in networks() {
        let errors = errors(&network, n_images)?.map(|error| format!("{error:.1e}"));
        println!("| {name} | {} |", errors.join(" | "));
    }
    Ok(())
}

/// For each choice of tiles the median over images of the relative L2 error.
fn errors(network: &Network, n_images: usize) -> Result<[f64; 3], Box<dyn Error>> {
    let weights = network.initial_weights(3)?;
    let energy = Energy::of_network(&Header::new(network.clone()), &weights)?;
    let export = Export {
        rewrites: Target::Cpu.rewrites(),
        ..Export::default()
    };
    let file = export.model(&energy, &Form::Gradient)?.to_bytes();
    let graph = gradient_graph(&network.graph()?, &[])?;
    let mut plans = Vec::new();
    for tiles in TILES {
        let limits = Limits {
            tiles,
            ..Limits::default()
        };
        plans.push(Arc::new(Plan::within(&limits, file.clone())?));
    }
    let mut values = bindings(&weights);
    let mut errors: [Vec<f64>; 3] = Default::default();
    for image in 0..n_images {
        let x = image_of(network, image as u64);
        values.insert("x".to_string(), reference::to_array(&x));
        let exact = evaluate(&graph, &values)?;
        let exact: Vec<f64> = exact["gradient"].iter().copied().collect();
        for (plan, errors) in plans.iter().zip(&mut errors) {
            let got = common::run(plan, 1, &[("x", &x)], 1);
            errors.push(common::difference(&exact, &got["gradient"]));
        }
    }
    Ok(errors.map(|mut of| {
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    }))
}

fn image_of(network: &Network, seed: u64) -> Tensor {
    let image = network.image();
    let shape = [1, image.channels, image.height, image.width];
    common::Numbers::new(seed + 11).tensor(&shape, |unit| unit)
}
