//! Slices: a part of a value along an axis, with a step.

use std::ops::Range;

use ndarray::{ArrayD, Axis};

use super::{
    BackwardStep, OnnxInput, OnnxOperator, Operator, Pad, Reshape, as_i64, check_axes, floats,
};
use crate::error::Result;
use crate::graph::{Dim, Value, ValueType};

/// Every `step`-th element along an axis, from `start` on and before `end`: `[.., A, ..] → [.., ⌈(end − start) / step⌉, ..]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Which axis; a fixed extent only.
    pub axis: usize,
    /// The first element.
    pub start: usize,
    /// Where to end, above `start` and at most the extent.
    pub end: usize,
    /// Distance between elements, at least 1.
    pub step: usize,
}

impl Slice {
    /// All elements of a range.
    pub fn range(axis: usize, range: Range<usize>) -> Slice {
        Slice {
            axis,
            start: range.start,
            end: range.end,
            step: 1,
        }
    }

    /// How many elements are taken.
    fn count(&self) -> usize {
        (self.end - self.start).div_ceil(self.step)
    }
}

impl Operator for Slice {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [x] = floats::<1>(inputs)?;
        check_axes("slice", &[self.axis], x)?;
        let fits = x.size(self.axis).is_some_and(|extent| self.end <= extent);
        if !fits || self.start >= self.end || self.step == 0 {
            return Err(format!(
                "expected a start below the end, an end within axis {} of {x} and a step of at least 1, got {} to {} by {}",
                self.axis, self.start, self.end, self.step
            ));
        }
        let mut shape = x.clone();
        shape.0[self.axis] = Dim::Size(self.count());
        Ok(ValueType::f32(shape))
    }

    fn to_onnx(&self) -> OnnxOperator {
        let list = |number: usize| OnnxInput::Ints(as_i64(&[number]));
        OnnxOperator::plain("Slice")
            .with_input(list(self.start))
            .with_input(list(self.end))
            .with_input(list(self.axis))
            .with_input(list(self.step))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let places: Vec<usize> = (self.start..self.end).step_by(self.step).collect();
        inputs[0].select(Axis(self.axis), &places)
    }

    /// Zeros around the elements and, where the step is above 1, between them.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let cotangent = step.full_cotangent()?;
        let extent = step.graph.shape(step.inputs[0]).0[self.axis].concrete(1);
        let gradient = if self.step == 1 || self.count() == 1 {
            let around = [self.start, extent - self.start - self.count()];
            let pad = Pad::zeros_along(self.axis, around, step.graph.shape(cotangent).rank());
            step.apply("pad", pad, &[cotangent])?
        } else {
            self.spread(step, cotangent, extent)?
        };
        Ok(vec![Some(gradient)])
    }
}

impl Slice {
    /// Puts the elements at their places among zeros: the axis is seen as groups of `step` elements, each with one place that is taken.
    fn spread(&self, step: &mut BackwardStep<'_>, elements: Value, extent: usize) -> Result<Value> {
        let groups = extent.div_ceil(self.step);
        let [group, place] = [self.start / self.step, self.start % self.step];
        let mut shape = step.graph.shape(elements).clone();
        let mut pads = vec![[0, 0]; shape.rank() + 1];
        pads[self.axis] = [group, groups - group - self.count()];
        pads[self.axis + 1] = [place, self.step - 1 - place];
        shape.0.insert(self.axis + 1, Dim::Size(1));
        let singles = step.apply("singles", Reshape { shape }, &[elements])?;
        let grouped = step.apply("pad", Pad { pads, value: 0.0 }, &[singles])?;
        let mut shape = step.graph.shape(elements).clone();
        shape.0[self.axis] = Dim::Size(groups * self.step);
        let whole = step.apply("reshape", Reshape { shape }, &[grouped])?;
        if groups * self.step == extent {
            return Ok(whole);
        }
        let cut = Slice::range(self.axis, 0..extent);
        step.apply("cut", cut, &[whole])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    #[test]
    fn known_values() {
        let x = || Operand::fixed(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let slice = |axis, start, end, step| Slice {
            axis,
            start,
            end,
            step,
        };
        for (slice, wanted) in [
            (slice(1, 0, 3, 2), &[1.0, 3.0, 4.0, 6.0][..]),
            (slice(1, 1, 3, 1), &[2.0, 3.0, 5.0, 6.0]),
            (slice(0, 1, 2, usize::MAX), &[4.0, 5.0, 6.0]),
        ] {
            let elements: Vec<f64> = evaluate(slice.clone(), &[x()]).iter().copied().collect();
            assert_eq!(elements, wanted, "{slice:?}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let x = ValueType::f32(Shape::batched(&[3]));
        for (axis, [start, end, step], wanted) in [
            (0, [0, 1, 1], "never the batch"),
            (2, [0, 1, 1], "axis 2 of [N, 3]"),
            (1, [0, 4, 1], "got 0 to 4 by 1"),
            (1, [2, 2, 1], "got 2 to 2 by 1"),
            (1, [0, 3, 0], "got 0 to 3 by 0"),
        ] {
            let slice = Slice {
                axis,
                start,
                end,
                step,
            };
            let problem = slice.infer(&[&x]).unwrap_err();
            assert!(problem.contains(wanted), "{slice:?}: {problem}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn gradients_match_finite_differences(
            axis in 1usize..4, start in 0usize..4, taken in 1usize..6, left_out in 0usize..4, step in 1usize..8, seed in 0u64..1000,
        ) {
            let mut sizes = [2, 3, 2];
            sizes[axis - 1] = start + taken + left_out;
            let slice = Slice { axis, start, end: start + taken, step };
            check_gradients(slice, &[Operand::random(&sizes, seed)]);
        }
    }
}
