//! The Fréchet distance between images, on the features of a network.

mod cache;
mod features;
mod gaussian;
mod images;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result};
use serde::{Deserialize, Serialize};

pub use cache::{Cache, holds_gaussian, read};
pub use features::{Features, Preparation};
pub use gaussian::{Gaussian, Moments};
pub use images::{ImageSet, Meaning};

use crate::machine::parallel::Team;
use crate::run::record::Progress;

/// Fits a Gaussian on the features of the first `n` images, or finds that of an earlier time.
///
/// # Errors
/// The images do not fit the network, are too few, or cannot be read.
pub fn fitted(
    images: &ImageSet,
    n: usize,
    features: &Features,
    team: &Team,
    cache: Option<&Cache>,
) -> Result<Gaussian> {
    features.check(images.shape())?;
    let key = cache::key(images, n, features)?;
    if let Some(found) = cache.and_then(|cache| cache.get(&key)) {
        return Ok(found);
    }
    let (network, batch) = (features.bind()?, features.batch());
    let mut moments = Moments::new(features.n_features);
    let mut progress = Progress::new("image", 0, n as u64);
    for first in (0..n).step_by(batch) {
        let taken = batch.min(n - first);
        moments.add(&network.of(&images.batch(first, taken)?, team)?)?;
        progress.show((first + taken) as u64, &features.name);
    }
    progress.finish();
    let gaussian = moments.gaussian()?;
    if let Some(cache) = cache {
        cache.put(&key, &gaussian)?;
    }
    Ok(gaussian)
}

/// A Fréchet distance with all that it means nothing without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// `FID-50k` and the like.
    pub label: String,
    /// The distance.
    pub value: f64,
    /// What they are of.
    pub samples: String,
    /// Steps of the chains, if the samples are of chains.
    pub step: Option<u64>,
    /// Samples.
    pub n: usize,
    /// Images that they are compared with; none where others fitted their Gaussian and did not say.
    pub n_reference: Option<usize>,
    /// Rows and columns to which all were resized, if they were.
    pub resize: Option<usize>,
    /// The network of the features.
    pub network: String,
    /// SHA-256 of it, its weights and the value that was taken.
    pub network_sha256: String,
    /// That value.
    pub output: String,
    /// Its numbers per image.
    pub n_features: usize,
}

impl Score {
    /// The distance of samples from the reference; of what they are samples, and of which step of it.
    ///
    /// # Errors
    /// Their Gaussians are of different dimensions, or a number is not finite.
    pub fn new(
        samples: &Gaussian,
        reference: &Gaussian,
        source: (&str, Option<u64>),
        features: &Features,
    ) -> Result<Score> {
        let n = samples
            .n
            .context("it is not known how many samples there are")?;
        Ok(Score {
            label: label(n),
            value: samples.frechet_distance(reference)?,
            samples: source.0.to_string(),
            step: source.1,
            n,
            n_reference: reference.n,
            resize: features.resize(),
            network: features.name.clone(),
            network_sha256: features.sha256.clone(),
            output: features.output.clone(),
            n_features: features.n_features,
        })
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(step) = self.step {
            write!(f, "step {step:>9}   ")?;
        }
        let or = |number: Option<usize>, none: &str| {
            number.map_or(none.to_string(), |number| number.to_string())
        };
        write!(
            f,
            "{} {:>10.4}   n {} against {}, resize {}, network {} {} {:?} ({} features)",
            self.label,
            self.value,
            self.n,
            or(self.n_reference, "unknown"),
            or(self.resize, "off"),
            self.network,
            &self.network_sha256[..8],
            self.output,
            self.n_features
        )
    }
}

/// What a distance of `n` samples is called: it falls with their number, so that only distances of equal numbers can be compared.
fn label(n: usize) -> String {
    match n % 1000 {
        0 => format!("FID-{}k", n / 1000),
        _ => format!("FID-{n}"),
    }
}

/// Which snapshots of chains are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotChoice {
    /// The last.
    Last,
    /// Each.
    All,
    /// That of a step.
    At(u64),
}

impl FromStr for SnapshotChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<SnapshotChoice> {
        match text {
            "last" => Ok(SnapshotChoice::Last),
            "all" => Ok(SnapshotChoice::All),
            step => {
                let step = step.parse().ok().map(SnapshotChoice::At);
                step.context("expected last, all, or a step")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_how_many_samples_there_are() {
        for (n, wanted) in [
            (50_000, "FID-50k"),
            (5_000, "FID-5k"),
            (49_999, "FID-49999"),
            (1_234, "FID-1234"),
            (100, "FID-100"),
        ] {
            assert_eq!(label(n), wanted);
        }
    }

    #[test]
    fn a_snapshot_is_chosen_as_it_is_typed() {
        for (text, wanted) in [
            ("last", Some(SnapshotChoice::Last)),
            ("all", Some(SnapshotChoice::All)),
            ("1000", Some(SnapshotChoice::At(1000))),
            ("-1", None),
        ] {
            assert_eq!(text.parse::<SnapshotChoice>().ok(), wanted, "{text}");
        }
    }
}
