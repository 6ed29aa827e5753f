//! ONNX models of others as graphs: every operator becomes a composition of primitives.
//!
//! Each family of operators has a file with one rule per operator and a table of them; `RULES` lists the tables. A rule sees its
//! `Node` (`node.rs`) and gives the outputs.

mod activation;
mod arithmetic;
mod batch;
mod branch;
mod compose;
mod constant;
mod constants;
mod convolution;
mod declared;
mod einsum;
mod finite;
mod function;
mod gather;
mod integers;
mod join;
mod known;
mod linear;
mod logic;
mod loss;
mod model;
mod node;
mod normalization;
mod own_image;
mod pad;
mod pick;
mod places;
mod pooling;
#[cfg(test)]
mod property;
mod quantized;
mod reader;
mod reduction;
mod reshape;
mod resize;
mod scatter;
mod shape;
mod shrink;
mod softmax;
mod space;
mod stretch;
mod tensor;
#[cfg(test)]
pub(crate) mod testing;
mod tuples;
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) use einsum::multiplications as einsum_multiplications;
pub(super) use function::inlined;
pub(super) use model::node_name;

use declared::{check_declared, check_is_float};
use known::Kind;
use model::{Model, rule};
use node::{Operand, Rule};
use own_image::OfImages;
use reader::{Reader, Selected};

use super::proto::ValueInfoProto;
use super::{Batch, Documentation};
use crate::checkpoint::sha256;
use crate::contract::{HASH_KEY, METADATA_KEY};
use crate::error::Error;
use crate::file::folder_of;
use crate::graph::{DType, Graph, Shape};
use crate::reduction::Reduction;
use crate::tensor::Tensors;

/// The rules of all families.
const RULES: &[&[(&str, Rule)]] = &[
    activation::RULES,
    arithmetic::RULES,
    branch::RULES,
    constant::RULES,
    convolution::RULES,
    einsum::RULES,
    gather::RULES,
    join::RULES,
    linear::RULES,
    logic::RULES,
    loss::RULES,
    normalization::RULES,
    pad::RULES,
    places::RULES,
    pooling::RULES,
    quantized::RULES,
    reduction::RULES,
    resize::RULES,
    scatter::RULES,
    shape::RULES,
    shrink::RULES,
    softmax::RULES,
    space::RULES,
    stretch::RULES,
    tuples::RULES,
];

/// What is read of a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// The output to read, or a value within, with all that it needs; the only output or `energy` where it is not given.
    pub output: Option<&'a str>,
    /// The input whose axis 0 is the batch and that `image` describes; the only one of floats or `x` where it is not given.
    pub input: Option<&'a str>,
    /// Extents of that input behind the batch, for models that leave them open.
    pub image: Option<&'a [usize]>,
    /// The batch for which files are written; the model's own where it is not given.
    pub batch: Option<Batch>,
}

/// A model that was read.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its graph, with one output.
    pub graph: Graph,
    /// Its weights by the names of their initialisers, as f32.
    pub weights: Tensors,
    /// The batch for which files are written. The graph leaves it open unless it is 1: the only image is mixed with no other.
    pub batch: Batch,
    /// Name of the input that was selected.
    pub input: String,
    /// Name of the output that was selected.
    pub output: String,
    /// Version of the operators of its default domain.
    pub opset: i64,
    /// Name and version of the program that wrote it.
    pub producer: String,
    /// What it says for people.
    pub documentation: Documentation,
    /// Names of its outputs that were not selected.
    pub other_outputs: Vec<String>,
    /// Names of its inputs that nothing of the selected output needs, which the graph has not.
    pub unused_inputs: Vec<String>,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// The files that it consists of: its own and those of weights, needed or not.
    pub files: Vec<PathBuf>,
    /// How its output became an energy, if it was made one.
    pub reduction: Option<Reduction>,
}

/// Reads a model from a file; weights that stand in files of their own are looked for in its folder and below.
///
/// # Errors
/// As [`read`]; or the file cannot be read.
pub fn read_file(path: &Path, selection: &Selection<'_>) -> Result<Foreign, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let (model, sha256) = (Model::decode(&bytes)?, sha256(&bytes));
    drop(bytes);
    let folder = Some(folder_of(path));
    let mut files = vec![path.to_path_buf()];
    files.extend(model.external_files(folder));
    let foreign = read_model(model, selection, sha256, folder)?;
    Ok(Foreign { files, ..foreign })
}

