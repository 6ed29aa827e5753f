//! What depends on no input is computed once, when the weights are known.
//!
//! Most of it moves elements of weights, or scales them. That is done in f32, at the price of one copy; all else is computed by the
//! f64 interpreter and rounded. The results are the same bit by bit: moves do not round, f64 holds the product of two f32 values
//! exactly, and their sum to more than twice the digits of f32, so that rounding it again gives what rounding once does.

use std::collections::BTreeMap;

use ndarray::{ArrayViewD, Axis, IxDyn};

use crate::error::Error;
use crate::graph::op::{Binary, Op, Operator};
use crate::graph::reference::{to_array, to_tensor};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Graph, Shape, Source, Value, ValueType};

/// What a fixed value may cost for every element of the weights and constants of its graph.
const COST_PER_STORED: Cost = Cost {
    elements: 4,
    multiplications: 1024,
};
/// What all fixed values together may cost beyond that.
const COST_BEYOND: Cost = Cost {
    elements: 1 << 25,
    multiplications: 1 << 27,
};

/// What it takes to compute something.
#[derive(Clone, Copy)]
struct Cost {
    elements: usize,
    multiplications: usize,
}

/// Refuses a graph whose fixed values are out of proportion to what it stores: a few bytes can ask for more than a machine has.
///
/// # Errors
/// The node with which it is too much.
pub(crate) fn check_cost(graph: &Graph) -> Result<(), Error> {
    let is_dynamic = graph.is_dynamic();
    let size = |value: Value| graph.shape(value).elements_per_image();
    let is_stored = |value: &Value| graph.operator(*value).is_none() && !is_dynamic[value.0];
    let n_stored: usize = graph.values().filter(is_stored).map(size).sum();
    let mut left = COST_BEYOND;
    for value in graph.values().filter(|value| !is_dynamic[value.0]) {
        let Some((op, inputs)) = graph.operator(value) else {
            continue;
        };
        let shapes: Vec<&Shape> = inputs.iter().map(|&input| graph.shape(input)).collect();
        let multiplications = op.multiplications(&shapes, graph.shape(value));
        let after = |left: usize, cost: usize, per_stored: usize| {
            left.checked_sub(cost.saturating_sub(n_stored.saturating_mul(per_stored)))
        };
        let elements = after(left.elements, size(value), COST_PER_STORED.elements);
        let multiplications = after(
            left.multiplications,
            multiplications,
            COST_PER_STORED.multiplications,
        );
        let (Some(elements), Some(multiplications)) = (elements, multiplications) else {
            let shape = graph.shape(value);
            let problem = format!(
                "its result {shape} depends on no input, but is too large to be computed when the weights are bound, of which there are {n_stored} numbers"
            );
            return Err(Error::operator(&graph.node(value).name, op.name(), problem));
        };
        left = Cost {
            elements,
            multiplications,
        };
    }
    Ok(())
}

/// Computes a graph's fixed values one after the other, and keeps each no longer than another one needs it.
pub(crate) struct Folding<'a> {
    graph: &'a Graph,
    is_dynamic: Vec<bool>,
    /// Per value: how many fixed operators have still to use it.
    pending: Vec<usize>,
    /// Per value: does an operator that stays in the graph, or an output, use it?
    is_kept: Vec<bool>,
    results: BTreeMap<Value, Tensor>,
}

