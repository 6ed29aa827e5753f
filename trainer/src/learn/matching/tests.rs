//! What an update follows, against finite differences of the formula that it should follow.

use ebm_export::source::networks::Network as Description;

use super::*;
use crate::config::{Fit, Layers};
use crate::machine::device::DeviceName;
use crate::network::to_device;

fn configured(sets: &str) -> MatchingConfig {
    configured_as("digits-denoise", sets)
}

fn configured_as(preset: &str, sets: &str) -> MatchingConfig {
    let sets: Vec<String> = sets.split_whitespace().map(String::from).collect();
    let layers = Layers::default().preset(preset).unwrap();
    match layers.set_all(&sets).unwrap().resolve_fit().unwrap() {
        Fit::Matching(config) => *config,
        Fit::Likelihood(_) => panic!("{sets:?} is no matching"),
    }
}

fn learner(config: &MatchingConfig) -> MatchingLearner {
    let dataset = crate::data::load(&config.data, None, config.network.image(), 1).unwrap();
    let machine = Machine::new(DeviceName::Cpu, Some(1)).unwrap();
    MatchingLearner::new(config.clone(), dataset, None, machine).unwrap()
}

fn group(learner: &MatchingLearner, name: &str) -> Tensors {
    let groups = learner.groups().unwrap();
    let found = groups.into_iter().find(|(group, _)| *group == name);
    found.unwrap().1
}

/// `mean of weight · ‖∇E(x) − target‖²` in f64, with ∇E by autograd of the energy as it is described.
fn loss(network: &Description, weights: &Weights, regression: &Regression) -> f64 {
    let program = Program::new(&network.graph().unwrap(), Kind::Double, Device::Cpu);
    let x = regression
        .inputs
        .to_kind(Kind::Double)
        .set_requires_grad(true);
    let energy = program.bind(weights).unwrap().output("energy", &x).unwrap();
    let sum = energy.sum(Kind::Double);
    let gradient = Tensor::run_backward(&[sum], &[&x], false, false).swap_remove(0);
    let difference = gradient - regression.targets.to_kind(Kind::Double);
    let squares = difference
        .square()
        .sum_dim_intlist([1i64, 2, 3].as_slice(), false, None);
    let losses = squares * regression.weights.to_kind(Kind::Double);
    losses.mean(Kind::Double).double_value(&[])
}

/// Every single weight, for smooth networks with and without pools. Of the first update Adam's mean is `(1 − β₁)` times the gradient that it
/// was given.
#[test]
fn an_update_follows_the_gradient_of_the_formula() {
    for (preset, sets) in [
        ("digits-denoise", "network.activation=silu"),
        (
            "digits-denoise",
            "network.activation=gelu objective.draw=log-uniform objective.sigma=[0.1,0.4]",
        ),
        (
            "digits-denoise",
            "network.activation={soft_leaky_relu={a=0.4,e=0.1}} objective.offset=0.3",
        ),
        ("digits-flow", "objective.decay_from=0.5"),
        ("digits-flow", "objective.pairs=random"),
    ] {
        let small = "learning.batch=6 learning.head_factor=5 learning.ema_decay=off learning.weight_gradient_clip=off \
            network.widths=[2,3] network.pools=[false,true]";
        let config = configured_as(preset, &format!("{small} {sets}"));
        let mut learner = learner(&config);
        let regression = learner.regression().unwrap();
        let before = to_device(&group(&learner, WEIGHTS), Kind::Double, Device::Cpu);
        let measured = learner.step().unwrap();
        let exact = loss(&config.network, &before, &regression);
        let (name, value) = measured[0];
        assert!(
            name == "loss" && (value / exact - 1.0).abs() < 1e-4,
            "{value} {exact}"
        );

        let means = group(&learner, GROUPS.optimizer);
        let share = 1.0 - config.learning.adam.beta1;
        for (name, weight) in &before {
            let wanted: Vec<f64> = (0..weight.numel() as i64)
                .map(|place| {
                    let at = |step: f64| {
                        let _guard = tch::no_grad_guard();
                        let moved = weight.copy();
                        let _ = moved.view([-1]).get(place).g_add_scalar_(step);
                        let mut weights: Weights = before
                            .iter()
                            .map(|(name, weight)| (name.clone(), weight.shallow_clone()))
                            .collect();
                        weights.insert(name.clone(), moved);
                        tch::with_grad(|| loss(&config.network, &weights, &regression))
                    };
                    (at(1e-5) - at(-1e-5)) / 2e-5
                })
                .collect();
            let got = means[&format!("mean.{name}")].data();
            let got: Vec<f64> = got.iter().map(|mean| f64::from(*mean) / share).collect();
            let length =
                |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
            let difference: Vec<f64> = got
                .iter()
                .zip(&wanted)
                .map(|(one, other)| one - other)
                .collect();
            let error = length(&difference) / length(&wanted);
            assert!(
                length(&wanted) > 1e-9 && error < 1e-3,
                "{sets}: the gradient of {name} is off by {error} of its length"
            );
        }
    }
}

