//! Gradients of every network against libtorch's autograd, and the networks themselves against their description.

use ebm_export::graph::Graph;
use ebm_export::graph::reference;
use ebm_export::source::networks::{Activation, Network, Sngan};
use ebm_export::transform::gradient::{gradient, hessian_vector_product};
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::rewrite::Rewrite;
use ebm_trainer::network::{Program, Weights, from_host, to_device};
use tch::{Device, Kind, Tensor};

use crate::agreement::elements;
use crate::networks::{
    ACTIVATIONS, energies, free_form, images, slope_difference, weights, worst_difference,
};

const F32_TOLERANCE: f64 = 1e-5;
/// Constants of activations (1/√2, 2/√π, slopes) stand in graphs as f32, which libtorch has in f64.
const F64_TOLERANCE: f64 = 2e-7;
const BATCH: usize = 5;

/// ∇E by autograd in f64 through the energy graph as it is described.
fn autograd(graph: &Graph, weights: &Weights, x: &Tensor) -> Tensor {
    let program = Program::new(graph, Kind::Double, Device::Cpu);
    let x = x.detach().set_requires_grad(true);
    let energy = program.bind(weights).unwrap().output("energy", &x).unwrap();
    Tensor::run_backward(&[energy.sum(Kind::Double)], &[&x], false, false).remove(0)
}

fn evaluated(graph: &Graph, kind: Kind, network: &Network) -> Vec<f64> {
    let program = Program::new(graph, kind, Device::Cpu);
    let weights = to_device(&weights(network, 1), kind, Device::Cpu);
    let x = from_host(&images(network, BATCH, 2), kind, Device::Cpu);
    elements(
        &program
            .bind(&weights)
            .unwrap()
            .output("gradient", &x)
            .unwrap(),
    )
}

#[test]
fn of_every_network_match_autograd() {
    for (name, network) in energies() {
        let graph = network.graph().unwrap();
        let weights = to_device(&weights(&network, 1), Kind::Double, Device::Cpu);
        let x = from_host(&images(&network, BATCH, 2), Kind::Double, Device::Cpu);
        let wanted = elements(&autograd(&graph, &weights, &x));
        for (form, rewrites) in [("raw", &[][..]), ("rewritten", &Rewrite::ALL[..])] {
            let derived = gradient_graph(&graph, rewrites).unwrap();
            for (kind, tolerance) in [(Kind::Double, F64_TOLERANCE), (Kind::Float, F32_TOLERANCE)] {
                let got = evaluated(&derived, kind, &network);
                let error = match kind {
                    Kind::Float => slope_difference(&network, &wanted, &got, BATCH),
                    _ => worst_difference(&wanted, &got, BATCH),
                };
                assert!(error <= tolerance, "{name}, {form}, {kind:?}: {error}");
            }
        }
    }
}

/// Each rewrite alone keeps the value.
#[test]
fn every_rewrite_alone_keeps_the_gradient() {
    for (name, network) in energies() {
        let graph = network.graph().unwrap();
        let raw = evaluated(
            &gradient_graph(&graph, &[]).unwrap(),
            Kind::Double,
            &network,
        );
        for rewrite in Rewrite::ALL {
            let rewritten = evaluated(
                &gradient_graph(&graph, &[rewrite]).unwrap(),
                Kind::Double,
                &network,
            );
            let error = worst_difference(&raw, &rewritten, BATCH);
            assert!(error <= F64_TOLERANCE, "{name}, {rewrite}: {error}");
        }
    }
}

