//! Arithmetic element by element, with broadcasting; comparisons and their booleans as numbers.

use ndarray::{ArrayD, Zip};

use super::{BackwardStep, OnnxAttribute, OnnxOperator, Operator, floats, power, singular};
use crate::error::Result;
use crate::graph::{DType, Graph, Shape, Source, Value, ValueType};

members! {
    "";
    /// Two operands of broadcastable shapes.
    pub enum Binary {
        /// `a + b`.
        Add,
        /// `a − b`.
        Sub,
        /// `a · b`.
        Mul,
        /// `a / b`.
        Div,
        /// The lesser of both; the derivative of a tie is that of `a`.
        Min,
        /// The greater of both; the derivative of a tie is that of `a`.
        Max,
        /// `aᵇ`; a negative `a` takes whole `b` only.
        Pow,
    }
}

members! {
    "";
    /// One operand.
    pub enum Unary {
        /// `−x`.
        Neg,
        /// `√x`, x ≥ 0.
        Sqrt,
        /// `eˣ`.
        Exp,
        /// The natural logarithm, x > 0.
        Log,
        /// `1/x`.
        Reciprocal,
        /// The error function, `2/√π ∫₀ˣ e^(−t²) dt`.
        Erf,
        /// `|x|`; its derivative at 0 is 0.
        Abs,
        /// −1, 0 or 1, as x is negative, zero or positive.
        Sign,
        /// The sine.
        Sin,
        /// The cosine.
        Cos,
        /// The arcsine, −1 ≤ x ≤ 1.
        Asin,
        /// The arctangent.
        Atan,
        /// The inverse of the hyperbolic sine.
        Asinh,
        /// The inverse of the hyperbolic cosine, x ≥ 1.
        Acosh,
        /// The inverse of the hyperbolic tangent, −1 < x < 1.
        Atanh,
        /// The greatest whole number that is not above x.
        Floor,
        /// The nearest whole number, of two the even one.
        Round,
    }
}

members! {
    "";
    /// Two f32 operands of broadcastable shapes to booleans.
    pub enum Compare {
        /// `a > b`.
        Greater,
        /// `a ≥ b`.
        GreaterOrEqual,
        /// `a = b`.
        Equal,
    }
}

/// To another float type; booleans become 0 and 1, integers the floats next to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// A float type.
    pub to: DType,
}

impl Cast {
    /// To f32.
    pub const F32: Cast = Cast { to: DType::F32 };
}

fn broadcast(inputs: &[&ValueType]) -> Result<Shape, String> {
    let [left, right] = floats::<2>(inputs)?;
    left.broadcast(right)
        .ok_or_else(|| format!("shapes {left} and {right} do not broadcast"))
}

/// The shape to which all of them broadcast.
pub(super) fn common_shape(arrays: &[ArrayD<f64>]) -> Vec<usize> {
    let rank = arrays.iter().map(ArrayD::ndim).max().unwrap_or(0);
    let own = |array: &ArrayD<f64>, axis: usize| {
        let axis = (axis + array.ndim()).checked_sub(rank)?;
        Some(array.shape()[axis])
    };
    let extent = |axis| {
        let mut extents = arrays.iter().filter_map(|array| own(array, axis));
        extents.find(|&extent| extent != 1).unwrap_or(1)
    };
    (0..rank).map(extent).collect()
}

fn elementwise(inputs: &[ArrayD<f64>], function: impl Fn(f64, f64) -> f64) -> ArrayD<f64> {
    let shape = common_shape(inputs);
    let [left, right] = [&inputs[0], &inputs[1]]
        .map(|array| array.broadcast(shape.clone()).expect("checked by infer"));
    Zip::from(&left)
        .and(&right)
        .map_collect(|&a, &b| function(a, b))
}

