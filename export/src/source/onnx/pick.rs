//! Places named by indices: as numbers while reading, as parts of a value, and as masks of ones.

use std::ops::Range;

use ndarray::{ArrayD, IxDyn};

use super::known::{IMAGE, Known, Number, check_count};
use super::node::{Node, Operand, Outputs};
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Binary, Compare, Concat, MatMul, Slice, Where};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Dim, Shape, Value};

/// Most parts that elements at known indices are put together from; more are taken by a product with ones and zeros.
pub(super) const MAX_PARTS: usize = 16;
/// The shape with another extent on an axis.
pub(super) fn beside(shape: &Shape, axis: usize, dim: Dim) -> Shape {
    let mut shape = shape.clone();
    shape.0[axis] = dim;
    shape
}

/// Integers of a number of images, if they are lines in the number of the image.
fn as_lines(known: &Known, mut axes: Range<usize>, batch: usize) -> Option<Known> {
    let axis = axes.find(|&axis| known.shape.size(axis) == Some(batch))?;
    let number = |image: usize, place: &IxDyn| {
        let mut place = place.clone();
        place[axis] = image;
        known.elements[place].fixed()
    };
    let mut shape = known.shape.clone();
    shape.0[axis] = Dim::BATCH;
    let mut elements = Vec::new();
    for place in ndarray::indices(IxDyn(&shape.concrete(1))) {
        let first = number(0, &place)?;
        let step = match batch {
            1 => 0,
            _ => number(1, &place)?.checked_sub(first)?,
        };
        let is_line = (0..batch).all(|image| {
            number(image, &place) == first.checked_add(step.saturating_mul(image as i64))
        });
        is_line.then_some(())?;
        elements.push(Number::Fixed(first).plus(IMAGE.times(Number::Fixed(step))?)?);
    }
    let elements = ArrayD::from_shape_vec(shape.concrete(1), elements).ok()?;
    Some(known.moved(shape, elements))
}

/// The place of each index.
pub(super) fn picked_places(indices: &Known, extent: usize) -> Result<Vec<usize>> {
    let indices = indices.elements.iter();
    indices.map(|&index| picked_index(index, extent)).collect()
}

pub(super) fn picked_index(index: Number, extent: usize) -> Result<usize> {
    let known = index.fixed().and_then(|index| place_of(index, extent).ok());
    known.ok_or_else(|| format!("there is no element {index} of {extent}"))
}

/// Negative indices count from the end.
pub(super) fn place_of(index: i64, extent: usize) -> Result<usize> {
    let counted = match index {
        0.. => usize::try_from(index).ok(),
        _ => usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| extent.checked_sub(back)),
    };
    let place = counted.filter(|&index| index < extent);
    place.ok_or_else(|| format!("there is no element {index} of {extent}"))
}

impl Node<'_, '_> {
    /// An operand of integers that are known or of the graph, which may have the batch on some of its axes.
    pub fn indices(&mut self, position: usize, batch: Option<Range<usize>>) -> Result<Operand> {
        match (self.operand(position)?.clone(), batch) {
            (Operand::Known(known), Some(axes)) => Ok(self.over_images(&known, axes).into()),
            (Operand::Value(_), _) => Err(format!("its input {position} must be integers")),
            (indices, _) => Ok(indices),
        }
    }

    /// Integers that a file with a fixed batch has for each of its images along one of some axes, as those of any image if they are lines in
    /// its number.
    pub fn over_images(&self, known: &Known, axes: Range<usize>) -> Known {
        let of_file = self
            .fixed_batch()
            .filter(|_| known.shape.batch_axis().is_none());
        let lines = of_file.and_then(|batch| as_lines(known, axes, batch));
        lines.unwrap_or_else(|| known.clone())
    }

