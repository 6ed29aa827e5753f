//! ONNX files to graphs.

mod elements;
mod layout;
mod node;
mod sums;
mod windows;

use std::collections::HashMap;

use bytes::Bytes;
use prost::Message;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, Source, Value};
use crate::onnx;
use crate::shape::{Batch, Shape, product};
use node::NodeReader;

/// What a rule makes of a node: the operator, its operands and the shape of its result.
pub(super) type Ruled = (Op, Vec<Value>, Shape);

/// What a name of the file stands for.
#[derive(Clone)]
enum Named {
    Value(Value),
    /// Constant integers, a list or a single one: sizes, axes and places.
    Ints {
        elements: Vec<i64>,
        rank: usize,
    },
}

/// The graph of an ONNX file.
pub(crate) fn graph(file: Bytes) -> Result<Graph> {
    let model = onnx::Model::decode(file).map_err(|e| Error::NotOnnx(e.to_string()))?;
    let opset = opset(&model.opsets)?;
    let file = model
        .graph
        .ok_or_else(|| Error::NotOnnx("it holds no graph".to_string()))?;
    let mut reader = Reader {
        opset,
        graph: Graph::default(),
        names: HashMap::new(),
    };
    for tensor in &file.initializers {
        reader.initializer(tensor)?;
    }
    for input in &file.inputs {
        if !reader.names.contains_key(&input.name) {
            reader.input(input)?;
        }
    }
    for node in &file.nodes {
        reader.node(node)?;
    }
    for output in &file.outputs {
        match reader.names.get(&output.name) {
            Some(Named::Value(value)) => reader.graph.outputs.push((output.name.clone(), *value)),
            _ => {
                return Err(Error::NotOnnx(format!(
                    "nothing makes its output `{}`",
                    output.name
                )));
            }
        }
    }
    Ok(reader.graph)
}

fn opset(opsets: &[onnx::Opset]) -> Result<i64> {
    let of_onnx = opsets
        .iter()
        .find(|opset| opset.domain.is_empty() || opset.domain == "ai.onnx");
    match of_onnx.map(|opset| opset.version) {
        Some(version @ 13..=25) => Ok(version),
        other => Err(Error::NotOnnx(format!(
            "expected operators of an opset from 13 to 25, got {other:?}"
        ))),
    }
}

struct Reader {
    opset: i64,
    graph: Graph,
    names: HashMap<String, Named>,
}

impl Reader {
    fn add(&mut self, name: &str, shape: Shape, source: Source) -> Value {
        self.graph.nodes.push(Node {
            name: name.to_string(),
            shape,
            source,
        });
        self.graph.nodes.len() - 1
    }

    fn define(&mut self, name: &str, named: Named) -> Result<()> {
        match self.names.insert(name.to_string(), named) {
            None => Ok(()),
            Some(_) => Err(Error::NotOnnx(format!("two values have the name `{name}`"))),
        }
    }

    fn initializer(&mut self, tensor: &onnx::Tensor) -> Result<()> {
        let problem =
            |problem: String| Error::NotOnnx(format!("tensor `{}`: {problem}", tensor.name));
        let extents = extents(&tensor.sizes).map_err(problem)?;
        if tensor.location == onnx::Tensor::EXTERNAL {
            return Err(problem("its elements lie in another file".to_string()));
        }
        let expect = |got: usize| match product(&extents) == got {
            true => Ok(()),
            false => Err(problem(format!(
                "expected elements of {extents:?}, got {got}"
            ))),
        };
        let named = match tensor.element_type {
            onnx::Tensor::FLOAT => {
                let elements = match tensor.raw.is_empty() {
                    true => tensor.floats.clone(),
                    false => numbers(&tensor.raw, f32::from_le_bytes).map_err(problem)?,
                };
                expect(elements.len())?;
                let shape = Shape::shared(extents);
                Named::Value(self.add(&tensor.name, shape, Source::Constant(elements)))
            }
            onnx::Tensor::INT64 => {
                let elements = match tensor.raw.is_empty() {
                    true => tensor.ints.clone(),
                    false => numbers(&tensor.raw, i64::from_le_bytes).map_err(problem)?,
                };
                expect(elements.len())?;
                let rank = extents.len();
                Named::Ints { elements, rank }
            }
            other => {
                return Err(Error::Unsupported {
                    operator: "Constant".to_string(),
                    node: tensor.name.clone(),
                    problem: format!("expected elements of type 1 (f32) or 7 (i64), got {other}"),
                });
            }
        };
        self.define(&tensor.name, named)
    }

