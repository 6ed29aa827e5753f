//! ONNX Runtime, from a shared library, with its execution providers.

mod library;
mod planned;
mod provider;
mod recurrent;

use std::sync::{Arc, PoisonError};

use ort::session::SessionInputValue;
use ort::value::TensorRef;

use super::fit::{check_image, check_names, copy_output};
use super::{Backend, Input, Output, Provider, Recurrence, Recurrent, Sealed, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use planned::{Opener, PlannedSessions};
use recurrent::BoundRuns;

/// Returns Ok if the library can be loaded and has the provider.
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
    let sessions = PlannedSessions::new(Opener {
        environment,
        model: model.clone(),
        backend: backend.clone(),
        provider,
        n_threads,
    })?;
    let session = sessions.for_batch(1)?;
    let session = session.lock().unwrap_or_else(PoisonError::into_inner);
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
        sessions: Arc::new(sessions),
        provider,
        device: backend.device,
    }))
}

/// Sessions with their own threads; forks take turns at them.
struct SharedSession {
    sessions: Arc<PlannedSessions>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    provider: Provider,
    device: u32,
}

impl SharedSession {
    fn run_checked(&self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let x = inputs.iter().find(|input| input.name == "x");
        let batch = x.and_then(|input| input.shape.first()).copied();
        let session = self.sessions.for_batch(batch.unwrap_or(1))?;
        let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = inputs.iter().map(|input| {
            let tensor = TensorRef::from_array_view((input.shape, input.values))?;
            Ok((input.name, SessionInputValue::from(tensor)))
        });
        let tensors: Vec<_> = tensors.collect::<ort::Result<_>>().map_err(failed)?;
        let results = session.run(tensors).map_err(failed)?;
        for output in outputs {
            let tensor = results[output.name].try_extract_tensor::<f32>();
            let (shape, values) = tensor.map_err(failed)?;
            copy_output(output, &from_shape(shape), values)?;
        }
        Ok(())
    }
}

impl Sealed for SharedSession {}

impl Session for SharedSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        check_names("input", &names, &self.inputs)?;
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        check_names("output", &names, &self.outputs)?;
        self.run_checked(inputs, outputs)
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        check_names("input", &[recurrence.input], &self.inputs)?;
        check_names("output", &[recurrence.output], &self.outputs)?;
        let batch = recurrence.shape.first().copied();
        let session = self.sessions.for_batch(batch.unwrap_or(1))?;
        let runs = BoundRuns::new(&session, recurrence, self.provider, self.device);
        Ok(Box::new(runs.map_err(failed)?))
    }

    /// All use the threads of the sessions that they share.
    fn fork(&self, _n_threads: usize) -> Box<dyn Session> {
        Box::new(Self {
            sessions: Arc::clone(&self.sessions),
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
