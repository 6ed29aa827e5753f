//! How strong the attacks are, on a linear classifier of two classes, whose best perturbation is known: with the margin
//! `m(x) = (w₀ − w₁)·x + b₀ − b₁` of class 0 over class 1, the least margin in the ε∞ ball is `m(x) − ε·‖w₀ − w₁‖₁`, at `x − ε·sign(w₀ − w₁)`.

use ebm_export::gradient::gradient;
use ebm_export::graph::{Graph, Shape};
use ebm_export::op::{Binary, KeepDims, MatMul, Reduce, ReduceKind, Reshape};
use ebm_export::tensor;

use super::*;
use crate::config::Setting;
use crate::network::{Program, Weights};

/// `w₀ − w₁`, of about the sizes of what is learned; no pixel is without influence.
const WEIGHTS: [f32; 8] = [0.9, -0.3, 0.05, -1.2, 0.4, 0.02, -0.6, 0.1];
/// `b₀ − b₁`.
const BIAS: f32 = 0.2;
const EPSILON: f64 = 0.125;

fn norm_1() -> f64 {
    WEIGHTS.iter().map(|weight| f64::from(weight.abs())).sum()
}

fn norm_2_squared() -> f64 {
    WEIGHTS
        .iter()
        .map(|weight| f64::from(weight * weight))
        .sum()
}

/// Logits `[N, 2]` of images `[N, 1, 2, 4]`: `w·x + b` and 0.
fn classifier() -> Program {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::batched(&[1, 2, 4])).unwrap();
    let flat = Reshape {
        shape: Shape::batched(&[8]),
    };
    let flat = graph.apply("flat", flat, &[x]).unwrap();
    let columns = WEIGHTS.iter().flat_map(|&weight| [weight, 0.0]).collect();
    let weights = graph.constant("weights", tensor::Tensor::new(&[8, 2], columns));
    let bias = graph.constant("bias", tensor::Tensor::new(&[2], vec![BIAS, 0.0]));
    let product = graph.apply("product", MatMul, &[flat, weights]).unwrap();
    let logits = graph
        .apply("logits", Binary::Add, &[product, bias])
        .unwrap();
    graph.set_output("logits", logits);
    Program::new(&graph, Kind::Float, Device::Cpu)
}

/// `E(x) = ‖x‖²` with its gradient: a step of a chain multiplies the image by `1 − ε²/T`.
fn quadratic_energy() -> Program {
    let mut graph = Graph::new();
    let x = graph.input("x", Shape::batched(&[1, 2, 4])).unwrap();
    let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
    let sum = Reduce {
        kind: ReduceKind::Sum,
        axes: vec![1, 2, 3],
        keep_dims: KeepDims::No,
    };
    let energy = graph.apply("energy", sum, &[square]).unwrap();
    graph.set_output("energy", energy);
    Program::new(
        &gradient(&graph, "energy", "x").unwrap(),
        Kind::Float,
        Device::Cpu,
    )
}

/// Images whose margins are these: multiples of w, with pixels so small that the range of pixels does not bound an attack.
fn images(margins: &[f64]) -> Tensor {
    let rows = margins.iter().flat_map(|margin| {
        let scale = (margin - f64::from(BIAS)) / norm_2_squared();
        WEIGHTS.map(|weight| weight * scale as f32)
    });
    let rows: Vec<f32> = rows.collect();
    assert!(
        rows.iter()
            .all(|pixel| f64::from(pixel.abs()) + EPSILON < 1.0)
    );
    Tensor::from_slice(&rows).view([-1, 1, 2, 4])
}

/// Each image has the label that it is classified as; a negative margin is that of class 1.
fn labels(margins: &[f64]) -> Tensor {
    let labels: Vec<i64> = margins
        .iter()
        .map(|&margin| i64::from(margin < 0.0))
        .collect();
    Tensor::from_slice(&labels)
}

const PARAMETERS: Parameters = Parameters {
    epsilon: EPSILON,
    pgd_steps: 20,
    pgd_step_size: EPSILON / 5.0,
    replicas: 3,
    verify_replicas: 5,
    batch: 4,
    attack_seed: 1,
    verify_seed: 2,
};

/// Shares of the largest margin that an attack can overcome.
const SHARES: [f64; 8] = [0.5, 0.97, 1.03, 1.5, -0.5, -0.97, -1.03, -1.5];
const BREAKABLE: [bool; 8] = [true, true, false, false, true, true, false, false];

