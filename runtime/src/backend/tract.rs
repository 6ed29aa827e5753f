//! The pure-Rust backend.

use std::io::Cursor;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::{Input, Output, Session, check_image, check_names, copy_output};
use crate::error::{Error, ErrorKind, Result};
use crate::model::Model;

/// Plans the model for one image at a time where its batch is free, else for its fixed batch.
///
/// tract picks its kernels by shape, so that the last bits of an image's result would depend on the batch that it is in. One image at a time
/// rules that out, needs one plan, and was not slower than larger batches when it was measured.
pub(super) fn prepare(model: &Model) -> Result<Box<dyn Session>> {
    let (plan, inputs, outputs) = plan(model).map_err(|error| {
        Error::new(ErrorKind::Backend, "tract cannot run the model")
            .at_path(model.path())
            .advise("export it again, or try the backend `ort`")
            .caused_by(error.into_boxed_dyn_error())
    })?;
    if let Some(x) = inputs.iter().find(|input| input.name == "x") {
        check_image(model, &x.declared())?;
    }
    let prepared = Arc::new(Prepared {
        plan,
        inputs,
        outputs,
    });
    Ok(Box::new(TractSession {
        state: None,
        prepared,
    }))
}

struct Prepared {
    plan: Arc<TypedRunnableModel>,
    inputs: Vec<PlannedInput>,
    outputs: Vec<String>,
}

struct PlannedInput {
    name: String,
    shape: Vec<usize>,
    batch: BatchAxis,
}

impl PlannedInput {
    fn declared(&self) -> Vec<Option<usize>> {
        let mut sizes: Vec<_> = self.shape.iter().copied().map(Some).collect();
        if self.batch == BatchAxis::Free {
            sizes[0] = None;
        }
        sizes
    }
}

/// Whether an input's first dimension is a batch of any size, of which the plan takes one image.
#[derive(Clone, Copy, PartialEq)]
enum BatchAxis {
    Free,
    None,
}

type Planned = (Arc<TypedRunnableModel>, Vec<PlannedInput>, Vec<String>);

