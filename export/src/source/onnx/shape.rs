//! Operators that change the shape of a value or ask for it, and those that do nothing at inference.
//!
//! ONNX operators: `Dropout`, `Flatten`, `Identity`, `Reshape`, `Shape`, `Squeeze`, `Transpose`, `Unsqueeze`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use ndarray::IxDyn;

use super::known::{Known, Number};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::{axes_of, axis_of};
use super::own_image::{ONLY_INDICES, OfImages};
use super::reshape;
use crate::graph::op::{Op, Reshape, Transpose};
use crate::graph::{DType, Dim, Shape, Value};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Reshape", reshape_rule),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Transpose", transpose),
    ("Shape", shape_of),
    ("Identity", identity),
    ("Dropout", dropout),
];

/// `Reshape(x, shape)`: 0 keeps an extent (unless `allowzero`), −1 is what is left.
fn reshape_rule(node: &mut Node<'_, '_>) -> Outputs {
    let target = node.known(1)?.numbers()?;
    let zero = match node.flag("allowzero")? {
        Some(true) => reshape::Zero::Itself,
        _ => reshape::Zero::Keeps,
    };
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let shape = reshape::target(&current, &target, zero, node.fixed_batch())?;
    reshaped(node, &operand, shape)
}

/// `[a, b, c, d]` from axis 2 becomes `[a·b, c·d]`.
fn flatten(node: &mut Node<'_, '_>) -> Outputs {
    let axis = node.int("axis")?.unwrap_or(1);
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axis = match usize::try_from(axis) {
        Ok(axis) if axis == current.rank() => axis,
        _ => axis_of(axis, current.rank())?,
    };
    let merged = |dims: &[Dim]| {
        let part = Shape(dims.to_vec());
        part.around_batch()
            .unwrap_or(Dim::Size(part.elements_per_image()))
    };
    let shape = Shape(vec![merged(&current.0[..axis]), merged(&current.0[axis..])]);
    reshaped(node, &operand, shape)
}

/// Drops axes of extent 1: those that are named, or all of them.
fn squeeze(node: &mut Node<'_, '_>) -> Outputs {
    let axes = node.ints_or_known("axes", 1)?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let axes = match axes {
        Some(axes) => axes_of(&axes, current.rank())?,
        None => (0..current.rank())
            .filter(|&axis| current.size(axis) == Some(1))
            .collect(),
    };
    if let Some(axis) = axes.iter().find(|&&axis| current.size(axis) != Some(1)) {
        return Err(format!(
            "cannot drop axis {axis} of {current}: its extent is not 1"
        ));
    }
    let kept = (0..current.rank()).filter(|axis| !axes.contains(axis));
    let shape = Shape(kept.map(|axis| current.0[axis]).collect());
    reshaped(node, &operand, shape)
}

/// Inserts axes of extent 1.
fn unsqueeze(node: &mut Node<'_, '_>) -> Outputs {
    let axes = node
        .ints_or_known("axes", 1)?
        .ok_or("its axes are missing")?;
    let operand = node.operand(0)?.clone();
    let current = shape_of_operand(node, &operand);
    let rank = current.rank() + axes.len();
    let axes = axes_of(&axes, rank)?;
    if (1..axes.len()).any(|index| axes[..index].contains(&axes[index])) {
        return Err(format!("expected each axis once, got {axes:?}"));
    }
    let mut old = current.0.iter();
    let dims = (0..rank).map(|axis| match axes.contains(&axis) {
        true => Dim::Size(1),
        false => old.next().copied().unwrap_or(Dim::Size(1)),
    });
    let shape = Shape(dims.collect());
    reshaped(node, &operand, shape)
}

