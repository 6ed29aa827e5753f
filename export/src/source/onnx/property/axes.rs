//! Operators along axes, and those that move, resize or regroup elements.

use rand::seq::SliceRandom;

use super::dice::{Dice, end, of_sizes, with_positive};
use crate::source::onnx::testing::Attribute::{Float, Int, Ints, Text};
use crate::source::onnx::testing::{Model, int_tensor};

/// The axes are an attribute or an input, as the opset wants them.
pub(super) fn reduction(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[11, 13, 17, 18, 21]);
    let (model, _) = dice.model(opset, rank);
    let axes = dice.axes(rank);
    let model = with_positive(model).ints("axes", &axes);
    let operand = if op == "ReduceLogSum" {
        "p"
    } else {
        dice.of(&["x", "p"])
    };
    let keep = ("keepdims", Int(i64::from(dice.flag())));
    let as_input = opset >= 18 || (opset >= 13 && op == "ReduceSum");
    end(match as_input {
        true => model.node(op, &format!("{operand} axes"), "y", &[keep]),
        false => model.node(op, operand, "y", &[keep, ("axes", Ints(axes))]),
    })
}

pub(super) fn along(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 15, 17]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    let at = ("axis", Int(axis));
    let model = match op {
        "CumSum" => {
            let model = model.initializer(int_tensor("along", &[], &[axis]));
            let flags = [
                ("exclusive", Int(i64::from(dice.flag()))),
                ("reverse", Int(i64::from(dice.flag()))),
            ];
            model.node(op, "x along", "y", &flags)
        }
        "Softmax" | "LogSoftmax" => model.node(op, "x", "y", &[at]),
        "Concat" => {
            let model = model.node("Sin", "x", "bent", &[]);
            model.node(op, dice.of(&["x bent", "bent x x", "x"]), "y", &[at])
        }
        "Split" => {
            let mut sizes = sizes.clone();
            sizes[place - 1] += 1;
            let first = dice.int(1, extent);
            let model = of_sizes(opset, &sizes).ints("parts", &[first, extent + 1 - first]);
            let model = model.node(op, "x parts", "one two", &[at]);
            // Both are used, in the other order and one of them bent.
            let model = model.node("Sin", "one", "bent", &[]);
            model.node("Concat", "two bent", "y", &[("axis", Int(axis))])
        }
        "Slice" => {
            let step = dice.of(&[-2, -1, 1, 2]);
            let (start, end) = match step > 0 {
                true => (dice.int(-extent, extent - 1), i64::MAX),
                false => (dice.int(-extent, extent - 1), i64::MIN),
            };
            let model = model.ints("start", &[start]).ints("end", &[end]);
            let model = model.ints("axes", &[axis]).ints("step", &[step]);
            model.node(op, "x start end axes step", "y", &[])
        }
        _ => {
            let n_axes = dice.int(0, 2);
            let shape = dice.ints(n_axes, 1, 3);
            let places = dice.ints(shape.iter().product(), -extent, extent - 1);
            let model = model.initializer(int_tensor("places", &shape, &places));
            model.node(op, "x places", "y", &[at])
        }
    };
    end(model)
}

