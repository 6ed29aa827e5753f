//! The engine of this project: convolutional energies on the CPU, planned once and run without allocating.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ebm_engine::{Limits, Plan, Processor, Session as EngineSession, Tiles};

use super::copied::CopiedRuns;
use super::fit::{cannot_run, check_image, check_names, check_output};
use super::port::{Port, names, order};
use super::room::too_large;
use super::{Accuracy, Backend, Footprint, Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// The variable that asks for lesser vectors than the processor has, so that they can be measured, or a fault be found.
const VECTORS: &str = "EBM_VECTORS";

/// Plans the model. Its sessions share the plan with its weights.
pub(super) fn prepare(
    model: &Model,
    n_threads: usize,
    backend: &Backend,
) -> Result<Box<dyn Session>> {
    let prepared = Prepared::new(model, backend)?;
    Ok(Box::new(NativeSession::new(&Arc::new(prepared), n_threads)))
}

/// The vectors of that name.
fn named(name: &str) -> Result<Processor> {
    let all = Processor::all();
    let found = all.iter().find(|vectors| vectors.to_string() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(Processor::to_string).collect();
        let message = format!(
            "{VECTORS} is `{name}`, expected one of {}, which this processor has",
            names.join(", ")
        );
        Error::new(ErrorKind::Argument, message)
    })
}

struct Prepared {
    plan: Arc<Plan>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Sessions of the engine that nobody uses at present. Their memory and threads serve the next run.
    idle: Mutex<Vec<EngineSession>>,
}

fn port((name, extents, batch_axis): (&str, &[usize], Option<usize>)) -> Port {
    Port {
        name: name.to_owned(),
        extents: extents.to_vec(),
        batch_axis,
    }
}

impl Prepared {
    fn new(model: &Model, backend: &Backend) -> Result<Self> {
        let limits = Limits {
            tiles: match backend.accuracy {
                Accuracy::Usual => Tiles::Four,
                Accuracy::High => Tiles::Two,
            },
            bytes: backend.memory.unwrap_or(usize::MAX),
            processor: match std::env::var_os(VECTORS) {
                Some(name) => named(&name.to_string_lossy())?,
                None => Processor::best(),
            },
        };
        let plan = Plan::within(&limits, model.bytes()?).map_err(|error| match error {
            ebm_engine::Error::TooLarge { needed } => {
                too_large(model, limits.bytes, needed, "for its weights and one image")
            }
            error => cannot_run(backend, model).caused_by(error),
        })?;
        let prepared = Self {
            inputs: plan.inputs().map(port).collect(),
            outputs: plan.outputs().map(port).collect(),
            plan: Arc::new(plan),
            idle: Mutex::default(),
        };
        if let Some(x) = prepared.inputs.iter().find(|port| port.name == "x") {
            check_image(model, &x.declared())?;
        }
        Ok(prepared)
    }

    /// A session of the engine on that many threads, one that was used before if there is one. The others are given up, so that no more stay than ever ran
    /// at once.
    fn session(&self, n_threads: usize) -> EngineSession {
        let mut idle = self.idle();
        idle.retain(|session| session.n_threads() == n_threads);
        let used = idle.pop();
        used.unwrap_or_else(|| EngineSession::with_threads(&self.plan, n_threads))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<EngineSession>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
    n_threads: usize,
    /// With one thread, there from the first run on.
    session: Option<EngineSession>,
}

impl NativeSession {
    fn new(prepared: &Arc<Prepared>, n_threads: usize) -> Self {
        Self {
            prepared: Arc::clone(prepared),
            n_threads,
            session: (n_threads > 1).then(|| prepared.session(n_threads)),
        }
    }
}

impl Drop for NativeSession {
    fn drop(&mut self) {
        // A run that broke down may have left threads behind that wait for each other. Helpers that have slept for long wake where the thread is that
        // wakes them, so that two share a processor: several threads are begun anew, each where there is room.
        if !std::thread::panicking() && self.n_threads == 1 {
            self.prepared.idle().extend(self.session.take());
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
        let session = self
            .session
            .get_or_insert_with(|| self.prepared.session(self.n_threads));
        session.run(&inputs, &mut outputs).map_err(|error| {
            Error::new(ErrorKind::Backend, "the engine failed at running the model")
                .caused_by(error)
        })
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        let [inputs, outputs] = [&self.prepared.inputs, &self.prepared.outputs];
        let session = self.fork(self.n_threads);
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
            tile_side: plan.tiles().side(),
            vectors: (processor != Processor::Portable).then(|| processor.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::tests::fixture;

    /// The logits of images that are 1 above and 0 below: ±1 by the weights.
    fn run(session: &mut NativeSession) {
        let pixels: Vec<f32> = (0..3 * 64)
            .map(|i| if i % 64 < 32 { 1.0 } else { 0.0 })
            .collect();
        let mut logits = [0.0; 6];
        let input = Input::new("x", &[3, 1, 8, 8], &pixels);
        let output = Output::new("logits", &[3, 2], &mut logits);
        session.run(&[input], &mut [output]).unwrap();
        assert_eq!(logits, [1.0, -1.0].repeat(3)[..]);
    }

    #[test]
    fn vectors_are_named_as_they_are_shown() {
        for vectors in Processor::all() {
            assert_eq!(named(&vectors.to_string()).unwrap(), vectors);
        }
        let error = named("AVX9").unwrap_err().to_string();
        assert!(
            error.contains("EBM_VECTORS is `AVX9`, expected one of"),
            "{error}"
        );
        assert!(error.contains("plain scalars"), "{error}");
    }

    #[test]
    fn later_runs_take_the_memory_of_earlier_ones() {
        let model = Model::open(fixture("digits/classifier.onnx")).unwrap();
        let prepared = Arc::new(Prepared::new(&model, &Backend::native()).unwrap());
        let session = |n_threads| NativeSession::new(&prepared, n_threads);
        let idle = || -> Vec<usize> {
            let idle = prepared.idle();
            idle.iter().map(EngineSession::n_threads).collect()
        };
        drop(session(1));
        assert!(idle().is_empty(), "memory without a run");
        for _ in 0..3 {
            run(&mut session(1));
            assert_eq!(idle(), [1]);
        }
        let (mut one, mut other) = (session(1), session(1));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|_| run(&mut one)));
            scope.spawn(|| (0..100).for_each(|_| run(&mut other)));
        });
        assert!(idle().is_empty());
        drop((one, other));
        assert_eq!(idle(), [1, 1]);
        run(&mut session(2));
        assert!(idle().is_empty(), "several threads are made anew");
    }
}