/// Reads a model from the bytes of its file.
///
/// # Errors
/// It is not a whole ONNX model; it has no such input or output; it needs an operator, an opset or a type that is not supported
/// (all such operators are named); its shapes contradict each other or are open; or a value mixes the images of a batch.
pub fn read(bytes: &[u8], selection: &Selection<'_>) -> Result<Foreign, Error> {
    read_model(Model::decode(bytes)?, selection, sha256(bytes), None)
}

fn read_model(
    mut model: Model,
    selection: &Selection<'_>,
    sha256: String,
    folder: Option<&Path>,
) -> Result<Foreign, Error> {
    let output = model.output(selection.output)?;
    let initializers = std::mem::take(&mut model.graph.initializer);
    let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().collect();
    let input = selected_input(&inputs, selection.input)?;
    let mut reader = Reader::new(model.opset, folder);
    let selected = Selected {
        name: input,
        image: selection.image,
        batch: selection.batch,
    };
    let values = reader.values(&model, initializers, &[&output], &selected)?;
    let Some(Operand::Value(value)) = values.get(&output) else {
        return Err(Error::Onnx(format!(
            "output {output:?} is not computed as floats from the model's input"
        )));
    };
    check_declared(&model, &output, reader.graph.shape(*value))?;
    reader.graph.set_output(&output, *value);
    let header = &model.header;
    Ok(Foreign {
        weights: reader.weights,
        batch: selection.batch.unwrap_or(reader.batch),
        input: input.to_string(),
        opset: model.opset,
        producer: [header.producer_name(), header.producer_version()]
            .join(" ")
            .trim()
            .to_string(),
        documentation: documentation(&model, &inputs),
        other_outputs: other_outputs(&model, &output),
        unused_inputs: unused_inputs(&inputs, &reader.graph),
        sha256,
        files: Vec::new(),
        reduction: None,
        graph: reader.graph,
        output,
    })
}

/// Shape and type of each value that the outputs of a model need, by the model's names; integers are of no [`DType`].
///
/// # Errors
/// As [`read`], for all outputs at once; of several inputs the first has the batch on axis 0.
pub(super) fn shapes(
    bytes: &[u8],
    folder: Option<&Path>,
) -> Result<BTreeMap<String, (Shape, Option<DType>)>, Error> {
    let mut model = Model::decode(bytes)?;
    let initializers = std::mem::take(&mut model.graph.initializer);
    let inputs: Vec<&ValueInfoProto> = model.graph.input.iter().collect();
    let input = match (selected_input(&inputs, None), inputs.first()) {
        (Err(_), Some(first)) => first.name(),
        (selected, _) => selected?,
    };
    let outputs = model.graph.output.iter().map(ValueInfoProto::name);
    let outputs: Vec<&str> = outputs.collect();
    let mut reader = Reader::new(model.opset, folder);
    let selected = Selected {
        name: input,
        image: None,
        batch: None,
    };
    let values = reader.values(&model, initializers, &outputs, &selected)?;
    let shape = |operand: &Operand| match operand {
        Operand::Value(value) => {
            let value_type = reader.graph.value_type(*value).clone();
            (value_type.shape, Some(value_type.dtype))
        }
        Operand::Integers(value) | Operand::OfImages(OfImages { value, .. }) => {
            (reader.graph.shape(*value).clone(), None)
        }
        Operand::Known(known) => {
            let dtype = (known.kind == Kind::Truth).then_some(DType::Bool);
            (known.shape.clone(), dtype)
        }
    };
    let values = values.iter();
    Ok(values
        .map(|(name, operand)| (name.clone(), shape(operand)))
        .collect())
}

/// Is there a rule for an operator of the default domain?
pub(super) fn is_read(op_type: &str) -> bool {
    rule(op_type).is_some()
}

