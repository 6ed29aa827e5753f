//! Every rule with attributes and shapes drawn at random: first and second derivatives against differences in f64.

use std::collections::BTreeSet;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::RULES;
use super::testing::Attribute::{Float, Floats, Int, Ints, Text};
use super::testing::{Attribute, Model, float_tensor, int_tensor};

/// Models of each operator.
const N_MODELS: u64 = 40;
/// Images are drawn by other seeds than models: the same ones would give them the weights' values.
const IMAGES: u64 = 1000;

/// A model of an operator, and of what brings its operands about. Its input is `x`, its output `y`.
type Draw = fn(&mut Dice, &str) -> Model;

/// Operators by how their models are drawn.
const DRAWS: &[(Draw, &[&str])] = &[
    (
        unary,
        &[
            "Relu",
            "LeakyRelu",
            "ThresholdedRelu",
            "Elu",
            "Selu",
            "Celu",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Tanh",
            "Softplus",
            "Softsign",
            "Gelu",
            "Mish",
            "Swish",
            "Neg",
            "Abs",
            "Exp",
            "Erf",
            "Sin",
            "Cos",
            "Tan",
            "Atan",
            "Sinh",
            "Cosh",
            "Asinh",
            "Erfc",
            "Identity",
            "Shrink",
            "Dropout",
        ],
    ),
    (positive, &["Sqrt", "Log", "Reciprocal", "Acosh"]),
    (inside, &["Asin", "Acos", "Atanh"]),
    (stepwise, &["Sign", "Floor", "Ceil", "Round"]),
    (
        binary,
        &[
            "PRelu", "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean",
        ],
    ),
    (clip, &["Clip"]),
    (
        chosen,
        &[
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "IsNaN",
            "IsInf",
            "And",
            "Or",
            "Xor",
            "Not",
            "Where",
        ],
    ),
    (
        integers,
        &[
            "Mod",
            "Size",
            "Shape",
            "Range",
            "Constant",
            "ConstantOfShape",
            "Cast",
            "CastLike",
        ],
    ),
    (convolution, &["Conv", "ConvTranspose"]),
    (pool, &["AveragePool", "MaxPool"]),
    (whole, &["GlobalAveragePool", "GlobalMaxPool"]),
    (product, &["MatMul", "Gemm", "Einsum"]),
    (
        norm,
        &[
            "BatchNormalization",
            "InstanceNormalization",
            "GroupNormalization",
            "LayerNormalization",
            "RMSNormalization",
            "LpNormalization",
        ],
    ),
    (
        reduction,
        &[
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSum",
            "ReduceLogSumExp",
        ],
    ),
    (
        along,
        &[
            "CumSum",
            "Softmax",
            "LogSoftmax",
            "Concat",
            "Split",
            "Slice",
            "Gather",
        ],
    ),
    (
        moved,
        &[
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Transpose",
            "Expand",
            "Tile",
            "Pad",
        ],
    ),
    (picked, &["GatherElements", "GatherND"]),
    (scattered, &["Scatter", "ScatterElements", "ScatterND"]),
    (placed, &["ArgMax", "ArgMin", "TopK", "OneHot", "Trilu"]),
    (
        loss,
        &["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"],
    ),
    (quantized, &["DequantizeLinear"]),
    (branch, &["If"]),
    (resized, &["Resize", "Upsample"]),
    (blocks, &["DepthToSpace", "SpaceToDepth"]),
];

/// What is drawn.
struct Dice(ChaCha8Rng);

impl Dice {
    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.0.random_range(0..choices.len())].clone()
    }

    /// From the first to the second, both included.
    fn int(&mut self, least: i64, most: i64) -> i64 {
        self.0.random_range(least..=most)
    }

    fn flag(&mut self) -> bool {
        self.0.random()
    }

    fn ints(&mut self, count: i64, least: i64, most: i64) -> Vec<i64> {
        (0..count).map(|_| self.int(least, most)).collect()
    }

    fn float(&mut self, least: f32, most: f32) -> f32 {
        self.0.random_range(least..most)
    }

    fn floats(&mut self, count: i64, least: f32, most: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(least, most)).collect()
    }

    /// A model of an opset, and its input, with that many axes behind the batch.
    fn model(&mut self, opset: i64, rank: i64) -> (Model, Vec<i64>) {
        let sizes = self.ints(rank, 1, 4);
        (of_sizes(opset, &sizes), sizes)
    }

    /// A weight of that shape.
    fn weight(&mut self, model: Model, name: &str, sizes: &[i64]) -> Model {
        let values = self.floats(sizes.iter().product(), -1.0, 1.0);
        model.floats(name, sizes, &values)
    }

    /// One of `rank` axes behind the batch, counted from the front or the end.
    fn axis(&mut self, rank: i64) -> i64 {
        let axis = self.int(1, rank);
        self.either_end(axis, rank + 1)
    }

    fn either_end(&mut self, axis: i64, all: i64) -> i64 {
        match self.flag() {
            true => axis,
            false => axis - all,
        }
    }

    /// Some axes behind the batch.
    fn axes(&mut self, rank: i64) -> Vec<i64> {
        let mut axes: Vec<i64> = (1..=rank).collect();
        axes.shuffle(&mut self.0);
        axes.truncate(self.int(1, rank) as usize);
        axes.into_iter()
            .map(|axis| self.either_end(axis, rank + 1))
            .collect()
    }

    /// A shape that broadcasts to that of an image.
    fn beside(&mut self, sizes: &[i64]) -> Vec<i64> {
        let first = self.int(0, sizes.len() as i64) as usize;
        let sizes = sizes[first..].iter();
        sizes.map(|&size| self.of(&[size, size, 1])).collect()
    }
}