    /// A rule for floats, applied to booleans by way of 0 and 1 too. Integers of the graph stay such.
    pub fn of_floats(
        &mut self,
        operand: &Operand,
        rule: impl FnOnce(&mut Self, &Operand) -> Result<Operand>,
    ) -> Outputs {
        match operand {
            Operand::Value(value) if self.dtype(*value) == DType::Bool => {
                let numbers = self.as_numbers(*value)?;
                match rule(self, &numbers.into())? {
                    Operand::Value(value) => Ok(vec![self.is_set(value)?.into()]),
                    other => Ok(vec![other]),
                }
            }
            Operand::Known(known) if !known.is_integer() => match rule(self, operand)? {
                Operand::Value(value) => Ok(vec![self.is_set(value)?.into()]),
                other => Ok(vec![other]),
            },
            Operand::Known(_) => match rule(self, operand)? {
                Operand::Value(value) => Ok(vec![Operand::Integers(value)]),
                other => Ok(vec![other]),
            },
            _ => Ok(vec![rule(self, operand)?]),
        }
    }

    /// Floats as they are; booleans, and what is known, as numbers of the graph.
    pub fn numbers(&mut self, operand: &Operand) -> Result<Value> {
        match operand {
            Operand::Value(value) if self.dtype(*value) == DType::Bool => self.as_numbers(*value),
            Operand::Value(value) | Operand::Integers(value) => Ok(*value),
            Operand::Known(known) => self.floats_of(known),
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        }
    }

    /// The part of an operand that goes with indices of that shape: as many elements beside an axis as they have.
    pub fn beginnings(
        &mut self,
        operand: &Operand,
        indices: &Shape,
        axis: usize,
    ) -> Result<Operand> {
        let current = shape_of_operand(self, operand);
        let misfit = || format!("indices {indices} do not fit {current} along axis {axis}");
        if current.rank() != indices.rank() {
            return Err(misfit());
        }
        let mut part = operand.clone();
        for other in (0..current.rank()).filter(|&other| other != axis) {
            part = match (current.0[other], indices.0[other]) {
                (own, wanted) if own == wanted => part,
                // What is the same for all images goes with each of them.
                (Dim::Size(1), Dim::Batch { .. }) => part,
                (Dim::Size(own), Dim::Size(wanted)) if wanted < own => {
                    self.part(&part, Slice::range(other, 0..wanted))?
                }
                _ => return Err(misfit()),
            };
        }
        Ok(part)
    }

    /// Which of `extent` places each index names: `[.., 1]` of whole numbers to booleans `[.., extent]`.
    pub fn is_place(&mut self, indices: Value, extent: usize) -> Result<Value> {
        let last = self.shape(indices).rank() - 1;
        self.is_place_along(indices, last, extent)
    }

    /// The same with the places along another axis, on which the indices have extent 1.
    pub fn is_place_along(&mut self, indices: Value, axis: usize, extent: usize) -> Result<Value> {
        check_count(&[extent])?;
        let indices = self.counted(indices, &[extent as f32])?;
        self.equals_place(indices, axis, extent)
    }

    /// The same for indices none of which counts from the end.
    pub fn equals_place(&mut self, indices: Value, axis: usize, extent: usize) -> Result<Value> {
        let places = (0..extent).map(|place| place as f32).collect();
        let places = self.add_constant("all_places", Tensor::new(&[extent], places));
        let rank = self.shape(indices).rank();
        let places = self.on_axis("all_places", places, axis, rank)?;
        self.apply("is_place", Compare::Equal, &[indices, places])
    }

    /// Indices that count from the front: the extent is added to those below 0.
    pub fn counted(&mut self, indices: Value, extents: &[f32]) -> Result<Value> {
        let zero = self.scalar("zero", 0.0);
        let extents = match extents {
            [extent] => self.scalar("extent", *extent),
            extents => {
                self.add_constant("extents", Tensor::new(&[extents.len()], extents.to_vec()))
            }
        };
        let below = self.apply("below", Compare::Greater, &[zero, indices])?;
        let behind = self.apply("behind", Binary::Add, &[indices, extents])?;
        self.apply("counted", Where, &[below, behind, indices])
    }

