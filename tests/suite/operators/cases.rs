//! The table: one small graph per operator and combination of attributes.

use ebm_export::graph::op::{
    Activation, AveragePool, Binary, Cast, Compare, Concat, Conv, ConvTranspose, Expand, KeepDims,
    MatMul, MaxPool, Op, Pad, Reduce, ReduceKind, Reshape, Reverse, Slice, Softmax, Transpose,
    Unary, Upsample, Where,
};
use ebm_export::graph::{Dim, Graph, Shape, Value};

/// Where the pixels of a case lie.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// In `[-1, 1]`, away from zero.
    Signed,
    /// In `[0.5, 1.5]`.
    Positive,
}

/// Of a product.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

/// Adds an operator to a graph, behind a value.
type Build = Box<dyn Fn(&mut Graph, Value) -> Value>;

/// A graph from images to values of an operator.
pub struct Case {
    /// Of the operator and its attributes.
    pub name: String,
    /// Channels, rows and columns.
    pub image: [usize; 3],
    /// Of the pixels.
    pub range: Range,
    /// Adds the operator to a graph, behind the images.
    pub build: Build,
}

fn case(
    name: &str,
    image: [usize; 3],
    build: impl Fn(&mut Graph, Value) -> Value + 'static,
) -> Case {
    Case {
        name: name.to_string(),
        image,
        range: Range::Signed,
        build: Box::new(build),
    }
}

/// An operator of the image alone.
fn plain(name: &str, image: [usize; 3], op: impl Into<Op>) -> Case {
    let op = op.into();
    case(name, image, move |graph, x| {
        graph.apply("y", op.clone(), &[x]).unwrap()
    })
}

fn positive(case: Case) -> Case {
    Case {
        range: Range::Positive,
        ..case
    }
}

/// An operator of the image, a weight and, if the image has channels, a bias.
fn weighted(
    name: &str,
    image: [usize; 3],
    op: impl Into<Op>,
    weight: [usize; 4],
    bias: Option<usize>,
) -> Case {
    let op = op.into();
    case(name, image, move |graph, x| {
        let mut operands = vec![x, graph.weight("weight", &weight).unwrap()];
        if let Some(channels) = bias {
            operands.push(graph.weight("bias", &[channels]).unwrap());
        }
        graph.apply("y", op.clone(), &operands).unwrap()
    })
}

