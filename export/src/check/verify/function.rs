//! Outputs of models as functions in f64.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayD;

use crate::error::{Choice, Error, Result};
use crate::graph::reference::evaluate;
use crate::graph::{Graph, Shape};
use crate::transform::gradient::gradient;

/// What a model is evaluated at: its inputs by name, for a batch of one image.
pub type Point = BTreeMap<String, ArrayD<f64>>;

/// Weights by name, shared by the functions of a model.
pub type Weights = Arc<BTreeMap<String, ArrayD<f64>>>;

/// One output of a model as a function of its inputs, evaluated by the interpreter that the tests trust.
#[derive(Clone, Debug)]
pub struct Function {
    graph: Graph,
    weights: Weights,
    input: String,
    output: String,
}

impl Function {
    /// That output of a graph. `input` is the one that differences move.
    ///
    /// # Errors
    /// The graph has no such input or output.
    pub fn new(graph: &Graph, weights: &Weights, input: &str, output: &str) -> Result<Function> {
        Ok(Function {
            graph: graph.part(output, input)?,
            weights: Arc::clone(weights),
            input: input.to_string(),
            output: output.to_string(),
        })
    }

    /// Its derivative by that input, as a function.
    ///
    /// # Errors
    /// It is not one number per image, or a node has no derivative.
    pub fn derivative(&self) -> Result<Function> {
        let graph = gradient(&self.graph, &self.output, &self.input)?;
        Function::new(&graph, &self.weights, &self.input, "gradient")
    }

    /// Name of the input that differences move.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// Its graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Refuses a value of another shape than that of the input, as no derivative by it has.
    ///
    /// # Errors
    /// It has another shape.
    pub fn check_is_like_input(&self) -> Result<()> {
        let shape = self.shape()?;
        let wanted = self.graph.shape(self.graph.input_named(&self.input)?);
        match shape.concrete(1) == wanted.concrete(1) {
            true => Ok(()),
            false => Err(Error::Onnx(format!(
                "output {:?} is {shape}, expected the shape of input {:?}, {wanted}",
                self.output, self.input
            ))),
        }
    }

    /// Refuses a value of another number of elements per image.
    ///
    /// # Errors
    /// It has another number.
    pub fn check_count(&self, count: usize) -> Result<()> {
        let shape = self.shape()?;
        match shape.elements_per_image() == count {
            true => Ok(()),
            false => Err(Error::Onnx(format!(
                "output {:?} is {shape}, expected {count} numbers per image",
                self.output
            ))),
        }
    }

    fn shape(&self) -> Result<&Shape> {
        Ok(self.graph.shape(self.graph.output(&self.output)?))
    }

    /// Its value at a point.
    ///
    /// # Errors
    /// The point lacks an input or has one of another shape; or the value is not finite.
    pub fn at(&self, point: &Point) -> Result<ArrayD<f64>> {
        let mut values = (*self.weights).clone();
        values.extend(point.clone());
        let mut outputs = evaluate(&self.graph, &values)?;
        let value = outputs.remove(&self.output).unwrap_or_default();
        match value.iter().find(|element| !element.is_finite()) {
            Some(element) => Err(Error::choice(
                Choice::Images,
                format!(
                    "output {:?} holds {element} in f64, expected finite values; take other images",
                    self.output
                ),
            )),
            None => Ok(value),
        }
    }

    /// Its value where the input is moved by `shift`.
    ///
    /// # Errors
    /// As [`Function::at`].
    pub fn moved(&self, point: &Point, shift: &ArrayD<f64>) -> Result<ArrayD<f64>> {
        let mut point = point.clone();
        if let Some(x) = point.get_mut(&self.input) {
            *x += shift;
        }
        self.at(&point)
    }
}
