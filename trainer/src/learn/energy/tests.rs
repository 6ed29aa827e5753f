//! What an update follows, against autograd of the formula that it should follow, and against ten updates as they were.

use ebm_export::graph::tensor::Tensors;
use ebm_export::source::networks::Network;

use super::*;
use crate::config::Layers;
use crate::learn::fit::fit;
use crate::machine::device::DeviceName;
use crate::machine::randomness::seeded;
use crate::network::to_device;
use crate::run::learning::Described;
use crate::run::training::Training;

/// So many images that they are divided: an update adds up the gradients of its parts.
const SMALL: &str = "learning.batch=160 langevin.steps=3 network.widths=[3,4] network.activation=silu chains.bank=200";

fn configured(preset: &str, sets: &str) -> EnergyConfig {
    let sets: Vec<String> = sets.split_whitespace().map(String::from).collect();
    let layers = Layers::default().preset(preset).unwrap();
    layers.set_all(&sets).unwrap().resolve().unwrap()
}

fn learner(config: &EnergyConfig) -> EnergyLearner {
    let examples = Examples::load(config, None, 1).unwrap();
    let borrowed = Borrowed::untrained(config).unwrap();
    let machine = Machine::new(DeviceName::Cpu, Some(1)).unwrap();
    EnergyLearner::new(config.clone(), examples, borrowed, machine).unwrap()
}

/// What the next update measures.
fn update(learner: &mut EnergyLearner) -> Measured {
    let mut one = Training::unrecorded(learner, 1);
    fit(learner, &mut one).unwrap();
    one.last().clone()
}

fn group(learner: &EnergyLearner, name: &str) -> Tensors {
    let groups = learner.groups().unwrap();
    let found = groups.into_iter().find(|(group, _)| *group == name);
    found.unwrap().1
}

/// The energy of a network as it is described, in f64 and without rewrites.
struct Exact {
    program: Program,
    weights: Weights,
}

impl Exact {
    fn new(network: &Network, weights: &Tensors) -> Exact {
        let graph = network.graph().unwrap();
        let weights = to_device(weights, Kind::Double, Device::Cpu).into_iter();
        Exact {
            program: Program::new(&graph, Kind::Double, Device::Cpu),
            weights: weights
                .map(|(name, weight)| (name, weight.set_requires_grad(true)))
                .collect(),
        }
    }

    fn energies(&self, x: &Tensor) -> Tensor {
        let bound = self.program.bind(&self.weights).unwrap();
        bound.output("energy", x).unwrap()
    }
}

/// `x ← x − (ε²/2)·∇U(x) + ε·z`, K times, with U written out and its gradient by autograd.
fn chain_ends(config: &EnergyConfig, energy: &Exact, starts: &Tensor, noise_seed: i64) -> Tensor {
    let langevin = &config.langevin;
    let prior = config.prior.as_ref().map(|prior| {
        let weights = prior.network.initial_weights(config.seed).unwrap();
        (Exact::new(&prior.network, &weights), prior.temperature)
    });
    let potential = |x: &Tensor| {
        let mut potential = energy.energies(x).sum(Kind::Double) / langevin.temperature;
        if let Some((prior, temperature)) = &prior {
            potential = prior.energies(x).sum(Kind::Double) / *temperature + &potential;
        }
        if let Some(tau) = langevin.tau.value() {
            potential = x.square().sum(Kind::Double) / (2.0 * tau * tau) + &potential;
        }
        potential
    };
    let _draws = seeded(noise_seed as u64);
    let mut x = starts.to_kind(Kind::Double);
    for _ in 0..langevin.steps.at(0) {
        let at = x.detach().set_requires_grad(true);
        let gradient = Tensor::run_backward(&[potential(&at)], &[&at], false, false).swap_remove(0);
        let noise = starts.randn_like().to_kind(Kind::Double);
        let step_size = langevin.step_size;
        x = at.detach() - gradient * (step_size * step_size / 2.0) + noise * step_size;
    }
    x
}

