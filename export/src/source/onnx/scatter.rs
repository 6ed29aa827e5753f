//! Elements put in place of others, or added to them, at indices: `ScatterElements` and `ScatterND`.
//!
//! ONNX operators: `Scatter`, `ScatterElements`, `ScatterND`; see [the specification](https://onnx.ai/onnx/operators/).

use std::collections::BTreeMap;

use super::gather::same_along;
use super::known::check_count;
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::axis_of;
use super::pick::{MAX_PARTS, runs};
use super::result::Result;
use super::shape::shape_of_operand;
use super::tuples::{Taken, named_by};
use crate::graph::op::{Binary, Cast, Concat, Pad, ReduceKind, Slice, Unary, Where};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Scatter", scatter_elements),
    ("ScatterElements", scatter_elements),
    ("ScatterND", scatter_nd),
];

/// Most updates of one place that are multiplied or compared one after the other.
const MAX_ROUNDS: usize = 64;

/// What becomes of an element and of what is scattered to its place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reduction {
    /// The last that is scattered takes its place.
    Replace,
    /// Two of them, as one.
    By(Binary),
}

impl Reduction {
    fn read(node: &Node<'_, '_>) -> Result<Reduction> {
        match node.text("reduction")?.as_deref() {
            None | Some("none") => Ok(Reduction::Replace),
            Some("add") => Ok(Reduction::By(Binary::Add)),
            Some("mul") => Ok(Reduction::By(Binary::Mul)),
            Some("max") => Ok(Reduction::By(Binary::Max)),
            Some("min") => Ok(Reduction::By(Binary::Min)),
            Some(other) => Err(format!("reduction {other:?} is not supported")),
        }
    }

    /// Of elements and what is scattered there, one for one.
    fn of(self, node: &mut Node<'_, '_>, x: Value, updates: Value) -> Result<Value> {
        match self {
            Reduction::Replace => Ok(updates),
            Reduction::By(op) => {
                let operands = node.broadcasting(&[x, updates])?;
                node.apply("reduced", op, &operands)
            }
        }
    }
}

/// `y[.., indices[.., j, ..], ..] = updates[.., j, ..]`, all else as in x.
fn scatter_elements(node: &mut Node<'_, '_>) -> Outputs {
    let reduction = Reduction::read(node)?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axis = axis_of(node.int("axis")?.unwrap_or(0), current.rank())?;
    let Dim::Size(extent) = current.0[axis] else {
        return Err(format!(
            "it puts elements into other images along axis {axis} of {current}: this mixes the images of a batch"
        ));
    };
    let updates = node.operand(2)?.clone();
    let updates = node.numbers(&updates)?;
    let of_updates = node.shape(updates);
    let batch = of_updates.batch_axis().map(|axis| axis..axis + 1);
    let indices = node.indices(1, batch)?;
    let of_indices = shape_of_operand(node, &indices);
    let alike = of_indices.rank() == current.rank()
        && (of_indices == of_updates || of_indices.concrete(1) == of_updates.concrete(1));
    if !alike {
        return Err(format!(
            "indices {of_indices} and updates {of_updates} do not fit {current}"
        ));
    }
    let whole = (0..current.rank()).all(|other| {
        other == axis || of_updates.0[other].concrete(1) == current.0[other].concrete(1)
    });
    if let (Operand::Known(indices), true) = (&indices, whole)
        && let Some(places) = same_along(indices, axis, extent)?
    {
        return node.of_floats(&operand, |node, operand| {
            let x = node.numbers(operand)?;
            Ok(at_places(node, x, axis, &places, updates, reduction)?.into())
        });
    }
    let indices = node.whole_numbers_of(&indices)?;
    node.of_floats(&operand, |node, operand| {
        let x = node.numbers(operand)?;
        Ok(by_mask(node, x, axis, indices, updates, reduction)?.into())
    })
}

