//! Graphs that work in low types, for hardware that multiplies them faster.
//!
//! A network is lowered operator by operator, with these rules:
//!
//! - Inputs, the state x among them, and outputs stay f32, and so does whatever is one number per image, as an energy is.
//! - **Products** (convolutions, matrix products) take and give the low type. Engines add their terms up in f32.
//! - **Sums** (over axes; softmax) take and give f32: energies, norms and statistics are accumulated there. So are the sums that an output ends
//!   with, as that of all paths by which the image has a part in the energy.
//! - **All else** (activations, pools, arithmetic, moves) works in the low type where all operands that depend on an image have it,
//!   and in f32 where one has not. With [`Precision::Mixed`] it works in f32 throughout.
//!
//! Weights and constants have the type that those who use them work in; one that is used in both is there twice.
//!
//! The mask [`Activation::Positive`] is a comparison in the low types. The slope that makes it exact as one operator is one of f32: in f16 it is
//! infinite, and infinity times 0 is not a number.

mod error;

use std::collections::{BTreeMap, BTreeSet};

use ebm_common::named;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::op::{Activation, Arithmetic, Binary, Cast, Compare, Op};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Graph, Mapping, Source, Value};

pub use error::{Comparison, random_images};

named! {
    "precision";
    /// The types that a graph works in.
    #[derive(Default, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Precision {
        /// f32 throughout.
        #[default]
        F32 = "f32",
        /// f16, but for sums, inputs and outputs.
        F16 = "f16",
        /// bf16, but for sums, inputs and outputs.
        Bf16 = "bf16",
        /// f16 in products alone.
        Mixed = "mixed",
    }
}

impl Precision {
    /// The low type, if there is one.
    pub fn low_type(self) -> Option<DType> {
        match self {
            Precision::F32 => None,
            Precision::F16 | Precision::Mixed => Some(DType::F16),
            Precision::Bf16 => Some(DType::BF16),
        }
    }
}

/// The graph in that precision, by the rules above. Its weights should be bound, so that those in a low type are written in it.
///
/// # Errors
/// The graph has values of low types already.
pub fn lowered(graph: &Graph, precision: Precision) -> Result<Graph> {
    let Some(low) = precision.low_type() else {
        return Ok(graph.clone());
    };
    check_is_single(graph)?;
    let working_types = working_types(graph, precision, low);
    let sole_types = sole_types(graph, &working_types);
    let mut converted = Conversions::default();
    let mut lowered = graph.rebuild(|target, mapping, value| {
        let node = graph.node(value);
        match &node.source {
            Source::Constant(tensor) => Ok(sole_types
                .get(&value)
                .map(|&dtype| target.constant_of_type(&node.name, tensor.clone(), dtype))),
            Source::Operator { op, inputs } => {
                let dtype = working_types[value.0];
                let inputs = converted.all(target, mapping, inputs, dtype)?;
                let op = match op {
                    Op::Activation(Activation::Positive) if dtype.is_low() => {
                        return compared(target, &node.name, inputs[0], dtype).map(Some);
                    }
                    Op::Cast(_) => Op::Cast(Cast { to: dtype }),
                    _ => op.clone(),
                };
                target.apply(&node.name, op, &inputs).map(Some)
            }
            Source::Input | Source::Weight => Ok(None),
        }
    })?;
    for (name, value) in lowered.outputs().to_vec() {
        let single = Conversions::default().of(&mut lowered, value, DType::F32)?;
        lowered.set_output(&name, single);
    }
    lowered.rebuild(|_, _, _| Ok(None))
}

/// `[x > 0]` in that type.
fn compared(target: &mut Graph, name: &str, x: Value, dtype: DType) -> Result<Value> {
    let zero = Tensor::new(&[], vec![0.0]);
    let zero = target.constant_of_type(&format!("{name}.zero"), zero, dtype);
    let positive = target.apply(&format!("{name}.positive"), Compare::Greater, &[x, zero])?;
    target.apply(name, Cast { to: dtype }, &[positive])
}

