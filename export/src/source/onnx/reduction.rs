//! Reductions along axes, of floats in the graph and of integers that are known; running sums.
//!
//! ONNX operators: `CumSum`, `ReduceL1`, `ReduceL2`, `ReduceLogSum`, `ReduceLogSumExp`, `ReduceMax`, `ReduceMean`,
//! `ReduceMin`, `ReduceProd`, `ReduceSum`, `ReduceSumSquare`; see [the specification](https://onnx.ai/onnx/operators/).

use ndarray::Axis;

use super::known::{Kind, Known, Number, check_count};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::{axes_of, axis_of};
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Binary, Cast, Compare, KeepDims, Reduce, ReduceKind, Slice, Unary};
use crate::graph::tensor::Tensor;
use crate::graph::{Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ReduceSum", |node| {
        known_or(node, Number::plus, |node, x, along| {
            along.reduced(node, ReduceKind::Sum, x)
        })
    }),
    ("ReduceMean", |node| {
        reduced(node, |node, x, along| {
            along.reduced(node, ReduceKind::Mean, x)
        })
    }),
    ("ReduceMax", |node| known_or(node, Number::higher, max)),
    ("ReduceMin", |node| known_or(node, Number::lower, min)),
    ("ReduceProd", |node| known_or(node, Number::times, product)),
    ("ReduceL1", |node| reduced(node, l1)),
    ("ReduceL2", |node| reduced(node, l2)),
    ("ReduceSumSquare", |node| reduced(node, sum_square)),
    ("ReduceLogSum", |node| reduced(node, log_sum)),
    ("ReduceLogSumExp", |node| reduced(node, log_sum_exp)),
    ("CumSum", cumulative_sum),
];

/// The axes of a reduction, in ascending order, and whether they stay.
struct Along {
    axes: Vec<usize>,
    keep_dims: KeepDims,
}

impl Along {
    /// As attributes and inputs say it. No axes are all of them, or none where `noop_with_empty_axes` says so.
    fn read(node: &Node<'_, '_>, rank: usize) -> Result<Along> {
        let axes = node.ints_or_known("axes", 1)?.unwrap_or_default();
        let keep_dims = match node.flag("keepdims")? {
            Some(false) => KeepDims::No,
            _ => KeepDims::Yes,
        };
        let of_none = node.flag("noop_with_empty_axes")? == Some(true);
        let mut axes = match axes.is_empty() && !of_none {
            true => (0..rank).collect(),
            false => axes_of(&axes, rank)?,
        };
        axes.sort_unstable();
        if let Some(pair) = axes.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("it names axis {} twice", pair[0]));
        }
        Ok(Along { axes, keep_dims })
    }

    /// Refuses the batch.
    fn check(&self, shape: &Shape) -> Result<()> {
        match self.axes.iter().find(|&&axis| shape.0[axis].is_batch()) {
            Some(axis) => Err(format!(
                "it reduces axis {axis} of {shape}, which mixes the images of a batch; reduce each image alone, or fix the batch to 1"
            )),
            None => Ok(()),
        }
    }

    /// By a primitive.
    fn reduced(&self, node: &mut Node<'_, '_>, kind: ReduceKind, x: Value) -> Result<Value> {
        if self.axes.is_empty() {
            return Ok(x);
        }
        let reduce = Reduce {
            kind,
            axes: self.axes.clone(),
            keep_dims: self.keep_dims,
        };
        node.apply("reduced", reduce, &[x])
    }

    /// Drops the axes, which have extent 1 by now, where they do not stay.
    fn finished(&self, node: &mut Node<'_, '_>, kept: Value) -> Result<Value> {
        if self.keep_dims == KeepDims::Yes {
            return Ok(kept);
        }
        let shape = node.shape(kept);
        let left = (0..shape.rank()).filter(|axis| !self.axes.contains(axis));
        let shape = Shape(left.map(|axis| shape.0[axis]).collect());
        node.seen_as("dropped", kept, shape)
    }
}

