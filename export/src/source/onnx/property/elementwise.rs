//! Operators element by element.

use super::dice::{Dice, end, with_positive};
use crate::source::onnx::testing::Attribute::{Float, Floats, Int, Text};
use crate::source::onnx::testing::{Attribute, Model, float_tensor, int_tensor};

pub(super) fn unary(dice: &mut Dice, op: &str) -> Model {
    let opset = match op {
        "Swish" => 24,
        "Gelu" => dice.int(20, 23),
        "Mish" => dice.int(18, 23),
        _ => dice.int(14, 23),
    };
    let rank = dice.int(1, 3);
    let (model, _) = dice.model(opset, rank);
    let attributes = match op {
        "LeakyRelu" => vec![("alpha", Float(dice.float(0.01, 0.9)))],
        "ThresholdedRelu" => vec![("alpha", Float(dice.float(-0.5, 0.5)))],
        "Elu" | "Celu" => vec![("alpha", Float(dice.float(0.3, 2.0)))],
        "Selu" => vec![
            ("alpha", Float(dice.float(0.5, 2.0))),
            ("gamma", Float(dice.float(0.5, 2.0))),
        ],
        "HardSigmoid" => vec![
            ("alpha", Float(dice.float(0.1, 1.5))),
            ("beta", Float(dice.float(0.2, 0.8))),
        ],
        "Gelu" => vec![("approximate", Text(dice.of(&["none", "tanh"])))],
        "Swish" => vec![("alpha", Float(dice.float(0.5, 2.0)))],
        "Shrink" => vec![
            ("lambd", Float(dice.float(0.1, 0.6))),
            ("bias", Float(dice.float(0.0, 0.5))),
        ],
        _ => vec![],
    };
    let kept = if dice.flag() { attributes } else { vec![] };
    end(model.node(op, "x", "y", &kept))
}

pub(super) fn positive(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, _) = dice.model(opset, rank);
    let model = with_positive(model).node("Add", "p half", "more", &[]);
    let model = model.node("Add", "more half", "most", &[]);
    // The inverse of the hyperbolic cosine is one of numbers above 1.
    let operand = if op == "Acosh" { "most" } else { "p" };
    end(model.node(op, operand, "y", &[]))
}

/// Of values in [−0.8, 0.8].
pub(super) fn inside(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, _) = dice.model(opset, rank);
    let model = model.floats("most", &[], &[0.8]);
    end(model
        .node("Mul", "x most", "less", &[])
        .node(op, "less", "y", &[]))
}

/// Constant between jumps, of fixed values or of x; times x, so that there is something to differentiate.
pub(super) fn stepwise(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let values = dice.floats(beside.iter().product(), -5.0, 5.0);
    let model = model.floats("w", &beside, &values);
    let operand = dice.of(&["x", "w"]);
    let model = model.node(op, operand, "step", &[]);
    end(model.node("Mul", "step x", "y", &[]))
}

/// Two operands that broadcast, both made of x or one of them fixed, in either order.
pub(super) fn binary(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(13, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let model = dice.weight(with_positive(model), "w", &beside);
    let model = model.node("Sin", "x", "bent", &[]);
    let operands = match op {
        "PRelu" => vec!["x w", "x p"],
        "Div" => vec!["x p", "w p", "bent p"],
        "Pow" => vec!["p w", "p bent", "p p"],
        "Sum" | "Mean" => vec!["x w bent", "w x", "x"],
        _ => vec!["x w", "w x", "p bent", "bent w", "w p"],
    };
    end(model.node(op, dice.of(&operands), "y", &[]))
}

pub(super) fn clip(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[9, 11, 13, 18]);
    let (model, _) = dice.model(opset, rank);
    let (low, high) = (dice.float(-0.8, 0.0), dice.float(0.1, 0.8));
    if opset < 11 {
        return end(model.node(op, "x", "y", &[("min", Float(low)), ("max", Float(high))]));
    }
    let model = model
        .floats("low", &[], &[low])
        .floats("high", &[], &[high]);
    end(model.node(op, dice.of(&["x low high", "x _ high", "x low"]), "y", &[]))
}

