//! The whole life cycle by its commands, on a toy, in seconds: learn, export, attack, purify, report.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ebm_runtime::{ImageShape, Images, write_png};
use tempfile::TempDir;

use crate::programs::{program, run};

/// A folder of its own for a test, with `energy`, `classifier` and `model` as learned and exported once for all tests.
pub fn learned() -> TempDir {
    static FILES: OnceLock<Vec<(PathBuf, Vec<u8>)>> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        learn(folder.path());
        files_below(folder.path())
            .into_iter()
            .map(|path| {
                let bytes = fs::read(&path).unwrap();
                (path.strip_prefix(&folder).unwrap().to_path_buf(), bytes)
            })
            .collect()
    });
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn learn(folder: &Path) {
    let tiny = "--threads 1 --set learning.batch=16 --set output.checkpoint_every=100";
    run(
        folder,
        "trainer",
        &format!("classifier digits-classifier -o classifier --set learning.updates=60 {tiny}"),
    );
    let chains = "--set learning.updates=8 --set langevin.steps=4 --set chains.bank=64";
    run(
        folder,
        "trainer",
        &format!("fit digits-midrun -o energy {chains} {tiny}"),
    );
    for run_folder in ["energy", "classifier"] {
        run(folder, "ebm-export", &format!("onnx {run_folder} -o model"));
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files_below(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Names of the files of a folder, without that in which `purify` notes what it has done.
fn names(folder: PathBuf) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn from_learning_to_a_report() {
    let folder = learned();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(
        names(at("model")),
        [
            "classifier.onnx",
            "energy.onnx",
            "gradient.onnx",
            "step.onnx"
        ]
    );

    let few = "-n 6 --replicas 2 --verify-replicas 3 --pgd-steps 2 --steps 3 --threads 1";
    run(
        folder.path(),
        "trainer",
        &format!(
            "attack --energy energy --classifier classifier --epsilon 0.125 --protocol quick -o attack {few}"
        ),
    );
    assert!(at("attack/attacked.safetensors").is_file());

    let report = "--model model --attack attack --epsilon 0.125 -o . --replicas 2";
    let table = run(folder.path(), "life_cycle_report", report);
    assert!(table.contains("defended"), "{table}");
    let results: serde_json::Value =
        serde_json::from_slice(&fs::read(at("results.json")).unwrap()).unwrap();
    assert_eq!(results["n_images"], 6);
    assert_eq!(results["epsilon"]["of_0_to_1"], 0.125);
    for key in ["clean", "attacked", "defended_clean", "defended_attacked"] {
        let accuracy = results[key].as_f64().unwrap();
        let interval = &results[format!("{key}_interval")];
        let [low, high] = [0, 1].map(|end| interval[end].as_f64().unwrap());
        assert!(
            0.0 <= low && low <= accuracy && accuracy <= high && high <= 1.0,
            "{key}: {accuracy} in {interval}"
        );
    }
    assert!(at("summary.png").is_file());
}

#[test]
fn exported_networks_purify_pictures() {
    let folder = learned();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("pictures")).unwrap();
    let shape = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    for index in 0..3u8 {
        let image = Images::from_bytes(shape, &[40 * index; 64]).unwrap();
        write_png(at("pictures").join(format!("{index}.png")), &image, 0).unwrap();
    }
    let info = run(folder.path(), "purify", "info --model model");
    assert!(info.contains("sngan"), "{info}");
    run(
        folder.path(),
        "purify",
        "run pictures --model model -o purified --steps 5 --seed 3",
    );
    assert_eq!(names(at("purified")), ["0.png", "1.png", "2.png"]);

    // A part of the same pictures, one at a time, gives the same bytes: noise belongs to the image and its place.
    run(
        folder.path(),
        "purify",
        "run pictures --model model -o again --steps 5 --seed 3 --batch 1",
    );
    for name in names(at("purified")) {
        assert!(
            fs::read(at("purified").join(&name)).unwrap()
                == fs::read(at("again").join(&name)).unwrap(),
            "{name}"
        );
    }
    program("purify")
        .current_dir(folder.path())
        .args("run pictures --model model -o purified --steps 6".split(' '))
        .assert()
        .failure();
}

#[test]
fn a_checkpoint_of_another_kind_is_refused() {
    let folder = learned();
    for arguments in [
        "attack --energy classifier --classifier classifier --epsilon 0.125 -o attack",
        "attack --energy energy --classifier energy --epsilon 0.125 -o attack",
    ] {
        let output = program("trainer")
            .current_dir(folder.path())
            .args(arguments.split(' '))
            .assert()
            .failure();
        let message = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert!(
            message.contains("classifier") && !message.contains("panicked"),
            "{message}"
        );
    }
}
