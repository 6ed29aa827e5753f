#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod backend;
mod cancel;
mod classifier;
mod contract;
mod energy_score;
mod error;
mod file;
mod generator;
mod images;
mod langevin;
pub mod mcmc;
mod model;
pub mod noise;
#[cfg(feature = "png")]
mod png;
mod prepared;
mod purifier;
mod rows;
mod sampler;

pub use backend::{Backend, Input, Output, Parallelism, Recurrence, Recurrent, Session};
pub use cancel::Cancel;
pub use classifier::{Classifier, Defended, DefendedClassifier, argmax};
pub use contract::{
    CONTRACT_KEY, Contract, FORMAT_VERSION, ImageShape, Kind, Langevin, Purification, VALUE_RANGE,
};
pub use energy_score::{EnergyScore, Threshold};
pub use error::{Error, ErrorKind, Result};
pub use file::write_atomically;
pub use generator::Generator;
pub use images::Images;
pub use langevin::{Measurement, drift_factor};
pub use model::{Model, ModelFolder, Verification};
#[cfg(feature = "png")]
pub use png::{read_png, write_png};
pub use prepared::Prepared;
pub use purifier::{ChainReport, Progress, Purified, Purifier, PurifierBuilder, Request, Snapshot};
pub use sampler::{Sampler, Start};
