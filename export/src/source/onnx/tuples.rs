//! Elements that tuples of indices name: `GatherND`, and what it shares with `ScatterND`.
//!
//! ONNX operators: `GatherND`; see [the specification](https://onnx.ai/onnx/operators/).

use ndarray::{Axis, IxDyn};

use super::known::{IMAGE, Known};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::size_of;
use super::own_image::{ONLY_INDICES, OfImages};
use super::pick::{beside, picked_index};
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Cast, MatMul};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("GatherND", gather_nd)];

/// `y[i, .., r] = x[indices[i, .., :], r]`, where the indices name an element of the first axes behind `batch_dims`.
fn gather_nd(node: &mut Node<'_, '_>) -> Outputs {
    let n_shared = size_of(node.int("batch_dims")?.unwrap_or(0))?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let indices = named_by(node, &current, n_shared)?;
    let of_indices = shape_of_operand(node, &indices);
    let taken = Taken::of(&current, &of_indices, n_shared)?;
    let lead = Shape(of_indices.0[..of_indices.rank() - 1].to_vec());
    let places = match indices {
        Operand::Known(indices) => taken.places(&indices)?,
        Operand::OfImages(indices) if n_shared == 0 => {
            return gather_nd_of_images(node, &operand, &taken, &indices);
        }
        indices => {
            let indices = node.whole_numbers_of(&indices)?;
            return gather_nd_by_values(node, &operand, &taken, indices, lead);
        }
    };
    node.of_floats(&operand, |node, operand| {
        let mut shape = lead.clone();
        shape.0.extend(&current.0[taken.n_axes..]);
        match (operand, taken.batch) {
            (Operand::OfImages(_), _) => Err(ONLY_INDICES.to_string()),
            (Operand::Known(known), _) => {
                let flat = known.reshaped(taken.flat(&current))?;
                let elements = flat.elements.select(Axis(0), &places);
                let picked = flat.moved(beside(&flat.shape, 0, Dim::Size(places.len())), elements);
                Ok(picked.reshaped(shape)?.into())
            }
            (Operand::Value(x) | Operand::Integers(x), None) => {
                let flat = node.seen_as("flat", *x, taken.flat(&current))?;
                let picked = node.picked(flat, 0, &places)?;
                Ok(node.seen_per_image("shaped", picked, shape)?.into())
            }
            (Operand::Value(x) | Operand::Integers(x), Some(batch)) => {
                let flat = taken.flat_per_image(node, *x, batch)?;
                let picked = node.picked(flat, 1, &places)?;
                Ok(node.placed(picked, 0, &lead)?.into())
            }
        }
    })
}

/// Index tuples, which the second operand is: for each image if they name images.
pub(super) fn named_by(
    node: &mut Node<'_, '_>,
    current: &Shape,
    n_shared: usize,
) -> Result<Operand> {
    let shape = shape_of_operand(node, node.operand(1)?);
    let length = shape.0.last().map_or(0, |dim| dim.concrete(1));
    let names_images = current
        .batch_axis()
        .is_some_and(|axis| axis < n_shared + length);
    let lead = 0..shape.rank().saturating_sub(1);
    node.indices(1, names_images.then_some(lead))
}

