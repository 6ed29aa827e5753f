//! Maximum pooling over images `[N, C, H, W]`.

use ndarray::ArrayD;

use super::pool::Windows;
use super::{
    BackwardStep, Binary, Cast, Compare, Concat, OnnxAttribute, OnnxOperator, Operator, Pad,
    Reshape, Slice,
};
use crate::error::Result;
use crate::graph::{Dim, Graph, Value, ValueType};

/// `MaxPool`: the maximum over windows of `kernel` pixels, padding below all of them:
/// `[N, C, H, W] → [N, C, H', W']` with `H' = (H + top + bottom − kernel) / stride + 1`.
///
/// Where several pixels of a window hold its maximum, the derivative is that of the first of them, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub strides: [usize; 2],
    /// Padding, each side below the window: top, left, bottom, right.
    pub pads: [usize; 4],
}

/// Most pixels of a window along an axis that is differentiated: each becomes operators of its own.
const MAX_TAPS: usize = 1 << 10;

impl MaxPool {
    fn windows(&self) -> Windows {
        Windows {
            kernel: self.kernel,
            strides: self.strides,
            pads: self.pads,
        }
    }

    /// The same windows along the rows' axis, 0, or along that of the columns, 1.
    fn line(&self, direction: usize) -> AxisWindows {
        AxisWindows {
            axis: direction + 2,
            taps: self.kernel[direction],
            stride: self.strides[direction],
            pads: [self.pads[direction], self.pads[direction + 2]],
        }
    }

    /// Windows of one row.
    fn across(&self) -> MaxPool {
        MaxPool {
            kernel: [1, self.kernel[1]],
            strides: [1, self.strides[1]],
            pads: [0, self.pads[1], 0, self.pads[3]],
        }
    }
}

impl Operator for MaxPool {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        self.windows().infer(inputs)
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("MaxPool")
            .with("kernel_shape", OnnxAttribute::sizes(&self.kernel))
            .with("strides", OnnxAttribute::sizes(&self.strides))
            .with("pads", OnnxAttribute::sizes(&self.pads))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        self.windows().evaluate(&inputs[0], |pixels| {
            pixels.iter().copied().fold(f64::NEG_INFINITY, f64::max)
        })
    }

    /// A maximum over a window is one over its rows of those over their columns, and so the first pixel that holds it is the
    /// first in the first row that does: the cotangent goes to rows first, then to pixels.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let (x, y) = (step.inputs[0], step.output);
        if self.kernel.iter().any(|&taps| taps > MAX_TAPS) {
            return Err(step.unsupported(
                self.name(),
                &format!(
                    "its windows have {:?} pixels; along an axis at most {MAX_TAPS} can be differentiated",
                    self.kernel
                ),
            ));
        }
        let [down, across] = [self.line(0), self.line(1)];
        let cotangent = step.full_cotangent()?;
        if down.is_identity() {
            return Ok(vec![Some(across.backward(step, [x, y], cotangent)?)]);
        }
        let rows = match across.is_identity() {
            true => x,
            false => step.apply("rows", self.across(), &[x])?,
        };
        let of_rows = down.backward(step, [rows, y], cotangent)?;
        Ok(vec![Some(across.backward(step, [x, rows], of_rows)?)])
    }
}

/// Windows along one axis.
struct AxisWindows {
    axis: usize,
    /// Pixels of a window.
    taps: usize,
    stride: usize,
    /// Before and after.
    pads: [usize; 2],
}

impl AxisWindows {
    /// Is each pixel a window of its own?
    fn is_identity(&self) -> bool {
        self.taps == 1 && self.stride == 1
    }

    /// The cotangent of the pixels from that of the maxima.
    fn backward(
        &self,
        step: &mut BackwardStep<'_>,
        [pixels, maxima]: [Value; 2],
        cotangent: Value,
    ) -> Result<Value> {
        if self.is_identity() {
            return Ok(cotangent);
        }
        let shares = self.shares(step, [pixels, maxima], cotangent)?;
        let lanes = self.lanes(step, shares)?;
        let joined = self.interleaved(step, lanes)?;
        let extent = self.extent(step.graph, pixels);
        self.cropped(step, joined, extent)
    }

    fn extent(&self, graph: &Graph, value: Value) -> usize {
        graph.shape(value).0[self.axis].concrete(1)
    }

