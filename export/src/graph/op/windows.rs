//! Convolutions of the interpreter as matrix products. A loop over every tap of every pixel takes minutes for a network that is in
//! use; it is what the tests compare these with.

use std::ops::Range;

use ndarray::{Array2, Array4, ArrayView3, ArrayView4, ArrayViewMut3, s};

/// Pixels that are gathered at once, so that the copies stay small.
const BLOCK: usize = 1024;

/// How the windows of a convolution lie over its image, vertically and horizontally.
pub(super) struct Windows {
    /// Step between windows.
    pub(super) strides: [usize; 2],
    /// Zero padding above and to the left of the image.
    pub(super) pads: [usize; 2],
    /// Distance between taps.
    pub(super) dilations: [usize; 2],
    /// Taps of a window.
    pub(super) kernel: [usize; 2],
    /// Number of windows.
    pub(super) count: [usize; 2],
}

impl Windows {
    /// The convolution of images `[N, C, H, W]` with a weight `[O, C/groups, kh, kw]`.
    pub(super) fn convolved(
        &self,
        x: ArrayView4<'_, f64>,
        weight: ArrayView4<'_, f64>,
        groups: usize,
    ) -> Array4<f64> {
        let (batch, outputs, group_inputs) = (x.dim().0, weight.dim().0, weight.dim().1);
        let matrix = as_matrix(weight, group_inputs * self.taps());
        let mut result = Array4::zeros([batch, outputs, self.count[0], self.count[1]]);
        for (n, group) in (0..batch).flat_map(|n| (0..groups).map(move |group| (n, group))) {
            let channels = part(group, group_inputs);
            let image = x.slice(s![n, channels, .., ..]);
            let rows_of_weight = part(group, outputs / groups);
            let weight = matrix.slice(s![rows_of_weight.clone(), ..]);
            for rows in self.blocks() {
                let seen = self.gathered(image, rows.clone());
                let shape = [rows_of_weight.len(), rows.len(), self.count[1]];
                let block = weight.dot(&seen).into_shape_with_order(shape);
                result
                    .slice_mut(s![n, rows_of_weight.clone(), rows, ..])
                    .assign(&block.expect("a column is a window"));
            }
        }
        result
    }

    /// The transpose: windows `[N, C, H, W]` laid over images of those extents, weighted by `[C, O/groups, kh, kw]`.
    pub(super) fn spread(
        &self,
        x: ArrayView4<'_, f64>,
        weight: ArrayView4<'_, f64>,
        groups: usize,
        extents: [usize; 2],
    ) -> Array4<f64> {
        let (batch, channels, _, _) = x.dim();
        let group_outputs = weight.dim().1;
        let matrix = as_matrix(weight, group_outputs * self.taps());
        let shape = [batch, group_outputs * groups, extents[0], extents[1]];
        let mut result = Array4::zeros(shape);
        for (n, group) in (0..batch).flat_map(|n| (0..groups).map(move |group| (n, group))) {
            let group_inputs = part(group, channels / groups);
            let weight = matrix.slice(s![group_inputs.clone(), ..]);
            for rows in self.blocks() {
                let windows = x.slice(s![n, group_inputs.clone(), rows.clone(), ..]);
                let windows = windows.to_shape([group_inputs.len(), rows.len() * self.count[1]]);
                let windows = windows.expect("a column is a window");
                let outputs = part(group, group_outputs);
                let image = result.slice_mut(s![n, outputs, .., ..]);
                self.scattered(image, rows, &weight.t().dot(&windows));
            }
        }
        result
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// All rows of windows, some at a time.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let [rows, columns] = self.count;
        let step = BLOCK.div_ceil(columns.max(1));
        (0..rows)
            .step_by(step)
            .map(move |first| first..rows.min(first + step))
    }

