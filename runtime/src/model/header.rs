//! What of an ONNX file is read before a backend reads it: the contract, and the hash of graph and contract.

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};

use super::Verification;
use crate::contract::{CONTRACT_KEY, Contract, HOW_TO_EXPORT};
use crate::error::{Error, ErrorKind, Result};

/// The metadata key under which a model carries the SHA-256 of its graph and contract.
pub(super) const HASH_KEY: &str = "ebm.sha256";

/// The parts of ONNX's `ModelProto` that are read here; the rest is skipped without being stored.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelHeader {
    /// The bytes of the graph, which are those of the file and no copy.
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub(super) graph: Option<Bytes>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata: Vec<MetadataEntry>,
}

/// ONNX's `StringStringEntryProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MetadataEntry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// The contract that a file carries, checked.
pub(super) fn contract_of(bytes: &Bytes, verification: Verification) -> Result<Contract> {
    let not_onnx = || {
        Error::new(ErrorKind::Model, "the file is not a whole ONNX model")
            .advise("it may be cut off or of another format: copy or export it again")
    };
    let header = ModelHeader::decode(bytes.clone());
    let header = header.map_err(|e| not_onnx().caused_by(e))?;
    let Some(graph) = &header.graph else {
        return Err(not_onnx().expected("a graph").but_got("none"));
    };
    let mut contracts = header
        .metadata
        .iter()
        .filter(|entry| entry.key == CONTRACT_KEY);
    match (contracts.next(), contracts.next()) {
        (Some(entry), None) => {
            let contract = Contract::parse(&entry.value)?;
            if verification == Verification::Hash {
                verify(&header, graph, &entry.value)?;
            }
            Ok(contract)
        }
        (None, _) => Err(
            Error::new(ErrorKind::Contract, "the ONNX model carries no contract")
                .expected(format!("a metadata entry `{CONTRACT_KEY}`"))
                .but_got(format!("{} other entries", header.metadata.len()))
                .advise(HOW_TO_EXPORT),
        ),
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Contract,
            "the ONNX model carries several contracts",
        )
        .expected(format!("one metadata entry `{CONTRACT_KEY}`"))
        .advise(HOW_TO_EXPORT)),
    }
}

/// Returns Ok if the file has no hash, or that of this graph and contract.
fn verify(header: &ModelHeader, graph: &[u8], contract: &str) -> Result<()> {
    let Some(stated) = header.metadata.iter().find(|entry| entry.key == HASH_KEY) else {
        return Ok(());
    };
    let hash = Sha256::new()
        .chain_update(graph)
        .chain_update(contract)
        .finalize();
    let hash = format!("{hash:x}");
    if stated.value == hash {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Tampered,
        "the file is not what was exported: its graph or contract was changed",
    )
    .expected(format!("SHA-256 {}", stated.value))
    .but_got(hash)
    .advise(
        "get the file again from where it comes; if it was changed on purpose, open it with `Verification::None` (`--no-verify`)",
    ))
}
