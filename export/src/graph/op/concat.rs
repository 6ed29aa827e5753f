//! Values joined along an axis.

use ndarray::{ArrayD, Axis, concatenate};

use super::{BackwardStep, OnnxAttribute, OnnxOperator, Operator, Slice, all_floats};
use crate::error::Result;
use crate::graph::{Dim, Value, ValueType};

/// Operands behind one another along an axis: `[.., A, ..]`, `[.., B, ..]`, … `→ [.., A + B + …, ..]`. All other extents agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Which axis; fixed extents only.
    pub axis: usize,
}

impl Concat {
    /// Is the cotangent the same all along the axis? Then it broadcasts to each operand as it is.
    fn is_constant_along(&self, step: &BackwardStep<'_>) -> bool {
        let rank = step.graph.shape(step.output).rank();
        let cotangent = step.graph.shape(step.cotangent);
        match (self.axis + cotangent.rank()).checked_sub(rank) {
            Some(axis) => cotangent.0[axis] == Dim::Size(1),
            None => true,
        }
    }
}

impl Operator for Concat {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let shapes = all_floats(inputs)?;
        let Some(first) = shapes.first() else {
            return Err("expected at least one operand, got none".to_string());
        };
        let mut sum = Some(0usize);
        for shape in &shapes {
            let Some(size) = shape.size(self.axis) else {
                return Err(format!(
                    "cannot concatenate along axis {} of {shape}: only fixed extents, never the batch",
                    self.axis
                ));
            };
            let mut alike = (*shape).clone();
            alike.0[self.axis] = first.0[self.axis];
            if alike != **first {
                return Err(format!(
                    "expected operands that differ along axis {} only, got {first} and {shape}",
                    self.axis
                ));
            }
            sum = sum.and_then(|sum| sum.checked_add(size));
        }
        let mut shape = (*first).clone();
        shape.0[self.axis] = Dim::Size(sum.ok_or("the extents add up to too much")?);
        Ok(ValueType::f32(shape))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Concat").with("axis", OnnxAttribute::Int(self.axis as i64))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
        concatenate(Axis(self.axis), &views).expect("checked by infer")
    }

    /// Each operand gets its part.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        if self.is_constant_along(step) {
            return Ok(vec![Some(step.cotangent); step.inputs.len()]);
        }
        let cotangent = step.full_cotangent()?;
        let mut gradients = Vec::with_capacity(step.inputs.len());
        let mut start = 0;
        for (&operand, &wanted) in step.inputs.iter().zip(step.wanted) {
            let end = start + step.graph.shape(operand).0[self.axis].concrete(1);
            let part = Slice::range(self.axis, start..end);
            gradients.push(match wanted {
                true => Some(step.apply("part", part, &[cotangent])?),
                false => None,
            });
            start = end;
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
    use crate::graph::op::{Binary, KeepDims, Op, Reduce, ReduceKind};
    use crate::graph::reference;
    use crate::graph::{Graph, Shape};
    use crate::transform::gradient::gradient;

    #[test]
    fn known_values() {
        let operands = [
            Operand::fixed(&[2, 1], &[1.0, 4.0]),
            Operand::fixed(&[2, 2], &[2.0, 3.0, 5.0, 6.0]),
        ];
        let joined = evaluate(Concat { axis: 1 }, &operands);
        let elements: Vec<f64> = joined.iter().copied().collect();
        assert_eq!(elements, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    /// E = Σ (x, x²), whose cotangent is 1 everywhere: ∇E = 1 + 2x.
    #[test]
    fn a_cotangent_that_is_constant_along_the_axis_is_not_cut() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        let joined = graph
            .apply("joined", Concat { axis: 1 }, &[x, square])
            .unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[joined]).unwrap();
        graph.set_output("energy", energy);
        let graph = gradient(&graph, "energy", "x").unwrap();
        let cuts = graph
            .values()
            .filter(|&value| matches!(graph.operator(value), Some((Op::Slice(_), _))));
        assert_eq!(cuts.count(), 0);
        let x = array![[1.0, -2.0], [0.5, 3.0]].into_dyn();
        let values = BTreeMap::from([("x".to_string(), x.clone())]);
        let outputs = reference::evaluate(&graph, &values).unwrap();
        assert_eq!(outputs["gradient"], x * 2.0 + 1.0);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let value = |shape: Shape| ValueType::f32(shape);
        let batched = |sizes: &[usize]| value(Shape::batched(sizes));
        for (axis, operands, wanted) in [
            (0, vec![batched(&[2]), batched(&[2])], "never the batch"),
            (
                2,
                vec![batched(&[2]), batched(&[2])],
                "along axis 2 of [N, 2]",
            ),
            (
                1,
                vec![batched(&[2, 3]), batched(&[2, 4])],
                "along axis 1 only",
            ),
            (
                1,
                vec![batched(&[2]), value(Shape::fixed(&[1, 2]))],
                "[N, 2] and [1, 2]",
            ),
            (
                1,
                vec![batched(&[2, 3]), batched(&[2])],
                "[N, 2, 3] and [N, 2]",
            ),
            (1, vec![batched(&[2]), batched(&[usize::MAX])], "too much"),
            (0, vec![], "at least one operand"),
        ] {
            let problem = Concat { axis }
                .infer(&operands.iter().collect::<Vec<_>>())
                .unwrap_err();
            assert!(problem.contains(wanted), "{problem}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn gradients_match_finite_differences(
            axis in 1usize..4, extents in proptest::collection::vec(1usize..4, 1..4), seed in 0u64..1000,
        ) {
            let operand = |(&extent, seed): (&usize, u64)| {
                let mut sizes = [2, 3, 2];
                sizes[axis - 1] = extent;
                Operand::random(&sizes, seed)
            };
            let operands: Vec<Operand> = extents.iter().zip(seed..).map(operand).collect();
            check_gradients(Concat { axis }, &operands);
        }
    }
}