/// `y[indices[i, .., :], r] = updates[i, .., r]`, all else as in x.
fn scatter_nd(node: &mut Node<'_, '_>) -> Outputs {
    let reduction = Reduction::read(node)?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let updates = node.operand(2)?.clone();
    let updates = node.numbers(&updates)?;
    let Operand::Known(indices) = named_by(node, &current, 0)? else {
        return Err(
            "its indices depend on the model's input, which is not supported; index along one axis, as scatter does"
                .to_string(),
        );
    };
    let taken = Taken::of(&current, &indices.shape, 0)?;
    let places = taken.places(&indices)?;
    let lead = Shape(indices.shape.0[..indices.shape.rank() - 1].to_vec());
    let mixes = taken.batch.is_none() && lead.batch_axis().is_some();
    if mixes {
        return Err(format!(
            "it puts all images into the same elements of {current}: this mixes the images of a batch"
        ));
    }
    node.of_floats(&operand, |node, operand| {
        let x = node.numbers(operand)?;
        if let Some(grid) = taken.grid(&places) {
            let mut shape = current.clone();
            for (axis, along) in grid
                .iter()
                .enumerate()
                .filter(|(axis, _)| Some(*axis) != taken.batch)
            {
                shape.0[axis] = Dim::Size(along.len());
            }
            let updates = match taken.batch {
                Some(batch) => {
                    let images = node.images_first(updates, &lead)?;
                    let mut apart = shape.clone();
                    let dim = apart.0.remove(batch);
                    apart.0.insert(0, dim);
                    let images = node.seen_as("grid", images, apart)?;
                    let mut order: Vec<usize> = (1..current.rank()).collect();
                    order.insert(batch, 0);
                    node.permuted("grid", images, order)?
                }
                None => {
                    let rest = node.shape(updates).0[lead.rank()..].to_vec();
                    let mut apart = Shape(shape.0[..taken.n_axes].to_vec());
                    apart.0.extend(rest);
                    node.seen_as("grid", updates, apart)?
                }
            };
            let axes: Vec<(usize, &[usize])> = grid
                .iter()
                .enumerate()
                .filter(|(axis, _)| Some(*axis) != taken.batch)
                .map(|(axis, along)| (axis, along.as_slice()))
                .collect();
            return Ok(on_grid(node, x, &axes, updates, reduction)?.into());
        }
        let (flat, axis, updates) = match taken.batch {
            Some(batch) => {
                let flat = taken.flat_per_image(node, x, batch)?;
                (flat, 1, node.images_first(updates, &lead)?)
            }
            None => {
                let flat = node.seen_as("flat", x, taken.flat(&current))?;
                let mut rows = Shape(vec![Dim::Size(places.len())]);
                rows.0.extend(&node.shape(updates).0[lead.rank()..]);
                (flat, 0, node.seen_as("rows", updates, rows)?)
            }
        };
        let scattered = at_places(node, flat, axis, &places, updates, reduction)?;
        let Some(batch) = taken.batch else {
            let shape = match node.shape(scattered).batch_axis() {
                Some(_) if current.batch_axis().is_none() => {
                    return Err("the updates have the batch where the values have not".to_string());
                }
                _ => current.clone(),
            };
            return Ok(node.seen_as("scattered", scattered, shape)?.into());
        };
        let mut first = current.clone();
        let dim = first.0.remove(batch);
        first.0.insert(0, dim);
        let first = node.seen_as("scattered", scattered, first)?;
        let mut order: Vec<usize> = (1..current.rank()).collect();
        order.insert(batch, 0);
        Ok(node.permuted("scattered", first, order)?.into())
    })
}

/// At places that are all combinations of one along each of some axes: axis after axis, what stands there is taken out and put back.
fn on_grid(
    node: &mut Node<'_, '_>,
    x: Value,
    axes: &[(usize, &[usize])],
    updates: Value,
    reduction: Reduction,
) -> Result<Value> {
    let Some((&(axis, places), rest)) = axes.split_first() else {
        return reduction.of(node, x, updates);
    };
    let extent = node.shape(x).size(axis);
    if extent == Some(places.len()) && places.iter().copied().eq(0..places.len()) {
        return on_grid(node, x, rest, updates, reduction);
    }
    let inside = node.picked(x, axis, places)?;
    let inside = on_grid(node, inside, rest, updates, reduction)?;
    replaced(node, x, axis, places, inside)
}

