//! Checkpoints: a folder with a JSON header and groups of named tensors as safetensors.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ebm_common::contract::Kind;
use ebm_common::hex;
use safetensors::tensor::{Dtype, View};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::graph::tensor::{Tensor, Tensors};
use crate::source::networks::Network;
use crate::source::{Langevin, Purification};
use ebm_common::staged::NewFolder;

/// The format that this version writes.
pub const FORMAT_VERSION: u32 = 1;
/// Name of the header within a checkpoint.
pub const HEADER_FILE: &str = "checkpoint.json";
/// The group of the weights as they are learned.
pub const WEIGHTS: &str = "weights";
/// The group of their exponential moving average.
pub const EMA: &str = "ema";
/// The group of the weights of the prior that an energy was learned beside.
pub const PRIOR: &str = "prior";

/// The group of the weights of the generator that made the starts of an energy's chains.
pub const GENERATOR: &str = "generator";
/// The group of their exponential moving average, where that generator was learned too.
pub const GENERATOR_EMA: &str = "generator_ema";

/// An energy network that another one was learned beside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PriorHeader {
    /// The network.
    pub network: Network,
    /// Its own temperature T_prior.
    pub temperature: f64,
}

/// What a checkpoint says about itself; docs/formats.md states each key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// `energy` or `classifier`.
    pub kind: Kind,
    /// The network.
    pub network: Network,
    /// Langevin dynamics as learned, of an energy.
    pub langevin: Option<Langevin>,
    /// Langevin dynamics as recommended for purification, of an energy.
    pub purification: Option<Purification>,
    /// The prior that an energy was learned beside, if there is one; its weights are the group [`PRIOR`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorHeader>,
    /// The generator that made the starts of an energy's chains, if there is one; its weights are the groups [`GENERATOR`] and
    /// [`GENERATOR_EMA`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator: Option<Network>,
    /// Classes of a classifier.
    pub n_classes: Option<usize>,
    /// Number of updates of the weights so far.
    pub update: u64,
    /// The trainer's counters.
    pub state: serde_json::Value,
    /// The resolved configuration of the run.
    pub config: serde_json::Value,
    /// SHA-256 of the file of each group; filled in by [`write()`].
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
}

impl Header {
    /// The header of a network that nobody has learned yet.
    pub fn new(network: Network) -> Header {
        Header {
            format_version: FORMAT_VERSION,
            kind: network.kind(),
            n_classes: network.n_classes(),
            network,
            langevin: None,
            purification: None,
            prior: None,
            generator: None,
            update: 0,
            state: serde_json::Value::Null,
            config: serde_json::Value::Null,
            groups: BTreeMap::new(),
        }
    }

    /// Checks that it does not contradict itself and that ε, T, τ and numbers of steps are positive.
    ///
    /// # Errors
    /// The first value that is not so, with what was expected.
    pub fn check(&self) -> Result<(), String> {
        let (kind, n_classes) = (self.network.kind(), self.network.n_classes());
        if self.kind != kind || self.n_classes != n_classes {
            let got = (self.kind, self.n_classes);
            return Err(format!(
                "expected kind and n_classes {:?} as of the network, got {got:?}",
                (kind, n_classes)
            ));
        }
        if let Some(langevin) = &self.langevin {
            check_dynamics(
                "langevin",
                langevin.step_size,
                langevin.temperature,
                langevin.steps,
            )?;
            if let Some(tau) = langevin.tau {
                check_positive("langevin.tau", tau)?;
            }
        }
        if let Some(prior) = &self.prior {
            check_positive("prior.temperature", prior.temperature)?;
        }
        match &self.purification {
            Some(Purification {
                step_size,
                temperature,
                steps,
            }) => check_dynamics("purification", *step_size, *temperature, *steps),
            None => Ok(()),
        }
    }
}

fn check_dynamics(
    section: &str,
    step_size: f64,
    temperature: f64,
    steps: usize,
) -> Result<(), String> {
    check_positive(&format!("{section}.step_size"), step_size)?;
    check_positive(&format!("{section}.temperature"), temperature)?;
    if steps == 0 {
        Err(format!("{section}.steps must be at least 1, got 0"))
    } else {
        Ok(())
    }
}

/// Positive, and still so as the f32 that a step graph takes.
fn check_positive(name: &str, value: f64) -> Result<(), String> {
    let single = value as f32;
    if single > 0.0 && single.is_finite() {
        Ok(())
    } else {
        Err(format!(
            "{name} must be positive and finite in f32, got {value}"
        ))
    }
}

