#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod backend;
mod cancel;
mod classifier;
mod clock;
mod contract;
mod energy_score;
mod error;
mod generator;
mod images;
mod langevin;
pub mod mcmc;
mod model;
pub mod noise;
#[cfg(any(feature = "png", feature = "jpeg", feature = "webp"))]
mod picture;
mod prepared;
mod purifier;
mod rows;
mod sampler;
mod seed;
#[cfg(feature = "certificates")]
mod smoothing;

#[cfg(any(feature = "png", feature = "jpeg", feature = "webp"))]
pub use ::image;
pub use ::ndarray;
pub use backend::{Backend, Footprint, Input, Output, Parallelism, Recurrence, Recurrent, Session};
pub use cancel::Cancel;
pub use classifier::{Classified, Classifier, Defended, DefendedClassifier};
pub use contract::{
    CONTRACT_KEY, Contract, FORMAT_VERSION, ImageShape, Kind, Langevin, Purification, VALUE_RANGE,
};
pub use ebm_common::PixelDistance;
pub use energy_score::{EnergyScore, Threshold};
pub use error::{Error, ErrorKind, Result};
pub use generator::Generator;
pub use images::Images;
pub use langevin::{Measurement, drift_factor};
pub use model::{Model, ModelFolder, Verification};
#[cfg(any(feature = "png", feature = "jpeg", feature = "webp"))]
pub use picture::{
    FittedPicture, PictureChange, PictureColours, PictureCrop, PictureEncoding, PictureFit,
    PictureFormat, decode_picture, decode_picture_fitted, encode_picture, read_picture,
    read_picture_fitted, write_picture,
};
#[cfg(feature = "png")]
pub use picture::{read_png, write_png};
pub use prepared::{AnyModel, Buildable, Builder, Prepared};
pub use purifier::{
    ChainReport, Progress, Purified, Purifier, PurifierBuilder, Request, Snapshot, State,
    Trajectory,
};
pub use sampler::{Sampler, Start};
pub use seed::Seed;
#[cfg(feature = "certificates")]
pub use smoothing::{
    Certificate, CertifiedAccuracy, Prediction, SmoothedClassifier, Smoothing, Votes,
};
