//! The derivatives of [`Binary::Pow`], `y = xᵖ`.

use super::{BackwardStep, Binary, Compare, Unary, Where, singular};
use crate::error::Result;
use crate::graph::{Graph, Source, Value};

/// `∂y/∂x = p · x^(p−1)`.
pub(super) fn slope_of_base(step: &mut BackwardStep<'_>) -> Result<Value> {
    let [x, p] = [step.inputs[0], step.inputs[1]];
    if let Some(exponent) = known_exponent(step.graph, p) {
        return slope_of_known_power(step, exponent);
    }
    let one = step.scalar("one", 1.0);
    let mut lowered = step.apply("lowered", Binary::Sub, &[p, one])?;
    if !step.wanted[1] {
        // An exponent 0 stays 0: then 0 · x⁰ is right for all x, while 0 · x⁻¹ is not a number at 0.
        let zero = step.scalar("zero", 0.0);
        let is_flat = step.apply("is_flat", Compare::Equal, &[p, zero])?;
        lowered = step.apply("lowered", Where, &[is_flat, zero, lowered])?;
    }
    // Where the slope is infinite or no number it is 0, and so is what its own derivatives come from.
    let raw = step.apply("raw", Binary::Pow, &[x, lowered])?;
    let [zero, one, infinity] =
        [0.0, 1.0, f32::INFINITY].map(|value| step.scalar("constant", value));
    let size = step.apply("size", Unary::Abs, &[raw])?;
    let is_finite = step.apply("is_finite", Compare::Greater, &[infinity, size])?;
    let base = step.apply("finite", Where, &[is_finite, x, one])?;
    let power = step.apply("power", Binary::Pow, &[base, lowered])?;
    let slope = step.apply("slope", Binary::Mul, &[p, power])?;
    step.apply("slope", Where, &[is_finite, slope, zero])
}

/// `∂y/∂p = y · ln x`, and 0 where x is not above 0.
pub(super) fn slope_of_exponent(step: &mut BackwardStep<'_>) -> Result<Value> {
    let x = step.inputs[0];
    let [zero, one] = [0.0, 1.0].map(|value| step.scalar("constant", value));
    let above = step.apply("above", Compare::Greater, &[x, zero])?;
    let base = step.apply("base", Where, &[above, x, one])?;
    let power = step.apply("finite", Where, &[above, step.output, zero])?;
    let log = step.apply("log", Unary::Log, &[base])?;
    step.apply("slope", Binary::Mul, &[power, log])
}

/// The exponent, if it is one number that stands in the graph.
fn known_exponent(graph: &Graph, exponent: Value) -> Option<f32> {
    match &graph.node(exponent).source {
        Source::Constant(tensor) => match tensor.data() {
            [exponent] => Some(*exponent),
            _ => None,
        },
        _ => None,
    }
}

/// Powers that need no power: those of a constant, a line and a parabola.
fn slope_of_known_power(step: &mut BackwardStep<'_>, exponent: f32) -> Result<Value> {
    let x = step.inputs[0];
    let factor = step.scalar("factor", exponent);
    if exponent == 0.0 || exponent == 1.0 {
        return Ok(factor);
    }
    let mut power = x;
    if exponent != 2.0 {
        let base = base_of_known_power(step, exponent)?;
        let lowered = step.scalar("lowered", exponent - 1.0);
        power = step.apply("power", Binary::Pow, &[base, lowered])?;
    }
    step.apply("slope", Binary::Mul, &[factor, power])
}