/// How floats are reduced.
type Reduction = fn(&mut Node<'_, '_>, Value, &Along) -> Result<Value>;

fn reduced(node: &mut Node<'_, '_>, reduction: Reduction) -> Outputs {
    let x = node.value(0)?;
    let shape = node.shape(x);
    let along = Along::read(node, shape.rank())?;
    along.check(&shape)?;
    Ok(vec![reduction(node, x, &along)?.into()])
}

/// Integers that are known are reduced now, pair by pair; floats are left to the graph.
fn known_or(
    node: &mut Node<'_, '_>,
    pair: fn(Number, Number) -> Option<Number>,
    reduction: Reduction,
) -> Outputs {
    let Operand::Known(known) = node.operand(0)?.clone() else {
        return reduced(node, reduction);
    };
    let along = Along::read(node, known.shape.rank())?;
    along.check(&known.shape)?;
    let mut reduced = known;
    for &axis in along.axes.iter().rev() {
        let mut lanes = lanes(&reduced, axis).into_iter();
        let mut result = lanes.next().ok_or("nothing of no integers is known")?;
        for lane in lanes {
            result = result.combined(&lane, Kind::Integer, pair)?;
        }
        if along.keep_dims == KeepDims::Yes {
            let mut shape = result.shape.clone();
            shape.0.insert(axis, Dim::Size(1));
            result = result.reshaped(shape)?;
        }
        reduced = result;
    }
    Ok(vec![reduced.into()])
}

/// The parts of an axis, which is not among theirs.
fn lanes(known: &Known, axis: usize) -> Vec<Known> {
    let mut shape = known.shape.clone();
    shape.0.remove(axis);
    let lanes = known.elements.axis_iter(Axis(axis));
    lanes
        .map(|lane| known.moved(shape.clone(), lane.to_owned()))
        .collect()
}

fn max(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    along.reduced(node, ReduceKind::Max, x)
}

/// `−max(−x)`.
fn min(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let opposite = node.apply("opposite", Unary::Neg, &[x])?;
    let greatest = along.reduced(node, ReduceKind::Max, opposite)?;
    node.apply("least", Unary::Neg, &[greatest])
}

fn l1(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let sizes = node.apply("sizes", Unary::Abs, &[x])?;
    along.reduced(node, ReduceKind::Sum, sizes)
}

fn l2(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let square = sum_square(node, x, along)?;
    root_of_sum(node, square)
}

/// The square root of a sum of squares. Its derivative where all of them are 0 is 0, as PyTorch has it, where that of a root is
/// infinite: 1 is added there before and multiplied away behind.
pub(super) fn root_of_sum(node: &mut Node<'_, '_>, square: Value) -> Result<Value> {
    let zero = node.scalar("zero", 0.0);
    let none = node.apply("none", Compare::Equal, &[square, zero])?;
    let none = node.apply("none.number", Cast::F32, &[none])?;
    let one = node.scalar("one", 1.0);
    let some = node.apply("some", Binary::Sub, &[one, none])?;
    let positive = node.apply("positive", Binary::Add, &[square, none])?;
    let root = node.apply("root", Unary::Sqrt, &[positive])?;
    node.apply("norm", Binary::Mul, &[root, some])
}

fn sum_square(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let squares = node.squared("squares", x)?;
    along.reduced(node, ReduceKind::Sum, squares)
}

fn log_sum(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let sum = along.reduced(node, ReduceKind::Sum, x)?;
    node.apply("log", Unary::Log, &[sum])
}

/// `m + log Σ e^(x − m)` with `m = max x`, so that no exponential overflows. The derivative with respect to m is
/// `1 − Σ e^(x − m) / Σ e^(x − m) = 0`, so that of the whole is that without m, and so is every further one.
fn log_sum_exp(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let greatest = node.along("greatest", ReduceKind::Max, x, &along.axes)?;
    let below = node.apply("below", Binary::Sub, &[x, greatest])?;
    let exponentials = node.apply("exponentials", Unary::Exp, &[below])?;
    let sum = node.along("sum", ReduceKind::Sum, exponentials, &along.axes)?;
    let log = node.apply("log", Unary::Log, &[sum])?;
    let whole = node.apply("whole", Binary::Add, &[greatest, log])?;
    along.finished(node, whole)
}