/// All but a contract, which would be that of another file.
fn documentation(model: &Model, inputs: &[&ValueInfoProto]) -> Documentation {
    let (header, graph) = (&model.header, &model.graph);
    let texts = [header.doc_string(), graph.doc_string()].map(str::trim);
    let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    let documented = inputs.iter().filter(|input| !input.doc_string().is_empty());
    let entries = header.metadata_props.iter();
    Documentation {
        name: graph.name().to_string(),
        text: texts.join("\n"),
        inputs: documented
            .map(|input| (input.name().to_string(), input.doc_string().to_string()))
            .collect(),
        entries: entries
            .filter(|entry| ![METADATA_KEY, HASH_KEY].contains(&entry.key()))
            .map(|entry| (entry.key().to_string(), entry.value().to_string()))
            .collect(),
    }
}

fn other_outputs(model: &Model, selected: &str) -> Vec<String> {
    let names = model.graph.output.iter().map(ValueInfoProto::name);
    names
        .filter(|name| *name != selected)
        .map(str::to_string)
        .collect()
}

fn unused_inputs(inputs: &[&ValueInfoProto], graph: &Graph) -> Vec<String> {
    let names = inputs.iter().map(|input| input.name());
    let unused = names.filter(|name| graph.input_named(name).is_err());
    unused.map(str::to_string).collect()
}

fn selected_input<'a>(
    inputs: &[&'a ValueInfoProto],
    asked: Option<&str>,
) -> Result<&'a str, Error> {
    let names: Vec<&str> = inputs.iter().map(|input| input.name()).collect();
    let of_floats = inputs.iter().filter(|input| check_is_float(input).is_ok());
    let of_floats: Vec<&str> = of_floats.map(|input| input.name()).collect();
    let wanted = asked.or(match (names.as_slice(), of_floats.as_slice()) {
        ([only], _) | (_, [only]) => Some(only),
        (names, _) => names.contains(&"x").then_some("x"),
    });
    let Some(wanted) = wanted else {
        return Err(Error::Onnx(format!(
            "the model has the inputs {names:?}; say with respect to which one to differentiate with --input"
        )));
    };
    names
        .iter()
        .find(|name| **name == wanted)
        .copied()
        .ok_or_else(|| Error::UnknownValue {
            kind: "input",
            name: wanted.to_string(),
            existing: names.iter().map(|name| name.to_string()).collect(),
        })
}

#[cfg(test)]
mod tests {
    use super::testing::Attribute::{Float, Int};
    use super::testing::{Model, array, float_tensor, int_tensor};
    use super::*;
    use crate::graph::ValueType;
    use crate::onnx::proto::tensor_proto::{DataLocation, DataType};
    use crate::onnx::proto::type_proto;

    fn negated(model: Model) -> Model {
        model.node("Neg", "x", "y", &[]).output("y")
    }

    fn shape_of_input(model: &Model, selection: &Selection<'_>) -> Result<String, String> {
        let foreign = read(&model.bytes(), selection).map_err(|error| error.to_string())?;
        let input = foreign.graph.input_named(&foreign.input).unwrap();
        Ok(foreign.graph.shape(input).to_string())
    }

    #[test]
    fn several_of_the_selected_input_have_the_batch_behind_their_number() {
        for (batch, extents, wanted) in [
            (-1, [5, -1, 3], "[5, N, 3]"),
            (4, [5, 4, 3], "[5, N, 3]"),
            (4, [4, 4, 3], "[4, N, 3]"),
            (4, [4, 2, 3], "[N, 2, 3]"),
            (-1, [-1, 2, 3], "[N, 2, 3]"),
        ] {
            let axis = i64::from(wanted.starts_with("[N"));
            let foreign = Model::new()
                .input("x", &[batch, 3])
                .input("more", &extents)
                .ints("axes", &[axis])
                .node("ReduceSum", "more axes", "sum", &[("keepdims", Int(0))])
                .node("Add", "x sum", "y", &[])
                .output("y")
                .read();
            let more = foreign.graph.input_named("more").unwrap();
            assert_eq!(foreign.graph.shape(more).to_string(), wanted, "{extents:?}");
        }
    }

