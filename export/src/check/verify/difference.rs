//! Derivatives by differences, and if there are none.
//!
//! A network of ReLUs or maxima has kinks, at which the differences to both sides do not agree. They are what decides: steps get shorter until the two agree
//! up to a margin, and then no kink that matters lies between them; where they never agree, the point lies at a kink and decides nothing.

use ndarray::ArrayD;

use super::function::{Function, Point};
use crate::error::Result;

/// Lengths of the steps, in units of the direction, in the order in which they are tried.
const STEPS: [f64; 5] = [1e-5, 1e-6, 1e-7, 1e-8, 1e-9];

/// Length of the step within which two models of the same network pass the same kink.
const REACH: f64 = 1e-6;

/// How well the differences to both sides must agree.
#[derive(Clone, Copy, Debug)]
pub struct Agreement {
    /// Their distance, relative to the derivative.
    pub margin: f64,
    /// What counts as the derivative's size if it is smaller.
    pub size: f64,
}

/// The derivative of a function along a direction by a central difference, `None` if the point lies at a kink.
///
/// # Errors
/// The function cannot be evaluated there.
pub fn along(
    function: &Function,
    point: &Point,
    centre: &ArrayD<f64>,
    direction: &ArrayD<f64>,
    agreement: Agreement,
) -> Result<Option<ArrayD<f64>>> {
    for step in STEPS {
        let ahead = (function.moved(point, &(direction * step))? - centre) / step;
        let behind = (centre - function.moved(point, &(direction * -step))?) / step;
        let middle = (&ahead + &behind) / 2.0;
        if norm(&(ahead - behind)) <= agreement.margin * norm(&middle).max(agreement.size) {
            return Ok(Some(middle));
        }
    }
    Ok(None)
}

/// The points on both sides of a point within whose distance two models of the same network pass the same kink.
pub fn both_sides(point: &Point, input: &str, direction: &ArrayD<f64>) -> [Point; 2] {
    [REACH, -REACH].map(|step| {
        let mut beside = point.clone();
        if let Some(x) = beside.get_mut(input) {
            *x += &(direction * step);
        }
        beside
    })
}

/// The L2 norm.
pub fn norm(array: &ArrayD<f64>) -> f64 {
    array.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The distance of two values relative to the larger of them, or to `least` where that is larger still; infinite where they have not as many elements.
pub fn relative(got: &ArrayD<f64>, wanted: &ArrayD<f64>, least: f64) -> f64 {
    if got.len() != wanted.len() {
        return f64::INFINITY;
    }
    let squares = got.iter().zip(wanted).map(|(a, b)| (a - b) * (a - b));
    match squares.sum::<f64>().sqrt() {
        0.0 => 0.0,
        distance => distance / norm(got).max(norm(wanted)).max(least),
    }
}

/// The root of the mean square.
pub fn root_mean_square(values: &[f64]) -> f64 {
    let squares: f64 = values.iter().map(|value| value * value).sum();
    (squares / values.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::check::verify::Weights;
    use crate::graph::op::{Activation, Binary, KeepDims, Op, Reduce, ReduceKind, Unary};
    use crate::graph::{Graph, Shape};

    const AGREEMENT: Agreement = Agreement {
        margin: 1e-5,
        size: 1.0,
    };

    /// `x → Σ op(x)`.
    fn sum_of(op: impl Into<Op>) -> Function {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2])).unwrap();
        let op = op.into();
        let operands = [x, x];
        let n_operands = if matches!(op, Op::Binary(_)) { 2 } else { 1 };
        let y = graph.apply("y", op, &operands[..n_operands]).unwrap();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes: vec![1],
            keep_dims: KeepDims::No,
        };
        let energy = graph.apply("energy", sum, &[y]).unwrap();
        graph.set_output("energy", energy);
        Function::new(&graph, &Weights::default(), "x", "energy").unwrap()
    }

    fn slope(function: &Function, x: [f64; 2], direction: [f64; 2]) -> Option<f64> {
        let point = Point::from([("x".to_string(), array![x].into_dyn())]);
        let centre = function.at(&point).unwrap();
        let direction = array![direction].into_dyn();
        let derivative = along(function, &point, &centre, &direction, AGREEMENT).unwrap();
        derivative.map(|derivative| derivative.sum())
    }

    /// `Σ x²` has the derivative `2x·d`, `Σ sin x` has `cos(x)·d`.
    #[test]
    fn smooth_functions_have_their_closed_forms() {
        for (function, wanted) in [
            (sum_of(Binary::Mul), 2.0 * (0.3 * 1.0 - 0.7 * 2.0)),
            (sum_of(Unary::Sin), 0.3_f64.cos() + 2.0 * 0.7_f64.cos()),
        ] {
            let got = slope(&function, [0.3, -0.7], [1.0, 2.0]).unwrap();
            assert!((got - wanted).abs() < 1e-8, "{got} against {wanted}");
        }
    }

    /// Where a kink lies `distance` away, steps get shorter than that; at the kink itself nothing is decided.
    #[test]
    fn kinks_are_stepped_around_or_named() {
        let function = sum_of(Activation::Relu);
        for (distance, wanted) in [
            (1.0, Some(1.0)),
            (3e-7, Some(1.0)),
            (-3e-7, Some(0.0)),
            (0.0, None),
        ] {
            let got = slope(&function, [distance, -1.0], [1.0, 1.0]);
            let close = match (got, wanted) {
                (Some(got), Some(wanted)) => f64::abs(got - wanted) < 1e-6,
                (got, wanted) => got == wanted,
            };
            assert!(close, "at {distance}: {got:?} against {wanted:?}");
        }
    }

    #[test]
    fn values_of_different_lengths_are_infinitely_far_apart() {
        let three = array![1.0, 2.0, 2.0].into_dyn();
        assert_eq!(relative(&three, &three, 0.0), 0.0);
        assert_eq!(relative(&(&three * 0.0), &(&three * 0.0), 0.0), 0.0);
        assert_eq!(relative(&(&three * 0.0), &three, 0.0), 1.0);
        assert_eq!(relative(&(&three * 0.0), &three, 30.0), 0.1);
        assert_eq!(
            relative(&three, &array![1.0].into_dyn(), 0.0),
            f64::INFINITY
        );
    }
}
