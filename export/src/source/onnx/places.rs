//! Places of elements: the greatest ones, one-hot vectors, triangles of matrices.
//!
//! ONNX operators: `ArgMax`, `ArgMin`, `OneHot`, `TopK`, `Trilu`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use ndarray::IxDyn;

use super::known::{Known, Number, check_count};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::{axis_of, size_of};
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Binary, Cast, Compare, ReduceKind, Unary, Where};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ArgMax", |node| extreme(node, Extreme::Greatest)),
    ("ArgMin", |node| extreme(node, Extreme::Least)),
    ("TopK", top_k),
    ("OneHot", one_hot),
    ("Trilu", trilu),
];

/// What is looked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extreme {
    Greatest,
    Least,
}

/// The place of the greatest element along an axis: `K − max (K − place)` of those that are as great finds the first of them.
fn extreme(node: &mut Node<'_, '_>, wanted: Extreme) -> Outputs {
    let last = node.flag("select_last_index")? == Some(true);
    let keep = node.flag("keepdims")? != Some(false);
    let operand = node.operand(0)?.clone();
    let x = node.numbers(&operand)?;
    let x = sorted_by(node, x, wanted)?;
    let shape = node.shape(x);
    let axis = axis_of(node.int("axis")?.unwrap_or(0), shape.rank())?;
    let extent = own_extent(&shape, axis)?;
    let greatest = node.along("greatest", ReduceKind::Max, x, &[axis])?;
    let is_greatest = node.apply("is_greatest", Compare::Equal, &[x, greatest])?;
    let marks = (0..extent).map(|place| if last { place + 1 } else { extent - place });
    let marks = marks.map(|mark| mark as f32).collect();
    let marks = node.add_constant("marks", Tensor::new(&[extent], marks));
    let marks = node.on_axis("marks", marks, axis, shape.rank())?;
    let zero = node.scalar("zero", 0.0);
    let marked = node.apply("marked", Where, &[is_greatest, marks, zero])?;
    let mark = node.along("mark", ReduceKind::Max, marked, &[axis])?;
    let place = match last {
        true => node.shifted("place", mark, -1.0)?,
        false => {
            let extent = node.scalar("extent", extent as f32);
            node.apply("place", Binary::Sub, &[extent, mark])?
        }
    };
    let place = match keep {
        true => place,
        false => node.without_axis(place, axis)?,
    };
    Ok(vec![Operand::Integers(place)])
}

/// x, or −x if the least are looked for.
fn sorted_by(node: &mut Node<'_, '_>, x: Value, wanted: Extreme) -> Result<Value> {
    match wanted {
        Extreme::Greatest => Ok(x),
        Extreme::Least => node.apply("opposite", Unary::Neg, &[x]),
    }
}

fn own_extent(shape: &Shape, axis: usize) -> Result<usize> {
    let extent = shape.size(axis).ok_or_else(|| {
        format!("it compares along axis {axis} of {shape}, which mixes the images of a batch")
    })?;
    check_count(&[extent])?;
    match extent {
        0 => Err(format!("{shape} has no elements along axis {axis}")),
        extent => Ok(extent),
    }
}

