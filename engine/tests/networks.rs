//! Exported networks against the f64 interpreter: energies, gradients, steps and chains; the same bits whatever the company of an image.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use ebm_engine::{Error, Limits, Plan, Processor, Session, Tiles};
use ebm_export::graph::Batch;
use ebm_export::graph::reference::{self, bindings, evaluate};
use ebm_export::graph::tensor::{Tensor, Tensors};
use ebm_export::source::Energy;
use ebm_export::source::checkpoint::Header;
use ebm_export::source::networks::{Activation, Biggan, Network, Sngan};
use ebm_export::transform::langevin::step_graph;
use ebm_export::transform::pipeline::gradient_graph;
use ebm_export::transform::rewrite::{Rewrite, Target};
use ebm_export::write::{self, Form};

use common::{Numbers, difference, run, run_in};

/// Relative L2 difference of f32 from f64, of the median image of piecewise linear networks and of the worst of smooth ones: where an operand is zero up
/// to rounding, a mask falls on either side, in any implementation.
const TOLERANCE: f64 = 1e-5;
/// Of energies, which are sums of terms of either sign and may come out small.
const ENERGY_TOLERANCE: f64 = 1e-4;
/// The same behind a thousand steps.
const CHAIN_TOLERANCE: f64 = 1e-3;
const BATCH: usize = 3;

const ACTIVATIONS: [Activation; 6] = [
    Activation::Relu,
    Activation::LeakyRelu { slope: 0.1 },
    Activation::Silu,
    Activation::Softplus { beta: 2.0 },
    Activation::Gelu,
    Activation::SoftLeakyRelu { a: 0.49, e: 0.01 },
];

/// Odd extents and channels, pools that leave a row out, forms of every kind.
fn networks() -> Vec<(String, Network)> {
    let small = |size, widths: &[usize], pools: &[bool], activation| {
        Network::Sngan(Sngan::small(size, 3, widths, pools, activation))
    };
    let mut networks = vec![
        (
            "sngan32 of 16".to_string(),
            Network::Sngan(Sngan::sngan32(16)),
        ),
        (
            "sngan32 of 5".to_string(),
            Network::Sngan(Sngan::sngan32(5)),
        ),
        (
            "sngan64 of 4".to_string(),
            Network::Sngan(Sngan::sngan64(4)),
        ),
        (
            "odd".to_string(),
            small(20, &[17, 19, 35], &[true, true, false], Activation::Silu),
        ),
        (
            "mnist".to_string(),
            Network::Sngan(Sngan::small(
                28,
                1,
                &[16, 24, 24],
                &[true, true, false],
                Activation::SoftLeakyRelu { a: 0.49, e: 0.01 },
            )),
        ),
    ];
    for activation in ACTIVATIONS {
        networks.push((
            format!("free form with {activation:?}"),
            small(8, &[9, 16, 12, 33], &[false, true, false, true], activation),
        ));
        networks.push((
            format!("bottlenecks with {activation:?}"),
            Network::Biggan(Biggan {
                image_size: 10,
                channels: 2,
                stem: 8,
                widths: vec![8, 16, 16, 20],
                pools: vec![false, true, true, false],
                attention: Some(1),
                activation,
            }),
        ));
    }
    networks
}

fn weights(network: &Network) -> Tensors {
    let mut numbers = Numbers::new(7);
    let mut weights = network.initial_weights(3).unwrap();
    // Biases and gains that are zero at first would go untested.
    for (name, weight) in &mut weights {
        if [".bias", ".gamma"].iter().any(|end| name.ends_with(end)) {
            *weight = numbers.tensor(weight.shape(), |unit| 0.1 * unit);
        }
    }
    weights
}

fn images(network: &Network, batch: usize) -> Tensor {
    let image = network.image();
    Numbers::new(11).tensor(
        &[batch, image.channels, image.height, image.width],
        |unit| unit,
    )
}

fn bytes(network: &Network, plan: &write::Export, name: &str) -> Vec<u8> {
    let files = plan.files(&energy(network), 1).unwrap();
    let file = files.into_iter().find(|file| file.name == name).unwrap();
    file.model.to_bytes()
}

fn energy(network: &Network) -> Energy {
    Energy::of_network(&Header::new(network.clone()), &weights(network)).unwrap()
}

