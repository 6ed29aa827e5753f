//! Sums, means and maxima over axes.

use ndarray::{ArrayD, Axis};

use super::{
    Arithmetic, BackwardStep, Binary, Cast, Compare, OnnxAttribute, OnnxInput, OnnxOperator,
    Operator, Reshape, as_i64, check_axes, floats,
};
use crate::error::Result;
use crate::graph::{Dim, Shape, Value, ValueType};

members! {
    "Reduce";
    /// What a [`Reduce`] makes of the elements.
    pub enum ReduceKind {
        /// Their sum.
        Sum,
        /// Their mean.
        Mean,
        /// The greatest of them; those that are equally great share its derivative evenly.
        Max,
    }
}

/// Whether reduced axes stay with extent 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepDims {
    /// They stay.
    Yes,
    /// They go.
    No,
}

/// `ReduceSum`, `ReduceMean` or `ReduceMax` over axes other than the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Sum, mean or maximum.
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
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        check_axes("reduce", &self.axes, x)?;
        if self.kind == ReduceKind::Max && self.count(x) == 0 {
            return Err(format!("an axis without elements has no maximum, got {x}"));
        }
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
        OnnxOperator::plain(self.kind.onnx_name())
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
            result = match self.kind {
                ReduceKind::Sum | ReduceKind::Mean => result.sum_axis(Axis(axis)),
                ReduceKind::Max => result.fold_axis(Axis(axis), f64::NEG_INFINITY, greater),
            };
            if self.keep_dims == KeepDims::Yes {
                result = result.insert_axis(Axis(axis));
            }
        }
        match self.kind {
            ReduceKind::Sum | ReduceKind::Max => result,
            ReduceKind::Mean => result / count as f64,
        }
    }

    /// The cotangent goes unstretched: it is constant along the reduced axes. That of a mean is divided by the count, which f32 holds
    /// where it does not hold one over it.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let operand = step.graph.shape(step.inputs[0]).clone();
        let cotangent = step.full_cotangent()?;
        let mut gradient = self.unreduced(step, cotangent)?;
        let (op, operand) = match self.kind {
            ReduceKind::Sum => return Ok(vec![Some(gradient)]),
            ReduceKind::Mean => {
                let count = step.scalar("count", self.count(&operand) as f32);
                (Binary::Div, count)
            }
            ReduceKind::Max => (Binary::Mul, self.share_of_greatest(step)?),
        };
        gradient = step.apply("scaled", op, &[gradient, operand])?;
        Ok(vec![Some(gradient)])
    }

    fn arithmetic(&self) -> Arithmetic {
        match self.kind {
            ReduceKind::Sum | ReduceKind::Mean => Arithmetic::Sums,
            ReduceKind::Max => Arithmetic::Elements,
        }
    }
}

/// The greater of both, or no number if one is none.
fn greater(a: &f64, b: &f64) -> f64 {
    if *a >= *b || a.is_nan() { *a } else { *b }
}

impl Reduce {
    /// A value of the result's shape with the reduced axes in it.
    fn unreduced(&self, step: &mut BackwardStep<'_>, value: Value) -> Result<Value> {
        if self.keep_dims == KeepDims::Yes {
            return Ok(value);
        }
        let shape = self.kept(step.graph.shape(step.inputs[0]));
        step.apply("reshape", Reshape { shape }, &[value])
    }

