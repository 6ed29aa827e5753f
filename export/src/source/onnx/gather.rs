//! Elements at indices along an axis. Nothing takes from another image: along the batch an index must be the number of its own image.
//!
//! ONNX operators: `Gather`, `GatherElements`; see [the specification](https://onnx.ai/onnx/operators/).

use ndarray::{ArrayD, Axis};

use super::known::{Known, Number, check_count, check_one_batch};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::axis_of;
use super::own_image::{ONLY_INDICES, OfImages};
use super::pick::{beside, picked_places, place_of};
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Cast, MatMul, ReduceKind, Where};
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] =
    &[("Gather", gather), ("GatherElements", gather_elements)];

/// `Gather(x, indices)`: the shape of the indices takes the place of an axis.
fn gather(node: &mut Node<'_, '_>) -> Outputs {
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axis = axis_of(node.int("axis")?.unwrap_or(0), current.rank())?;
    let indices = match node.operand(1)?.clone() {
        Operand::Integers(indices) => return gather_by_values(node, &operand, axis, indices),
        Operand::OfImages(indices) => {
            return gather_from_own_images(node, &operand, axis, &indices);
        }
        _ => node.known(1)?.clone(),
    };
    if current.0[axis].is_batch() {
        return gather_own_images(node, &operand, axis, &indices);
    }
    let extent = current.0[axis].concrete(1);
    let picked = picked_places(&indices, extent)?;
    let mut shape = current.0[..axis].to_vec();
    shape.extend(&indices.shape.0);
    shape.extend(&current.0[axis + 1..]);
    let shape = Shape(shape);
    check_one_batch(&shape)?;
    node.of_floats(&operand, |node, operand| match operand {
        Operand::Known(known) => {
            check_count(&shape.concrete(1))?;
            let mut beside = known.shape.clone();
            beside.0[axis] = Dim::Size(picked.len());
            let elements = known.elements.select(Axis(axis), &picked);
            Ok(known.moved(beside, elements).reshaped(shape)?.into())
        }
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Value(value) | Operand::Integers(value) => {
            let value = node.picked(*value, axis, &picked)?;
            Ok(node.seen_per_image("shaped", value, shape)?.into())
        }
    })
}

/// Along the batch each image is taken where it stands: indices are numbers of images, or such times the elements of an image and a place
/// among them, as `as_strided` reckons them.
fn gather_own_images(
    node: &mut Node<'_, '_>,
    operand: &Operand,
    axis: usize,
    indices: &Known,
) -> Outputs {
    let current = shape_of_operand(node, operand);
    let mixes = || {
        format!(
            "it takes some images of the batch along axis {axis} of {current}: this mixes its images"
        )
    };
    let Dim::Batch { outer: 1, inner } = current.0[axis] else {
        return Err(mixes());
    };
    let indices = node.over_images(indices, 0..indices.shape.rank());
    let own = |number: &Number| match *number {
        Number::Image { first, step } if step == inner as i64 => place_of(first, inner).ok(),
        _ => None,
    };
    let places: Option<Vec<usize>> = indices.elements.iter().map(own).collect();
    let places = places
        .filter(|_| indices.shape.batch_axis().is_some())
        .ok_or_else(mixes)?;
    let mut apart = current.clone();
    apart.0.splice(axis..=axis, [Dim::BATCH, Dim::Size(inner)]);
    node.of_floats(operand, |node, operand| {
        let (Operand::Value(value) | Operand::Integers(value)) = operand else {
            return Err("expected floats, got integers that are known".to_string());
        };
        let value = node.seen_as("apart", *value, apart)?;
        let value = node.picked(value, axis + 1, &places)?;
        Ok(node.placed(value, axis, &indices.shape)?.into())
    })
}

/// From the first axis, which is the batch with the elements of each image, at places of each image that depend on an input.
fn gather_from_own_images(
    node: &mut Node<'_, '_>,
    operand: &Operand,
    axis: usize,
    indices: &OfImages,
) -> Outputs {
    let current = shape_of_operand(node, operand);
    let of_indices = node.shape(indices.value);
    let mixes = || {
        format!(
            "it takes some images of the batch along axis {axis} of {current}: this mixes its images"
        )
    };
    let (Some(Dim::Batch { outer: 1, inner }), 0) = (current.0.first().copied(), axis) else {
        return Err(mixes());
    };
    let Some(Dim::Batch {
        outer: 1,
        inner: count,
    }) = of_indices.around_batch()
    else {
        return Err(mixes());
    };
    if indices.steps != [inner as i64] {
        return Err(mixes());
    }
    node.of_floats(operand, |node, operand| {
        let x = node.numbers(operand)?;
        let rest = Shape(current.0[1..].to_vec()).elements_per_image();
        let images = node.seen_as("images", x, Shape::batched(&[inner, rest]))?;
        let column = node.seen_as("column", indices.value, Shape::batched(&[count, 1]))?;
        let mask = node.is_place(column, inner)?;
        let ones = node.apply("ones", Cast::F32, &[mask])?;
        let product = node.apply("product", MatMul, &[ones, images])?;
        let mut shape = of_indices;
        shape.0.extend(&current.0[1..]);
        Ok(node.seen_as("gathered", product, shape)?.into())
    })
}

