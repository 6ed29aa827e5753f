//! What a model says for people.

use ebm_common::contract::CONTRACT_KEY;

use super::model::Model;
use super::proto::{ModelProto, ValueInfoProto};
use crate::source::energy::Documentation;

/// Key of the metadata entry that holds the SHA-256 of the file's graph and contract: of the bytes of its `GraphProto`, followed by those of the contract's
/// JSON, in hexadecimal digits.
pub const HASH_KEY: &str = "ebm.sha256";

/// The contract, if there is one.
pub(super) fn contract(header: &ModelProto) -> Option<serde_json::Value> {
    let mut entries = header.metadata_props.iter();
    let contract = entries.find(|entry| entry.key() == CONTRACT_KEY)?;
    serde_json::from_str(contract.value()).ok()
}

/// All but a contract, which would be that of another file.
pub(super) fn documentation(model: &Model, inputs: &[&ValueInfoProto]) -> Documentation {
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
            .filter(|entry| ![CONTRACT_KEY, HASH_KEY].contains(&entry.key()))
            .map(|entry| (entry.key().to_string(), entry.value().to_string()))
            .collect(),
    }
}
