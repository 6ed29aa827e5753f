//! A temporary folder with images, and the command.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use ebm_runtime::{Backend, ImageShape, Images, read_png, write_png};
use ebm_runtime_cli::dataset::{DataSetFormat, FloatRange, decode_data_set};
use tempfile::TempDir;

pub const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};
pub const COLOUR: ImageShape = ImageShape {
    channels: 3,
    height: 8,
    width: 8,
};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

/// Whether the program has the backend `ort`, with or without a library for it: which features it has, all packages that are built with it decide.
pub fn has_ort() -> bool {
    let checked = Backend::ort().check();
    let has_ort = !checked.is_err_and(|error| error.to_string().contains("not compiled in"));
    if !has_ort {
        eprintln!("SKIPPED: built without the backend `ort`");
    }
    has_ort
}

/// An array as `numpy.save` writes it.
pub fn npy(descriptor: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header =
        format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [
        b"\x93NUMPY\x01\x00".as_slice(),
        &length,
        header.as_bytes(),
        values,
    ]
    .concat()
}

/// The images `[N, 8, 8]` of a file of many, as bytes.
pub fn pixels(bytes: &[u8], format: DataSetFormat, shape: ImageShape) -> Vec<u8> {
    let images = decode_data_set(bytes.to_vec(), format, shape, FloatRange::default()).unwrap();
    (0..images.len()).flat_map(|i| images.to_bytes(i)).collect()
}

pub struct Workbench(TempDir);

impl Workbench {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes an image whose pixels are this byte.
    pub fn image(&self, name: &str, shape: ImageShape, byte: u8) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let images = Images::from_bytes(shape, &vec![byte; shape.n_values()]).unwrap();
        write_png(&path, &images, 0).unwrap();
        path
    }

    /// Writes an image with the upper half bright.
    pub fn upper(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..64).map(|i| if i < 32 { 250 } else { 5 }).collect();
        write_png(&path, &Images::from_bytes(GREY, &bytes).unwrap(), 0).unwrap();
        path
    }

    /// Writes a file of other bytes.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// `purify ARGUMENTS` in the folder.
    pub fn purify(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_purify"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .timeout(Duration::from_secs(120));
        command
    }

    /// `purify run ARGUMENTS --model` with the fixture for grey images.
    pub fn run(&self, arguments: &[&str]) -> Command {
        let mut command = self.purify(&["run"]);
        command
            .args(arguments)
            .arg("--model")
            .arg(fixture("digits"));
        command
    }

    /// The files below a folder but for a run's journal, sorted, with `/` between.
    pub fn list(&self, name: &str) -> Vec<String> {
        let root = self.path(name);
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(
                        path.strip_prefix(&root)
                            .unwrap()
                            .to_string_lossy()
                            .into_owned(),
                    ),
                }
            }
        }
        found.retain(|name: &String| !name.ends_with(".purify.jsonl"));
        found.sort();
        found
    }

    /// All bytes of a file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn read(&self, name: &str, shape: ImageShape) -> Images {
        read_png(self.path(name), shape).unwrap()
    }
}