/// At places along an axis, each of which may come several times.
fn at_places(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    places: &[usize],
    updates: Value,
    reduction: Reduction,
) -> Result<Value> {
    let mut rounds = rounds(places);
    match reduction {
        Reduction::By(Binary::Add) if rounds.len() > 1 => {
            return added(node, x, axis, places, updates);
        }
        Reduction::Replace => rounds = vec![last_ones(places)],
        _ if rounds.len() > MAX_ROUNDS => {
            return Err(format!(
                "{} updates come to one place, expected up to {MAX_ROUNDS}",
                rounds.len()
            ));
        }
        _ => {}
    }
    let mut result = x;
    for round in rounds {
        let there: Vec<usize> = round.iter().map(|&update| places[update]).collect();
        let updates = match round.len() == places.len() {
            true => updates,
            false => node.picked(updates, axis, &round)?,
        };
        result = on_grid(node, result, &[(axis, &there)], updates, reduction)?;
    }
    Ok(result)
}

/// The updates that come to each place first, those that come second, and so on.
fn rounds(places: &[usize]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for (update, &place) in places.iter().enumerate() {
        let count = counts.entry(place).or_default();
        if *count == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*count].push(update);
        *count += 1;
    }
    rounds
}

/// The updates behind which no other comes to their place.
fn last_ones(places: &[usize]) -> Vec<usize> {
    let last: BTreeMap<usize, usize> = places.iter().copied().zip(0..).collect();
    let updates = 0..places.len();
    updates
        .filter(|update| last[&places[*update]] == *update)
        .collect()
}

/// The sum of all that comes to each place is a product with ones and zeros.
fn added(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    places: &[usize],
    updates: Value,
) -> Result<Value> {
    let shape = node.shape(x);
    let extent = shape.size(axis).ok_or("cannot add along the batch")?;
    check_count(&[extent, places.len()])?;
    let mut matrix = vec![0.0; extent * places.len()];
    for (column, &row) in places.iter().enumerate() {
        matrix[row * places.len() + column] = 1.0;
    }
    let matrix = Tensor::new(&[extent, places.len()], matrix);
    let sums = node.combined_along("sums", updates, axis, matrix)?;
    Reduction::By(Binary::Add).of(node, x, sums)
}

/// x with the elements at some places along an axis, each of which comes once, replaced.
fn replaced(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    places: &[usize],
    inside: Value,
) -> Result<Value> {
    let extent = node
        .shape(x)
        .size(axis)
        .ok_or("cannot replace along the batch")?;
    let mut sources: Vec<usize> = (0..extent).collect();
    for (position, &place) in places.iter().enumerate() {
        sources[place] = extent + position;
    }
    if sources.iter().all(|&source| source >= extent) {
        let order: Vec<usize> = sources.iter().map(|source| source - extent).collect();
        return node.picked(inside, axis, &order);
    }
    let both = node.alike_but(&[x, inside], axis)?;
    let runs = runs(&sources);
    if runs.len() > MAX_PARTS {
        let both = node.apply("both", Concat { axis }, &both)?;
        return node.picked(both, axis, &sources);
    }
    let mut parts = Vec::new();
    for run in runs {
        let part = match run.start.checked_sub(extent) {
            Some(start) => node.slice(both[1], Slice::range(axis, start..run.end - extent))?,
            None => node.slice(both[0], Slice::range(axis, run))?,
        };
        parts.push(part);
    }
    node.apply("replaced", Concat { axis }, &parts)
}

