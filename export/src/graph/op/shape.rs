//! Operators that move elements and compute nothing.

use ndarray::{ArrayD, Axis, Slice};

use super::{
    BackwardStep, OnnxAttribute, OnnxInput, OnnxOperator, Operator, as_i64, check_axes, floats,
};
use crate::error::Result;
use crate::graph::{Dim, Shape, Value, ValueType};

/// The same elements under another shape, the elements of each image at the same places. An operand that does not carry the
/// batch is taken for as many images as it has elements for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshape {
    /// The new shape.
    pub shape: Shape,
}

/// Axes in another order: axis `i` of the result is axis `axes[i]` of the operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// A permutation.
    pub axes: Vec<usize>,
}

/// Broadcasts the operand. The batch stands for "as the operand has it along that axis".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The shape to broadcast to, of the operand's rank or a higher one.
    pub shape: Shape,
}

/// The elements along some axes in the reverse order; ONNX's `Slice` with step −1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// Which axes; fixed extents only.
    pub axes: Vec<usize>,
}

/// The target as ONNX writes it, with `batch` for the axis that carries the batch.
fn onnx_extents(target: &Shape, batch: i64) -> Vec<i64> {
    target
        .0
        .iter()
        .map(|dim| match dim {
            Dim::Size(size) => *size as i64,
            Dim::Batch { .. } => batch,
        })
        .collect()
}

impl Reshape {
    /// The shape of the result, if the operand has the elements for it.
    fn resolve(&self, operand: &Shape) -> Option<Shape> {
        if operand.around_batch().is_some() {
            return (operand.around_batch() == self.shape.around_batch())
                .then(|| self.shape.clone());
        }
        let (count, per_image) = (
            operand.elements_per_image(),
            self.shape.elements_per_image(),
        );
        let batch = match self.shape.batch_axis() {
            Some(_) if per_image > 0 => count / per_image,
            _ => 1,
        };
        (per_image * batch == count).then(|| Shape::fixed(&self.shape.concrete(batch)))
    }
}

impl Operator for Reshape {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        self.resolve(x)
            .map(ValueType::f32)
            .ok_or_else(|| match x.around_batch() {
                Some(_) if x.elements_per_image() == self.shape.elements_per_image() => format!(
                    "cannot reshape {x} to {}: this mixes the images of a batch",
                    self.shape
                ),
                _ => format!(
                    "cannot reshape {x} to {}: the number of elements differs",
                    self.shape
                ),
            })
    }

    fn to_onnx(&self) -> OnnxOperator {
        /// ONNX's "whatever is left".
        const REST: i64 = -1;
        OnnxOperator::plain("Reshape").with_input(OnnxInput::Ints(onnx_extents(&self.shape, REST)))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let shape = self
            .resolve(&Shape::fixed(inputs[0].shape()))
            .expect("checked by infer")
            .concrete(1);
        let contiguous = inputs[0].as_standard_layout().into_owned();
        contiguous
            .into_shape_with_order(shape)
            .expect("checked by infer")
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let shape = step.graph.shape(step.inputs[0]).clone();
        Ok(vec![Some(step.apply(
            "reshape",
            Reshape { shape },
            &[cotangent],
        )?)])
    }
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        let mut sorted = self.axes.clone();
        sorted.sort_unstable();
        if sorted != (0..x.rank()).collect::<Vec<usize>>() {
            return Err(format!(
                "{:?} is not a permutation of the axes of {x}",
                self.axes
            ));
        }
        Ok(ValueType::f32(Shape(
            self.axes.iter().map(|&axis| x.0[axis]).collect(),
        )))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Transpose").with("perm", OnnxAttribute::sizes(&self.axes))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].clone().permuted_axes(self.axes.clone())
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let mut inverse = vec![0; self.axes.len()];
        self.axes
            .iter()
            .enumerate()
            .for_each(|(to, &from)| inverse[from] = to);
        let transpose = Transpose { axes: inverse };
        Ok(vec![Some(step.apply(
            "transpose",
            transpose,
            &[cotangent],
        )?)])
    }
}

