//! The valid models that mutations start from.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ebm_export::source::onnx::proto::ModelProto;
use prost::Message;

use crate::mutation::Mutation;
use crate::piece::pieces;

/// Small forward models, made of those that exporters write.
pub struct Zoo {
    models: Vec<ModelProto>,
    operators: Vec<String>,
}

impl Zoo {
    /// Pieces of the models of `tests/zoo`, in the order of the models' names.
    ///
    /// # Panics
    /// The models are not there.
    pub fn load() -> Zoo {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo");
        let entries = fs::read_dir(&folder).expect("the zoo lies in tests/zoo");
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("the zoo can be listed").path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "onnx")
            })
            .collect();
        paths.sort();
        let models: Vec<ModelProto> = paths
            .iter()
            .map(|path| fs::read(path).expect("models can be read"))
            .map(|bytes| ModelProto::decode(bytes.as_slice()).expect("models are whole"))
            .collect();
        let operators: BTreeSet<String> = models
            .iter()
            .flat_map(|model| &model.graph.as_ref().expect("models have graphs").node)
            .map(|node| node.op_type().to_string())
            .collect();
        Zoo {
            models: models.iter().flat_map(pieces).collect(),
            operators: operators.into_iter().collect(),
        }
    }

    /// The bytes of a model with those mutations, one after the other.
    pub fn mutated(&self, model: u16, mutations: &[Mutation]) -> Vec<u8> {
        let mut model = self.models[usize::from(model) % self.models.len()].clone();
        for mutation in mutations {
            mutation.apply(&mut model, &self.operators);
        }
        model.encode_to_vec()
    }
}