pub(super) fn moved(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17, 18, 21]);
    let (model, sizes) = dice.model(opset, rank);
    let elements: i64 = sizes.iter().product();
    let model = match op {
        "Reshape" => {
            let shape = dice.of(&[
                vec![-1, elements],
                vec![0, -1],
                vec![0, 1, elements],
                vec![-1, 1, elements, 1],
            ]);
            model.ints("shape", &shape).node(op, "x shape", "y", &[])
        }
        "Flatten" => model.node(op, "x", "y", &[("axis", Int(dice.of(&[1, -rank])))]),
        "Squeeze" | "Unsqueeze" => {
            let place = dice.int(1, rank + 1);
            let place = dice.either_end(place, rank + 2);
            let model = model.ints("place", &[place]);
            let model = model.node("Unsqueeze", "x place", "longer", &[]);
            match op {
                "Squeeze" => {
                    model
                        .node("Sin", "longer", "bent", &[])
                        .node(op, "bent place", "y", &[])
                }
                _ => model.node("Sin", "longer", "y", &[]),
            }
        }
        "Transpose" => {
            let mut axes: Vec<i64> = (0..=rank).collect();
            axes.shuffle(&mut dice.0);
            model.node(op, "x", "y", &[("perm", Ints(axes))])
        }
        "Expand" => {
            let model = model.ints("one", &[1]);
            let model = model.node("Unsqueeze", "x one", "longer", &[]);
            let stretched = [vec![1, dice.int(1, 3)], vec![1; sizes.len()]].concat();
            model
                .ints("shape", &stretched)
                .node(op, "longer shape", "y", &[])
        }
        "Tile" => {
            let repeats = [vec![1], dice.ints(rank, 1, 3)].concat();
            model
                .ints("repeats", &repeats)
                .node(op, "x repeats", "y", &[])
        }
        _ => {
            let mode = dice.of(&["constant", "edge", "reflect"]);
            let least = if mode == "reflect" { 0 } else { 2 };
            let most: Vec<i64> = sizes.iter().map(|&size| least.max(size - 1)).collect();
            let [before, behind] = [0, 1].map(|_| {
                let pads = most.iter().map(|&most| dice.int(0, most.min(3)));
                [vec![0], pads.collect()].concat()
            });
            let model = model.ints("pads", &[before, behind].concat());
            let value = dice.float(-1.0, 1.0);
            let model = model.floats("value", &[], &[value]);
            let inputs = if mode == "constant" {
                "x pads value"
            } else {
                "x pads"
            };
            model.node(op, inputs, "y", &[("mode", Text(mode))])
        }
    };
    end(model)
}

pub(super) fn resized(dice: &mut Dice, op: &str) -> Model {
    let sizes = [vec![dice.int(1, 2)], dice.ints(2, 2, 4)].concat();
    let factors = [dice.of(&[1.0, 2.0, 3.0]), dice.of(&[2.0, 3.0])];
    let scales = [vec![1.0, 1.0], factors.to_vec()].concat();
    let mode = ("mode", Text(dice.of(&["nearest", "linear"])));
    if op == "Resize" && dice.flag() {
        return cubic(dice, &sizes, &scales);
    }
    if op == "Upsample" {
        let model = of_sizes(9, &sizes).floats("scales", &[4], &scales);
        return end(model.node(op, "x scales", "y", &[mode]));
    }
    let opset = dice.of(&[13, 18, 19]);
    let kinds = [
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ];
    let attributes = [
        mode,
        ("coordinate_transformation_mode", Text(dice.of(&kinds))),
        (
            "nearest_mode",
            Text(dice.of(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
        ),
    ];
    end(match dice.flag() {
        true => {
            let model = of_sizes(opset, &sizes).floats("scales", &[4], &scales);
            model.node(op, "x _ scales", "y", &attributes)
        }
        false => {
            let new = [vec![1], sizes[..1].to_vec(), dice.ints(2, 1, 7)].concat();
            let model = Model::of_opset(opset).input("x", &[&[1], sizes.as_slice()].concat());
            model
                .ints("sizes", &new)
                .node(op, "x _ _ sizes", "y", &attributes)
        }
    })
}

pub(super) fn cubic(dice: &mut Dice, sizes: &[i64], scales: &[f32]) -> Model {
    let kinds = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ];
    let opset = dice.of(&[13, 18, 19]);
    let attributes = [
        ("mode", Text("cubic")),
        ("coordinate_transformation_mode", Text(dice.of(&kinds))),
        ("cubic_coeff_a", Float(dice.of(&[-0.75, -0.5]))),
        ("exclude_outside", Int(dice.int(0, 1))),
    ];
    let model = of_sizes(opset, sizes).floats("scales", &[4], scales);
    end(model.node("Resize", "x _ scales", "y", &attributes))
}

pub(super) fn blocks(dice: &mut Dice, op: &str) -> Model {
    let [block, channels, height, width] = [
        dice.int(1, 3),
        dice.int(1, 2),
        dice.int(1, 3),
        dice.int(1, 3),
    ];
    let size = ("blocksize", Int(block));
    let opset = dice.int(11, 19);
    end(match op {
        "DepthToSpace" => {
            let model = of_sizes(opset, &[channels * block * block, height, width]);
            model.node(
                op,
                "x",
                "y",
                &[size, ("mode", Text(dice.of(&["DCR", "CRD"])))],
            )
        }
        _ => {
            of_sizes(opset, &[channels, height * block, width * block]).node(op, "x", "y", &[size])
        }
    })
}
