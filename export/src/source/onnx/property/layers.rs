//! Convolutions, pools, products, norms, losses and quantized weights.

use super::dice::{Attributes, Dice, end, of_sizes, rank_of};
use crate::source::onnx::testing::Attribute::{Float, Int, Ints, Text};
use crate::source::onnx::testing::{Model, int_tensor};

/// Windows over rows or images: extents that fit them, their kernel, and attributes.
pub(super) fn windows(dice: &mut Dice) -> (Vec<i64>, Vec<i64>, Attributes) {
    let axes = dice.int(1, 2);
    let (kernel, dilations) = (dice.ints(axes, 1, 3), dice.ints(axes, 1, 2));
    let reach = kernel
        .iter()
        .zip(&dilations)
        .map(|(&kernel, &dilation)| dilation * (kernel - 1) + 1);
    let extents: Vec<i64> = reach.map(|reach| reach + dice.int(0, 3)).collect();
    let attributes = vec![
        ("kernel_shape", Ints(kernel.clone())),
        ("strides", Ints(dice.ints(axes, 1, 3))),
        ("dilations", Ints(dilations)),
    ];
    (extents, kernel, attributes)
}

pub(super) fn convolution(dice: &mut Dice, op: &str) -> Model {
    let (extents, kernel, mut attributes) = windows(dice);
    let [groups, channels, made] = [dice.int(1, 2), dice.int(1, 2), dice.int(1, 2)];
    attributes.push(("group", Int(groups)));
    match dice.int(0, 2) {
        0 => attributes.push((
            "auto_pad",
            Text(dice.of(&["SAME_UPPER", "SAME_LOWER", "VALID"])),
        )),
        1 if op == "Conv" => {
            attributes.push(("pads", Ints(dice.ints(2 * rank_of(&extents), 0, 2))))
        }
        _ => {}
    }
    let [x_channels, y_channels] = [channels * groups, made * groups];
    let sizes = match op {
        "Conv" => [vec![y_channels, channels], kernel].concat(),
        _ => [vec![x_channels, made], kernel].concat(),
    };
    let opset = dice.int(11, 22);
    let model = of_sizes(opset, &[vec![x_channels], extents].concat());
    let model = dice.weight(model, "w", &sizes);
    let model = dice.weight(model, "b", &[y_channels]);
    end(model.node(op, dice.of(&["x w", "x w b"]), "y", &attributes))
}

pub(super) fn pool(dice: &mut Dice, op: &str) -> Model {
    let (extents, kernel, mut attributes) = windows(dice);
    if op == "AveragePool" {
        attributes.pop();
        attributes.push(("count_include_pad", Int(i64::from(dice.flag()))));
    }
    attributes.push(("ceil_mode", Int(i64::from(dice.flag()))));
    if dice.flag() {
        let pads = kernel
            .iter()
            .chain(&kernel)
            .map(|&kernel| dice.int(0, kernel - 1));
        attributes.push(("pads", Ints(pads.collect())));
    }
    let opset = dice.int(12, 21);
    let model = of_sizes(opset, &[vec![dice.int(1, 3)], extents].concat());
    end(model.node(op, "x", "y", &attributes))
}

pub(super) fn whole(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(2, 4);
    let (model, _) = dice.model(17, rank);
    end(model.node(op, "x", "y", &[]))
}

pub(super) fn product(dice: &mut Dice, op: &str) -> Model {
    let [rows, inner, columns, heads] = [
        dice.int(1, 4),
        dice.int(1, 4),
        dice.int(1, 4),
        dice.int(1, 3),
    ];
    let opset = dice.int(13, 23);
    match op {
        "MatMul" => {
            let model = dice.weight(
                of_sizes(opset, &[heads, rows, inner]),
                "right",
                &[inner, columns],
            );
            let model = dice.weight(model, "left", &[columns, rows]);
            let model = model.node(
                "Transpose",
                "x",
                "turned",
                &[("perm", Ints(vec![0, 1, 3, 2]))],
            );
            end(model.node(
                op,
                dice.of(&["x right", "left x", "x turned", "turned x"]),
                "y",
                &[],
            ))
        }
        "Gemm" => {
            let turned = dice.flag();
            let sizes = if turned {
                [columns, inner]
            } else {
                [inner, columns]
            };
            let model = dice.weight(of_sizes(opset, &[inner]), "w", &sizes);
            let model = dice.weight(model, "b", &[columns]);
            let attributes = [
                ("alpha", Float(dice.float(0.5, 2.0))),
                ("beta", Float(dice.float(0.5, 2.0))),
                ("transB", Int(i64::from(turned))),
            ];
            end(model.node(op, dice.of(&["x w", "x w b"]), "y", &attributes))
        }
        _ => {
            let model = dice.weight(
                of_sizes(opset, &[heads, rows, inner]),
                "w",
                &[inner, columns],
            );
            let (inputs, equation) = dice.of(&[
                ("x w", "nhri,ic->nhrc"),
                ("x x", "nhri,nhsi->nhrs"),
                ("x x", "nhri,ngri->nhg"),
                ("x", "nhri->nir"),
                ("x w", "...i,ic->...c"),
                ("x x x", "nhri,nhsi,nhti->nrst"),
                ("w x", "ic,nhri"),
            ]);
            end(model.node(op, inputs, "y", &[("equation", Text(equation))]))
        }
    }
}

