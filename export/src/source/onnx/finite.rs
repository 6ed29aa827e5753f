//! Constants that are not finite: what a choice leaves out and masks are legal, damaged weights are not.

use crate::error::{Error, Result};
use crate::graph::op::{Arithmetic, Binary, Compare, Op};
use crate::graph::tensor::Tensor;
use crate::graph::{Graph, Source, Value};

/// Refuses constants that spoil what is made of them. NaN may only be a branch of a `Where`, as exporters write what is never taken. Infinities
/// may not be factors of convolutions and matrix products; elsewhere they are masks and bounds.
pub(super) fn check_finite(graph: &Graph) -> Result<()> {
    let mut moved = Moved::default();
    for value in graph.values() {
        moved.push(graph, value);
        let Some((op, inputs)) = graph.operator(value) else {
            continue;
        };
        for input in inputs {
            let Some((constant, tensor)) = moved.constant(graph, *input) else {
                continue;
            };
            let spoils = |element: &f32| match op {
                Op::Where(_) => false,
                _ if moved.is_move(value) => false,
                op if op.arithmetic() == Arithmetic::Products => !element.is_finite(),
                _ => element.is_nan(),
            };
            if let Some(position) = tensor.data().iter().position(spoils) {
                return Err(Error::Weight {
                    name: graph.node(constant).name.clone(),
                    problem: format!(
                        "its element {position} is {}, which spoils node {:?} ({}); take an earlier model",
                        tensor.data()[position],
                        graph.node(value).name,
                        op.name()
                    ),
                });
            }
        }
    }
    Ok(())
}

/// Which constant that is not finite a value is, moved about.
#[derive(Default)]
struct Moved {
    constants: Vec<Option<Value>>,
    /// Zeros with the batch, which are added to what has none, here and in files that were written here.
    are_zeros: Vec<bool>,
    are_moves: Vec<bool>,
}

impl Moved {
    /// Adds the next value of the graph.
    fn push(&mut self, graph: &Graph, value: Value) {
        let (moves, inputs) = match &graph.node(value).source {
            Source::Operator { op, inputs } => (self.moves(op, inputs), &inputs[..]),
            _ => (false, &[][..]),
        };
        let constant = match &graph.node(value).source {
            Source::Constant(tensor) if !is_finite(tensor) => Some(value),
            _ if moves => inputs.iter().find_map(|input| self.constants[input.0]),
            _ => None,
        };
        let inherits_zeros = moves && inputs.iter().all(|input| self.are_zeros[input.0]);
        self.are_zeros
            .push(is_never(graph, value) || inherits_zeros);
        self.constants.push(constant);
        self.are_moves.push(moves);
    }

    fn moves(&self, op: &Op, inputs: &[Value]) -> bool {
        match op {
            Op::Reshape(_)
            | Op::Expand(_)
            | Op::Transpose(_)
            | Op::Reverse(_)
            | Op::Slice(_)
            | Op::Concat(_)
            | Op::Cast(_) => true,
            Op::Binary(Binary::Add) => inputs.iter().any(|input| self.are_zeros[input.0]),
            _ => false,
        }
    }

    fn is_move(&self, value: Value) -> bool {
        self.are_moves[value.0]
    }

    fn constant<'a>(&self, graph: &'a Graph, value: Value) -> Option<(Value, &'a Tensor)> {
        let constant = self.constants[value.0]?;
        match &graph.node(constant).source {
            Source::Constant(tensor) => Some((constant, tensor)),
            _ => None,
        }
    }
}

/// Is it whether numbers are above infinity, as a number? That is 0 for each of them.
fn is_never(graph: &Graph, value: Value) -> bool {
    let Some((Op::Cast(_), &[truth])) = graph.operator(value) else {
        return false;
    };
    let Some((Op::Compare(Compare::Greater), &[_, bound])) = graph.operator(truth) else {
        return false;
    };
    let is_infinite = |tensor: &Tensor| tensor.data().iter().all(|&bound| bound == f32::INFINITY);
    matches!(&graph.node(bound).source, Source::Constant(tensor) if is_infinite(tensor))
}

fn is_finite(tensor: &Tensor) -> bool {
    tensor.data().iter().all(|element| element.is_finite())
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Int, Tensor};
    use crate::source::onnx::testing::{Model, array, float_tensor};

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    /// `x [N, 2]`, with numbers that are not finite beside it.
    fn model() -> Model {
        Model::new()
            .input("x", &[-1, 2])
            .floats("zero", &[], &[0.0])
            .floats("nan", &[], &[NAN])
            .floats("nans", &[1, 2], &[1.0, NAN])
            .floats("mask", &[2], &[0.0, -INF])
            .floats("infinite", &[2, 2], &[1.0, INF, 0.0, 1.0])
            .ints("target", &[1, 2])
            .node("Abs", "x", "size", &[])
            .node("Greater", "size zero", "positive", &[])
    }

    #[test]
    fn what_a_choice_leaves_out_may_be_anything() {
        let filler = Tensor(Box::new(float_tensor("", &[1], &[NAN])));
        let x = array(&[1, 2], &[1.0, 2.0]);
        for model in [
            model().node("Where", "positive x nan", "y", &[]),
            model().node("Where", "positive x nans", "y", &[]),
            model().node("Expand", "nan target", "many", &[]).node(
                "Where",
                "positive x many",
                "y",
                &[],
            ),
            model()
                .floats("bound", &[], &[INF])
                .node("Greater", "x bound", "never", &[])
                .node("Cast", "never", "zeros", &[("to", Int(1))])
                .node("Add", "nan zeros", "many", &[])
                .node("Where", "positive x many", "y", &[]),
            model()
                .node("Shape", "x", "shape", &[])
                .node("Expand", "nan shape", "many", &[])
                .node("Where", "positive x many", "y", &[]),
            model()
                .node("Shape", "x", "shape", &[])
                .node("ConstantOfShape", "shape", "many", &[("value", filler)])
                .node("Where", "positive x many", "y", &[]),
        ] {
            let model = model.output("y");
            assert_eq!(model.evaluate(&x), x);
            model.check_derivatives(1);
        }
    }

    #[test]
    fn masks_may_be_infinite() {
        let model = model()
            .node("Add", "x mask", "masked", &[])
            .node("Softmax", "masked", "y", &[])
            .output("y");
        let x = array(&[1, 2], &[1.0, 2.0]);
        assert_eq!(model.evaluate(&x), array(&[1, 2], &[1.0, 0.0]));
    }

    #[test]
    fn damaged_weights_are_named() {
        for (op_type, inputs, wanted) in [
            (
                "Add",
                "x nans",
                "weight \"nans\": its element 1 is NaN, which spoils node \"y\" (Add)",
            ),
            ("Mul", "x nan", "weight \"nan\": its element 0 is NaN"),
            (
                "MatMul",
                "x infinite",
                "weight \"infinite\": its element 1 is inf",
            ),
            ("Max", "x nan", "its element 0 is NaN"),
        ] {
            let problem = model()
                .node(op_type, inputs, "y", &[])
                .output("y")
                .problem();
            assert!(problem.contains(wanted), "{problem}");
            assert!(problem.ends_with("take an earlier model"), "{problem}");
        }
        let behind = model()
            .node("Expand", "nan target", "many", &[])
            .node("Where", "positive many x", "chosen", &[])
            .node("Add", "chosen many", "y", &[]);
        let problem = behind.output("y").problem();
        assert!(
            problem.contains("weight \"nan\": its element 0 is NaN"),
            "{problem}"
        );
    }
}