impl<'a> Folding<'a> {
    pub(crate) fn new(graph: &'a Graph) -> Folding<'a> {
        let is_dynamic = graph.is_dynamic();
        let mut pending = vec![0; is_dynamic.len()];
        let mut is_kept = vec![false; is_dynamic.len()];
        for value in graph.values() {
            let Some((_, inputs)) = graph.operator(value) else {
                continue;
            };
            let stays = is_dynamic[value.0] || !is_single(graph, value);
            for input in inputs {
                is_kept[input.0] |= stays;
                pending[input.0] += usize::from(!is_dynamic[value.0]);
            }
        }
        for (_, value) in graph.outputs() {
            is_kept[value.0] = true;
        }
        Folding {
            graph,
            is_dynamic,
            pending,
            is_kept,
            results: BTreeMap::new(),
        }
    }

    /// Does the value depend on no input?
    pub(crate) fn is_fixed(&self, value: Value) -> bool {
        !self.is_dynamic[value.0]
    }

    /// What stands for a fixed value in the graph: its elements where something that stays uses them. `None` leaves the node
    /// as it is. Values have to come in the order of the graph; `weight` gives the elements of a weight.
    pub(crate) fn constant<E>(
        &mut self,
        value: Value,
        weight: impl FnOnce() -> Result<Tensor, E>,
    ) -> Result<Option<Tensor>, E> {
        let tensor = match &self.graph.node(value).source {
            Source::Input => return Ok(None),
            Source::Constant(tensor) => rounded(tensor, self.graph.value_type(value).dtype),
            Source::Weight => weight()?,
            Source::Operator { op, inputs } => self.computed(value, op, inputs),
        };
        if self.pending[value.0] > 0 {
            self.results.insert(value, tensor.clone());
        }
        let constant = match self.is_kept[value.0] {
            true => tensor,
            false => stand_in(),
        };
        Ok(is_single(self.graph, value).then_some(constant))
    }

    fn computed(&mut self, value: Value, op: &Op, inputs: &[Value]) -> Tensor {
        let operands: Vec<Tensor> = inputs
            .iter()
            .map(|input| self.results[input].clone())
            .collect();
        for input in inputs {
            self.pending[input.0] -= 1;
            if self.pending[input.0] == 0 {
                self.results.remove(input);
            }
        }
        let ValueType { dtype, shape } = self.graph.value_type(value);
        rounded(&folded(op, &operands, &shape.concrete(1)), *dtype)
    }
}

/// The elements as those of that type, which f32 holds.
fn rounded(tensor: &Tensor, dtype: DType) -> Tensor {
    match dtype.is_low() {
        true => to_tensor(&to_array(tensor).mapv_into(|value| dtype.rounded(value))),
        false => tensor.clone(),
    }
}

/// What nothing needs any more is dropped from the graph at the end; until then it takes no room.
fn stand_in() -> Tensor {
    Tensor::scalar(0.0)
}

/// Constants are f32: an operator whose result is of another type stays.
fn is_single(graph: &Graph, value: Value) -> bool {
    graph.value_type(value).dtype == DType::F32
}

fn folded(op: &Op, operands: &[Tensor], shape: &[usize]) -> Tensor {
    in_single_precision(op, operands, shape).unwrap_or_else(|| {
        let operands: Vec<_> = operands.iter().map(to_array).collect();
        to_tensor(&op.evaluate(&operands))
    })
}

/// The cheap way, where there is one; the result has that shape.
fn in_single_precision(op: &Op, operands: &[Tensor], shape: &[usize]) -> Option<Tensor> {
    let moved = match (op, operands) {
        (Op::Reshape(_), [x]) => return Some(x.reshaped(shape)),
        (Op::Transpose(transpose), [x]) => view(x).permuted_axes(transpose.axes.clone()),
        (Op::Reverse(reverse), [x]) => {
            let mut reversed = view(x);
            let axes = reverse.axes.iter();
            axes.for_each(|&axis| reversed.invert_axis(Axis(axis)));
            reversed
        }
        (Op::Binary(binary), [left, right]) => {
            let (left, right) = (view(left), view(right));
            return match binary {
                Binary::Add => Some(elements(&(&left + &right).view())),
                Binary::Sub => Some(elements(&(&left - &right).view())),
                Binary::Mul => Some(elements(&(&left * &right).view())),
                _ => None,
            };
        }
        _ => return None,
    };
    Some(elements(&moved))
}

fn view(tensor: &Tensor) -> ArrayViewD<'_, f32> {
    ArrayViewD::from_shape(IxDyn(tensor.shape()), tensor.data())
        .expect("a tensor has as many elements as its shape says")
}

