//! Operators that pick, scatter or give places.

use super::dice::{Attributes, Dice, end};
use crate::source::onnx::testing::Attribute::{Int, Ints, Text};
use crate::source::onnx::testing::{Model, int_tensor};

/// Indices of that shape below an extent, counted from either end.
pub(super) fn places(dice: &mut Dice, sizes: &[i64], extent: i64) -> Vec<i64> {
    dice.ints(sizes.iter().product(), -extent, extent - 1)
}

/// At indices that are known, that are the places of extremes, or that are images and places among them.
pub(super) fn picked(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 16, 18]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    if op == "GatherElements" {
        let at = ("axis", Int(axis));
        if dice.flag() {
            let model = model.node("ArgMax", "x", "places", &[("axis", Int(axis))]);
            return end(model.node(op, "x places", "y", &[at]));
        }
        let mut shape: Vec<i64> = sizes.iter().map(|&size| dice.int(1, size)).collect();
        shape[place - 1] = dice.int(1, 4);
        let indices = places(dice, &shape, extent);
        let model = model.for_each_image("places", &shape, &indices);
        return end(model.node(op, "x places", "y", &[at]));
    }
    let n_taken = dice.int(1, rank);
    let lead = {
        let n_axes = dice.int(1, 2);
        dice.ints(n_axes, 1, 3)
    };
    let count: i64 = lead.iter().product();
    let tuple = |dice: &mut Dice| -> Vec<i64> {
        let taken = sizes[..n_taken as usize].iter();
        taken.map(|&size| dice.int(-size, size - 1)).collect()
    };
    let tuples: Vec<i64> = (0..count).flat_map(|_| tuple(dice)).collect();
    let shape = [lead.as_slice(), &[n_taken]].concat();
    match dice.int(0, 2) {
        // Of each image, by batch_dims.
        0 => {
            let model = model.for_each_image("places", &shape, &tuples);
            end(model.node(op, "x places", "y", &[("batch_dims", Int(1))]))
        }
        // The images behind what is taken.
        1 => {
            let order: Vec<i64> = (1..=rank).chain([0]).collect();
            let model = model
                .initializer(int_tensor("places", &shape, &tuples))
                .node("Transpose", "x", "last", &[("perm", Ints(order))])
                .node(op, "last places", "y", &[]);
            end(model)
        }
        // Fixed values, one for each tuple.
        _ => {
            let model = dice.weight(model, "w", &sizes);
            let model = model
                .initializer(int_tensor("places", &shape, &tuples))
                .node(op, "w places", "taken", &[])
                .node("ReduceMax", "taken", "greatest", &[("keepdims", Int(0))]);
            end(model.node("Mul", "x greatest", "y", &[]))
        }
    }
}

pub(super) fn scattered(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let reductions: &[&'static str] = match op {
        "Scatter" => &["none"],
        _ => &["none", "add", "mul", "max", "min"],
    };
    let reduction = ("reduction", Text(dice.of(reductions)));
    let opset = if op == "Scatter" { 10 } else { 18 };
    let (model, sizes) = dice.model(opset, rank);
    let more = if op == "Scatter" {
        vec![]
    } else {
        vec![reduction]
    };
    if op == "ScatterND" {
        let n_taken = dice.int(1, rank) as usize;
        let count = dice.int(1, 3);
        let taken = sizes[..n_taken].to_vec();
        let tuples: Vec<i64> = (0..count)
            .flat_map(|_| {
                let tuple: Vec<i64> = taken
                    .iter()
                    .map(|&size| dice.int(-size, size - 1))
                    .collect();
                tuple
            })
            .collect();
        let order: Vec<i64> = (1..=rank).chain([0]).collect();
        let rest = sizes[n_taken..].to_vec();
        let of_updates = [&[count], rest.as_slice(), &[1]].concat();
        // The images stand behind what is taken, and updates of each of them come too.
        let model = dice.weight(model, "w", &of_updates);
        let shape = [count, n_taken as i64];
        return end(model
            .initializer(int_tensor("places", &shape, &tuples))
            .ints("first", &[0])
            .ints("of_updates", &of_updates[..of_updates.len() - 1])
            .node("Transpose", "x", "last", &[("perm", Ints(order))])
            .node("Sin", "last", "bent", &[])
            .node("Shape", "x", "shape", &[])
            .node("Gather", "shape first", "images", &[])
            .node("Concat", "of_updates images", "all", &[("axis", Int(0))])
            .node("Expand", "w all", "updates", &[])
            .node(op, "bent places updates", "y", &more));
    }
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    let at = ("axis", Int(axis));
    let attributes: Attributes = std::iter::once(at).chain(more).collect();
    if dice.flag() {
        // What is greatest becomes something else.
        let model = model
            .node("ArgMax", "x", "places", &[("axis", Int(axis))])
            .node(
                "GatherElements",
                "x places",
                "greatest",
                &[("axis", Int(axis))],
            )
            .node("Sin", "greatest", "updates", &[]);
        return end(model.node(op, "x places updates", "y", &attributes));
    }
    let mut shape: Vec<i64> = sizes.iter().map(|&size| dice.int(1, size)).collect();
    shape[place - 1] = dice.int(1, 3);
    let indices = places(dice, &shape, extent);
    let model = dice.weight(model, "w", &[&[1], shape.as_slice()].concat());
    let model = model.for_each_image("places", &shape, &indices).node(
        "Expand",
        "w places.all",
        "updates",
        &[],
    );
    end(model.node(op, "x places updates", "y", &attributes))
}

/// Places as numbers beside x, and what stands there.
pub(super) fn placed(dice: &mut Dice, op: &str) -> Model {
    let rank = if op == "Trilu" {
        dice.int(2, 3)
    } else {
        dice.int(1, 3)
    };
    let opset = dice.of(&[14, 17, 18]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let at = ("axis", Int(axis));
    let float = [("to", Int(1))];
    match op {
        "Trilu" => {
            let k = int_tensor("k", &[], &[dice.int(-2, 2)]);
            let upper = ("upper", Int(dice.int(0, 1)));
            let inputs = dice.of(&["x k", "x"]);
            end(model.initializer(k).node(op, inputs, "y", &[upper]))
        }
        "TopK" => {
            let k = dice.int(1, sizes[place - 1]);
            let largest = ("largest", Int(dice.int(0, 1)));
            let model = model
                .ints("k", &[k])
                .node(op, "x k", "values places", &[at, largest]);
            let model = model.node("Cast", "places", "numbers", &float);
            end(model.node("Mul", "values numbers", "y", &[]))
        }
        "OneHot" => {
            let model = model.node("ArgMin", "x", "places", &[at, ("keepdims", Int(0))]);
            let model = model
                .initializer(int_tensor("depth", &[], &[sizes[place - 1]]))
                .floats("values", &[2], &[0.5, -2.0])
                .node(op, "places depth values", "chosen", &[("axis", Int(axis))]);
            end(model.node("Mul", "x chosen", "y", &[]))
        }
        _ => {
            let keep = ("keepdims", Int(1));
            let last = ("select_last_index", Int(dice.int(0, 1)));
            let model = model.node(op, "x", "places", &[at, keep, last]);
            let model = model.node("Cast", "places", "numbers", &float);
            end(model.node("Mul", "x numbers", "y", &[]))
        }
    }
}