/// Index tuples that depend on an input, as one index each: `batch_dims` are those of the images, or none.
fn gather_nd_by_values(
    node: &mut Node<'_, '_>,
    operand: &Operand,
    taken: &Taken,
    indices: Value,
    lead: Shape,
) -> Outputs {
    let current = shape_of_operand(node, operand);
    let fixed = || {
        format!(
            "indices that depend on the model's input, of {current} with {} batch_dims, are not supported",
            taken.n_shared
        )
    };
    let strides = Tensor::new(
        &[taken.strides.len() - taken.n_shared, 1],
        taken.strides[taken.n_shared..]
            .iter()
            .map(|&stride| stride as f32)
            .collect(),
    );
    let extents: Vec<f32> = taken.extents[taken.n_shared..]
        .iter()
        .map(|&extent| extent as f32)
        .collect();
    let indices = node.counted(indices, &extents)?;
    let mut rows = lead.clone();
    rows.0.push(Dim::Size(extents.len()));
    if rows.rank() == 1 {
        rows.0.insert(0, Dim::Size(1));
    }
    let rows = node.seen_as("tuples", indices, rows)?;
    let strides = node.add_constant("strides", strides);
    let places = node.apply("places", MatMul, &[rows, strides])?;
    node.of_floats(operand, |node, operand| {
        let x = node.numbers(operand)?;
        let mut shape = lead.clone();
        shape.0.extend(&current.0[taken.n_axes..]);
        let rest: usize = current.0[taken.n_axes..]
            .iter()
            .map(|dim| dim.concrete(1))
            .product();
        let count = taken.count();
        let (flat, column) = match (taken.batch, taken.n_shared) {
            (None, 0) if current.batch_axis().is_none() => {
                let flat = node.seen_as("flat", x, Shape::fixed(&[count, rest]))?;
                let length = lead
                    .around_batch()
                    .unwrap_or(Dim::Size(lead.elements_per_image()));
                (flat, Shape(vec![length, Dim::Size(1)]))
            }
            (Some(0), 1) if lead.batch_axis() == Some(0) => {
                let flat = node.seen_as("flat", x, Shape::batched(&[count, rest]))?;
                (flat, Shape::batched(&[lead.elements_per_image(), 1]))
            }
            _ => return Err(fixed()),
        };
        let column = node.seen_as("column", places, column)?;
        let mask = node.is_place(column, count)?;
        let ones = node.apply("ones", Cast::F32, &[mask])?;
        let product = node.apply("product", MatMul, &[ones, flat])?;
        Ok(node.seen_as("gathered", product, shape)?.into())
    })
}

/// Index tuples with the number of the image in one column and places that depend on an input in the others: as those of the others, the
/// batch first and shared.
fn gather_nd_of_images(
    node: &mut Node<'_, '_>,
    operand: &Operand,
    taken: &Taken,
    indices: &OfImages,
) -> Outputs {
    let current = shape_of_operand(node, operand);
    let of_indices = node.shape(indices.value);
    let own = taken.batch.filter(|&batch| {
        let mut steps = indices.steps.iter().enumerate();
        let fits = steps.all(|(column, &step)| step == i64::from(column == batch));
        fits && indices.steps.len() == taken.n_axes && of_indices.batch_axis() == Some(0)
    });
    let Some(batch) = own else {
        return Err(format!(
            "it takes other images of {current}: this mixes the images of a batch"
        ));
    };
    if taken.n_axes == 1 {
        return Err("its tuples name nothing but images".to_string());
    }
    let rank = of_indices.rank();
    let others: Vec<usize> = (0..taken.n_axes)
        .filter(|&column| column != batch)
        .collect();
    let places = node.picked(indices.value, rank - 1, &others)?;
    let order = std::iter::once(batch).chain((0..current.rank()).filter(|&axis| axis != batch));
    let order: Vec<usize> = order.collect();
    let numbers = node.numbers(operand)?;
    let images = node.permuted("images", numbers, order)?;
    let taken = Taken::of(&node.shape(images), &node.shape(places), 1)?;
    let lead = Shape(of_indices.0[..rank - 1].to_vec());
    let images = match operand {
        Operand::Value(_) => Operand::Value(images),
        _ => Operand::Integers(images),
    };
    gather_nd_by_values(node, &images, &taken, places, lead)
}

/// What `GatherND` and `ScatterND` name of a value.
pub(super) struct Taken {
    /// Leading axes that go with those of the indices.
    n_shared: usize,
    /// Leading axes in all of which one place is named.
    pub n_axes: usize,
    /// Which of these is the batch.
    pub batch: Option<usize>,
    /// Per leading axis: its extent for one image.
    pub extents: Vec<usize>,
    /// Per leading axis: how far its elements lie apart among those of all leading axes.
    pub strides: Vec<usize>,
}