fn export_plan(rewrites: Vec<Rewrite>) -> write::Export {
    write::Export {
        rewrites,
        ..write::Export::default()
    }
}

/// Of the images, that of the median or of the worst.
fn judged(network: &Network, wanted: &[f64], got: &[f32], batch: usize) -> f64 {
    let n = wanted.len() / batch;
    let mut differences: Vec<f64> = wanted
        .chunks(n)
        .zip(got.chunks(n))
        .map(|(wanted, got)| difference(wanted, got))
        .collect();
    assert!(differences.iter().all(|value| value.is_finite()));
    differences.sort_by(f64::total_cmp);
    match network.activation() {
        Activation::Relu | Activation::LeakyRelu { .. } => differences[batch / 2],
        _ => differences[batch - 1],
    }
}

type Values = BTreeMap<String, ndarray::ArrayD<f64>>;

fn reference_of(network: &Network, x: &Tensor) -> Values {
    let mut values = bindings(&weights(network));
    values.insert("x".to_string(), reference::to_array(x));
    evaluate(
        &gradient_graph(&network.graph().unwrap(), &[]).unwrap(),
        &values,
    )
    .unwrap()
}

fn elements(values: &Values, name: &str) -> Vec<f64> {
    values[name].iter().copied().collect()
}

#[test]
fn energies_and_gradients_are_those_of_the_interpreter() {
    let mut faults = Vec::new();
    for (name, network) in networks() {
        let x = images(&network, BATCH);
        let wanted = reference_of(&network, &x);
        let forms = [("raw", Vec::new()), ("rewritten", Target::Cpu.rewrites())];
        for (form, rewrites) in forms {
            let file = bytes(&network, &export_plan(rewrites), "gradient.onnx");
            for processor in Processor::all() {
                let plan = match Plan::on(processor, file.clone()) {
                    Ok(plan) => Arc::new(plan),
                    Err(error) => {
                        faults.push(format!("{name}, {form}: {error}"));
                        continue;
                    }
                };
                let got = run(&plan, 1, &[("x", &x)], BATCH);
                for (output, tolerance) in [("energy", ENERGY_TOLERANCE), ("gradient", TOLERANCE)] {
                    let error = judged(&network, &elements(&wanted, output), &got[output], BATCH);
                    if error.is_nan() || error > tolerance {
                        faults.push(format!(
                            "{name}, {form}, {processor}: {output} off by {error:.1e}"
                        ));
                    }
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

fn scalar(value: f32) -> Tensor {
    Tensor::new(&[], vec![value])
}

/// Energy, norm and the state behind a step, with a limit on the drift and without, and of two steps in one run.
#[test]
fn steps_are_those_of_the_interpreter() {
    let network = Network::Sngan(Sngan::small(
        10,
        2,
        &[6, 18],
        &[true, false],
        Activation::Silu,
    ));
    let x = images(&network, BATCH);
    let noise = Numbers::new(3).tensor(x.shape(), |unit| unit);
    let (step_size, temperature) = (0.1, 0.05);
    let mut values = bindings(&weights(&network));
    values.insert("x".to_string(), reference::to_array(&x));
    values.insert("noise".to_string(), reference::to_array(&noise));
    for (name, value) in [("step_size", step_size), ("temperature", temperature)] {
        values.insert(name.to_string(), reference::to_array(&scalar(value)));
    }
    let graph = step_graph(&gradient_graph(&network.graph().unwrap(), &[]).unwrap()).unwrap();
    let wanted = evaluate(&graph, &values).unwrap();
    let plan = common::plan(bytes(
        &network,
        &export_plan(Target::Tract.rewrites()),
        "step.onnx",
    ));
    let inputs = [
        ("x", &x),
        ("noise", &noise),
        ("step_size", &scalar(step_size)),
        ("temperature", &scalar(temperature)),
    ];
    let got = run(&plan, 1, &inputs, BATCH);
    for output in ["x_next", "energy", "gradient_norm"] {
        let error = difference(&elements(&wanted, output), &got[output]);
        assert!(error <= ENERGY_TOLERANCE, "{output} off by {error}");
    }

    let limited = write::Export {
        clip: Some(0.001),
        ..export_plan(Target::Tract.rewrites())
    };
    let plan = common::plan(bytes(&network, &limited, "step.onnx"));
    let clipped = run(&plan, 1, &inputs, BATCH);
    let n = x.data().len() / BATCH;
    for image in 0..BATCH {
        let drift = (image * n..(image + 1) * n)
            .map(|i| x.data()[i] + step_size * noise.data()[i] - clipped["x_next"][i]);
        let length = drift
            .map(|value| f64::from(value).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!(
            (length - 0.001).abs() < 1e-5,
            "the drift has the length {length}"
        );
    }

    let twice = export_plan(Target::Tract.rewrites()).model(&energy(&network), &Form::Steps(2));
    let plan_of_two = common::plan(twice.unwrap().to_bytes());
    let both = Tensor::new(
        &[&[2], x.shape()].concat(),
        [noise.data(), noise.data()].concat(),
    );
    let two = run(
        &plan_of_two,
        1,
        &[("x", &x), ("noise", &both), inputs[2], inputs[3]],
        BATCH,
    );
    let plan = common::plan(bytes(
        &network,
        &export_plan(Target::Tract.rewrites()),
        "step.onnx",
    ));
    let first = run(&plan, 1, &inputs, BATCH);
    let between = Tensor::new(x.shape(), first["x_next"].clone());
    let second = run(
        &plan,
        1,
        &[("x", &between), inputs[1], inputs[2], inputs[3]],
        BATCH,
    );
    assert_eq!(
        two["energy"],
        [first["energy"].as_slice(), &second["energy"]].concat()
    );
    let wanted: Vec<f64> = second["x_next"].iter().copied().map(f64::from).collect();
    assert!(difference(&wanted, &two["x_next"]) <= TOLERANCE);
}

/// A thousand steps in f32 on every kind of vectors against a thousand in f64, with the same noise.
#[test]
fn chains_stay_where_those_in_f64_are() {
    let network = Network::Sngan(Sngan::small(
        8,
        1,
        &[12, 13],
        &[true, false],
        Activation::Silu,
    ));
    let x = images(&network, 1);
    let graph =
        step_graph(&gradient_graph(&network.graph().unwrap(), &Target::Tract.rewrites()).unwrap())
            .unwrap();
    let mut values = bindings(&weights(&network));
    let (step_size, temperature) = (scalar(0.02), scalar(0.05));
    for (name, value) in [("step_size", &step_size), ("temperature", &temperature)] {
        values.insert(name.to_string(), reference::to_array(value));
    }
    let noise_of = |step: u64| Numbers::new(step + 1).tensor(x.shape(), |unit| 1.7 * unit);
    values.insert("x".to_string(), reference::to_array(&x));
    for step in 0..1000 {
        values.insert("noise".to_string(), reference::to_array(&noise_of(step)));
        let next = evaluate(&graph, &values).unwrap();
        values.insert("x".to_string(), next["x_next"].clone());
    }
    let wanted: Vec<f64> = values["x"].iter().copied().collect();
    let file = bytes(
        &network,
        &export_plan(Target::Tract.rewrites()),
        "step.onnx",
    );
    for processor in Processor::all() {
        let mut session = Session::new(&Arc::new(Plan::on(processor, file.clone()).unwrap()));
        let mut state = x.clone();
        for step in 0..1000 {
            let inputs = [
                ("x", &state),
                ("noise", &noise_of(step)),
                ("step_size", &step_size),
                ("temperature", &temperature),
            ];
            let next = run_in(&mut session, &inputs, 1);
            state = Tensor::new(x.shape(), next["x_next"].clone());
        }
        let error = difference(&wanted, state.data());
        assert!(error <= CHAIN_TOLERANCE, "{processor}: off by {error}");
    }
}

/// An image's result has the same bits alone, anywhere in a batch, and on any number of threads.
#[test]
fn company_changes_no_bit() {
    let networks = [
        Network::Sngan(Sngan::sngan32(20)),
        Network::Sngan(Sngan::small(
            10,
            2,
            &[33, 18],
            &[true, false],
            Activation::Gelu,
        )),
    ];
    for network in networks {
        let many = images(&network, 11);
        let n = many.data().len() / 11;
        let image_shape = [&[1], &many.shape()[1..]].concat();
        let file = bytes(
            &network,
            &export_plan(Target::Tract.rewrites()),
            "gradient.onnx",
        );
        let every = |processor| TILES.map(|tiles| (processor, tiles));
        for (processor, tiles) in Processor::all().into_iter().flat_map(every) {
            let plan = Arc::new(planned(&file, processor, tiles));
            let alone: Vec<_> = many
                .data()
                .chunks(n)
                .map(|image| {
                    run(
                        &plan,
                        1,
                        &[("x", &Tensor::new(&image_shape, image.to_vec()))],
                        1,
                    )
                })
                .collect();
            for output in ["energy", "gradient"] {
                let wanted: Vec<f32> = alone.iter().flat_map(|of| of[output].clone()).collect();
                for n_threads in [1, 2, 3] {
                    let got = run(&plan, n_threads, &[("x", &many)], 11);
                    assert!(
                        got[output] == wanted,
                        "{processor}, {tiles:?}, {n_threads} threads: {output} differs"
                    );
                    let one = run(
                        &plan,
                        n_threads,
                        &[("x", &Tensor::new(&image_shape, many.data()[..n].to_vec()))],
                        1,
                    );
                    assert!(
                        one[output] == alone[0][output],
                        "{processor}, {tiles:?}, {n_threads} threads, alone: {output} differs"
                    );
                }
            }
        }
    }
}

const TILES: [Tiles; 3] = [Tiles::Four, Tiles::Two, Tiles::One];

fn planned(file: &[u8], processor: Processor, tiles: Tiles) -> Plan {
    let limits = Limits {
        processor,
        tiles,
        ..Limits::default()
    };
    Plan::within(&limits, file.to_vec()).unwrap()
}

/// Tiles that are smaller have a smaller error and fewer weights, and less memory leads to them, down to where nothing fits.
#[test]
fn tiles_trade_speed_for_error_and_memory() {
    let network = Network::Sngan(Sngan::sngan32(24));
    let x = images(&network, BATCH);
    let wanted = elements(&reference_of(&network, &x), "gradient");
    let file = bytes(
        &network,
        &export_plan(Target::Tract.rewrites()),
        "gradient.onnx",
    );
    for processor in Processor::all() {
        let plans = TILES.map(|tiles| Arc::new(planned(&file, processor, tiles)));
        let error = |plan| {
            let got = &run(plan, 1, &[("x", &x)], BATCH)["gradient"];
            judged(&network, &wanted, got, BATCH)
        };
        let errors = plans.each_ref().map(error);
        assert!(
            errors[0] > errors[1].max(errors[2]),
            "{processor}: errors {errors:?}"
        );
        let needs = plans
            .each_ref()
            .map(|plan| plan.constant_bytes() + plan.image_bytes());
        assert!(needs.is_sorted_by(|a, b| a > b), "{needs:?}");
        let within = |bytes| {
            let limits = Limits {
                processor,
                bytes,
                ..Limits::default()
            };
            Plan::within(&limits, file.clone()).map(|plan| plan.tiles())
        };
        for (place, tiles) in TILES.into_iter().enumerate() {
            assert_eq!(plans[place].tiles(), tiles);
            assert_eq!(within(needs[place]), Ok(tiles));
            let next = TILES.get(place + 1).copied();
            let smaller = next.ok_or(Error::TooLarge { needed: needs[2] });
            assert_eq!(within(needs[place] - 1), smaller);
        }
    }
}

/// A file for five images runs as one for any number does.
#[test]
fn a_fixed_batch_runs() {
    let network = Network::Sngan(Sngan::sngan32(12));
    let x = images(&network, 5);
    let fixed = Energy {
        batch: Batch::Fixed(5),
        ..energy(&network)
    };
    let file = export_plan(Target::Tract.rewrites()).model(&fixed, &Form::Gradient);
    let plan = common::plan(file.unwrap().to_bytes());
    let got = run(&plan, 2, &[("x", &x)], 1);
    let wanted = reference_of(&network, &x);
    assert!(
        judged(
            &network,
            &elements(&wanted, "gradient"),
            &got["gradient"],
            5
        ) <= TOLERANCE
    );
}