/// What a second phase adds: λ(mean V(x⁺) − trimmed mean V(x⁻)) with chains written out, of which the negatives do not depend on the weights.
#[test]
fn a_second_phase_adds_the_contrast_of_the_formula() {
    const N: i64 = 6;
    let sets = "network.widths=[2,3] network.pools=[false,true] learning.batch=6 learning.ema_decay=off learning.weight_gradient_clip=off \
        objective.contrast.weight=0.5 objective.contrast.clamp=1e9 objective.contrast.trim=0.4 objective.contrast.steps=3 \
        objective.contrast.drift=0.4 from.checkpoint=nowhere";
    let config = configured_as("digits-energy-matching", sets);
    let mut learner = learner(&config);
    let (regression, images) = learner.draw().unwrap();
    let images = images.unwrap();
    let graph = config.network.graph().unwrap();
    let program = Program::new(&graph, Kind::Double, Device::Cpu);
    let weights = to_device(&group(&learner, WEIGHTS), Kind::Double, Device::Cpu);
    let weights: Weights = weights
        .into_iter()
        .map(|(name, weight)| (name, weight.set_requires_grad(true)))
        .collect();
    let energies = |x: &Tensor| program.bind(&weights).unwrap().output("energy", x).unwrap();

    let starts = starts(&images, (config.seed, 0)).unwrap();
    assert!(
        starts
            .narrow(0, 0, N / 2)
            .equal(&images.narrow(0, 0, N / 2))
    );
    assert!(
        !starts
            .narrow(0, N / 2, N / 2)
            .equal(&images.narrow(0, N / 2, N / 2))
    );
    let mut x = starts.to_kind(Kind::Double);
    let _draws = seed_torch(config.seed, 0, Purpose::Langevin);
    // Times 0, 0.4 and 0.8 come before warm_from = 1: no noise.
    for _ in 0..3 {
        let at = x.detach().set_requires_grad(true);
        let gradient =
            Tensor::run_backward(&[energies(&at).sum(Kind::Double)], &[&at], false, false)
                .swap_remove(0);
        x = at.detach() - gradient * 0.4;
    }
    let ends = x.clamp(-1.0, 1.0);
    // The two largest of six are left out.
    let (kept, _) = energies(&ends).sort(0, false);
    let wanted = energies(&images.to_kind(Kind::Double)).mean(Kind::Double)
        - kept.narrow(0, 0, 4).mean(Kind::Double);
    let gradients = of_loss(&(&wanted * 0.5), &weights).unwrap();

    let contrasted = learner.contrasted(&images).unwrap().unwrap();
    let exact = wanted.double_value(&[]);
    assert!(
        (contrasted.difference - exact).abs() < 1e-3 * (1.0 + exact.abs()),
        "{} {exact}",
        contrasted.difference
    );
    assert!((contrasted.loss - 0.5 * exact).abs() < 1e-3 * (1.0 + exact.abs()));
    for (name, gradient) in contrasted.gradients.unwrap() {
        let wanted = &gradients[&name];
        let error = (gradient.to_kind(Kind::Double) - wanted).norm() / (wanted.norm() + 1e-9);
        assert!(error.double_value(&[]) < 1e-3, "{name}: {error:?}");
    }
    let flow = learner
        .differentiate(&regression)
        .unwrap()
        .0
        .iter()
        .sum::<f64>()
        / N as f64;
    let measured = learner.step().unwrap();
    assert!((measured[0].1 - flow - contrasted.loss).abs() < 1e-4 * flow.abs());
}

