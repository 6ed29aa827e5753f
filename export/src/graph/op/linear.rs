//! Matrix products.

use ndarray::{ArrayD, ArrayView2, ArrayViewD, Axis, Dimension, Ix2, IxDyn, indices};

use super::{Arithmetic, BackwardStep, Expand, OnnxOperator, Operator, Transpose, floats};
use crate::error::Result;
use crate::graph::{Dim, Shape, Value, ValueType};

/// `MatMul`: `[.., M, K] · [.., K, P] → [.., M, P]`, the leading axes broadcast. The batch may stand on any axis but K.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatMul;

impl Operator for MatMul {
    fn infer(&self, inputs: &[&ValueType]) -> Result<ValueType, String> {
        let [left, right] = floats::<2>(inputs)?;
        let misfit = || format!("expected [.., M, K] and [.., K, P], got {left} and {right}");
        let (before_left, &[rows, depth]) = left.0.split_last_chunk().ok_or_else(misfit)?;
        let (before_right, &[same_depth, columns]) =
            right.0.split_last_chunk().ok_or_else(misfit)?;
        if depth.is_batch() || same_depth.is_batch() {
            return Err(format!(
                "cannot sum over the batch in {left} · {right}: this mixes the images of a batch"
            ));
        }
        let [before_left, before_right] =
            [before_left, before_right].map(|dims| Shape(dims.to_vec()));
        match before_left.broadcast(&before_right) {
            Some(mut shape) if depth == same_depth => {
                shape.0.extend([rows, columns]);
                Ok(ValueType::f32(shape))
            }
            _ => Err(misfit()),
        }
    }

    fn to_onnx(&self) -> OnnxOperator {
        OnnxOperator::plain("MatMul")
    }

    fn evaluate(&self, inputs: &[ArrayD<f64>]) -> ArrayD<f64> {
        let types =
            [&inputs[0], &inputs[1]].map(|input| ValueType::f32(Shape::fixed(input.shape())));
        let result = self.infer(&[&types[0], &types[1]]);
        let shape = result.expect("checked before").shape.concrete(1);
        let before = &shape[..shape.len() - 2];
        let [left, right] = [&inputs[0], &inputs[1]].map(|input| {
            let matrix = &input.shape()[input.ndim() - 2..];
            input
                .broadcast([before, matrix].concat())
                .expect("checked by infer")
        });
        let mut result = ArrayD::zeros(shape.clone());
        for place in indices(IxDyn(before)) {
            let mut target = result.view_mut();
            for &index in place.slice() {
                target.index_axis_inplace(Axis(0), index);
            }
            target.assign(&matrix_at(&left, &place).dot(&matrix_at(&right, &place)));
        }
        result
    }

    fn gradient(&self, step: &mut BackwardStep<'_>) -> Result<Vec<Option<Value>>> {
        let one_matrix = step.graph.shape(step.inputs[1]).rank() == 2;
        let cotangent = match one_matrix && !step.wanted[1] {
            true => cotangent_of_rows(step)?,
            false => step.full_cotangent()?,
        };
        let mut gradients = vec![None, None];
        for operand in (0..2).filter(|&operand| step.wanted[operand]) {
            let other = transposed(step, step.inputs[1 - operand])?;
            let factors = match operand {
                0 => [cotangent, other],
                _ => [other, cotangent],
            };
            let product = step.apply("matmul", MatMul, &factors)?;
            gradients[operand] = Some(step.unbroadcast(product, step.inputs[operand])?);
        }
        Ok(gradients)
    }

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Products
    }

    fn multiplications(&self, inputs: &[&Shape], output: &Shape) -> usize {
        let depth = inputs[0].0.last().map_or(1, |depth| depth.concrete(1));
        output.elements_per_image() * depth
    }
}

/// The cotangent, whole only along the columns, which are summed over: times one fixed matrix, rows of the same cotangent stay
/// the same.
fn cotangent_of_rows(step: &mut BackwardStep<'_>) -> Result<Value> {
    let result = step.graph.shape(step.output);
    let current = step.graph.shape(step.cotangent);
    let missing = result.rank() - current.rank();
    let mut shape = Shape(vec![Dim::Size(1); missing]);
    shape.0.extend(&current.0);
    let columns = result.rank() - 1;
    if !shape.0[columns].is_batch() {
        shape.0[columns] = Dim::Size(result.0[columns].concrete(1));
    }
    if shape == *current {
        return Ok(step.cotangent);
    }
    step.apply("expand", Expand { shape }, &[step.cotangent])
}

/// The matrix at a place of the leading axes.
fn matrix_at<'a>(matrices: &ArrayViewD<'a, f64>, place: &IxDyn) -> ArrayView2<'a, f64> {
    let mut matrix = matrices.clone();
    for &index in place.slice() {
        matrix.index_axis_inplace(Axis(0), index);
    }
    matrix
        .into_dimensionality::<Ix2>()
        .expect("two axes are behind the leading ones")
}