/// The k greatest elements along an axis and their places. An element comes behind all that are greater, and those as great that stand
/// before it: their number is its place in the result.
fn top_k(node: &mut Node<'_, '_>) -> Outputs {
    let wanted = match node.flag("largest")? {
        Some(false) => Extreme::Least,
        _ => Extreme::Greatest,
    };
    // The order of the result is free if it is not asked for.
    node.ignore("sorted");
    let count = match node.ints_or_known_k()?.as_slice() {
        [count] => size_of(*count)?,
        counts => return Err(format!("expected one k, got {counts:?}")),
    };
    let operand = node.operand(0)?.clone();
    let x = node.numbers(&operand)?;
    let shape = node.shape(x);
    let axis = axis_of(node.int("axis")?.unwrap_or(-1), shape.rank())?;
    let extent = own_extent(&shape, axis)?;
    if count == 0 || count > extent {
        return Err(format!("k is {count}, expected one from 1 to {extent}"));
    }
    check_count(&[extent, extent])?;
    let keys = sorted_by(node, x, wanted)?;
    // [.., 1, K, ..] against [.., K, 1, ..].
    let with_axis = |at: usize| {
        let mut shape = shape.clone();
        shape.0.insert(at, Dim::Size(1));
        shape
    };
    let rows = node.seen_as("rows", keys, with_axis(axis))?;
    let columns = node.seen_as("columns", keys, with_axis(axis + 1))?;
    let greater = node.apply("greater", Compare::Greater, &[rows, columns])?;
    let greater = node.apply("greater.number", Cast::F32, &[greater])?;
    let equal = node.apply("equal", Compare::Equal, &[rows, columns])?;
    let equal = node.apply("equal.number", Cast::F32, &[equal])?;
    let before = (0..extent * extent).map(|index| f32::from(index % extent < index / extent));
    let before = Tensor::new(&[extent, extent], before.collect());
    let before = node.add_constant("before", before);
    let behind = shape.rank() - axis - 1;
    let mut square = Shape::fixed(&[extent, extent]);
    square.0.extend(vec![Dim::Size(1); behind]);
    let before = node.seen_as("before", before, square)?;
    let ties = node.apply("ties", Binary::Mul, &[equal, before])?;
    let ahead = node.apply("ahead", Binary::Add, &[greater, ties])?;
    let rank = node.along("rank", ReduceKind::Sum, ahead, &[axis + 1])?;
    let rank = node.seen_as("ranks", rank, with_axis(axis))?;
    let ranks = (0..count).map(|rank| rank as f32).collect();
    let ranks = node.add_constant("wanted", Tensor::new(&[count], ranks));
    let ranks = node.on_axis("wanted", ranks, axis, shape.rank() + 1)?;
    let mask = node.apply("is_wanted", Compare::Equal, &[rank, ranks])?;
    let places = (0..extent).map(|place| place as f32).collect();
    let places = node.add_constant("places", Tensor::new(&[extent], places));
    let places = node.on_axis("places", places, axis + 1, shape.rank() + 1)?;
    let x = node.seen_as("x", x, with_axis(axis))?;
    let zero = node.scalar("zero", 0.0);
    let mut outputs = Vec::new();
    for from in [x, places] {
        let chosen = node.apply("chosen", Where, &[mask, from, zero])?;
        let sum = node.along("sum", ReduceKind::Sum, chosen, &[axis + 1])?;
        outputs.push(node.without_axis(sum, axis + 1)?);
    }
    let values = match operand {
        Operand::Value(_) => Operand::Value(outputs[0]),
        _ => Operand::Integers(outputs[0]),
    };
    Ok(vec![values, Operand::Integers(outputs[1])])
}

/// `OneHot(indices, depth, values)`: the second value where an index names the place along a new axis, else the first.
fn one_hot(node: &mut Node<'_, '_>) -> Outputs {
    let depth = match node.operand(1)?.clone() {
        Operand::Known(known) => known.fixed_numbers()?,
        _ => node
            .constant(1)?
            .data()
            .iter()
            .map(|&depth| depth as i64)
            .collect(),
    };
    let [depth] = depth[..] else {
        return Err(format!("expected one depth, got {depth:?}"));
    };
    let depth = size_of(depth)?;
    let indices = node.operand(0)?.clone();
    let indices = node.numbers(&indices)?;
    let mut shape = node.shape(indices);
    let axis = axis_of(node.int("axis")?.unwrap_or(-1), shape.rank() + 1)?;
    shape.0.insert(axis, Dim::Size(1));
    let indices = node.seen_as("indices", indices, shape)?;
    let mask = node.is_place_along(indices, axis, depth)?;
    let values = node.operand(2)?.clone();
    let of_values = shape_of_operand(node, &values);
    if of_values != Shape::fixed(&[2]) {
        return Err(format!("expected two values, got {of_values}"));
    }
    node.of_floats(&values, |node, values| {
        let values = node.numbers(values)?;
        let off = node.picked(values, 0, &[0])?;
        let on = node.picked(values, 0, &[1])?;
        Ok(node.apply("one_hot", Where, &[mask, on, off])?.into())
    })
}

