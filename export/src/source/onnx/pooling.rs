//! Means and maxima of windows, over images and rows.
//!
//! ONNX operators: `AveragePool`, `GlobalAveragePool`, `GlobalMaxPool`, `MaxPool`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use super::known::check_count;
use super::node::{Node, Outputs, Rule};
use super::result::Result;
use super::window::{Layout, Padding, Windows, extents};
use crate::graph::Value;
use crate::graph::op::{AveragePool, Binary, MaxPool, Pad, ReduceKind, Slice};
use crate::graph::tensor::Tensor;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", average_pool),
    ("MaxPool", max_pool),
    ("GlobalAveragePool", |node| global(node, ReduceKind::Mean)),
    ("GlobalMaxPool", |node| global(node, ReduceKind::Max)),
];

/// Windows over images, of which the last may reach over the padding.
struct Pool {
    layout: Layout,
    x: Value,
    image: [usize; 2],
    windows: Windows,
    /// Pixels that the last windows reach over the padding, below and on the right.
    over: [usize; 2],
}

impl Pool {
    fn read(node: &mut Node<'_, '_>) -> Result<Pool> {
        let x = node.value(0)?;
        let layout = Layout::of_pool(node, x)?;
        let x = layout.image(node, x)?;
        let image = extents(&node.shape(x))?;
        let windows = Windows::read(node, layout, image, None)?;
        if matches!(
            Padding::read(node, layout)?,
            Padding::SameUpper | Padding::SameLower
        ) {
            check_same(&windows, image)?;
        }
        let mut pool = Pool {
            layout,
            x,
            image,
            windows,
            over: [0, 0],
        };
        if node.flag("ceil_mode")? == Some(true) {
            pool.over = [pool.left_over(0), pool.left_over(1)];
        }
        for axis in 0..2 {
            check_count(&[pool.count(axis)])?;
            if pool.count(axis) == 0 {
                return Err(format!(
                    "a window that reaches over {} pixels does not fit {} padded ones",
                    pool.windows.reach(axis),
                    pool.padded(axis)
                ));
            }
        }
        Ok(pool)
    }

    /// Image and padding.
    fn padded(&self, axis: usize) -> usize {
        self.image[axis] + self.windows.pads[axis] + self.windows.pads[axis + 2]
    }

    /// What one more window would reach over the padding, if one is left over that starts before the padding behind.
    fn left_over(&self, axis: usize) -> usize {
        let (padded, reach) = (self.padded(axis), self.windows.reach(axis));
        let Some(room) = padded.checked_sub(reach) else {
            return 0;
        };
        let stride = self.windows.strides[axis];
        let start = room.div_ceil(stride) * stride;
        match start < self.image[axis] + self.windows.pads[axis] {
            true => (start + reach).saturating_sub(padded),
            false => 0,
        }
    }

    /// Pads with those that the last windows reach over.
    fn pads(&self) -> [usize; 4] {
        let mut pads = self.windows.pads;
        pads[2] += self.over[0];
        pads[3] += self.over[1];
        pads
    }

    /// How many windows there are.
    fn count(&self, axis: usize) -> usize {
        let room = (self.padded(axis) + self.over[axis]).checked_sub(self.windows.reach(axis));
        room.map_or(0, |room| room / self.windows.strides[axis] + 1)
    }

    /// Per window, how many pixels of it there are from `start` to `end` of the padded image.
    fn covered(&self, axis: usize, start: usize, end: usize) -> Vec<f32> {
        let (stride, kernel) = (self.windows.strides[axis], self.windows.kernel[axis]);
        let windows = (0..self.count(axis)).map(|window| window * stride);
        let covered =
            windows.map(|first| (first + kernel).min(end).saturating_sub(first.max(start)));
        covered.map(|count| count as f32).collect()
    }
}

/// Refuses what runtimes pad otherwise than the specification says, and not as each other.
fn check_same(windows: &Windows, image: [usize; 2]) -> Result<()> {
    let advice =
        "runtimes do not agree where the windows lie; export it with pads instead of auto_pad";
    for (axis, extent) in image.into_iter().enumerate() {
        let stride = windows.strides[axis];
        let last = extent.div_ceil(stride).saturating_sub(1) * stride;
        if last + windows.reach(axis) < extent {
            return Err(format!(
                "with auto_pad, windows that reach over {} pixels at a stride of {stride} leave some of {extent} out; {advice}",
                windows.reach(axis)
            ));
        }
    }
    match windows.dilations {
        [1, 1] => Ok(()),
        dilations => Err(format!(
            "auto_pad with dilations {dilations:?} is not supported for pooling: {advice}"
        )),
    }
}