fn elements(view: &ArrayViewD<'_, f32>) -> Tensor {
    Tensor::new(view.shape(), view.iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::graph::op::{Expand, MatMul, Reshape, Reverse, Transpose};

    /// One number becomes many, or many products.
    #[test]
    fn what_is_out_of_proportion_is_refused_before_it_is_computed() {
        let expanded = |extent: usize| {
            let mut graph = Graph::new();
            let one = graph.scalar("one", 1.0);
            let shape = Shape::fixed(&[extent]);
            let many = graph.apply("many", Expand { shape }, &[one]).unwrap();
            graph.set_output("many", many);
            graph
        };
        check_cost(&expanded(1 << 25)).unwrap();
        let error = check_cost(&expanded(1 << 26)).unwrap_err().to_string();
        assert!(
            error.starts_with("node \"many\" (Expand): its result [67108864]"),
            "{error}"
        );
        let squared = |extent: usize| {
            let mut graph = Graph::new();
            let weight = graph.weight("w", &[extent]).unwrap();
            let shape = Shape::fixed(&[extent, extent]);
            let wide = graph.apply("wide", Expand { shape }, &[weight]).unwrap();
            let square = graph.apply("square", MatMul, &[wide, wide]).unwrap();
            graph.set_output("square", square);
            graph
        };
        check_cost(&squared(512)).unwrap();
        let error = check_cost(&squared(1024)).unwrap_err().to_string();
        assert!(error.starts_with("node \"square\" (MatMul)"), "{error}");
    }

    /// Elements of all magnitudes, subnormal ones among them.
    fn random(shape: &[usize], rng: &mut ChaCha8Rng) -> Tensor {
        let element = |_| rng.random_range(-1.0f32..1.0) * 2f32.powi(rng.random_range(-140..100));
        Tensor::new(shape, (0..shape.iter().product()).map(element).collect())
    }

    fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
        let bits = tensor.data().iter().map(|value| value.to_bits()).collect();
        (tensor.shape().to_vec(), bits)
    }

    proptest! {
        #[test]
        fn the_cheap_way_gives_the_bits_of_the_interpreter(
            sizes in proptest::array::uniform3(1usize..5), axis in 0usize..3, seed in 0u64..1000,
        ) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let x = random(&sizes, &mut rng);
            let per_channel = random(&[sizes[1], 1], &mut rng);
            let factor = random(&[], &mut rng);
            let flat = Shape::fixed(&[sizes.iter().product()]);
            let cases: [(Op, Vec<&Tensor>); 8] = [
                (Reshape { shape: flat }.into(), vec![&x]),
                (Transpose { axes: vec![axis, (axis + 1) % 3, (axis + 2) % 3] }.into(), vec![&x]),
                (Transpose { axes: vec![axis, (axis + 2) % 3, (axis + 1) % 3] }.into(), vec![&x]),
                (Reverse { axes: vec![axis, (axis + 1) % 3] }.into(), vec![&x]),
                (Binary::Mul.into(), vec![&x, &factor]),
                (Binary::Mul.into(), vec![&per_channel, &x]),
                (Binary::Add.into(), vec![&x, &per_channel]),
                (Binary::Sub.into(), vec![&factor, &x]),
            ];
            for (op, operands) in cases {
                let types: Vec<ValueType> = operands.iter().map(|x| ValueType::f32(Shape::fixed(x.shape()))).collect();
                let shape = op.infer(&types.iter().collect::<Vec<_>>()).unwrap().shape.concrete(1);
                let operands: Vec<Tensor> = operands.into_iter().cloned().collect();
                let cheap = in_single_precision(&op, &operands, &shape).unwrap();
                let arrays: Vec<_> = operands.iter().map(to_array).collect();
                prop_assert_eq!(bits(&cheap), bits(&to_tensor(&op.evaluate(&arrays))), "{:?}", op);
            }
        }
    }
}
