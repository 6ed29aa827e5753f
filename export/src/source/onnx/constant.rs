//! Constants, values of a given shape, and casts.
//!
//! ONNX operators: `Cast`, `CastLike`, `Constant`, `ConstantOfShape`, `Range`, `Size`; see [the
//! specification](https://onnx.ai/onnx/operators/).

use super::known::{Kind, Known, Number, check_count};
use super::node::{Node, Operand, Outputs, Rule};
use super::numbers::size_of;
use super::own_image::ONLY_INDICES;
use super::result::Result;
use super::shape::shape_of_operand;
use crate::graph::op::{Compare, Unary};
use crate::graph::tensor::Tensor;
use crate::graph::{DType, Dim, Shape, Value};
use crate::source::onnx::proto::tensor_proto::DataType;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("Range", range),
    ("Size", size),
    ("Cast", cast),
    ("CastLike", cast_like),
];

/// Its value stands in one of its attributes.
fn constant(node: &mut Node<'_, '_>) -> Outputs {
    if let Some(operand) = node.tensor_operand("value")? {
        return Ok(vec![operand]);
    }
    if let Some(int) = node.int("value_int")? {
        return Ok(vec![Known::scalar(Number::Fixed(int)).into()]);
    }
    if let Some(ints) = node.ints("value_ints")? {
        return Ok(vec![
            Known::list(ints.into_iter().map(Number::Fixed)).into(),
        ]);
    }
    let tensor = match (node.float("value_float")?, node.floats("value_floats")?) {
        (Some(float), _) => Tensor::scalar(float),
        (None, Some(floats)) => Tensor::new(&[floats.len()], floats),
        (None, None) => {
            return Err("expected a value of floats, integers or booleans".to_string());
        }
    };
    Ok(vec![node.named_constant(tensor).into()])
}

/// A tensor of one value everywhere, of a shape that may have the batch.
fn constant_of_shape(node: &mut Node<'_, '_>) -> Outputs {
    let extents = node.known(0)?.numbers()?;
    let filler = match node.tensor_operand("value")? {
        Some(filler) => filler,
        None => node.scalar("value", 0.0).into(),
    };
    if shape_of_operand(node, &filler).elements_per_image() != 1 {
        return Err("expected a value of one element".to_string());
    }
    match filler {
        Operand::Known(known) => {
            let number = known
                .elements
                .iter()
                .next()
                .copied()
                .ok_or("it has no value")?;
            let filler = Known {
                kind: known.kind,
                ..Known::scalar(number)
            };
            Ok(vec![filler.stretched(&target_shape(&extents)?)?.into()])
        }
        Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        Operand::Value(filler) | Operand::Integers(filler) => {
            let shape = target_shape(&extents)?;
            node.stretched(filler, &shape)
        }
    }
}

/// A shape of extents that are numbers or multiples of the batch.
pub(super) fn target_shape(extents: &[Number]) -> Result<Shape> {
    let dims = extents.iter().map(|extent| match extent {
        Number::Fixed(size) => size_of(*size).map(Dim::Size),
        Number::Batch(factor) => size_of(*factor).map(|inner| Dim::Batch { outer: 1, inner }),
        Number::Image { .. } => Err(format!("expected an extent, got {extent}")),
    });
    dims.collect::<Result<_>>().map(Shape)
}

/// `start, start + delta, …` before `limit`.
fn range(node: &mut Node<'_, '_>) -> Outputs {
    if let Some(known) = node.all_known() {
        if is_over_batch(&known)? {
            return Ok(vec![Known::images().into()]);
        }
        let numbers: Vec<i64> = known
            .iter()
            .map(|known| known.fixed_numbers())
            .collect::<Result<Vec<Vec<i64>>>>()?
            .concat();
        let [start, limit, delta] = three(&numbers)?;
        if delta == 0 {
            return Err("its step must not be 0".to_string());
        }
        // Between the ends of 64 bits lie more numbers than 64 bits count.
        let (start, delta) = (i128::from(start), i128::from(delta));
        let distance = i128::from(limit) - start;
        let is_cut = distance % delta != 0 && (distance < 0) == (delta < 0);
        let count = count_of((distance / delta + i128::from(is_cut)) as f64)?;
        let numbers = (0..count as i128).map(|index| Number::Fixed((start + index * delta) as i64));
        return Ok(vec![Known::list(numbers).into()]);
    }
    let mut numbers = Vec::new();
    for position in 0..3 {
        numbers.extend_from_slice(node.constant(position)?.data());
    }
    let [start, limit, delta] = three(&numbers)?.map(f64::from);
    let count = count_of(((limit - start) / delta).ceil())?;
    let numbers: Vec<f32> = (0..count)
        .map(|index| (start + index as f64 * delta) as f32)
        .collect();
    let tensor = Tensor::new(&[count], numbers);
    Ok(vec![node.named_constant(tensor).into()])
}

