//! Operands that are the same for all images, beside operands that have the batch.
//!
//! The number of images N is open, so nothing can be expanded to it as to a number. What has the batch is computed from an input instead: zeros
//! `[1, N, 1]` come from the images, and `x + zeros` is x once for each of them. The dimension `Batch { outer, inner }` is an axis of
//! `outer · N · inner` elements, in the order `[outer, N, inner]`, as reshaping makes it.

use super::node::{Node, Outputs};
use super::result::Result;
use crate::graph::batch::zero_per_image;
use crate::graph::op::{Binary, Expand, Reshape};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Dim, Shape, Value};

impl Node<'_, '_> {
    /// The node's result: a value, which may be booleans, stretched to a shape that may have the batch where the value has not.
    pub fn stretched(&mut self, value: Value, shape: &Shape) -> Outputs {
        if self.dtype(value) != DType::Bool {
            return Ok(vec![self.stretch(value, shape)?.into()]);
        }
        let numbers = self.as_numbers(value)?;
        let numbers = self.stretch(numbers, shape)?;
        Ok(vec![self.is_set(numbers)?.into()])
    }

    /// A value under another shape. One that is the same for all images is that of one image, and becomes that of each if the shape has the
    /// batch.
    pub fn seen_per_image(&mut self, suffix: &str, x: Value, shape: Shape) -> Result<Value> {
        let Some(axis) = shape
            .batch_axis()
            .filter(|_| self.shape(x).batch_axis().is_none())
        else {
            return self.seen_as(suffix, x, shape);
        };
        let Dim::Batch { outer, inner } = shape.0[axis] else {
            return Err("no axis holds the batch".to_string());
        };
        // [.., outer, N, inner, ..], of which the batch's axis is one.
        let mut apart = shape.clone();
        apart.0.splice(
            axis..=axis,
            [Dim::Size(outer), Dim::BATCH, Dim::Size(inner)],
        );
        let one_image = Shape::fixed(&apart.concrete(1));
        let one_image = self.seen_as(suffix, x, one_image)?;
        let images = self.stretch(one_image, &apart)?;
        self.seen_as(suffix, images, shape)
    }

    /// Floats stretched to a shape, which may have the batch where they have not.
    pub fn stretch(&mut self, value: Value, shape: &Shape) -> Result<Value> {
        let current = self.shape(value);
        let mut value = value;
        if let Some(axis) = shape
            .batch_axis()
            .filter(|_| current.batch_axis().is_none())
        {
            let zeros = self.zeros_along(axis, shape)?;
            value = self.apply("images", Binary::Add, &[value, zeros])?;
        }
        match self.shape(value) == *shape {
            true => Ok(value),
            false => {
                let shape = shape.clone();
                self.apply("stretched", Expand { shape }, &[value])
            }
        }
    }

    /// Zeros that have the batch of a shape along an axis, and extent 1 along all others.
    fn zeros_along(&mut self, axis: usize, shape: &Shape) -> Result<Value> {
        let Dim::Batch { outer, inner } = shape.0[axis] else {
            return Err("no axis holds the batch".to_string());
        };
        let beside = |dim: Dim| {
            let mut dims = vec![Dim::Size(1); shape.rank()];
            dims[axis] = dim;
            Reshape { shape: Shape(dims) }
        };
        let zeros = self.zero_per_image()?;
        let zeros = self.apply("zeros", beside(Dim::BATCH), &[zeros])?;
        if (outer, inner) == (1, 1) {
            return Ok(zeros);
        }
        // Of a shape [6N] with N between 2 and 3: [1, N, 1] to [2, N, 3] to [6N].
        let around = |outer: usize, inner: usize| {
            Shape(vec![Dim::Size(outer), Dim::BATCH, Dim::Size(inner)])
        };
        let shape_of_one = around(1, 1);
        let zeros = self.apply(
            "zeros",
            Reshape {
                shape: shape_of_one,
            },
            &[zeros],
        )?;
        let apart = around(outer, inner);
        let zeros = self.apply("zeros", Expand { shape: apart }, &[zeros])?;
        self.apply("zeros", beside(shape.0[axis]), &[zeros])
    }

