//! Branches.

use super::dice::{Dice, end};
use crate::source::onnx::testing::{Attribute, Model, float_tensor};

/// Which of two branches is taken depends on the shape of x or on constants.
pub(super) fn branch(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17, 21]);
    let (model, sizes) = dice.model(opset, rank);
    let body = |op: &str| {
        let scale = float_tensor("scale", &[], &[1.5]);
        let model = Model::new().initializer(scale);
        let mut model = model
            .node(op, "x", "bent", &[])
            .node("Mul", "bent scale", "out", &[])
            .output("out");
        Attribute::Graph(Box::new(model.graph().clone()))
    };
    let branches = [("then_branch", body("Sin")), ("else_branch", body("Exp"))];
    let model = model
        .ints("last", &[-1])
        .ints("wanted", &[dice.of(&[sizes[sizes.len() - 1], 7])])
        .floats("a", &[1], &[dice.float(-1.0, 1.0)])
        .floats("b", &[1], &[0.0])
        .node("Shape", "x", "shape", &[])
        .node("Gather", "shape last", "extent", &[])
        .node("Equal", "extent wanted", "known", &[])
        .node("Greater", "a b", "fixed", &[]);
    end(model.node(op, dice.of(&["known", "fixed"]), "y", &branches))
}