/// Does it count the images, from 0 to N by 1?
fn is_over_batch(known: &[Known]) -> Result<bool> {
    let numbers = known.iter().map(Known::numbers);
    let numbers = numbers.collect::<Result<Vec<_>>>()?.concat();
    let [zero, one] = [0, 1].map(Number::Fixed);
    Ok(numbers == [zero, Number::Batch(1), one])
}

fn three<T: Copy>(numbers: &[T]) -> Result<[T; 3]> {
    numbers
        .try_into()
        .map_err(|_| "expected one number each for start, limit and step".to_string())
}

fn count_of(count: f64) -> Result<usize> {
    if !count.is_finite() {
        return Err("its step must not be 0".to_string());
    }
    let count = count.max(0.0) as usize;
    check_count(&[count])?;
    Ok(count)
}

/// The number of elements.
fn size(node: &mut Node<'_, '_>) -> Outputs {
    let operand = node.operand(0)?.clone();
    let shape = shape_of_operand(node, &operand);
    let mut product = Number::Fixed(1);
    for &dim in &shape.0 {
        product = product
            .times(dim.into())
            .ok_or("it has too many elements")?;
    }
    Ok(vec![Known::scalar(product).into()])
}

/// What a cast gives. All floats are f32 in the graph.
#[derive(Clone, Copy)]
enum Target {
    Floats,
    Integers,
    Truths,
}

fn cast(node: &mut Node<'_, '_>) -> Outputs {
    for attribute in ["saturate", "round_mode"] {
        node.ignore(attribute);
    }
    let number = node.int("to")?.ok_or("its attribute \"to\" is missing")?;
    let kind = i32::try_from(number)
        .ok()
        .and_then(|number| DataType::try_from(number).ok());
    let target = match kind {
        Some(DataType::Float | DataType::Double | DataType::Float16 | DataType::Bfloat16) => {
            Target::Floats
        }
        Some(DataType::Bool) => Target::Truths,
        Some(
            DataType::Int64
            | DataType::Int32
            | DataType::Int16
            | DataType::Int8
            | DataType::Uint64
            | DataType::Uint32
            | DataType::Uint16
            | DataType::Uint8,
        ) => Target::Integers,
        Some(kind) => return Err(format!("a cast to {} is not supported", kind.as_str_name())),
        None => return Err(format!("a cast to type {number} is not supported")),
    };
    converted(node, target)
}

/// A cast to the type of the second operand.
fn cast_like(node: &mut Node<'_, '_>) -> Outputs {
    node.ignore("saturate");
    let target = match node.operand(1)? {
        Operand::Value(value) => match node.dtype(*value) {
            DType::Bool => Target::Truths,
            _ => Target::Floats,
        },
        Operand::Integers(_) | Operand::OfImages(_) => Target::Integers,
        Operand::Known(known) => match known.kind {
            Kind::Integer => Target::Integers,
            Kind::Truth => Target::Truths,
        },
    };
    converted(node, target)
}

fn converted(node: &mut Node<'_, '_>, target: Target) -> Outputs {
    match node.operand(0)?.clone() {
        Operand::Known(known) => known_converted(node, &known, target),
        Operand::Value(value) if node.dtype(value) == DType::Bool => match target {
            Target::Floats => Ok(vec![node.as_numbers(value)?.into()]),
            Target::Truths => Ok(vec![value.into()]),
            Target::Integers => Ok(vec![Operand::Integers(node.as_numbers(value)?)]),
        },
        operand @ Operand::OfImages(_) => match target {
            Target::Integers => Ok(vec![operand]),
            _ => Err(ONLY_INDICES.to_string()),
        },
        Operand::Integers(value) if matches!(target, Target::Integers) => {
            Ok(vec![Operand::Integers(value)])
        }
        Operand::Value(value) | Operand::Integers(value) => match target {
            Target::Floats => Ok(vec![value.into()]),
            Target::Truths => {
                let size = node.apply("size", Unary::Abs, &[value])?;
                let zero = node.scalar("zero", 0.0);
                node.result(Compare::Greater, &[size, zero])
            }
            Target::Integers => truncated(node, value),
        },
    }
}

fn known_converted(node: &mut Node<'_, '_>, known: &Known, target: Target) -> Outputs {
    let known = match target {
        Target::Floats => return Ok(vec![node.floats_of(known)?.into()]),
        Target::Integers => Known {
            kind: Kind::Integer,
            ..known.clone()
        },
        Target::Truths => known.mapped(Kind::Truth, |number| {
            Some(Number::Fixed(i64::from(number != Number::Fixed(0))))
        })?,
    };
    Ok(vec![known.into()])
}

/// Floats as integers, rounded towards zero: known ones if they depend on no input.
fn truncated(node: &mut Node<'_, '_>, value: Value) -> Outputs {
    let Some(tensor) = node.constant_of(value)? else {
        return Ok(vec![Operand::Integers(node.truncated(value)?)]);
    };
    Ok(vec![Known::whole(&tensor)?.into()])
}

