//! Sums and means over axes.

use ndarray::{ArrayD, Axis};

use super::{
    BackwardStep, Binary, OnnxAttribute, OnnxInput, OnnxOperator, Operator, Reshape, as_i64,
    check_axes, floats,
};
use crate::error::Error;
use crate::graph::{Dim, Graph, Shape, Value, ValueType};

/// What a [`Reduce`] makes of the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
}

/// Whether reduced axes stay with extent 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepDims {
    /// They stay.
    Yes,
    /// They go.
    No,
}

/// `ReduceSum` or `ReduceMean` over axes other than the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Sum or mean.
    pub kind: ReduceKind,
    /// Which axes.
    pub axes: Vec<usize>,
    /// Whether they stay.
    pub keep_dims: KeepDims,
}

impl Reduce {
    fn count(&self, shape: &Shape) -> usize {
        self.axes
            .iter()
            .filter_map(|&axis| shape.size(axis))
            .product()
    }

    /// The operand's shape with each reduced axis at 1.
    fn kept(&self, shape: &Shape) -> Shape {
        let extents = shape.0.iter().enumerate();
        Shape(
            extents
                .map(|(axis, &dim)| {
                    if self.axes.contains(&axis) {
                        Dim::Size(1)
                    } else {
                        dim
                    }
                })
                .collect(),
        )
    }
}

impl Operator for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Sum => "ReduceSum",
            ReduceKind::Mean => "ReduceMean",
        }
    }

    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        check_axes("reduce", &self.axes, x)?;
        let extents = x.0.iter().enumerate();
        let left = extents
            .filter(|(axis, _)| !self.axes.contains(axis))
            .map(|(_, &dim)| dim)
            .collect();
        Ok(ValueType::f32(match self.keep_dims {
            KeepDims::Yes => self.kept(x),
            KeepDims::No => Shape(left),
        }))
    }

    /// The axes are written as an input; the writer turns them into an attribute where the opset wants that.
    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.name())
            .with(
                "keepdims",
                OnnxAttribute::Int(i64::from(self.keep_dims == KeepDims::Yes)),
            )
            .with_input(OnnxInput::Ints(as_i64(&self.axes)))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let mut result = inputs[0].clone();
        let mut axes = self.axes.clone();
        axes.sort_unstable();
        let mut count = 1;
        for axis in axes.into_iter().rev() {
            count *= result.shape()[axis];
            result = result.sum_axis(Axis(axis));
            if self.keep_dims == KeepDims::Yes {
                result = result.insert_axis(Axis(axis));
            }
        }
        match self.kind {
            ReduceKind::Sum => result,
            ReduceKind::Mean => result / count as f64,
        }
    }

    /// The cotangent goes unstretched: it is constant along the reduced axes.
    fn gradient(
        &self,
        graph: &mut Graph,
        step: &BackwardStep<'_>,
    ) -> Result<Vec<Option<Value>>, Error> {
        let operand = graph.shape(step.inputs[0]).clone();
        let mut gradient = step.full_cotangent(graph)?;
        if self.keep_dims == KeepDims::No {
            let shape = self.kept(&operand);
            gradient = graph.apply(&step.named("reshape"), Reshape { shape }, &[gradient])?;
        }
        if self.kind == ReduceKind::Mean {
            let share = graph.scalar(&step.named("share"), 1.0 / self.count(&operand) as f32);
            gradient = graph.apply(&step.named("scaled"), Binary::Mul, &[gradient, share])?;
        }
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::testing::{Operand, check_gradients, evaluate};

    fn cases() -> impl Iterator<Item = Reduce> {
        let kinds = [ReduceKind::Sum, ReduceKind::Mean];
        let axes = [vec![1], vec![2, 3], vec![1, 2, 3], vec![3]];
        kinds.into_iter().flat_map(move |kind| {
            axes.clone().into_iter().flat_map(move |axes| {
                [KeepDims::Yes, KeepDims::No].map(|keep_dims| Reduce {
                    kind,
                    axes: axes.clone(),
                    keep_dims,
                })
            })
        })
    }

    #[test]
    fn known_values() {
        let x = || Operand::fixed(&[1, 2, 2], &[1.0, 2.0, 3.0, 5.0]);
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        assert_eq!(evaluate(sum, &[x()]).as_slice().unwrap(), [4.0, 7.0]);
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![1, 2],
            keep_dims: KeepDims::Yes,
        };
        assert_eq!(evaluate(mean, &[x()]).as_slice().unwrap(), [2.75]);
    }

    #[test]
    fn gradients_match_finite_differences() {
        for reduce in cases() {
            println!("{reduce:?}");
            check_gradients(reduce, &[Operand::random(&[2, 3, 2], 3)]);
        }
    }

    #[test]
    fn refuses_the_batch() {
        let x = ValueType::f32(Shape::batched(&[3]));
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![0],
            keep_dims: KeepDims::No,
        };
        assert!(sum.infer(&[&x]).unwrap_err().contains("never the batch"));
        for axes in [vec![], vec![1, 1]] {
            let sum = Reduce {
                axes,
                ..sum.clone()
            };
            assert!(
                sum.infer(&[&x])
                    .unwrap_err()
                    .contains("at least one axis and each once")
            );
        }
    }
}
