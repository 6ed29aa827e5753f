//! The pure-Rust backend.

mod pool;

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::fit::{check_image, check_names, copy_output, how_to_run};
use super::port::{Port, names, order};
use super::{Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;
use pool::Pool;

/// Plans the model for one image at a time if its batch is free, else for its fixed batch.
///
/// tract picks its kernels by shape, so that the last bits of an image's result would depend on the batch that it is in. One image at a time
/// rules that out, needs one plan, and was not slower than larger batches when it was measured.
pub(super) fn prepare(model: &Model, n_threads: usize) -> Result<Box<dyn Session>> {
    let (plan, inputs, outputs) = plan(model.bytes()?).map_err(|error| {
        Error::new(ErrorKind::Backend, "tract cannot run the model")
            .at_path(model.path())
            .advise(how_to_run(model, "ort"))
            .caused_by(error.into_boxed_dyn_error())
    })?;
    if let Some(x) = inputs.iter().find(|input| input.name == "x") {
        check_image(model, &x.declared())?;
    }
    let prepared = Arc::new(Prepared {
        plan,
        inputs,
        outputs,
        pool: Pool::new(n_threads),
    });
    Ok(Box::new(TractSession {
        state: None,
        prepared,
        n_threads,
    }))
}

struct Prepared {
    pool: Pool,
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<Port>,
    outputs: Vec<String>,
}

/// The values of one of `n` images, or all of them if there is no batch.
fn tensor(port: &Port, values: &[f32], image: usize, n: usize) -> TractResult<TValue> {
    let Some(axis) = port.batch_axis.filter(|_| n > 1) else {
        return Ok(Tensor::from_shape(&port.extents, values)?.into_tvalue());
    };
    let inner: usize = port.extents[axis..].iter().product();
    let of_image = values.chunks_exact(inner).skip(image).step_by(n);
    let values: Vec<f32> = of_image.flatten().copied().collect();
    Ok(Tensor::from_shape(&port.extents, &values)?.into_tvalue())
}

type Planned = (Arc<TypedRunnableModel>, Vec<Port>, Vec<String>);

/// The plan of an ONNX file. Of its weights there are never more than two copies: each form is dropped when the next one is made.
fn plan(file: Bytes) -> TractResult<Planned> {
    let parsed = ModelProto::decode(file)?;
    // Declared shapes of inner values and outputs hold the symbol of the batch; tract infers them again.
    let mut graph = onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_proto_model(&parsed)?;
    drop(parsed);
    let mut inputs = Vec::new();
    for (index, outlet) in graph.inputs.clone().into_iter().enumerate() {
        let input = planned_input(
            graph.node(outlet.node).name.clone(),
            graph.input_fact(index)?,
        )?;
        graph.set_input_fact(
            index,
            InferenceFact::dt_shape(f32::datum_type(), &input.extents),
        )?;
        inputs.push(input);
    }
    let outputs = graph
        .outputs
        .iter()
        .map(|outlet| match graph.outlet_label(*outlet) {
            Some(label) => label.to_owned(),
            None => graph.node(outlet.node).name.clone(),
        });
    let outputs = outputs.collect();
    Ok((graph.into_optimized()?.into_runnable()?, inputs, outputs))
}

/// The input as it is planned: a symbol is allowed for one dimension, and becomes 1.
fn planned_input(name: String, fact: &InferenceFact) -> TractResult<Port> {
    let Some(rank) = fact.shape.rank().concretize() else {
        return Err(TractError::msg(format!(
            "the input `{name}` has no declared shape"
        )));
    };
    let (mut extents, mut batch_axis) = (Vec::new(), None);
    for axis in 0..rank as usize {
        let size = fact
            .shape
            .dim(axis)
            .and_then(|dim| dim.concretize())
            .and_then(|dim| dim.to_usize().ok());
        match size {
            Some(size) => extents.push(size),
            None if batch_axis.is_none() => {
                extents.push(1);
                batch_axis = Some(axis);
            }
            None => {
                return Err(TractError::msg(format!(
                    "more than one dimension of the input `{name}` is not fixed, dimension {axis} among them"
                )));
            }
        }
    }
    Ok(Port {
        name,
        extents,
        batch_axis,
    })
}

struct TractSession {
    /// Made on the first run.
    state: Option<TypedSimpleState>,
    prepared: Arc<Prepared>,
    n_threads: usize,
}

impl Sealed for TractSession {}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let prepared = Arc::clone(&self.prepared);
        let (ordered, n_images) = order(&prepared.inputs, inputs, None)?;
        let places = prepared.places(outputs)?;
        for image in 0..n_images {
            let tensors = tensors(&ordered, image, n_images).map_err(failed)?;
            let results = self.run_plan(tensors).map_err(failed)?;
            for (output, &place) in outputs.iter_mut().zip(&places) {
                copy(output, &results[place], image, n_images)?;
            }
        }
        Ok(())
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        let names = names(&self.prepared.inputs);
        let input = check_names("input", &[recurrence.input], &names)?[0];
        let output = check_names("output", &[recurrence.output], &self.prepared.outputs)?[0];
        Ok(Box::new(TractRuns {
            session: Self {
                state: None,
                prepared: Arc::clone(&self.prepared),
                n_threads: self.n_threads,
            },
            input,
            output,
            n_images: match self.prepared.inputs[input].batch_axis {
                Some(axis) => recurrence.shape[axis],
                None => 1,
            },
            states: Vec::new(),
        }))
    }

    fn fork(&self, n_threads: usize) -> Box<dyn Session> {
        Box::new(Self {
            state: None,
            prepared: Arc::clone(&self.prepared),
            n_threads,
        })
    }
}