/// Writes a checkpoint as a new folder, whole or not at all.
///
/// # Errors
/// The folder exists already, or the system refused.
pub fn write(folder: &Path, header: &Header, groups: &[(&str, &Tensors)]) -> Result<()> {
    let mut header = header.clone();
    header.groups.clear();
    let mut write = || {
        let new = NewFolder::begin(folder)?;
        for (group, tensors) in groups {
            let bytes = to_safetensors(tensors);
            header.groups.insert((*group).to_string(), sha256(&bytes));
            new.write(&format!("{group}.safetensors"), &bytes)?;
        }
        let mut json = serde_json::to_vec_pretty(&header).expect("a header has string keys only");
        json.push(b'\n');
        new.write(HEADER_FILE, &json)?;
        new.publish()
    };
    write().map_err(Error::Io)
}

/// Reads the header of a checkpoint folder.
///
/// # Errors
/// There is none, it is not a header of this format, or another version's.
pub fn read_header(folder: &Path) -> Result<Header> {
    let path = folder.join(HEADER_FILE);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| Error::checkpoint(&path, format!("not a checkpoint header: {error}")))?;
    let version = value.get("format_version");
    if version.and_then(serde_json::Value::as_u64) != Some(u64::from(FORMAT_VERSION)) {
        let got = version.map_or("none".to_string(), serde_json::Value::to_string);
        return Err(Error::CheckpointVersion {
            path,
            expected: FORMAT_VERSION,
            got,
        });
    }
    let invalid = |problem: String| {
        Error::checkpoint(
            &path,
            format!("not a valid checkpoint header: {problem}; take another checkpoint of the run"),
        )
    };
    let header: Header =
        serde_json::from_value(value).map_err(|error| invalid(error.to_string()))?;
    header.check().map_err(invalid)?;
    Ok(header)
}

/// Reads one group of tensors and checks it against the hash in the header.
///
/// # Errors
/// The checkpoint has no such group, or its file is missing, damaged or not f32.
pub fn read_group(folder: &Path, header: &Header, group: &str) -> Result<Tensors> {
    let path = file_of(folder, group);
    let bytes = read_checked(folder, header, group)?;
    from_safetensors(&bytes).map_err(|problem| Error::checkpoint(&path, problem))
}

/// Reads the header of a checkpoint whose files are all there and as they were written.
///
/// # Errors
/// One is missing, damaged or not readable.
pub fn verify(folder: &Path) -> Result<Header> {
    let header = read_header(folder)?;
    for group in header.groups.keys() {
        read_checked(folder, &header, group)?;
    }
    Ok(header)
}

fn file_of(folder: &Path, group: &str) -> PathBuf {
    folder.join(format!("{group}.safetensors"))
}

/// The bytes of a group, which have the hash that the header says.
fn read_checked(folder: &Path, header: &Header, group: &str) -> Result<Vec<u8>> {
    let path = file_of(folder, group);
    let wanted = header.groups.get(group).ok_or_else(|| {
        let groups: Vec<&String> = header.groups.keys().collect();
        Error::checkpoint(
            folder,
            format!("the checkpoint has no group {group:?}; it has {groups:?}"),
        )
    })?;
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let got = sha256(&bytes);
    if got != *wanted {
        return Err(Error::checkpoint(
            &path,
            format!(
                "damaged: expected SHA-256 {wanted}, got {got}; take another checkpoint of the run"
            ),
        ));
    }
    Ok(bytes)
}

/// The weights to use: the moving average if there is one.
///
/// # Errors
/// As [`read_group`].
pub fn read_best_weights(folder: &Path, header: &Header) -> Result<Tensors> {
    let group = if header.groups.contains_key(EMA) {
        EMA
    } else {
        WEIGHTS
    };
    read_group(folder, header, group)
}

/// The checkpoint that a path means: itself, or the latest one of a run folder, `RUN/checkpoints/00001000`.
///
/// # Errors
/// The path is neither.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    if path.join(HEADER_FILE).is_file() {
        return Ok(path.to_path_buf());
    }
    let numbered = |entry: fs::DirEntry| {
        let number: u64 = entry.file_name().to_str()?.parse().ok()?;
        entry
            .path()
            .join(HEADER_FILE)
            .is_file()
            .then(|| (number, entry.path()))
    };
    let entries = fs::read_dir(path.join("checkpoints"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    match entries.filter_map(numbered).max() {
        Some((_, latest)) => Ok(latest),
        None if path.exists() => Err(Error::checkpoint(
            path,
            format!(
                "expected a checkpoint folder (with {HEADER_FILE}) or a run folder (with checkpoints/), found neither"
            ),
        )),
        None => Err(Error::checkpoint(
            path,
            "no such folder; give a checkpoint or run folder",
        )),
    }
}

/// SHA-256 of tensors: of their names, shapes and elements in order, hexadecimal.
pub fn tensors_sha256(tensors: &Tensors) -> String {
    sha256(&to_safetensors(tensors))
}

/// SHA-256 of bytes, hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A tensor whose bytes are made when they are asked for, so that those of one tensor at a time take room.
struct Written<'a>(&'a Tensor);