/// Without `perm` the axes are reversed.
fn transpose(node: &mut Node<'_, '_>) -> Outputs {
    let axes = node.ints("perm")?;
    let operand = node.operand(0)?.clone();
    let rank = shape_of_operand(node, &operand).rank();
    let axes = match axes {
        Some(axes) => axes_of(&axes, rank)?,
        None => (0..rank).rev().collect(),
    };
    match operand {
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Value(x) | Operand::Integers(x) => moved(node, x, Transpose { axes }),
        Operand::Known(known) => {
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if sorted != (0..rank).collect::<Vec<usize>>() {
                return Err(format!("{axes:?} is not a permutation of {rank} axes"));
            }
            let shape = Shape(axes.iter().map(|&axis| known.shape.0[axis]).collect());
            let elements = known.elements.clone().permuted_axes(IxDyn(&axes));
            Ok(vec![known.moved(shape, elements).into()])
        }
    }
}

/// The extents from axis `start` to `end` as integers.
fn shape_of(node: &mut Node<'_, '_>) -> Outputs {
    let bounds = [
        node.int("start")?.unwrap_or(0),
        node.int("end")?.unwrap_or(i64::MAX),
    ];
    let operand = node.operand(0)?.clone();
    let shape = shape_of_operand(node, &operand);
    let rank = shape.rank() as i64;
    let [start, end] = bounds.map(|bound| {
        let counted = if bound < 0 {
            bound.saturating_add(rank)
        } else {
            bound
        };
        counted.clamp(0, rank) as usize
    });
    let dims = shape.0.get(start..end).unwrap_or_default();
    Ok(vec![
        Known::list(dims.iter().map(|&dim| Number::from(dim))).into(),
    ])
}

fn identity(node: &mut Node<'_, '_>) -> Outputs {
    Ok(vec![node.operand(0)?.clone()])
}

/// The identity, which it is at inference; its ratio does not matter.
fn dropout(node: &mut Node<'_, '_>) -> Outputs {
    for attribute in ["ratio", "seed"] {
        node.ignore(attribute);
    }
    node.optional(1);
    if node.optional(2).is_some()
        && node
            .known(2)?
            .elements
            .iter()
            .any(|&on| on != Number::Fixed(0))
    {
        return Err("it is in training mode; export the model in evaluation mode".to_string());
    }
    identity(node)
}

/// The shape of an operand, be it in the graph or known.
pub(super) fn shape_of_operand(node: &Node<'_, '_>, operand: &Operand) -> Shape {
    match operand {
        Operand::Value(value) | Operand::Integers(value) => node.shape(*value),
        Operand::OfImages(of_images) => node.shape(of_images.value),
        Operand::Known(known) => known.shape.clone(),
    }
}

/// An operand under another shape of as many elements.
pub(super) fn reshaped(node: &mut Node<'_, '_>, operand: &Operand, shape: Shape) -> Outputs {
    match operand {
        Operand::Value(x) | Operand::Integers(x) => moved(node, *x, Reshape { shape }),
        Operand::Known(known) => Ok(vec![known.reshaped(shape)?.into()]),
        Operand::OfImages(OfImages { value, steps }) if steps.len() == 1 => {
            let value = node.seen_as("reshaped", *value, shape)?;
            let steps = steps.clone();
            Ok(vec![Operand::OfImages(OfImages { value, steps })])
        }
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
    }
}