/// The matrices with rows as columns.
fn transposed(step: &mut BackwardStep<'_>, matrices: Value) -> Result<Value> {
    let rank = step.graph.shape(matrices).rank();
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 2, rank - 1);
    step.apply("transpose", Transpose { axes }, &[matrices])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::Graph;
    use crate::graph::op::Reshape;
    use crate::graph::op::testing::{
        Operand, check_derivatives, check_gradients, evaluate, random_array,
    };

    #[test]
    fn known_values() {
        let left = Operand::fixed(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let right = Operand::fixed(&[2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let product = evaluate(MatMul, &[left, right]);
        assert_eq!(product.shape(), [2, 1, 2]);
        assert_eq!(product.as_slice().unwrap(), [201.0, 2010.0, 403.0, 4030.0]);
    }

    #[test]
    fn refuses_matrices_that_do_not_fit() {
        let value = |dims: &[Dim]| ValueType::f32(Shape(dims.to_vec()));
        let [n, one, two, three] = [Dim::BATCH, Dim::Size(1), Dim::Size(2), Dim::Size(3)];
        for (left, right, wanted) in [
            (
                value(&[n, three]),
                value(&[two, one]),
                "expected [.., M, K] and [.., K, P], got [N, 3] and [2, 1]",
            ),
            (value(&[three]), value(&[three, one]), "got [3] and [3, 1]"),
            (
                value(&[n, two, three]),
                value(&[two, three, one]),
                "got [N, 2, 3] and [2, 3, 1]",
            ),
            (value(&[two, n]), value(&[n, three]), "mixes the images"),
            (value(&[two, one]), value(&[n, three]), "mixes the images"),
        ] {
            let problem = MatMul.infer(&[&left, &right]).unwrap_err();
            assert!(problem.contains(wanted), "{left:?}, {right:?}: {problem}");
        }
    }

    #[test]
    fn products_of_different_images_are_refused() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[3])).unwrap();
        let axes = vec![1, 0];
        let columns = graph.apply("columns", Transpose { axes }, &[x]).unwrap();
        let problem = graph.apply("gram", MatMul, &[x, columns]).unwrap_err();
        assert!(problem.to_string().contains("[N, N]"), "{problem}");
    }

    /// The leading axes of an operand: as they are, of extent 1, or fewer.
    #[derive(Clone, Copy, Debug)]
    enum Leading {
        Whole,
        One,
        None,
    }

    fn leading() -> impl Strategy<Value = Leading> {
        prop_oneof![
            Just(Leading::Whole),
            Just(Leading::One),
            Just(Leading::None)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn gradients_match_finite_differences(
            [rows, depth, columns] in [1usize..4, 1usize..4, 1usize..4], heads in 1usize..4,
            [left, right] in [leading(), leading()], fixed in 0usize..3, seed in 0u64..1000,
        ) {
            let operand = |position: usize, leading: Leading, matrix: [usize; 2]| {
                let heads = match leading {
                    Leading::Whole => &[heads][..],
                    Leading::One => &[1],
                    Leading::None => &[],
                };
                let sizes = [heads, &matrix].concat();
                match (position == fixed, leading) {
                    (true, _) => Operand::random_fixed(&sizes, seed + 7),
                    // An operand with images has as many axes as the other.
                    (false, Leading::None) => Operand::random(&[&[1], matrix.as_slice()].concat(), seed),
                    (false, _) => Operand::random(&sizes, seed),
                }
            };
            check_gradients(MatMul, &[operand(0, left, [rows, depth]), operand(1, right, [depth, columns])]);
        }
    }

    /// Images as rows of the left operand are those of the other tests; here they are columns of the right one, behind a transposition.
    #[test]
    fn images_may_be_rows_and_columns() {
        for leading in [&[][..], &[2]] {
            let mut graph = Graph::new();
            let x = graph.input("x", Shape::batched(&[3])).unwrap();
            let axes = vec![1, 0];
            let columns = graph.apply("columns", Transpose { axes }, &[x]).unwrap();
            let weight = graph
                .weight("weight", &[leading, &[4, 3]].concat())
                .unwrap();
            let y = graph.apply("y", MatMul, &[weight, columns]).unwrap();
            let rank = graph.shape(y).rank();
            assert_eq!(graph.shape(y).batch_axis(), Some(rank - 1));
            let mut axes: Vec<usize> = (0..rank).collect();
            axes.rotate_right(1);
            let y = graph.apply("images", Transpose { axes }, &[y]).unwrap();
            let weight = random_array(&[leading, &[4, 3]].concat(), 3);
            check_derivatives(
                graph,
                y,
                [("x", random_array(&[2, 3], 2)), ("weight", weight)],
            );
        }
    }

    /// `[N, 2·3] → [2N, 3] · [3, 4]`: rows of images share an axis with the batch.
    #[test]
    fn images_may_share_an_axis_with_rows() {
        let mut graph = Graph::new();
        let x = graph.input("x", Shape::batched(&[2, 3])).unwrap();
        let rows = Dim::Batch { outer: 1, inner: 2 };
        let shape = Shape(vec![rows, Dim::Size(3)]);
        let x = graph.apply("rows", Reshape { shape }, &[x]).unwrap();
        let weight = graph.weight("weight", &[3, 4]).unwrap();
        let y = graph.apply("y", MatMul, &[x, weight]).unwrap();
        assert_eq!(*graph.shape(y), Shape(vec![rows, Dim::Size(4)]));
        let shape = Shape::batched(&[2, 4]);
        let y = graph.apply("images", Reshape { shape }, &[y]).unwrap();
        let values = [
            ("x", random_array(&[2, 2, 3], 2)),
            ("weight", random_array(&[3, 4], 3)),
        ];
        check_derivatives(graph, y, values);
    }

    #[test]
    fn multiplications_are_those_of_all_matrices() {
        let [left, right] = [Shape::batched(&[4, 5, 3]), Shape::fixed(&[3, 7])];
        let output = Shape::batched(&[4, 5, 7]);
        assert_eq!(
            MatMul.multiplications(&[&left, &right], &output),
            4 * 5 * 7 * 3
        );
    }
}