/// All cases.
pub fn all() -> Vec<Case> {
    [
        convolutions(),
        transposed_convolutions(),
        pools(),
        maximum_pools(),
        upsamplings(),
        binaries(),
        extremes(),
        powers(),
        unaries(),
        activations(),
        masks(),
        choices(),
        softmaxes(),
        products(),
        batched_products(),
        reductions(),
        shapes(),
        joins(),
        slices(),
        margins(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn convolutions() -> Vec<Case> {
    // Name, operator, rows and columns of the image, weight, bias. The images have four channels.
    type Row = (&'static str, Conv, [usize; 2], [usize; 4], Option<usize>);
    let conv = |strides, pads, dilations, groups| Conv {
        strides,
        pads,
        dilations,
        groups,
    };
    let (one, none) = ([1, 1], [0; 4]);
    let table: [Row; 12] = [
        ("plain", conv(one, none, one, 1), [6, 7], [3, 4, 3, 3], None),
        ("1×1", conv(one, none, one, 1), [4, 4], [3, 4, 1, 1], None),
        (
            "bias",
            conv(one, none, one, 1),
            [6, 7],
            [3, 4, 3, 3],
            Some(3),
        ),
        (
            "padded",
            conv(one, [1; 4], one, 1),
            [5, 6],
            [3, 4, 3, 3],
            Some(3),
        ),
        (
            "unequal pads",
            conv(one, [1, 0, 2, 1], one, 1),
            [5, 6],
            [3, 4, 3, 3],
            None,
        ),
        (
            "stride 2",
            conv([2, 2], none, one, 1),
            [7, 7],
            [3, 4, 3, 3],
            None,
        ),
        (
            "stride 2, rest",
            conv([2, 2], [1; 4], one, 1),
            [6, 8],
            [3, 4, 3, 3],
            Some(3),
        ),
        (
            "stride 2 and 3, unequal pads",
            conv([2, 3], [1, 0, 0, 1], one, 1),
            [7, 8],
            [3, 4, 2, 3],
            None,
        ),
        (
            "dilation 2",
            conv(one, [2; 4], [2, 2], 1),
            [6, 6],
            [3, 4, 3, 3],
            Some(3),
        ),
        (
            "stride 2, dilation 2",
            conv([2, 2], [2; 4], [2, 2], 1),
            [7, 8],
            [3, 4, 3, 3],
            None,
        ),
        (
            "groups",
            conv([2, 1], [1; 4], one, 2),
            [6, 6],
            [6, 2, 3, 3],
            Some(6),
        ),
        (
            "depthwise",
            conv(one, [1; 4], one, 4),
            [6, 6],
            [4, 1, 3, 3],
            None,
        ),
    ];
    table
        .into_iter()
        .map(|(name, op, [rows, columns], weight, bias)| {
            weighted(
                &format!("Conv, {name}"),
                [4, rows, columns],
                op,
                weight,
                bias,
            )
        })
        .collect()
}

fn transposed_convolutions() -> Vec<Case> {
    // Name, operator, weight, bias.
    type Row = (&'static str, ConvTranspose, [usize; 4], Option<usize>);
    let conv = |strides, pads, output_pads, dilations, groups| ConvTranspose {
        strides,
        pads,
        output_pads,
        dilations,
        groups,
    };
    let (one, none, exact) = ([1, 1], [0; 4], [0, 0]);
    let table: [Row; 11] = [
        ("plain", conv(one, none, exact, one, 1), [4, 3, 3, 3], None),
        (
            "bias",
            conv(one, none, exact, one, 1),
            [4, 3, 3, 3],
            Some(3),
        ),
        (
            "padded",
            conv(one, [1; 4], exact, one, 1),
            [4, 3, 3, 3],
            Some(3),
        ),
        (
            "unequal pads",
            conv(one, [1, 0, 0, 2], exact, one, 1),
            [4, 3, 3, 3],
            None,
        ),
        (
            "stride 2",
            conv([2, 2], none, exact, one, 1),
            [4, 3, 3, 3],
            None,
        ),
        (
            "stride 2, output pads",
            conv([2, 2], [1; 4], [1, 1], one, 1),
            [4, 3, 3, 3],
            Some(3),
        ),
        (
            "stride 2 and 3, unequal pads and output pads",
            conv([2, 3], [1, 0, 0, 1], [1, 2], one, 1),
            [4, 3, 3, 3],
            None,
        ),
        (
            "dilation 2",
            conv(one, [1; 4], exact, [2, 2], 1),
            [4, 3, 3, 3],
            None,
        ),
        (
            "stride 2, dilation 2, output pads",
            conv([2, 2], [1; 4], [1, 0], [2, 2], 1),
            [4, 3, 3, 3],
            None,
        ),
        (
            "groups",
            conv([2, 2], [1; 4], [1, 1], one, 2),
            [4, 3, 3, 3],
            Some(6),
        ),
        (
            "depthwise",
            conv([2, 2], none, exact, one, 4),
            [4, 1, 3, 3],
            None,
        ),
    ];
    table
        .into_iter()
        .map(|(name, op, weight, bias)| {
            weighted(
                &format!("ConvTranspose, {name}"),
                [4, 4, 5],
                op,
                weight,
                bias,
            )
        })
        .collect()
}

/// The three forms that the gradient has, and the borders of each.
fn pools() -> Vec<Case> {
    let pool = |kernel, strides, pads| AveragePool {
        kernel,
        strides,
        pads,
    };
    [
        ("stride 1", [2, 5, 6], pool([2, 2], [1, 1], [0; 4])),
        ("stride 1, padded", [2, 5, 6], pool([3, 3], [1, 1], [1; 4])),
        (
            "stride 1, unequal pads",
            [2, 5, 6],
            pool([2, 3], [1, 1], [1, 0, 0, 2]),
        ),
        ("tiles", [2, 4, 6], pool([2, 2], [2, 2], [0; 4])),
        ("oblong tiles", [2, 6, 6], pool([3, 2], [3, 2], [0; 4])),
        ("whole image", [2, 4, 4], pool([4, 4], [4, 4], [0; 4])),
        ("overlapping", [2, 7, 7], pool([3, 3], [2, 2], [0; 4])),
        (
            "overlapping, padded",
            [2, 7, 9],
            pool([3, 3], [2, 2], [1; 4]),
        ),
        ("overlapping, rest", [2, 6, 8], pool([3, 3], [2, 2], [0; 4])),
        (
            "overlapping, unequal pads",
            [2, 6, 7],
            pool([3, 2], [2, 2], [1, 0, 2, 1]),
        ),
        ("tiles, rest", [2, 5, 7], pool([2, 2], [2, 2], [0; 4])),
    ]
    .into_iter()
    .map(|(name, image, op)| plain(&format!("AveragePool, {name}"), image, op))
    .collect()
}

/// Windows that tile, overlap and leave gaps, along either axis.
fn maximum_pools() -> Vec<Case> {
    let pool = |kernel, strides, pads| MaxPool {
        kernel,
        strides,
        pads,
    };
    [
        ("tiles", [2, 4, 6], pool([2, 2], [2, 2], [0; 4])),
        ("tiles, rest", [2, 5, 7], pool([2, 2], [2, 2], [0; 4])),
        ("oblong tiles", [2, 6, 6], pool([3, 2], [3, 2], [0; 4])),
        ("whole image", [2, 4, 4], pool([4, 4], [4, 4], [0; 4])),
        ("one row", [2, 1, 8], pool([1, 2], [1, 2], [0; 4])),
        ("one column", [2, 8, 1], pool([3, 1], [2, 1], [1, 0, 1, 0])),
        ("stride 1, padded", [2, 5, 6], pool([3, 3], [1, 1], [1; 4])),
        (
            "overlapping, padded",
            [2, 7, 9],
            pool([3, 3], [2, 2], [1; 4]),
        ),
        (
            "overlapping, unequal pads",
            [2, 6, 7],
            pool([3, 2], [2, 1], [1, 0, 2, 1]),
        ),
        ("gaps", [2, 7, 8], pool([2, 1], [3, 2], [0, 0, 1, 0])),
    ]
    .into_iter()
    .map(|(name, image, op)| plain(&format!("MaxPool, {name}"), image, op))
    .collect()
}

fn upsamplings() -> Vec<Case> {
    [[1, 1], [2, 2], [3, 2]]
        .into_iter()
        .map(|scales| {
            plain(
                &format!("Upsample {scales:?}"),
                [2, 3, 4],
                Upsample { scales },
            )
        })
        .collect()
}

/// Each with a fixed operand that is stretched, on either side, and with two operands that both depend on the image, one of them
/// stretched.
fn binaries() -> Vec<Case> {
    let mut cases = Vec::new();
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
        for (name, sizes) in [
            ("scalar", &[][..]),
            ("row", &[4]),
            ("channels", &[3, 1, 1]),
            ("image", &[1, 3, 3, 4]),
        ] {
            cases.push(case(&format!("{op:?}, fixed {name} right"), [3, 3, 4], {
                move |graph, x| {
                    let fixed = graph.weight("fixed", sizes).unwrap();
                    graph.apply("y", op, &[x, fixed]).unwrap()
                }
            }));
            let left = case(&format!("{op:?}, fixed {name} left"), [3, 3, 4], {
                move |graph, x| {
                    let fixed = graph.weight("fixed", sizes).unwrap();
                    graph.apply("y", op, &[fixed, x]).unwrap()
                }
            });
            cases.push(positive(left));
        }
        for (side, swapped) in [("right", false), ("left", true)] {
            let both = case(&format!("{op:?}, stretched {side}"), [3, 3, 4], {
                move |graph, x| {
                    let mean = Reduce {
                        kind: ReduceKind::Mean,
                        axes: vec![1, 3],
                        keep_dims: KeepDims::Yes,
                    };
                    let mean = graph.apply("mean", mean, &[x]).unwrap();
                    let operands = if swapped { [mean, x] } else { [x, mean] };
                    graph.apply("y", op, &operands).unwrap()
                }
            });
            cases.push(positive(both));
        }
    }
    cases
}

/// Of the image and a fixed value on either side, and of two values that both depend on the image.
fn extremes() -> Vec<Case> {
    let image = [3, 3, 4];
    let limited = |op: Binary, name: &str, sizes: &'static [usize], swapped: bool| {
        case(&format!("{op:?}, {name}"), image, move |graph, x| {
            let operands = comparands(graph, x, sizes, swapped);
            graph.apply("y", op, &operands).unwrap()
        })
    };
    let both = |op: Binary| {
        case(&format!("{op:?}, stretched"), image, move |graph, x| {
            let mean = Reduce {
                kind: ReduceKind::Mean,
                axes: vec![1, 3],
                keep_dims: KeepDims::Yes,
            };
            let mean = graph.apply("mean", mean, &[x]).unwrap();
            graph.apply("y", op, &[mean, x]).unwrap()
        })
    };
    let of_kind = |op| {
        [
            limited(op, "scalar", &[], false),
            limited(op, "channels", &[3, 1, 1], false),
            limited(op, "channels left", &[3, 1, 1], true),
            limited(op, "image", &[1, 3, 3, 4], false),
            both(op),
        ]
    };
    [Binary::Min, Binary::Max]
        .into_iter()
        .flat_map(of_kind)
        .collect()
}

/// Of the image to exponents that stand in the graph, that are weights and that depend on the image; and of weights to the image.
fn powers() -> Vec<Case> {
    let image = [3, 3, 4];
    let mut cases = Vec::new();
    for exponent in [-1.0, 0.5, 1.0, 2.0, 3.0, 4.0] {
        let known = case(&format!("Pow, known {exponent}"), image, move |graph, x| {
            let exponent = graph.scalar("exponent", exponent);
            graph.apply("y", Binary::Pow, &[x, exponent]).unwrap()
        });
        cases.push(if exponent == 0.5 {
            positive(known)
        } else {
            known
        });
    }
    for (name, sizes) in [("scalar", &[][..]), ("channels", &[3, 1, 1])] {
        let fixed = case(
            &format!("Pow, fixed {name} right"),
            image,
            move |graph, x| {
                let fixed = graph.weight("fixed", sizes).unwrap();
                graph.apply("y", Binary::Pow, &[x, fixed]).unwrap()
            },
        );
        cases.push(positive(fixed));
    }
    cases.push(case("Pow, fixed channels left", image, |graph, x| {
        let fixed = graph.weight("fixed", &[3, 1, 1]).unwrap();
        let base = graph.apply("base", Unary::Abs, &[fixed]).unwrap();
        graph.apply("y", Binary::Pow, &[base, x]).unwrap()
    }));
    cases.push(positive(case("Pow, both", image, |graph, x| {
        let mean = Reduce {
            kind: ReduceKind::Mean,
            axes: vec![1, 3],
            keep_dims: KeepDims::Yes,
        };
        let mean = graph.apply("mean", mean, &[x]).unwrap();
        graph.apply("y", Binary::Pow, &[x, mean]).unwrap()
    })));
    cases
}

fn unaries() -> Vec<Case> {
    let image = [2, 3, 4];
    let either = [
        Unary::Neg,
        Unary::Exp,
        Unary::Erf,
        Unary::Reciprocal,
        Unary::Abs,
        Unary::Sin,
        Unary::Cos,
        Unary::Atan,
        Unary::Asinh,
    ];
    let signed = either
        .into_iter()
        .map(|op| plain(&format!("{op:?}"), image, op));
    let above_zero = [Unary::Sqrt, Unary::Log]
        .into_iter()
        .map(|op| positive(plain(&format!("{op:?}"), image, op)));
    // Of what lies within their domains.
    let moved = |op: Unary, factor: f32, offset: f32| {
        positive(case(&format!("{op:?}"), image, move |graph, x| {
            let [factor, offset] = [factor, offset].map(|value| graph.scalar("constant", value));
            let x = graph.apply("scaled", Binary::Mul, &[x, factor]).unwrap();
            let x = graph.apply("moved", Binary::Add, &[x, offset]).unwrap();
            graph.apply("y", op, &[x]).unwrap()
        }))
    };
    let within = [
        moved(Unary::Asin, 0.8, -0.6),
        moved(Unary::Atanh, 0.8, -0.6),
        moved(Unary::Acosh, 1.0, 1.0),
    ];
    // Steps alone have no gradient.
    let steps = [Unary::Sign, Unary::Floor, Unary::Round].map(|op| {
        case(&format!("{op:?}"), image, move |graph, x| {
            let wide = graph.scalar("wide", 3.1);
            let wide = graph.apply("scaled", Binary::Mul, &[x, wide]).unwrap();
            let step = graph.apply("step", op, &[wide]).unwrap();
            graph.apply("y", Binary::Mul, &[step, x]).unwrap()
        })
    });
    let others = within.into_iter().chain(steps);
    signed.chain(above_zero).chain(others).collect()
}

fn activations() -> Vec<Case> {
    let scaled = |name: String, op: Activation| {
        case(&name, [2, 3, 4], move |graph, x| {
            let wide = graph.scalar("wide", 6.0);
            let x = graph.apply("scaled", Binary::Mul, &[x, wide]).unwrap();
            graph.apply("y", op, &[x]).unwrap()
        })
    };
    // A mask has no derivative of its own.
    let masked = case("Positive", [2, 3, 4], |graph, x| {
        let mask = graph.apply("mask", Activation::Positive, &[x]).unwrap();
        graph.apply("y", Binary::Mul, &[x, mask]).unwrap()
    });
    [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::LeakyRelu { slope: 0.0 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Softplus,
    ]
    .into_iter()
    .map(|op| scaled(format!("{op:?}"), op))
    .chain(std::iter::once(masked))
    .collect()
}

/// `x · [a > b]`, or another comparison.
fn masks() -> Vec<Case> {
    let masked = |op: Compare, name: &str, sizes: &'static [usize], swapped: bool| {
        case(&format!("{op:?} and Cast, {name}"), [3, 3, 4], {
            move |graph: &mut Graph, x| {
                let operands = comparands(graph, x, sizes, swapped);
                let answer = graph.apply("answer", op, &operands).unwrap();
                let mask = graph.apply("mask", Cast::F32, &[answer]).unwrap();
                graph.apply("y", Binary::Mul, &[x, mask]).unwrap()
            }
        })
    };
    let mut cases = Vec::new();
    for op in [Compare::Greater, Compare::GreaterOrEqual] {
        cases.extend([
            masked(op, "scalar", &[], false),
            masked(op, "channels", &[3, 1, 1], false),
            masked(op, "channels left", &[3, 1, 1], true),
            masked(op, "image", &[1, 3, 3, 4], false),
        ]);
    }
    for op in [Compare::GreaterOrEqual, Compare::Equal] {
        cases.push(tied(op));
    }
    cases
}

/// The image and a fixed value, less than it often enough that both answers come.
fn comparands(graph: &mut Graph, x: Value, sizes: &[usize], swapped: bool) -> [Value; 2] {
    let fixed = graph.weight("fixed", sizes).unwrap();
    let third = graph.scalar("third", 0.3);
    let limit = graph.apply("limit", Binary::Mul, &[fixed, third]).unwrap();
    if swapped { [limit, x] } else { [x, limit] }
}

/// `x · [x ≥ Relu(x)]`, or another comparison: many are equal.
fn tied(op: Compare) -> Case {
    case(&format!("{op:?} of equals"), [3, 3, 4], move |graph, x| {
        let relu = graph.apply("relu", Activation::Relu, &[x]).unwrap();
        let answer = graph.apply("answer", op, &[x, relu]).unwrap();
        let mask = graph.apply("mask", Cast::F32, &[answer]).unwrap();
        graph.apply("y", Binary::Mul, &[x, mask]).unwrap()
    })
}

/// A choice between the image and something else; the condition depends on the image, on weights, or is stretched.
fn choices() -> Vec<Case> {
    let image = [3, 3, 4];
    let limited = |name: &str, sizes: &'static [usize], swapped: bool| {
        case(&format!("Where, {name}"), image, move |graph, x| {
            let operands = comparands(graph, x, sizes, swapped);
            let answer = graph.apply("answer", Compare::Greater, &operands);
            let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
            let operands = [answer.unwrap(), square, operands[usize::from(!swapped)]];
            graph.apply("y", Where, &operands).unwrap()
        })
    };
    let fixed = case("Where, fixed condition", image, |graph, x| {
        let [fixed, other] = ["fixed", "other"].map(|name| graph.weight(name, &[3, 1, 4]).unwrap());
        let answer = graph.apply("answer", Compare::Greater, &[fixed, other]);
        let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
        graph
            .apply("y", Where, &[answer.unwrap(), square, x])
            .unwrap()
    });
    let stretched = case("Where, stretched", image, |graph, x| {
        let mean = |axes: &[usize]| Reduce {
            kind: ReduceKind::Mean,
            axes: axes.to_vec(),
            keep_dims: KeepDims::Yes,
        };
        let rows = graph.apply("rows", mean(&[1, 3]), &[x]).unwrap();
        let channels = graph.apply("channels", mean(&[2, 3]), &[x]).unwrap();
        let zero = graph.scalar("zero", 0.0);
        let answer = graph.apply("answer", Compare::Greater, &[x, zero]).unwrap();
        graph.apply("y", Where, &[answer, rows, channels]).unwrap()
    });
    vec![
        limited("scalar", &[], false),
        limited("channels", &[3, 1, 1], false),
        limited("channels left", &[3, 1, 1], true),
        limited("image", &[1, 3, 3, 4], false),
        fixed,
        stretched,
    ]
}

fn softmaxes() -> Vec<Case> {
    // Rows shorter and longer than a vector, side by side and not.
    let images = [[2, 3, 4], [2, 35, 37]];
    let cases = images.into_iter().flat_map(|image| {
        let of = move |axis| {
            let name = format!("Softmax of axis {axis} of {image:?}");
            plain(&name, image, Softmax { axis })
        };
        [1, 2, 3].map(of)
    });
    cases.collect()
}

fn flat(graph: &mut Graph, x: Value) -> Value {
    let shape = Shape::batched(&[graph.shape(x).elements_per_image()]);
    graph.apply("flat", Reshape { shape }, &[x]).unwrap()
}

fn products() -> Vec<Case> {
    [1, 5]
        .into_iter()
        .map(|columns| {
            case(
                &format!("MatMul to {columns}"),
                [2, 3, 2],
                move |graph, x| {
                    let x = flat(graph, x);
                    let weight = graph.weight("weight", &[12, columns]).unwrap();
                    graph.apply("y", MatMul, &[x, weight]).unwrap()
                },
            )
        })
        .collect()
}

/// Products of stacks of matrices: with a fixed operand on either side, fewer leading axes or leading extents of 1 on one side,
/// both operands made of the image, and the batch along rows and columns.
fn batched_products() -> Vec<Case> {
    let image = [3, 4, 5];
    let fixed = |name: &str, sizes: &'static [usize], side: Side| {
        case(&format!("MatMul, {name}"), image, move |graph, x| {
            let weight = graph.weight("weight", sizes).unwrap();
            let operands = match side {
                Side::Left => [weight, x],
                Side::Right => [x, weight],
            };
            graph.apply("y", MatMul, &operands).unwrap()
        })
    };
    let swapped = |graph: &mut Graph, x: Value, axes: &[usize]| {
        let axes = axes.to_vec();
        graph.apply("swapped", Transpose { axes }, &[x]).unwrap()
    };
    vec![
        fixed("a matrix right", &[5, 2], Side::Right),
        fixed("a matrix left", &[2, 4], Side::Left),
        fixed("a matrix per channel right", &[3, 5, 2], Side::Right),
        fixed("a matrix per channel left", &[3, 2, 4], Side::Left),
        fixed("leading ones right", &[1, 1, 5, 2], Side::Right),
        case("MatMul, both of the image", image, move |graph, x| {
            let columns = swapped(graph, x, &[0, 1, 3, 2]);
            graph.apply("y", MatMul, &[x, columns]).unwrap()
        }),
        case(
            "MatMul, more rows than a thread takes",
            [1, 100, 37],
            move |graph, x| {
                let columns = swapped(graph, x, &[0, 1, 3, 2]);
                let y = graph.apply("products", MatMul, &[x, columns]).unwrap();
                let columns = swapped(graph, y, &[0, 1, 3, 2]);
                graph.apply("y", MatMul, &[columns, x]).unwrap()
            },
        ),
        case(
            "MatMul, both of the image, one stretched",
            image,
            move |graph, x| {
                let mean = Reduce {
                    kind: ReduceKind::Mean,
                    axes: vec![1],
                    keep_dims: KeepDims::Yes,
                };
                let mean = graph.apply("mean", mean, &[x]).unwrap();
                let columns = swapped(graph, mean, &[0, 1, 3, 2]);
                graph.apply("y", MatMul, &[x, columns]).unwrap()
            },
        ),
        case("MatMul, images as columns", [2, 3, 2], move |graph, x| {
            let rows = flat(graph, x);
            let columns = swapped(graph, rows, &[1, 0]);
            let weight = graph.weight("weight", &[5, 12]).unwrap();
            let y = graph.apply("product", MatMul, &[weight, columns]).unwrap();
            swapped(graph, y, &[1, 0])
        }),
        case("MatMul, images and rows on one axis", image, |graph, x| {
            let rows = Dim::Batch {
                outer: 1,
                inner: 12,
            };
            let shape = Shape(vec![rows, Dim::Size(5)]);
            let rows = graph.apply("rows", Reshape { shape }, &[x]).unwrap();
            let weight = graph.weight("weight", &[5, 2]).unwrap();
            let y = graph.apply("product", MatMul, &[rows, weight]).unwrap();
            let shape = Shape::batched(&[12, 2]);
            graph.apply("y", Reshape { shape }, &[y]).unwrap()
        }),
    ]
}

fn reductions() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max] {
        for keep_dims in [KeepDims::Yes, KeepDims::No] {
            for axes in [&[1][..], &[2, 3], &[1, 3], &[1, 2, 3]] {
                let name = format!("Reduce {kind:?} of {axes:?}, keep {keep_dims:?}");
                let axes = axes.to_vec();
                let reduce = Reduce {
                    kind,
                    axes,
                    keep_dims,
                };
                cases.push(plain(&name, [2, 3, 4], reduce));
            }
        }
    }
    cases.push(maximum_of_equals());
    cases
}