/// A difference far below zero has no gradient.
#[test]
fn the_contrast_is_held_where_it_is_clamped() {
    let sets = "network.widths=[2,3] network.pools=[false,true] learning.batch=6 objective.contrast.weight=1e6 objective.contrast.clamp=1e-9 \
        objective.contrast.steps=2 from.checkpoint=nowhere";
    let config = configured_as("digits-energy-matching", sets);
    let mut learner = learner(&config);
    for update in 0..8 {
        let (_, images) = learner.draw().unwrap();
        let contrasted = learner.contrasted(&images.unwrap()).unwrap().unwrap();
        let is_held = 1e6 * contrasted.difference < -1e-9;
        assert_eq!(
            contrasted.gradients.is_none(),
            is_held,
            "{update}: {contrasted:?}"
        );
        assert_eq!(contrasted.loss == -1e-9, is_held);
        learner.update += 1;
    }
}

/// Data of variance v with noise σ: the best linear denoiser is `x̃ − a·x̃` with `a = σ²/(v + σ²)`, the gradient of `a‖x̃‖²/2`. So the loss of
/// such gradients is least there, and it is `σ²v/(v + σ²)` per value, over `σ² + s²`.
#[test]
fn gaussian_data_have_the_best_linear_denoiser() {
    let (deviation, sigma) = (0.5, 0.3);
    let sets = format!("objective.sigma=[{sigma},{}]", sigma + 1e-6);
    let config = configured(&sets);
    let _draws = seed_torch(1, 0, Purpose::Samples);
    let images = Tensor::randn([20_000, 1, 2, 2], (Kind::Float, Device::Cpu)) * deviation;
    let drawn = Regression::draw(&config.objective, &images, (1, 1)).unwrap();
    let mean = |factor: f64| {
        let losses = drawn.losses(&(&drawn.inputs * factor)).unwrap();
        losses.mean(Kind::Double).double_value(&[])
    };
    let (variance, noise) = (deviation * deviation, sigma * sigma);
    let best = noise / (variance + noise);
    // The parabola through three points has its least value there.
    let [low, middle, high] = [best - 0.1, best, best + 0.1].map(mean);
    let least = best + 0.05 * (low - high) / (low - 2.0 * middle + high);
    assert!((least - best).abs() < 5e-3, "{least}, expected {best}");
    let wanted = 4.0 * noise * variance / (variance + noise) / (noise + 0.01);
    assert!(
        (middle / wanted - 1.0).abs() < 0.02,
        "{middle}, expected {wanted}"
    );
}

/// The denoiser that is learned takes noise away: PSNR rises over that of the noisy images.
#[test]
fn a_few_updates_learn_to_denoise() {
    let config = configured(
        "learning.updates=60 learning.batch=32 network.widths=[8,8] network.pools=[false,true]",
    );
    let mut learner = learner(&config);
    let before = learner.merit(&[]).unwrap().unwrap();
    let losses: Vec<f64> = (0..60).map(|_| learner.step().unwrap()[0].1).collect();
    let after = learner.merit(&[]).unwrap().unwrap();
    assert!(after > before + 1.0, "{before} dB, then {after} dB");
    assert!(losses[50..].iter().sum::<f64>() < losses[..10].iter().sum::<f64>());
    assert_eq!(learner.tested().unwrap().len(), 3);
}

