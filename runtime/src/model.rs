//! Exported models and the contract that they carry.

mod folder;
mod header;

use std::fmt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::contract::{Contract, Kind};
use crate::error::{Error, ErrorKind, Result};
pub use folder::ModelFolder;
use header::contract_of;

/// Whether a file must be as it was exported. Files without a hash are taken as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Verification {
    /// The hash that the file carries must be that of its graph and contract.
    #[default]
    Hash,
    /// Nothing is checked, for files that were changed on purpose.
    None,
}

/// An ONNX file whose contract has been checked. Nothing is prepared for running yet.
///
/// The weights of a file stay on the disk until a backend prepares the model: they are the most of it, and a backend makes its own copy of them.
#[derive(Clone)]
pub struct Model {
    path: PathBuf,
    bytes: WhereBytes,
    verification: Verification,
    contract: Contract,
}

/// Where the ONNX file's bytes are.
#[derive(Clone)]
enum WhereBytes {
    /// At the model's path.
    File,
    /// In memory; clones share them.
    Memory(Bytes),
}

impl Model {
    /// Reads an ONNX file and checks the contract that it carries.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::Model`] if it is not whole or not ONNX, [`ErrorKind::Contract`] if it carries no
    /// contract or one that makes no sense, [`ErrorKind::Version`] if the contract is of another version, and [`ErrorKind::Tampered`] if graph or
    /// contract are not those that the file's hash was made of.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Verification::Hash)
    }

    /// Like [`Model::open`], with a say in whether the file's hash must be right.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, verification: Verification) -> Result<Self> {
        let path = path.as_ref();
        let contract = contract_of(&read(path)?, verification);
        Ok(Self {
            contract: contract.map_err(|error| error.at_path(path))?,
            path: path.to_owned(),
            bytes: WhereBytes::File,
            verification,
        })
    }

    /// Like [`Model::open`] for the bytes of an ONNX file; `path` only names it in messages.
    ///
    /// # Errors
    /// As [`Model::open`], without [`ErrorKind::Io`].
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, path: impl Into<PathBuf>) -> Result<Self> {
        Self::from_bytes_with(bytes, path, Verification::Hash)
    }

    /// Like [`Model::from_bytes`], with a say in whether the file's hash must be right.
    ///
    /// # Errors
    /// As [`Model::from_bytes`].
    pub fn from_bytes_with(
        bytes: impl Into<Vec<u8>>,
        path: impl Into<PathBuf>,
        verification: Verification,
    ) -> Result<Self> {
        let (bytes, path) = (Bytes::from(bytes.into()), path.into());
        match contract_of(&bytes, verification) {
            Ok(contract) => Ok(Self {
                path,
                bytes: WhereBytes::Memory(bytes),
                verification,
                contract,
            }),
            Err(error) => Err(error.at_path(path)),
        }
    }

    /// The file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ONNX file's bytes. A file is read again, and checked as on opening.
    ///
    /// # Errors
    /// As [`Model::open`]; [`ErrorKind::Tampered`] also if the file has another contract by now.
    pub fn bytes(&self) -> Result<Bytes> {
        if let WhereBytes::Memory(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let bytes = read(&self.path)?;
        let contract = contract_of(&bytes, self.verification);
        if contract.map_err(|error| error.at_path(&self.path))? == self.contract {
            return Ok(bytes);
        }
        Err(Error::new(
            ErrorKind::Tampered,
            "the file was replaced by another model after it was opened",
        )
        .at_path(&self.path)
        .advise("open it again"))
    }

    /// Size of the ONNX file.
    pub(crate) fn n_bytes(&self) -> Result<usize> {
        match &self.bytes {
            WhereBytes::Memory(bytes) => Ok(bytes.len()),
            WhereBytes::File => {
                let about = std::fs::metadata(&self.path);
                let about = about.map_err(|error| unreadable(&self.path, error))?;
                Ok(usize::try_from(about.len()).unwrap_or(usize::MAX))
            }
        }
    }

    /// What the model says about itself.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns Ok if the model is of this kind.
    ///
    /// # Errors
    /// [`ErrorKind::WrongKind`] if it is not.
    pub fn expect_kind(&self, kind: Kind) -> Result<()> {
        let checked = self.contract.expect_kind(&[kind]);
        checked.map_err(|error| error.at_path(&self.path))
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("path", &self.path)
            .field("contract", &self.contract)
            .finish()
    }
}