impl Taken {
    pub(super) fn of(current: &Shape, indices: &Shape, n_shared: usize) -> Result<Taken> {
        let misfit =
            || format!("indices {indices} do not fit {current} with {n_shared} batch_dims");
        let (&last, lead) = indices.0.split_last().ok_or_else(misfit)?;
        let Dim::Size(length) = last else {
            return Err(misfit());
        };
        let n_axes = n_shared + length;
        if length == 0 || n_axes > current.rank() || n_shared > lead.len() {
            return Err(misfit());
        }
        let extents = Shape(current.0[..n_axes].to_vec()).concrete(1);
        let shared = (0..n_shared).all(|axis| extents[axis] == lead[axis].concrete(1));
        if !shared {
            return Err(misfit());
        }
        let mut strides = vec![1; n_axes];
        for axis in (0..n_axes - 1).rev() {
            strides[axis] = strides[axis + 1] * extents[axis + 1];
        }
        let batch = current.batch_axis().filter(|&axis| axis < n_axes);
        if batch.is_some_and(|axis| current.0[axis] != Dim::BATCH) {
            return Err(format!(
                "{current} has images and rows on one axis, which is not supported here"
            ));
        }
        Ok(Taken {
            n_shared,
            n_axes,
            batch,
            extents,
            strides,
        })
    }

    /// Places among those of all leading axes, for one image.
    pub(super) fn count(&self) -> usize {
        self.extents.iter().product()
    }

    /// The place that each tuple of known indices names.
    pub(super) fn places(&self, indices: &Known) -> Result<Vec<usize>> {
        let mixes = || {
            let axis = self.batch.unwrap_or(0);
            format!("it takes some images of the batch along axis {axis}: this mixes its images")
        };
        let rank = indices.shape.rank();
        if self.batch.is_some() && indices.shape.batch_axis().is_none() {
            return Err(mixes());
        }
        if self.batch.is_some_and(|axis| axis < self.n_shared)
            && indices.shape.batch_axis() != self.batch
        {
            return Err(mixes());
        }
        let mut places = Vec::new();
        let tuples = indices.elements.lanes(Axis(rank - 1)).into_iter();
        let sizes = indices.elements.shape()[..rank - 1].to_vec();
        for (lead, tuple) in ndarray::indices(IxDyn(&sizes)).into_iter().zip(tuples) {
            let shared = (0..self.n_shared).map(|axis| lead[axis] * self.strides[axis]);
            let mut place: usize = shared.sum();
            for (axis, &number) in (self.n_shared..self.n_axes).zip(tuple) {
                if Some(axis) == self.batch {
                    (number == IMAGE).then_some(()).ok_or_else(mixes)?;
                } else {
                    place += picked_index(number, self.extents[axis])? * self.strides[axis];
                }
            }
            places.push(place);
        }
        Ok(places)
    }

    /// The shape with all leading axes as one.
    pub(super) fn flat(&self, current: &Shape) -> Shape {
        let mut flat = Shape(vec![Dim::Size(self.count())]);
        flat.0.extend(&current.0[self.n_axes..]);
        flat
    }

    /// The images first, then all other leading axes as one.
    pub(super) fn flat_per_image(
        &self,
        node: &mut Node<'_, '_>,
        x: Value,
        batch: usize,
    ) -> Result<Value> {
        let current = node.shape(x);
        let others = (0..current.rank()).filter(|&axis| axis != batch);
        let order = std::iter::once(batch).chain(others).collect();
        let first = node.permuted("images", x, order)?;
        let mut flat = Shape(vec![Dim::BATCH, Dim::Size(self.count())]);
        flat.0.extend(&current.0[self.n_axes..]);
        node.seen_as("flat", first, flat)
    }
}