fn of_sizes(opset: i64, sizes: &[i64]) -> Model {
    Model::of_opset(opset).input("x", &[&[-1], sizes].concat())
}

fn end(model: Model) -> Model {
    model.output("y")
}

/// `x² + ½` as `p`.
fn with_positive(model: Model) -> Model {
    model
        .floats("half", &[], &[0.5])
        .node("Mul", "x x", "square", &[])
        .node("Add", "square half", "p", &[])
}

fn rank_of(sizes: &[i64]) -> i64 {
    sizes.len() as i64
}

fn unary(dice: &mut Dice, op: &str) -> Model {
    let opset = match op {
        "Swish" => 24,
        "Gelu" => dice.int(20, 23),
        "Mish" => dice.int(18, 23),
        _ => dice.int(14, 23),
    };
    let rank = dice.int(1, 3);
    let (model, _) = dice.model(opset, rank);
    let attributes = match op {
        "LeakyRelu" => vec![("alpha", Float(dice.float(0.01, 0.9)))],
        "ThresholdedRelu" => vec![("alpha", Float(dice.float(-0.5, 0.5)))],
        "Elu" | "Celu" => vec![("alpha", Float(dice.float(0.3, 2.0)))],
        "Selu" => vec![
            ("alpha", Float(dice.float(0.5, 2.0))),
            ("gamma", Float(dice.float(0.5, 2.0))),
        ],
        "HardSigmoid" => vec![
            ("alpha", Float(dice.float(0.1, 1.5))),
            ("beta", Float(dice.float(0.2, 0.8))),
        ],
        "Gelu" => vec![("approximate", Text(dice.of(&["none", "tanh"])))],
        "Swish" => vec![("alpha", Float(dice.float(0.5, 2.0)))],
        "Shrink" => vec![
            ("lambd", Float(dice.float(0.1, 0.6))),
            ("bias", Float(dice.float(0.0, 0.5))),
        ],
        _ => vec![],
    };
    let kept = if dice.flag() { attributes } else { vec![] };
    end(model.node(op, "x", "y", &kept))
}

fn positive(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, _) = dice.model(opset, rank);
    let model = with_positive(model).node("Add", "p half", "more", &[]);
    let model = model.node("Add", "more half", "most", &[]);
    // The inverse of the hyperbolic cosine is one of numbers above 1.
    let operand = if op == "Acosh" { "most" } else { "p" };
    end(model.node(op, operand, "y", &[]))
}

/// Of values in [−0.8, 0.8].
fn inside(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, _) = dice.model(opset, rank);
    let model = model.floats("most", &[], &[0.8]);
    end(model
        .node("Mul", "x most", "less", &[])
        .node(op, "less", "y", &[]))
}

