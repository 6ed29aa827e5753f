//! ONNX Runtime, from a shared library, with its execution providers.

mod library;
mod provider;
mod recurrent;

use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::TensorRef;

use super::{
    Backend, Fallback, Input, Output, Provider, Recurrence, Recurrent, Session, check_image,
    check_names, copy_output, how_to_run,
};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use recurrent::BoundRuns;

/// Nothing where the library can be loaded and has the provider.
pub(super) fn check(backend: &Backend, provider: Provider) -> Result<()> {
    library::load(backend.library())?;
    provider::check(provider)
}

pub(super) fn prepare(
    model: &Model,
    n_threads: usize,
    backend: &Backend,
    provider: Provider,
) -> Result<Box<dyn Session>> {
    let environment = library::load(backend.library())?;
    provider::check(provider)?;
    let session = open_session(
        &environment,
        model,
        &model.bytes()?,
        n_threads,
        backend,
        provider,
    )
    .map_err(|e| cannot_load(model, backend, provider).caused_by(e))?;
    let x = session.inputs().iter().find(|outlet| outlet.name() == "x");
    if let Some(shape) = x.and_then(|outlet| outlet.dtype().tensor_shape()) {
        let declared: Vec<_> = shape
            .iter()
            .map(|&size| usize::try_from(size).ok())
            .collect();
        check_image(model, &declared)?;
    }
    let names = |outlets: &[ort::value::Outlet]| {
        outlets
            .iter()
            .map(|outlet| outlet.name().to_owned())
            .collect()
    };
    Ok(Box::new(SharedSession {
        inputs: names(session.inputs()),
        outputs: names(session.outputs()),
        session: Arc::new(Mutex::new(session)),
        provider,
        device: backend.device,
    }))
}

fn cannot_load(model: &Model, backend: &Backend, provider: Provider) -> Error {
    let error = Error::new(
        ErrorKind::Backend,
        format!("`{backend}` cannot run the model"),
    )
    .at_path(model.path());
    match (provider, backend.fallback) {
        (Provider::Cpu, _) => error.advise(how_to_run(model, "tract")),
        (_, Fallback::Refused) => error.advise(format!(
            "the cause below says whether {} is not usable here or would leave nodes to the CPU; the latter can be allowed (`--allow-fallback`, \
             `Backend::allow_fallback`), or use the backend `ort`",
            provider::title(provider)
        )),
        (_, Fallback::Allowed) => error.advise("use the backend `ort`"),
    }
}

fn open_session(
    environment: &Environment,
    model: &Model,
    file: &[u8],
    n_threads: usize,
    backend: &Backend,
    provider: Provider,
) -> ort::Result<OrtSession> {
    let builder = OrtSession::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(n_threads)?
        .with_parallel_execution(false)?
        // Threads that wait by spinning would take the processor from the noise between two steps.
        .with_config_entry("session.force_spinning_stop", "1")?;
    provider::register(builder, backend, provider, model, n_threads)?.commit_from_memory(file)
}

/// One session with its own threads; forks take turns at it.
struct SharedSession {
    session: Arc<Mutex<OrtSession>>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    provider: Provider,
    device: u32,
}

impl SharedSession {
    fn run_checked(
        &self,
        inputs: &[Input<'_>],
        outputs: &mut [Output<'_>],
    ) -> ort::Result<Result<()>> {
        let tensors = inputs.iter().map(|input| {
            let tensor = TensorRef::from_array_view((input.shape, input.values))?;
            Ok((input.name, SessionInputValue::from(tensor)))
        });
        let tensors: Vec<_> = tensors.collect::<ort::Result<_>>()?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let results = session.run(tensors)?;
        for output in outputs {
            let (shape, values) = results[output.name].try_extract_tensor::<f32>()?;
            if let Err(error) = copy_output(output, &from_shape(shape), values) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }
}

impl Session for SharedSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        check_names("input", &names, &self.inputs)?;
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        check_names("output", &names, &self.outputs)?;
        self.run_checked(inputs, outputs)
            .unwrap_or_else(|e| Err(failed(e)))
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        check_names("input", &[recurrence.input], &self.inputs)?;
        check_names("output", &[recurrence.output], &self.outputs)?;
        let runs = BoundRuns::new(&self.session, recurrence, self.provider, self.device);
        Ok(Box::new(runs.map_err(failed)?))
    }

    /// All sessions use the threads of the one that they share.
    fn fork(&self, _n_threads: usize) -> Box<dyn Session> {
        Box::new(Self {
            session: Arc::clone(&self.session),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            ..*self
        })
    }
}

fn failed(error: ort::Error) -> Error {
    Error::new(
        ErrorKind::Backend,
        "ONNX Runtime failed at running the model",
    )
    .caused_by(error)
}

/// Sizes as ONNX Runtime takes them.
fn to_shape(sizes: &[usize]) -> Vec<i64> {
    sizes.iter().map(|&size| size as i64).collect()
}

/// Sizes as ONNX Runtime gives them.
fn from_shape(sizes: &[i64]) -> Vec<usize> {
    sizes
        .iter()
        .map(|&size| usize::try_from(size).unwrap_or(0))
        .collect()
}
