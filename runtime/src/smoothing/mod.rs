//! Classifiers that are certified by randomised smoothing.
//!
//! Source: Cohen, Rosenfeld, Kolter, *Certified Adversarial Robustness via Randomized Smoothing*, ICML 2019.

mod classifier;
mod curve;
mod settings;
mod statistics;
mod votes;

pub use classifier::SmoothedClassifier;
pub use curve::CertifiedAccuracy;
pub use settings::Smoothing;
pub use votes::{Certificate, Prediction, Votes};
