//! Integers that depend on an input, such as a label or the place of a maximum: whole numbers that stand in the graph as f32.

use super::known::Known;
use super::node::{Node, Operand};
use super::own_image::{ONLY_INDICES, counts_images};
use crate::graph::{DType, Value};
use crate::op::{Binary, Unary};

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
    pub(super) fn see_integers(&mut self, op_type: &str) -> Result<bool, String> {
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
    pub fn whole_numbers_of(&mut self, operand: &Operand) -> Result<Value, String> {
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
    pub fn whole_numbers(&mut self, position: usize) -> Result<Value, String> {
        match self.operand(position)?.clone() {
            operand @ (Operand::Integers(_) | Operand::Known(_)) => self.whole_numbers_of(&operand),
            Operand::OfImages(_) => Err(ONLY_INDICES.to_string()),
            Operand::Value(_) => Err(format!("its input {position} must be integers, got floats")),
        }
    }

    /// Integers of the graph that depend on no input after all, as those that are known.
    pub(super) fn known_if_fixed(&mut self, outputs: Vec<Operand>) -> Result<Vec<Operand>, String> {
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
    pub fn truncated(&mut self, x: Value) -> Result<Value, String> {
        let size = self.apply("size", Unary::Abs, &[x])?;
        let whole = self.apply("whole", Unary::Floor, &[size])?;
        let sign = self.apply("sign", Unary::Sign, &[x])?;
        self.apply("truncated", Binary::Mul, &[sign, whole])
    }
}

/// What a rule makes of integers that it saw as floats is integers.
pub(super) fn as_integers(node: &Node<'_, '_>, outputs: Vec<Operand>) -> Vec<Operand> {
    let of_output = |output| match output {
        Operand::Value(value) if node.dtype(value) != DType::Bool => Operand::Integers(value),
        output => output,
    };
    outputs.into_iter().map(of_output).collect()
}

/// Refuses integers that f32 does not hold.
fn check_exact(known: &Known) -> Result<(), String> {
    let numbers = known.elements.iter().filter_map(|number| number.fixed());
    let mut too_large = numbers.filter(|number| !(-LARGEST..=LARGEST).contains(number));
    match too_large.next() {
        Some(number) => Err(format!(
            "{number} meets integers that depend on the model's input; these are supported up to {LARGEST}"
        )),
        None => Ok(()),
    }
}