    /// One symbol stands for N; a shape without one is the same for all images.
    fn input(&mut self, info: &onnx::ValueInfo) -> Result<()> {
        let problem = |problem: &str| Error::NotOnnx(format!("input `{}`: {problem}", info.name));
        let tensor = info.value_type.as_ref().and_then(|of| of.tensor.as_ref());
        let tensor = tensor.ok_or_else(|| problem("expected a tensor"))?;
        if tensor.element_type != onnx::Tensor::FLOAT {
            return Err(problem("expected elements of type 1 (f32)"));
        }
        let dimensions = tensor.shape.as_ref().map(|shape| &shape.dimensions);
        let dimensions = dimensions.ok_or_else(|| problem("expected a shape"))?;
        let mut shape = Shape::shared(Vec::new());
        for (axis, dimension) in dimensions.iter().enumerate() {
            match &dimension.extent {
                Some(onnx::Extent::Size(size)) => match usize::try_from(*size) {
                    Ok(size) if size > 0 => shape.extents.push(size),
                    _ => return Err(problem("expected positive extents")),
                },
                _ if shape.batch.is_none() => {
                    let before = product(&shape.extents);
                    shape.batch = Some(Batch { axis, before });
                    shape.extents.push(1);
                }
                _ => return Err(problem("more than one of its extents is not fixed")),
            }
        }
        if shape.n_elements() > MOST_ELEMENTS {
            return Err(problem("it is too large"));
        }
        let value = self.add(&info.name, shape, Source::Input);
        self.graph.inputs.push(value);
        self.define(&info.name, Named::Value(value))
    }

    fn node(&mut self, node: &onnx::Node) -> Result<()> {
        // A node without a name is known by what it makes.
        let mut names = std::iter::once(&node.name).chain(&node.outputs);
        let name = names.find(|name| !name.is_empty());
        let unsupported = |problem: String| Error::Unsupported {
            operator: node.operator.clone(),
            node: name.cloned().unwrap_or_default(),
            problem,
        };
        let [output] = node.outputs.as_slice() else {
            return Err(unsupported(format!(
                "expected one output, got {}",
                node.outputs.len()
            )));
        };
        let reader = NodeReader {
            node,
            opset: self.opset,
            graph: &self.graph,
            names: &self.names,
        };
        if let Some(value) = elements::alias(&reader).map_err(unsupported)? {
            return self.define(output, Named::Value(value));
        }
        if reader.operator() == "Gather" {
            let (slice, reshaped) = layout::gather(&reader).map_err(unsupported)?;
            let (op, operands, shape) = slice;
            let part = self.add(output, shape, Source::Node { op, operands });
            let source = Source::Node {
                op: Op::Reshape,
                operands: vec![part],
            };
            let value = self.add(output, reshaped, source);
            return self.define(output, Named::Value(value));
        }
        let (op, operands, shape) = rule(&reader).map_err(unsupported)?;
        if !(1..=MOST_ELEMENTS).contains(&shape.n_elements()) {
            return Err(unsupported(format!(
                "its result has the extents {:?}",
                shape.extents
            )));
        }
        let value = self.add(output, shape, Source::Node { op, operands });
        self.define(output, Named::Value(value))
    }
}

/// Elements of one image's part of a value: more come from files that were made to do harm.
const MOST_ELEMENTS: usize = 1 << 30;

fn rule(node: &NodeReader<'_>) -> Result<Ruled, String> {
    match node.operator() {
        "Conv" => windows::conv(node),
        "ConvTranspose" => windows::conv_transpose(node),
        "AveragePool" => windows::average_pool(node),
        "MaxPool" => windows::max_pool(node),
        "Resize" => windows::resize(node),
        "Reshape" => layout::reshape(node),
        "Flatten" => layout::flatten(node),
        "Unsqueeze" => layout::unsqueeze(node),
        "Squeeze" => layout::squeeze(node),
        "Transpose" => layout::transpose(node),
        "Slice" => layout::slice(node),
        "Expand" => layout::expand(node),
        "Pad" => layout::pad(node),
        "Concat" => layout::concat(node),
        "ReduceSum" | "ReduceMean" | "ReduceMax" => sums::reduce(node),
        "Softmax" => sums::softmax(node),
        "MatMul" => sums::product(node),
        _ => elements::map(node),
    }
}

fn extents(sizes: &[i64]) -> Result<Vec<usize>, String> {
    let size = |&size: &i64| {
        let fits = usize::try_from(size)
            .ok()
            .filter(|&size| size <= MOST_ELEMENTS);
        fits.ok_or_else(|| format!("an extent is {size}"))
    };
    sizes.iter().map(size).collect()
}

fn numbers<T, const BYTES: usize>(
    raw: &[u8],
    from: fn([u8; BYTES]) -> T,
) -> Result<Vec<T>, String> {
    let (chunks, rest) = raw.as_chunks::<BYTES>();
    match rest.is_empty() {
        true => Ok(chunks.iter().map(|&bytes| from(bytes)).collect()),
        false => Err("its bytes are cut off".to_string()),
    }
}