/// Halves are multiplied until one element is left, so that the derivative is exact where factors are 0 too.
fn product(node: &mut Node<'_, '_>, x: Value, along: &Along) -> Result<Value> {
    let mut product = x;
    for &axis in &along.axes {
        product = product_along(node, product, axis)?;
    }
    along.finished(node, product)
}

pub(super) fn product_along(node: &mut Node<'_, '_>, x: Value, axis: usize) -> Result<Value> {
    let shape = node.shape(x);
    let mut extent = shape.size(axis).unwrap_or(0);
    if extent == 0 {
        return Err(format!("{shape} has no factors along axis {axis}"));
    }
    let mut product = x;
    // What has no partner when halves are multiplied.
    let mut left_over = None;
    while extent > 1 {
        if extent % 2 == 1 {
            let last = Slice::range(axis, extent - 1..extent);
            let last = node.apply("last", last, &[product])?;
            left_over = Some(match left_over {
                Some(rest) => node.apply("left_over", Binary::Mul, &[rest, last])?,
                None => last,
            });
        }
        extent /= 2;
        let [first, second] =
            [0..extent, extent..2 * extent].map(|range| Slice::range(axis, range));
        let first = node.apply("first", first, &[product])?;
        let second = node.apply("second", second, &[product])?;
        product = node.apply("pairs", Binary::Mul, &[first, second])?;
    }
    match left_over {
        Some(rest) => node.apply("product", Binary::Mul, &[product, rest]),
        None => Ok(product),
    }
}

/// Which elements a running sum takes: those before each one or those behind it, and whether each one itself.
#[derive(Clone, Copy)]
struct Running {
    reverse: bool,
    exclusive: bool,
}

impl Running {
    fn takes(self, place: usize, of: usize) -> bool {
        match self.reverse {
            _ if place == of => !self.exclusive,
            false => of < place,
            true => of > place,
        }
    }
}

/// Each element becomes the sum of those up to it: a product with a triangle of ones.
fn cumulative_sum(node: &mut Node<'_, '_>) -> Outputs {
    let axis = match node.known(1)?.fixed_numbers()?.as_slice() {
        [axis] => *axis,
        axes => return Err(format!("expected one axis, got {axes:?}")),
    };
    let running = Running {
        exclusive: node.flag("exclusive")? == Some(true),
        reverse: node.flag("reverse")? == Some(true),
    };
    let operand = node.operand(0)?.clone();
    let shape = shape_of_operand(node, &operand);
    let axis = axis_of(axis, shape.rank())?;
    let Dim::Size(extent) = shape.0[axis] else {
        return Err(format!(
            "it adds along axis {axis} of {shape}, which mixes the images of a batch"
        ));
    };
    if let Operand::Known(known) = operand {
        return Ok(vec![known_sums(&known, axis, running)?.into()]);
    }
    let x = node.value(0)?;
    check_count(&[extent, extent])?;
    let triangle = (0..extent * extent).map(|index| {
        let [row, column] = [index / extent, index % extent];
        f32::from(running.takes(row, column))
    });
    let triangle = Tensor::new(&[extent, extent], triangle.collect());
    Ok(vec![node.combined_along("sums", x, axis, triangle)?.into()])
}