fn read(path: &Path) -> Result<Bytes> {
    let bytes = std::fs::read(path).map(Bytes::from);
    bytes.map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the model cannot be read")
        .at_path(path)
        .caused_by(error)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::header::{HASH_KEY, MetadataEntry, ModelHeader};
    use super::*;
    use crate::contract::CONTRACT_KEY;
    use prost::Message;
    use serde_json::json;
    use sha2::{Digest, Sha256};

    pub(crate) fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name)
    }

    /// The step graph of `digits` with one more metadata entry: protobuf messages concatenate.
    fn with_entry(key: &str, value: &str) -> Vec<u8> {
        let entry = MetadataEntry {
            key: key.into(),
            value: value.into(),
        };
        let mut bytes = std::fs::read(fixture("bare.onnx")).unwrap();
        bytes.extend(
            ModelHeader {
                graph: None,
                metadata: vec![entry],
            }
            .encode_to_vec(),
        );
        bytes
    }

    fn contract() -> serde_json::Value {
        json!({
            "format_version": 1, "kind": "step", "network": {"name": "fixture"},
            "image": {"channels": 1, "height": 8, "width": 8}, "value_range": [-1.0, 1.0], "a_new_key": 1,
        })
    }

    fn open(contract: &serde_json::Value) -> Result<Model> {
        Model::from_bytes(with_entry(CONTRACT_KEY, &contract.to_string()), "test.onnx")
    }

    #[test]
    fn fixtures_open() {
        for (folder, shape, classes) in [
            ("quadratic", [2, 4, 4], None),
            ("digits", [1, 8, 8], Some(2)),
            ("colour", [3, 8, 8], Some(3)),
        ] {
            let models = ModelFolder::open(fixture(folder)).unwrap();
            let image = models.step.contract().image;
            assert_eq!(
                [image.channels, image.height, image.width],
                shape,
                "{folder}"
            );
            assert_eq!(
                models.classifier.and_then(|c| c.contract().n_classes),
                classes,
                "{folder}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_ignored_and_absent_ones_are_none() {
        let model = open(&contract()).unwrap();
        assert_eq!(model.contract().network_name(), Some("fixture"));
        assert_eq!(model.contract().purification, None);
    }

    #[test]
    fn files_that_are_not_what_their_hash_was_made_of_are_refused() {
        let contract = contract().to_string();
        let graph = ModelHeader::decode(&std::fs::read(fixture("bare.onnx")).unwrap()[..]);
        let hash = Sha256::new()
            .chain_update(graph.unwrap().graph.unwrap())
            .chain_update(&contract)
            .finalize();
        let file = |stated: String, contract: &str| {
            let mut bytes = with_entry(CONTRACT_KEY, contract);
            let entry = MetadataEntry {
                key: HASH_KEY.into(),
                value: stated,
            };
            let header = ModelHeader {
                graph: None,
                metadata: vec![entry],
            };
            bytes.extend(header.encode_to_vec());
            bytes
        };
        let hash = format!("{hash:x}");
        assert!(Model::from_bytes(file(hash.clone(), &contract), "a.onnx").is_ok());
        let mut flipped = file(hash.clone(), &contract);
        // The last byte of an initialiser: the minimum 0.5 in the last pixel.
        let pixel = 0.5_f32.to_le_bytes();
        let place = flipped.windows(4).rposition(|window| window == pixel);
        flipped[place.unwrap()] ^= 1;
        let other_contract = contract.replace("fixture", "another");
        for tampered in [
            file("0".repeat(64), &contract),
            file(hash, &other_contract),
            flipped,
        ] {
            let error = Model::from_bytes(tampered.clone(), "a.onnx").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tampered);
            assert!(error.to_string().contains("`a.onnx`"), "{error}");
            let unverified = Model::from_bytes_with(tampered, "a.onnx", Verification::None);
            assert!(unverified.is_ok());
        }
    }

    /// The weights are read when a backend asks for them, maybe long after the contract.
    #[test]
    fn a_file_that_was_replaced_after_opening_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("step.onnx");
        std::fs::copy(fixture("digits/step.onnx"), &path).unwrap();
        let model = Model::open(&path).unwrap();
        assert_eq!(model.bytes().unwrap(), std::fs::read(&path).unwrap());
        let replacements = [
            (
                std::fs::read(fixture("colour/step.onnx")).unwrap(),
                ErrorKind::Tampered,
            ),
            (b"text".to_vec(), ErrorKind::Model),
        ];
        for (replacement, kind) in replacements {
            std::fs::write(&path, replacement).unwrap();
            let error = model.bytes().unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.path(), Some(path.as_path()));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(model.bytes().unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn contracts_that_make_no_sense_are_refused() {
        let change = |key: &str, value: serde_json::Value| {
            let mut changed = contract();
            changed[key] = value;
            changed
        };
        let image = |c: u64, h: u64, w: u64| {
            change("image", json!({"channels": c, "height": h, "width": w}))
        };
        let cases = [
            (
                change("format_version", json!(2)),
                ErrorKind::Version,
                "expected 1, got 2",
            ),
            (
                change("format_version", json!("1")),
                ErrorKind::Version,
                "expected 1, got \"1\"",
            ),
            (
                json!({"kind": "step"}),
                ErrorKind::Contract,
                "has no `format_version`",
            ),
            (
                json!([1, 2]),
                ErrorKind::Contract,
                "has no `format_version`",
            ),
            (
                change("kind", json!("poem")),
                ErrorKind::Contract,
                "is not understood",
            ),
            (image(0, 8, 8), ErrorKind::Contract, "got [0, 8, 8]"),
            (image(1, 8, 0), ErrorKind::Contract, "got [1, 8, 0]"),
            (
                change("image", json!(null)),
                ErrorKind::Contract,
                "whose inputs are not images",
            ),
            (
                image(u64::MAX, u64::MAX, 3),
                ErrorKind::Contract,
                "`image` is wrong",
            ),
            (
                change("value_range", json!([0.0, 1.0])),
                ErrorKind::Contract,
                "expected [-1.0, 1.0], got [0.0, 1.0]",
            ),
            (
                change("batch", json!(0)),
                ErrorKind::Contract,
                "`batch` is wrong",
            ),
            (
                change("n_steps", json!(0)),
                ErrorKind::Contract,
                "expected null or a number from 1, got 0",
            ),
            (
                change("kind", json!("classifier")),
                ErrorKind::Contract,
                "`n_classes` is wrong",
            ),
        ];
        for (contract, kind, part) in cases {
            let error = open(&contract).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            let message = error.to_string();
            assert!(
                message.starts_with("`test.onnx`: ") && message.contains(part),
                "{message}"
            );
            assert!(error.advice().is_some(), "{message}");
        }
    }

    #[test]
    fn foreign_files_are_refused() {
        let whole = std::fs::read(fixture("digits/step.onnx")).unwrap();
        let mut twice = with_entry(CONTRACT_KEY, &contract().to_string());
        twice.extend(&with_entry(CONTRACT_KEY, &contract().to_string()));
        let cases = [
            ("empty", vec![], ErrorKind::Model),
            ("text", b"not a protobuf at all".to_vec(), ErrorKind::Model),
            ("half", whole[..whole.len() / 2].to_vec(), ErrorKind::Model),
            (
                "last byte missing",
                whole[..whole.len() - 1].to_vec(),
                ErrorKind::Model,
            ),
            (
                "no metadata",
                std::fs::read(fixture("bare.onnx")).unwrap(),
                ErrorKind::Contract,
            ),
            (
                "other metadata",
                with_entry("author", "somebody"),
                ErrorKind::Contract,
            ),
            (
                "not JSON",
                with_entry(CONTRACT_KEY, "{"),
                ErrorKind::Contract,
            ),
            ("two contracts", twice, ErrorKind::Contract),
        ];
        for (name, bytes, kind) in cases {
            let error = Model::from_bytes(bytes, "test.onnx").unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
        }
    }

    /// Any prefix of a good file gives an answer, never a panic.
    #[test]
    fn no_prefix_panics() {
        let whole = std::fs::read(fixture("digits/step.onnx")).unwrap();
        for n in 0..whole.len() {
            assert!(
                Model::from_bytes(&whole[..n], "test.onnx").is_err(),
                "{n} bytes"
            );
        }
    }

    #[test]
    fn kinds_and_folders_are_checked() {
        let classifier = Model::open(fixture("digits/classifier.onnx")).unwrap();
        let error = classifier.expect_kind(Kind::Step).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongKind);
        assert!(
            error
                .to_string()
                .contains("expected a model of kind `step`, got kind `classifier`"),
            "{error}"
        );
        for folder in [fixture(""), fixture("nowhere")] {
            let error = ModelFolder::open(&folder).unwrap_err();
            assert!(
                error
                    .to_string()
                    .contains("a folder that holds `step.onnx`"),
                "{error}"
            );
        }
        let error = ModelFolder::open(fixture("quadratic"))
            .unwrap()
            .require_classifier()
            .unwrap_err()
            .to_string();
        assert!(error.contains("classifier.onnx"), "{error}");
    }
}