/// Expects the breaks of the best attack, and its perturbation where an image stands.
fn assert_optimal(outcome: &Outcome, clean: &Tensor) {
    assert_eq!(outcome.right_when_clean, [true; 8]);
    assert_eq!(outcome.broken, BREAKABLE);
    let change = &outcome.attacked - clean;
    for place in (0..8).filter(|&place| !BREAKABLE[place]) {
        // Away from the label: down the margin for class 0, up for class 1.
        let sign = if SHARES[place] > 0.0 { -1.0 } else { 1.0 };
        let best: Vec<f64> = WEIGHTS
            .iter()
            .map(|weight| sign * EPSILON * f64::from(weight.signum()))
            .collect();
        let got = Vec::<f64>::try_from(change.get(place as i64).to_kind(Kind::Double).view([-1]))
            .unwrap();
        let close = got
            .iter()
            .zip(&best)
            .all(|(got, best)| (got - best).abs() < 1e-6);
        assert!(close, "image {place}: {got:?}, expected {best:?}");
    }
}

#[test]
fn pgd_finds_the_best_perturbation_of_a_linear_classifier() {
    let margins = SHARES.map(|share| share * EPSILON * norm_1());
    let (clean, labels) = (images(&margins), labels(&margins));
    let program = classifier();
    let network = program.bind(&Weights::new()).unwrap();
    let outcome = attack_bare(&network, &clean, &labels, &PARAMETERS).unwrap();
    assert_optimal(&outcome, &clean);
}

/// A purification of K steps is `x ← a·x + noise` with `a = (1 − ε²/T)ᴷ`. Taken as the identity on the way back, it leaves the sign of the
/// gradient as it is, so that BPDA is the best attack: it overcomes the margin `w·x + b/a` of up to `ε·‖w‖₁`, as far as the noise is small.
#[test]
fn bpda_finds_the_best_perturbation_behind_a_quadratic_energy() {
    let dynamics = Dynamics {
        steps: 3,
        step_size: 1e-4,
        temperature: 1e-7,
        clip: Setting::OFF,
    };
    let shrinkage = (1.0 - dynamics.step_size.powi(2) / dynamics.temperature).powi(3);
    // The margin of the classifier alone is less: b counts once, and not once over a.
    let margins = SHARES.map(|share| {
        let behind = share * EPSILON * norm_1();
        behind - f64::from(BIAS) / shrinkage + f64::from(BIAS)
    });
    let clean = images(&margins);
    let labels = labels(&SHARES);
    let (program, energy) = (classifier(), quadratic_energy());
    let (network, energy) = (
        program.bind(&Weights::new()).unwrap(),
        energy.bind(&Weights::new()).unwrap(),
    );
    let team = Team::new(Some(1)).unwrap();
    let defence = Defence {
        team: &team,
        gradient_network: &energy,
        classifier: &network,
        dynamics,
        batch: PARAMETERS.batch,
    };
    let outcome = attack_defended(&defence, &clean, &labels, &PARAMETERS).unwrap();
    assert_optimal(&outcome, &clean);
}

/// An attack whose steps lead nowhere leaves its random start, which breaks none of these: what the tests above find is found by the gradient.
#[test]
fn a_random_start_breaks_nothing() {
    let margins = SHARES.map(|share| share * EPSILON * norm_1());
    let (clean, labels) = (images(&margins), labels(&margins));
    let program = classifier();
    let network = program.bind(&Weights::new()).unwrap();
    let still = Parameters {
        pgd_step_size: 1e-9,
        ..PARAMETERS
    };
    let outcome = attack_bare(&network, &clean, &labels, &still).unwrap();
    assert_eq!(outcome.broken, [false; 8]);
}

#[test]
fn a_step_stays_in_the_ball_and_in_the_range() {
    let clean = Tensor::from_slice(&[0.0f32, 0.95, -1.0]).view([1, 1, 1, 3]);
    let gradient = Tensor::from_slice(&[5.0f32, 1.0, -1.0]).view([1, 1, 1, 3]);
    let parameters = Parameters {
        epsilon: 0.1,
        pgd_step_size: 0.5,
        ..PARAMETERS
    };
    let moved = ascend(&clean, &gradient, &clean, &parameters).view([-1]);
    assert_eq!(Vec::<f32>::try_from(moved).unwrap(), [0.1, 1.0, -1.0]);
}