impl View for Written<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        for (slot, value) in bytes.chunks_exact_mut(size_of::<f32>()).zip(self.0.data()) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        bytes.into()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.0.data())
    }
}

fn to_safetensors(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| (name, Written(tensor)));
    serialize(views, None).expect("whole tensors can be written")
}

fn from_safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("not a safetensors file: {error}"))?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(format!(
                "tensor {name:?}: expected F32, got {:?}",
                view.dtype()
            ));
        }
        let elements = view.data().as_chunks().0.iter();
        let data = elements.map(|&b| f32::from_le_bytes(b)).collect();
        tensors.insert(name.to_string(), Tensor::new(view.shape(), data));
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::networks::Sngan;
    use crate::transform::potential::read_potential;

    fn written(folder: &Path) -> (Header, Tensors) {
        let header = Header::new(Network::Sngan(Sngan::sngan32(4)));
        let weights = header.network.initial_weights(1).unwrap();
        write(folder, &header, &[(WEIGHTS, &weights)]).unwrap();
        (read_header(folder).unwrap(), weights)
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let parent = tempfile::tempdir().unwrap();
        let (header, weights) = written(&parent.path().join("a"));
        assert_eq!(
            read_group(&parent.path().join("a"), &header, WEIGHTS).unwrap(),
            weights
        );
        assert_eq!(
            read_best_weights(&parent.path().join("a"), &header).unwrap(),
            weights
        );
        assert_eq!(header.network, Network::Sngan(Sngan::sngan32(4)));
    }

    #[test]
    fn what_an_energy_was_learned_beside_is_read_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a");
        let network = Network::Sngan(Sngan::sngan32(2));
        let mut header = Header::new(network.clone());
        header.langevin = Some(Langevin {
            step_size: 0.01,
            temperature: 1e-4,
            steps: 10,
            tau: Some(0.15),
        });
        header.prior = Some(PriorHeader {
            network: network.clone(),
            temperature: 1e-3,
        });
        let [own, prior] = [1, 2].map(|seed| network.initial_weights(seed).unwrap());
        write(&folder, &header, &[(WEIGHTS, &own), (PRIOR, &prior)]).unwrap();
        let header = read_header(&folder).unwrap();
        let potential = read_potential(&folder, &header).unwrap();
        assert_eq!(potential.tau, Some(0.15));
        let read = potential.prior.unwrap();
        assert_eq!((read.weights, read.temperature), (prior, 1e-3));
    }

    #[test]
    fn the_same_checkpoint_has_the_same_bytes() {
        let parent = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| parent.path().join(name));
        written(&a);
        written(&b);
        for file in [HEADER_FILE, "weights.safetensors"] {
            assert_eq!(
                fs::read(a.join(file)).unwrap(),
                fs::read(b.join(file)).unwrap(),
                "{file}"
            );
        }
    }

    #[test]
    fn damage_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a");
        let (header, _) = written(&folder);
        let message = |group| read_group(&folder, &header, group).unwrap_err().to_string();
        assert!(message(EMA).contains("no group \"ema\"; it has [\"weights\"]"));
        let file = folder.join("weights.safetensors");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(message(WEIGHTS).contains("damaged: expected SHA-256"));
        fs::write(folder.join(HEADER_FILE), "{\"format_version\": 2}").unwrap();
        assert!(
            read_header(&folder)
                .unwrap_err()
                .to_string()
                .contains("expected format_version 1, got 2")
        );
        fs::write(folder.join(HEADER_FILE), "{").unwrap();
        assert!(
            read_header(&folder)
                .unwrap_err()
                .to_string()
                .contains("not a checkpoint header")
        );
    }

    #[test]
    fn a_run_means_its_latest_checkpoint() {
        let run = tempfile::tempdir().unwrap();
        assert!(
            resolve(run.path())
                .unwrap_err()
                .to_string()
                .contains("found neither")
        );
        for update in ["00000090", "00000100"] {
            written(&run.path().join("checkpoints").join(update));
        }
        fs::create_dir(run.path().join("checkpoints").join("00000200")).unwrap();
        let latest = run.path().join("checkpoints").join("00000100");
        assert_eq!(resolve(run.path()).unwrap(), latest);
        assert_eq!(resolve(&latest).unwrap(), latest);
    }
}
