//! How strong the attacks are, on a linear classifier of two classes, whose best perturbation is known: with the margin
//! `m(x) = (w₀ − w₁)·x + b₀ − b₁` of class 0 over class 1, the least margin in the ℓ∞ ball is `m(x) − ε·‖w₀ − w₁‖₁`, at `x − ε·sign(w₀ − w₁)`.

use ebm_export::graph::op::{Binary, KeepDims, MatMul, Reduce, ReduceKind, Reshape};
use ebm_export::graph::tensor;
use ebm_export::graph::{Graph, Shape};
use ebm_export::source::networks::{Activation, ConvClassifier, Network};
use ebm_export::transform::gradient::{gradient, hessian_vector_product};
use tch::{Device, Kind, Tensor};

use super::*;
use crate::config::{Dynamics, Norm, Setting};
use crate::machine::parallel::Team;
use crate::machine::randomness::seeded;
use crate::network::{BoundNetwork, Program, Weights, to_device};

/// `w₀ − w₁`, of about the sizes of what is learned; no pixel is without influence.
const WEIGHTS: [f32; 8] = [0.9, -0.3, 0.05, -1.2, 0.4, 0.02, -0.6, 0.1];
/// `b₀ − b₁`.
const BIAS: f32 = 0.2;
/// Of pixels in [-1, 1].
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

