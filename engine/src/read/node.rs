//! A node of the file, as rules ask for its parts.

use std::collections::HashMap;

use super::Named;
use crate::graph::{Graph, Value};
use crate::onnx;
use crate::shape::Shape;

/// Largest stride, pad, dilation or window: larger ones come from files that were made to do harm.
const LARGEST_SIZE: usize = 1 << 16;

/// A node with what was read before it.
pub(super) struct NodeReader<'a> {
    pub node: &'a onnx::Node,
    pub opset: i64,
    pub graph: &'a Graph,
    pub names: &'a HashMap<String, Named>,
}

impl NodeReader<'_> {
    /// Its type; empty for one of another domain than ONNX's.
    pub fn operator(&self) -> &str {
        match self.node.domain.as_str() {
            "" | "ai.onnx" => &self.node.operator,
            _ => "",
        }
    }

    /// Refuses attributes that the rule does not know, and more inputs than it reads.
    pub fn expect(&self, attributes: &[&str], most_inputs: usize) -> Result<(), String> {
        let mut given = self.node.attributes.iter().map(|attribute| &attribute.name);
        if let Some(name) = given.find(|name| !attributes.contains(&name.as_str())) {
            return Err(format!("the attribute `{name}` is not supported"));
        }
        match self.node.inputs.len() <= most_inputs {
            true => Ok(()),
            false => Err(format!(
                "expected at most {most_inputs} inputs, got {}",
                self.node.inputs.len()
            )),
        }
    }

    fn attribute(&self, name: &str) -> Option<&onnx::Attribute> {
        self.node.attributes.iter().find(|of| of.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |of| of.int)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |of| of.float)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|of| of.ints.as_slice())
    }

    /// A text that has to be one of those that the rule knows.
    pub fn expect_text(&self, name: &str, default: &str, known: &[&str]) -> Result<(), String> {
        let text = self
            .attribute(name)
            .map_or(default.as_bytes(), |of| &of.text);
        match known.iter().any(|known| known.as_bytes() == text) {
            true => Ok(()),
            false => Err(format!(
                "expected {name} {}, got `{}`",
                known.join(" or "),
                String::from_utf8_lossy(text)
            )),
        }
    }

    /// As many sizes as there are defaults.
    pub fn sizes<const COUNT: usize>(
        &self,
        name: &str,
        default: [usize; COUNT],
    ) -> Result<[usize; COUNT], String> {
        let Some(ints) = self.ints(name) else {
            return Ok(default);
        };
        let size = |&int: &i64| {
            usize::try_from(int)
                .ok()
                .filter(|&size| size <= LARGEST_SIZE)
        };
        let sizes: Option<Vec<usize>> = ints.iter().map(size).collect();
        let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
        sizes.ok_or_else(|| format!("expected {COUNT} sizes as {name}, got {ints:?}"))
    }

    fn named(&self, place: usize) -> Result<Option<&Named>, String> {
        match self.node.inputs.get(place).map(String::as_str) {
            None | Some("") => Ok(None),
            Some(name) => match self.names.get(name) {
                Some(named) => Ok(Some(named)),
                None => Err(format!("nothing before it makes its input `{name}`")),
            },
        }
    }

    /// Whether it has an input at this place.
    pub fn has(&self, place: usize) -> bool {
        self.node
            .inputs
            .get(place)
            .is_some_and(|name| !name.is_empty())
    }

    pub fn operand(&self, place: usize) -> Result<Value, String> {
        match self.named(place)? {
            Some(Named::Value(value)) => Ok(*value),
            Some(Named::Ints { .. }) => Err(format!("expected f32 as input {place}, got i64")),
            None => Err(format!("it has no input {place}")),
        }
    }

    pub fn shape(&self, value: Value) -> &Shape {
        self.graph.shape(value)
    }

    /// A list of integers that the file states.
    pub fn int_list(&self, place: usize) -> Result<Option<&[i64]>, String> {
        match self.named(place)? {
            Some(Named::Ints { elements, .. }) => Ok(Some(elements)),
            None => Ok(None),
            Some(Named::Value(_)) => Err(format!("expected constant integers as input {place}")),
        }
    }

    /// Numbers that the file states.
    pub fn float_list(&self, place: usize) -> Result<Option<&[f32]>, String> {
        match self.named(place)? {
            None => Ok(None),
            Some(Named::Value(value)) => match self.graph.constant(*value) {
                Some(constant) => Ok(Some(constant)),
                None => Err(format!("expected constant numbers as input {place}")),
            },
            Some(Named::Ints { .. }) => Err(format!("expected f32 as input {place}, got i64")),
        }
    }

    /// A single integer that the file states.
    pub fn single_int(&self, place: usize) -> Result<i64, String> {
        match self.named(place)? {
            Some(Named::Ints { elements, rank: 0 }) => elements
                .first()
                .copied()
                .ok_or_else(|| "it is empty".to_string()),
            _ => Err(format!(
                "expected a single constant integer as input {place}"
            )),
        }
    }

    /// An axis of that many, counted from the end if it is negative.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, String> {
        let place = if axis < 0 { axis + rank as i64 } else { axis };
        usize::try_from(place)
            .ok()
            .filter(|&place| place < rank)
            .ok_or_else(|| format!("expected an axis of {rank}, got {axis}"))
    }
}
