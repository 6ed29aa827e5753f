//! A whole ONNX file that is not bytes yet: its elements are those of the graph that it was made of, and go from there straight to
//! where the file is written. What comes out is what prost would make of the same messages.

use std::io::{self, Write};
use std::path::Path;

use ebm_common::contract::CONTRACT_KEY;
use half::{bf16, f16};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::graph::DType;
use crate::graph::tensor::Tensor;
use crate::source::Documentation;
use crate::source::onnx::HASH_KEY;
use crate::source::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto, TensorProto};
use ebm_common::staged::Staged;

/// Readers of protocol buffers count bytes with 31 bits.
const MAX_BYTES: u64 = i32::MAX as u64;

/// An ONNX file, ready to be written. It shares the elements of its tensors with the graph that it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Everything but the initialisers.
    frame: ModelProto,
    initializers: Vec<Initializer>,
}

/// A fixed tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Initializer {
    /// Everything but the shared elements.
    pub(super) message: TensorProto,
    /// Elements that no message holds, and the type in which they are written.
    pub(super) elements: Option<(Tensor, DType)>,
}

impl Model {
    /// # Errors
    /// The file would be too large for its readers.
    pub(super) fn new(frame: ModelProto, initializers: Vec<Initializer>) -> Result<Model> {
        let model = Model {
            frame,
            initializers,
        };
        match model.size_bytes() {
            0..=MAX_BYTES => Ok(model),
            size => Err(Error::Onnx(format!(
                "an ONNX file of {:.2} GB cannot be read, expected at most {:.2} GB; take a narrower network, or a low precision, \
                 which halves the file",
                size as f64 / 1e9,
                MAX_BYTES as f64 / 1e9
            ))),
        }
    }

    /// The same file with that documentation in place of its own.
    ///
    /// # Errors
    /// The file would be too large for its readers.
    pub fn documented(mut self, documentation: &Documentation) -> Result<Model> {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let graph = self.frame.graph.get_or_insert_default();
        if let Some(name) = some(&documentation.name) {
            graph.name = Some(name);
        }
        for input in &mut graph.input {
            input.doc_string = documentation.inputs.get(input.name()).and_then(some);
        }
        self.frame.doc_string = some(&documentation.text);
        let entries = documentation.entries.iter();
        let entry = |(key, value): &(String, String)| StringStringEntryProto {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        self.frame.metadata_props.extend(entries.map(entry));
        Model::new(self.frame, self.initializers)
    }

    /// Length of the file.
    pub fn size_bytes(&self) -> u64 {
        let [before, after] = model_parts(&self.frame);
        let graph = self.graph_bytes();
        (before.encoded_len() + after.encoded_len()) as u64 + field_bytes(graph)
    }

    /// Writes the file: the same graph and contract give the same bytes.
    ///
    /// # Errors
    /// The system refused.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let [before, after] = model_parts(&self.frame);
        out.write_all(&before.encode_to_vec())?;
        write_field(out, tag::GRAPH, self.graph_bytes())?;
        let mut hashed = Hashed {
            out: &mut *out,
            hash: Sha256::new(),
        };
        self.write_graph_to(&mut hashed)?;
        let hash = hashed.hash;
        out.write_all(&with_hash(after, hash).encode_to_vec())
    }

    fn write_graph_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let [before, after] = graph_parts(&self.frame);
        out.write_all(&before.encode_to_vec())?;
        for initializer in &self.initializers {
            write_field(out, tag::INITIALIZER, initializer.size_bytes())?;
            initializer.write_to(out)?;
        }
        out.write_all(&after.encode_to_vec())
    }

    /// Writes the file under that name, whole or not at all; a file of that name is replaced.
    ///
    /// # Errors
    /// The system refused.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let save = || {
            let mut staged = Staged::default();
            staged.write(path.as_ref(), |file| self.write_to(file))?;
            staged.publish()
        };
        save().map_err(Error::Io)
    }

    /// The file as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size_bytes() as usize);
        self.write_to(&mut bytes)
            .expect("writing to memory cannot fail");
        bytes
    }

    /// The file without the elements of its weights.
    pub(crate) fn outline(&self) -> ModelProto {
        let mut outline = self.frame.clone();
        let messages = self
            .initializers
            .iter()
            .map(|initializer| initializer.message.clone());
        outline
            .graph
            .get_or_insert_default()
            .initializer
            .extend(messages);
        outline
    }

    fn graph_bytes(&self) -> u64 {
        let [before, after] = graph_parts(&self.frame);
        let initializers = self.initializers.iter();
        let initializers = initializers.map(|initializer| field_bytes(initializer.size_bytes()));
        (before.encoded_len() + after.encoded_len()) as u64 + initializers.sum::<u64>()
    }
}