pub(super) fn norm(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(2, 3);
    let groups = dice.int(1, 2);
    let mut sizes = dice.ints(rank, 2, 4);
    sizes[0] = groups * dice.int(1, 2);
    let opset = match op {
        "RMSNormalization" => 23,
        "GroupNormalization" => dice.of(&[21, 22]),
        _ => dice.int(17, 22),
    };
    let epsilon = ("epsilon", Float(dice.float(1e-3, 1e-1)));
    let axis = dice.axis(rank);
    let first = if axis < 0 { axis + rank + 1 } else { axis } as usize;
    let normed = match op {
        "LayerNormalization" | "RMSNormalization" => sizes[first - 1..].to_vec(),
        _ => vec![sizes[0]],
    };
    let model = dice.weight(of_sizes(opset, &sizes), "scale", &normed);
    let model = dice.weight(model, "offset", &normed);
    let model = dice.weight(model, "mean", &normed);
    let variance = dice.floats(normed.iter().product(), 0.2, 2.0);
    let model = model.floats("variance", &normed, &variance);
    let (inputs, attributes) = match op {
        "BatchNormalization" => ("x scale offset mean variance", vec![epsilon]),
        "InstanceNormalization" => ("x scale offset", vec![epsilon]),
        "GroupNormalization" => ("x scale offset", vec![epsilon, ("num_groups", Int(groups))]),
        "LayerNormalization" => (
            dice.of(&["x scale", "x scale offset"]),
            vec![epsilon, ("axis", Int(axis))],
        ),
        "RMSNormalization" => ("x scale", vec![epsilon, ("axis", Int(axis))]),
        _ => ("x", vec![("axis", Int(axis)), ("p", Int(dice.int(1, 2)))]),
    };
    end(model.node(op, inputs, "y", &attributes))
}

/// Of scores for classes, of which x has as many as channels; labels are known or the greatest scores.
pub(super) fn loss(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17]);
    let (model, sizes) = dice.model(opset, rank);
    let classes = sizes[0];
    let model = dice.weight(model, "w", &[classes]);
    let mut ignored = vec![("reduction", Text("none"))];
    if dice.flag() {
        ignored.push(("ignore_index", Int(dice.int(0, classes))));
    }
    let model = match dice.flag() {
        true => {
            let attributes = [("axis", Int(1)), ("keepdims", Int(0))];
            model.node("ArgMax", "x", "labels", &attributes)
        }
        false => {
            let count = sizes[1..].iter().product();
            let labels = dice.ints(count, 0, classes - 1);
            model.for_each_image("labels", &sizes[1..], &labels)
        }
    };
    end(model.node(op, dice.of(&["x labels", "x labels w"]), "y", &ignored))
}

pub(super) fn quantized(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let (model, sizes) = dice.model(21, rank);
    let place = dice.int(0, rank - 1);
    let numbers = dice.ints(sizes.iter().product(), -9, 9);
    let extent = sizes[place as usize];
    let model = model
        .initializer(int_tensor("q", &sizes, &numbers))
        .floats("one", &[], &[0.02])
        .initializer(int_tensor("zero", &[], &[3]));
    let model = dice.weight(model, "many", &[extent]);
    let model = model.ints("zeros", &dice.ints(extent, -2, 2));
    let inputs = dice.of(&["q one", "q one zero", "q many zeros"]);
    let model = model.node(
        op,
        inputs,
        "w",
        &[("axis", Int(dice.either_end(place, rank)))],
    );
    end(model.node("Mul", "x w", "y", &[]))
}