/// Constant between jumps, of fixed values or of x; times x, so that there is something to differentiate.
fn stepwise(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(11, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let values = dice.floats(beside.iter().product(), -5.0, 5.0);
    let model = model.floats("w", &beside, &values);
    let operand = dice.of(&["x", "w"]);
    let model = model.node(op, operand, "step", &[]);
    end(model.node("Mul", "step x", "y", &[]))
}

/// Two operands that broadcast, both made of x or one of them fixed, in either order.
fn binary(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(13, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let model = dice.weight(with_positive(model), "w", &beside);
    let model = model.node("Sin", "x", "bent", &[]);
    let operands = match op {
        "PRelu" => vec!["x w", "x p"],
        "Div" => vec!["x p", "w p", "bent p"],
        "Pow" => vec!["p w", "p bent", "p p"],
        "Sum" | "Mean" => vec!["x w bent", "w x", "x"],
        _ => vec!["x w", "w x", "p bent", "bent w", "w p"],
    };
    end(model.node(op, dice.of(&operands), "y", &[]))
}

fn clip(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[9, 11, 13, 18]);
    let (model, _) = dice.model(opset, rank);
    let (low, high) = (dice.float(-0.8, 0.0), dice.float(0.1, 0.8));
    if opset < 11 {
        return end(model.node(op, "x", "y", &[("min", Float(low)), ("max", Float(high))]));
    }
    let model = model
        .floats("low", &[], &[low])
        .floats("high", &[], &[high]);
    end(model.node(op, dice.of(&["x low high", "x _ high", "x low"]), "y", &[]))
}

/// Booleans that choose between x² + ½ and sin x.
fn chosen(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(16, 23);
    let (model, sizes) = dice.model(opset, rank);
    let beside = dice.beside(&sizes);
    let model = dice.weight(with_positive(model), "w", &beside);
    let model = model
        .node("Sin", "x", "bent", &[])
        .node("Greater", "x w", "greater", &[])
        .node("Less", "bent half", "less", &[]);
    let model = match op {
        "IsNaN" => model.node(op, "x", "truths", &[]),
        "IsInf" => {
            let [positive, negative] = [dice.int(0, 1), dice.int(0, 1)];
            let sides = [
                ("detect_positive", Int(positive)),
                ("detect_negative", Int(negative)),
            ];
            model.node(op, "x", "truths", &sides)
        }
        "Not" => model.node(op, "less", "truths", &[]),
        "And" | "Or" | "Xor" => model.node(op, "greater less", "truths", &[]),
        "Where" => model.node("Identity", "greater", "truths", &[]),
        _ => model.node(op, dice.of(&["x w", "bent w", "w p"]), "truths", &[]),
    };
    end(model.node(
        "Where",
        dice.of(&["truths p bent", "truths bent w", "truths half x"]),
        "y",
        &[],
    ))
}

/// Integers that are known while reading, as floats beside x.
fn integers(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.int(13, 23);
    let (model, sizes) = dice.model(opset, rank);
    let last = sizes[sizes.len() - 1];
    let scalar = |name: &str, value: i64| int_tensor(name, &[], &[value]);
    let [start, step] = [dice.int(-3, 3), dice.of(&[-2, -1, 1, 3])];
    let model = model
        .node("Shape", "x", "shape", &[])
        .initializer(scalar("start", start))
        .initializer(scalar("limit", start + step * last))
        .initializer(scalar("step", step))
        .initializer(int_tensor(
            "behind",
            &[sizes.len() as i64],
            &(1..=rank).collect::<Vec<i64>>(),
        ))
        .node("Gather", "shape behind", "sizes", &[]);
    let numbers = dice.ints(last, -4, 4);
    let model = model.ints("numbers", &numbers);
    let model = match op {
        "Mod" => {
            let fmod = ("fmod", Int(i64::from(dice.flag())));
            let model = model.floats("two", &[], &[0.7]);
            let model = model.node("Cast", "x", "of_x", &[("to", Int(7))]);
            let operands = dice.of(&["numbers step", "x two", "of_x step"]);
            model.node(op, operands, "number", &[fmod])
        }
        "Size" => model.node(op, "sizes", "number", &[]),
        "Shape" if opset >= 15 => {
            let start = ("start", Int(dice.int(-rank, -1)));
            let model = model.node(op, "x", "some", &[start]);
            let keep = ("keepdims", Int(0));
            model.node("ReduceSum", "some", "number", &[keep])
        }
        "Range" => model.node(op, "start limit step", "number", &[]),
        "Constant" => model.node(
            op,
            "",
            "number",
            &[("value_floats", Floats(dice.floats(last, -1.0, 1.0)))],
        ),
        "ConstantOfShape" => {
            let value = float_tensor("value", &[1], &[dice.float(-1.0, 1.0)]);
            model.node(
                op,
                "sizes",
                "number",
                &[("value", Attribute::Tensor(Box::new(value)))],
            )
        }
        "Cast" => {
            let model = model.node("Cast", "x", "truths", &[("to", Int(9))]);
            model.node(op, "truths", "number", &[("to", Int(1))])
        }
        "CastLike" if opset >= 15 => model.node(op, "numbers x", "number", &[]),
        _ => model.node("Identity", "numbers", "number", &[]),
    };
    let model = model.node("Cast", "number", "factor", &[("to", Int(1))]);
    end(model.node("Mul", "x factor", "y", &[]))
}

/// Attributes by name.
type Attributes = Vec<(&'static str, Attribute)>;

/// Windows over rows or images: extents that fit them, their kernel, and attributes.
fn windows(dice: &mut Dice) -> (Vec<i64>, Vec<i64>, Attributes) {
    let axes = dice.int(1, 2);
    let (kernel, dilations) = (dice.ints(axes, 1, 3), dice.ints(axes, 1, 2));
    let reach = kernel
        .iter()
        .zip(&dilations)
        .map(|(&kernel, &dilation)| dilation * (kernel - 1) + 1);
    let extents: Vec<i64> = reach.map(|reach| reach + dice.int(0, 3)).collect();
    let attributes = vec![
        ("kernel_shape", Ints(kernel.clone())),
        ("strides", Ints(dice.ints(axes, 1, 3))),
        ("dilations", Ints(dilations)),
    ];
    (extents, kernel, attributes)
}

fn convolution(dice: &mut Dice, op: &str) -> Model {
    let (extents, kernel, mut attributes) = windows(dice);
    let [groups, channels, made] = [dice.int(1, 2), dice.int(1, 2), dice.int(1, 2)];
    attributes.push(("group", Int(groups)));
    match dice.int(0, 2) {
        0 => attributes.push((
            "auto_pad",
            Text(dice.of(&["SAME_UPPER", "SAME_LOWER", "VALID"])),
        )),
        1 if op == "Conv" => {
            attributes.push(("pads", Ints(dice.ints(2 * rank_of(&extents), 0, 2))))
        }
        _ => {}
    }
    let [x_channels, y_channels] = [channels * groups, made * groups];
    let sizes = match op {
        "Conv" => [vec![y_channels, channels], kernel].concat(),
        _ => [vec![x_channels, made], kernel].concat(),
    };
    let opset = dice.int(11, 22);
    let model = of_sizes(opset, &[vec![x_channels], extents].concat());
    let model = dice.weight(model, "w", &sizes);
    let model = dice.weight(model, "b", &[y_channels]);
    end(model.node(op, dice.of(&["x w", "x w b"]), "y", &attributes))
}

fn pool(dice: &mut Dice, op: &str) -> Model {
    let (extents, kernel, mut attributes) = windows(dice);
    if op == "AveragePool" {
        attributes.pop();
        attributes.push(("count_include_pad", Int(i64::from(dice.flag()))));
    }
    attributes.push(("ceil_mode", Int(i64::from(dice.flag()))));
    if dice.flag() {
        let pads = kernel
            .iter()
            .chain(&kernel)
            .map(|&kernel| dice.int(0, kernel - 1));
        attributes.push(("pads", Ints(pads.collect())));
    }
    let opset = dice.int(12, 21);
    let model = of_sizes(opset, &[vec![dice.int(1, 3)], extents].concat());
    end(model.node(op, "x", "y", &attributes))
}

fn whole(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(2, 4);
    let (model, _) = dice.model(17, rank);
    end(model.node(op, "x", "y", &[]))
}

fn product(dice: &mut Dice, op: &str) -> Model {
    let [rows, inner, columns, heads] = [
        dice.int(1, 4),
        dice.int(1, 4),
        dice.int(1, 4),
        dice.int(1, 3),
    ];
    let opset = dice.int(13, 23);
    match op {
        "MatMul" => {
            let model = dice.weight(
                of_sizes(opset, &[heads, rows, inner]),
                "right",
                &[inner, columns],
            );
            let model = dice.weight(model, "left", &[columns, rows]);
            let model = model.node(
                "Transpose",
                "x",
                "turned",
                &[("perm", Ints(vec![0, 1, 3, 2]))],
            );
            end(model.node(
                op,
                dice.of(&["x right", "left x", "x turned", "turned x"]),
                "y",
                &[],
            ))
        }
        "Gemm" => {
            let turned = dice.flag();
            let sizes = if turned {
                [columns, inner]
            } else {
                [inner, columns]
            };
            let model = dice.weight(of_sizes(opset, &[inner]), "w", &sizes);
            let model = dice.weight(model, "b", &[columns]);
            let attributes = [
                ("alpha", Float(dice.float(0.5, 2.0))),
                ("beta", Float(dice.float(0.5, 2.0))),
                ("transB", Int(i64::from(turned))),
            ];
            end(model.node(op, dice.of(&["x w", "x w b"]), "y", &attributes))
        }
        _ => {
            let model = dice.weight(
                of_sizes(opset, &[heads, rows, inner]),
                "w",
                &[inner, columns],
            );
            let (inputs, equation) = dice.of(&[
                ("x w", "nhri,ic->nhrc"),
                ("x x", "nhri,nhsi->nhrs"),
                ("x x", "nhri,ngri->nhg"),
                ("x", "nhri->nir"),
                ("x w", "...i,ic->...c"),
                ("x x x", "nhri,nhsi,nhti->nrst"),
                ("w x", "ic,nhri"),
            ]);
            end(model.node(op, inputs, "y", &[("equation", Text(equation))]))
        }
    }
}

fn norm(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(2, 3);
    let groups = dice.int(1, 2);
    let mut sizes = dice.ints(rank, 2, 4);
    sizes[0] = groups * dice.int(1, 2);
    let opset = match op {
        "RMSNormalization" => 23,
        "GroupNormalization" => dice.of(&[21, 22]),
        _ => dice.int(17, 22),
    };
    let epsilon = ("epsilon", Float(dice.float(1e-3, 1e-1)));
    let axis = dice.axis(rank);
    let first = if axis < 0 { axis + rank + 1 } else { axis } as usize;
    let normed = match op {
        "LayerNormalization" | "RMSNormalization" => sizes[first - 1..].to_vec(),
        _ => vec![sizes[0]],
    };
    let model = dice.weight(of_sizes(opset, &sizes), "scale", &normed);
    let model = dice.weight(model, "offset", &normed);
    let model = dice.weight(model, "mean", &normed);
    let variance = dice.floats(normed.iter().product(), 0.2, 2.0);
    let model = model.floats("variance", &normed, &variance);
    let (inputs, attributes) = match op {
        "BatchNormalization" => ("x scale offset mean variance", vec![epsilon]),
        "InstanceNormalization" => ("x scale offset", vec![epsilon]),
        "GroupNormalization" => ("x scale offset", vec![epsilon, ("num_groups", Int(groups))]),
        "LayerNormalization" => (
            dice.of(&["x scale", "x scale offset"]),
            vec![epsilon, ("axis", Int(axis))],
        ),
        "RMSNormalization" => ("x scale", vec![epsilon, ("axis", Int(axis))]),
        _ => ("x", vec![("axis", Int(axis)), ("p", Int(dice.int(1, 2)))]),
    };
    end(model.node(op, inputs, "y", &attributes))
}

/// The axes are an attribute or an input, as the opset wants them.
fn reduction(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[11, 13, 17, 18, 21]);
    let (model, _) = dice.model(opset, rank);
    let axes = dice.axes(rank);
    let model = with_positive(model).ints("axes", &axes);
    let operand = if op == "ReduceLogSum" {
        "p"
    } else {
        dice.of(&["x", "p"])
    };
    let keep = ("keepdims", Int(i64::from(dice.flag())));
    let as_input = opset >= 18 || (opset >= 13 && op == "ReduceSum");
    end(match as_input {
        true => model.node(op, &format!("{operand} axes"), "y", &[keep]),
        false => model.node(op, operand, "y", &[keep, ("axes", Ints(axes))]),
    })
}

fn along(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 15, 17]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    let at = ("axis", Int(axis));
    let model = match op {
        "CumSum" => {
            let model = model.initializer(int_tensor("along", &[], &[axis]));
            let flags = [
                ("exclusive", Int(i64::from(dice.flag()))),
                ("reverse", Int(i64::from(dice.flag()))),
            ];
            model.node(op, "x along", "y", &flags)
        }
        "Softmax" | "LogSoftmax" => model.node(op, "x", "y", &[at]),
        "Concat" => {
            let model = model.node("Sin", "x", "bent", &[]);
            model.node(op, dice.of(&["x bent", "bent x x", "x"]), "y", &[at])
        }
        "Split" => {
            let mut sizes = sizes.clone();
            sizes[place - 1] += 1;
            let first = dice.int(1, extent);
            let model = of_sizes(opset, &sizes).ints("parts", &[first, extent + 1 - first]);
            let model = model.node(op, "x parts", "one two", &[at]);
            // Both are used, in the other order and one of them bent.
            let model = model.node("Sin", "one", "bent", &[]);
            model.node("Concat", "two bent", "y", &[("axis", Int(axis))])
        }
        "Slice" => {
            let step = dice.of(&[-2, -1, 1, 2]);
            let (start, end) = match step > 0 {
                true => (dice.int(-extent, extent - 1), i64::MAX),
                false => (dice.int(-extent, extent - 1), i64::MIN),
            };
            let model = model.ints("start", &[start]).ints("end", &[end]);
            let model = model.ints("axes", &[axis]).ints("step", &[step]);
            model.node(op, "x start end axes step", "y", &[])
        }
        _ => {
            let n_axes = dice.int(0, 2);
            let shape = dice.ints(n_axes, 1, 3);
            let places = dice.ints(shape.iter().product(), -extent, extent - 1);
            let model = model.initializer(int_tensor("places", &shape, &places));
            model.node(op, "x places", "y", &[at])
        }
    };
    end(model)
}

