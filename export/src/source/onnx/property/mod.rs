//! Every rule with attributes and shapes drawn at random: first and second derivatives against differences in f64.

mod axes;
mod branch;
mod dice;
mod elementwise;
mod indices;
mod layers;

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use axes::{along, blocks, moved, reduction, resized};
use branch::branch;
use dice::Dice;
use elementwise::{binary, chosen, clip, inside, integers, positive, stepwise, unary};
use indices::{picked, placed, scattered};
use layers::{convolution, loss, norm, pool, product, quantized, whole};

use super::RULES;
use super::testing::Model;

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