/// Running sums of integers that are known.
fn known_sums(known: &Known, axis: usize, running: Running) -> Result<Known> {
    let lanes = lanes(known, axis);
    let Some(first) = lanes.first() else {
        return Ok(known.clone());
    };
    let none = first.mapped(Kind::Integer, |_| Some(Number::Fixed(0)))?;
    let mut sum = none;
    let mut sums = vec![None; lanes.len()];
    let places: Vec<usize> = match running.reverse {
        false => (0..lanes.len()).collect(),
        true => (0..lanes.len()).rev().collect(),
    };
    for place in places {
        let with = sum.combined(&lanes[place], Kind::Integer, Number::plus)?;
        sums[place] = Some(match running.exclusive {
            true => sum,
            false => with.clone(),
        });
        sum = with;
    }
    let sums = sums.iter().flatten().map(|sum| sum.elements.view());
    let sums: Vec<_> = sums.collect();
    let elements = ndarray::stack(Axis(axis), &sums).map_err(|error| error.to_string())?;
    Ok(known.moved(known.shape.clone(), elements))
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use crate::source::onnx::testing::Attribute::{Int, Ints};
    use crate::source::onnx::testing::{Attribute, Model, array, int_tensor};

    /// An operator and what it makes of a list.
    type Case = (&'static str, fn(&[f64]) -> f64);

    const CASES: [Case; 10] = [
        ("ReduceSum", |x| x.iter().sum()),
        ("ReduceMean", |x| x.iter().sum::<f64>() / x.len() as f64),
        ("ReduceMax", |x| x.iter().copied().fold(f64::MIN, f64::max)),
        ("ReduceMin", |x| x.iter().copied().fold(f64::MAX, f64::min)),
        ("ReduceProd", |x| x.iter().product()),
        ("ReduceL1", |x| x.iter().map(|x| x.abs()).sum()),
        ("ReduceL2", |x| x.iter().map(|x| x * x).sum::<f64>().sqrt()),
        ("ReduceSumSquare", |x| x.iter().map(|x| x * x).sum()),
        ("ReduceLogSum", |x| x.iter().sum::<f64>().ln()),
        ("ReduceLogSumExp", |x| {
            x.iter().map(|x| x.exp()).sum::<f64>().ln()
        }),
    ];

    /// `[N, 2, 3, 5]` above 0, reduced over axes that stand in an attribute or, from opset 18 on, in an input.
    fn model(opset: i64, op_type: &str, axes: &[i64], more: &[(&str, Attribute)]) -> Model {
        let model = Model::of_opset(opset)
            .input("x", &[-1, 2, 3, 5])
            .floats("two", &[], &[1.5])
            .node("Add", "x two", "positive", &[]);
        let in_input = opset >= if op_type == "ReduceSum" { 13 } else { 18 };
        if in_input {
            let model = model.ints("axes", axes);
            return model.node(op_type, "positive axes", "y", more).output("y");
        }
        let mut proto = Model::of_opset(opset)
            .node(op_type, "positive", "y", more)
            .node(op_type, "positive", "y", &[("axes", Ints(axes.to_vec()))]);
        let nodes = &mut proto.graph().node;
        let axes = nodes.remove(1).attribute;
        nodes[0].attribute.extend(axes);
        let node = nodes.remove(0);
        let mut model = model;
        model.graph().node.push(node);
        model.output("y")
    }

    /// What stands along axes 1 and 3, and along axis 2, of an image.
    fn lists(x: &ArrayD<f64>, image: usize, kept: usize) -> Vec<f64> {
        let image = x.index_axis(ndarray::Axis(0), image);
        let lane = image.index_axis(ndarray::Axis(1), kept);
        lane.iter().map(|x| x + 1.5).collect()
    }

    #[test]
    fn values_are_those_of_the_formulas() {
        for (op_type, formula) in CASES {
            for (opset, axes, keep, wanted) in [
                (11, [1, 3], Int(1), vec![2, 1, 3, 1]),
                (13, [-1, 1], Int(0), vec![2, 3]),
                (18, [3, -3], Int(0), vec![2, 3]),
                (20, [1, -1], Int(1), vec![2, 1, 3, 1]),
            ] {
                println!("{op_type} of opset {opset}");
                let model = model(opset, op_type, &axes, &[("keepdims", keep)]);
                let (x, y) = model.evaluate_random(3);
                assert_eq!(y.shape(), wanted);
                let wanted = (0..2).flat_map(|n| (0..3).map(move |kept| (n, kept)));
                for ((image, kept), y) in wanted.zip(&y) {
                    let wanted = formula(&lists(&x, image, kept));
                    assert!((y - wanted).abs() < 1e-9, "{y}, not {wanted}");
                }
            }
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        for (op_type, _) in CASES {
            for (axes, keep) in [(vec![1, 2, 3], 0), (vec![2], 1), (vec![3, 1], 0)] {
                println!("{op_type}, {axes:?}");
                model(17, op_type, &axes, &[("keepdims", Int(keep))]).check_derivatives(5);
            }
        }
    }

    #[test]
    fn no_axes_are_all_or_none() {
        let reduced = |op_type: &str, attributes: &[(&str, Attribute)]| {
            let model = Model::of_opset(18)
                .input("x", &[-1, 2])
                .floats("c", &[2], &[-3.0, 4.0])
                .ints("no_axes", &[])
                .node(op_type, "c no_axes", "reduced", attributes)
                .node("Add", "x reduced", "y", &[]);
            model.output("y").evaluate(&array(&[1, 2], &[0.0; 2]))
        };
        let all = reduced("ReduceL1", &[]);
        assert_eq!(all, array(&[1, 2], &[7.0, 7.0]));
        for (op_type, wanted) in [
            ("ReduceSum", [-3.0, 4.0]),
            ("ReduceMean", [-3.0, 4.0]),
            ("ReduceMax", [-3.0, 4.0]),
            ("ReduceMin", [-3.0, 4.0]),
            ("ReduceProd", [-3.0, 4.0]),
            ("ReduceL1", [3.0, 4.0]),
            ("ReduceL2", [3.0, 4.0]),
            ("ReduceSumSquare", [9.0, 16.0]),
            ("ReduceLogSumExp", [-3.0, 4.0]),
        ] {
            let none = reduced(op_type, &[("noop_with_empty_axes", Int(1))]);
            assert_eq!(none, array(&[1, 2], &wanted), "{op_type}");
        }
    }

    /// x = 0 everywhere: the norm has the derivative 0 there, the product one where all other factors are not 0.
    #[test]
    fn derivatives_at_zero_are_finite() {
        let of = |op_type: &str, x: &[f64]| {
            let model = Model::new().input("x", &[-1, x.len() as i64]).node(
                op_type,
                "x",
                "y",
                &[("axes", Ints(vec![1]))],
            );
            model.output("y").slope(&array(&[1, x.len()], x))
        };
        assert_eq!(of("ReduceL2", &[0.0; 3]), array(&[1, 3], &[0.0; 3]));
        assert_eq!(of("ReduceL2", &[0.0, -4.0]), array(&[1, 2], &[0.0, -1.0]));
        assert_eq!(of("ReduceL1", &[0.0, -2.0]), array(&[1, 2], &[0.0, -1.0]));
        let product = of("ReduceProd", &[2.0, 0.0, 3.0, -1.0, 5.0]);
        assert_eq!(product, array(&[1, 5], &[0.0, -30.0, 0.0, 0.0, 0.0]));
        let product = of("ReduceProd", &[2.0, 0.0, 0.0]);
        assert_eq!(product, array(&[1, 3], &[0.0; 3]));
    }

    #[test]
    fn exponentials_do_not_overflow() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .node("ReduceLogSumExp", "x", "y", &[("axes", Ints(vec![1]))])
            .output("y");
        let x = array(&[1, 2], &[1000.0, 1000.0]);
        let y = model.evaluate(&x);
        assert!((y[[0, 0]] - 1000.0 - 2f64.ln()).abs() < 1e-9);
        assert_eq!(model.slope(&x), array(&[1, 2], &[0.5, 0.5]));
        let x = array(&[1, 2], &[f64::NEG_INFINITY, 3.0]);
        assert_eq!(model.slope(&x), array(&[1, 2], &[0.0, 1.0]));
    }

    /// The number of pixels of an image `[2, 3, 5]`, of which N are left.
    #[test]
    fn integers_are_reduced_while_reading() {
        for (op_type, wanted) in [
            ("ReduceProd", 30),
            ("ReduceSum", 10),
            ("ReduceMax", 5),
            ("ReduceMin", 2),
        ] {
            let model = Model::of_opset(18)
                .input("x", &[-1, 2, 3, 5])
                .ints("axis", &[0])
                .node("Shape", "x", "shape", &[("start", Int(1))])
                .node(op_type, "shape axis", "count", &[])
                .node("Add", "count axis", "same", &[])
                .node("Equal", "same count", "equal", &[])
                .initializer(int_tensor("wanted", &[1], &[wanted]))
                .node("Equal", "count wanted", "found", &[])
                .node("And", "found equal", "right", &[])
                .floats("yes", &[], &[1.0])
                .floats("no", &[], &[0.0])
                .node("Where", "right yes no", "factor", &[])
                .node("Mul", "x factor", "y", &[])
                .output("y");
            let x = ArrayD::ones(vec![1, 2, 3, 5]);
            assert_eq!(model.evaluate(&x), x, "{op_type}");
        }
        // All but the batch: N·30 elements in rows of 30.
        let model = Model::new()
            .input("x", &[-1, 2, 3, 5])
            .ints("rest", &[-1])
            .node("Shape", "x", "shape", &[])
            .node("ReduceProd", "shape", "all", &[("keepdims", Int(1))])
            .node("Reshape", "x all", "y", &[])
            .output("y");
        let foreign = model.read();
        let y = foreign.graph.output("y").unwrap();
        assert_eq!(foreign.graph.shape(y).to_string(), "[N·30]");
    }

    #[test]
    fn running_sums() {
        for (attributes, wanted) in [
            (vec![], [1.0, 3.0, 6.0]),
            (vec![("exclusive", Int(1))], [0.0, 1.0, 3.0]),
            (vec![("reverse", Int(1))], [6.0, 5.0, 3.0]),
            (
                vec![("exclusive", Int(1)), ("reverse", Int(1))],
                [5.0, 3.0, 0.0],
            ),
        ] {
            for (axis, sizes) in [(1, [3, 1, 1]), (-2, [1, 3, 1]), (3, [1, 1, 3])] {
                let extents: Vec<i64> = sizes.iter().map(|&size| size as i64).collect();
                let model = Model::new()
                    .input("x", &[&[-1], extents.as_slice()].concat())
                    .ints("axis", &[axis])
                    .node("CumSum", "x axis", "y", &attributes)
                    .output("y");
                let sizes = [&[1], sizes.as_slice()].concat();
                let y = model.evaluate(&array(&sizes, &[1.0, 2.0, 3.0]));
                assert_eq!(y, array(&sizes, &wanted), "axis {axis}");
                model.check_derivatives(7);
            }
        }
    }

    #[test]
    fn the_batch_stays() {
        for (op_type, _) in CASES {
            let model = Model::new()
                .input("x", &[-1, 2])
                .node(op_type, "x", "y", &[("axes", Ints(vec![0]))])
                .output("y");
            let model = match op_type {
                "ReduceSum" => Model::new()
                    .input("x", &[-1, 2])
                    .node(op_type, "x", "y", &[])
                    .output("y"),
                _ => model,
            };
            assert_eq!(
                model.problem(),
                format!(
                    "node \"y\" ({op_type}): it reduces axis 0 of [N, 2], which mixes the images of a batch; reduce each image alone, or fix the batch to 1"
                )
            );
        }
        let twice = Model::new()
            .ints("numbers", &[2, 3])
            .ints("axes", &[0, -1])
            .node("ReduceProd", "numbers axes", "y", &[])
            .output("y");
        let problem = twice.input("x", &[-1, 2]).problem();
        assert!(problem.contains("it names axis 0 twice"), "{problem}");
        let model = Model::new()
            .input("x", &[-1, 2])
            .ints("axis", &[0])
            .node("CumSum", "x axis", "y", &[])
            .output("y");
        assert!(model.problem().contains("mixes the images of a batch"));
    }
}