/// Runs whose state is a tensor for each image, or one for all if the batch is fixed.
struct TractRuns {
    session: TractSession,
    input: usize,
    output: usize,
    n_images: usize,
    states: Vec<TValue>,
}

impl Sealed for TractRuns {}

impl Recurrent for TractRuns {
    fn write(&mut self, state: &[f32]) -> Result<()> {
        let planned = &self.session.prepared.inputs[self.input];
        let tensors = (0..self.n_images).map(|image| tensor(planned, state, image, self.n_images));
        self.states = tensors.collect::<TractResult<_>>().map_err(failed)?;
        Ok(())
    }

    fn step(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let prepared = Arc::clone(&self.session.prepared);
        let (ordered, _) = order(&prepared.inputs, inputs, Some(self.input))?;
        let places = prepared.places(outputs)?;
        let n_images = self.n_images;
        for (image, state) in self.states.iter_mut().enumerate() {
            let mut tensors = tensors(&ordered, image, n_images).map_err(failed)?;
            tensors.insert(self.input, state.clone());
            let results = self.session.run_plan(tensors).map_err(failed)?;
            for (output, &place) in outputs.iter_mut().zip(&places) {
                copy(output, &results[place], image, n_images)?;
            }
            *state = results[self.output].clone();
        }
        Ok(())
    }

    fn read(&self, state: &mut [f32]) -> Result<()> {
        let n_values = state.len() / self.n_images;
        for (values, tensor) in state.chunks_exact_mut(n_values).zip(&self.states) {
            let view = tensor.to_plain_array_view::<f32>().map_err(failed)?;
            view.iter().zip(values).for_each(|(from, to)| *to = *from);
        }
        Ok(())
    }
}

impl Prepared {
    fn places(&self, outputs: &[Output<'_>]) -> Result<Vec<usize>> {
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        check_names("output", &names, &self.outputs)
    }
}

/// The tensors of one image.
fn tensors(
    inputs: &[(&Port, Input<'_>)],
    image: usize,
    n_images: usize,
) -> TractResult<TVec<TValue>> {
    let tensors = inputs.iter();
    tensors
        .map(|(port, input)| tensor(port, input.values, image, n_images))
        .collect()
}

impl TractSession {
    fn run_plan(&mut self, tensors: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(self.prepared.plan.spawn()?),
        };
        match self.n_threads {
            1 => state.run(tensors),
            _ => self.prepared.pool.scope(|| state.run(tensors)),
        }
    }
}

fn failed(error: TractError) -> Error {
    Error::new(ErrorKind::Backend, "tract failed at running the model")
        .caused_by(error.into_boxed_dyn_error())
}

/// Copies the result of one of `n` images to its place in the output.
fn copy(output: &mut Output<'_>, result: &TValue, image: usize, n: usize) -> Result<()> {
    let view = result.to_plain_array_view::<f32>().map_err(failed)?;
    let values = view.as_standard_layout();
    let values = values.as_slice().expect("standard layout is contiguous");
    // The batch is the first axis in which the shapes differ.
    let differs = |(size, of_image): (&usize, &usize)| size != of_image;
    let axis = output.shape.iter().zip(view.shape()).position(differs);
    let Some(axis) = axis.filter(|&axis| n > 1 && output.shape[axis] == n) else {
        return copy_output(output, view.shape(), values);
    };
    let mut expected = output.shape.to_vec();
    expected[axis] = 1;
    if expected != view.shape() {
        return copy_output(output, view.shape(), values);
    }
    let inner: usize = expected[axis..].iter().product();
    let places = output.values.chunks_exact_mut(inner).skip(image).step_by(n);
    for (place, values) in places.zip(values.chunks_exact(inner)) {
        place.copy_from_slice(values);
    }
    Ok(())
}