/// `Trilu(x, k)`: zeros below the k-th diagonal of the last two axes, or above it.
fn trilu(node: &mut Node<'_, '_>) -> Outputs {
    let upper = node.flag("upper")?.unwrap_or(true);
    let k = match node.optional(1) {
        None => 0,
        Some(_) => match node.known(1)?.fixed_numbers()?.as_slice() {
            [k] => *k,
            numbers => return Err(format!("expected one k, got {numbers:?}")),
        },
    };
    let operand = node.operand(0)?.clone();
    let shape = shape_of_operand(node, &operand);
    let Some([Dim::Size(rows), Dim::Size(columns)]) = shape.0.last_chunk() else {
        return Err(format!(
            "expected rows and columns on the last two axes, got {shape}; the batch cannot stand there"
        ));
    };
    let (rows, columns) = (*rows, *columns);
    check_count(&[rows, columns])?;
    let stays = |row: usize, column: usize| {
        let diagonal = column as i64 - row as i64;
        if upper { diagonal >= k } else { diagonal <= k }
    };
    node.of_floats(&operand, |node, operand| match operand {
        Operand::Known(known) => {
            let mut elements = known.elements.clone();
            let rank = elements.ndim();
            for (place, element) in elements.indexed_iter_mut() {
                let place: &IxDyn = &place;
                if !stays(place[rank - 2], place[rank - 1]) {
                    *element = Number::Fixed(0);
                }
            }
            Ok(known.moved(shape, elements).into())
        }
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Value(x) | Operand::Integers(x) => {
            let mask = (0..rows * columns)
                .map(|index| f32::from(stays(index / columns, index % columns)))
                .collect();
            let mask = node.add_constant("mask", Tensor::new(&[rows, columns], mask));
            let mask = node.is_set(mask)?;
            let zero = node.scalar("zero", 0.0);
            Ok(node.apply("triangle", Where, &[mask, *x, zero])?.into())
        }
    })
}

impl Node<'_, '_> {
    /// x without an axis of extent 1.
    pub fn without_axis(&mut self, x: Value, axis: usize) -> Result<Value> {
        let mut shape = self.shape(x);
        shape.0.remove(axis);
        self.seen_as("dropped", x, shape)
    }

    /// The number of elements that `TopK` takes: an attribute of old opsets.
    fn ints_or_known_k(&self) -> Result<Vec<i64>> {
        match self.int("k")? {
            Some(k) => Ok(vec![k]),
            None => self.known(1).and_then(Known::fixed_numbers),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{Model, array};

    /// The place among ties is the first, or the last if that is asked for; the places have no derivative.
    #[test]
    fn ties_are_decided_by_place() {
        let x = array(&[1, 4], &[1.0, 3.0, 3.0, 0.0]);
        for (op_type, last, wanted) in [("ArgMax", 0, 1.0), ("ArgMax", 1, 2.0), ("ArgMin", 0, 3.0)]
        {
            let attributes = [("axis", Int(1)), ("select_last_index", Int(last))];
            let model = Model::new()
                .input("x", &[-1, 4])
                .node(op_type, "x", "place", &attributes)
                .node("Cast", "place", "y", &[("to", Int(1))])
                .output("y");
            assert_eq!(model.evaluate(&x), array(&[1, 1], &[wanted]), "{op_type}");
            assert_eq!(model.slope(&x), array(&[1, 4], &[0.0; 4]), "{op_type}");
        }
        let model = Model::new().input("x", &[-1, 4]).ints("k", &[3]);
        let model = model
            .node("TopK", "x k", "values places", &[])
            .node("Cast", "places", "y", &[("to", Int(1))])
            .output("y");
        assert_eq!(model.evaluate(&x), array(&[1, 3], &[1.0, 2.0, 0.0]));
    }

    #[test]
    fn refuses_the_batch_and_what_does_not_fit() {
        let x = || {
            Model::new()
                .input("x", &[-1, 4])
                .ints("none", &[0])
                .ints("five", &[5])
                .floats("three", &[3], &[0.0; 3])
        };
        for (model, wanted) in [
            (x().node("ArgMax", "x", "y", &[]), "mixes the images"),
            (
                x().node("TopK", "x none", "y", &[]),
                "k is 0, expected one from 1 to 4",
            ),
            (x().node("TopK", "x five", "y", &[]), "k is 5"),
            (
                x().node("TopK", "x five", "y", &[("axis", Int(0))]),
                "mixes the images",
            ),
            (
                x().node("Trilu", "x", "y", &[]),
                "the batch cannot stand there",
            ),
            (
                x().node("OneHot", "five five three", "y", &[]),
                "expected two values, got [3]",
            ),
        ] {
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