/// At indices that depend on an input or on the place beside the axis: each is compared with every place.
fn by_mask(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    indices: Value,
    updates: Value,
    reduction: Reduction,
) -> Result<Value> {
    let shape = node.shape(x);
    let extent = shape
        .size(axis)
        .ok_or("cannot put elements along the batch")?;
    // [.., J, K, ..]: J updates, K places.
    let mut columns = node.shape(indices);
    columns.0.insert(axis + 1, Dim::Size(1));
    let indices = node.seen_as("columns", indices, columns)?;
    let mut columns = node.shape(updates);
    let count = columns
        .size(axis)
        .ok_or("cannot take updates along the batch")?;
    columns.0.insert(axis + 1, Dim::Size(1));
    let updates = node.seen_as("updates", updates, columns)?;
    let mut mask = node.is_place_along(indices, axis + 1, extent)?;
    let mut numbers = node.apply("ones", Cast::F32, &[mask])?;
    if reduction == Reduction::Replace && count > 1 {
        let triangle = (0..count * count).map(|index| f32::from(index % count > index / count));
        let triangle = Tensor::new(&[count, count], triangle.collect());
        let later = node.combined_along("later", numbers, axis, triangle)?;
        let last = node.apply("last", Binary::Sub, &[numbers, later])?;
        mask = node.is_set(last)?;
        numbers = node.apply("ones", Cast::F32, &[mask])?;
    }
    let neutral = match reduction {
        Reduction::Replace | Reduction::By(Binary::Add) => 0.0,
        Reduction::By(Binary::Mul) => 1.0,
        Reduction::By(Binary::Min) => f32::INFINITY,
        Reduction::By(_) => f32::NEG_INFINITY,
    };
    let rest = node.scalar("neutral", neutral);
    let scattered = node.apply("scattered", Where, &[mask, updates, rest])?;
    let reduced = match reduction {
        Reduction::Replace | Reduction::By(Binary::Add) => {
            node.along("sum", ReduceKind::Sum, scattered, &[axis])?
        }
        Reduction::By(Binary::Mul) => super::reduction::product_along(node, scattered, axis)?,
        Reduction::By(Binary::Min) => {
            let opposite = node.apply("opposite", Unary::Neg, &[scattered])?;
            let greatest = node.along("greatest", ReduceKind::Max, opposite, &[axis])?;
            node.apply("least", Unary::Neg, &[greatest])?
        }
        Reduction::By(_) => node.along("greatest", ReduceKind::Max, scattered, &[axis])?,
    };
    let reduced = filled_up(node, reduced, axis, &shape, neutral)?;
    if reduction != Reduction::Replace {
        return reduction.of(node, x, reduced);
    }
    let covered = node.along("covered", ReduceKind::Sum, numbers, &[axis])?;
    let covered = filled_up(node, covered, axis, &shape, 0.0)?;
    let covered = node.is_set(covered)?;
    let operands = node.broadcasting(&[covered, reduced, x])?;
    node.apply("replaced", Where, &operands)
}

/// Drops an axis of extent 1, and puts a number where the indices end before the elements do.
fn filled_up(
    node: &mut Node<'_, '_>,
    x: Value,
    axis: usize,
    target: &Shape,
    value: f32,
) -> Result<Value> {
    let mut shape = node.shape(x);
    shape.0.remove(axis);
    let dims = shape.0.iter().zip(&target.0);
    let pads = dims.map(|(own, wanted)| match (own, wanted) {
        (Dim::Size(own), Dim::Size(wanted)) => [0, wanted.saturating_sub(*own)],
        _ => [0, 0],
    });
    let pads: Vec<[usize; 2]> = pads.collect();
    let dropped = node.seen_as("dropped", x, shape)?;
    match pads.iter().all(|pads| *pads == [0, 0]) {
        true => Ok(dropped),
        false => node.apply("filled_up", Pad { pads, value }, &[dropped]),
    }
}