/// Booleans that choose between x² + ½ and sin x.
pub(super) fn chosen(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(16, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let model = dice.weight(with_positive(model), "w", &beside);
    let model = model
        .node("Sin", "x", "bent", &[])
        .node("Greater", "x w", "greater", &[])
        .node("Less", "bent half", "less", &[]);
    let model = match op {
        "IsNaN" => model.node(op, "x", "truths", &[]),
        "IsInf" => {
            let [positive, negative] = [dice.int(0, 1), dice.int(0, 1)];
            let sides = [
                ("detect_positive", Int(positive)),
                ("detect_negative", Int(negative)),
            ];
            model.node(op, "x", "truths", &sides)
        }
        "Not" => model.node(op, "less", "truths", &[]),
        "And" | "Or" | "Xor" => model.node(op, "greater less", "truths", &[]),
        "Where" => model.node("Identity", "greater", "truths", &[]),
        _ => model.node(op, dice.of(&["x w", "bent w", "w p"]), "truths", &[]),
    };
    end(model.node(
        "Where",
        dice.of(&["truths p bent", "truths bent w", "truths half x"]),
        "y",
        &[],
    ))
}

/// Integers that are known while reading, as floats beside x.
pub(super) fn integers(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(13, 23);
    let (model, sizes) = dice.model(opset, rank);
    let last = sizes[sizes.len() - 1];
    let scalar = |name: &str, value: i64| int_tensor(name, &[], &[value]);
    let [start, step] = [dice.int(-3, 3), dice.of(&[-2, -1, 1, 3])];
    let model = model
        .node("Shape", "x", "shape", &[])
        .initializer(scalar("start", start))
        .initializer(scalar("limit", start + step * last))
        .initializer(scalar("step", step))
        .initializer(int_tensor(
            "behind",
            &[sizes.len() as i64],
            &(1..=rank).collect::<Vec<i64>>(),
        ))
        .node("Gather", "shape behind", "sizes", &[]);
    let numbers = dice.ints(last, -4, 4);
    let model = model.ints("numbers", &numbers);
    let model = match op {
        "Mod" => {
            let fmod = ("fmod", Int(i64::from(dice.flag())));
            let model = model.floats("two", &[], &[0.7]);
            let model = model.node("Cast", "x", "of_x", &[("to", Int(7))]);
            let operands = dice.of(&["numbers step", "x two", "of_x step"]);
            model.node(op, operands, "number", &[fmod])
        }
        "Size" => model.node(op, "sizes", "number", &[]),
        "Shape" if opset >= 15 => {
            let start = ("start", Int(dice.int(-rank, -1)));
            let model = model.node(op, "x", "some", &[start]);
            let keep = ("keepdims", Int(0));
            model.node("ReduceSum", "some", "number", &[keep])
        }
        "Range" => model.node(op, "start limit step", "number", &[]),
        "Constant" => model.node(
            op,
            "",
            "number",
            &[("value_floats", Floats(dice.floats(last, -1.0, 1.0)))],
        ),
        "ConstantOfShape" => {
            let value = float_tensor("value", &[1], &[dice.float(-1.0, 1.0)]);
            model.node(
                op,
                "sizes",
                "number",
                &[("value", Attribute::Tensor(Box::new(value)))],
            )
        }
        "Cast" => {
            let model = model.node("Cast", "x", "truths", &[("to", Int(9))]);
            model.node(op, "truths", "number", &[("to", Int(1))])
        }
        "CastLike" if opset >= 15 => model.node(op, "numbers x", "number", &[]),
        _ => model.node("Identity", "numbers", "number", &[]),
    };
    let model = model.node("Cast", "number", "factor", &[("to", Int(1))]);
    end(model.node("Mul", "x factor", "y", &[]))
}