/// Each pixel stands there four times, so that there is never one that is the greatest.
fn maximum_of_equals() -> Case {
    case("Reduce Max of equals", [2, 3, 4], |graph, x| {
        let scales = [2, 2];
        let repeated = graph.apply("repeated", Upsample { scales }, &[x]).unwrap();
        let max = Reduce {
            kind: ReduceKind::Max,
            axes: vec![2, 3],
            keep_dims: KeepDims::Yes,
        };
        graph.apply("y", max, &[repeated]).unwrap()
    })
}

fn shapes() -> Vec<Case> {
    let image = [2, 3, 4];
    let reshaped = |sizes: &[usize]| Reshape {
        shape: Shape::batched(sizes),
    };
    let mut cases = vec![
        plain("Reshape to a matrix", image, reshaped(&[24])),
        plain("Reshape to other images", image, reshaped(&[6, 2, 2])),
        case("Expand of extents", image, |graph, x| {
            let mean = Reduce {
                kind: ReduceKind::Mean,
                axes: vec![1, 3],
                keep_dims: KeepDims::Yes,
            };
            let mean = graph.apply("mean", mean, &[x]).unwrap();
            let shape = Shape::batched(&[2, 3, 4]);
            graph.apply("y", Expand { shape }, &[mean]).unwrap()
        }),
        case("Expand of the image of a fixed batch", image, |graph, x| {
            let row = graph.weight("row", &[1, 4]).unwrap();
            let shape = Shape(vec![Dim::Size(3), Dim::Size(4)]);
            let stretched = graph.apply("stretched", Expand { shape }, &[row]).unwrap();
            graph.apply("y", Binary::Mul, &[x, stretched]).unwrap()
        }),
    ];
    for axes in [[0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 3, 2]] {
        let op = Transpose {
            axes: axes.to_vec(),
        };
        cases.push(plain(&format!("Transpose {axes:?}"), image, op));
    }
    for axes in [&[1][..], &[3], &[2, 3], &[1, 2, 3]] {
        let op = Reverse {
            axes: axes.to_vec(),
        };
        cases.push(plain(&format!("Reverse {axes:?}"), image, op));
    }
    cases
}

