//! What is asked of the browser and of this machine alike.

use std::path::{Path, PathBuf};

use ebm_runtime::{ImageShape, Model, Verification};
use serde::Serialize;

/// One model, one image, one purification.
#[derive(Debug, Clone, Serialize)]
pub struct Case {
    pub name: &'static str,
    /// The file, in base64.
    #[serde(serialize_with = "base64")]
    pub model: Vec<u8>,
    pub image: Image,
    pub settings: Settings,
    /// Whether the bits must be the same: where a graph has nothing that sums.
    pub is_exact: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Image {
    Bytes(Vec<u8>),
    Values(Vec<f32>),
}

/// What is `None` is as the contract recommends.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// As text, since JavaScript has numbers up to 2⁵³ only.
    #[serde(serialize_with = "text")]
    pub seed: u64,
    pub steps: Option<u32>,
    pub step_size: Option<f64>,
    pub temperature: Option<f64>,
}

fn base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    use ::base64::{Engine, prelude::BASE64_STANDARD};
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// The model that comes with the page: a network that was learned.
const LEARNED: &str = "../../examples/browser/model/step.onnx";

fn file(path: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read(path).unwrap()
}

fn fixture(name: &str) -> Vec<u8> {
    file(&format!("../tests/fixtures/{name}/step.onnx"))
}

/// An image that differs in every pixel.
fn ramp(model: &[u8]) -> Vec<u8> {
    let model = Model::from_bytes_with(model, "ramp", Verification::None);
    let n_values = model.map_or(64, |model| model.contract().image.n_values());
    (0..n_values).map(|i| (i * 37 % 256) as u8).collect()
}

fn case(name: &'static str, model: Vec<u8>) -> Case {
    Case {
        name,
        image: Image::Bytes(ramp(&model)),
        model,
        settings: Settings::default(),
        is_exact: false,
    }
}

/// All of them; the first is what the page comes with.
pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("a learned network", file(LEARNED)),
        case("a convolution of colours", fixture("colour")),
        case("a quadratic energy", fixture("digits")),
        case("steps in one run", fixture("digits-unrolled")),
        case("images of CIFAR's size", fixture("cifar")),
    ];
    for quadratic in &mut cases[2..] {
        quadratic.is_exact = true;
    }
    cases.push(Case {
        image: Image::Values((0..64).map(|i| i as f32 / 40.0 - 0.8).collect()),
        settings: Settings {
            seed: u64::MAX - 1,
            steps: Some(7),
            step_size: Some(0.05),
            temperature: Some(0.02),
        },
        ..case("values, and settings of one's own", file(LEARNED))
    });
    cases.push(Case {
        image: Image::Bytes(canvas(&ramp(&fixture("colour")))),
        ..case("a canvas", fixture("colour"))
    });
    cases.extend(refused());
    cases
}

/// Opaque RGBA of RGB.
fn canvas(colours: &[u8]) -> Vec<u8> {
    let pixels = colours.chunks_exact(3);
    pixels
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255])
        .collect()
}

/// Cases that end with the same message everywhere.
pub fn refused() -> Vec<Case> {
    let learned = || case("", file(LEARNED));
    let with = |settings: Settings| Case {
        settings,
        ..learned()
    };
    let mut cases = vec![
        Case {
            name: "a truncated model",
            ..truncated()
        },
        case("a tampered weight", tampered()),
        case("no model at all", b"<html>".to_vec()),
        case("an empty file", Vec::new()),
        case(
            "a model without a contract",
            file("../tests/fixtures/bare.onnx"),
        ),
        case(
            "a classifier",
            file("../tests/fixtures/digits/classifier.onnx"),
        ),
    ];
    let settings = [
        (
            "no steps",
            Settings {
                steps: Some(0),
                ..Settings::default()
            },
        ),
        (
            "a negative step size",
            Settings {
                step_size: Some(-1.0),
                ..Settings::default()
            },
        ),
        (
            "no temperature",
            Settings {
                temperature: Some(0.0),
                ..Settings::default()
            },
        ),
    ];
    cases.extend(settings.map(|(name, settings)| Case {
        name,
        ..with(settings)
    }));
    cases.push(Case {
        name: "a chain that blows up",
        settings: Settings {
            step_size: Some(1e6),
            temperature: Some(1e-6),
            ..Settings::default()
        },
        ..case("", fixture("digits"))
    });
    cases.push(Case {
        name: "steps that do not divide",
        settings: Settings {
            steps: Some(6),
            ..Settings::default()
        },
        ..case("", fixture("digits-unrolled"))
    });
    cases
}

pub fn truncated() -> Case {
    let mut model = file(LEARNED);
    model.truncate(model.len() / 2);
    case("truncated", model)
}

/// One bit of the graph is another.
fn tampered() -> Vec<u8> {
    let mut model = file(LEARNED);
    let middle = model.len() / 2;
    model[middle] ^= 1;
    model
}

/// The digit that a user clicks, with the settings that the page is given.
pub fn of_the_page(pixels: &[u8]) -> Case {
    let shape = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    assert_eq!(pixels.len(), shape.n_values() * 4);
    Case {
        image: Image::Bytes(pixels.chunks_exact(4).map(|pixel| pixel[0]).collect()),
        settings: Settings {
            seed: 5,
            steps: Some(25),
            ..Settings::default()
        },
        ..case("the page", file(LEARNED))
    }
}