    /// What each tap of the windows in some rows sees of the image, 0 beyond it: `[C·kh·kw, rows·W']`.
    fn gathered(&self, image: ArrayView3<'_, f64>, rows: Range<usize>) -> Array2<f64> {
        let (channels, height, width) = image.dim();
        let shape = [channels * self.taps(), rows.len() * self.count[1]];
        let mut seen = Array2::zeros(shape);
        for c in 0..channels {
            self.each_tap([height, width], rows.clone(), |tap, window, row, column| {
                seen[[c * self.taps() + tap, window]] = image[[c, row, column]];
            });
        }
        seen
    }

    /// The transpose of [`Windows::gathered`]: what each tap has is added to the pixel that it lies on.
    fn scattered(&self, mut image: ArrayViewMut3<'_, f64>, rows: Range<usize>, seen: &Array2<f64>) {
        let (channels, height, width) = image.dim();
        for c in 0..channels {
            self.each_tap([height, width], rows.clone(), |tap, window, row, column| {
                image[[c, row, column]] += seen[[c * self.taps() + tap, window]];
            });
        }
    }

    /// Calls with each tap, the number of its window, and the row and column of the pixel that it lies on, if there is one.
    fn each_tap(
        &self,
        [height, width]: [usize; 2],
        rows: Range<usize>,
        mut visit: impl FnMut(usize, usize, usize, usize),
    ) {
        let pixel = |axis: usize, window: usize, tap: usize| {
            (window * self.strides[axis] + tap * self.dilations[axis]).wrapping_sub(self.pads[axis])
        };
        for tap in 0..self.taps() {
            let (r, s) = (tap / self.kernel[1], tap % self.kernel[1]);
            for i in rows.clone() {
                let row = pixel(0, i, r);
                if row >= height {
                    continue;
                }
                let first = (i - rows.start) * self.count[1];
                for j in 0..self.count[1] {
                    let column = pixel(1, j, s);
                    if column < width {
                        visit(tap, first + j, row, column);
                    }
                }
            }
        }
    }
}

/// The channels of a group.
fn part(group: usize, size: usize) -> Range<usize> {
    group * size..(group + 1) * size
}

/// A weight with everything behind its first axis in one row.
fn as_matrix(weight: ArrayView4<'_, f64>, columns: usize) -> Array2<f64> {
    let rows = weight.dim().0;
    weight
        .to_shape([rows, columns])
        .expect("a weight has as many elements as its shape says")
        .into_owned()
}

#[cfg(test)]
mod tests {
    use ndarray::Array;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const TOLERANCE: f64 = 1e-13;

    /// Calls with output channel, input channel within its group, tap, window, and the pixel that the tap lies on.
    fn each_product(
        windows: &Windows,
        [outputs, group_inputs]: [usize; 2],
        [height, width]: [usize; 2],
        mut visit: impl FnMut(usize, usize, [usize; 2], [usize; 2], [usize; 2]),
    ) {
        for ((o, c), (i, j)) in (0..outputs)
            .flat_map(|o| (0..group_inputs).map(move |c| (o, c)))
            .flat_map(|channels| {
                ndarray::indices(windows.count)
                    .into_iter()
                    .map(move |window| (channels, window))
            })
        {
            for (r, s) in ndarray::indices(windows.kernel) {
                let row = (i * windows.strides[0] + r * windows.dilations[0])
                    .checked_sub(windows.pads[0]);
                let column = (j * windows.strides[1] + s * windows.dilations[1])
                    .checked_sub(windows.pads[1]);
                if let (Some(row), Some(column)) = (row, column)
                    && row < height
                    && column < width
                {
                    visit(o, c, [r, s], [i, j], [row, column]);
                }
            }
        }
    }

    fn reference_convolved(
        windows: &Windows,
        x: &Array4<f64>,
        weight: &Array4<f64>,
        groups: usize,
    ) -> Array4<f64> {
        let (batch, _, height, width) = x.dim();
        let (outputs, group_inputs, _, _) = weight.dim();
        let mut result = Array4::zeros([batch, outputs, windows.count[0], windows.count[1]]);
        for n in 0..batch {
            each_product(
                windows,
                [outputs, group_inputs],
                [height, width],
                |o, c, [r, s], [i, j], [row, column]| {
                    let channel = o / (outputs / groups) * group_inputs + c;
                    result[[n, o, i, j]] += weight[[o, c, r, s]] * x[[n, channel, row, column]];
                },
            );
        }
        result
    }

