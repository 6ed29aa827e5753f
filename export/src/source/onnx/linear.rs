//! Products of matrices.
//!
//! ONNX operators: `Gemm`, `MatMul`; see [the specification](https://onnx.ai/onnx/operators/).

use super::node::{Node, Outputs, Rule};
use super::result::Result;
use crate::graph::op::{Binary, MatMul};
use crate::graph::{Dim, Value};

pub(super) const RULES: &[(&str, Rule)] = &[("MatMul", matmul), ("Gemm", gemm)];

/// A list on the left is a row, one on the right a column, and neither is in the result.
fn matmul(node: &mut Node<'_, '_>) -> Outputs {
    let operands = [node.value(0)?, node.value(1)?];
    let ranks = operands.map(|operand| node.shape(operand).rank());
    if ranks.contains(&0) {
        return Err("expected lists or matrices, got a number".to_string());
    }
    let [left, right] = operands;
    let mut row = node.shape(left);
    if ranks[0] == 1 {
        row.0.insert(0, Dim::Size(1));
    }
    let left = node.seen_as("row", left, row)?;
    let mut column = node.shape(right);
    if ranks[1] == 1 {
        column.0.push(Dim::Size(1));
    }
    let right = node.seen_as("column", right, column)?;
    let operands = alike_in_front(node, [left, right])?;
    if !ranks.contains(&1) {
        return node.result(MatMul, &operands);
    }
    let product = node.apply("product", MatMul, &operands)?;
    let mut shape = node.shape(product);
    if ranks[1] == 1 {
        shape.0.pop();
    }
    if ranks[0] == 1 {
        shape
            .0
            .remove(shape.rank() - 1 - usize::from(ranks[1] != 1));
    }
    Ok(vec![node.seen_as("list", product, shape)?.into()])
}

/// The same, where the batch stands before the matrices: then a fixed operand has one row for all images.
fn alike_in_front(node: &mut Node<'_, '_>, operands: [Value; 2]) -> Result<Vec<Value>> {
    let in_front = operands.iter().any(|&operand| {
        let shape = node.shape(operand);
        let axis = shape.batch_axis();
        axis.is_some_and(|axis| axis + 2 < shape.rank())
    });
    match in_front {
        true => node.broadcasting(&operands),
        false => Ok(operands.to_vec()),
    }
}

/// `alpha · A·B + beta · C`, A and B transposed where attributes say so.
fn gemm(node: &mut Node<'_, '_>) -> Outputs {
    let alpha = node.float("alpha")?.unwrap_or(1.0);
    let beta = node.float("beta")?.unwrap_or(1.0);
    let mut left = matrix(node, 0, "transA")?;
    let mut right = matrix(node, 1, "transB")?;
    // A factor of a fixed operand is multiplied in once and for all.
    if node.depends_on_input(right) && !node.depends_on_input(left) {
        left = node.scaled("scaled", left, alpha)?;
    } else {
        right = node.scaled("scaled", right, alpha)?;
    }
    let offset = match node.optional_value(2)? {
        Some(offset) if beta != 0.0 => offset,
        _ => return node.result(MatMul, &[left, right]),
    };
    let product = node.apply("product", MatMul, &[left, right])?;
    let offset = node.scaled("offset", offset, beta)?;
    let operands = node.broadcasting(&[product, offset])?;
    let [wanted, offset] = [operands[0], operands[1]].map(|operand| node.shape(operand));
    if wanted.broadcast(&offset).as_ref() != Some(&wanted) {
        return Err(format!(
            "its offset {offset} does not broadcast to {wanted}"
        ));
    }
    node.result(Binary::Add, &operands)
}