    /// What each tap of the windows gets of the cotangent: all of it, if its pixel holds the maximum and none before it does.
    fn shares(
        &self,
        step: &mut BackwardStep<'_>,
        [pixels, maxima]: [Value; 2],
        cotangent: Value,
    ) -> Result<Vec<Value>> {
        let n_windows = self.extent(step.graph, maxima);
        let dtype = step.graph.value_type(cotangent).dtype;
        let padded = self.padded(step, pixels)?;
        let mut shares = Vec::with_capacity(self.taps);
        let mut rest = cotangent;
        for tap in 0..self.taps - 1 {
            let of_tap = Slice {
                axis: self.axis,
                start: tap,
                end: tap + (n_windows - 1) * self.stride + 1,
                step: self.stride,
            };
            let of_tap = step.apply("tap", of_tap, &[padded])?;
            let is_below = step.apply("below", Compare::Greater, &[maxima, of_tap])?;
            let mask = step.apply("mask", Cast { to: dtype }, &[is_below])?;
            let passed = step.apply("passed", Binary::Mul, &[rest, mask])?;
            shares.push(step.apply("share", Binary::Sub, &[rest, passed])?);
            rest = passed;
        }
        shares.push(rest);
        Ok(shares)
    }

    /// The pixels among padding that holds no maximum.
    fn padded(&self, step: &mut BackwardStep<'_>, pixels: Value) -> Result<Value> {
        if self.pads == [0, 0] {
            return Ok(pixels);
        }
        let pad = Pad {
            value: f32::NEG_INFINITY,
            ..Pad::zeros_along(self.axis, self.pads, step.graph.shape(pixels).rank())
        };
        step.apply("padded", pad, &[pixels])
    }

    /// The padded axis is seen as groups of `stride` pixels. A lane is one place in the groups; the sum of what the taps that
    /// fall on it get. There are as many lanes as places that any tap falls on.
    fn lanes(&self, step: &mut BackwardStep<'_>, shares: Vec<Value>) -> Result<Vec<Value>> {
        let last = (self.taps - 1) / self.stride;
        let mut lanes: Vec<Value> = Vec::new();
        for (tap, share) in shares.into_iter().enumerate() {
            let [group, place] = [tap / self.stride, tap % self.stride];
            let shifted = match last {
                0 => share,
                _ => {
                    let around = [group, last - group];
                    let pad = Pad::zeros_along(self.axis, around, step.graph.shape(share).rank());
                    step.apply("shifted", pad, &[share])?
                }
            };
            match lanes.get_mut(place) {
                Some(lane) => *lane = step.apply("lane", Binary::Add, &[*lane, shifted])?,
                None => lanes.push(shifted),
            }
        }
        Ok(lanes)
    }

    /// The lanes side by side, and zeros where no tap falls.
    fn interleaved(&self, step: &mut BackwardStep<'_>, lanes: Vec<Value>) -> Result<Value> {
        if self.stride == 1 {
            return Ok(lanes[0]);
        }
        let places = self.axis + 1;
        let lane = step.graph.shape(lanes[0]).clone();
        let mut columns = lanes;
        for column in &mut columns {
            let mut shape = lane.clone();
            shape.0.insert(places, Dim::Size(1));
            *column = step.apply("column", Reshape { shape }, &[*column])?;
        }
        let mut groups = match columns.as_slice() {
            [single] => *single,
            _ => step.apply("groups", Concat { axis: places }, &columns)?,
        };
        if columns.len() < self.stride {
            let around = [0, self.stride - columns.len()];
            let pad = Pad::zeros_along(places, around, lane.rank() + 1);
            groups = step.apply("groups", pad, &[groups])?;
        }
        let mut shape = lane;
        shape.0[self.axis] = Dim::Size(shape.0[self.axis].concrete(1) * self.stride);
        step.apply("joined", Reshape { shape }, &[groups])
    }

    /// The part of the padded axis that holds pixels; zeros for those behind the last group.
    fn cropped(&self, step: &mut BackwardStep<'_>, joined: Value, extent: usize) -> Result<Value> {
        let [before, _] = self.pads;
        let covered = self.extent(step.graph, joined);
        let end = covered.min(before + extent);
        let mut pixels = joined;
        if (before, end) != (0, covered) {
            let inner = Slice::range(self.axis, before..end);
            pixels = step.apply("inner", inner, &[pixels])?;
        }
        if end < before + extent {
            let around = [0, before + extent - end];
            let pad = Pad::zeros_along(self.axis, around, step.graph.shape(pixels).rank());
            pixels = step.apply("whole", pad, &[pixels])?;
        }
        Ok(pixels)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::Array4;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};
    use crate::graph::op::{KeepDims, Reduce, ReduceKind};
    use crate::graph::reference;
    use crate::transform::gradient::gradient;

    /// Derivative of `Σ w·MaxPool(x)` as libtorch reckons: each window gives to its first pixel that is above those before it.
    fn reference_gradient(pool: &MaxPool, x: &Array4<f64>, w: &Array4<f64>) -> Array4<f64> {
        let (_, _, height, width) = x.dim();
        let mut gradient = Array4::zeros(x.raw_dim());
        for ((n, c, i, j), weight) in w.indexed_iter() {
            let mut best: Option<[usize; 4]> = None;
            for r in 0..pool.kernel[0] {
                for s in 0..pool.kernel[1] {
                    let row = (i * pool.strides[0] + r).wrapping_sub(pool.pads[0]);
                    let column = (j * pool.strides[1] + s).wrapping_sub(pool.pads[1]);
                    let inside = row < height && column < width;
                    if inside && best.is_none_or(|best| x[[n, c, row, column]] > x[best]) {
                        best = Some([n, c, row, column]);
                    }
                }
            }
            gradient[best.unwrap()] += weight;
        }
        gradient
    }

