//! Integers that depend on an input, such as a label or the place of a maximum: whole numbers that stand in the graph as f32.

use super::known::Known;
use super::node::{Node, Operand};
use super::own_image::{ONLY_INDICES, counts_images};
use super::result::Result;
use crate::graph::Value;
use crate::graph::op::{Binary, Unary};

/// Operators that make integers if all their operands are integers.
const OF_ALL: &[&str] = &[
    "Abs",
    "Add",
    "Clip",
    "Concat",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Sign",
    "Sub",
    "Sum",
];
/// Operators that make integers if their first operand is of integers.
const OF_FIRST: &[&str] = &[
    "CumSum",
    "Dropout",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Identity",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Trilu",
    "Unsqueeze",
];
/// Operators that choose between operands.
const OF_CHOICES: &[&str] = &["Where"];

/// The whole numbers up to which f32 holds each.
pub(super) const LARGEST: i64 = 1 << 24;

impl Node<'_, '_> {
    /// Lets the rule see integers as floats if the operator makes integers of them, and says whether it does.
    pub(super) fn see_integers(&mut self, op_type: &str) -> Result<bool> {
        let positions = match op_type {
            op_type if OF_ALL.contains(&op_type) => 0..self.n_operands(),
            op_type if OF_FIRST.contains(&op_type) => 0..1.min(self.n_operands()),
            op_type if OF_CHOICES.contains(&op_type) => 1..self.n_operands(),
            _ => return Ok(false),
        };
        let is_integers = |operand: &Option<Operand>| match operand {
            Some(Operand::Integers(_)) => true,
            Some(operand @ Operand::Known(known)) => known.is_integer() && !counts_images(operand),
            Some(Operand::Value(_) | Operand::OfImages(_)) => false,
            None => true,
        };
        let operands = &self.operands[positions.clone()];
        let of_graph = |operand: &Option<Operand>| matches!(operand, Some(Operand::Integers(_)));
        let by_graph = matches!(self.operands.first(), Some(Some(Operand::Value(_))));
        let chosen_by_graph = OF_CHOICES.contains(&op_type) && by_graph;
        let some = operands.iter().any(of_graph) || chosen_by_graph;
        if !some || !operands.iter().all(is_integers) {
            return Ok(false);
        }
        for position in positions {
            if let Some(operand) = self.operands[position].clone() {
                let value = self.whole_numbers_of(&operand)?;
                self.operands[position] = Some(Operand::Value(value));
            }
        }
        Ok(true)
    }

    /// Integers as whole numbers in f32.
    pub fn whole_numbers_of(&mut self, operand: &Operand) -> Result<Value> {
        match operand {
            Operand::Integers(value) | Operand::Value(value) => Ok(*value),
            Operand::Known(known) => {
                check_exact(known)?;
                self.floats_of(known)
            }
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
        }
    }

    /// An operand of integers, known or of the graph, as whole numbers in f32.
    pub fn whole_numbers(&mut self, position: usize) -> Result<Value> {
        match self.operand(position)?.clone() {
            operand @ (Operand::Integers(_) | Operand::Known(_)) => self.whole_numbers_of(&operand),
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
            Operand::Value(_) => Err(format!("its input {position} must be integers, got floats")),
        }
    }

    /// Integers of the graph that depend on no input after all, as those that are known.
    pub(super) fn known_if_fixed(&mut self, outputs: Vec<Operand>) -> Result<Vec<Operand>> {
        let mut known = Vec::new();
        for output in outputs {
            known.push(match output {
                Operand::Integers(value) => match self.constant_of(value) {
                    Ok(Some(tensor)) => Known::whole(&tensor)?.into(),
                    // It depends on an input, or is too large to be computed now.
                    _ => Operand::Integers(value),
                },
                output => output,
            });
        }
        Ok(known)
    }

    /// Are there integers of the graph among the operands?
    pub fn has_integers(&self) -> bool {
        let mut operands = self.operands.iter();
        operands.any(|operand| matches!(operand, Some(Operand::Integers(_))))
    }

    /// `x` rounded towards zero.
    pub fn truncated(&mut self, x: Value) -> Result<Value> {
        let size = self.apply("size", Unary::Abs, &[x])?;
        let whole = self.apply("whole", Unary::Floor, &[size])?;
        let sign = self.apply("sign", Unary::Sign, &[x])?;
        self.apply("truncated", Binary::Mul, &[sign, whole])
    }
}