impl Taken {
    /// The places along each leading axis, if all combinations of them come once and in their order.
    fn grid(&self, places: &[usize]) -> Option<Vec<Vec<usize>>> {
        let along = |axis: usize, place: usize| place / self.strides[axis] % self.extents[axis];
        let mut grid: Vec<Vec<usize>> = Vec::new();
        for axis in 0..self.n_axes {
            let mut seen = vec![false; self.extents[axis]];
            let all = places.iter().map(|&place| along(axis, place));
            grid.push(
                all.filter(|&place| !std::mem::replace(&mut seen[place], true))
                    .collect(),
            );
        }
        let count: usize = grid.iter().map(Vec::len).product();
        let of_grid = |index: usize| -> usize {
            let mut rest = index;
            let mut place = 0;
            for axis in (0..self.n_axes).rev() {
                place += grid[axis][rest % grid[axis].len()] * self.strides[axis];
                rest /= grid[axis].len();
            }
            place
        };
        let fits = count == places.len()
            && places
                .iter()
                .enumerate()
                .all(|(index, &place)| of_grid(index) == place);
        fits.then_some(grid)
    }
}

impl Node<'_, '_> {
    /// `[lead.., ..]`, the batch among the leading axes, as `[N, J, ..]`.
    fn images_first(&mut self, x: Value, lead: &Shape) -> Result<Value> {
        let Some(Dim::Batch { outer, inner }) = lead.around_batch() else {
            return Err("the indices are the same for all images".to_string());
        };
        let rest = self.shape(x).0[lead.rank()..].to_vec();
        let mut single = Shape(lead.0.clone());
        single.0.extend(&rest);
        let x = self.stretch(x, &single)?;
        let mut apart = Shape(vec![Dim::Size(outer), Dim::BATCH, Dim::Size(inner)]);
        apart.0.extend(&rest);
        let mut order: Vec<usize> = (0..apart.rank()).collect();
        order.swap(0, 1);
        let mut flat = Shape(vec![Dim::BATCH, Dim::Size(outer * inner)]);
        flat.0.extend(&rest);
        let apart = self.seen_as("updates", x, apart)?;
        let moved = self.permuted("updates", apart, order)?;
        self.seen_as("updates", moved, flat)
    }
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Int, Text};
    use crate::source::onnx::testing::{Model, array, int_tensor};

    /// x of three elements, to two of which something comes: all of it to the first of them.
    #[test]
    fn what_comes_twice_is_reduced_in_order() {
        for (reduction, wanted) in [
            ("none", [3.0, 1.0, 4.0]),
            ("add", [11.0, 1.0, 4.0]),
            ("mul", [45.0, 1.0, 4.0]),
            ("max", [5.0, 1.0, 4.0]),
            ("min", [3.0, 1.0, 4.0]),
        ] {
            let model = Model::of_opset(18)
                .input("x", &[-1, 3])
                .floats("updates.one", &[1, 2], &[5.0, 3.0])
                .for_each_image("places", &[2], &[0, -3])
                .node("Expand", "updates.one places.all", "updates", &[])
                .node(
                    "ScatterElements",
                    "x places updates",
                    "y",
                    &[("axis", Int(1)), ("reduction", Text(reduction))],
                )
                .output("y");
            let y = model.evaluate(&array(&[1, 3], &[3.0, 1.0, 4.0]));
            assert_eq!(y, array(&[1, 3], &wanted), "{reduction}");
        }
    }

    #[test]
    fn refuses_other_images_and_what_does_not_fit() {
        let x = || {
            Model::of_opset(18)
                .input("x", &[-1, 3])
                .floats("row", &[1, 3], &[1.0; 3])
                .floats("three", &[3], &[0.0; 3])
                .initializer(int_tensor("first", &[1, 1], &[0]))
                .initializer(int_tensor("zeros", &[1, 3], &[0; 3]))
        };
        for (model, wanted) in [
            (
                x().node("ScatterElements", "x zeros row", "y", &[]),
                "mixes the images of a batch",
            ),
            (
                x().node("ScatterND", "x first row", "y", &[]),
                "mixes its images",
            ),
            (
                x().node("ScatterElements", "x first row", "y", &[("axis", Int(1))]),
                "do not fit",
            ),
            (
                x().node(
                    "ScatterElements",
                    "x zeros row",
                    "y",
                    &[("axis", Int(1)), ("reduction", Text("mean"))],
                ),
                "reduction \"mean\" is not supported",
            ),
        ] {
            let problem = model.output("y").problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
