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

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::graph::{DType, Graph, Mapping, Source, Value};
use crate::op::{Arithmetic, Binary, Cast, Op, Operator};

pub use error::{Comparison, random_images};

/// The types that a graph works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// f16, but for sums, inputs and outputs.
    F16,
    /// bf16, but for sums, inputs and outputs.
    Bf16,
    /// f16 in products alone.
    Mixed,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 4] = [
        Precision::F32,
        Precision::F16,
        Precision::Bf16,
        Precision::Mixed,
    ];

    /// Its name in commands and contracts.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
            Precision::Mixed => "mixed",
        }
    }

    /// The low type, where there is one.
    pub fn low_type(self) -> Option<DType> {
        match self {
            Precision::F32 => None,
            Precision::F16 | Precision::Mixed => Some(DType::F16),
            Precision::Bf16 => Some(DType::BF16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> Result<Precision, String> {
        let mut all = Precision::ALL.into_iter();
        all.find(|precision| precision.name() == name)
            .ok_or_else(|| {
                let names = Precision::ALL.map(Precision::name).join(", ");
                format!("unknown precision {name:?}; there are {names}")
            })
    }
}

/// The graph in that precision, by the rules above. Its weights should be bound, so that those in a low type are written in it.
///
/// # Errors
/// The graph has values of low types already.
pub fn lowered(graph: &Graph, precision: Precision) -> Result<Graph, Error> {
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

fn check_is_single(graph: &Graph) -> Result<(), Error> {
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

/// Per constant: the type that all who use it work in, where there is one such.
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
    ) -> Result<Vec<Value>, Error> {
        let mut converted = Vec::with_capacity(inputs.len());
        for &input in inputs {
            converted.push(self.of(target, mapping.get(input), dtype)?);
        }
        Ok(converted)
    }

    /// A number in that type; truth values as they are.
    fn of(&mut self, target: &mut Graph, value: Value, dtype: DType) -> Result<Value, Error> {
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
    use ndarray::ArrayD;

    use super::*;
    use crate::arch::{Activation, Network, Sngan};
    use crate::graph::Shape;
    use crate::op::{Conv, KeepDims, Reduce, ReduceKind, Softmax, Unary};
    use crate::pipeline::{bind, gradient_graph};
    use crate::reference::evaluate;
    use crate::rewrite::Rewrite;
    use crate::tensor::Tensor;

    fn gradient_of(activation: Activation) -> (Graph, [usize; 3]) {
        let network = Network::Sngan(Sngan::small(16, 3, &[32, 32], &[true, true], activation));
        let graph = gradient_graph(&network.graph().unwrap(), &Rewrite::ALL).unwrap();
        let weights = network.initial_weights(3).unwrap();
        (bind(&graph, &weights).unwrap(), [3, 16, 16])
    }

    /// Types of the operators of a name, without repetition.
    fn types_of(graph: &Graph, name: &str) -> BTreeSet<DType> {
        let named = |value: &Value| {
            graph
                .operator(*value)
                .is_some_and(|(op, _)| op.name() == name)
        };
        let dtype = |value| graph.value_type(value).dtype;
        graph.values().filter(named).map(dtype).collect()
    }

    /// Relative errors on random networks, the worst of eight images: a ReLU's derivative jumps where rounding changes a sign.
    #[test]
    fn errors_are_of_the_size_of_each_type() {
        for (activation, precision, least, most) in [
            (Activation::Relu, Precision::Bf16, 1e-2, 2e-1),
            (Activation::Relu, Precision::F16, 1e-3, 1e-1),
            (Activation::Relu, Precision::Mixed, 1e-3, 1e-1),
            (Activation::Silu, Precision::Bf16, 1e-3, 3e-2),
            (Activation::Silu, Precision::F16, 1e-4, 3e-3),
            (Activation::Silu, Precision::Mixed, 1e-5, 3e-3),
            (Activation::Silu, Precision::F32, 1e-8, 2e-6),
        ] {
            let (graph, extents) = gradient_of(activation);
            let comparison = Comparison {
                written: lowered(&graph, precision).unwrap(),
                exact: graph,
                input: "x",
                output: "gradient",
            };
            let images = random_images(8, &extents, 1);
            let errors = comparison
                .relative_errors(&images, &BTreeMap::new())
                .unwrap();
            let worst = errors.iter().copied().fold(0.0, f64::max);
            println!("{activation:?} {precision}: {errors:.5?}");
            assert!(
                (least..most).contains(&worst),
                "{activation:?} in {precision}: {errors:?}"
            );
        }
    }
}