/// Refuses integers that f32 does not hold.
fn check_exact(known: &Known) -> Result<()> {
    let numbers = known.elements.iter().filter_map(|number| number.fixed());
    let mut too_large = numbers.filter(|number| !(-LARGEST..=LARGEST).contains(number));
    match too_large.next() {
        Some(number) => Err(format!(
            "{number} meets integers that depend on the model's input; these are supported up to {LARGEST}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use crate::graph::reference::{bindings, evaluate};
    use crate::graph::{DType, Integer};
    use crate::source::onnx::proto::tensor_proto::DataType;
    use crate::source::onnx::testing::Attribute::Int;
    use crate::source::onnx::testing::{Model, array, int_tensor};
    use crate::source::onnx::{Selection, read};

    /// `x [N, 2]` and a label `c [N]` of that type, a table of three rows, and some integers.
    fn model(kind: DataType) -> Model {
        Model::new()
            .input("x", &[-1, 2])
            .typed_input("c", kind, &[-1])
            .floats("table", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
            .floats("half", &[], &[0.5])
            .initializer(int_tensor("one", &[], &[1]))
            .initializer(int_tensor("zero", &[], &[0]))
            .initializer(int_tensor("large", &[], &[1 << 30]))
            .ints("ranks", &[7, 8, 9])
            .ints("axis", &[1])
    }

    /// `y` of two images, the second one's label being −1.
    fn evaluated(model: &Model) -> ArrayD<f64> {
        let foreign = model.read();
        let mut values = bindings(&foreign.weights);
        values.insert("x".to_string(), array(&[2, 2], &[1.0, 10.0, 100.0, 1000.0]));
        values.insert("c".to_string(), array(&[2], &[1.0, -1.0]));
        evaluate(&foreign.graph, &values).unwrap()["y"].clone()
    }

    #[test]
    fn rows_of_a_table_are_taken_by_a_label() {
        for (kind, wanted) in [
            (DataType::Int64, Integer::I64),
            (DataType::Int32, Integer::I32),
            (DataType::Int8, Integer::I8),
            (DataType::Uint8, Integer::U8),
        ] {
            let model = model(kind)
                .node("Gather", "table c", "row", &[])
                .node("Mul", "x row", "y", &[])
                .output("y");
            assert_eq!(
                evaluated(&model),
                array(&[2, 2], &[3.0, 40.0, 500.0, 6000.0])
            );
            let graph = model.read().graph;
            let label = graph.input_named("c").unwrap();
            let dtype = graph.value_type(label).dtype;
            assert_eq!(dtype, DType::Integer(wanted));
        }
        let columns = model(DataType::Int64)
            .node("Gather", "table c", "column", &[("axis", Int(1))])
            .node("Transpose", "column", "row", &[])
            .node("Unsqueeze", "c axis", "more", &[])
            .node("Gather", "ranks more", "ranked", &[])
            .node("Cast", "ranked", "rank", &[("to", Int(1))])
            .node("Mul", "row rank", "weighed", &[])
            .node("Gather", "weighed zero", "weight", &[("axis", Int(1))])
            .node("Unsqueeze", "weight axis", "factor", &[])
            .node("Mul", "x factor", "y", &[])
            .output("y");
        // Column 1 of a table of two; the last of the ranks.
        let wanted = [16.0, 160.0, 1800.0, 18000.0];
        assert_eq!(evaluated(&columns), array(&[2, 2], &wanted));
    }

    #[test]
    fn labels_are_reckoned_with_and_compared() {
        let model = || {
            let model = model(DataType::Int64).node("Unsqueeze", "c axis", "label", &[]);
            model.node("Add", "label one", "next", &[])
        };
        let cases = [
            model().node("Cast", "next", "number", &[("to", Int(1))]),
            model().node("Mul", "one next", "same", &[]).node(
                "Cast",
                "same",
                "number",
                &[("to", Int(11))],
            ),
            model()
                .node("Equal", "next zero", "is_none", &[])
                .node("Where", "is_none zero next", "same", &[])
                .node("Cast", "same", "number", &[("to", Int(1))]),
            model()
                .node("Greater", "next zero", "is_some", &[])
                .node("Cast", "is_some", "some", &[("to", Int(7))])
                .node("Add", "some some", "twice", &[])
                .node("Cast", "twice", "number", &[("to", Int(1))]),
            model()
                .node("Greater", "next zero", "is_some", &[])
                .node("Where", "is_some one zero", "some", &[])
                .node("Add", "some some", "twice", &[])
                .node("Cast", "twice", "number", &[("to", Int(1))]),
        ];
        for (index, model) in cases.into_iter().enumerate() {
            let model = model.node("Mul", "x number", "y", &[]).output("y");
            let wanted = array(&[2, 2], &[2.0, 20.0, 0.0, 0.0]);
            assert_eq!(evaluated(&model), wanted, "{index}");
        }
        // Floats made of them are divided as floats.
        let model = model()
            .node("Cast", "next", "number", &[("to", Int(1))])
            .node("Mul", "number half", "halved", &[])
            .node("Div", "halved half", "number_again", &[])
            .node("Mul", "x number_again", "y", &[])
            .output("y");
        assert_eq!(evaluated(&model), array(&[2, 2], &[2.0, 20.0, 0.0, 0.0]));
    }

    #[test]
    fn truth_values_may_be_inputs() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .typed_input("c", DataType::Bool, &[-1, 2])
            .floats("zero", &[], &[0.0])
            .node("Where", "c x zero", "y", &[])
            .output("y");
        let foreign = model.read();
        let label = foreign.graph.input_named("c").unwrap();
        assert_eq!(foreign.graph.value_type(label).dtype, DType::Bool);
    }

    #[test]
    fn refuses_what_would_not_be_exact_and_images_of_bytes() {
        let large = model(DataType::Int64)
            .node("Add", "c large", "sum", &[])
            .node("Cast", "sum", "y", &[("to", Int(1))]);
        for (model, input, wanted) in [
            (
                large,
                "x",
                "1073741824 meets integers that depend on the model's input",
            ),
            (
                model(DataType::Int64).node("Cast", "c", "y", &[("to", Int(1))]),
                "c",
                "input \"c\": it holds INT64, expected floats",
            ),
        ] {
            let selection = Selection {
                input: Some(input),
                ..Selection::default()
            };
            let model = model.output("y");
            let problem = read(&model.bytes(), &selection).unwrap_err().to_string();
            assert!(problem.contains(wanted), "{problem}");
        }
    }
}
