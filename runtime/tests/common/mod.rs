//! What the tests of several files share.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;

use ebm_runtime::{Backend, ImageShape, Images, Model};

/// The images of the fixture `digits`.
pub const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};

/// A fixture, by its path below their folder.
pub fn model(name: &str) -> Model {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Model::open(folder.join(name)).unwrap()
}

/// The backends that can be used here. Those that cannot are named, so that no skip is silent.
pub fn backends() -> Vec<Backend> {
    let there = |backend: &Backend| match backend.check() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("SKIPPED on {backend}: {error}");
            false
        }
    };
    let all = [
        Backend::native(),
        Backend::rten(),
        Backend::tract(),
        Backend::ort(),
    ];
    all.into_iter().filter(there).collect()
}

pub fn constant(shape: ImageShape, n_images: usize, value: f32) -> Images {
    Images::from_vec(shape, vec![value; n_images * shape.n_values()]).unwrap()
}

/// Images that differ in every pixel.
pub fn ramps(shape: ImageShape, n_images: usize) -> Images {
    let n = n_images * shape.n_values();
    let values = (0..n).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0);
    Images::from_vec(shape, values.collect()).unwrap()
}