fn plan(model: &Model) -> TractResult<Planned> {
    // Declared shapes of inner values and outputs hold the symbol of the batch; tract infers them again.
    let mut graph = onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_read(&mut Cursor::new(model.bytes()))?;
    let mut inputs = Vec::new();
    for (index, outlet) in graph.inputs.clone().into_iter().enumerate() {
        let input = planned_input(
            graph.node(outlet.node).name.clone(),
            graph.input_fact(index)?,
        )?;
        graph.set_input_fact(
            index,
            InferenceFact::dt_shape(f32::datum_type(), &input.shape),
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

/// The input as it is planned: a symbol is allowed as first dimension only, and becomes 1.
fn planned_input(name: String, fact: &InferenceFact) -> TractResult<PlannedInput> {
    let Some(rank) = fact.shape.rank().concretize() else {
        return Err(TractError::msg(format!(
            "the input `{name}` has no declared shape"
        )));
    };
    let (mut shape, mut batch) = (Vec::new(), BatchAxis::None);
    for axis in 0..rank as usize {
        let size = fact
            .shape
            .dim(axis)
            .and_then(|dim| dim.concretize())
            .and_then(|dim| dim.to_usize().ok());
        match size {
            Some(size) => shape.push(size),
            None if axis == 0 => {
                shape.push(1);
                batch = BatchAxis::Free;
            }
            None => {
                return Err(TractError::msg(format!(
                    "dimension {axis} of the input `{name}` is not fixed"
                )));
            }
        }
    }
    Ok(PlannedInput { name, shape, batch })
}

struct TractSession {
    /// Made on the first run.
    state: Option<TypedSimpleState>,
    prepared: Arc<Prepared>,
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let prepared = Arc::clone(&self.prepared);
        let ordered = prepared.order(inputs)?;
        let names: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        let places = check_names("output", &names, &prepared.outputs)?;
        let batched = prepared
            .inputs
            .iter()
            .zip(&ordered)
            .find(|(planned, _)| planned.batch == BatchAxis::Free);
        let Some((_, batched)) = batched else {
            let results = self.run_plan(&ordered)?;
            return outputs
                .iter_mut()
                .zip(places)
                .try_for_each(|(output, place)| copy(output, &results[place]));
        };
        let n_images = batched.shape[0];
        for image in 0..n_images {
            let one = prepared
                .inputs
                .iter()
                .zip(&ordered)
                .map(|(planned, input)| match planned.batch {
                    BatchAxis::Free => Input {
                        shape: &planned.shape,
                        values: part(input.values, image, n_images),
                        ..*input
                    },
                    BatchAxis::None => *input,
                });
            let results = self.run_plan(&one.collect::<Vec<_>>())?;
            for (output, &place) in outputs.iter_mut().zip(&places) {
                let shape: Vec<usize> = std::iter::once(1)
                    .chain(output.shape.iter().skip(1).copied())
                    .collect();
                let n_values = output.values.len() / n_images;
                let values = &mut output.values[image * n_values..][..n_values];
                copy(
                    &mut Output {
                        name: output.name,
                        shape: &shape,
                        values,
                    },
                    &results[place],
                )?;
            }
        }
        Ok(())
    }

    fn fork(&self) -> Box<dyn Session> {
        Box::new(Self {
            state: None,
            prepared: Arc::clone(&self.prepared),
        })
    }
}

impl Prepared {
    /// The inputs in the model's order, with their shapes checked against the plan.
    fn order<'a>(&self, inputs: &[Input<'a>]) -> Result<Vec<Input<'a>>> {
        let names: Vec<&str> = inputs.iter().map(|input| input.name).collect();
        let there: Vec<String> = self
            .inputs
            .iter()
            .map(|planned| planned.name.clone())
            .collect();
        check_names("input", &names, &there)?;
        let find = |planned: &PlannedInput| {
            let input = inputs
                .iter()
                .find(|input| input.name == planned.name)
                .ok_or_else(|| {
                    Error::new(ErrorKind::Backend, "the model wants one more input")
                        .at_tensor(&planned.name)
                })?;
            let skip = usize::from(planned.batch == BatchAxis::Free);
            if input.shape.len() != planned.shape.len()
                || input.shape[skip..] != planned.shape[skip..]
            {
                return Err(Error::new(
                    ErrorKind::Shape,
                    "an input has another shape than the model's",
                )
                .at_tensor(&planned.name)
                .expected(format!("{:?}", planned.shape))
                .but_got(format!("{:?}", input.shape)));
            }
            Ok(*input)
        };
        self.inputs.iter().map(find).collect()
    }
}

impl TractSession {
    fn run_plan(&mut self, inputs: &[Input<'_>]) -> Result<TVec<TValue>> {
        self.try_run_plan(inputs).map_err(failed)
    }

    fn try_run_plan(&mut self, inputs: &[Input<'_>]) -> TractResult<TVec<TValue>> {
        let tensors = inputs
            .iter()
            .map(|input| Ok(Tensor::from_shape(input.shape, input.values)?.into_tvalue()));
        let tensors = tensors.collect::<TractResult<_>>()?;
        let state = match &mut self.state {
            Some(state) => state,
            None => self.state.insert(self.prepared.plan.spawn()?),
        };
        state.run(tensors)
    }
}

fn failed(error: TractError) -> Error {
    Error::new(ErrorKind::Backend, "tract failed at running the model")
        .caused_by(error.into_boxed_dyn_error())
}

/// The values of one of `n` images.
fn part(values: &[f32], image: usize, n: usize) -> &[f32] {
    let n_values = values.len() / n;
    &values[image * n_values..][..n_values]
}

fn copy(output: &mut Output<'_>, result: &TValue) -> Result<()> {
    let view = result.to_plain_array_view::<f32>().map_err(failed)?;
    let values = view.as_standard_layout();
    copy_output(
        output,
        view.shape(),
        values.as_slice().expect("standard layout is contiguous"),
    )
}
