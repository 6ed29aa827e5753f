//! Engines that are given one image at a time.
//!
//! They choose their kernels by shape, so that the last bits of an image's result would depend on the batch that it is in. One image at a time rules that
//! out, and was not slower than larger batches when it was measured.

use std::borrow::Cow;
use std::sync::Arc;

use super::copied::CopiedRuns;
use super::fit::{check_image, check_names, copy_output};
use super::port::{Port, names, order};
use super::{Input, Output, Recurrence, Recurrent, Sealed, Session};
use crate::error::Result;
use crate::model::Model;

/// The inputs of a model, each planned for one image if its batch is free, and the names of its outputs.
pub(super) struct Ports {
    pub inputs: Vec<Port>,
    pub outputs: Vec<String>,
}

/// Called with each wanted output of a run: its number among them, its shape and its values.
pub(super) type Take<'t> = dyn FnMut(usize, &[usize], &[f32]) -> Result<()> + 't;

/// An engine that runs a model on tensors of the planned shapes.
pub(super) trait Worker: Send + Sized + 'static {
    /// Runs the model on the values of its inputs, and hands out the outputs at the wanted places.
    fn run(
        &mut self,
        inputs: &[Cow<'_, [f32]>],
        wanted: &[usize],
        take: &mut Take<'_>,
    ) -> Result<()>;

    /// The same for another thread.
    fn fork(&self, n_threads: usize) -> Self;
}

/// A session on such an engine.
pub(super) struct SinglySession<W> {
    ports: Arc<Ports>,
    worker: W,
    n_threads: usize,
}

impl<W: Worker> SinglySession<W> {
    /// The first session of a model, whose declared image has to be that of its contract.
    pub fn first(
        model: &Model,
        ports: Arc<Ports>,
        worker: W,
        n_threads: usize,
    ) -> Result<Box<dyn Session>> {
        if let Some(x) = ports.inputs.iter().find(|input| input.name == "x") {
            check_image(model, &x.declared())?;
        }
        Ok(Box::new(Self {
            ports,
            worker,
            n_threads,
        }))
    }
}

impl<W: Worker> Sealed for SinglySession<W> {}

impl<W: Worker> Session for SinglySession<W> {
    fn run(&mut self, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
        let (ordered, n_images) = order(&self.ports.inputs, inputs)?;
        let wanted: Vec<&str> = outputs.iter().map(|output| output.name).collect();
        let wanted = check_names("output", &wanted, &self.ports.outputs)?;
        for image in 0..n_images {
            let values: Vec<_> = ordered
                .iter()
                .map(|(port, input)| of_image(port, input.values, image, n_images))
                .collect();
            self.worker
                .run(&values, &wanted, &mut |number, shape, values| {
                    copy(&mut outputs[number], shape, values, image, n_images)
                })?;
        }
        Ok(())
    }

    fn recur(&self, recurrence: &Recurrence<'_>) -> Result<Box<dyn Recurrent>> {
        let inputs = names(&self.ports.inputs);
        let session = self.fork(self.n_threads);
        CopiedRuns::on(session, &inputs, &self.ports.outputs, recurrence)
    }

    fn fork(&self, n_threads: usize) -> Box<dyn Session> {
        Box::new(Self {
            ports: Arc::clone(&self.ports),
            worker: self.worker.fork(n_threads),
            n_threads,
        })
    }
}

/// The values of one of `n` images, or all of them if there is no batch.
fn of_image<'v>(port: &Port, values: &'v [f32], image: usize, n: usize) -> Cow<'v, [f32]> {
    let Some(axis) = port.batch_axis.filter(|_| n > 1) else {
        return Cow::Borrowed(values);
    };
    let inner: usize = port.extents[axis..].iter().product();
    if axis == 0 {
        return Cow::Borrowed(&values[image * inner..][..inner]);
    }
    let of_image = values.chunks_exact(inner).skip(image).step_by(n);
    Cow::Owned(of_image.flatten().copied().collect())
}

/// Copies the result of one of `n` images to its place in the output.
fn copy(
    output: &mut Output<'_>,
    shape: &[usize],
    values: &[f32],
    image: usize,
    n: usize,
) -> Result<()> {
    // The batch is the first axis in which the shapes differ.
    let differs = |(size, of_image): (&usize, &usize)| size != of_image;
    let axis = output.shape.iter().zip(shape).position(differs);
    let Some(axis) = axis.filter(|&axis| n > 1 && output.shape[axis] == n) else {
        return copy_output(output, shape, values);
    };
    let mut expected = output.shape.to_vec();
    expected[axis] = 1;
    if expected != shape {
        return copy_output(output, shape, values);
    }
    let inner: usize = expected[axis..].iter().product();
    let places = output.values.chunks_exact_mut(inner).skip(image).step_by(n);
    for (place, values) in places.zip(values.chunks_exact(inner)) {
        place.copy_from_slice(values);
    }
    Ok(())
}
