//! Padding with a constant.

use ndarray::{ArrayD, Dimension};

use super::{
    BackwardStep, OnnxAttribute, OnnxInput, OnnxOperator, Operator, Slice, as_i64, check_axes,
    floats,
};
use crate::error::Result;
use crate::graph::{Dim, Shape, Value, ValueType};

/// A margin of one value around the operand: `[.., A, ..] → [.., before + A + after, ..]` for each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Per axis the elements before and after; none along the batch.
    pub pads: Vec<[usize; 2]>,
    /// What the margin is made of.
    pub value: f32,
}

impl Pad {
    /// Zeros before and after, along one axis of `rank`.
    pub fn zeros_along(axis: usize, around: [usize; 2], rank: usize) -> Pad {
        let mut pads = vec![[0, 0]; rank];
        pads[axis] = around;
        Pad { pads, value: 0.0 }
    }

    /// The axes with a margin.
    fn axes(&self) -> Vec<usize> {
        (0..self.pads.len())
            .filter(|&axis| self.pads[axis] != [0, 0])
            .collect()
    }
}

impl Operator for Pad {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        if self.pads.len() != x.rank() {
            return Err(format!(
                "expected pads for each axis of {x}, got {:?}",
                self.pads
            ));
        }
        let axes = self.axes();
        if !axes.is_empty() {
            check_axes("pad", &axes, x)?;
        }
        let padded = |(&dim, &[before, after]): (&Dim, &[usize; 2])| match dim {
            Dim::Size(size) => Some(Dim::Size(size.checked_add(before)?.checked_add(after)?)),
            Dim::Batch { .. } => Some(dim),
        };
        let extents: Option<Vec<Dim>> = x.0.iter().zip(&self.pads).map(padded).collect();
        match extents {
            Some(extents) => Ok(ValueType::f32(Shape(extents))),
            None => Err(format!("pads {:?} add up to too much", self.pads)),
        }
    }

    fn to_onnx(&self) -> OnnxOperator {
        let [before, after] =
            [0, 1].map(|side| self.pads.iter().map(|pads| pads[side]).collect::<Vec<_>>());
        OnnxOperator::plain("Pad")
            .with("mode", OnnxAttribute::Text("constant"))
            .with_input(OnnxInput::Ints(as_i64(&[before, after].concat())))
            .with_input(OnnxInput::Scalar(self.value))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let extents = inputs[0].shape().iter().zip(&self.pads);
        let shape: Vec<usize> = extents
            .map(|(extent, [before, after])| before + extent + after)
            .collect();
        let mut result = ArrayD::from_elem(shape, f64::from(self.value));
        for (place, &element) in inputs[0].indexed_iter() {
            let place: Vec<usize> = place
                .slice()
                .iter()
                .zip(&self.pads)
                .map(|(place, [before, _])| before + place)
                .collect();
            result[place.as_slice()] = element;
        }
        result
    }

    /// What lies within the margin.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let mut gradient = step.full_cotangent()?;
        for axis in self.axes() {
            let [before, _] = self.pads[axis];
            let extent = step.graph.shape(step.inputs[0]).0[axis].concrete(1);
            let inner = Slice::range(axis, before..before + extent);
            gradient = step.apply("inner", inner, &[gradient])?;
        }
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn known_values() {
        let x = Operand::fixed(&[1, 2], &[1.0, 2.0]);
        let pad = Pad {
            pads: vec![[1, 0], [0, 2]],
            value: 0.5,
        };
        let padded = evaluate(pad, &[x]);
        let elements: Vec<f64> = padded.iter().copied().collect();
        assert_eq!(elements, [0.5, 0.5, 0.5, 0.5, 1.0, 2.0, 0.5, 0.5]);
    }

    /// ONNX lists what stands before all axes, then what stands behind.
    #[test]
    fn pads_are_written_side_by_side() {
        let pad = Pad {
            pads: vec![[1, 2], [3, 4]],
            value: 0.0,
        };
        assert!(matches!(
            pad.to_onnx().extra_inputs.as_slice(),
            [OnnxInput::Ints(pads), OnnxInput::Scalar(0.0)] if pads == &[1, 3, 2, 4]
        ));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x = ValueType::f32(Shape::batched(&[3]));
        for (pads, wanted) in [
            (vec![[1, 0], [0, 0]], "never the batch"),
            (vec![[0, 0]], "for each axis of [N, 3]"),
            (vec![[0, 0], [usize::MAX, 1]], "too much"),
        ] {
            let pad = Pad { pads, value: 0.0 };
            let problem = pad.infer(&[&x]).unwrap_err();
            assert!(problem.contains(wanted), "{pad:?}: {problem}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn gradients_match_finite_differences(
            margins in proptest::collection::vec([0usize..3, 0usize..3], 3), value in -2.0f32..2.0, seed in 0u64..1000,
        ) {
            let pads = [&[[0, 0]], margins.as_slice()].concat();
            check_gradients(Pad { pads, value }, &[Operand::random(&[2, 3, 1], seed)]);
        }
    }
}