impl Initializer {
    /// A tensor of shared elements, written in that float type.
    pub(super) fn shared(name: &str, tensor: &Tensor, dtype: DType) -> Initializer {
        let message = TensorProto {
            name: Some(name.to_string()),
            data_type: Some(super::onnx::element_type(dtype) as i32),
            dims: crate::graph::op::as_i64(tensor.shape()),
            ..TensorProto::default()
        };
        Initializer {
            message,
            elements: Some((tensor.clone(), dtype)),
        }
    }

    /// A message that holds its elements itself.
    pub(super) fn whole(message: TensorProto) -> Initializer {
        Initializer {
            message,
            elements: None,
        }
    }

    fn size_bytes(&self) -> u64 {
        let elements = self.elements.as_ref();
        let elements = elements.map(|(tensor, dtype)| field_bytes(raw_bytes(tensor, *dtype)));
        self.message.encoded_len() as u64 + elements.unwrap_or(0)
    }

    /// The elements come last: of the fields that messages of this kind have, theirs has the highest number.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.message.encode_to_vec())?;
        let Some((tensor, dtype)) = &self.elements else {
            return Ok(());
        };
        write_field(out, tag::RAW_DATA, raw_bytes(tensor, *dtype))?;
        write_elements(out, tensor, *dtype)
    }
}

/// What stands before the graph, and what behind it: fields are written in the order of their numbers.
fn model_parts(frame: &ModelProto) -> [ModelProto; 2] {
    let after = ModelProto {
        opset_import: frame.opset_import.clone(),
        metadata_props: frame.metadata_props.clone(),
        training_info: frame.training_info.clone(),
        functions: frame.functions.clone(),
        configuration: frame.configuration.clone(),
        ..ModelProto::default()
    };
    let before = ModelProto {
        ir_version: frame.ir_version,
        producer_name: frame.producer_name.clone(),
        producer_version: frame.producer_version.clone(),
        domain: frame.domain.clone(),
        model_version: frame.model_version,
        doc_string: frame.doc_string.clone(),
        ..ModelProto::default()
    };
    [before, after]
}