/// The node's result by a primitive that moves elements, also of booleans, for which it goes by way of 0 and 1.
pub(super) fn moved(node: &mut Node<'_, '_>, x: Value, op: impl Into<Op>) -> Outputs {
    if node.dtype(x) != DType::Bool {
        return node.result(op, &[x]);
    }
    let numbers = node.as_numbers(x)?;
    let numbers = node.apply("moved", op, &[numbers])?;
    Ok(vec![node.is_set(numbers)?.into()])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{Int, Ints};
    use crate::source::onnx::testing::{Attribute, Model};

    fn shape_after(op_type: &str, attributes: &[(&str, Attribute)]) -> String {
        let model = Model::of_opset(12).input("x", &[-1, 2, 1, 3]);
        shape(&model.node(op_type, "x", "y", attributes).output("y"))
    }

    fn shape(model: &Model) -> String {
        let foreign = model.read();
        let y = foreign.graph.output("y").unwrap();
        foreign.graph.shape(y).to_string()
    }

    #[test]
    fn shapes_follow_the_attributes() {
        for (op_type, attributes, wanted) in [
            ("Flatten", vec![], "[N, 6]"),
            ("Flatten", vec![("axis", Int(2))], "[N·2, 3]"),
            ("Flatten", vec![("axis", Int(-1))], "[N·2, 3]"),
            ("Flatten", vec![("axis", Int(0))], "[1, N·6]"),
            ("Squeeze", vec![], "[N, 2, 3]"),
            ("Squeeze", vec![("axes", Ints(vec![-2]))], "[N, 2, 3]"),
            (
                "Unsqueeze",
                vec![("axes", Ints(vec![0, -1]))],
                "[1, N, 2, 1, 3, 1]",
            ),
            ("Transpose", vec![], "[3, 1, 2, N]"),
            (
                "Transpose",
                vec![("perm", Ints(vec![0, 2, 3, 1]))],
                "[N, 1, 3, 2]",
            ),
            ("Identity", vec![], "[N, 2, 1, 3]"),
            ("Dropout", vec![], "[N, 2, 1, 3]"),
        ] {
            assert_eq!(shape_after(op_type, &attributes), wanted, "{op_type}");
        }
    }

    #[test]
    fn reshapes_keep_the_elements_of_each_image_together() {
        for (extents, target, wanted) in [
            ([-1, 4, 2, 2], vec![-1, 16], "[N, 16]"),
            ([-1, 4, 2, 2], vec![0, -1], "[N, 16]"),
            ([-1, 4, 2, 2], vec![-1, 2, 2], "[N·4, 2, 2]"),
            ([-1, 4, 2, 2], vec![0, 2, 2, 0, -1], "[N, 2, 2, 2, 2]"),
            // The batch that the file fixes is found again.
            ([3, 4, 2, 2], vec![3, -1], "[N, 16]"),
            ([3, 4, 2, 2], vec![12, 4], "[N·4, 4]"),
            ([1, 4, 2, 2], vec![1, 1, -1], "[1, 1, 16]"),
        ] {
            let model = Model::new().input("x", &extents).ints("target", &target);
            let model = model.node("Reshape", "x target", "y", &[]).output("y");
            assert_eq!(shape(&model), wanted, "{target:?}");
        }
    }

    #[test]
    fn derivatives_match_finite_differences() {
        let model = Model::new()
            .input("x", &[-1, 4, 3])
            .ints("target", &[0, 2, -1]);
        let model = model.node("Reshape", "x target", "split", &[]);
        let model = model.node("Transpose", "split", "y", &[("perm", Ints(vec![2, 0, 1]))]);
        model.output("y").check_derivatives(1);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let reshape = |target: &[i64]| {
            let model = Model::new().input("x", &[-1, 4, 2]).ints("target", target);
            model
                .node("Reshape", "x target", "y", &[])
                .output("y")
                .problem()
        };
        for (target, wanted) in [
            (
                vec![2, -1],
                "cannot reshape [N, 4, 2] to [2, -1]: this mixes the images of a batch",
            ),
            (
                vec![-1, 3],
                "cannot reshape [N, 4, 2] to [-1, 3]: the number of elements differs",
            ),
            (vec![-1, -1], "only one extent can be −1"),
            (vec![0, 0, 0, 0], "there is no axis 3 to keep"),
            (vec![4, 2], "the target has no batch"),
            (vec![-1, -2], "expected a number from 0"),
        ] {
            let problem = reshape(&target);
            assert!(problem.contains(wanted), "{target:?}: {problem}");
        }
        let model =
            Model::new()
                .input("x", &[-1, 4])
                .node("Identity", "x", "y", &[("axis", Int(1))]);
        assert_eq!(
            model.output("y").problem(),
            "node \"y\" (Identity): its attribute \"axis\" is not supported"
        );
    }
}
