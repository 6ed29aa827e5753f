//! What a model computes of one row after the other: logits, energies, generated images.

use crate::backend::{Input, Output, Session};
use crate::error::Result;
use crate::prepared::Prepared;

/// Rows that go through a model at a time, if its batch is free.
const CHUNK: usize = 16;

/// A batch of rows that goes into a model.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// The shape of one row.
    pub shape: &'a [usize],
    /// `[N, …]`
    pub values: &'a [f32],
}

impl<'a> Rows<'a> {
    pub fn new(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> Self {
        Self {
            name,
            shape,
            values,
        }
    }
}

/// The name of a batch of rows that comes out of a model, and the shape of one row.
pub(crate) type RowsOut<'a> = (&'a str, &'a [usize]);

impl Prepared {
    /// The rows of the outputs, each `[n, …]`, that the model computes of `n` rows of each input and the same `scalars` for all.
    pub(crate) fn rows(
        &self,
        n: usize,
        inputs: &[Rows<'_>],
        scalars: &[(&str, f32)],
        outputs: &[RowsOut<'_>],
    ) -> Result<Vec<Vec<f32>>> {
        let batch = self.contract().batch;
        let chunk = batch.unwrap_or(CHUNK.min(self.most_images_each()));
        let firsts: Vec<usize> = (0..n).step_by(chunk).collect();
        let parts = self.map(&firsts, |session, &first| {
            let n_rows = chunk.min(n - first);
            let inputs = inputs.iter().map(|rows| Rows {
                values: &rows.values[first * size(rows.shape)..][..n_rows * size(rows.shape)],
                ..*rows
            });
            let inputs: Vec<_> = inputs.collect();
            let mut computed = run(session, n_rows, batch, &inputs, scalars, outputs)?;
            for (rows, (_, shape)) in computed.iter_mut().zip(outputs) {
                rows.truncate(n_rows * size(shape));
            }
            Ok(computed)
        })?;
        let mut all = vec![Vec::new(); outputs.len()];
        for part in parts {
            all.iter_mut()
                .zip(part)
                .for_each(|(all, rows)| all.extend(rows));
        }
        Ok(all)
    }
}

/// One run, with padding if the model's batch is larger than the `n` rows: the results have the rows of the whole batch.
pub(crate) fn run(
    session: &mut dyn Session,
    n: usize,
    batch: Option<usize>,
    inputs: &[Rows<'_>],
    scalars: &[(&str, f32)],
    outputs: &[RowsOut<'_>],
) -> Result<Vec<Vec<f32>>> {
    let n_rows = batch.unwrap_or(n);
    let padded: Vec<(Vec<usize>, Vec<f32>)> = inputs
        .iter()
        .map(|rows| {
            let mut values = rows.values.to_vec();
            values.resize(n_rows * size(rows.shape), 0.0);
            (batched(n_rows, rows.shape), values)
        })
        .collect();
    let tensors = inputs.iter().zip(&padded);
    let tensors = tensors.map(|(rows, (shape, values))| Input::new(rows.name, shape, values));
    let constants = scalars.iter();
    let constants = constants.map(|(name, value)| Input::scalar(name, value));
    let tensors: Vec<_> = tensors.chain(constants).collect();
    let mut results: Vec<(Vec<usize>, Vec<f32>)> = outputs
        .iter()
        .map(|(_, shape)| {
            let shape = batched(n_rows, shape);
            let values = vec![0.0; size(&shape)];
            (shape, values)
        })
        .collect();
    let places = outputs.iter().zip(&mut results);
    let mut places: Vec<_> = places
        .map(|((name, _), (shape, values))| Output::new(name, shape, values))
        .collect();
    session.run(&tensors, &mut places)?;
    Ok(results.into_iter().map(|(_, values)| values).collect())
}

fn size(shape: &[usize]) -> usize {
    shape.iter().product()
}

fn batched(n: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(n).chain(shape.iter().copied()).collect()
}
