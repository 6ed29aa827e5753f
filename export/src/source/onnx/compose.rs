//! Small compositions that many rules share.

use super::node::Node;
use super::result::Result;
use crate::graph::op::{Binary, KeepDims, MatMul, Reduce, ReduceKind, Reshape, Transpose};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

impl Node<'_, '_> {
    /// `x · factor`; x itself where the factor is 1.
    pub fn scaled(&mut self, suffix: &str, x: Value, factor: f32) -> Result<Value> {
        if factor == 1.0 {
            return Ok(x);
        }
        let factor = self.scalar(&format!("{suffix}.factor"), factor);
        self.apply(suffix, Binary::Mul, &[x, factor])
    }

    /// `x + offset`; x itself where the offset is 0.
    pub fn shifted(&mut self, suffix: &str, x: Value, offset: f32) -> Result<Value> {
        if offset == 0.0 {
            return Ok(x);
        }
        let offset = self.scalar(&format!("{suffix}.offset"), offset);
        self.apply(suffix, Binary::Add, &[x, offset])
    }

    /// `x²`.
    pub fn squared(&mut self, suffix: &str, x: Value) -> Result<Value> {
        self.apply(suffix, Binary::Mul, &[x, x])
    }

    /// Sum, mean or maximum along axes that stay with extent 1; x itself if there are none.
    pub fn along(
        &mut self,
        suffix: &str,
        kind: ReduceKind,
        x: Value,
        axes: &[usize],
    ) -> Result<Value> {
        if axes.is_empty() {
            return Ok(x);
        }
        let reduce = Reduce {
            kind,
            axes: axes.to_vec(),
            keep_dims: KeepDims::Yes,
        };
        self.apply(suffix, reduce, &[x])
    }

    /// x under another shape; x itself where that is its own.
    pub fn seen_as(&mut self, suffix: &str, x: Value, shape: Shape) -> Result<Value> {
        if self.shape(x) == shape {
            return Ok(x);
        }
        self.apply(suffix, Reshape { shape }, &[x])
    }

    /// x with its axes in another order; x itself where they stay.
    pub fn permuted(&mut self, suffix: &str, x: Value, axes: Vec<usize>) -> Result<Value> {
        if axes.iter().copied().eq(0..axes.len()) {
            return Ok(x);
        }
        self.apply(suffix, Transpose { axes }, &[x])
    }

    /// A value of one axis in a shape that broadcasts along an axis of a value of that rank.
    pub fn on_axis(
        &mut self,
        suffix: &str,
        value: Value,
        axis: usize,
        rank: usize,
    ) -> Result<Value> {
        let shape = self.shape(value);
        let [dim] = shape.0.as_slice() else {
            return Err(format!("expected a value of one axis, got {shape}"));
        };
        let behind = rank.saturating_sub(axis + 1);
        let dims = std::iter::once(*dim).chain(std::iter::repeat_n(Dim::Size(1), behind));
        self.seen_as(suffix, value, Shape(dims.collect()))
    }

    /// Does a value depend on an input of the model?
    pub fn depends_on_input(&mut self, value: Value) -> bool {
        let reader = &mut *self.reader;
        reader.constants.is_dynamic(&reader.graph, value)
    }

    /// Takes the elements along an axis, which must not be the batch, to combinations of them: `matrix` has a row for each new
    /// element and a column for each old one.
    pub fn combined_along(
        &mut self,
        suffix: &str,
        x: Value,
        axis: usize,
        matrix: Tensor,
    ) -> Result<Value> {
        let rank = self.shape(x).rank();
        let &[rows, columns] = matrix.shape() else {
            return Err("expected a matrix".to_string());
        };
        if axis + 2 == rank {
            let matrix = self.add_constant(&format!("{suffix}.matrix"), matrix);
            return self.apply(suffix, MatMul, &[matrix, x]);
        }
        let data = matrix.data();
        let transposed = (0..columns * rows)
            .map(|index| data[index % rows * columns + index / rows])
            .collect();
        let transposed = Tensor::new(&[columns, rows], transposed);
        let transposed = self.add_constant(&format!("{suffix}.matrix"), transposed);
        if rank == 1 {
            // A product takes two axes.
            let row = Shape::fixed(&[1, columns]);
            let row = self.seen_as(&format!("{suffix}.row"), x, row)?;
            let product = self.apply(&format!("{suffix}.product"), MatMul, &[row, transposed])?;
            return self.seen_as(suffix, product, Shape::fixed(&[rows]));
        }
        let mut swapped: Vec<usize> = (0..rank).collect();
        swapped.swap(axis, rank - 1);
        let last = self.permuted(&format!("{suffix}.last"), x, swapped.clone())?;
        let product = self.apply(&format!("{suffix}.product"), MatMul, &[last, transposed])?;
        self.permuted(suffix, product, swapped)
    }
}