    /// Per element: 0 where a greater one is reduced with it, else 1 over the number of those that are as great.
    fn share_of_greatest(&self, step: &mut BackwardStep<'_>) -> Result<Value> {
        let greatest = self.unreduced(step, step.output)?;
        let operands = [step.inputs[0], greatest];
        let is_greatest = step.apply("is_greatest", Compare::Equal, &operands)?;
        let mask = step.apply("mask", Cast::F32, &[is_greatest])?;
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: self.axes.clone(),
            keep_dims: KeepDims::Yes,
        };
        let n_greatest = step.apply("n_greatest", sum, &[mask])?;
        step.apply("share", Binary::Div, &[mask, n_greatest])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::array;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::graph::Graph;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};
    use crate::graph::reference;
    use crate::transform::gradient::gradient;

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
        let max = Reduce {
            kind: ReduceKind::Max,
            axes: vec![0, 2],
            keep_dims: KeepDims::No,
        };
        assert_eq!(evaluate(max, &[x()]).as_slice().unwrap(), [2.0, 5.0]);
    }

    /// 1/3 and 1/6 are no f32.
    #[test]
    fn derivatives_of_means_are_exact() {
        for keep_dims in [KeepDims::Yes, KeepDims::No] {
            let mut graph = Graph::new();
            let x = graph.input("x", Shape::batched(&[2, 3])).unwrap();
            let mean = |axes| Reduce {
                kind: ReduceKind::Mean,
                axes,
                keep_dims,
            };
            let rows = graph.apply("rows", mean(vec![2]), &[x]).unwrap();
            let all = (1..graph.shape(rows).rank()).collect();
            let all = Reduce {
                keep_dims: KeepDims::No,
                ..mean(all)
            };
            let energy = graph.apply("energy", all, &[rows]).unwrap();
            graph.set_output("energy", energy);
            let graph = gradient(&graph, "energy", "x").unwrap();
            let x = array![[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]].into_dyn();
            let slope = reference::evaluate(&graph, &BTreeMap::from([("x".to_string(), x)]));
            let slope = slope.unwrap().remove("gradient").unwrap();
            let slope = slope.broadcast(vec![1, 2, 3]).unwrap().to_owned();
            assert!(
                slope.iter().all(|slope| (slope - 1.0 / 6.0).abs() < 1e-15),
                "{slope}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn gradients_match_finite_differences(
            kind in select(vec![ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max]),
            keep_dims in select(vec![KeepDims::Yes, KeepDims::No]),
            extents in proptest::collection::vec((1usize..4, any::<bool>()), 1..4), seed in 0u64..1000,
        ) {
            let sizes: Vec<usize> = extents.iter().map(|extent| extent.0).collect();
            let mut axes: Vec<usize> = (1..=sizes.len()).filter(|axis| extents[axis - 1].1).collect();
            if axes.is_empty() {
                axes.push(1 + seed as usize % sizes.len());
            }
            axes.reverse();
            check_gradients(Reduce { kind, axes, keep_dims }, &[Operand::distinct(&sizes, seed)]);
        }
    }

    /// `E(x) = Max x`: those that are as great share the slope 1.
    #[test]
    fn equals_share_evenly() {
        for keep_dims in [KeepDims::Yes, KeepDims::No] {
            let mut graph = Graph::new();
            let x = graph.input("x", Shape::batched(&[4])).unwrap();
            let max = Reduce {
                kind: ReduceKind::Max,
                axes: vec![1],
                keep_dims,
            };
            let energy = graph.apply("max", max, &[x]).unwrap();
            let shape = Shape::batched(&[]);
            let energy = graph.apply("energy", Reshape { shape }, &[energy]).unwrap();
            graph.set_output("energy", energy);
            let graph = gradient(&graph, "energy", "x").unwrap();
            let x = array![[1.0, 5.0, 5.0, 2.0], [3.0, 3.0, 3.0, 3.0]].into_dyn();
            let values = BTreeMap::from([("x".to_string(), x)]);
            let slopes = &reference::evaluate(&graph, &values).unwrap()["gradient"];
            let wanted = array![[0.0, 0.5, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]];
            assert_eq!(*slopes, wanted.into_dyn());
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

    #[test]
    fn refuses_the_greatest_of_nothing() {
        let x = ValueType::f32(Shape::batched(&[0, 2]));
        let max = |axis| Reduce {
            kind: ReduceKind::Max,
            axes: vec![axis],
            keep_dims: KeepDims::No,
        };
        assert_eq!(
            max(1).infer(&[&x]).unwrap_err(),
            "an axis without elements has no maximum, got [N, 0, 2]"
        );
        assert!(max(2).infer(&[&x]).is_ok());
    }
}