impl Operator for Binary {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        broadcast(inputs).map(ValueType::f32)
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.onnx_name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        match self {
            Binary::Add => elementwise(inputs, |a, b| a + b),
            Binary::Sub => elementwise(inputs, |a, b| a - b),
            Binary::Mul => elementwise(inputs, |a, b| a * b),
            Binary::Div => elementwise(inputs, |a, b| a / b),
            Binary::Min => elementwise(inputs, |a, b| if a <= b || a.is_nan() { a } else { b }),
            Binary::Max => elementwise(inputs, |a, b| if a >= b || a.is_nan() { a } else { b }),
            Binary::Pow => elementwise(inputs, f64::powf),
        }
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let [left, right] = [step.inputs[0], step.inputs[1]];
        let mut gradients = vec![None, None];
        for operand in (0..2).filter(|&operand| step.wanted[operand]) {
            let g = if step.graph.shape(step.inputs[operand]) == step.graph.shape(step.output) {
                step.cotangent
            } else {
                step.full_cotangent()?
            };
            let full = match (self, operand) {
                (Binary::Add, _) | (Binary::Sub, 0) => g,
                (Binary::Sub, _) => step.apply("neg", Unary::Neg, &[g])?,
                // Both factors of a square have the same derivative.
                (Binary::Mul, 1) if left == right && step.wanted[0] => {
                    gradients[1] = gradients[0];
                    continue;
                }
                (Binary::Mul, 0) => step.apply("left", Binary::Mul, &[g, right])?,
                (Binary::Mul, _) => step.apply("right", Binary::Mul, &[g, left])?,
                (Binary::Div, 0) => {
                    let divisor = match step.wanted[1] || is_constant(step.graph, right) {
                        true => singular::not_zero(step, right)?,
                        false => right,
                    };
                    step.apply("left", Binary::Div, &[g, divisor])?
                }
                (Binary::Div, _) => {
                    // ∂(a/b)/∂b = −(a/b)/b, with the quotient at hand if b is never 0.
                    let divisor = singular::not_zero(step, right)?;
                    let quotient = match divisor == right {
                        true => step.output,
                        false => step.apply("quotient", Binary::Div, &[left, divisor])?,
                    };
                    let ratio = step.apply("ratio", Binary::Div, &[quotient, divisor])?;
                    let product = step.apply("product", Binary::Mul, &[g, ratio])?;
                    step.apply("neg", Unary::Neg, &[product])?
                }
                (Binary::Min | Binary::Max, _) => {
                    let mask = self.chosen(step, operand)?;
                    step.apply("masked", Binary::Mul, &[g, mask])?
                }
                (Binary::Pow, 0) => {
                    let slope = power::slope_of_base(step)?;
                    step.apply("base", Binary::Mul, &[g, slope])?
                }
                (Binary::Pow, _) => {
                    let slope = power::slope_of_exponent(step)?;
                    step.apply("exponent", Binary::Mul, &[g, slope])?
                }
            };
            gradients[operand] = Some(step.unbroadcast(full, step.inputs[operand])?);
        }
        Ok(gradients)
    }
}

impl Binary {
    /// 1 where `Min` or `Max` is that operand, else 0.
    fn chosen(self, step: &mut BackwardStep<'_>, operand: usize) -> Result<Value> {
        let [left, right] = [step.inputs[0], step.inputs[1]];
        let operands = match self {
            Binary::Min => [right, left],
            _ => [left, right],
        };
        let (compare, operands) = match operand {
            0 => (Compare::GreaterOrEqual, operands),
            _ => (Compare::Greater, [operands[1], operands[0]]),
        };
        let chosen = step.apply("chosen", compare, &operands)?;
        step.apply("mask", Cast::F32, &[chosen])
    }
}

