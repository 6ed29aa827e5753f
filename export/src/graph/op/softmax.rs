//! Softmax along an axis: positive numbers that add up to 1.

use ndarray::{ArrayD, Axis};

use super::{
    Arithmetic, BackwardStep, Binary, KeepDims, OnnxAttribute, OnnxOperator, Operator, Reduce,
    ReduceKind, check_axes, floats,
};
use crate::error::Result;
use crate::graph::{Value, ValueType};

/// `e^x / Σ e^x`, the sum taken along one axis other than the batch. The shape stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax {
    /// The axis along which results sum to 1.
    pub axis: usize,
}

impl Operator for Softmax {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        check_axes("take shares along", &[self.axis], x)?;
        Ok(ValueType::f32(x.clone()))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Softmax").with("axis", OnnxAttribute::Int(self.axis as i64))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let mut result = inputs[0].clone();
        for mut lane in result.lanes_mut(Axis(self.axis)) {
            let greatest = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            lane.mapv_inplace(|x| (x - greatest).exp());
            let whole = lane.sum();
            lane.mapv_inplace(|share| share / whole);
        }
        result
    }

    /// `y · (g − Σ g·y)`, the sum along the axis.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let (y, g) = (step.output, step.cotangent);
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![self.axis],
            keep_dims: KeepDims::Yes,
        };
        let products = step.apply("products", Binary::Mul, &[g, y])?;
        let mean = step.apply("mean", sum, &[products])?;
        let rest = step.apply("rest", Binary::Sub, &[g, mean])?;
        let gradient = step.apply("softmax", Binary::Mul, &[y, rest])?;
        Ok(vec![Some(gradient)])
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn shares_are_in_the_ratio_of_exponentials() {
        let x = Operand::fixed(&[2, 2], &[0.0, 3f64.ln(), 1000.0, 1000.0]);
        let result = evaluate(Softmax { axis: 1 }, &[x]);
        for (got, wanted) in result.iter().zip([0.25, 0.75, 0.5, 0.5]) {
            assert!((got - wanted).abs() < 1e-12, "{got}, not {wanted}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn gradients_match_finite_differences(
            sizes in proptest::collection::vec(1usize..5, 1..4), axis in 0usize..3, seed in 0u64..1000,
        ) {
            let softmax = Softmax { axis: 1 + axis % sizes.len() };
            check_gradients(softmax, &[Operand::distinct(&sizes, seed)]);
        }
    }

    #[test]
    fn refuses_the_batch() {
        let x = ValueType::f32(Shape::batched(&[3]));
        assert_eq!(
            Softmax { axis: 0 }.infer(&[&x]).unwrap_err(),
            "cannot take shares along axis 0 of [N, 3]: only fixed extents, never the batch"
        );
        assert!(Softmax { axis: 2 }.infer(&[&x]).is_err());
    }
}