fn check_is_single(graph: &Graph) -> Result<()> {
    let mut values = graph.values();
    match values.find(|&value| graph.value_type(value).dtype.is_low()) {
        Some(value) => Err(Error::Operator {
            node: graph.node(value).name.clone(),
            op: graph
                .operator(value)
                .map_or("constant", |(op, _)| op.name()),
            problem: format!(
                "expected f32 throughout, got {}; a low precision is of networks that have none",
                graph.value_type(value).dtype
            ),
        }),
        None => Ok(()),
    }
}

/// Per value: the type that the operator behind it works in; f32 for all that no operator makes.
fn working_types(graph: &Graph, precision: Precision, low: DType) -> Vec<DType> {
    let ends_output = output_sums(graph);
    let mut types = vec![DType::F32; ends_output.len()];
    for value in graph.values() {
        let Some((op, inputs)) = graph.operator(value) else {
            continue;
        };
        let is_single = |input: &Value| {
            let is_constant = matches!(graph.node(*input).source, Source::Constant(_));
            let is_number = graph.value_type(*input).dtype.is_float();
            is_number && !is_constant && types[input.0] == DType::F32
        };
        let works_low = match op.arithmetic() {
            _ if graph.shape(value).elements_per_image() == 1 => false,
            Arithmetic::Products => true,
            Arithmetic::Sums => false,
            Arithmetic::Elements => {
                precision != Precision::Mixed
                    && !ends_output[value.0]
                    && !inputs.iter().any(is_single)
            }
        };
        if works_low {
            types[value.0] = low;
        }
    }
    types
}

/// Per value: is it one of the sums that an output ends with? Moves between them count as such.
fn output_sums(graph: &Graph) -> Vec<bool> {
    let uses = graph.use_counts();
    let mut ends_output = vec![false; uses.len()];
    for (_, output) in graph.outputs() {
        ends_output[output.0] = true;
    }
    for value in graph.values().rev().filter(|value| uses[value.0] > 0) {
        let adds_or_moves = match graph.operator(value) {
            Some((Op::Binary(Binary::Add) | Op::Reshape(_) | Op::Transpose(_), inputs)) => inputs,
            Some(_) => {
                ends_output[value.0] = false;
                continue;
            }
            None => continue,
        };
        if ends_output[value.0] {
            let alone = adds_or_moves.iter().filter(|input| uses[input.0] == 1);
            alone.for_each(|input| ends_output[input.0] = true);
        }
    }
    ends_output
}

/// Per constant: the type that all who use it work in, if there is one such.
fn sole_types(graph: &Graph, working_types: &[DType]) -> BTreeMap<Value, DType> {
    let mut wanted: BTreeMap<Value, BTreeSet<DType>> = BTreeMap::new();
    for value in graph.values() {
        for input in graph.operator(value).map_or(&[][..], |(_, inputs)| inputs) {
            let types = wanted.entry(*input).or_default();
            types.insert(working_types[value.0]);
        }
    }
    for (_, value) in graph.outputs() {
        wanted.entry(*value).or_default().insert(DType::F32);
    }
    let sole = |(value, types): (Value, BTreeSet<DType>)| match types.len() {
        1 => types.first().map(|&dtype| (value, dtype)),
        _ => None,
    };
    wanted.into_iter().filter_map(sole).collect()
}

/// Values in other types than they were made in, each made once.
#[derive(Default)]
struct Conversions(BTreeMap<(Value, DType), Value>);

impl Conversions {
    /// The operands of a node that works in that type.
    fn all(
        &mut self,
        target: &mut Graph,
        mapping: &Mapping,
        inputs: &[Value],
        dtype: DType,
    ) -> Result<Vec<Value>> {
        let mut converted = Vec::with_capacity(inputs.len());
        for &input in inputs {
            converted.push(self.of(target, mapping.get(input), dtype)?);
        }
        Ok(converted)
    }