/// Along an axis at indices that depend on an input: a product with one 1 in each column.
fn gather_by_values(
    node: &mut Node<'_, '_>,
    operand: &Operand,
    axis: usize,
    indices: Value,
) -> Outputs {
    let current = shape_of_operand(node, operand);
    let Dim::Size(extent) = current.0[axis] else {
        return Err(format!(
            "it takes some images of the batch along axis {axis} of {current}: this mixes its images"
        ));
    };
    let of_indices = node.shape(indices);
    node.of_floats(operand, |node, operand| {
        let x = node.numbers(operand)?;
        // [.., K, ..] to [.., K] times [K, J]; then J, seen as the indices are, takes the place of K.
        let behind = current.rank() - axis - 1;
        let mut order: Vec<usize> = (0..current.rank()).filter(|&other| other != axis).collect();
        order.push(axis);
        let last = node.permuted("last", x, order)?;
        let mut rows = node.shape(last);
        if rows.rank() == 1 {
            rows.0.insert(0, Dim::Size(1));
        }
        let rows = node.seen_as("rows", last, rows)?;
        let flat = match of_indices.around_batch() {
            Some(dim) => dim,
            None => Dim::Size(of_indices.elements_per_image()),
        };
        let column = node.seen_as("column", indices, Shape(vec![flat, Dim::Size(1)]))?;
        let mask = node.is_place(column, extent)?;
        let columns = node.apply("ones", Cast::F32, &[mask])?;
        let columns = node.permuted("columns", columns, vec![1, 0])?;
        let product = node.apply("product", MatMul, &[rows, columns])?;
        let mut shape = Shape(current.0[..axis].to_vec());
        shape.0.extend(&current.0[axis + 1..]);
        shape.0.extend(&of_indices.0);
        let product = node.seen_as("taken", product, shape)?;
        let count = of_indices.rank();
        let order = (0..axis)
            .chain(axis + behind..axis + behind + count)
            .chain(axis..axis + behind);
        Ok(node.permuted("gathered", product, order.collect())?.into())
    })
}

/// `y[.., j, ..] = x[.., indices[.., j, ..], ..]`.
fn gather_elements(node: &mut Node<'_, '_>) -> Outputs {
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axis = axis_of(node.int("axis")?.unwrap_or(0), current.rank())?;
    let Dim::Size(extent) = current.0[axis] else {
        return Err(format!(
            "it takes elements of other images along axis {axis} of {current}: this mixes the images of a batch"
        ));
    };
    let batch = current.batch_axis().map(|axis| axis..axis + 1);
    let indices = node.indices(1, batch)?;
    let wanted = shape_of_operand(node, &indices);
    let operand = node.beginnings(&operand, &wanted, axis)?;
    match (&indices, &operand) {
        (Operand::Known(indices), Operand::Known(known)) => {
            let places = picked_places(indices, extent)?;
            let lanes = known.stretched(&beside(&wanted, axis, Dim::Size(extent)))?;
            let mut places = places.into_iter();
            let elements = ArrayD::from_shape_fn(wanted.concrete(1), |mut place| {
                place[axis] = places.next().unwrap_or(0);
                lanes.elements[place]
            });
            return Ok(vec![known.moved(wanted, elements).into()]);
        }
        (Operand::Known(indices), _) => {
            if let Some(places) = same_along(indices, axis, extent)? {
                return node.of_floats(&operand, |node, operand| {
                    let x = node.numbers(operand)?;
                    let picked = node.picked(x, axis, &places)?;
                    Ok(node.stretch(picked, &wanted)?.into())
                });
            }
        }
        _ => {}
    }
    let indices = node.whole_numbers_of(&indices)?;
    node.of_floats(&operand, |node, operand| {
        let x = node.numbers(operand)?;
        // [.., J, 1, ..] compared with K places, against [.., 1, K, ..].
        let mut columns = wanted.clone();
        columns.0.insert(axis + 1, Dim::Size(1));
        let columns = node.seen_as("columns", indices, columns)?;
        let mut rows = node.shape(x);
        rows.0.insert(axis, Dim::Size(1));
        let rows = node.seen_as("rows", x, rows)?;
        let mask = node.is_place_along(columns, axis + 1, extent)?;
        let zero = node.scalar("zero", 0.0);
        let chosen = node.apply("chosen", Where, &[mask, rows, zero])?;
        let sum = node.along("sum", ReduceKind::Sum, chosen, &[axis + 1])?;
        Ok(node.seen_as("gathered", sum, wanted)?.into())
    })
}