impl Operator for Unary {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        floats::<1>(inputs).map(|[x]| ValueType::f32(x.clone()))
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.onnx_name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].mapv(|x| match self {
            Unary::Neg => -x,
            Unary::Sqrt => x.sqrt(),
            Unary::Exp => x.exp(),
            Unary::Log => x.ln(),
            Unary::Reciprocal => 1.0 / x,
            Unary::Erf => libm::erf(x),
            Unary::Abs => x.abs(),
            Unary::Sign if x == 0.0 => 0.0,
            Unary::Sign => x.signum(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Asin => x.asin(),
            Unary::Atan => x.atan(),
            Unary::Asinh => x.asinh(),
            Unary::Acosh => x.acosh(),
            Unary::Atanh => x.atanh(),
            Unary::Floor => x.floor(),
            Unary::Round => x.round_ties_even(),
        })
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let (x, y, g) = (step.inputs[0], step.output, step.cotangent);
        let gradient = match self {
            Unary::Neg => step.apply("neg", Unary::Neg, &[g])?,
            Unary::Exp => step.apply("exp", Binary::Mul, &[g, y])?,
            Unary::Log => {
                let divisor = singular::above_zero(step, x)?;
                step.apply("log", Binary::Div, &[g, divisor])?
            }
            Unary::Sqrt => {
                // ½ g / √x.
                let divisor = singular::above_zero(step, y)?;
                let half = step.scalar("half", 0.5);
                let halved = step.apply("halved", Binary::Mul, &[g, half])?;
                step.apply("sqrt", Binary::Div, &[halved, divisor])?
            }
            Unary::Reciprocal => {
                // −g / x².
                let divisor = singular::not_zero(step, x)?;
                let y = match divisor == x {
                    true => y,
                    false => step.apply("quotient", Unary::Reciprocal, &[divisor])?,
                };
                let square = step.apply("square", Binary::Mul, &[y, y])?;
                let product = step.apply("product", Binary::Mul, &[g, square])?;
                step.apply("neg", Unary::Neg, &[product])?
            }
            Unary::Erf => {
                // g · 2/√π · e^(−x²).
                let square = step.apply("square", Binary::Mul, &[x, x])?;
                let exponent = step.apply("exponent", Unary::Neg, &[square])?;
                let bell = step.apply("bell", Unary::Exp, &[exponent])?;
                let factor = step.scalar("factor", std::f32::consts::FRAC_2_SQRT_PI);
                let scaled = step.apply("scaled", Binary::Mul, &[bell, factor])?;
                step.apply("erf", Binary::Mul, &[g, scaled])?
            }
            Unary::Abs => {
                let sign = step.apply("sign", Unary::Sign, &[x])?;
                step.apply("abs", Binary::Mul, &[g, sign])?
            }
            // Constant almost everywhere.
            Unary::Sign | Unary::Floor | Unary::Round => return Ok(vec![None]),
            Unary::Sin => {
                let cos = step.apply("cos", Unary::Cos, &[x])?;
                step.apply("sin", Binary::Mul, &[g, cos])?
            }
            Unary::Cos => {
                let sin = step.apply("sin", Unary::Sin, &[x])?;
                let product = step.apply("product", Binary::Mul, &[g, sin])?;
                step.apply("neg", Unary::Neg, &[product])?
            }
            // 1/√((1 − x)(1 + x)) and 1/√((x − 1)(x + 1)).
            Unary::Asin | Unary::Acosh => {
                let order = if *self == Unary::Asin {
                    Order::OneFirst
                } else {
                    Order::XFirst
                };
                let radicand = difference_of_squares(step, order)?;
                let root = step.apply("root", Unary::Sqrt, &[radicand])?;
                let divisor = singular::above_zero(step, root)?;
                step.apply("inverse", Binary::Div, &[g, divisor])?
            }
            // 1/((1 − x)(1 + x)).
            Unary::Atanh => {
                let product = difference_of_squares(step, Order::OneFirst)?;
                let divisor = singular::not_zero(step, product)?;
                step.apply("inverse", Binary::Div, &[g, divisor])?
            }
            // 1/(1 + x²) and 1/√(1 + x²).
            Unary::Atan | Unary::Asinh => {
                let one = step.scalar("one", 1.0);
                let square = step.apply("square", Binary::Mul, &[x, x])?;
                let mut divisor = step.apply("sum", Binary::Add, &[one, square])?;
                if *self == Unary::Asinh {
                    divisor = step.apply("root", Unary::Sqrt, &[divisor])?;
                }
                step.apply("inverse", Binary::Div, &[g, divisor])?
            }
        };
        Ok(vec![Some(gradient)])
    }
}

/// What stands before the minus.
#[derive(Clone, Copy)]
enum Order {
    OneFirst,
    XFirst,
}

/// `1 − x²` or `x² − 1` as a product, which is exact where it is small.
fn difference_of_squares(step: &mut BackwardStep<'_>, order: Order) -> Result<Value> {
    let x = step.inputs[0];
    let one = step.scalar("one", 1.0);
    let operands = match order {
        Order::OneFirst => [one, x],
        Order::XFirst => [x, one],
    };
    let difference = step.apply("difference", Binary::Sub, &operands)?;
    let sum = step.apply("sum", Binary::Add, &operands)?;
    step.apply("product", Binary::Mul, &[difference, sum])
}

fn is_constant(graph: &Graph, value: Value) -> bool {
    matches!(graph.node(value).source, Source::Constant(_))
}

impl Operator for Compare {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        broadcast(inputs).map(|shape| ValueType {
            dtype: DType::Bool,
            shape,
        })
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain(self.onnx_name())
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        match self {
            Compare::Greater => elementwise(inputs, |a, b| f64::from(a > b)),
            Compare::GreaterOrEqual => elementwise(inputs, |a, b| f64::from(a >= b)),
            Compare::Equal => elementwise(inputs, |a, b| f64::from(a == b)),
        }
    }

    /// Constant almost everywhere.
    fn gradient(&self, _step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        Ok(vec![None, None])
    }
}