/// `E(x) = ‖x‖²` with its gradient, and its curvature: a step of a chain multiplies the image by `1 − ε²/T`.
fn quadratic_energy() -> [Program; 2] {
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
    let mut curvature = hessian_vector_product(&graph, "energy", "x").unwrap();
    for output in ["energy", "gradient"] {
        curvature.remove_output(output);
    }
    [gradient(&graph, "energy", "x").unwrap(), curvature]
        .map(|graph| Program::new(&graph, Kind::Float, Device::Cpu))
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
fn labels() -> Tensor {
    Tensor::from_slice(&SHARES.map(|share| i64::from(share < 0.0)))
}

/// All of the images, each of which is right.
fn facing(clean: &Tensor) -> Facing {
    Facing::new((0..8).collect(), clean, &labels())
}

/// Shares of the largest margin that an attack can overcome.
const SHARES: [f64; 8] = [0.5, 0.97, 1.03, 1.5, -0.5, -0.97, -1.03, -1.5];
const BREAKABLE: [bool; 8] = [true, true, false, false, true, true, false, false];

fn parameters() -> Parameters {
    Parameters {
        protocol: Protocol::Quick,
        ball: Ball {
            norm: Norm::Linf,
            epsilon: PixelDistance::of_unit_range(EPSILON / 2.0),
        },
        n_images: 8,
        n_in_all: 8,
        pgd_steps: 20,
        pgd_step_size: PixelDistance::of_unit_range(EPSILON / 10.0),
        blind_factor: 20,
        replicas: 3,
        verify_replicas: 5,
        votes: vec![5],
        batch: 4,
        memory_bytes: 1_000_000,
        attack_seed: 1,
        verify_seed: 2,
    }
}

/// A chain of three steps `x ← a·x + noise` with `a³ = (1 − ε²/T)³` and noise that is small.
const DYNAMICS: Dynamics = Dynamics {
    steps: 3,
    step_size: 1e-4,
    temperature: 1e-7,
    clip: Setting::OFF,
};

/// What an audit needs, with `look` at it.
fn with_audit(parameters: &Parameters, look: impl FnOnce(&Audit<'_>)) {
    let (program, [gradient, curvature]) = (classifier(), quadratic_energy());
    let none = Weights::new();
    let bind = |program| Program::bind(program, &none).unwrap();
    let (network, gradient, curvature): (BoundNetwork<'_>, _, _) =
        (bind(&program), bind(&gradient), bind(&curvature));
    let team = Team::new(Some(1)).unwrap();
    look(&Audit {
        defence: Defence {
            classifier: &network,
            front: Some(Front::Purification(Purification {
                team: &team,
                gradient: &gradient,
                dynamics: DYNAMICS,
                noise: Noise::OfEachImage,
                batch: parameters.batch,
            })),
            batch: parameters.batch,
        },
        curvature: Some(&curvature),
        has_relus: false,
        softened: &[],
        image_bytes: 8 * 4,
        parameters,
    });
}

/// Expects, of images that stand, the best perturbation: away from the label, down the margin for class 0, up for class 1.
fn assert_optimal(of: impl std::fmt::Display, attacked: &Tensor, clean: &Tensor) {
    let change = attacked - clean;
    for place in (0..8).filter(|&place| !BREAKABLE[place]) {
        let sign = if SHARES[place] > 0.0 { -1.0 } else { 1.0 };
        let best = WEIGHTS.map(|weight| sign * EPSILON * f64::from(weight.signum()));
        let got = change.get(place as i64).to_kind(Kind::Double).view([-1]);
        let got = Vec::<f64>::try_from(got).unwrap();
        let close = got
            .iter()
            .zip(&best)
            .all(|(got, best)| (got - best).abs() < 1e-6);
        assert!(close, "{of}, image {place}: {got:?}, expected {best:?}");
    }
}

#[test]
fn pgd_finds_the_best_perturbation_of_a_linear_classifier() {
    let clean = images(&SHARES.map(|share| share * EPSILON * norm_1()));
    with_audit(&parameters(), |audit| {
        let bare = audit.attack_bare(&clean, &labels()).unwrap();
        assert_eq!(bare.right_when_clean, [true; 8]);
        assert_eq!(bare.broken, BREAKABLE);
        assert_optimal("PGD", &bare.images, &clean);
    });
}

/// Images whose margins behind the purification are these shares of what an attack can overcome: b counts once there, and once over `a³` before.
fn images_behind() -> Tensor {
    let shrinkage = (1.0 - DYNAMICS.step_size.powi(2) / DYNAMICS.temperature).powi(3);
    images(
        &SHARES.map(|share| {
            share * EPSILON * norm_1() - f64::from(BIAS) / shrinkage + f64::from(BIAS)
        }),
    )
}

/// The way back through this chain only shrinks a gradient, so that every attack with gradients, exact or not, finds the best perturbation.
#[test]
fn attacks_with_gradients_find_the_best_perturbation_behind_a_quadratic_energy() {
    let clean = images_behind();
    with_audit(&parameters(), |audit| {
        for attack in [
            Attack::Transfer,
            Attack::Bpda,
            Attack::Surrogate,
            Attack::Exact,
            Attack::ExactFromClean,
            Attack::ApgdCe,
            Attack::ApgdDlr,
            Attack::KnownNoise,
        ] {
            let attempt = audit.attempt(attack, &facing(&clean)).unwrap();
            assert_eq!(attempt.row.broken, BREAKABLE, "{attack}");
            assert_optimal(attack, &attempt.images, &clean);
            let stands = BREAKABLE.map(|breakable| !breakable);
            assert_eq!(attempt.row.best.single, stands, "{attack}");
            assert_eq!(attempt.row.best.worst, stands, "{attack}");
        }
    });
}

/// Without gradients they find half of the largest margin, and never more than the whole.
#[test]
fn attacks_without_gradients_break_what_can_be_broken() {
    let clean = images_behind();
    with_audit(&parameters(), |audit| {
        for attack in [Attack::Square, Attack::Differences] {
            let broken = audit.attempt(attack, &facing(&clean)).unwrap().row.broken;
            assert!(broken[0] && broken[4], "{attack}: {broken:?}");
            let more = broken
                .iter()
                .zip(BREAKABLE)
                .any(|(broken, breakable)| *broken && !breakable);
            assert!(!more, "{attack}: {broken:?}");
        }
    });
}

/// An attack whose steps lead nowhere leaves its random start, which breaks none whose margin is nearly the largest: what the tests above find
/// is found by the steps.
#[test]
fn a_random_start_breaks_nothing() {
    let still = Parameters {
        pgd_step_size: PixelDistance::of_unit_range(1e-9),
        ..parameters()
    };
    with_audit(&still, |audit| {
        let clean = images(&SHARES.map(|share| share * EPSILON * norm_1()));
        assert_eq!(
            audit.attack_bare(&clean, &labels()).unwrap().broken,
            [false; 8]
        );
        for attack in [Attack::None, Attack::Exact] {
            let attempt = audit.attempt(attack, &facing(&images_behind())).unwrap();
            let broken = attempt.row.broken;
            assert!(!broken[1] && !broken[5], "{attack}: {broken:?}");
        }
    });
}

/// Every image that an attack finds lies in its ball, for both norms, also where it is judged to be broken.
#[test]
fn attacks_stay_in_their_balls() {
    let clean = images_behind();
    for norm in [Norm::Linf, Norm::L2] {
        let ball = Ball {
            norm,
            ..parameters().ball
        };
        with_audit(
            &Parameters {
                ball,
                ..parameters()
            },
            |audit| {
                for &attack in Attack::all() {
                    if attack.obstacle(&audit.circumstances()).is_some() {
                        continue;
                    }
                    let change = audit.attempt(attack, &facing(&clean)).unwrap().images - &clean;
                    let largest = match norm {
                        Norm::Linf => change.abs().max(),
                        Norm::L2 => crate::chains::langevin::norms(&change).unwrap().max(),
                    };
                    assert!(
                        largest.double_value(&[]) <= EPSILON + 1e-6,
                        "{attack}, {norm}"
                    );
                }
            },
        );
    }
}

/// A gradient that is exact has the slope that differences have; that of BPDA is larger by `1/a³` here.
#[test]
fn slopes_are_told_from_those_of_differences() {
    let clean = images_behind();
    with_audit(&parameters(), |audit| {
        let slope = |attack| {
            let oracle = audit.oracle(attack).unwrap();
            slope_by_differences(&oracle, &clean, &labels()).unwrap()
        };
        let shrinkage = (1.0 - DYNAMICS.step_size.powi(2) / DYNAMICS.temperature).powi(3);
        assert!((slope(Attack::Exact) - 1.0).abs() < 0.02);
        assert!((slope(Attack::Bpda) - shrinkage).abs() < 0.02);
    });
}

/// Convolutions of coloured images leave their gradients with the channels last in memory.
#[test]
fn coloured_images_have_the_slope_of_differences() {
    let description = Network::ConvClassifier(ConvClassifier {
        image_size: 8,
        channels: 3,
        widths: vec![4, 6],
        pools: vec![true, true],
        n_classes: 5,
        activation: Activation::Silu,
    });
    let program = Program::new(&description.graph().unwrap(), Kind::Float, Device::Cpu);
    let weights = description.initial_weights(1).unwrap();
    let weights = to_device(&weights, Kind::Float, Device::Cpu);
    let parameters = parameters();
    let audit = Audit {
        defence: Defence {
            classifier: &program.bind(&weights).unwrap(),
            front: None,
            batch: parameters.batch,
        },
        curvature: None,
        has_relus: false,
        softened: &[],
        image_bytes: 3 * 8 * 8 * 4,
        parameters: &parameters,
    };
    let _draws = seeded(1);
    let images = Tensor::rand([6, 3, 8, 8], (Kind::Float, Device::Cpu)) - 0.5;
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]);
    for attack in [Attack::Exact, Attack::ApgdDlr] {
        let oracle = audit.oracle(attack).unwrap();
        let slope = slope_by_differences(&oracle, &images, &labels).unwrap();
        assert!((slope - 1.0).abs() < 0.02, "{attack}: {slope}");
    }
}