    #[test]
    fn axis_0_is_the_batch() {
        let [any, one, four] = [Batch::Symbolic, Batch::Fixed(1), Batch::Fixed(4)];
        for (extents, asked, batch, wanted) in [
            ([-1, 3], None, any, "[N, 3]"),
            ([0, 3], None, any, "[N, 3]"),
            ([-1, 3], Some(four), four, "[N, 3]"),
            ([4, 3], None, four, "[N, 3]"),
            ([4, 3], Some(any), any, "[N, 3]"),
            ([4, 3], Some(one), one, "[N, 3]"),
            // The only image: its axis is one like any other.
            ([1, 3], None, one, "[1, 3]"),
            ([1, 3], Some(one), one, "[1, 3]"),
            ([-1, 3], Some(one), one, "[1, 3]"),
            ([1, 3], Some(any), any, "[N, 3]"),
            ([1, 3], Some(four), four, "[N, 3]"),
        ] {
            let model = negated(Model::new().input("x", &extents));
            let selection = Selection {
                batch: asked,
                ..Selection::default()
            };
            let shape = shape_of_input(&model, &selection).unwrap();
            assert_eq!(shape, wanted, "{extents:?}");
            let foreign = read(&model.bytes(), &selection).unwrap();
            assert_eq!(foreign.batch, batch, "{extents:?}");
        }
    }