impl Operator for Cast {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        match inputs {
            [ValueType { shape, .. }] if self.to.is_float() => Ok(ValueType {
                dtype: self.to,
                shape: shape.clone(),
            }),
            _ => Err(format!(
                "expected one operand and a float type, got {} and {:?}",
                inputs.len(),
                self.to
            )),
        }
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("Cast").with("to", OnnxAttribute::Type(self.to))
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        inputs[0].clone()
    }

    /// Back in the operand's type; booleans and integers have no derivative.
    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let to = step.graph.value_type(step.inputs[0]).dtype;
        if !to.is_float() {
            return Ok(vec![None]);
        }
        let gradient = step.apply("cast", Cast { to }, &[step.cotangent])?;
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::graph::op::testing::{Operand, check_gradients, evaluate};

    /// Pairs of operands that broadcast: same extents, stretched, fixed and of a lower rank.
    fn broadcast_pairs(
        one: impl Fn(&[usize]) -> Operand,
        input: impl Fn(&[usize]) -> Operand,
        fixed: impl Fn(&[usize]) -> Operand,
    ) -> Vec<[Operand; 2]> {
        let others = [
            input(&[2, 3, 3]),
            input(&[2, 1, 1]),
            fixed(&[]),
            fixed(&[3]),
            fixed(&[2, 1, 1]),
            fixed(&[1, 2, 3, 3]),
        ];
        let ordered = |other: Operand| {
            let one = one(&[2, 3, 3]);
            [[one.clone(), other.clone()], [other, one]]
        };
        others.into_iter().flat_map(ordered).collect()
    }

    #[test]
    fn binary_gradients_match_finite_differences() {
        let x = |sizes: &[usize]| Operand::random(sizes, 1).shifted(3.0);
        let pairs = broadcast_pairs(
            x,
            |sizes| Operand::random(sizes, 2).shifted(3.0),
            |sizes| Operand::random_fixed(sizes, 3).shifted(-3.0),
        );
        for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div] {
            for pair in &pairs {
                check_gradients(op, pair);
            }
        }
    }

    #[test]
    fn extremes_take_their_gradient_to_the_chosen_operand() {
        let x = |sizes: &[usize]| Operand::distinct(sizes, 1);
        let pairs = broadcast_pairs(
            x,
            |sizes| Operand::distinct(sizes, 2).shifted(0.025),
            |sizes| Operand::distinct_fixed(sizes, 3).shifted(0.025),
        );
        for op in [Binary::Min, Binary::Max] {
            for pair in &pairs {
                check_gradients(op, pair);
            }
        }
    }

    #[test]
    fn unary_gradients_match_finite_differences() {
        for op in [
            Unary::Neg,
            Unary::Sqrt,
            Unary::Exp,
            Unary::Log,
            Unary::Reciprocal,
            Unary::Erf,
            Unary::Abs,
            Unary::Sign,
            Unary::Sin,
            Unary::Cos,
        ] {
            check_gradients(op, &[Operand::random(&[2, 3], 1).shifted(2.0)]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn binary_gradients_match_finite_differences_at_all_shapes(
            op in select(vec![Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max]),
            extents in proptest::collection::vec((1usize..4, any::<bool>(), any::<bool>()), 0..4),
            fixed in any::<bool>(), seed in 0u64..1000,
        ) {
            let stretched = |ones: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
                extents.iter().map(|extent| if ones(extent) { 1 } else { extent.0 }).collect()
            };
            let x = Operand::distinct(&stretched(|extent| extent.1 && !extent.2), seed);
            let sizes = stretched(|extent| extent.2);
            // Divisors keep away from zero, comparands from each other.
            let offset = if op == Binary::Div { 9.025 } else { 0.025 };
            let other = if fixed {
                Operand::distinct_fixed(&sizes, seed + 1).shifted(offset)
            } else {
                Operand::distinct(&sizes, seed + 1).shifted(offset)
            };
            check_gradients(op, &[x.clone(), other.clone()]);
            if op != Binary::Div {
                check_gradients(op, &[other, x]);
            }
        }

        #[test]
        fn unary_gradients_match_finite_differences_at_all_shapes(
            op in select(vec![Unary::Neg, Unary::Exp, Unary::Erf, Unary::Abs, Unary::Sign, Unary::Sin, Unary::Cos]),
            sizes in proptest::collection::vec(1usize..4, 0..4), seed in 0u64..1000,
        ) {
            check_gradients(op, &[Operand::distinct(&sizes, seed).shifted(0.025)]);
        }

        #[test]
        fn unary_gradients_match_finite_differences_above_zero(
            op in select(vec![Unary::Sqrt, Unary::Log, Unary::Reciprocal]),
            sizes in proptest::collection::vec(1usize..4, 0..4), seed in 0u64..1000,
        ) {
            check_gradients(op, &[Operand::random(&sizes, seed).shifted(1.5)]);
        }
    }

    #[test]
    fn known_values() {
        let (nan, x) = (f64::NAN, [-2.0, 0.0, 0.5]);
        let unary: [(Unary, [f64; 3]); 4] = [
            (Unary::Abs, [2.0, 0.0, 0.5]),
            (Unary::Sign, [-1.0, 0.0, 1.0]),
            (Unary::Sin, [-0.909297, 0.0, 0.479426]),
            (Unary::Cos, [-0.416147, 1.0, 0.877583]),
        ];
        for (op, wanted) in unary {
            let result = evaluate(op, &[Operand::fixed(&[3], &x)]);
            for (got, wanted) in result.iter().zip(wanted) {
                assert!((got - wanted).abs() < 1e-6, "{op:?}: {got}, not {wanted}");
            }
        }
        let operands = [
            Operand::fixed(&[4], &[1.0, 3.0, nan, 2.0]),
            Operand::fixed(&[4], &[2.0, -1.0, 2.0, nan]),
        ];
        for (op, wanted) in [
            (Binary::Min, [1.0, -1.0, nan, nan]),
            (Binary::Max, [2.0, 3.0, nan, nan]),
            (Binary::Pow, [1.0, 1.0 / 3.0, nan, nan]),
        ] {
            let result = evaluate(op, &operands);
            for (got, wanted) in result.iter().zip(wanted) {
                let same = got == &wanted || got.is_nan() && wanted.is_nan();
                assert!(same, "{op:?}: {got}, not {wanted}");
            }
        }
    }

    #[test]
    fn a_comparison_is_zero_or_one() {
        let [x, zero] = [
            Operand::fixed(&[3], &[-1.0, 0.0, 2.0]),
            Operand::fixed(&[], &[0.0]),
        ];
        for (op, wanted) in [
            (Compare::Greater, [0.0, 0.0, 1.0]),
            (Compare::GreaterOrEqual, [0.0, 1.0, 1.0]),
            (Compare::Equal, [0.0, 1.0, 0.0]),
        ] {
            let result = evaluate(op, &[x.clone(), zero.clone()]);
            assert_eq!(result.as_slice().unwrap(), wanted, "{op:?}");
        }
    }

    /// `E(x) = Min(a·x, b·x)` or `Max`, at 0.
    #[test]
    fn a_tie_goes_to_the_first_operand() {
        for op in [Binary::Min, Binary::Max] {
            for (factors, wanted) in [([1.0, 2.0], 1.0), ([2.0, 1.0], 2.0)] {
                let mut graph = Graph::new();
                let x = graph.input("x", Shape::batched(&[])).unwrap();
                let operands = factors.map(|factor| {
                    let factor = graph.scalar("factor", factor);
                    graph.apply("operand", Binary::Mul, &[x, factor]).unwrap()
                });
                let energy = graph.apply("energy", op, &operands).unwrap();
                graph.set_output("energy", energy);
                assert_eq!(slope_at(&graph, 0.0), wanted, "{op:?} of {factors:?}");
            }
        }
    }

    #[test]
    fn the_slope_of_a_size_at_zero_is_zero() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[])).unwrap();
        let energy = graph.apply("energy", Unary::Abs, &[x]).unwrap();
        graph.set_output("energy", energy);
        assert_eq!(
            [-2.0, 0.0, 2.0].map(|x| slope_at(&graph, x)),
            [-1.0, 0.0, 1.0]
        );
    }

    fn slope_at(graph: &Graph, x: f64) -> f64 {
        let graph = crate::transform::gradient::gradient(graph, "energy", "x").unwrap();
        let x = ArrayD::from_elem(vec![1], x);
        let values = std::collections::BTreeMap::from([("x".to_string(), x)]);
        crate::graph::reference::evaluate(&graph, &values).unwrap()["gradient"][[0]]
    }

    #[test]
    fn refuses_shapes_that_do_not_broadcast() {
        let [left, right] =
            [[2usize, 3], [2, 4]].map(|sizes| ValueType::f32(Shape::batched(&sizes)));
        let ops: [&dyn Operator; 3] = [&Binary::Add, &Binary::Max, &Compare::Equal];
        for op in ops {
            let problem = op.infer(&[&left, &right]).unwrap_err();
            assert_eq!(problem, "shapes [N, 2, 3] and [N, 2, 4] do not broadcast");
        }
    }
}
