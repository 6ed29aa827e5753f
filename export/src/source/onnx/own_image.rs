//! Indices that name the image itself beside places that depend on an input, as in `logits[arange(N), label]`.

use super::known::{Kind, Known, Number};
use super::node::{Node, Operand};
use super::result::Result;
use crate::graph::Value;
use crate::graph::op::{Binary, Concat};

/// Why such integers are refused elsewhere.
pub(super) const ONLY_INDICES: &str = "integers made of places and of the number of the image are supported as indices only: what depends on the place in the batch mixes its images";

/// Integers of the graph to which each image adds a multiple of its number.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OfImages {
    /// The integers of the image with the number 0.
    pub value: Value,
    /// From one image to the next: of all, or of each place along the last axis.
    pub steps: Vec<i64>,
}

/// Does a tensor count the images?
pub(super) fn counts_images(operand: &Operand) -> bool {
    let counts = |number: &Number| matches!(number, Number::Image { .. });
    matches!(operand, Operand::Known(known) if known.elements.iter().any(counts))
}

/// The integers of the image with the number 0, and the step to the next if it is the same for all.
fn parted(known: &Known) -> Result<(Known, i64)> {
    let step = |number: &Number| match number {
        Number::Image { step, .. } => *step,
        _ => 0,
    };
    let mut steps = known.elements.iter().map(step);
    let first = steps.next().unwrap_or(0);
    if steps.any(|step| step != first) {
        return Err(ONLY_INDICES.to_string());
    }
    let firsts = known.mapped(Kind::Integer, |number| match number {
        Number::Image { first, .. } => Some(Number::Fixed(first)),
        number => Some(number),
    })?;
    Ok((firsts, first))
}

impl Node<'_, '_> {
    /// Do operands that count the images stand beside integers of the graph?
    pub fn names_images(&self) -> bool {
        let mut operands = self.operands.iter().flatten();
        self.has_integers() && operands.any(counts_images)
    }

    /// Integers as they are and the step from image to image.
    fn with_step(&mut self, position: usize) -> Result<(Value, i64)> {
        match self.operand(position)?.clone() {
            Operand::Known(known) => {
                let (firsts, step) = parted(&known)?;
                Ok((self.floats_of(&firsts)?, step))
            }
            operand => Ok((self.whole_numbers_of(&operand)?, 0)),
        }
    }

    /// The sum of both operands.
    pub fn sum_of_images(&mut self) -> Result<Operand> {
        let ((left, of_left), (right, of_right)) = (self.with_step(0)?, self.with_step(1)?);
        let operands = self.broadcasting(&[left, right])?;
        let value = self.apply("sum", Binary::Add, &operands)?;
        let steps = vec![of_left + of_right];
        Ok(Operand::OfImages(OfImages { value, steps }))
    }

    /// All operands joined along the last axis.
    pub fn joined_of_images(&mut self, axis: usize) -> Result<Operand> {
        let (mut values, mut steps) = (Vec::new(), Vec::new());
        for position in 0..self.n_operands() {
            let (value, step) = self.with_step(position)?;
            let shape = self.shape(value);
            let extent = shape.size(axis).filter(|_| axis + 1 == shape.rank());
            steps.extend(vec![step; extent.ok_or(ONLY_INDICES)?]);
            values.push(value);
        }
        let values = self.alike_but(&values, axis)?;
        let value = self.apply("joined", Concat { axis }, &values)?;
        Ok(Operand::OfImages(OfImages { value, steps }))
    }
}
