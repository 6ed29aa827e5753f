//! `config.pbtxt`: what Triton has to know of a model, in the text format of protocol buffers.

use std::fmt::Write;

/// An input or output of f32 numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorConfig {
    /// Its name.
    pub name: String,
    /// Its extents behind the batch; none if it is one number per image.
    pub dims: Vec<usize>,
}

/// A model that an engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// Its name, that of its folder.
    pub name: String,
    /// Its inputs.
    pub inputs: Vec<TensorConfig>,
    /// Its outputs.
    pub outputs: Vec<TensorConfig>,
}

/// Models that run one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConfig {
    /// Its name, that of its folder.
    pub name: String,
    /// Its inputs.
    pub inputs: Vec<TensorConfig>,
    /// Its outputs.
    pub outputs: Vec<TensorConfig>,
    /// The models, in an order in which they can run.
    pub steps: Vec<EnsembleStep>,
}

/// A model within an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleStep {
    /// Name of the model.
    pub model: String,
    /// Its inputs, and the tensors of the ensemble that they are.
    pub inputs: Vec<(String, String)>,
    /// Its outputs, and the tensors of the ensemble that they become.
    pub outputs: Vec<(String, String)>,
}

/// How a server batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Most images of one run.
    pub max_batch: usize,
    /// How long a request waits for others that run with it.
    pub max_delay_microseconds: u64,
}

impl ModelConfig {
    /// The text of its `config.pbtxt`.
    pub fn text(&self, batching: Batching) -> String {
        let mut text = heading(&self.name, "backend: \"onnxruntime\"", batching);
        text += &tensors("input", &self.inputs);
        text += &tensors("output", &self.outputs);
        let delay = batching.max_delay_microseconds;
        text + &format!(
            "dynamic_batching {{\n  max_queue_delay_microseconds: {delay}\n}}\ninstance_group {{\n  count: 1\n  kind: KIND_AUTO\n}}\n"
        )
    }
}

impl EnsembleConfig {
    /// The text of its `config.pbtxt`. Requests are put together by the models that it consists of.
    pub fn text(&self, batching: Batching) -> String {
        let mut text = heading(&self.name, "platform: \"ensemble\"", batching);
        text += &tensors("input", &self.inputs);
        text += &tensors("output", &self.outputs);
        let steps: String = self.steps.iter().map(EnsembleStep::text).collect();
        text + &format!("ensemble_scheduling {{\n{steps}}}\n")
    }
}

impl EnsembleStep {
    fn text(&self) -> String {
        let model = quoted(&self.model);
        let mut text = format!("  step {{\n    model_name: {model}\n    model_version: -1\n");
        for (kind, names) in [("input_map", &self.inputs), ("output_map", &self.outputs)] {
            for (of_model, of_ensemble) in names {
                text += &format!(
                    "    {kind} {{\n      key: {}\n      value: {}\n    }}\n",
                    quoted(of_model),
                    quoted(of_ensemble)
                );
            }
        }
        text + "  }\n"
    }
}

fn heading(name: &str, engine: &str, batching: Batching) -> String {
    let name = quoted(name);
    let max_batch = batching.max_batch;
    format!("name: {name}\n{engine}\nmax_batch_size: {max_batch}\n")
}

fn tensors(kind: &str, tensors: &[TensorConfig]) -> String {
    tensors.iter().map(|tensor| tensor.text(kind)).collect()
}

impl TensorConfig {
    /// Triton wants extents behind the batch, so one number per image is a list of one for its clients.
    fn text(&self, kind: &str) -> String {
        let name = quoted(&self.name);
        let (dims, reshape) = match self.dims.as_slice() {
            [] => ("1".to_string(), "  reshape { shape: [ ] }\n"),
            dims => {
                let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
                (dims.join(", "), "")
            }
        };
        format!(
            "{kind} {{\n  name: {name}\n  data_type: TYPE_FP32\n  dims: [ {dims} ]\n{reshape}}}\n"
        )
    }
}

/// A text between quotation marks; whatever is not a plain character becomes an octal escape of its bytes.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => write!(quoted, "\\{byte:03o}").expect("writing to a string cannot fail"),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(quoted("x"), r#""x""#);
        assert_eq!(quoted("a\"b\\c\nε"), r#""a\"b\\c\012\316\265""#);
    }

    #[test]
    fn a_number_per_image_is_a_list_of_one() {
        let energy = TensorConfig {
            name: "energy".to_string(),
            dims: Vec::new(),
        };
        let wanted = "output {\n  name: \"energy\"\n  data_type: TYPE_FP32\n  dims: [ 1 ]\n  reshape { shape: [ ] }\n}\n";
        assert_eq!(energy.text("output"), wanted);
    }
}