/// The primitive counts padding; where that is not asked for, or windows reach over it, what it gives is scaled.
fn average_pool(node: &mut Node<'_, '_>) -> Outputs {
    let counts_padding = node.flag("count_include_pad")? == Some(true);
    let pool = Pool::read(node)?;
    if pool.windows.dilations != [1, 1] {
        return Err(format!(
            "dilations {:?} are not supported for means, only 1",
            pool.windows.dilations
        ));
    }
    let mean = AveragePool {
        kernel: pool.windows.kernel,
        strides: pool.windows.strides,
        pads: pool.pads(),
    };
    let [rows, columns] = [0, 1].map(|axis| match counts_padding {
        true => pool.covered(axis, 0, pool.padded(axis)),
        false => {
            let before = pool.windows.pads[axis];
            pool.covered(axis, before, before + pool.image[axis])
        }
    });
    let area = (pool.windows.kernel[0] * pool.windows.kernel[1]) as f32;
    let all = rows
        .iter()
        .all(|&count| count == pool.windows.kernel[0] as f32)
        && columns
            .iter()
            .all(|&count| count == pool.windows.kernel[1] as f32);
    if all {
        return pool.layout.result(node, mean, &[pool.x]);
    }
    let mean = node.apply("mean", mean, &[pool.x])?;
    let factors = rows
        .iter()
        .flat_map(|row| columns.iter().map(move |column| area / (row * column)));
    let factors = Tensor::new(&[rows.len(), columns.len()], factors.collect());
    let factors = node.add_constant("factors", factors);
    pool.layout.result(node, Binary::Mul, &[mean, factors])
}

fn max_pool(node: &mut Node<'_, '_>) -> Outputs {
    // Says how positions are counted in an output that is not supported.
    node.ignore("storage_order");
    let pool = Pool::read(node)?;
    if pool.windows.dilations == [1, 1] {
        let max = MaxPool {
            kernel: pool.windows.kernel,
            strides: pool.windows.strides,
            pads: pool.pads(),
        };
        return pool.layout.result(node, max, &[pool.x]);
    }
    dilated_max_pool(node, &pool)
}

/// Most places of windows with dilation, each of which becomes operators of its own.
const MAX_PLACES: usize = 1 << 10;

/// The maximum of the pixels at each place of the windows, the first places first, so that a tie is theirs.
fn dilated_max_pool(node: &mut Node<'_, '_>, pool: &Pool) -> Outputs {
    let [top, left, bottom, right] = pool.pads();
    let pad = Pad {
        pads: vec![[0, 0], [0, 0], [top, bottom], [left, right]],
        value: f32::NEG_INFINITY,
    };
    let padded = match pool.pads() {
        [0, 0, 0, 0] => pool.x,
        _ => node.apply("padded", pad, &[pool.x])?,
    };
    let Windows {
        kernel,
        strides,
        dilations,
        ..
    } = pool.windows;
    if kernel[0].saturating_mul(kernel[1]) > MAX_PLACES {
        return Err(format!(
            "windows of {kernel:?} pixels with dilation are not supported; at most {MAX_PLACES} pixels are"
        ));
    }
    let place = |axis: usize, tap: usize| {
        let start = tap * dilations[axis];
        Slice {
            axis: axis + 2,
            start,
            end: start + (pool.count(axis) - 1) * strides[axis] + 1,
            step: strides[axis],
        }
    };
    let mut greatest: Option<Value> = None;
    for row in 0..kernel[0] {
        let pixels = node.slice(padded, place(0, row))?;
        for column in 0..kernel[1] {
            let pixels = node.slice(pixels, place(1, column))?;
            greatest = Some(match greatest {
                Some(greatest) => node.apply("greater", Binary::Max, &[greatest, pixels])?,
                None => pixels,
            });
        }
    }
    let greatest = greatest.ok_or("its windows have no pixels")?;
    let shape = pool.layout.shape_of(node.shape(greatest));
    Ok(vec![node.seen_as("maxima", greatest, shape)?.into()])
}