    /// A number in that type; booleans as they are.
    fn of(&mut self, target: &mut Graph, value: Value, dtype: DType) -> Result<Value> {
        let node = target.node(value);
        if node.value_type.dtype == dtype || !node.value_type.dtype.is_float() {
            return Ok(value);
        }
        if let Some(&converted) = self.0.get(&(value, dtype)) {
            return Ok(converted);
        }
        let name = format!("{}.{dtype}", node.name);
        let converted = match node.source.clone() {
            Source::Constant(tensor) => target.constant_of_type(&name, tensor, dtype),
            _ => target.apply(&name, Cast { to: dtype }, &[value])?,
        };
        self.0.insert((value, dtype), converted);
        Ok(converted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::{self, Compare, Conv, KeepDims, Reduce, ReduceKind, Softmax};
    use crate::graph::tensor::Tensor;
    use crate::source::networks::{Activation, Network, Sngan};
    use crate::transform::pipeline::{bind, gradient_graph};
    use crate::transform::rewrite::Rewrite;

    const LOW: [Precision; 3] = [Precision::F16, Precision::Bf16, Precision::Mixed];

    fn gradient_of(activation: Activation) -> (Graph, [usize; 3]) {
        let network = Network::Sngan(Sngan::small(16, 3, &[32, 32], &[true, true], activation));
        let graph = gradient_graph(&network.graph().unwrap(), &Rewrite::ALL).unwrap();
        let weights = network.initial_weights(3).unwrap();
        (bind(&graph, &weights).unwrap(), [3, 16, 16])
    }

    fn named(graph: &Graph, name: &str) -> Value {
        let mut values = graph.values();
        let found = values.find(|&value| graph.node(value).name == name);
        found.unwrap_or_else(|| panic!("the graph has no {name}"))
    }

    fn dtype(graph: &Graph, name: &str) -> DType {
        graph.value_type(named(graph, name)).dtype
    }

    /// Types of the operators of each name.
    fn operator_types(graph: &Graph) -> BTreeMap<&'static str, BTreeSet<DType>> {
        let mut types: BTreeMap<_, BTreeSet<DType>> = BTreeMap::new();
        for value in graph.values() {
            if let Some((op, _)) = graph.operator(value) {
                let dtype = graph.value_type(value).dtype;
                types.entry(op.name()).or_default().insert(dtype);
            }
        }
        types
    }

    /// Inputs `x [N, 2, 4, 4]`; kernels of ones; `scale`, by which x and the activation are multiplied; outputs `energy` and `sum`.
    fn small() -> Graph {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 4, 4])).unwrap();
        let kernel = graph.constant("kernel", Tensor::filled(&[2, 2, 1, 1], 1.0));
        let scale = graph.scalar("scale", 0.1);
        let zero = graph.scalar("zero", 0.0);
        let mut apply =
            |name: &str, op: Op, inputs: &[Value]| graph.apply(name, op, inputs).unwrap();
        let scaled = apply("scaled", Binary::Mul.into(), &[x, scale]);
        let first = apply("first", Conv::padded(0).into(), &[scaled, kernel]);
        let second = apply("second", Conv::padded(0).into(), &[first, kernel]);
        let inner = apply("inner", Binary::Add.into(), &[first, second]);
        let relu = apply("relu", op::Activation::Relu.into(), &[inner]);
        let times = apply("times", Binary::Mul.into(), &[relu, scale]);
        let positive = apply("positive", Compare::Greater.into(), &[inner, zero]);
        let mask = apply("mask", Cast::F32.into(), &[positive]);
        let masked = apply("masked", Binary::Mul.into(), &[times, mask]);
        let shares = apply("shares", Softmax { axis: 1 }.into(), &[masked]);
        let joined = apply("joined", Binary::Mul.into(), &[shares, masked]);
        let third = apply("third", Conv::padded(0).into(), &[joined, kernel]);
        let sum = apply("ending", Binary::Add.into(), &[third, second]);
        let reduce = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1, 2, 3],
            keep_dims: KeepDims::No,
        };
        let energy = apply("total", reduce.into(), &[joined]);
        let energy = apply("energy", op::Activation::Tanh.into(), &[energy]);
        graph.set_output("energy", energy);
        graph.set_output("sum", sum);
        graph
    }

    #[test]
    fn each_operator_has_the_type_of_its_rule() {
        use DType::{BF16, F16, F32};
        let rules: [(&str, [DType; 3]); 16] = [
            ("x", [F32; 3]),
            ("scaled", [F32; 3]),
            ("first", [F16, BF16, F16]),
            ("second", [F16, BF16, F16]),
            ("inner", [F16, BF16, F32]),
            ("relu", [F16, BF16, F32]),
            ("times", [F16, BF16, F32]),
            ("positive", [DType::Bool; 3]),
            ("mask", [F16, BF16, F32]),
            ("masked", [F16, BF16, F32]),
            ("shares", [F32; 3]),
            ("joined", [F32; 3]),
            ("third", [F16, BF16, F16]),
            ("ending", [F32; 3]),
            ("total", [F32; 3]),
            ("energy", [F32; 3]),
        ];
        for (position, precision) in LOW.into_iter().enumerate() {
            let low = lowered(&small(), precision).unwrap();
            for (name, wanted) in &rules {
                assert_eq!(dtype(&low, name), wanted[position], "{name} in {precision}");
            }
            for (name, value) in low.outputs() {
                assert_eq!(low.value_type(*value).dtype, F32, "{name} in {precision}");
            }
        }
    }

    /// The kernel is used in the low type alone and keeps its name; the factor is used in both, except where all else is f32.
    #[test]
    fn constants_have_the_types_of_those_who_use_them() {
        let low = lowered(&small(), Precision::Bf16).unwrap();
        assert_eq!(dtype(&low, "kernel"), DType::BF16);
        assert_eq!(dtype(&low, "scale"), DType::F32);
        assert_eq!(dtype(&low, "scale.bf16"), DType::BF16);
        let mixed = lowered(&small(), Precision::Mixed).unwrap();
        assert_eq!(dtype(&mixed, "kernel"), DType::F16);
        assert_eq!(dtype(&mixed, "scale"), DType::F32);
        let constants = mixed
            .values()
            .filter(|&value| matches!(mixed.node(value).source, Source::Constant(_)));
        assert_eq!(constants.count(), 3);
    }

    /// `first` is used by `second` and `inner`, which both work in f32's low type: it is converted for nobody. `second` is converted once.
    #[test]
    fn values_are_converted_once() {
        let low = lowered(&small(), Precision::F16).unwrap();
        let casts: Vec<&str> = low
            .values()
            .filter(|&value| matches!(low.operator(value), Some((Op::Cast(_), _))))
            .map(|value| low.node(value).name.as_str())
            .collect();
        assert_eq!(
            casts,
            [
                "scaled.f16",
                "mask",
                "masked.f32",
                "joined.f16",
                "third.f32",
                "second.f32"
            ]
        );
    }

    #[test]
    fn a_published_network_multiplies_low_and_sums_up_in_f32() {
        let (graph, _) = gradient_of(Activation::Relu);
        let low = lowered(&graph, Precision::F16).unwrap();
        let types = operator_types(&low);
        let [low_type, single] = [DType::F16, DType::F32].map(|dtype| BTreeSet::from([dtype]));
        assert_eq!(types["Conv"], low_type);
        assert_eq!(types["ConvTranspose"], low_type);
        assert_eq!(types["Relu"], low_type);
        assert_eq!(types["ReduceMean"], single);
        assert_eq!(
            types["MatMul"], single,
            "the head gives one number per image"
        );
    }

    /// A mask is what it was, also of zero and of the least number of each type: 2⁻²⁴ in f16, 2⁻¹³³ in bf16.
    #[test]
    fn masks_are_exact_in_every_type() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[4, 1, 1])).unwrap();
        let kernel = Tensor::new(&[4, 4, 1, 1], identity(4));
        let kernel = graph.constant("kernel", kernel);
        let moved = graph.apply("moved", Conv::padded(0), &[x, kernel]).unwrap();
        let relu = graph.apply("relu", op::Activation::Relu, &[moved]).unwrap();
        let mask = graph
            .apply("mask", op::Activation::Positive, &[relu])
            .unwrap();
        graph.set_output("mask", mask);
        for (precision, least) in [
            (Precision::F16, 2f64.powi(-24)),
            (Precision::Bf16, 2f64.powi(-133)),
            (Precision::Mixed, 2f64.powi(-24)),
        ] {
            let low = lowered(&graph, precision).unwrap();
            let types = operator_types(&low);
            let in_low_type = types
                .get("HardSigmoid")
                .is_some_and(|types| types != &BTreeSet::from([DType::F32]));
            assert!(!in_low_type, "{precision}: {types:?}");
            let pixels = [0.0, least, 1.0, -1.0];
            let images = ndarray::Array::from_shape_vec(vec![1, 4, 1, 1], pixels.to_vec()).unwrap();
            let inputs = BTreeMap::from([("x".to_string(), images)]);
            let outputs = crate::graph::reference::evaluate(&low, &inputs).unwrap();
            let got: Vec<f64> = outputs["mask"].iter().copied().collect();
            assert_eq!(got, [0.0, 1.0, 1.0, 0.0], "{precision}");
        }
    }

    fn identity(n: usize) -> Vec<f32> {
        let ones = (0..n * n).map(|place| place % (n + 1) == 0);
        ones.map(|one| f32::from(u8::from(one))).collect()
    }

    #[test]
    fn f32_changes_nothing() {
        assert_eq!(lowered(&small(), Precision::F32).unwrap(), small());
    }

    #[test]
    fn what_is_low_already_is_refused() {
        let low = lowered(&small(), Precision::F16).unwrap();
        let error = lowered(&low, Precision::Bf16).unwrap_err().to_string();
        assert!(
            error.contains("expected f32 throughout, got f16"),
            "{error}"
        );
    }

    #[test]
    fn precisions_have_names() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse(), Ok(precision));
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
        }
        let problem = "int8".parse::<Precision>().unwrap_err();
        assert_eq!(
            problem,
            "unknown precision \"int8\"; there are f32, f16, bf16, mixed"
        );
    }

    /// The worst of eight images on random networks. A ReLU's derivative jumps where rounding changes a sign; a smooth network has the
    /// error of its type, 2⁻⁸ or 2⁻¹¹, times a small factor.
    #[test]
    fn errors_are_of_the_size_of_each_type() {
        for (activation, precision, least, most) in [
            (Activation::Relu, Precision::Bf16, 1e-2, 2e-1),
            (Activation::Relu, Precision::F16, 1e-3, 1e-1),
            (Activation::Relu, Precision::Mixed, 1e-3, 1e-1),
            (Activation::Silu, Precision::Bf16, 1e-3, 3e-2),
            (Activation::Silu, Precision::F16, 1e-4, 3e-3),
            (Activation::Silu, Precision::Mixed, 1e-4, 3e-3),
            (Activation::Silu, Precision::F32, 1e-8, 2e-6),
        ] {
            let (graph, extents) = gradient_of(activation);
            let comparison = Comparison {
                written: lowered(&graph, precision).unwrap(),
                exact: graph,
                input: "x".to_string(),
                output: "gradient".to_string(),
                others: BTreeMap::new(),
            };
            let images = random_images(8, &extents, 1);
            let errors = comparison.relative_errors(&images).unwrap();
            let worst = errors.iter().copied().fold(0.0, f64::max);
            assert!(
                (least..most).contains(&worst),
                "{activation:?} in {precision}: {errors:?}"
            );
        }
    }
}
