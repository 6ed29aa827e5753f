//! A network with its weights: what every way to a file begins with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ebm_common::contract::{ImageShape, Kind};

use super::checkpoint::{Header, read_best_weights, read_header, resolve};
use crate::error::{Error, Result};
use crate::graph::op::Reshape;
use crate::graph::tensor::Tensors;
use crate::graph::weights::check_weights;
use crate::graph::{Batch, Dim, Graph, Shape, Value};

/// A network with its weights, from wherever: a checkpoint, a description or an ONNX model. Usually it is an energy; classifiers and
/// generators go the same way to their files.
#[derive(Clone, Debug)]
pub struct Energy {
    /// The graph over the weights.
    pub graph: Graph,
    /// The weights by name, as f32.
    pub weights: Tensors,
    /// The input by which an energy is differentiated. The batch is its axis 0.
    pub input: String,
    /// The output: the energy of each image, or what a classifier or generator gives.
    pub output: String,
    /// The batch for which files are written. The graph leaves it open unless it is 1: the only image is mixed with no other.
    pub batch: Batch,
    /// What the output is.
    pub kind: Kind,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where an energy comes from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A network of this crate, with what its checkpoint says of it.
    Network(Box<Header>),
    /// An ONNX model.
    Model(Box<OnnxModel>),
}

/// What is known of an ONNX model beside its graph.
#[derive(Clone, Debug, Default)]
pub struct OnnxModel {
    /// Version of the operators of its default domain.
    pub opset: i64,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// What it says for people.
    pub documentation: Documentation,
    /// Its contract, if it has one: of the file, not of what is made of it.
    pub contract: Option<serde_json::Value>,
    /// Names of its outputs that were not selected.
    pub other_outputs: Vec<String>,
    /// Names of its inputs that no selected output needs; the graph does not have them.
    pub unused_inputs: Vec<String>,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// The files that it consists of: its own and those of weights, needed or not.
    pub files: Vec<PathBuf>,
    /// How its output became an energy, if it was made one.
    pub reduction: Option<String>,
}

/// What a file says for people.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documentation {
    /// Name of its graph.
    pub name: String,
    /// What it is.
    pub text: String,
    /// What its inputs are, by name.
    pub inputs: BTreeMap<String, String>,
    /// Further entries, by key.
    pub entries: Vec<(String, String)>,
}

impl Energy {
    /// A network of this crate, with what its checkpoint says of it; [`Header::new`] is that of one that nobody has learned.
    ///
    /// # Errors
    /// The weights are not those of the network, or not finite.
    pub fn of_network(header: &Header, weights: &Tensors) -> Result<Energy> {
        let graph = header.network.graph()?;
        check_weights(&graph, weights)?;
        let kind = header.network.kind();
        let (input, output) = match kind {
            Kind::Classifier => ("x", "logits"),
            Kind::Generator => ("z", "image"),
            _ => ("x", "energy"),
        };
        Ok(Energy {
            graph,
            weights: weights.clone(),
            input: input.to_string(),
            output: output.to_string(),
            batch: Batch::Symbolic,
            kind,
            origin: Origin::Network(Box::new(header.clone())),
        })
    }

    /// A checkpoint, or the latest one of a run folder, with the moving average of its weights if it has one.
    ///
    /// # Errors
    /// It is not a checkpoint, or a damaged one.
    pub fn of_checkpoint(path: &Path) -> Result<Energy> {
        let folder = resolve(path)?;
        let header = read_header(&folder)?;
        Energy::of_network(&header, &read_best_weights(&folder, &header)?)
    }

    /// What a checkpoint says of it.
    pub fn header(&self) -> Option<&Header> {
        match &self.origin {
            Origin::Network(header) => Some(header),
            Origin::Model(_) => None,
        }
    }

    /// What is known of the ONNX model that it was.
    pub fn model(&self) -> Option<&OnnxModel> {
        match &self.origin {
            Origin::Network(_) => None,
            Origin::Model(model) => Some(model),
        }
    }

    /// Extents of the images that it takes or generates; `None` if the input is not `[N, C, H, W]`.
    pub fn image(&self) -> Option<ImageShape> {
        if let Some(header) = self.header() {
            return Some(header.network.image());
        }
        let input = self.graph.input_named(&self.input).ok()?;
        match self.graph.shape(input).0[..] {
            [_, Dim::Size(channels), Dim::Size(height), Dim::Size(width)] => Some(ImageShape {
                channels,
                height,
                width,
            }),
            _ => None,
        }
    }

    /// Classes that a classifier or a generator distinguishes.
    pub fn n_classes(&self) -> Option<usize> {
        match (&self.origin, self.kind) {
            (Origin::Network(header), _) => header.network.n_classes(),
            (Origin::Model(_), Kind::Classifier) => {
                let logits = self.graph.output(&self.output).ok()?;
                match self.graph.shape(logits).0.last()? {
                    Dim::Size(n_classes) => Some(*n_classes),
                    Dim::Batch { .. } => None,
                }
            }
            _ => None,
        }
    }

    /// Names of all inputs of the graph.
    pub fn inputs(&self) -> Vec<&str> {
        let inputs = self.graph.inputs();
        inputs
            .map(|input| self.graph.node(input).name.as_str())
            .collect()
    }

    /// The graph with its output as `energy [N]`, of `[N]`, `[N, 1]`, `[N, 1, 1, 1]` and the like. Of the only image it is `[1]`, also of `[]`.
    ///
    /// # Errors
    /// The output is not one number per image.
    pub fn energy_graph(&self) -> Result<Graph> {
        let mut graph = self.graph.clone();
        let output = graph.output(&self.output)?;
        let source = graph.input_named(&self.input)?;
        if !flows(&graph, source)[output.0] {
            return Err(Error::Onnx(format!(
                "output {:?} does not depend on input {:?}",
                self.output, self.input
            )));
        }
        let images = graph.shape(source).0.first().copied();
        let energy = one_axis(&mut graph, output, images.as_ref(), &self.output)?;
        graph.remove_output(&self.output);
        graph.set_output("energy", energy);
        Ok(graph)
    }
}

/// Per value: does it change with `source` in another way than by booleans, which have no derivative?
pub(crate) fn flows(graph: &Graph, source: Value) -> Vec<bool> {
    let mut flows = Vec::new();
    for value in graph.values() {
        let through = |inputs: &[Value]| inputs.iter().any(|input| flows[input.0]);
        let is_reached = match graph.operator(value) {
            Some((_, inputs)) => graph.value_type(value).dtype.is_float() && through(inputs),
            None => value == source,
        };
        flows.push(is_reached);
    }
    flows
}

/// `[N]` of `[N]`, `[N, 1]`, `[N, 1, 1, 1]` and the like; `[1]` of the single number of the only image.
fn one_axis(graph: &mut Graph, output: Value, images: Option<&Dim>, name: &str) -> Result<Value> {
    let shape = graph.shape(output);
    if shape.rank() == 1 && shape.0.first() == images {
        return Ok(output);
    }
    let per_image = match images {
        Some(Dim::Size(_)) => Some(Dim::Size(shape.elements_per_image())),
        _ => shape.around_batch(),
    };
    if per_image.as_ref() != images {
        return Err(Error::NotScalarPerImage {
            output: name.to_string(),
            shape: shape.to_string(),
        });
    }
    let shape = Shape::batched(&[]);
    graph.apply(&format!("{name}.scalar"), Reshape { shape }, &[output])
}