    fn check_ties(pool: &MaxPool, extents: [usize; 2], seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut graph = Graph::new();
        let input = Shape::batched(&[2, extents[0], extents[1]]);
        let x = graph.input("x", input).unwrap();
        let y = graph.apply("y", pool.clone(), &[x]).unwrap();
        let shape = graph.shape(y).concrete(2);
        let w = graph.input("w", graph.shape(y).clone()).unwrap();
        let weighted = graph.apply("weighted", Binary::Mul, &[y, w]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1, 2, 3],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[weighted]).unwrap();
        graph.set_output("energy", energy);
        let graph = gradient(&graph, "energy", "x").unwrap();
        // Pixels of so few values that most windows hold their maximum several times.
        let [x, w] = [vec![2, 2, extents[0], extents[1]], shape].map(|shape| {
            let value = |_| f64::from(rng.random_range(-1i8..2));
            Array4::from_shape_fn([shape[0], shape[1], shape[2], shape[3]], value)
        });
        let wanted = reference_gradient(pool, &x, &w);
        let values = BTreeMap::from([
            ("x".to_string(), x.into_dyn()),
            ("w".to_string(), w.into_dyn()),
        ]);
        let outputs = reference::evaluate(&graph, &values).unwrap();
        assert_eq!(outputs["gradient"], wanted.into_dyn(), "{pool:?}");
    }

    #[test]
    fn padding_is_below_all_pixels() {
        let x = Operand::fixed(&[1, 1, 2, 2], &[-4.0, -3.0, -2.0, -1.0]);
        let pool = MaxPool {
            kernel: [2, 2],
            strides: [1, 1],
            pads: [1, 1, 1, 1],
        };
        let result = evaluate(pool, &[x]);
        assert_eq!(
            result.as_slice().unwrap(),
            [-4.0, -3.0, -3.0, -2.0, -1.0, -1.0, -2.0, -1.0, -1.0]
        );
    }

    #[test]
    fn huge_windows_have_no_gradient() {
        for (taps, is_fine) in [(MAX_TAPS, true), (MAX_TAPS + 1, false)] {
            let mut graph = Graph::new();
            let x = graph.input("x", Shape::batched(&[1, 1, taps])).unwrap();
            let pool = MaxPool {
                kernel: [1, taps],
                strides: [1, 1],
                pads: [0; 4],
            };
            let pooled = graph.apply("pooled", pool, &[x]).unwrap();
            let shape = Shape::batched(&[]);
            let energy = graph.apply("energy", Reshape { shape }, &[pooled]).unwrap();
            graph.set_output("energy", energy);
            match gradient(&graph, "energy", "x") {
                Ok(_) => assert!(is_fine),
                Err(error) => {
                    assert!(
                        !is_fine && error.to_string().contains("at most 1024"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_windows_that_do_not_fit() {
        let x = ValueType::f32(Shape::batched(&[3, 4, 4]));
        let pool = |kernel, strides, pads| MaxPool {
            kernel,
            strides,
            pads,
        };
        for (pool, wanted) in [
            (
                pool([5, 1], [1, 1], [0; 4]),
                "a window of 5 pixels does not fit 4",
            ),
            (pool([2, 2], [1, 0], [0; 4]), "strides at least 1"),
            (
                pool([2, 2], [1, 1], [0, 2, 0, 0]),
                "must be below the window",
            ),
            (pool([0, 2], [1, 1], [0; 4]), "must be below the window"),
        ] {
            let problem = pool.infer(&[&x]).unwrap_err();
            assert!(problem.contains(wanted), "{pool:?}: {problem}");
        }
    }

    prop_compose! {
        fn pools()(kernel in [1usize..4, 1usize..4])(
            kernel in Just(kernel), strides in [1usize..5, 1usize..5],
            pads in [0..kernel[0], 0..kernel[1], 0..kernel[0], 0..kernel[1]],
        ) -> MaxPool {
            MaxPool { kernel, strides, pads }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn gradients_match_finite_differences(pool in pools(), extents in [3usize..8, 3usize..8], seed in 0u64..1000) {
            check_gradients(pool, &[Operand::distinct(&[2, extents[0], extents[1]], seed)]);
        }

        #[test]
        fn ties_go_to_the_first_of_a_window(pool in pools(), extents in [3usize..8, 3usize..8], seed in 0u64..1000) {
            check_ties(&pool, extents, seed);
        }
    }
}