fn moved(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17, 18, 21]);
    let (model, sizes) = dice.model(opset, rank);
    let elements: i64 = sizes.iter().product();
    let model = match op {
        "Reshape" => {
            let shape = dice.of(&[
                vec![-1, elements],
                vec![0, -1],
                vec![0, 1, elements],
                vec![-1, 1, elements, 1],
            ]);
            model.ints("shape", &shape).node(op, "x shape", "y", &[])
        }
        "Flatten" => model.node(op, "x", "y", &[("axis", Int(dice.of(&[1, -rank])))]),
        "Squeeze" | "Unsqueeze" => {
            let place = dice.int(1, rank + 1);
            let place = dice.either_end(place, rank + 2);
            let model = model.ints("place", &[place]);
            let model = model.node("Unsqueeze", "x place", "longer", &[]);
            match op {
                "Squeeze" => {
                    model
                        .node("Sin", "longer", "bent", &[])
                        .node(op, "bent place", "y", &[])
                }
                _ => model.node("Sin", "longer", "y", &[]),
            }
        }
        "Transpose" => {
            let mut axes: Vec<i64> = (0..=rank).collect();
            axes.shuffle(&mut dice.0);
            model.node(op, "x", "y", &[("perm", Ints(axes))])
        }
        "Expand" => {
            let model = model.ints("one", &[1]);
            let model = model.node("Unsqueeze", "x one", "longer", &[]);
            let stretched = [vec![1, dice.int(1, 3)], vec![1; sizes.len()]].concat();
            model
                .ints("shape", &stretched)
                .node(op, "longer shape", "y", &[])
        }
        "Tile" => {
            let repeats = [vec![1], dice.ints(rank, 1, 3)].concat();
            model
                .ints("repeats", &repeats)
                .node(op, "x repeats", "y", &[])
        }
        _ => {
            let mode = dice.of(&["constant", "edge", "reflect"]);
            let least = if mode == "reflect" { 0 } else { 2 };
            let most: Vec<i64> = sizes.iter().map(|&size| least.max(size - 1)).collect();
            let [before, behind] = [0, 1].map(|_| {
                let pads = most.iter().map(|&most| dice.int(0, most.min(3)));
                [vec![0], pads.collect()].concat()
            });
            let model = model.ints("pads", &[before, behind].concat());
            let value = dice.float(-1.0, 1.0);
            let model = model.floats("value", &[], &[value]);
            let inputs = if mode == "constant" {
                "x pads value"
            } else {
                "x pads"
            };
            model.node(op, inputs, "y", &[("mode", Text(mode))])
        }
    };
    end(model)
}

