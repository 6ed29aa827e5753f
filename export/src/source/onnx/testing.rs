//! What the tests of all families share: small models built node by node, read and evaluated.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Selection, read};
use crate::error::Result;
use crate::graph::op::testing::DERIVATIVE_TOLERANCE;
use crate::graph::op::{Binary, KeepDims, Reduce, ReduceKind, Reshape};
use crate::graph::reference::{bindings, evaluate};
use crate::graph::{Dim, Shape};
use crate::source::Energy;
use crate::source::onnx::proto::attribute_proto::AttributeType;
use crate::source::onnx::proto::tensor_proto::DataType;
use crate::source::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use crate::source::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use crate::transform::gradient::{gradient, hessian_vector_product};

/// An attribute of a node under test.
pub enum Attribute {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Text(&'static str),
    Tensor(Box<TensorProto>),
    Graph(Box<GraphProto>),
}

/// A model under construction. Names of values are given; nodes are called after their first output.
pub struct Model(pub ModelProto);

impl Model {
    /// An empty model of opset 17.
    pub fn new() -> Model {
        Model::of_opset(17)
    }

    pub fn of_opset(version: i64) -> Model {
        Model(ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(version),
            }],
            graph: Some(GraphProto::default()),
            ..ModelProto::default()
        })
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.get_or_insert_default()
    }

    /// A float input; −1 leaves an extent open.
    pub fn input(self, name: &str, extents: &[i64]) -> Model {
        self.typed_input(name, DataType::Float, extents)
    }

    pub fn typed_input(mut self, name: &str, kind: DataType, extents: &[i64]) -> Model {
        self.graph().input.push(value_info(name, kind, extents));
        self
    }

    /// A float initialiser.
    pub fn floats(self, name: &str, sizes: &[i64], values: &[f32]) -> Model {
        self.initializer(float_tensor(name, sizes, values))
    }

    /// An initialiser of 64-bit integers along one axis.
    pub fn ints(self, name: &str, values: &[i64]) -> Model {
        self.initializer(int_tensor(name, &[values.len() as i64], values))
    }

    pub fn initializer(mut self, tensor: TensorProto) -> Model {
        self.graph().initializer.push(tensor);
        self
    }

    /// A node from inputs to outputs, both as names between spaces; `_` leaves one out.
    pub fn node(
        mut self,
        op_type: &str,
        inputs: &str,
        outputs: &str,
        attributes: &[(&str, Attribute)],
    ) -> Model {
        let names = |names: &str| {
            names
                .split_whitespace()
                .map(|name| name.trim_matches('_').to_string())
                .collect()
        };
        self.graph().node.push(NodeProto {
            op_type: Some(op_type.to_string()),
            input: names(inputs),
            output: names(outputs),
            attribute: attributes.iter().map(attribute_proto).collect(),
            ..NodeProto::default()
        });
        self
    }

    /// Names an output.
    pub fn output(mut self, name: &str) -> Model {
        self.graph().output.push(ValueInfoProto {
            name: Some(name.to_string()),
            ..ValueInfoProto::default()
        });
        self
    }

    /// Integers of that shape for each image, `[N, sizes…]`, the same for all of them.
    pub fn for_each_image(self, name: &str, sizes: &[i64], values: &[i64]) -> Model {
        let one = [&[1], sizes].concat();
        self.initializer(int_tensor(&format!("{name}.one"), &one, values))
            .ints(&format!("{name}.sizes"), sizes)
            .ints(&format!("{name}.first"), &[0])
            .node("Shape", "x", &format!("{name}.shape"), &[])
            .node(
                "Gather",
                &format!("{name}.shape {name}.first"),
                &format!("{name}.images"),
                &[],
            )
            .node(
                "Concat",
                &format!("{name}.images {name}.sizes"),
                &format!("{name}.all"),
                &[("axis", Attribute::Int(0))],
            )
            .node("Expand", &format!("{name}.one {name}.all"), name, &[])
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    pub fn try_read(&self) -> Result<Energy> {
        read(&self.bytes(), &Selection::default())
    }

    pub fn read(&self) -> Energy {
        self.try_read().unwrap()
    }

    /// Why it is not read.
    pub fn problem(&self) -> String {
        match self.try_read() {
            Ok(_) => panic!("the model is read"),
            Err(error) => error.to_string(),
        }
    }

    /// Its output at `x`, which is its input.
    pub fn evaluate(&self, x: &ArrayD<f64>) -> ArrayD<f64> {
        let foreign = self.read();
        evaluated(
            &foreign,
            &BTreeMap::from([(foreign.input.clone(), x.clone())]),
        )
    }

    /// Its output at random images, of which there are two.
    pub fn evaluate_random(&self, seed: u64) -> (ArrayD<f64>, ArrayD<f64>) {
        let foreign = self.read();
        let input = foreign.graph.input_named(&foreign.input).unwrap();
        let x = random(&foreign.graph.shape(input).concrete(2), seed);
        let y = evaluated(
            &foreign,
            &BTreeMap::from([(foreign.input.clone(), x.clone())]),
        );
        (x, y)
    }

    /// The derivative of the sum of its output at `x`, which is its input.
    pub fn slope(&self, x: &ArrayD<f64>) -> ArrayD<f64> {
        let foreign = self.read();
        let mut graph = foreign.graph.clone();
        let y = graph.output(&foreign.output).unwrap();
        let axes: Vec<usize> = (1..graph.shape(y).rank()).collect();
        let energy = match axes.is_empty() {
            true => y,
            false => {
                let sum = Reduce {
                    kind: ReduceKind::Sum,
                    axes,
                    keep_dims: KeepDims::No,
                };
                graph.apply("slope.sum", sum, &[y]).unwrap()
            }
        };
        graph.set_output("energy", energy);
        let mut values = bindings(&foreign.weights);
        values.insert(foreign.input.clone(), x.clone());
        let graph = gradient(&graph, "energy", &foreign.input).unwrap();
        evaluate(&graph, &values)
            .unwrap()
            .remove("gradient")
            .unwrap()
    }

    /// Checks first and second derivative of `Σ (y + y²)` of its output y against differences in f64, at random images.
    pub fn check_derivatives(&self, seed: u64) {
        self.try_derivatives(seed).unwrap();
    }

    /// What [`Model::check_derivatives`] finds wrong.
    pub fn try_derivatives(&self, seed: u64) -> Result<(), String> {
        let foreign = self.try_read().map_err(|error| error.to_string())?;
        let mut graph = foreign.graph.clone();
        let y = graph.output(&foreign.output).unwrap();
        let square = graph.apply("check.square", Binary::Mul, &[y, y]).unwrap();
        let both = graph
            .apply("check.both", Binary::Add, &[square, y])
            .unwrap();
        let shape = graph.shape(both).clone();
        let batch = shape.batch_axis();
        assert!(
            batch.is_none_or(|axis| shape.0[axis] == Dim::BATCH),
            "{shape}"
        );
        let axes = (0..shape.rank()).filter(|&axis| Some(axis) != batch);
        let axes: Vec<usize> = axes.collect();
        let sum = Reduce {
            kind: ReduceKind::Sum,
            axes,
            keep_dims: KeepDims::No,
        };
        let energy = match sum.axes.is_empty() {
            true => both,
            false => graph.apply("check.energy", sum, &[both]).unwrap(),
        };
        let shape = Shape::batched(&[]);
        let energy = graph
            .apply("check.scalar", Reshape { shape }, &[energy])
            .unwrap();
        graph.remove_output(&foreign.output);
        graph.set_output("energy", energy);

        let mut values = bindings(&foreign.weights);
        let input = graph.input_named(&foreign.input).unwrap();
        let sizes = graph.shape(input).concrete(2);
        let (x, v) = (random(&sizes, seed), random(&sizes, seed + 1));
        values.insert("v".to_string(), v.clone());
        values.insert(foreign.input.clone(), x.clone());
        let first = gradient(&graph, "energy", &foreign.input).unwrap();
        let second = hessian_vector_product(&graph, "energy", &foreign.input).unwrap();
        let derived = evaluate(&second, &values).unwrap();
        let mut difference = |graph: &crate::Graph, output: &str| {
            let step = 1e-5;
            let mut at = |shift: f64| {
                values.insert(foreign.input.clone(), &x + &(&v * shift));
                evaluate(graph, &values).unwrap()[output].clone()
            };
            (at(step) - at(-step)) / (2.0 * step)
        };
        let slope = difference(&graph, "energy").sum();
        let wanted = (&derived["gradient"] * &v).sum();
        let error = (slope - wanted).abs() / slope.abs().max(1.0);
        if error > DERIVATIVE_TOLERANCE || error.is_nan() {
            return Err(format!("gradient: {wanted} against {slope}"));
        }
        let curvature = difference(&first, "gradient");
        let norm = |array: &ArrayD<f64>| array.mapv(|value| value * value).sum().sqrt();
        let error = norm(&(&derived["hvp"] - &curvature)) / norm(&curvature).max(1.0);
        match error <= DERIVATIVE_TOLERANCE {
            true => Ok(()),
            false => Err(format!("hvp: off by {error}")),
        }
    }
}

