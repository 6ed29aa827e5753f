//! A choice between two values, element by element.

use ndarray::{ArrayD, Zip};

use super::elementwise::common_shape;
use super::{BackwardStep, OnnxOperator, Operator, floats};
use crate::error::Result;
use crate::graph::{DType, Value, ValueType};

/// `a` where the condition holds, else `b`. Operands are the condition, of booleans, and a and b; all three broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where;

impl Operator for Where {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [condition, _, _] = inputs else {
            return Err(format!("expected 3 operands, got {}", inputs.len()));
        };
        if condition.dtype != DType::Bool {
            return Err(format!(
                "the condition must be of booleans, got {:?}",
                condition.dtype
            ));
        }
        let [a, b] = floats::<2>(&inputs[1..])
            .map_err(|problem| format!("of the values chosen from, {problem}"))?;
        a.broadcast(b)
            .and_then(|shape| shape.broadcast(&condition.shape))
            .map(ValueType::f32)
            .ok_or_else(|| format!("shapes {}, {a} and {b} do not broadcast", condition.shape))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Where")
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let shape = common_shape(inputs);
        let [condition, a, b] = [0, 1, 2].map(|operand: usize| {
            inputs[operand]
                .broadcast(shape.clone())
                .expect("checked by infer")
        });
        Zip::from(&condition)
            .and(&a)
            .and(&b)
            .map_collect(|&holds, &a, &b| if holds != 0.0 { a } else { b })
    }

    /// The cotangent where the operand was chosen, else 0. A product with a mask would make no number of an infinite cotangent
    /// where the operand was not chosen.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let condition = step.inputs[0];
        let mut gradients = vec![None; 3];
        for operand in (1..3).filter(|&operand| step.wanted[operand]) {
            let g = if step.graph.shape(step.inputs[operand]) == step.graph.shape(step.output) {
                step.cotangent
            } else {
                step.full_cotangent()?
            };
            let zero = step.scalar("zero", 0.0);
            let (suffix, operands) = match operand {
                1 => ("holds", [condition, g, zero]),
                _ => ("fails", [condition, zero, g]),
            };
            let chosen = step.apply(suffix, Where, &operands)?;
            gradients[operand] = Some(step.unbroadcast(chosen, step.inputs[operand])?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::array;
    use proptest::prelude::*;

    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};
    use crate::graph::op::{Binary, Compare, Unary};
    use crate::graph::reference;
    use crate::graph::{Graph, Shape};
    use crate::transform::gradient::{gradient, hessian_vector_product};

    #[test]
    fn known_values() {
        let condition = Operand::truths(&[2, 1], &[true, false]);
        let [a, b] = [[1.0, 2.0], [3.0, 4.0]].map(|values| Operand::fixed(&[2], &values));
        let result = evaluate(Where, &[condition, a, b]);
        assert_eq!(result, array![[1.0, 2.0], [3.0, 4.0]].into_dyn());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn gradients_match_finite_differences(
            extents in proptest::collection::vec((1usize..4, proptest::array::uniform3(any::<bool>())), 0..4),
            depends in prop_oneof![Just([true, false]), Just([false, true]), Just([true, true])],
            truths in proptest::collection::vec(any::<bool>(), 27), seed in 0u64..1000,
        ) {
            let sizes = |operand: usize| -> Vec<usize> {
                extents.iter().map(|(extent, ones)| if ones[operand] { 1 } else { *extent }).collect()
            };
            let count = sizes(0).iter().product();
            let condition = Operand::truths(&sizes(0), &truths[..count]);
            let [a, b] = [1, 2].map(|operand: usize| if depends[operand - 1] {
                Operand::random(&sizes(operand), seed + operand as u64)
            } else {
                Operand::random_fixed(&sizes(operand), seed + operand as u64)
            });
            check_gradients(Where, &[condition, a, b]);
        }
    }

    /// `E(x) = x²` where x > 0, else `−3x`: the condition depends on the input as well.
    #[test]
    fn a_piecewise_energy_has_its_closed_form() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let [zero, slope] = [0.0, -3.0].map(|value| graph.scalar("constant", value));
        let condition = graph
            .apply("condition", Compare::Greater, &[x, zero])
            .unwrap();
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let line = graph.apply("line", Binary::Mul, &[x, slope]).unwrap();
        let energy = graph
            .apply("energy", Where, &[condition, square, line])
            .unwrap();
        graph.set_output("energy", energy);
        let graph = hessian_vector_product(&graph, "energy", "x").unwrap();
        let values = BTreeMap::from([
            ("x".to_string(), array![2.0, -1.0].into_dyn()),
            ("v".to_string(), array![1.0, 1.0].into_dyn()),
        ]);
        let outputs = reference::evaluate(&graph, &values).unwrap();
        assert_eq!(outputs["gradient"], array![4.0, -3.0].into_dyn());
        assert_eq!(outputs["hvp"], array![2.0, 0.0].into_dyn());
    }

    /// `E(x) = √x` where x > 0, else 0: the root has an infinite slope at 0, where it is not chosen.
    #[test]
    fn what_is_not_chosen_has_no_say() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let zero = graph.scalar("zero", 0.0);
        let condition = graph
            .apply("condition", Compare::Greater, &[x, zero])
            .unwrap();
        let one = graph.scalar("one", 1.0);
        let safe = graph.apply("safe", Where, &[condition, x, one]).unwrap();
        let root = graph.apply("root", Unary::Sqrt, &[safe]).unwrap();
        let energy = graph
            .apply("energy", Where, &[condition, root, zero])
            .unwrap();
        graph.set_output("energy", energy);
        let graph = gradient(&graph, "energy", "x").unwrap();
        let values = BTreeMap::from([("x".to_string(), array![4.0, 0.0, -1.0].into_dyn())]);
        let outputs = reference::evaluate(&graph, &values).unwrap();
        assert_eq!(outputs["gradient"], array![0.25, 0.0, 0.0].into_dyn());
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let number = ValueType::f32(Shape::batched(&[3]));
        let other = ValueType::f32(Shape::batched(&[2]));
        let truth = ValueType {
            dtype: DType::Bool,
            ..number.clone()
        };
        let cases: [(&[&ValueType], &str); 4] = [
            (&[&truth, &number], "expected 3 operands, got 2"),
            (
                &[&number, &number, &number],
                "the condition must be of booleans, got F32",
            ),
            (
                &[&truth, &number, &truth],
                "of the values chosen from, operand 1 must be f32, got Bool",
            ),
            (
                &[&truth, &number, &other],
                "shapes [N, 3], [N, 3] and [N, 2] do not broadcast",
            ),
        ];
        for (inputs, wanted) in cases {
            assert_eq!(Where.infer(inputs).unwrap_err(), wanted);
        }
    }
}