fn resized(dice: &mut Dice, op: &str) -> Model {
    let sizes = [vec![dice.int(1, 2)], dice.ints(2, 2, 4)].concat();
    let factors = [dice.of(&[1.0, 2.0, 3.0]), dice.of(&[2.0, 3.0])];
    let scales = [vec![1.0, 1.0], factors.to_vec()].concat();
    let mode = ("mode", Text(dice.of(&["nearest", "linear"])));
    if op == "Resize" && dice.flag() {
        return cubic(dice, &sizes, &scales);
    }
    if op == "Upsample" {
        let model = of_sizes(9, &sizes).floats("scales", &[4], &scales);
        return end(model.node(op, "x scales", "y", &[mode]));
    }
    let opset = dice.of(&[13, 18, 19]);
    let kinds = [
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ];
    let attributes = [
        mode,
        ("coordinate_transformation_mode", Text(dice.of(&kinds))),
        (
            "nearest_mode",
            Text(dice.of(&["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
        ),
    ];
    end(match dice.flag() {
        true => {
            let model = of_sizes(opset, &sizes).floats("scales", &[4], &scales);
            model.node(op, "x _ scales", "y", &attributes)
        }
        false => {
            let new = [vec![1], sizes[..1].to_vec(), dice.ints(2, 1, 7)].concat();
            let model = Model::of_opset(opset).input("x", &[&[1], sizes.as_slice()].concat());
            model
                .ints("sizes", &new)
                .node(op, "x _ _ sizes", "y", &attributes)
        }
    })
}

fn cubic(dice: &mut Dice, sizes: &[i64], scales: &[f32]) -> Model {
    let kinds = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
    ];
    let opset = dice.of(&[13, 18, 19]);
    let attributes = [
        ("mode", Text("cubic")),
        ("coordinate_transformation_mode", Text(dice.of(&kinds))),
        ("cubic_coeff_a", Float(dice.of(&[-0.75, -0.5]))),
        ("exclude_outside", Int(dice.int(0, 1))),
    ];
    let model = of_sizes(opset, sizes).floats("scales", &[4], scales);
    end(model.node("Resize", "x _ scales", "y", &attributes))
}

/// Indices of that shape below an extent, counted from either end.
fn places(dice: &mut Dice, sizes: &[i64], extent: i64) -> Vec<i64> {
    dice.ints(sizes.iter().product(), -extent, extent - 1)
}

/// At indices that are known, that are the places of extremes, or that are images and places among them.
fn picked(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 16, 18]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    if op == "GatherElements" {
        let at = ("axis", Int(axis));
        if dice.flag() {
            let model = model.node("ArgMax", "x", "places", &[("axis", Int(axis))]);
            return end(model.node(op, "x places", "y", &[at]));
        }
        let mut shape: Vec<i64> = sizes.iter().map(|&size| dice.int(1, size)).collect();
        shape[place - 1] = dice.int(1, 4);
        let indices = places(dice, &shape, extent);
        let model = model.for_each_image("places", &shape, &indices);
        return end(model.node(op, "x places", "y", &[at]));
    }
    let n_taken = dice.int(1, rank);
    let lead = {
        let n_axes = dice.int(1, 2);
        dice.ints(n_axes, 1, 3)
    };
    let count: i64 = lead.iter().product();
    let tuple = |dice: &mut Dice| -> Vec<i64> {
        let taken = sizes[..n_taken as usize].iter();
        taken.map(|&size| dice.int(-size, size - 1)).collect()
    };
    let tuples: Vec<i64> = (0..count).flat_map(|_| tuple(dice)).collect();
    let shape = [lead.as_slice(), &[n_taken]].concat();
    match dice.int(0, 2) {
        // Of each image, by batch_dims.
        0 => {
            let model = model.for_each_image("places", &shape, &tuples);
            end(model.node(op, "x places", "y", &[("batch_dims", Int(1))]))
        }
        // The images behind what is taken.
        1 => {
            let order: Vec<i64> = (1..=rank).chain([0]).collect();
            let model = model
                .initializer(int_tensor("places", &shape, &tuples))
                .node("Transpose", "x", "last", &[("perm", Ints(order))])
                .node(op, "last places", "y", &[]);
            end(model)
        }
        // Fixed values, one for each tuple.
        _ => {
            let model = dice.weight(model, "w", &sizes);
            let model = model
                .initializer(int_tensor("places", &shape, &tuples))
                .node(op, "w places", "taken", &[])
                .node("ReduceMax", "taken", "greatest", &[("keepdims", Int(0))]);
            end(model.node("Mul", "x greatest", "y", &[]))
        }
    }
}

fn scattered(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let reductions: &[&'static str] = match op {
        "Scatter" => &["none"],
        _ => &["none", "add", "mul", "max", "min"],
    };
    let reduction = ("reduction", Text(dice.of(reductions)));
    let opset = if op == "Scatter" { 10 } else { 18 };
    let (model, sizes) = dice.model(opset, rank);
    let more = if op == "Scatter" {
        vec![]
    } else {
        vec![reduction]
    };
    if op == "ScatterND" {
        let n_taken = dice.int(1, rank) as usize;
        let count = dice.int(1, 3);
        let taken = sizes[..n_taken].to_vec();
        let tuples: Vec<i64> = (0..count)
            .flat_map(|_| {
                let tuple: Vec<i64> = taken
                    .iter()
                    .map(|&size| dice.int(-size, size - 1))
                    .collect();
                tuple
            })
            .collect();
        let order: Vec<i64> = (1..=rank).chain([0]).collect();
        let rest = sizes[n_taken..].to_vec();
        let of_updates = [&[count], rest.as_slice(), &[1]].concat();
        // The images stand behind what is taken, and updates of each of them come too.
        let model = dice.weight(model, "w", &of_updates);
        let shape = [count, n_taken as i64];
        return end(model
            .initializer(int_tensor("places", &shape, &tuples))
            .ints("first", &[0])
            .ints("of_updates", &of_updates[..of_updates.len() - 1])
            .node("Transpose", "x", "last", &[("perm", Ints(order))])
            .node("Sin", "last", "bent", &[])
            .node("Shape", "x", "shape", &[])
            .node("Gather", "shape first", "images", &[])
            .node("Concat", "of_updates images", "all", &[("axis", Int(0))])
            .node("Expand", "w all", "updates", &[])
            .node(op, "bent places updates", "y", &more));
    }
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let extent = sizes[place - 1];
    let at = ("axis", Int(axis));
    let attributes: Attributes = std::iter::once(at).chain(more).collect();
    if dice.flag() {
        // What is greatest becomes something else.
        let model = model
            .node("ArgMax", "x", "places", &[("axis", Int(axis))])
            .node(
                "GatherElements",
                "x places",
                "greatest",
                &[("axis", Int(axis))],
            )
            .node("Sin", "greatest", "updates", &[]);
        return end(model.node(op, "x places updates", "y", &attributes));
    }
    let mut shape: Vec<i64> = sizes.iter().map(|&size| dice.int(1, size)).collect();
    shape[place - 1] = dice.int(1, 3);
    let indices = places(dice, &shape, extent);
    let model = dice.weight(model, "w", &[&[1], shape.as_slice()].concat());
    let model = model.for_each_image("places", &shape, &indices).node(
        "Expand",
        "w places.all",
        "updates",
        &[],
    );
    end(model.node(op, "x places updates", "y", &attributes))
}

/// Places as numbers beside x, and what stands there.
fn placed(dice: &mut Dice, op: &str) -> Model {
    let rank = if op == "Trilu" {
        dice.int(2, 3)
    } else {
        dice.int(1, 3)
    };
    let opset = dice.of(&[14, 17, 18]);
    let (model, sizes) = dice.model(opset, rank);
    let axis = dice.axis(rank);
    let place = (if axis < 0 { axis + rank + 1 } else { axis }) as usize;
    let at = ("axis", Int(axis));
    let float = [("to", Int(1))];
    match op {
        "Trilu" => {
            let k = int_tensor("k", &[], &[dice.int(-2, 2)]);
            let upper = ("upper", Int(dice.int(0, 1)));
            let inputs = dice.of(&["x k", "x"]);
            end(model.initializer(k).node(op, inputs, "y", &[upper]))
        }
        "TopK" => {
            let k = dice.int(1, sizes[place - 1]);
            let largest = ("largest", Int(dice.int(0, 1)));
            let model = model
                .ints("k", &[k])
                .node(op, "x k", "values places", &[at, largest]);
            let model = model.node("Cast", "places", "numbers", &float);
            end(model.node("Mul", "values numbers", "y", &[]))
        }
        "OneHot" => {
            let model = model.node("ArgMin", "x", "places", &[at, ("keepdims", Int(0))]);
            let model = model
                .initializer(int_tensor("depth", &[], &[sizes[place - 1]]))
                .floats("values", &[2], &[0.5, -2.0])
                .node(op, "places depth values", "chosen", &[("axis", Int(axis))]);
            end(model.node("Mul", "x chosen", "y", &[]))
        }
        _ => {
            let keep = ("keepdims", Int(1));
            let last = ("select_last_index", Int(dice.int(0, 1)));
            let model = model.node(op, "x", "places", &[at, keep, last]);
            let model = model.node("Cast", "places", "numbers", &float);
            end(model.node("Mul", "x numbers", "y", &[]))
        }
    }
}

/// Of scores for classes, of which x has as many as channels; labels are known or the greatest scores.
fn loss(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17]);
    let (model, sizes) = dice.model(opset, rank);
    let classes = sizes[0];
    let model = dice.weight(model, "w", &[classes]);
    let mut ignored = vec![("reduction", Text("none"))];
    if dice.flag() {
        ignored.push(("ignore_index", Int(dice.int(0, classes))));
    }
    let model = match dice.flag() {
        true => {
            let attributes = [("axis", Int(1)), ("keepdims", Int(0))];
            model.node("ArgMax", "x", "labels", &attributes)
        }
        false => {
            let count = sizes[1..].iter().product();
            let labels = dice.ints(count, 0, classes - 1);
            model.for_each_image("labels", &sizes[1..], &labels)
        }
    };
    end(model.node(op, dice.of(&["x labels", "x labels w"]), "y", &ignored))
}

