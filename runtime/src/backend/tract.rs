//! The pure-Rust backend for files that neither the engine of this project nor rten reads.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::fit::cannot_run;
use super::port::Port;
use super::singly::{Ports, SinglySession, Take, Worker};
use super::{Backend, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// Plans the model for one image at a time if its batch is free, else for its fixed batch.
pub(super) fn prepare(model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
    let (model_plan, ports) = plan(model.bytes()?).map_err(|error| {
        cannot_run(&Backend::tract(), model).caused_by(error.into_boxed_dyn_error())
    })?;
    let ports = Arc::new(ports);
    let worker = TractWorker {
        plan: Arc::new(Plan {
            model: model_plan,
            ports: Arc::clone(&ports),
            threads: OnceLock::new(),
            most_threads: n_threads,
        }),
        n_threads,
        state: None,
    };
    SinglySession::first(model, ports, worker, n_threads)
}

struct Plan {
    model: Arc<TypedRunnableModel>,
    ports: Arc<Ports>,
    /// Threads that work on one run together, started when a run first wants them. tract divides matrix products among them by tiles of the result, so that
    /// the bits do not depend on their number.
    threads: OnceLock<Executor>,
    most_threads: usize,
}

impl Plan {
    /// What a piece of work gives whose matrix products are divided among the threads.
    fn with_threads<T>(&self, work: impl FnOnce() -> T) -> T {
        let executor = self.threads.get_or_init(|| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(self.most_threads)
                .build();
            // Where the system has no threads to give, the work is done without.
            pool.map_or(Executor::SingleThread, |pool| {
                Executor::MultiThread(Arc::new(pool))
            })
        });
        multithread_tract_scope(executor.clone(), work)
    }
}

/// The plan of an ONNX file. Of its weights there are never more than two copies: each form is dropped when the next one is made.
fn plan(file: Bytes) -> TractResult<(Arc<TypedRunnableModel>, Ports)> {
    let parsed = ModelProto::decode(file)?;
    // Declared shapes of inner values and outputs hold the symbol of the batch; tract infers them again.
    let mut graph = onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_proto_model(&parsed)?;
    drop(parsed);
    let mut inputs = Vec::new();
    for (index, outlet) in graph.inputs.clone().into_iter().enumerate() {
        let name = graph.node(outlet.node).name.clone();
        let input = planned_input(name, graph.input_fact(index)?)?;
        let fact = InferenceFact::dt_shape(f32::datum_type(), &input.extents);
        graph.set_input_fact(index, fact)?;
        inputs.push(input);
    }
    let outputs = graph.outputs.iter();
    let outputs = outputs.map(|outlet| match graph.outlet_label(*outlet) {
        Some(label) => label.to_owned(),
        None => graph.node(outlet.node).name.clone(),
    });
    let ports = Ports {
        inputs,
        outputs: outputs.collect(),
    };
    Ok((graph.into_optimized()?.into_runnable()?, ports))
}

fn planned_input(name: String, fact: &InferenceFact) -> TractResult<Port> {
    let Some(rank) = fact.shape.rank().concretize() else {
        return Err(TractError::msg(format!(
            "the input `{name}` has no declared shape"
        )));
    };
    let size = |axis: i64| {
        let dimension = fact.shape.dim(axis as usize)?.concretize()?;
        dimension.to_usize().ok()
    };
    Port::planned(name, (0..rank).map(size)).map_err(TractError::msg)
}

struct TractWorker {
    plan: Arc<Plan>,
    n_threads: usize,
    /// Made on the first run.
    state: Option<TypedSimpleState>,
}

impl TractWorker {
    fn results(&mut self, inputs: &[Cow<'_, [f32]>]) -> TractResult<TVec<TValue>> {
        let ports = self.plan.ports.inputs.iter();
        let tensors = ports
            .zip(inputs)
            .map(|(port, values)| Ok(Tensor::from_shape(&port.extents, values)?.into_tvalue()));
        let tensors = tensors.collect::<TractResult<TVec<_>>>()?;
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(self.plan.model.spawn()?),
        };
        match self.n_threads {
            1 => state.run(tensors),
            _ => self.plan.with_threads(|| state.run(tensors)),
        }
    }
}

impl Worker for TractWorker {
    fn run(
        &mut self,
        inputs: &[Cow<'_, [f32]>],
        wanted: &[usize],
        take: &mut Take<'_>,
    ) -> Result<()> {
        let results = self.results(inputs).map_err(failed)?;
        for (number, &place) in wanted.iter().enumerate() {
            let view = results[place]
                .to_plain_array_view::<f32>()
                .map_err(failed)?;
            let values = view.as_standard_layout();
            let values = values.as_slice().expect("standard layout is contiguous");
            take(number, view.shape(), values)?;
        }
        Ok(())
    }

    fn fork(&self, n_threads: usize) -> Self {
        Self {
            plan: Arc::clone(&self.plan),
            n_threads,
            state: None,
        }
    }
}

fn failed(error: TractError) -> Error {
    Error::new(ErrorKind::Backend, "tract failed at running the model")
        .caused_by(error.into_boxed_dyn_error())
}