    /// `[.., N, J, ..]`, the images on axis `at`, with the shape of indices in their place.
    pub fn placed(&mut self, x: Value, at: usize, indices: &Shape) -> Result<Value> {
        let current = self.shape(x);
        let Some(Dim::Batch { outer, inner }) = indices.around_batch() else {
            return Err("the indices are the same for all images".to_string());
        };
        let mut shape = Shape(current.0[..at].to_vec());
        shape.0.extend(&indices.0);
        shape.0.extend(&current.0[at + 2..]);
        let mut apart = current.clone();
        apart
            .0
            .splice(at + 1..at + 2, [Dim::Size(outer), Dim::Size(inner)]);
        let mut order: Vec<usize> = (0..apart.rank()).collect();
        let mut moved = x;
        if outer != 1 {
            order.swap(at, at + 1);
            moved = self.seen_as("apart", moved, apart)?;
            moved = self.permuted("placed", moved, order)?;
        }
        self.seen_as("shaped", moved, shape)
    }

    /// The elements at those places along an axis: parts of neighbours put together, or a product with ones and zeros where that
    /// would be many.
    pub(super) fn picked(&mut self, value: Value, axis: usize, indices: &[usize]) -> Result<Value> {
        if indices.is_empty() {
            return Err("it takes no elements".to_string());
        }
        let value_is_fixed = self.constant_of(value);
        if let Ok(Some(tensor)) = value_is_fixed {
            return Ok(self.add_constant("picked", picked_tensor(&tensor, axis, indices)?));
        }
        let runs = runs(indices);
        if runs.len() > MAX_PARTS {
            return self.picked_by_product(value, axis, indices);
        }
        let parts = runs
            .into_iter()
            .map(|run| self.slice(value, Slice::range(axis, run)))
            .collect::<Result<Vec<Value>>>()?;
        match parts.as_slice() {
            [only] => Ok(*only),
            parts => self.apply("picked", Concat { axis }, parts),
        }
    }

    /// Moves the axis to the end, multiplies with a column of zeros and a one per index, and moves it back.
    fn picked_by_product(&mut self, value: Value, axis: usize, indices: &[usize]) -> Result<Value> {
        let shape = self.shape(value);
        let (rank, extent) = (shape.rank(), shape.size(axis).unwrap_or(1));
        check_count(&[extent, indices.len()])?;
        let mut columns = vec![0.0; extent * indices.len()];
        for (column, &row) in indices.iter().enumerate() {
            columns[row * indices.len() + column] = 1.0;
        }
        let columns = self.add_constant("columns", Tensor::new(&[extent, indices.len()], columns));
        let mut to_end: Vec<usize> = (0..rank).filter(|&other| other != axis).collect();
        to_end.push(axis);
        let mut back: Vec<usize> = (0..rank - 1).collect();
        back.insert(axis, rank - 1);
        let moved = self.permuted("moved", value, to_end)?;
        if rank == 1 {
            let row = self.seen_as("row", moved, Shape::fixed(&[1, extent]))?;
            let product = self.apply("product", MatMul, &[row, columns])?;
            return self.seen_as("picked", product, Shape::fixed(&[indices.len()]));
        }
        let product = self.apply("product", MatMul, &[moved, columns])?;
        self.permuted("picked", product, back)
    }
}

/// Indices that follow each other, as ranges.
pub(super) fn runs(indices: &[usize]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

fn picked_tensor(tensor: &Tensor, axis: usize, indices: &[usize]) -> Result<Tensor> {
    let mut sizes = tensor.shape().to_vec();
    let inner: usize = sizes[axis + 1..].iter().product();
    let outer: usize = sizes[..axis].iter().product();
    let extent = std::mem::replace(&mut sizes[axis], indices.len());
    check_count(&sizes)?;
    let mut data = Vec::with_capacity(outer * indices.len() * inner);
    for block in tensor.data().chunks_exact((extent * inner).max(1)) {
        for &index in indices {
            data.extend_from_slice(&block[index * inner..(index + 1) * inner]);
        }
    }
    match data.len() == sizes.iter().product::<usize>() {
        true => Ok(Tensor::new(&sizes, data)),
        false => Err("it takes elements of an empty tensor".to_string()),
    }
}