fn quantized(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let (model, sizes) = dice.model(21, rank);
    let place = dice.int(0, rank - 1);
    let numbers = dice.ints(sizes.iter().product(), -9, 9);
    let extent = sizes[place as usize];
    let model = model
        .initializer(int_tensor("q", &sizes, &numbers))
        .floats("one", &[], &[0.02])
        .initializer(int_tensor("zero", &[], &[3]));
    let model = dice.weight(model, "many", &[extent]);
    let model = model.ints("zeros", &dice.ints(extent, -2, 2));
    let inputs = dice.of(&["q one", "q one zero", "q many zeros"]);
    let model = model.node(
        op,
        inputs,
        "w",
        &[("axis", Int(dice.either_end(place, rank)))],
    );
    end(model.node("Mul", "x w", "y", &[]))
}

/// Which of two branches is taken depends on the shape of x or on constants.
fn branch(dice: &mut Dice, op: &str) -> Model {
    let rank = dice.int(1, 3);
    let opset = dice.of(&[13, 17, 21]);
    let (model, sizes) = dice.model(opset, rank);
    let body = |op: &str| {
        let scale = float_tensor("scale", &[], &[1.5]);
        let model = Model::new().initializer(scale);
        let mut model = model
            .node(op, "x", "bent", &[])
            .node("Mul", "bent scale", "out", &[])
            .output("out");
        Attribute::Graph(Box::new(model.graph().clone()))
    };
    let branches = [("then_branch", body("Sin")), ("else_branch", body("Exp"))];
    let model = model
        .ints("last", &[-1])
        .ints("wanted", &[dice.of(&[sizes[sizes.len() - 1], 7])])
        .floats("a", &[1], &[dice.float(-1.0, 1.0)])
        .floats("b", &[1], &[0.0])
        .node("Shape", "x", "shape", &[])
        .node("Gather", "shape last", "extent", &[])
        .node("Equal", "extent wanted", "known", &[])
        .node("Greater", "a b", "fixed", &[]);
    end(model.node(op, dice.of(&["known", "fixed"]), "y", &branches))
}