fn evaluated(foreign: &Energy, inputs: &BTreeMap<String, ArrayD<f64>>) -> ArrayD<f64> {
    let mut values = bindings(&foreign.weights);
    values.extend(inputs.clone());
    evaluate(&foreign.graph, &values)
        .unwrap()
        .remove(&foreign.output)
        .unwrap()
}

/// Uniform in `[-1, 1]`.
pub fn random(sizes: &[usize], seed: u64) -> ArrayD<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    ArrayD::from_shape_fn(IxDyn(sizes), |_| rng.random_range(-1.0..1.0))
}

/// An array of that shape.
pub fn array(sizes: &[usize], values: &[f64]) -> ArrayD<f64> {
    ArrayD::from_shape_vec(IxDyn(sizes), values.to_vec()).unwrap()
}

pub fn float_tensor(name: &str, sizes: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        data_type: Some(DataType::Float as i32),
        dims: sizes.to_vec(),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub fn int_tensor(name: &str, sizes: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        data_type: Some(DataType::Int64 as i32),
        dims: sizes.to_vec(),
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub fn bool_tensor(name: &str, sizes: &[i64], values: &[bool]) -> TensorProto {
    TensorProto {
        name: Some(name.to_string()),
        data_type: Some(DataType::Bool as i32),
        dims: sizes.to_vec(),
        int32_data: values.iter().map(|&value| i32::from(value)).collect(),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, kind: DataType, extents: &[i64]) -> ValueInfoProto {
    let dimension = |extent: &i64| Dimension {
        value: Some(match extent {
            -1 => dimension::Value::DimParam("open".to_string()),
            extent => dimension::Value::DimValue(*extent),
        }),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(kind as i32),
        shape: Some(TensorShapeProto {
            dim: extents.iter().map(dimension).collect(),
        }),
    };
    ValueInfoProto {
        name: Some(name.to_string()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn attribute_proto((name, attribute): &(&str, Attribute)) -> AttributeProto {
    let mut proto = AttributeProto {
        name: Some(name.to_string()),
        ..AttributeProto::default()
    };
    let kind = match attribute {
        Attribute::Int(value) => {
            proto.i = Some(*value);
            AttributeType::Int
        }
        Attribute::Float(value) => {
            proto.f = Some(*value);
            AttributeType::Float
        }
        Attribute::Ints(values) => {
            proto.ints = values.clone();
            AttributeType::Ints
        }
        Attribute::Floats(values) => {
            proto.floats = values.clone();
            AttributeType::Floats
        }
        Attribute::Text(text) => {
            proto.s = Some(text.as_bytes().to_vec());
            AttributeType::String
        }
        Attribute::Tensor(tensor) => {
            proto.t = Some((**tensor).clone());
            AttributeType::Tensor
        }
        Attribute::Graph(graph) => {
            proto.g = Some((**graph).clone());
            AttributeType::Graph
        }
    };
    proto.r#type = Some(kind as i32);
    proto
}