/// The places along an axis, where they are the same for all elements beside it.
pub(super) fn same_along(
    indices: &Known,
    axis: usize,
    extent: usize,
) -> Result<Option<Vec<usize>>> {
    let places = picked_places(indices, extent)?;
    let places = ArrayD::from_shape_vec(indices.elements.shape(), places)
        .map_err(|error| error.to_string())?;
    let mut lanes = places.lanes(Axis(axis)).into_iter();
    let Some(first) = lanes.next() else {
        return Ok(None);
    };
    Ok(lanes.all(|lane| lane == first).then(|| first.to_vec()))
}

#[cfg(test)]
mod tests {
    use ndarray::Axis;

    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{Model, array, int_tensor, random};

    #[test]
    fn gathers_are_selections() {
        let x = random(&[2, 3, 20], 1);
        let backwards: Vec<i64> = (0..20).map(|index| 19 - index).collect();
        for (axis, indices) in [
            (1, vec![2, 0, 1]),
            (2, vec![3, 4, 5, -1]),
            (-1, backwards),
            (1, vec![1, 1]),
        ] {
            let model = Model::new()
                .input("x", &[-1, 3, 20])
                .ints("indices", &indices);
            let model = model
                .node("Gather", "x indices", "y", &[("axis", Int(axis))])
                .output("y");
            let axis = axis.rem_euclid(3) as usize;
            let extent = x.shape()[axis] as i64;
            let picked: Vec<usize> = indices
                .iter()
                .map(|index| index.rem_euclid(extent) as usize)
                .collect();
            assert_eq!(
                model.evaluate(&x),
                x.select(Axis(axis), &picked),
                "{indices:?}"
            );
            model.check_derivatives(3);
        }
    }

    #[test]
    fn a_gather_takes_the_shape_of_its_indices() {
        let x = random(&[2, 3, 4], 1);
        for (sizes, indices, wanted) in [
            (vec![], vec![1], vec![2, 4]),
            (vec![2, 2], vec![0, 1, 1, 2], vec![2, 2, 2, 4]),
        ] {
            let model = Model::new()
                .input("x", &[-1, 3, 4])
                .initializer(int_tensor("indices", &sizes, &indices));
            let model = model
                .node("Gather", "x indices", "y", &[("axis", Int(1))])
                .output("y");
            assert_eq!(model.evaluate(&x).shape(), wanted);
        }
    }

    /// The images as they are, numbered by `Range`; and as `as_strided` takes them from all elements of the batch.
    #[test]
    fn images_are_taken_where_they_stand() {
        let numbered = Model::new()
            .input("x", &[-1, 3])
            .initializer(int_tensor("zero", &[], &[0]))
            .initializer(int_tensor("one", &[], &[1]))
            .initializer(int_tensor("three", &[], &[3]))
            .ints("flat", &[-1])
            .ints("rows", &[-1, 1])
            .ints("places", &[2, 0])
            .node("Shape", "x", "shape", &[])
            .node("Gather", "shape zero", "count", &[])
            .node("Range", "zero count one", "numbers", &[]);
        let x = array(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let same = numbered.node("Gather", "x numbers", "y", &[]).output("y");
        assert_eq!(same.evaluate(&x), x);
        let strided = same
            .node("Reshape", "x flat", "all", &[])
            .node("Mul", "numbers three", "starts", &[])
            .node("Reshape", "starts rows", "first", &[])
            .node("Add", "first places", "indices", &[])
            .node("Gather", "all indices", "z", &[])
            .output("z");
        let mut strided = strided;
        strided.graph().output.remove(0);
        let wanted = array(&[2, 2], &[3.0, 1.0, 6.0, 4.0]);
        assert_eq!(strided.evaluate(&x), wanted);
        strided.check_derivatives(1);
    }

    #[test]
    fn refuses_other_images_and_elements_that_there_are_not() {
        let x = || {
            Model::new()
                .input("x", &[-1, 3])
                .ints("one", &[1])
                .ints("five", &[5])
                .initializer(int_tensor("tuple", &[1, 2], &[0, 1]))
                .initializer(int_tensor("zero", &[], &[0]))
                .initializer(int_tensor("step", &[], &[1]))
                .node("Shape", "x", "shape", &[])
                .node("Gather", "shape zero", "count", &[])
                .node("Range", "zero count step", "numbers", &[])
        };
        let at_1 = || [("axis", Int(1))];
        for (model, wanted) in [
            (
                x().node("Gather", "x five", "y", &at_1()),
                "there is no element 5 of 3",
            ),
            (x().node("Gather", "x one", "y", &[]), "mixes its images"),
            (
                x().node("Add", "numbers one", "next", &[])
                    .node("Gather", "x next", "y", &[]),
                "mixes its images",
            ),
            (
                x().node("GatherND", "x tuple", "y", &[]),
                "mixes its images",
            ),
            (
                x().node("GatherElements", "x tuple", "y", &[]),
                "mixes the images of a batch",
            ),
            (
                x().node("GatherElements", "x one", "y", &at_1()),
                "do not fit",
            ),
            (
                x().node("Cast", "numbers", "y", &[("to", Int(1))]),
                "the place in the batch",
            ),
        ] {
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