    /// Zeros `[1, N, 1]` through which no gradient flows.
    fn zero_per_image(&mut self) -> Result<Value> {
        let reader = &mut *self.reader;
        if let Some(zeros) = reader.zeros {
            return Ok(zeros);
        }
        let source = reader.source.ok_or("the model has no input")?;
        let zeros = zero_per_image(&mut reader.graph, "images", source)
            .map_err(|error| error.to_string())?;
        reader.zeros = Some(zeros);
        Ok(zeros)
    }

    /// Operands that broadcast. Exporters put a batch that the file fixes into constants too, as equal rows: one of these
    /// is left where another operand has the batch.
    pub fn broadcasting(&mut self, values: &[Value]) -> Result<Vec<Value>> {
        let Some((from_end, dim)) = self.batch_among(values) else {
            return Ok(values.to_vec());
        };
        let mut alike = values.to_vec();
        for value in &mut alike {
            let rank = self.shape(*value).rank();
            if let Some(axis) = rank.checked_sub(from_end) {
                *value = self.one_row(*value, axis, dim)?;
            }
        }
        Ok(alike)
    }

    /// Operands of equal extents but along `axis`: those that are the same for all images are given the batch of the others.
    pub fn alike_but(&mut self, values: &[Value], axis: usize) -> Result<Vec<Value>> {
        let Some((from_end, dim)) = self.batch_among(values) else {
            return Ok(values.to_vec());
        };
        let mut alike = values.to_vec();
        for value in &mut alike {
            let mut shape = self.shape(*value);
            let Some(batch) = shape
                .rank()
                .checked_sub(from_end)
                .filter(|&batch| batch != axis)
            else {
                continue;
            };
            *value = self.one_row(*value, batch, dim)?;
            if self.shape(*value).0[batch] == Dim::Size(1) {
                shape.0[batch] = dim;
                *value = self.stretch(*value, &shape)?;
            }
        }
        Ok(alike)
    }

    /// Where the batch stands among operands, counted from the end as broadcasting aligns them, and as what.
    fn batch_among(&self, values: &[Value]) -> Option<(usize, Dim)> {
        values.iter().find_map(|&value| {
            let shape = self.shape(value);
            let axis = shape.batch_axis()?;
            Some((shape.rank() - axis, shape.0[axis]))
        })
    }

    /// One row of a fixed value that has as many as the file's batch, if all of them are equal.
    fn one_row(&mut self, value: Value, axis: usize, dim: Dim) -> Result<Value> {
        let shape = self.shape(value);
        let rows = self.fixed_batch().map(|batch| dim.concrete(batch));
        if shape.batch_axis().is_some() || rows == Some(1) || shape.size(axis) != rows {
            return Ok(value);
        }
        let Some(tensor) = self.constant_of(value)? else {
            return Ok(value);
        };
        Ok(match first_of_equal(&tensor, axis) {
            Some(row) => self.add_constant("row", row),
            None => value,
        })
    }
}

/// The first of the parts along an axis, if all of them are equal: `[[1, 2], [1, 2]]` along axis 0 is `[[1, 2]]`.
fn first_of_equal(tensor: &Tensor, axis: usize) -> Option<Tensor> {
    let mut sizes = tensor.shape().to_vec();
    let extent = std::mem::replace(&mut sizes[axis], 1);
    let inner: usize = sizes[axis + 1..].iter().product();
    let mut first = Vec::new();
    for block in tensor.data().chunks_exact((extent * inner).max(1)) {
        let row = block.get(..inner)?;
        if block.chunks_exact(inner.max(1)).any(|other| other != row) {
            return None;
        }
        first.extend_from_slice(row);
    }
    (first.len() == sizes.iter().product::<usize>()).then(|| Tensor::new(&sizes, first))
}