    /// The sum over all products of the convolution, each taken to the pixel from which it came.
    fn reference_spread(
        windows: &Windows,
        x: &Array4<f64>,
        weight: &Array4<f64>,
        groups: usize,
        [height, width]: [usize; 2],
    ) -> Array4<f64> {
        let (batch, channels, _, _) = x.dim();
        let group_outputs = weight.dim().1;
        let mut result = Array4::zeros([batch, group_outputs * groups, height, width]);
        for n in 0..batch {
            each_product(
                windows,
                [channels, group_outputs],
                [height, width],
                |c, o, [r, s], [i, j], [row, column]| {
                    let output = c / (channels / groups) * group_outputs + o;
                    result[[n, output, row, column]] += weight[[c, o, r, s]] * x[[n, c, i, j]];
                },
            );
        }
        result
    }

    fn random(shape: [usize; 4], rng: &mut ChaCha8Rng) -> Array4<f64> {
        Array::from_shape_simple_fn(shape, || rng.random_range(-1.0..1.0))
    }

    fn check(got: &Array4<f64>, wanted: &Array4<f64>) {
        assert_eq!(got.dim(), wanted.dim());
        let error = (got - wanted)
            .iter()
            .fold(0.0f64, |worst, error| worst.max(error.abs()));
        assert!(error <= TOLERANCE * wanted.len() as f64, "off by {error}");
    }

    /// Windows over an image of those extents.
    fn windows(
        strides: [usize; 2],
        pads: [usize; 2],
        dilations: [usize; 2],
        kernel: [usize; 2],
        extents: [usize; 2],
    ) -> Windows {
        let count = std::array::from_fn(|axis| {
            let reach = dilations[axis] * (kernel[axis] - 1) + 1;
            (extents[axis] + 2 * pads[axis]).saturating_sub(reach) / strides[axis] + 1
        });
        Windows {
            strides,
            pads,
            dilations,
            kernel,
            count,
        }
    }

    proptest! {
        #[test]
        fn products_of_matrices_give_what_the_loops_give(
            strides in proptest::array::uniform2(1usize..4),
            pads in proptest::array::uniform2(0usize..3),
            dilations in proptest::array::uniform2(1usize..3),
            kernel in proptest::array::uniform2(1usize..4),
            extents in proptest::array::uniform2(5usize..9),
            channels in proptest::array::uniform2(1usize..4),
            groups in 1usize..3,
            seed in 0u64..1000,
        ) {
            let windows = windows(strides, pads, dilations, kernel, extents);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let [inputs, outputs] = channels.map(|channels| channels * groups);
            let x = random([2, inputs, extents[0], extents[1]], &mut rng);
            let weight = random([outputs, channels[0], kernel[0], kernel[1]], &mut rng);
            let result = windows.convolved(x.view(), weight.view(), groups);
            check(&result, &reference_convolved(&windows, &x, &weight, groups));
            let spread = windows.spread(result.view(), weight.view(), groups, extents);
            check(&spread, &reference_spread(&windows, &result, &weight, groups, extents));
        }
    }

    /// 60 × 60 windows do not go into one block.
    #[test]
    fn images_are_put_together_from_blocks() {
        let windows = windows([1, 1], [1, 1], [1, 1], [3, 3], [60, 60]);
        assert_eq!(windows.blocks().last(), Some(54..60));
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let (x, weight) = (
            random([1, 2, 60, 60], &mut rng),
            random([3, 2, 3, 3], &mut rng),
        );
        let result = windows.convolved(x.view(), weight.view(), 1);
        check(&result, &reference_convolved(&windows, &x, &weight, 1));
        let spread = windows.spread(result.view(), weight.view(), 1, [60, 60]);
        check(
            &spread,
            &reference_spread(&windows, &result, &weight, 1, [60, 60]),
        );
    }
}