fn joins() -> Vec<Case> {
    (1..4)
        .map(|axis| {
            case(&format!("Concat {axis}"), [2, 3, 4], move |graph, x| {
                let square = graph.apply("square", Binary::Mul, &[x, x]).unwrap();
                let part = Slice::range(axis, 0..1);
                let part = graph.apply("part", part, &[square]).unwrap();
                graph
                    .apply("y", Concat { axis }, &[x, part, square])
                    .unwrap()
            })
        })
        .collect()
}

/// Parts with a step of 1, with one that fits the extent and with one that leaves a rest.
fn slices() -> Vec<Case> {
    let mut cases = Vec::new();
    for axis in 1..4 {
        for (start, end, step) in [(0, 3, 1), (2, 6, 1), (1, 6, 2), (0, 5, 4), (2, 6, 7)] {
            let slice = Slice {
                axis,
                start,
                end,
                step,
            };
            let name = format!("Slice {axis} from {start} to {end} by {step}");
            cases.push(plain(&name, [6, 6, 6], slice));
        }
    }
    cases
}

fn margins() -> Vec<Case> {
    [
        ("rows", [[0, 0], [1, 2], [0, 0]], 0.0),
        ("channels", [[2, 1], [0, 0], [0, 0]], -0.5),
        ("all", [[0, 1], [1, 0], [2, 2]], 1.5),
    ]
    .into_iter()
    .map(|(name, pads, value)| {
        let pads = [&[[0, 0]], pads.as_slice()].concat();
        plain(&format!("Pad, {name}"), [2, 3, 4], Pad { pads, value })
    })
    .collect()
}