impl Expand {
    /// The target with the batch as the operand has it.
    fn resolve(&self, operand: &Shape) -> Shape {
        let rank = self.shape.rank();
        let own = |axis: usize| (axis + operand.rank()).checked_sub(rank);
        let extent = |(axis, &dim): (usize, &Dim)| match (dim, own(axis)) {
            (Dim::Size(_), _) => dim,
            (Dim::Batch { .. }, Some(axis)) => operand.0[axis],
            (Dim::Batch { .. }, None) => Dim::Size(1),
        };
        Shape(self.shape.0.iter().enumerate().map(extent).collect())
    }
}

impl Operator for Expand {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        let shape = self.resolve(x);
        match x.broadcast(&shape) {
            Some(broadcast) if broadcast == shape => Ok(ValueType::f32(shape)),
            _ => Err(format!("{x} does not broadcast to {}", self.shape)),
        }
    }

    fn to_onnx(&self) -> OnnxOperator {
        /// An extent that broadcasts to the operand's own.
        const KEEP: i64 = 1;
        OnnxOperator::plain("Expand").with_input(OnnxInput::Ints(onnx_extents(&self.shape, KEEP)))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let shape = self.resolve(&Shape::fixed(inputs[0].shape())).concrete(1);
        inputs[0]
            .broadcast(shape)
            .expect("checked by infer")
            .to_owned()
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        Ok(vec![Some(step.unbroadcast(cotangent, step.inputs[0])?)])
    }
}

impl Operator for Reverse {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        check_axes("reverse", &self.axes, x)?;
        Ok(ValueType::f32(x.clone()))
    }

    fn to_onnx(&self) -> OnnxOperator {
        let count = self.axes.len();
        OnnxOperator::plain("Slice")
            .with_input(OnnxInput::Ints(vec![-1; count]))
            .with_input(OnnxInput::Ints(vec![i64::MIN; count]))
            .with_input(OnnxInput::Ints(as_i64(&self.axes)))
            .with_input(OnnxInput::Ints(vec![-1; count]))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let mut result = inputs[0].clone();
        for &axis in &self.axes {
            result = result
                .slice_axis(Axis(axis), Slice::new(0, None, -1))
                .to_owned();
        }
        result
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        Ok(vec![Some(step.apply(
            "reverse",
            self.clone(),
            &[cotangent],
        )?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn gradients_match_finite_differences() {
        let x = || Operand::random(&[2, 3, 1], 1);
        check_gradients(
            Reshape {
                shape: Shape::batched(&[6]),
            },
            &[x()],
        );
        check_gradients(
            Transpose {
                axes: vec![0, 2, 3, 1],
            },
            &[x()],
        );
        check_gradients(
            Expand {
                shape: Shape::batched(&[2, 3, 4]),
            },
            &[x()],
        );
        check_gradients(Reverse { axes: vec![1, 2] }, &[x()]);
    }

    #[test]
    fn known_values() {
        let x = || Operand::fixed(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let elements = |array: ArrayD<f64>| array.iter().copied().collect::<Vec<f64>>();
        let reversed = evaluate(Reverse { axes: vec![1] }, &[x()]);
        assert_eq!(elements(reversed), [3., 2., 1., 6., 5., 4.]);
        let transposed = evaluate(Transpose { axes: vec![1, 0] }, &[x()]);
        assert_eq!(elements(transposed), [1., 4., 2., 5., 3., 6.]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x = ValueType::f32(Shape::batched(&[2, 3]));
        let cases: [(&dyn Operator, &str); 5] = [
            (
                &Reshape {
                    shape: Shape::batched(&[7]),
                },
                "the number of elements differs",
            ),
            (
                &Transpose {
                    axes: vec![0, 0, 1],
                },
                "not a permutation",
            ),
            (
                &Expand {
                    shape: Shape::batched(&[2, 4]),
                },
                "does not broadcast",
            ),
            (&Reverse { axes: vec![0] }, "never the batch"),
            (&Reverse { axes: vec![1, 1] }, "each once"),
        ];
        for (op, wanted) in cases {
            let problem = op.infer(&[&x]).unwrap_err();
            assert!(problem.contains(wanted), "{}: {problem}", op.name());
        }
    }
}
