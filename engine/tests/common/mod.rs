//! What tests of the engine have in common: files, runs and differences.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use ebm_engine::{Input, Output, Plan, Session};
use ebm_export::graph::Batch;
use ebm_export::graph::Graph;
use ebm_export::graph::tensor::Tensor;
use ebm_export::source::{ImageShape, Kind};
use ebm_export::write::contract::{Contract, Described};
use ebm_export::write::onnx::{Opset, model_bytes};

/// Numbers that look random and are the same everywhere.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Between -1 and 1, never 0.
    pub fn unit(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 40) as f32 + 0.5) / (1 << 23) as f32 - 1.0
    }

    pub fn tensor(&mut self, shape: &[usize], of_unit: impl Fn(f32) -> f32) -> Tensor {
        let count = shape.iter().product();
        Tensor::new(shape, (0..count).map(|_| of_unit(self.unit())).collect())
    }
}

pub fn plan(bytes: Vec<u8>) -> Arc<Plan> {
    Arc::new(Plan::new(bytes).unwrap())
}

/// All outputs of a run on `batch` images, by name.
pub fn run(
    plan: &Arc<Plan>,
    n_threads: usize,
    inputs: &[(&str, &Tensor)],
    batch: usize,
) -> BTreeMap<String, Vec<f32>> {
    let mut session = Session::with_threads(plan, n_threads);
    run_in(&mut session, inputs, batch)
}

pub fn run_in(
    session: &mut Session,
    inputs: &[(&str, &Tensor)],
    batch: usize,
) -> BTreeMap<String, Vec<f32>> {
    let plan = Arc::clone(session.plan());
    let shapes: Vec<(String, Vec<usize>)> = plan
        .outputs()
        .map(|(name, extents, axis)| {
            let mut shape = extents.to_vec();
            if let Some(axis) = axis {
                shape[axis] *= batch;
            }
            (name.to_string(), shape)
        })
        .collect();
    let mut values: Vec<Vec<f32>> = shapes
        .iter()
        .map(|(_, shape)| vec![f32::NAN; shape.iter().product()])
        .collect();
    let mut outputs: Vec<Output<'_>> = shapes
        .iter()
        .zip(&mut values)
        .map(|((name, shape), values)| Output {
            name,
            shape,
            values,
        })
        .collect();
    let inputs: Vec<Input<'_>> = inputs
        .iter()
        .map(|(name, tensor)| Input {
            name,
            shape: tensor.shape(),
            values: tensor.data(),
        })
        .collect();
    session.run(&inputs, &mut outputs).unwrap();
    shapes
        .into_iter()
        .map(|(name, _)| name)
        .zip(values)
        .collect()
}

/// The relative L2 difference.
pub fn difference(wanted: &[f64], got: &[f32]) -> f64 {
    assert_eq!(wanted.len(), got.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| {
        values.map(|value| value * value).sum::<f64>().sqrt()
    };
    let pairs = wanted.iter().zip(got);
    norm(&mut pairs.map(|(a, &b)| a - f64::from(b))) / norm(&mut wanted.iter().copied()).max(1e-12)
}

/// A graph as a file of images of that shape.
pub fn file(graph: &Graph, kind: Kind, image: [usize; 3], opset: Opset, batch: Batch) -> Vec<u8> {
    let [channels, height, width] = image;
    let network = ebm_export::source::networks::Network::Sngan(
        ebm_export::source::networks::Sngan::sngan32(1),
    );
    let contract = Contract {
        format_version: ebm_export::write::contract::FORMAT_VERSION,
        kind,
        network: Described::Network(network),
        image: Some(ImageShape {
            channels,
            height,
            width,
        }),
        value_range: [-1.0, 1.0],
        batch: batch.size(),
        langevin: None,
        purification: None,
        potential: None,
        clip: None,
        n_steps: None,
        n_classes: None,
        opset: opset.number(),
        rewrites: Vec::new(),
        precision: ebm_export::transform::precision::Precision::F32,
        n_parameters: 0,
        weights_sha256: "0".repeat(64),
        config: None,
    };
    model_bytes(graph, &contract, opset, batch).unwrap()
}