/// x, or where the power has no slope what gives the lowered power 0: infinity to a negative exponent, or 0 to a positive one.
fn base_of_known_power(step: &mut BackwardStep<'_>, exponent: f32) -> Result<Value> {
    let x = step.inputs[0];
    match (exponent.fract() == 0.0, exponent < 1.0) {
        (true, true) => singular::not_zero(step, x),
        (true, false) => Ok(x),
        (false, true) => singular::above_zero(step, x),
        // x^1.5 of negative numbers is not a number; its slope is 0 at 0.
        (false, false) => {
            let zero = step.scalar("zero", 0.0);
            let above = step.apply("above", Compare::Greater, &[x, zero])?;
            step.apply("base", Where, &[above, x, zero])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{ArrayD, array};
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::graph::Shape;
    use crate::graph::op::testing::{Operand, check_gradients};
    use crate::graph::reference::evaluate;
    use crate::graph::tensor::Tensor;
    use crate::transform::gradient::hessian_vector_product;

    const WHOLE: [f64; 7] = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0];
    const BROKEN: [f64; 4] = [-0.5, 0.5, 1.5, 2.25];

    #[test]
    fn gradients_match_finite_differences_at_bases_of_either_sign() {
        for exponent in WHOLE {
            let x = Operand::distinct(&[2, 3], 1).shifted(0.025);
            check_gradients(
                Binary::Pow,
                &[x.clone(), Operand::constant(&[], &[exponent])],
            );
            check_gradients(Binary::Pow, &[x, Operand::fixed(&[], &[exponent])]);
        }
    }

    #[test]
    fn gradients_match_finite_differences_at_broken_exponents() {
        for exponent in BROKEN {
            let x = Operand::random(&[2, 3], 1).shifted(2.0);
            check_gradients(
                Binary::Pow,
                &[x.clone(), Operand::constant(&[1], &[exponent])],
            );
            check_gradients(Binary::Pow, &[x, Operand::fixed(&[], &[exponent])]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn gradients_match_finite_differences_at_all_shapes(
            extents in proptest::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 0..4),
            depends in select(vec![[true, false], [false, true], [true, true]]), seed in 0u64..1000,
        ) {
            let stretched = |ones: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
                extents.iter().map(|extent| if ones(extent) { 1 } else { extent.0 }).collect()
            };
            let operand = |sizes: &[usize], depends: bool, seed: u64| if depends {
                Operand::random(sizes, seed)
            } else {
                Operand::random_fixed(sizes, seed)
            };
            let x = operand(&stretched(|extent| extent.1 && !extent.2), depends[0], seed);
            let exponent = operand(&stretched(|extent| extent.2), depends[1], seed + 1);
            check_gradients(Binary::Pow, &[x.shifted(1.75), exponent.shifted(0.5)]);
        }
    }

    /// Gradient and second derivative of `E(x) = xᵖ` at 0 for a p that is written down, or bound as a weight.
    fn at_zero(exponent: f64, known: bool) -> [f64; 2] {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let p = if known {
            graph.constant("p", Tensor::scalar(exponent as f32))
        } else {
            graph.weight("p", &[]).unwrap()
        };
        let energy = graph.apply("energy", Binary::Pow, &[x, p]).unwrap();
        graph.set_output("energy", energy);
        let graph = hessian_vector_product(&graph, "energy", "x").unwrap();
        let values = BTreeMap::from([
            ("x".to_string(), array![0.0].into_dyn()),
            ("v".to_string(), array![1.0].into_dyn()),
            ("p".to_string(), ArrayD::from_elem(vec![], exponent)),
        ]);
        let outputs = evaluate(&graph, &values).unwrap();
        ["gradient", "hvp"].map(|output| outputs[output][[0]])
    }

    #[test]
    fn whole_powers_are_smooth_at_zero() {
        for (exponent, wanted) in [
            (0.0, [0.0, 0.0]),
            (1.0, [1.0, 0.0]),
            (2.0, [0.0, 2.0]),
            (3.0, [0.0, 0.0]),
        ] {
            for known in [true, false] {
                assert_eq!(at_zero(exponent, known), wanted, "x^{exponent}, {known}");
            }
        }
    }

    /// `E(p) = 0ᵖ` is 0 for every positive p.
    #[test]
    fn a_power_of_zero_does_not_depend_on_the_exponent() {
        let mut graph = Graph::new();
        let p = graph.input("x", Shape::batched(&[])).unwrap();
        let zero = graph.scalar("zero", 0.0);
        let energy = graph.apply("energy", Binary::Pow, &[zero, p]).unwrap();
        graph.set_output("energy", energy);
        let graph = hessian_vector_product(&graph, "energy", "x").unwrap();
        let values = ["x", "v"].map(|name| (name.to_string(), array![2.0].into_dyn()));
        let outputs = evaluate(&graph, &BTreeMap::from(values)).unwrap();
        assert_eq!(outputs["gradient"][[0]], 0.0);
        assert_eq!(outputs["hvp"][[0]], 0.0);
    }
}