#[cfg(test)]
mod tests {
    use crate::source::onnx::testing::Attribute::{self, Float, Floats, Int, Ints, Tensor};
    use crate::source::onnx::testing::{Model, array, bool_tensor, float_tensor, int_tensor};

    /// `x + c`, c made by nodes.
    fn added(made: Model) -> Model {
        made.node("Add", "x c", "y", &[]).output("y")
    }

    fn x() -> Model {
        Model::new().input("x", &[-1, 3])
    }

    fn check(model: &Model, wanted: [f64; 3]) {
        assert_eq!(
            model.evaluate(&array(&[1, 3], &[0.0; 3])),
            array(&[1, 3], &wanted)
        );
    }

    #[test]
    fn constants_stand_in_attributes() {
        let values = [1.0, 2.0, 3.0];
        let tensor = Box::new(float_tensor("", &[3], &[1.0, 2.0, 3.0]));
        check(
            &added(x().node("Constant", "", "c", &[("value", Tensor(tensor))])),
            values,
        );
        check(
            &added(x().node(
                "Constant",
                "",
                "c",
                &[("value_floats", Floats(vec![1.0, 2.0, 3.0]))],
            )),
            values,
        );
        check(
            &added(x().node("Constant", "", "c", &[("value_float", Float(2.0))])),
            [2.0; 3],
        );
    }

    #[test]
    fn integers_become_floats_and_back() {
        let to = |kind| vec![("to", Int(kind))];
        let model = x().node("Constant", "", "i", &[("value_ints", Ints(vec![1, 2, 3]))]);
        check(
            &added(model.node("Cast", "i", "c", &to(1))),
            [1.0, 2.0, 3.0],
        );
        let model = x()
            .floats("f", &[3], &[-1.7, 2.5, 0.0])
            .node("Cast", "f", "i", &to(7));
        check(
            &added(model.node("CastLike", "i x", "c", &[])),
            [-1.0, 2.0, 0.0],
        );
        let model = x()
            .floats("f", &[3], &[-1.7, 2.5, 0.0])
            .node("Cast", "f", "b", &to(9));
        check(
            &added(model.node("Cast", "b", "c", &to(1))),
            [1.0, 1.0, 0.0],
        );
        let truths = bool_tensor("b", &[3], &[true, false, true]);
        check(
            &added(x().initializer(truths).node("Cast", "b", "c", &to(11))),
            [1.0, 0.0, 1.0],
        );
    }

    #[test]
    fn ranges_and_fillings() {
        let integers = |model: Model, inputs: &str| {
            let model = model.node("Range", inputs, "i", &[]);
            model.node("Cast", "i", "c", &[("to", Int(1))])
        };
        let scalar = |name: &str, value: i64| int_tensor(name, &[], &[value]);
        let model = x()
            .initializer(scalar("a", 7))
            .initializer(scalar("b", 0))
            .initializer(scalar("s", -3));
        check(&added(integers(model, "a b s")), [7.0, 4.0, 1.0]);
        let model = x()
            .floats("a", &[], &[0.5])
            .floats("b", &[], &[2.0])
            .floats("s", &[], &[0.5]);
        check(
            &added(model.node("Range", "a b s", "c", &[])),
            [0.5, 1.0, 1.5],
        );
        let filler: Vec<(&str, Attribute)> =
            vec![("value", Tensor(Box::new(float_tensor("", &[1], &[4.0]))))];
        check(
            &added(
                x().ints("shape", &[3])
                    .node("ConstantOfShape", "shape", "c", &filler),
            ),
            [4.0; 3],
        );
        // Of the shape of x, which has the batch.
        let model =
            x().node("Shape", "x", "shape", &[])
                .node("ConstantOfShape", "shape", "c", &filler);
        check(&added(model), [4.0; 3]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let scalar = |name: &str, value: i64| int_tensor(name, &[], &[value]);
        let cases = [
            (
                x().node("Cast", "x", "c", &[("to", Int(7))]),
                "depend on the model's input",
            ),
            (
                x().node("Cast", "x", "c", &[("to", Int(8))]),
                "a cast to STRING",
            ),
            (
                x().node("Cast", "x", "c", &[("to", Int(99))]),
                "a cast to type 99",
            ),
            (
                x().node("Size", "x", "n", &[])
                    .node("Cast", "n", "c", &[("to", Int(1))]),
                "mixes its images",
            ),
            (x().node("Constant", "", "c", &[]), "expected a value"),
            (
                x().ints("shape", &[1 << 40])
                    .node("ConstantOfShape", "shape", "c", &[]),
                "expected a number from 0",
            ),
            (
                x().initializer(scalar("a", 0))
                    .initializer(scalar("b", i64::MAX))
                    .initializer(scalar("s", 1))
                    .node("Range", "a b s", "c", &[]),
                "too large",
            ),
        ];
        for (model, wanted) in cases {
            let problem = added(model).problem();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