/// `∇_θ [mean E(x⁺ + σz) − mean E(x⁻)] / T`. Of the first update Adam's mean is `(1 − β₁)` times the gradient that it was given.
#[test]
fn an_update_follows_the_gradient_of_the_formula() {
    for (preset, more) in [
        ("digits-midrun", ""),
        (
            "digits-midrun",
            "chains.start=noise langevin.temperature=0.5",
        ),
        ("digits-shortrun", "generator.network.widths=[3,2]"),
        (
            "digits-longrun",
            "generator.network.widths=[3,2] prior.network.widths=[2,3] prior.network.activation=silu burn_in.bank=40 burn_in.batch=8",
        ),
    ] {
        let config = configured(preset, &format!("{SMALL} {more}"));
        let mut learner = learner(&config);
        let energy = Exact::new(&config.network, &group(&learner, WEIGHTS));
        let data = learner.data().unwrap();
        let starts = learner.starts().unwrap().chains;
        let ends = chain_ends(&config, &energy, starts.states(), learner.noise_seed());
        let mean = |x: &Tensor| energy.energies(x).mean(Kind::Double);
        let loss = (mean(&data.to_kind(Kind::Double)) - mean(&ends)) / config.langevin.temperature;
        let wanted = of_loss(&loss, &energy.weights).unwrap();

        let measured = update(&mut learner);
        let difference = measured[0].1;
        assert_eq!(measured[0].0, "energy_difference");
        let exact = loss.double_value(&[]);
        assert!(
            (difference - exact).abs() < 1e-3 * (1.0 + exact.abs()),
            "{preset} {more}: {difference}, expected {exact}"
        );
        let means = group(&learner, GROUPS.optimizer);
        let share = (1.0 - config.learning.adam.beta1) as f32;
        for (name, wanted) in wanted {
            let got = means[&format!("mean.{name}")].data().to_vec();
            let got = Tensor::from_slice(&got)
                .view_as(&wanted)
                .to_kind(Kind::Double)
                / f64::from(share);
            let error = (&got - &wanted).norm() / wanted.norm();
            let error = error.double_value(&[]);
            assert!(
                error < 1e-3,
                "{preset} {more}: the gradient of {name} is off by {error} of its length"
            );
        }
    }
}

/// Data get normal noise of standard deviation σ and are otherwise as they are.
#[test]
fn data_get_the_noise_that_is_configured() {
    let data = |sigma: f64| {
        let config = configured(
            "digits-midrun",
            &format!("{SMALL} learning.data_noise={sigma}"),
        );
        learner(&config).data().unwrap()
    };
    let noise = data(0.3) - data(0.0);
    let n = noise.numel() as f64;
    let (mean, deviation) = (noise.mean(Kind::Double), noise.std(true));
    assert!(mean.double_value(&[]).abs() < 5.0 * 0.3 / n.sqrt());
    assert!((deviation.double_value(&[]) - 0.3).abs() < 5.0 * 0.3 / (2.0 * n).sqrt());
}

/// What ten updates measured when they were written down here. Other kernels round otherwise, and each update goes on from the one before.
#[test]
fn ten_updates_are_as_they_were() {
    const WANTED: [f64; 10] = [
        2.001647, -1.049285, 1.420280, -0.352485, 1.863147, 1.759756, -0.313837, 1.005122,
        -1.090880, -1.081479,
    ];
    let config = configured("digits-midrun", &format!("{SMALL} learning.batch=32"));
    let mut learner = learner(&config);
    let got: Vec<f64> = (0..10).map(|_| update(&mut learner)[0].1).collect();
    for (update, (one, wanted)) in got.iter().zip(WANTED).enumerate() {
        assert!(
            (one - wanted).abs() < 1e-3 * wanted.abs().max(0.1),
            "update {update} of {got:?}: expected {wanted}"
        );
    }
}