/// Over all axes behind the channels, which stay with extent 1.
fn global(node: &mut Node<'_, '_>, kind: ReduceKind) -> Outputs {
    let x = node.value(0)?;
    let shape = node.shape(x);
    if shape.rank() < 3 {
        return Err(format!("expected images [N, C, ..], got {shape}"));
    }
    let axes: Vec<usize> = (2..shape.rank()).collect();
    Ok(vec![node.along("whole", kind, x, &axes)?.into()])
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use crate::source::onnx::testing::Attribute::{Int, Ints, Text};
    use crate::source::onnx::testing::{Attribute, Model, array, random};

    /// Windows of three channels, as local response normalization has them.
    #[test]
    fn volumes_have_windows_along_their_depth() {
        for op_type in ["AveragePool", "MaxPool"] {
            let attributes = |kernel: Vec<i64>| [("kernel_shape", Ints(kernel))];
            let volumes = model(op_type, &[1, 5, 2, 3], &attributes(vec![3, 1, 1]));
            let images = model(op_type, &[1, 5, 6], &attributes(vec![3, 1]));
            let x = random(&[2, 1, 5, 2, 3], 1);
            let flat = x.clone().into_shape_with_order(vec![2, 1, 5, 6]).unwrap();
            let wanted = images.evaluate(&flat);
            let wanted = wanted.into_shape_with_order(vec![2, 1, 3, 2, 3]).unwrap();
            assert_eq!(volumes.evaluate(&x), wanted, "{op_type}");
            volumes.check_derivatives(3);
            let problem = model(op_type, &[1, 5, 2, 3], &attributes(vec![3, 2, 1])).problem();
            assert!(problem.contains("along their first axis only"), "{problem}");
        }
    }

    fn model(op_type: &str, sizes: &[i64], attributes: &[(&str, Attribute)]) -> Model {
        Model::of_opset(19)
            .input("x", &[&[-1], sizes].concat())
            .node(op_type, "x", "y", attributes)
            .output("y")
    }

    /// One row of pixels, and what its windows become.
    fn pooled(op_type: &str, x: &[f64], attributes: &[(&str, Attribute)]) -> Vec<f64> {
        let model = model(op_type, &[1, x.len() as i64], attributes);
        let y = model.evaluate(&array(&[1, 1, x.len()], x));
        assert_eq!(y.shape()[..2], [1, 1]);
        y.iter().copied().collect()
    }

    fn kernel(size: i64) -> (&'static str, Attribute) {
        ("kernel_shape", Ints(vec![size]))
    }

    fn strides(size: i64) -> (&'static str, Attribute) {
        ("strides", Ints(vec![size]))
    }

    fn pads(before: i64, behind: i64) -> (&'static str, Attribute) {
        ("pads", Ints(vec![before, behind]))
    }

    #[test]
    fn means_count_what_they_are_asked_to() {
        let counted = ("count_include_pad", 1);
        let ceil = ("ceil_mode", 1);
        let x = [3.0, 6.0, 9.0, 12.0, 15.0];
        for (mut attributes, flags, wanted) in [
            (vec![kernel(2)], vec![], vec![4.5, 7.5, 10.5, 13.5]),
            (vec![kernel(2), strides(2)], vec![], vec![4.5, 10.5]),
            // The last window holds one pixel.
            (
                vec![kernel(2), strides(2)],
                vec![ceil],
                vec![4.5, 10.5, 15.0],
            ),
            (
                vec![kernel(2), strides(2)],
                vec![ceil, counted],
                vec![4.5, 10.5, 15.0],
            ),
            (
                vec![kernel(3), strides(2), pads(1, 1)],
                vec![],
                vec![4.5, 9.0, 13.5],
            ),
            (
                vec![kernel(3), strides(2), pads(1, 1)],
                vec![counted],
                vec![3.0, 9.0, 9.0],
            ),
            // Padding before only; the second window is whole, a third would hold two pixels.
            (
                vec![kernel(4), strides(3), pads(2, 0)],
                vec![],
                vec![4.5, 10.5],
            ),
            (
                vec![kernel(4), strides(2), pads(2, 0)],
                vec![ceil, counted],
                vec![2.25, 7.5, 12.0],
            ),
            // A window that would start in the padding behind is none.
            (
                vec![kernel(1), strides(3), pads(0, 0)],
                vec![ceil],
                vec![3.0, 12.0],
            ),
            (
                vec![kernel(2), strides(3), ("auto_pad", Text("SAME_UPPER"))],
                vec![],
                vec![4.5, 13.5],
            ),
            (
                vec![kernel(3), ("auto_pad", Text("SAME_LOWER"))],
                vec![counted],
                vec![3.0, 6.0, 9.0, 12.0, 9.0],
            ),
            (
                vec![kernel(2), ("auto_pad", Text("SAME_LOWER"))],
                vec![counted],
                vec![1.5, 4.5, 7.5, 10.5, 13.5],
            ),
            (
                vec![kernel(2), ("auto_pad", Text("VALID"))],
                vec![],
                vec![4.5, 7.5, 10.5, 13.5],
            ),
        ] {
            attributes.extend(flags.into_iter().map(|(name, flag)| (name, Int(flag))));
            let means = pooled("AveragePool", &x, &attributes);
            let rounded: Vec<f64> = means
                .iter()
                .map(|mean| (mean * 1e4).round() / 1e4)
                .collect();
            assert_eq!(rounded, wanted);
        }
    }

    #[test]
    fn maxima_are_those_of_windows() {
        let x = [3.0, -6.0, 9.0, -12.0, 15.0];
        for (attributes, wanted) in [
            (vec![kernel(2)], vec![3.0, 9.0, 9.0, 15.0]),
            (vec![kernel(2), strides(2)], vec![3.0, 9.0]),
            (
                vec![kernel(2), strides(2), ("ceil_mode", Int(1))],
                vec![3.0, 9.0, 15.0],
            ),
            (
                vec![kernel(3), strides(2), pads(1, 1), ("storage_order", Int(0))],
                vec![3.0, 9.0, 15.0],
            ),
            (
                vec![kernel(2), strides(2), ("auto_pad", Text("SAME_UPPER"))],
                vec![3.0, 9.0, 15.0],
            ),
            (
                vec![kernel(2), ("dilations", Ints(vec![3]))],
                vec![3.0, 15.0],
            ),
            (
                vec![
                    kernel(2),
                    pads(1, 2),
                    strides(2),
                    ("dilations", Ints(vec![2])),
                ],
                vec![-6.0, -6.0, -12.0],
            ),
        ] {
            assert_eq!(pooled("MaxPool", &x, &attributes), wanted);
        }
    }

    #[test]
    fn whole_images_have_means_and_maxima() {
        let x = array(&[1, 2, 1, 3], &[1.0, 2.0, 6.0, -1.0, -2.0, -6.0]);
        let mean = model("GlobalAveragePool", &[2, 1, 3], &[]).evaluate(&x);
        assert_eq!(mean, array(&[1, 2, 1, 1], &[3.0, -3.0]));
        let max = model("GlobalMaxPool", &[2, 1, 3], &[]).evaluate(&x);
        assert_eq!(max, array(&[1, 2, 1, 1], &[6.0, -1.0]));
        let max = model("GlobalMaxPool", &[2, 3], &[]);
        assert_eq!(max.evaluate_random(1).1.shape(), [2, 2, 1]);
    }

    /// Windows on images by the plainest loops.
    fn reference(
        x: &ArrayD<f64>,
        kernel: [usize; 2],
        strides: [usize; 2],
        pad: usize,
        of_window: fn(&[f64]) -> f64,
    ) -> ArrayD<f64> {
        let count =
            |axis: usize| (x.shape()[axis + 2] + 2 * pad - kernel[axis]) / strides[axis] + 1;
        let sizes = vec![x.shape()[0], x.shape()[1], count(0), count(1)];
        ArrayD::from_shape_fn(sizes, |index| {
            let mut pixels = Vec::new();
            for row in 0..kernel[0] {
                for column in 0..kernel[1] {
                    let row = (index[2] * strides[0] + row).wrapping_sub(pad);
                    let column = (index[3] * strides[1] + column).wrapping_sub(pad);
                    pixels.extend(x.get([index[0], index[1], row, column].as_slice()));
                }
            }
            of_window(&pixels)
        })
    }

    #[test]
    fn windows_on_images_are_those_of_plain_loops() {
        let x = random(&[2, 3, 6, 5], 1);
        let attributes = [
            ("kernel_shape", Ints(vec![3, 2])),
            ("strides", Ints(vec![2, 1])),
            ("pads", Ints(vec![1; 4])),
        ];
        let mean = model("AveragePool", &[3, 6, 5], &attributes).evaluate(&x);
        let wanted = reference(&x, [3, 2], [2, 1], 1, |pixels| {
            pixels.iter().sum::<f64>() / pixels.len() as f64
        });
        assert_eq!(mean.shape(), wanted.shape());
        assert!((&mean - &wanted).iter().all(|error| error.abs() < 1e-6));
        let max = model("MaxPool", &[3, 6, 5], &attributes).evaluate(&x);
        let wanted = reference(&x, [3, 2], [2, 1], 1, |pixels| {
            pixels.iter().copied().fold(f64::MIN, f64::max)
        });
        assert_eq!(max, wanted);
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let cases = [
            vec![("kernel_shape", Ints(vec![2, 3]))],
            vec![
                ("kernel_shape", Ints(vec![3, 2])),
                ("strides", Ints(vec![2, 3])),
                ("pads", Ints(vec![1, 0, 2, 1])),
            ],
            vec![
                ("kernel_shape", Ints(vec![2, 2])),
                ("strides", Ints(vec![2, 2])),
                ("ceil_mode", Int(1)),
            ],
            vec![
                ("kernel_shape", Ints(vec![3, 3])),
                ("strides", Ints(vec![2, 2])),
                ("auto_pad", Text("SAME_LOWER")),
            ],
        ];
        for attributes in &cases {
            for op_type in ["AveragePool", "MaxPool"] {
                model(op_type, &[2, 5, 5], attributes).check_derivatives(3);
            }
        }
        let dilated = [
            ("kernel_shape", Ints(vec![2, 2])),
            ("dilations", Ints(vec![2, 1])),
            ("pads", Ints(vec![1, 0, 1, 1])),
        ];
        model("MaxPool", &[2, 5, 5], &dilated).check_derivatives(4);
        for op_type in ["GlobalAveragePool", "GlobalMaxPool"] {
            model(op_type, &[2, 3, 4], &[]).check_derivatives(5);
        }
        model("AveragePool", &[2, 5], &[kernel(3), pads(1, 1)]).check_derivatives(6);
        model("MaxPool", &[2, 5], &[kernel(3), pads(1, 1)]).check_derivatives(7);
    }

    /// The first of equals has the derivative, with and without dilation.
    #[test]
    fn ties_are_those_of_pytorch() {
        for dilation in [1, 2] {
            let dilations = ("dilations", Ints(vec![dilation]));
            let model = model("MaxPool", &[1, 4], &[kernel(2), dilations]);
            let slope = model.slope(&array(&[1, 1, 4], &[1.0; 4]));
            let wanted: Vec<f64> = (0..4).map(|x| f64::from(x + dilation < 4)).collect();
            assert_eq!(slope, array(&[1, 1, 4], &wanted));
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let huge = i64::from(i32::MAX);
        for (op_type, sizes, attributes, wanted) in [
            ("AveragePool", vec![1, 4], vec![], "kernel_shape is missing"),
            (
                "AveragePool",
                vec![1, 4],
                vec![kernel(2), ("dilations", Ints(vec![2]))],
                "dilations [1, 2] are not supported for means",
            ),
            (
                "MaxPool",
                vec![1, 4, 4],
                vec![kernel(2)],
                "expected kernel_shape for each axis behind the channels, got [2]",
            ),
            (
                "MaxPool",
                vec![1, 4, 4, 4],
                vec![kernel(2)],
                "windows of volumes are supported along their first axis only",
            ),
            ("MaxPool", vec![1, 4], vec![kernel(5)], "does not fit 4"),
            (
                "MaxPool",
                vec![1, 7],
                vec![
                    kernel(2),
                    ("dilations", Ints(vec![2])),
                    ("auto_pad", Text("SAME_UPPER")),
                ],
                "auto_pad with dilations [1, 2] is not supported for pooling",
            ),
            (
                "AveragePool",
                vec![1, 4],
                vec![kernel(1), strides(4), ("auto_pad", Text("SAME_LOWER"))],
                "over 1 pixels at a stride of 4 leave some of 4 out",
            ),
            ("MaxPool", vec![1, 4], vec![kernel(0)], "must be at least 1"),
            (
                "MaxPool",
                vec![1, 4],
                vec![kernel(-1)],
                "expected a number from 0",
            ),
            (
                "MaxPool",
                vec![1, 4],
                vec![kernel(2), pads(2, 0)],
                "must be below the window",
            ),
            (
                "MaxPool",
                vec![1, 4],
                vec![kernel(2), ("auto_pad", Text("POEM"))],
                "auto_pad \"POEM\" is not supported",
            ),
            (
                "AveragePool",
                vec![1, 4],
                vec![kernel(huge), pads(huge - 1, huge - 1)],
                "too large",
            ),
            (
                "MaxPool",
                vec![1, 4],
                vec![kernel(huge), ("dilations", Ints(vec![huge]))],
                "does not fit 4",
            ),
            (
                "MaxPool",
                vec![1, 4000],
                vec![kernel(1025), ("dilations", Ints(vec![2]))],
                "at most 1024 pixels",
            ),
            ("GlobalMaxPool", vec![4], vec![], "expected images"),
        ] {
            let problem = model(op_type, &sizes, &attributes).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let indices = Model::new()
            .input("x", &[-1, 1, 4])
            .node("MaxPool", "x", "max positions", &[kernel(2)])
            .node("Add", "max positions", "y", &[])
            .output("y");
        assert!(indices.problem().contains("not supported"));
    }
}