    /// The sum over all axes is an energy of one image; of four it mixes them.
    #[test]
    fn only_one_image_may_be_summed_with_itself() {
        let [one, four] = [1, 4].map(|size| Some(Batch::Fixed(size)));
        for (extent, asked, is_read) in [
            (1, None, true),
            (-1, one, true),
            (-1, None, false),
            (-1, four, false),
            (1, Some(Batch::Symbolic), false),
            (4, None, false),
            (4, one, false),
        ] {
            let model = Model::new()
                .input("x", &[extent, 3])
                .node("ReduceSum", "x", "y", &[("keepdims", Int(0))])
                .output("y");
            let selection = Selection {
                batch: asked,
                ..Selection::default()
            };
            match read(&model.bytes(), &selection) {
                Ok(_) => assert!(is_read, "{extent} {asked:?}"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        !is_read && error.contains("or fix the batch to 1"),
                        "{error}"
                    );
                }
            }
        }
    }

    #[test]
    fn open_extents_are_stated_by_the_user() {
        let open = || negated(Model::new().input("x", &[-1, 3, -1, -1]));
        let mut bare = negated(Model::new().input("x", &[-1]));
        if let Some(kind) = &mut bare.graph().input[0].r#type
            && let Some(type_proto::Value::TensorType(tensor)) = &mut kind.value
        {
            tensor.shape = None;
        }
        let stated = |image: &'static [usize]| Selection {
            image: Some(image),
            ..Selection::default()
        };
        for (model, selection, wanted) in [
            (open(), stated(&[3, 8, 9]), Ok("[N, 3, 8, 9]")),
            (
                open(),
                stated(&[2, 8, 9]),
                Err("its shape [?, 3, ?, ?] is not that of --shape, [2, 8, 9]"),
            ),
            (
                open(),
                stated(&[3, 8]),
                Err("is not that of --shape, [3, 8]"),
            ),
            (
                open(),
                Selection::default(),
                Err("its shape [?, 3, ?, ?] is open behind the batch; fix it with --shape"),
            ),
            (
                bare,
                Selection::default(),
                Err("its shape is open; state it with --shape"),
            ),
        ] {
            match (shape_of_input(&model, &selection), wanted) {
                (Ok(shape), Ok(wanted)) => assert_eq!(shape, wanted),
                (Err(problem), Err(wanted)) => assert!(problem.contains(wanted), "{problem}"),
                (got, wanted) => panic!("{got:?}, expected {wanted:?}"),
            }
        }
    }

    #[test]
    fn further_inputs_have_the_batch_where_the_selected_one_has_it() {
        let model = Model::new()
            .input("x", &[4, 3])
            .input("label", &[4, 3])
            .input("scale", &[3])
            .input("offset", &[])
            .node("Mul", "x scale", "scaled", &[])
            .node("Add", "scaled label", "sum", &[])
            .node("Add", "sum offset", "y", &[])
            .output("y");
        let graph = model.read().graph;
        let shapes: Vec<String> = graph
            .inputs()
            .map(|input| graph.shape(input).to_string())
            .collect();
        assert_eq!(shapes, ["[N, 3]", "[N, 3]", "[3]", "[]"]);
    }

    #[test]
    fn inputs_that_nothing_needs_are_left_out() {
        let model = Model::new()
            .typed_input("text", DataType::String, &[-1])
            .input("images", &[-1, 2])
            .input("more", &[-1, -1])
            .typed_input("label", DataType::Int64, &[-1])
            .node("Neg", "more", "z", &[])
            .node("Neg", "images", "y", &[])
            .output("y");
        let selection = Selection {
            input: Some("images"),
            ..Selection::default()
        };
        let foreign = read(&model.bytes(), &selection).unwrap();
        assert_eq!(foreign.unused_inputs, ["text", "more", "label"]);
        assert_eq!(foreign.graph.inputs().count(), 1);
    }

    /// Nobody differentiates by a label: of several inputs the only one of floats is meant.
    #[test]
    fn labels_need_no_name_of_the_images() {
        let model = Model::new()
            .typed_input("label", DataType::Int64, &[-1, 1])
            .input("images", &[-1, 2])
            .node("Cast", "label", "number", &[("to", Int(1))])
            .node("Mul", "images number", "y", &[])
            .output("y");
        assert_eq!(model.read().input, "images");
    }

    #[test]
    fn floats_of_every_width_are_read_as_f32() {
        for kind in [
            DataType::Float,
            DataType::Double,
            DataType::Float16,
            DataType::Bfloat16,
        ] {
            let model = negated(Model::new().typed_input("x", kind, &[-1, 3]));
            let Foreign { graph, .. } = model.read();
            for value in graph.values() {
                let wanted = ValueType::f32(Shape::batched(&[3]));
                assert_eq!(*graph.value_type(value), wanted, "{kind:?}");
            }
            let x = array(&[1, 3], &[1.5, -2.0, 0.25]);
            assert_eq!(model.evaluate(&x), -x, "{kind:?}");
        }
    }

    #[test]
    fn refuses_inputs_and_outputs_that_do_not_fit() {
        let two = |inputs: [&str; 2]| {
            let model = Model::new()
                .input(inputs[0], &[-1, 2])
                .input(inputs[1], &[-1, 2]);
            model.node("Add", &inputs.join(" "), "y", &[]).output("y")
        };
        let mut declared = negated(Model::new().input("x", &[-1, 3]));
        declared.graph().output[0].r#type =
            negated(Model::new().input("x", &[-1, 4])).graph().input[0]
                .r#type
                .clone();
        for (model, wanted) in [
            (
                two(["a", "b"]),
                "the model has the inputs [\"a\", \"b\"]; say with respect to which one to differentiate with --input",
            ),
            (
                negated(Model::new().typed_input("x", DataType::Uint8, &[-1, 3])),
                "input \"x\": it holds UINT8, expected floats; export the model without the cast",
            ),
            (
                negated(Model::new().typed_input("x", DataType::Int64, &[-1, 3])),
                "it holds INT64",
            ),
            (
                negated(Model::new().input("x", &[3])),
                "it is [3], expected a batch on axis 0",
            ),
            (
                negated(Model::new().input("x", &[-1, 1 << 40])),
                "expected a number from 0",
            ),
            (
                negated(Model::new().input("x", &[-1, 1 << 30, 1 << 30])),
                "is too large",
            ),
            (
                negated(Model::new().input("x", &[1 << 30, 3])),
                "expected a batch from 1",
            ),
            (
                declared,
                "output \"y\" is declared as [?, 4], but its nodes make it [N, 3]",
            ),
            (
                Model::new()
                    .input("x", &[-1, 3])
                    .node("Shape", "x", "y", &[])
                    .output("y"),
                "is not computed as floats",
            ),
            (
                Model::new().input("x", &[-1, 3]).output("y"),
                "is not computed as floats",
            ),
            (
                negated(Model::new().input("x", &[-1, 3])).output("z"),
                "the model has the outputs [\"y\", \"z\"]; say which one to take with --output",
            ),
        ] {
            let problem = model.problem();
            assert!(problem.contains(wanted), "{problem}");
        }
        let model = two(["x", "b"]);
        for (selection, wanted) in [
            (
                Selection {
                    input: Some("c"),
                    ..Selection::default()
                },
                "the graph has no input \"c\"; it has [\"x\", \"b\"]",
            ),
            (
                Selection {
                    output: Some("c"),
                    ..Selection::default()
                },
                "the graph has no output \"c\"; it has [\"y\"]",
            ),
        ] {
            let problem = read(&model.bytes(), &selection).unwrap_err().to_string();
            assert_eq!(problem, wanted);
        }
    }

    #[test]
    fn a_value_within_is_read_with_what_it_needs() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .node("Exp", "x", "features", &[])
            .node("Poem", "features", "y", &[])
            .output("y");
        let select = |output| Selection {
            output: Some(output),
            ..Selection::default()
        };
        let foreign = read(&model.bytes(), &select("features")).unwrap();
        assert_eq!(foreign.output, "features");
        assert_eq!(foreign.other_outputs, ["y"]);
        let output = foreign.graph.output("features").unwrap();
        assert_eq!(foreign.graph.shape(output), &Shape::batched(&[2]));
        let problem = read(&model.bytes(), &select("z")).unwrap_err().to_string();
        assert!(
            problem.ends_with("it has [\"y\", \"features\"]"),
            "{problem}"
        );
    }

    #[test]
    fn initialisers_keep_their_names_and_what_nothing_needs_is_not_looked_at() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .floats("layer.bias", &[2], &[1.0, 2.0])
            .floats("unused", &[1], &[f32::NAN])
            .node("Add", "x layer.bias", "y", &[])
            .node(
                "Poem",
                "x",
                "z",
                &[("lines", Int(4)), ("metre", Float(0.5))],
            )
            .output("y");
        let foreign = model.read();
        assert_eq!(foreign.weights.keys().collect::<Vec<_>>(), ["layer.bias"]);
    }

    #[test]
    fn an_initialiser_that_is_an_input_too_is_no_input() {
        let model = Model::new()
            .input("x", &[-1, 2])
            .input("bias", &[2])
            .floats("bias", &[2], &[1.0, 2.0]);
        let foreign = model.node("Add", "x bias", "y", &[]).output("y").read();
        assert_eq!(foreign.graph.inputs().count(), 1);
    }

    #[test]
    fn documentation_is_kept() {
        let mut model = negated(Model::new().input("x", &[-1, 2]));
        model.0.producer_name = Some("somebody".to_string());
        model.0.producer_version = Some("1.2".to_string());
        model.0.doc_string = Some("An energy.".to_string());
        model.graph().name = Some("main".to_string());
        model.graph().input[0].doc_string = Some("Pictures.".to_string());
        model.0.metadata_props = [("author", "them"), (METADATA_KEY, "{}")]
            .map(|(key, value)| super::super::proto::StringStringEntryProto {
                key: Some(key.to_string()),
                value: Some(value.to_string()),
            })
            .to_vec();
        let foreign = model.read();
        assert_eq!(foreign.producer, "somebody 1.2");
        let documentation = foreign.documentation;
        assert_eq!(documentation.name, "main");
        assert_eq!(documentation.text, "An energy.");
        assert_eq!(documentation.inputs["x"], "Pictures.");
        assert_eq!(
            documentation.entries,
            [("author".to_string(), "them".to_string())]
        );
    }

    #[test]
    fn weights_that_one_file_cannot_hold_are_not_read() {
        let mut tensor = float_tensor("w", &[600_000_000], &[]);
        tensor.data_location = Some(DataLocation::External as i32);
        let model = Model::new().input("x", &[-1, 1]).initializer(tensor);
        let problem = model.node("Add", "x w", "y", &[]).output("y").problem();
        assert!(problem.contains("take 2.4 GB as f32"), "{problem}");
    }

    #[test]
    fn a_weight_that_is_wrong_is_named() {
        let model =
            Model::new()
                .input("x", &[-1, 2])
                .initializer(float_tensor("layer.bias", &[3], &[1.0]));
        let problem = model
            .node("Add", "x layer.bias", "y", &[])
            .output("y")
            .problem();
        assert_eq!(
            problem,
            "weight \"layer.bias\": its shape [3] takes 3 elements, got 1"
        );
        let model = Model::new()
            .input("x", &[-1, 2])
            .initializer(int_tensor("i", &[-2], &[1]));
        let problem = model.node("Add", "x i", "y", &[]).output("y").problem();
        assert!(
            problem.contains("weight \"i\": its shape [-2] makes no sense"),
            "{problem}"
        );
    }
}
