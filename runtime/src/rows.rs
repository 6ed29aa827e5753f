//! What a model computes of one row after the other: logits, energies, generated images.

use std::sync::{Mutex, PoisonError};

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

/// A batch of rows that comes out of a model.
#[derive(Clone, Copy)]
pub(crate) struct RowsOut<'a> {
    /// The model's name for it.
    pub name: &'a str,
    /// The shape of one row.
    pub shape: &'a [usize],
}

impl Prepared {
    /// The rows of the outputs, each `[n, …]`, that the model computes of `n` rows of each input and the same `scalars` for all.
    pub(crate) fn rows(
        &self,
        n: usize,
        inputs: &[Rows<'_>],
        scalars: &[(&str, f32)],
        outputs: &[RowsOut<'_>],
    ) -> Result<Vec<Vec<f32>>> {
        let empty = |output: &RowsOut<'_>| vec![0.0; n * size(output.shape)];
        let results = Mutex::new(outputs.iter().map(empty).collect::<Vec<_>>());
        let chunk = self.contract().batch.unwrap_or(CHUNK);
        let firsts: Vec<usize> = (0..n).step_by(chunk).collect();
        self.for_each(&firsts, |session, &first| {
            let n_rows = chunk.min(n - first);
            let inputs = inputs.iter().map(|rows| Rows {
                values: &rows.values[first * size(rows.shape)..][..n_rows * size(rows.shape)],
                ..*rows
            });
            let inputs: Vec<_> = inputs.collect();
            let computed = run(
                session,
                n_rows,
                self.contract().batch,
                &inputs,
                scalars,
                outputs,
            )?;
            let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
            for ((result, rows), output) in results.iter_mut().zip(computed).zip(outputs) {
                let n_values = n_rows * size(output.shape);
                result[first * size(output.shape)..][..n_values].copy_from_slice(&rows[..n_values]);
            }
            Ok(())
        })?;
        Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One run, with padding if the model's batch is larger than the `n` rows: the results have as many rows as the batch.
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
    let tensors = inputs
        .iter()
        .zip(&padded)
        .map(|(rows, (shape, values))| Input {
            name: rows.name,
            shape,
            values,
        });
    let constants = scalars.iter().map(|(name, value)| Input {
        name,
        shape: &[],
        values: std::slice::from_ref(value),
    });
    let tensors: Vec<_> = tensors.chain(constants).collect();
    let mut results: Vec<(Vec<usize>, Vec<f32>)> = outputs
        .iter()
        .map(|output| {
            let shape = batched(n_rows, output.shape);
            let values = vec![0.0; size(&shape)];
            (shape, values)
        })
        .collect();
    let places = outputs.iter().zip(&mut results);
    let mut places: Vec<_> = places
        .map(|(output, (shape, values))| Output {
            name: output.name,
            shape,
            values,
        })
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