/// The derivative of the gradient graph by autograd is the Hessian-vector product by graph. Where the activation is piecewise
/// linear both vanish, and autograd has nothing to go back through.
#[test]
fn hessian_vector_products_match_autograd() {
    for activation in ACTIVATIONS {
        let (name, network) = free_form(activation);
        let graph = network.graph().unwrap();
        let host = weights(&network, 1);
        let (x, v) = (images(&network, BATCH, 2), images(&network, BATCH, 3));
        let mut values = reference::bindings(&host);
        values.insert("x".to_string(), reference::to_array(&x));
        values.insert("v".to_string(), reference::to_array(&v));
        let twice = hessian_vector_product(&graph, "energy", "x").unwrap();
        let product = &reference::evaluate(&twice, &values).unwrap()["hvp"];
        let product: Vec<f64> = product.iter().copied().collect();
        if matches!(activation, Activation::Relu | Activation::LeakyRelu { .. }) {
            assert!(product.iter().all(|&value| value == 0.0), "{name}");
            continue;
        }
        let derived = gradient(&graph, "energy", "x").unwrap();
        let program = Program::new(&derived, Kind::Double, Device::Cpu);
        let weights = to_device(&host, Kind::Double, Device::Cpu);
        let x = from_host(&x, Kind::Double, Device::Cpu).set_requires_grad(true);
        let v = from_host(&v, Kind::Double, Device::Cpu);
        let slope = program
            .bind(&weights)
            .unwrap()
            .output("gradient", &x)
            .unwrap();
        let wanted =
            Tensor::run_backward(&[(slope * v).sum(Kind::Double)], &[&x], false, false).remove(0);
        let error = worst_difference(&elements(&wanted), &product, BATCH);
        assert!(error <= F64_TOLERANCE, "{name}: {error}");
    }
}

/// The published network spelled out in libtorch calls, straight from its description.
fn reference_sngan32(weights: &Weights, x: &Tensor) -> Tensor {
    let conv = |x: &Tensor, name: &str| {
        let weight = &weights[&format!("{name}.weight")];
        let padding = weight.size()[2] / 2;
        x.conv2d(
            weight,
            Some(&weights[&format!("{name}.bias")]),
            [1, 1],
            [padding, padding],
            [1, 1],
            1,
        )
    };
    let pool = |x: &Tensor| x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
    let mut h =
        pool(&conv(&conv(x, "stem.conv1").relu(), "stem.conv2")) + conv(&pool(x), "stem.shortcut");
    h = pool(&conv(
        &conv(&h.relu(), "block1.conv1").relu(),
        "block1.conv2",
    )) + pool(&conv(&h, "block1.shortcut"));
    for block in ["block2", "block3"] {
        h = conv(
            &conv(&h.relu(), &format!("{block}.conv1")).relu(),
            &format!("{block}.conv2"),
        ) + h;
    }
    h.relu()
        .mean_dim([2i64, 3].as_slice(), false, Kind::Double)
        .matmul(&weights["head.weight"])
        .view([-1])
}

#[test]
fn sngan32_is_its_description() {
    let network = Network::Sngan(Sngan::sngan32(8));
    let weights = to_device(&weights(&network, 1), Kind::Double, Device::Cpu);
    let x = from_host(&images(&network, BATCH, 2), Kind::Double, Device::Cpu);
    let program = Program::new(&network.graph().unwrap(), Kind::Double, Device::Cpu);
    let got = elements(
        &program
            .bind(&weights)
            .unwrap()
            .output("energy", &x)
            .unwrap(),
    );
    let wanted = elements(&reference_sngan32(&weights, &x));
    assert!(
        worst_difference(&wanted, &got, BATCH) <= F64_TOLERANCE,
        "{wanted:?} against {got:?}"
    );
}

/// libtorch and the slow interpreter agree on every activation.
#[test]
fn libtorch_agrees_with_the_slow_interpreter() {
    for (name, network) in ACTIVATIONS.map(free_form) {
        let derived = gradient_graph(&network.graph().unwrap(), &Rewrite::ALL).unwrap();
        let mut values = reference::bindings(&weights(&network, 1));
        values.insert(
            "x".to_string(),
            reference::to_array(&images(&network, BATCH, 2)),
        );
        let wanted: Vec<f64> = reference::evaluate(&derived, &values).unwrap()["gradient"]
            .iter()
            .copied()
            .collect();
        let error = worst_difference(&wanted, &evaluated(&derived, Kind::Double, &network), BATCH);
        assert!(error <= F64_TOLERANCE, "{name}: {error}");
    }
}
