//! The engine of this project: convolutional energies on the CPU, planned once and run without allocating.

use std::sync::Arc;

use ebm_engine::{Error as EngineError, Plan, Session as EngineSession};

use super::fit::{check_image, check_names, how_to_run};
use super::{Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// Plans the model. Its sessions share the plan with its weights.
pub(super) fn prepare(model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
    let plan = Plan::new(model.bytes()?).map_err(|error| refused(model, error))?;
    let prepared = Prepared::new(plan);
    if let Some(x) = prepared.inputs.iter().find(|port| port.name == "x") {
        check_image(model, &x.declared())?;
    }
    Ok(Box::new(NativeSession::new(&Arc::new(prepared), n_threads)))
}

fn refused(model: &Model, error: EngineError) -> Error {
    Error::new(
        ErrorKind::Backend,
        "the backend `native` cannot run the model",
    )
    .at_path(model.path())
    .advise(how_to_run(model, "tract"))
    .caused_by(error)
}

/// An input or output of the model.
struct Port {
    name: String,
    /// For one image.
    extents: Vec<usize>,
    batch_axis: Option<usize>,
}

impl Port {
    fn new((name, extents, batch_axis): (&str, &[usize], Option<usize>)) -> Self {
        Self {
            name: name.to_owned(),
            extents: extents.to_vec(),
            batch_axis,
        }
    }

    fn declared(&self) -> Vec<Option<usize>> {
        let mut sizes: Vec<_> = self.extents.iter().copied().map(Some).collect();
        if let Some(axis) = self.batch_axis {
            sizes[axis] = None;
        }
        sizes
    }

    /// Number of images of a shape, if it tells.
    fn n_images(&self, shape: &[usize]) -> Option<usize> {
        let axis = self.batch_axis?;
        Some(shape.get(axis)? / self.extents[axis])
    }

    fn shape(&self, n_images: usize) -> Vec<usize> {
        let mut shape = self.extents.clone();
        if let Some(axis) = self.batch_axis {
            shape[axis] *= n_images;
        }
        shape
    }
}

struct Prepared {
    plan: Arc<Plan>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    input_names: Vec<String>,
    output_names: Vec<String>,
}

impl Prepared {
    fn new(plan: Plan) -> Self {
        let inputs: Vec<Port> = plan.inputs().map(Port::new).collect();
        let outputs: Vec<Port> = plan.outputs().map(Port::new).collect();
        let names = |ports: &[Port]| ports.iter().map(|port| port.name.clone()).collect();
        Self {
            input_names: names(&inputs),
            output_names: names(&outputs),
            plan: Arc::new(plan),
            inputs,
            outputs,
        }
    }

    /// Returns Ok if names and shapes are those of the model, for one number of images.
    fn check(&self, inputs: &[Input<'_>], outputs: &[Output<'_>]) -> Result<()> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        let places = check_names("input", &names, &self.input_names)?;
        let missing = self
            .input_names
            .iter()
            .find(|name| !names.contains(&name.as_str()));
        if let Some(name) = missing {
            return Err(
                Error::new(ErrorKind::Backend, "the model wants one more input").at_tensor(name),
            );
        }
        let given = places
            .iter()
            .zip(inputs)
            .find_map(|(&place, input)| self.inputs[place].n_images(input.shape));
        let n_images = given.unwrap_or(1);
        for (&place, input) in places.iter().zip(inputs) {
            let shape = self.inputs[place].shape(n_images);
            if shape != input.shape || input.values.len() != shape.iter().product::<usize>() {
                return Err(Error::new(
                    ErrorKind::Shape,
                    "an input has another shape than the model's",
                )
                .at_tensor(input.name)
                .expected(format!("{shape:?}"))
                .but_got(format!("{:?}", input.shape)));
            }
        }
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        let places = check_names("output", &names, &self.output_names)?;
        for (&place, output) in places.iter().zip(outputs) {
            let shape = self.outputs[place].shape(n_images);
            if shape != output.shape || output.values.len() != shape.iter().product::<usize>() {
                return Err(Error::new(ErrorKind::Shape, "an output has a wrong shape")
                    .at_tensor(output.name)
                    .expected(format!("{:?}", output.shape))
                    .but_got(format!("{shape:?}"))
                    .advise("the file does not keep to its contract: export it again"));
            }
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
        check_names("input", &[recurrence.input], &self.prepared.input_names)?;
        check_names("output", &[recurrence.output], &self.prepared.output_names)?;
        let n_values = recurrence.shape.iter().product::<usize>();
        Ok(Box::new(NativeRuns {
            session: Self::new(&self.prepared, self.session.n_threads()),
            input: recurrence.input.to_owned(),
            output: recurrence.output.to_owned(),
            shape: recurrence.shape.to_vec(),
            state: vec![0.0; n_values],
            next: vec![0.0; n_values],
        }))
    }

    fn fork(&self, n_threads: usize) -> Box<dyn Session> {
        Box::new(Self::new(&self.prepared, n_threads))
    }
}

/// Runs whose state is copied in and out: a few kilobytes beside millions of products.
struct NativeRuns {
    session: NativeSession,
    input: String,
    output: String,
    shape: Vec<usize>,
    state: Vec<f32>,
    next: Vec<f32>,
}

impl Sealed for NativeRuns {}

impl Recurrent for NativeRuns {
    fn write(&mut self, state: &[f32]) -> Result<()> {
        self.state.copy_from_slice(state);
        Ok(())
    }

    fn step(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let mut all_inputs = inputs.to_vec();
        all_inputs.push(Input::new(&self.input, &self.shape, &self.state));
        let outputs = outputs.iter_mut();
        let outputs = outputs.map(|to| Output::new(to.name, to.shape, &mut *to.values));
        let next = Output::new(&self.output, &self.shape, &mut self.next);
        let mut all_outputs: Vec<_> = outputs.chain([next]).collect();
        self.session.run(&all_inputs, &mut all_outputs)?;
        std::mem::swap(&mut self.state, &mut self.next);
        Ok(())
    }

    fn read(&self, state: &mut [f32]) -> Result<()> {
        state.copy_from_slice(&self.state);
        Ok(())
    }
}