fn blocks(dice: &mut Dice, op: &str) -> Model {
    let [block, channels, height, width] = [
        dice.int(1, 3),
        dice.int(1, 2),
        dice.int(1, 3),
        dice.int(1, 3),
    ];
    let size = ("blocksize", Int(block));
    let opset = dice.int(11, 19);
    end(match op {
        "DepthToSpace" => {
            let model = of_sizes(opset, &[channels * block * block, height, width]);
            model.node(
                op,
                "x",
                "y",
                &[size, ("mode", Text(dice.of(&["DCR", "CRD"])))],
            )
        }
        _ => {
            of_sizes(opset, &[channels, height * block, width * block]).node(op, "x", "y", &[size])
        }
    })
}

/// An operator without models would go untested.
#[test]
fn models_are_drawn_of_every_operator() {
    let drawn: Vec<&str> = DRAWS
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    let rules = RULES.iter().flat_map(|family| family.iter());
    let read: BTreeSet<&str> = rules.map(|(name, _)| *name).collect();
    assert_eq!(drawn.iter().copied().collect::<BTreeSet<&str>>(), read);
    assert_eq!(drawn.len(), read.len(), "an operator is drawn twice");
}

#[test]
fn derivatives_of_models_drawn_at_random_match_finite_differences() {
    let mut failures = String::new();
    for (draw, names) in DRAWS {
        for name in *names {
            for seed in 0..N_MODELS {
                let model = draw(&mut Dice(ChaCha8Rng::seed_from_u64(seed)), name);
                if let Err(problem) = model.try_derivatives(IMAGES + seed) {
                    failures += &format!("{name}, seed {seed}: {problem}\n");
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
