//! The pure-Rust backend for files that the engine of this project does not read.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use rten::{Dimension, Model as Loaded, NodeId, RunOptions, ThreadPool, ValueView};
use rten_tensor::prelude::*;

use super::fit::cannot_run;
use super::port::Port;
use super::singly::{Ports, SinglySession, Take, Worker};
use super::{Backend, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

pub(super) fn prepare(model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
    let refused = |cause| cannot_run(&Backend::rten(), model).caused_by(cause);
    let loaded = Loaded::load(model.bytes()?.into()).map_err(|error| refused(error.to_string()))?;
    let (inputs, ports) = ports(&loaded).map_err(refused)?;
    let worker = RtenWorker {
        plan: Arc::new(Plan {
            inputs,
            outputs: loaded.output_ids().to_vec(),
            model: loaded,
            ports: Arc::clone(&ports),
        }),
        n_threads,
        options: OnceLock::new(),
    };
    SinglySession::first(model, ports, worker, n_threads)
}

/// The nodes of the inputs, and what they and the outputs are called. One dimension of an input may have a symbol, and becomes 1.
fn ports(model: &Loaded) -> Result<(Vec<NodeId>, Arc<Ports>), String> {
    let name = |&id: &NodeId| {
        let name = model.node_info(id).and_then(|node| node.name());
        name.unwrap_or_default().to_owned()
    };
    let input = |id: &NodeId| {
        let shape = model.node_info(*id).and_then(|node| node.shape());
        let shape =
            shape.ok_or_else(|| format!("the input `{}` has no declared shape", name(id)))?;
        let size = |dimension: &Dimension| match dimension {
            Dimension::Fixed(size) => Some(*size),
            Dimension::Symbolic(_) => None,
        };
        Port::planned(name(id), shape.iter().map(size))
    };
    let inputs = model.input_ids();
    let ports = Ports {
        inputs: inputs.iter().map(input).collect::<Result<_, _>>()?,
        outputs: model.output_ids().iter().map(name).collect(),
    };
    Ok((inputs.to_vec(), Arc::new(ports)))
}

struct Plan {
    model: Loaded,
    inputs: Vec<NodeId>,
    outputs: Vec<NodeId>,
    ports: Arc<Ports>,
}

struct RtenWorker {
    plan: Arc<Plan>,
    n_threads: usize,
    /// With the threads of this session, which start when it first runs.
    options: OnceLock<RunOptions>,
}

impl Worker for RtenWorker {
    fn run(
        &mut self,
        inputs: &[Cow<'_, [f32]>],
        wanted: &[usize],
        take: &mut Take<'_>,
    ) -> Result<()> {
        let plan = &*self.plan;
        let ports = plan.ports.inputs.iter();
        let tensors = plan.inputs.iter().zip(ports).zip(inputs);
        let tensors = tensors.map(|((&id, port), values)| {
            let view = ValueView::from_shape(&port.extents, values).map_err(failed)?;
            Ok((id, view.into()))
        });
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let outputs: Vec<NodeId> = wanted.iter().map(|&place| plan.outputs[place]).collect();
        let options = self.options.get_or_init(|| {
            let threads = ThreadPool::with_num_threads(self.n_threads);
            RunOptions::default().with_thread_pool(Some(Arc::new(threads)))
        });
        let results = plan.model.run(tensors, &outputs, Some(options.clone()));
        for (number, result) in results.map_err(failed)?.iter().enumerate() {
            let Some(values) = result.as_tensor_view::<f32>() else {
                return Err(failed(format!("an output is of type {}", result.dtype())));
            };
            take(number, values.shape(), &values.to_slice())?;
        }
        Ok(())
    }

    fn fork(&self, n_threads: usize) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            n_threads,
            options: OnceLock::new(),
        }
    }
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Backend, "rten failed at running the model").caused_by(cause)
}
