//! Matrix products.

use ndarray::{ArrayD, Ix2};

use super::{BackwardStep, OnnxOperator, Operator, Transpose, floats};
use crate::error::Error;
use crate::graph::{Graph, Shape, Value, ValueType};

/// `MatMul` of matrices: `[N, K] · [K, M] → [N, M]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatMul;

impl Operator for MatMul {
    fn name(&self) -> &'static str {
        "MatMul"
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [left, right] = floats::<2>(inputs)?;
        if left.rank() != 2
            || right.rank() != 2
            || left.size(1).is_none()
            || left.size(1) != right.size(0)
        {
            return Err(format!(
                "expected [N, K] and [K, M], got {left} and {right}"
            ));
        }
        Ok(ValueType::f32(Shape(vec![left.0[0], right.0[1]])))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("MatMul")
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let [left, right] = [&inputs[0], &inputs[1]].map(|matrix| {
            matrix
                .view()
                .into_dimensionality::<Ix2>()
                .expect("checked by infer")
        });
        left.dot(&right).into_dyn()
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        if step.wanted[1] {
            return Err(step.unsupported(
                self.name(),
                "its right operand depends on the input; only a fixed one is supported",
            ));
        }
        let cotangent = step.full_cotangent(graph)?;
        let transposed = graph.apply(
            &step.named("transpose"),
            Transpose { axes: vec![1, 0] },
            &[step.inputs[1]],
        )?;
        let gradient = graph.apply(&step.named("matmul"), MatMul, &[cotangent, transposed])?;
        Ok(vec![Some(gradient), None])
    }

    fn multiplications(&self, inputs: &[&Shape], output: &Shape) -> usize {
        output.elements_per_image() * inputs[0].size(1).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Operand, check_gradients};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients(
            MatMul,
            &[Operand::random(&[3], 1), Operand::random_fixed(&[3, 5], 2)],
        );
    }

    #[test]
    fn refuses_matrices_that_do_not_fit() {
        let left = ValueType::f32(Shape::batched(&[3]));
        let right = ValueType::f32(Shape::fixed(&[4, 5]));
        assert_eq!(
            MatMul.infer(&[&left, &right]).unwrap_err(),
            "expected [N, K] and [K, M], got [N, 3] and [4, 5]"
        );
    }
}