fn matrix(node: &mut Node<'_, '_>, position: usize, flag: &str) -> Result<Value> {
    let transposed = node.flag(flag)? == Some(true);
    let matrix = node.value(position)?;
    let shape = node.shape(matrix);
    if shape.rank() != 2 {
        return Err(format!("expected matrices, got {shape}"));
    }
    match transposed {
        true => node.permuted("transposed", matrix, vec![1, 0]),
        false => Ok(matrix),
    }
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Float, Int};
    use crate::source::onnx::testing::{Attribute, Model, array};

    const WEIGHT: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

    /// A product of an input and a weight of those extents.
    fn product(left: &str, x: &[i64], weight: &[i64]) -> Model {
        let right = if left == "x" { "weight" } else { "x" };
        Model::new()
            .input("x", &[&[-1], x].concat())
            .floats("weight", weight, &WEIGHT)
            .node("MatMul", &format!("{left} {right}"), "y", &[])
            .output("y")
    }

    #[test]
    fn products_of_matrices_and_lists() {
        for (left, x, weight, values, sizes, wanted) in [
            (
                "x",
                vec![2],
                vec![2, 3],
                vec![1.0, 10.0],
                vec![1, 3],
                vec![41.0, 52.0, 63.0],
            ),
            (
                "x",
                vec![6],
                vec![6],
                vec![1.0, 0.0, 10.0, 0.0, 0.0, 0.0],
                vec![1],
                vec![31.0],
            ),
            (
                "x",
                vec![1, 6],
                vec![6],
                vec![0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
                vec![1, 1],
                vec![8.0],
            ),
            (
                "weight",
                vec![3, 1],
                vec![2, 3],
                vec![1.0, 10.0, 100.0],
                vec![1, 2, 1],
                vec![321.0, 654.0],
            ),
            (
                "weight",
                vec![6, 2],
                vec![6],
                vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
                vec![1, 2],
                vec![6.0, 6.0],
            ),
            (
                "x",
                vec![2, 1, 1],
                vec![2, 1, 3],
                vec![1.0, 10.0],
                vec![1, 2, 1, 3],
                vec![1.0, 2.0, 3.0, 40.0, 50.0, 60.0],
            ),
        ] {
            let model = product(left, &x, &weight);
            let x: Vec<usize> = x.iter().map(|&size| size as usize).collect();
            let y = model.evaluate(&array(&[&[1], x.as_slice()].concat(), &values));
            assert_eq!(y, array(&sizes, &wanted));
            model.check_derivatives(1);
        }
    }

    #[test]
    fn products_of_values_that_both_depend_on_the_input() {
        let model = Model::new()
            .input("x", &[-1, 3, 2])
            .node(
                "Transpose",
                "x",
                "t",
                &[("perm", Attribute::Ints(vec![0, 2, 1]))],
            )
            .node("MatMul", "x t", "y", &[])
            .output("y");
        let y = model.evaluate(&array(&[1, 3, 2], &[1.0, 0.0, 0.0, 2.0, 1.0, 1.0]));
        let wanted = [1.0, 0.0, 1.0, 0.0, 4.0, 2.0, 1.0, 2.0, 2.0];
        assert_eq!(y, array(&[1, 3, 3], &wanted));
        model.check_derivatives(2);
    }

    /// A model with x on the left, or on the right as columns.
    fn general(x_first: bool, attributes: &[(&str, Attribute)], offset: Option<&[i64]>) -> Model {
        let transposes = |name: &str| {
            attributes
                .iter()
                .any(|(attribute, value)| *attribute == name && matches!(value, Int(1)))
        };
        let (own, other) = match x_first {
            true => (transposes("transA"), transposes("transB")),
            false => (transposes("transB"), transposes("transA")),
        };
        // The operator turns x where it is made of columns, and the weight where that is.
        let x = if own == x_first { "columns" } else { "x" };
        let weight = if other == x_first { [3, 2] } else { [2, 3] };
        let inputs = match x_first {
            true => format!("{x} weight"),
            false => format!("weight {x}"),
        };
        let mut model = Model::new()
            .input("x", &[-1, 2])
            .node("Transpose", "x", "columns", &[]);
        model = model.floats("weight", &weight, &WEIGHT);
        let inputs = match offset {
            Some(sizes) => {
                let count = sizes.iter().product::<i64>() as usize;
                model = model.floats("c", sizes, &[100.0, 200.0, 300.0][..count]);
                format!("{inputs} c")
            }
            None => inputs,
        };
        model.node("Gemm", &inputs, "y", attributes).output("y")
    }

    #[test]
    fn general_products() {
        let x = array(&[1, 2], &[1.0, 10.0]);
        for (attributes, offset, wanted) in [
            (vec![], None, [41.0, 52.0, 63.0]),
            (vec![], Some(vec![3]), [141.0, 252.0, 363.0]),
            (vec![], Some(vec![1, 1]), [141.0, 152.0, 163.0]),
            (vec![], Some(vec![]), [141.0, 152.0, 163.0]),
            (
                vec![("alpha", Float(0.5)), ("beta", Float(2.0))],
                Some(vec![1, 3]),
                [220.5, 426.0, 631.5],
            ),
            (
                vec![("beta", Float(0.0))],
                Some(vec![3]),
                [41.0, 52.0, 63.0],
            ),
            (vec![("transB", Int(1))], None, [21.0, 43.0, 65.0]),
            (
                vec![("transA", Int(1)), ("transB", Int(1))],
                Some(vec![3]),
                [121.0, 243.0, 365.0],
            ),
        ] {
            let model = general(true, &attributes, offset.as_deref());
            let y = model.evaluate(&x);
            assert_eq!(y, array(&[1, 3], &wanted));
            model.check_derivatives(3);
        }
        for (attributes, offset, wanted) in [
            (vec![], None, [21.0, 43.0, 65.0]),
            (
                vec![("alpha", Float(2.0))],
                Some(vec![3, 1]),
                [142.0, 286.0, 430.0],
            ),
            (
                vec![("transA", Int(1)), ("transB", Int(1))],
                None,
                [41.0, 52.0, 63.0],
            ),
        ] {
            let model = general(false, &attributes, offset.as_deref());
            assert_eq!(model.evaluate(&x), array(&[3, 1], &wanted));
            model.check_derivatives(4);
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let images = Model::new().input("x", &[-1, 2]);
        let images = images.node("Transpose", "x", "t", &[]);
        let mixed = images.node("MatMul", "t x", "y", &[]).output("y");
        assert!(mixed.problem().contains("mixes the images of a batch"));
        let number = Model::new().input("x", &[-1, 2]).floats("c", &[], &[1.0]);
        let number = number.node("MatMul", "x c", "y", &[]).output("y");
        assert!(number.problem().contains("got a number"));
        let tall = general(true, &[], Some(&[3, 1]));
        assert_eq!(
            tall.problem(),
            "node \"y\" (Gemm): its offset [3, 1] does not broadcast to [N, 3]"
        );
        let stack = Model::new().input("x", &[-1, 2, 2]);
        let stack = stack.node("Gemm", "x x", "y", &[]).output("y");
        assert!(stack.problem().contains("expected matrices, got [N, 2, 2]"));
    }
}