/// What goes through to a writer, hashed on its way.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_written = self.out.write(bytes)?;
        self.hash.update(&bytes[..n_written]);
        Ok(n_written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// An entry for the hash that [`with_hash`] fills in.
pub(super) fn hash_entry() -> StringStringEntryProto {
    StringStringEntryProto {
        key: Some(HASH_KEY.to_string()),
        value: Some("0".repeat(2 * Sha256::output_size())),
    }
}

/// Fills in the hash of a graph and of the contract behind it.
fn with_hash(mut after: ModelProto, mut hash: Sha256) -> ModelProto {
    let entries = after.metadata_props.iter();
    for contract in entries.filter(|entry| entry.key() == CONTRACT_KEY) {
        hash.update(contract.value());
    }
    let hash = format!("{:x}", hash.finalize());
    let entries = after.metadata_props.iter_mut();
    for entry in entries.filter(|entry| entry.key() == HASH_KEY) {
        entry.value = Some(hash.clone());
    }
    after
}

/// What stands in the graph before its initialisers, and what behind them.
fn graph_parts(frame: &ModelProto) -> [GraphProto; 2] {
    let Some(graph) = &frame.graph else {
        return [GraphProto::default(), GraphProto::default()];
    };
    let before = GraphProto {
        node: graph.node.clone(),
        name: graph.name.clone(),
        ..GraphProto::default()
    };
    let after = GraphProto {
        node: Vec::new(),
        name: None,
        ..graph.clone()
    };
    [before, after]
}

/// Numbers of the fields that hold what no message holds.
mod tag {
    pub(super) const GRAPH: u8 = 7;
    pub(super) const INITIALIZER: u8 = 5;
    pub(super) const RAW_DATA: u8 = 9;
}

/// Length of a field of that content: a byte for its number, the length of the content, the content.
fn field_bytes(content: u64) -> u64 {
    1 + prost::length_delimiter_len(content as usize) as u64 + content
}

/// What precedes the content of a field.
fn write_field(out: &mut dyn Write, tag: u8, content: u64) -> io::Result<()> {
    const LENGTH_DELIMITED: u8 = 2;
    let mut head = vec![tag << 3 | LENGTH_DELIMITED];
    prost::encode_length_delimiter(content as usize, &mut head)
        .expect("a vector has room for a number");
    out.write_all(&head)
}

fn raw_bytes(tensor: &Tensor, dtype: DType) -> u64 {
    (tensor.data().len() * dtype.size_bytes()) as u64
}

/// The elements in little-endian order, converted piece by piece.
fn write_elements(out: &mut dyn Write, tensor: &Tensor, dtype: DType) -> io::Result<()> {
    const PIECE: usize = 1 << 16;
    let mut bytes = Vec::new();
    for piece in tensor.data().chunks(PIECE) {
        bytes.resize(piece.len() * dtype.size_bytes(), 0);
        match dtype {
            DType::F32 => fill(&mut bytes, piece, f32::to_le_bytes),
            DType::F16 => fill(&mut bytes, piece, |value| {
                f16::from_f32(value).to_le_bytes()
            }),
            DType::BF16 => fill(&mut bytes, piece, |value| {
                bf16::from_f32(value).to_le_bytes()
            }),
            DType::Bool => fill(&mut bytes, piece, |value| [u8::from(value != 0.0)]),
            DType::Integer(integer) => {
                let slots = bytes.chunks_exact_mut(integer.size_bytes());
                for (slot, &value) in slots.zip(piece) {
                    slot.copy_from_slice(&(value as i64).to_le_bytes()[..slot.len()]);
                }
            }
        }
        out.write_all(&bytes)?;
    }
    Ok(())
}

fn fill<const SIZE: usize>(bytes: &mut [u8], values: &[f32], encode: impl Fn(f32) -> [u8; SIZE]) {
    for (slot, &value) in bytes.chunks_exact_mut(SIZE).zip(values) {
        slot.copy_from_slice(&encode(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::onnx::proto::{
        DeviceConfigurationProto, FunctionProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
        StringStringEntryProto, TensorAnnotation, TrainingInfoProto, ValueInfoProto,
    };

    fn text(text: &str) -> Option<String> {
        Some(text.to_string())
    }

    /// A model with something in every field but the initialisers.
    fn frame() -> ModelProto {
        let info = |name| ValueInfoProto {
            name: text(name),
            ..ValueInfoProto::default()
        };
        let entry = StringStringEntryProto {
            key: text("key"),
            value: text("value"),
        };
        let graph = GraphProto {
            node: vec![NodeProto {
                op_type: text("Relu"),
                ..NodeProto::default()
            }],
            name: text("graph"),
            initializer: Vec::new(),
            sparse_initializer: vec![SparseTensorProto::default()],
            doc_string: text("of the graph"),
            input: vec![info("x")],
            output: vec![info("y")],
            value_info: vec![info("z")],
            quantization_annotation: vec![TensorAnnotation::default()],
            metadata_props: vec![entry.clone()],
        };
        ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetIdProto {
                domain: None,
                version: Some(17),
            }],
            producer_name: text("producer"),
            producer_version: text("1"),
            domain: text("domain"),
            model_version: Some(2),
            doc_string: text("of the model"),
            graph: Some(graph),
            metadata_props: vec![entry],
            training_info: vec![TrainingInfoProto::default()],
            functions: vec![FunctionProto::default()],
            configuration: vec![DeviceConfigurationProto::default()],
        }
    }

    fn ints() -> TensorProto {
        TensorProto {
            name: text("ints"),
            data_type: Some(7),
            dims: vec![1],
            raw_data: Some(3i64.to_le_bytes().to_vec()),
            ..TensorProto::default()
        }
    }

    /// One more element than are converted at once, so that the last piece is a short one.
    fn long() -> Tensor {
        let count = (1 << 16) + 1;
        Tensor::new(&[1, count], (0..count).map(|i| i as f32 / 3.0).collect())
    }

    /// The message of prost for a tensor of those bytes.
    fn message(name: &str, data_type: i32, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
        TensorProto {
            name: text(name),
            data_type: Some(data_type),
            dims: dims.to_vec(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        }
    }

    #[test]
    fn the_bytes_are_those_of_prost() {
        let (scalar, empty, long) = (Tensor::scalar(0.1), Tensor::new(&[0], Vec::new()), long());
        let initializers = vec![
            Initializer::shared("scalar", &scalar, DType::F32),
            Initializer::whole(ints()),
            Initializer::shared("empty", &empty, DType::F32),
            Initializer::shared("long", &long, DType::F32),
            Initializer::shared("half", &long, DType::F16),
            Initializer::shared("brain", &long, DType::BF16),
        ];
        let bytes = |encode: &dyn Fn(f32) -> Vec<u8>| {
            long.data()
                .iter()
                .flat_map(|&value| encode(value))
                .collect()
        };
        let dims = [1, (1 << 16) + 1];
        let mut wanted = frame();
        wanted.graph.as_mut().unwrap().initializer = vec![
            message("scalar", 1, &[], 0.1f32.to_le_bytes().to_vec()),
            ints(),
            message("empty", 1, &[0], Vec::new()),
            message(
                "long",
                1,
                &dims,
                bytes(&|value| value.to_le_bytes().to_vec()),
            ),
            message(
                "half",
                10,
                &dims,
                bytes(&|value| f16::from_f32(value).to_le_bytes().to_vec()),
            ),
            message(
                "brain",
                16,
                &dims,
                bytes(&|value| bf16::from_f32(value).to_le_bytes().to_vec()),
            ),
        ];
        let wanted = wanted.encode_to_vec();
        let model = Model::new(frame(), initializers).unwrap();
        assert!(model.to_bytes() == wanted, "the bytes differ");
        assert_eq!(model.size_bytes(), wanted.len() as u64);
    }

    #[test]
    fn the_hash_is_that_of_the_graph_and_the_contract() {
        let mut frame = frame();
        frame.metadata_props.push(StringStringEntryProto {
            key: text(CONTRACT_KEY),
            value: text("the contract"),
        });
        frame.metadata_props.push(hash_entry());
        let initializers = vec![Initializer::shared("long", &long(), DType::F32)];
        let bytes = Model::new(frame, initializers).unwrap().to_bytes();
        let written = ModelProto::decode(&bytes[..]).unwrap();
        let graph = written.graph.unwrap().encode_to_vec();
        let hash = Sha256::new()
            .chain_update(graph)
            .chain_update("the contract")
            .finalize();
        let entries = written.metadata_props;
        let entry = entries.iter().find(|entry| entry.key() == HASH_KEY);
        assert_eq!(entry.unwrap().value(), format!("{hash:x}"));
    }

    #[test]
    fn a_model_without_a_tensor_is_one_too() {
        let model = Model::new(frame(), Vec::new()).unwrap();
        assert_eq!(model.to_bytes(), frame().encode_to_vec());
    }

    /// 33 times the same 64 MiB in memory are 2.2 GB in the file.
    #[test]
    fn a_file_that_no_reader_takes_is_refused() {
        let weight = Tensor::filled(&[1 << 24], 0.0);
        let model = |dtype| {
            let initializers = (0..33)
                .map(|number| Initializer::shared(&format!("w{number}"), &weight, dtype))
                .collect();
            Model::new(frame(), initializers)
        };
        let error = model(DType::F32).unwrap_err().to_string();
        assert!(
            error.starts_with("an ONNX file of 2.21 GB cannot be read, expected at most 2.15 GB"),
            "{error}"
        );
        assert_eq!(model(DType::F16).unwrap().size_bytes() >> 20, 33 * 32);
    }
}
