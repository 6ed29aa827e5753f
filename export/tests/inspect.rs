//! `ebm-export inspect` on the models of other exporters.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ebm_export::check::inspect::{Inspection, inspect};

/// Networks of which one exporter computed products of weights and another left them in its file.
const COMPUTED_BEFORE: [&str; 1] = ["sngan"];

fn zoo() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/zoo");
    let files = folder.read_dir().unwrap().map(|file| file.unwrap().path());
    let mut models: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "onnx"))
        .collect();
    models.sort();
    assert!(models.len() > 100, "{}", models.len());
    models
}

/// Some exporters state no shapes, and others call the batch by many names.
#[test]
fn costs_and_memory_of_every_model_are_known() {
    for path in zoo() {
        let Inspection {
            multiplications_per_image,
            memory,
            ..
        } = inspect(&path).unwrap();
        let shown = path.display();
        assert!(multiplications_per_image.is_some(), "{shown}");
        assert!(memory.weight_bytes > Some(0), "{shown}: {memory:?}");
        assert!(memory.peak_bytes_per_image > Some(0), "{shown}: {memory:?}");
    }
}

#[test]
fn files_of_one_network_cost_the_same_whoever_wrote_them() {
    let mut counts: BTreeMap<String, Vec<Option<usize>>> = BTreeMap::new();
    for path in zoo() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let network = name.split('.').next().unwrap().to_string();
        if !network.starts_with("ops_") && !COMPUTED_BEFORE.contains(&network.as_str()) {
            let count = inspect(&path).unwrap().multiplications_per_image;
            counts.entry(network).or_default().push(count);
        }
    }
    assert!(counts.values().any(|counts| counts.len() > 1));
    for (network, counts) in counts {
        let first = counts[0];
        assert!(
            counts.iter().all(|&count| count == first),
            "{network}: {counts:?}"
        );
    }
}
