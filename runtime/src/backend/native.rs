//! The engine of this project: convolutional energies on the CPU, planned once and run without allocating.

use std::sync::Arc;

use ebm_engine::{Plan, Processor, Session as EngineSession};

use super::copied::CopiedRuns;
use super::fit::{cannot_run, check_image, check_names, check_output};
use super::port::{Port, names, order};
use super::{Backend, Footprint, Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// Plans the model. Its sessions share the plan with its weights.
pub(super) fn prepare(model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
    let plan = Plan::new(model.bytes()?)
        .map_err(|error| cannot_run(&Backend::native(), model).caused_by(error))?;
    let prepared = Prepared {
        inputs: plan.inputs().map(port).collect(),
        outputs: plan.outputs().map(port).collect(),
        plan: Arc::new(plan),
    };
    if let Some(x) = prepared.inputs.iter().find(|port| port.name == "x") {
        check_image(model, &x.declared())?;
    }
    Ok(Box::new(NativeSession::new(&Arc::new(prepared), n_threads)))
}

struct Prepared {
    plan: Arc<Plan>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

fn port((name, extents, batch_axis): (&str, &[usize], Option<usize>)) -> Port {
    Port {
        name: name.to_owned(),
        extents: extents.to_vec(),
        batch_axis,
    }
}

impl Prepared {
    /// Returns Ok if names and shapes are those of the model, for one number of images.
    fn check(&self, inputs: &[Input<'_>], outputs: &[Output<'_>]) -> Result<()> {
        let (_, n_images) = order(&self.inputs, inputs)?;
        for output in outputs {
            let place = self
                .outputs
                .iter()
                .position(|port| port.name == output.name);
            let Some(place) = place else {
                check_names("output", &[output.name], &names(&self.outputs))?;
                continue;
            };
            check_output(output, &self.outputs[place].shape(n_images))?;
        }
        Ok(())
    }
}

struct NativeSession {
    prepared: Arc<Prepared>,
    session: EngineSession,
}

impl NativeSession {
    fn new(prepared: &Arc<Prepared>, n_threads: usize) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            session: EngineSession::with_threads(&prepared.plan, n_threads),
        }
    }
}

impl Sealed for NativeSession {}

impl Session for NativeSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        self.prepared.check(inputs, outputs)?;
        let inputs: Vec<_> = inputs
            .iter()
            .map(|input| ebm_engine::Input {
                name: input.name,
                shape: input.shape,
                values: input.values,
            })
            .collect();
        let mut outputs: Vec<_> = outputs
            .iter_mut()
            .map(|output| ebm_engine::Output {
                name: output.name,
                shape: output.shape,
                values: output.values,
            })
            .collect();
        self.session.run(&inputs, &mut outputs).map_err(|error| {
            Error::new(ErrorKind::Backend, "the engine failed at running the model")
                .caused_by(error)
        })
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        let [inputs, outputs] = [&self.prepared.inputs, &self.prepared.outputs];
        let session = self.fork(self.session.n_threads());
        CopiedRuns::on(session, &names(inputs), &names(outputs), recurrence)
    }

    fn fork(&self, n_threads: usize) -> Box<dyn Session> {
        Box::new(Self::new(&self.prepared, n_threads))
    }

    fn footprint(&self) -> Option<Footprint> {
        let plan = &self.prepared.plan;
        let processor = plan.processor();
        Some(Footprint {
            weight_bytes: plan.constant_bytes(),
            image_bytes: plan.image_bytes(),
            vectors: (processor != Processor::Portable).then(|| processor.to_string()),
        })
    }
}