/// A network with everything that the published U-Nets with transformers have, of the digits.
const UNET: &str = "network={name='unet_vit',image_size=8,channels=1,widths=[8,16],attention=[false,true],blocks=1,groups=4,head_channels=8,\
    patch=4,embedding=16,layers=2,heads=2,scale=10,activation='silu'} learning.head_factor=1 learning.batch=32 learning.learning_rate=2e-3";

/// Flows lead the U-Net from noise to data: its loss falls below that of no gradient at all, with and without dropout.
#[test]
fn a_unet_learns_flows() {
    for more in ["", "learning.dropout=0.1"] {
        let mut learner = learner(&configured_as("digits-flow", &format!("{UNET} {more}")));
        let losses: Vec<f64> = (0..60).map(|_| learner.step().unwrap()[0].1).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..3]), mean(&losses[50..]));
        assert!(last < 0.7 * first, "{more:?}: {first}, then {last}");
    }
}

/// What is forgotten changes with the update and not what it is on average; tests and chains forget nothing.
#[test]
fn dropout_is_drawn_for_each_update_and_for_learning_alone() {
    let mut forgetful = learner(&configured_as(
        "digits-flow",
        &format!("{UNET} learning.dropout=0.25"),
    ));
    let mut plain = learner(&configured_as("digits-flow", UNET));
    for _ in 0..2 {
        // Until the last layers of what is added are no longer zero, nothing in front of them has a say.
        forgetful.step().unwrap();
        plain.learned = Learned::beginning_with(
            &plain.config.network,
            &group(&forgetful, WEIGHTS),
            &plain.config.learning,
            Device::Cpu,
        )
        .unwrap();
        plain.update += 1;
    }
    let masks = forgetful.masks().unwrap();
    let again = forgetful.masks().unwrap();
    assert!(!masks.is_empty());
    for ((name, mask), (_, again)) in masks.iter().zip(&again) {
        assert!(mask.equal(again), "{name}");
        let kept = mask.gt(0.0).to_kind(Kind::Double).mean(Kind::Double);
        let n = mask.numel() as f64;
        let off = (kept.double_value(&[]) - 0.75).abs();
        assert!(off < 5.0 * (0.25 * 0.75 / n).sqrt(), "{name}: {kept:?}");
        let largest = mask.max().double_value(&[]);
        assert!((largest - 1.0 / 0.75).abs() < 1e-6, "{name}: {largest}");
    }
    let regression = forgetful.regression().unwrap();
    let (dropped, _) = forgetful.differentiate(&regression).unwrap();
    let (whole, _) = plain.differentiate(&regression).unwrap();
    let gradient = forgetful
        .program
        .bind(&forgetful.learned.detached())
        .unwrap();
    let tested = regression.losses(&gradient.output("gradient", &regression.inputs).unwrap());
    let tested = Vec::<f64>::try_from(tested.unwrap().to_kind(Kind::Double)).unwrap();
    for ((dropped, whole), tested) in dropped.iter().zip(&whole).zip(&tested) {
        assert!((tested / whole - 1.0).abs() < 1e-4, "{tested} {whole}");
        assert!((dropped / whole - 1.0).abs() > 1e-6, "{dropped} {whole}");
    }
    forgetful.update += 1;
    let (_, later) = forgetful.masks().unwrap().swap_remove(0);
    assert!(!later.equal(&masks[0].1));
}

/// Without dropout an update evaluates what tests and samples do, to the same bits, and draws nothing.
#[test]
fn no_dropout_costs_nothing() {
    let mut plain = learner(&configured_as("digits-flow", UNET));
    for _ in 0..2 {
        plain.step().unwrap();
    }
    assert!(std::ptr::eq(plain.learning_program(), &plain.program));
    assert!(plain.masks().unwrap().is_empty());
    let regression = plain.regression().unwrap();
    let (learned, _) = plain.differentiate(&regression).unwrap();
    let gradient = plain.program.bind(&plain.learned.detached()).unwrap();
    let tested = regression.losses(&gradient.output("gradient", &regression.inputs).unwrap());
    let tested = Vec::<f64>::try_from(tested.unwrap().to_kind(Kind::Double)).unwrap();
    assert_eq!(learned, tested);
}
