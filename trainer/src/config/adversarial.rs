//! What makes a classifier's images harder while it learns: an adversary, or noise.

use std::fmt;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use ebm_common::PixelDistance;
use serde::{Deserialize, Serialize};

use super::ClassifierConfig;
use super::check::{at_least_one, range};

/// How a change of an image is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// ℓ∞: the largest change of a pixel.
    Linf,
    /// ℓ2: the root of the sum of squared changes of all pixels.
    L2,
}

impl Norm {
    /// Says that a bound is out of its range; `key` is what the user set.
    ///
    /// # Errors
    /// It is 0, or changes of ℓ∞ could leave the range of pixels.
    pub fn check_bound(self, key: &str, epsilon: PixelDistance) -> Result<()> {
        let epsilon = epsilon.in_unit_range();
        ensure!(epsilon > 0.0, "{key} {epsilon}: expected above 0");
        ensure!(
            epsilon <= 1.0 || self == Norm::L2,
            "{key} {epsilon}: expected at most 1, since pixels are in [0, 1]"
        );
        Ok(())
    }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Norm::Linf => "ℓ∞",
            Norm::L2 => "ℓ2",
        })
    }
}

/// Where the steps of an attack begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begin {
    /// At a random image within the bound.
    Random,
    /// At the clean image.
    Clean,
}

/// Each batch is replaced by what projected gradient ascent makes of it (Madry et al. 2018). Distances are of pixels in `[0, 1]`, as those of
/// `trainer attack` are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialConfig {
    /// How the change is measured.
    pub norm: Norm,
    /// Its bound ε.
    #[serde(with = "typed")]
    pub epsilon: PixelDistance,
    /// Steps for each batch.
    pub steps: usize,
    /// Length of each.
    #[serde(with = "typed")]
    pub step_size: PixelDistance,
    /// Where they begin.
    pub start: Begin,
}

/// Each batch gets Gaussian noise: what a classifier has to know whose answers are certified by randomised smoothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseConfig {
    /// Its standard deviation, of pixels in `[0, 1]`.
    #[serde(with = "typed")]
    pub sigma: PixelDistance,
}

impl ClassifierConfig {
    /// Standard deviation of the noise on data, of pixels in `[-1, 1]`.
    pub fn data_noise(&self) -> f64 {
        self.noise.map_or(self.learning.data_noise, |noise| {
            noise.sigma.in_signed_range()
        })
    }

    pub(super) fn check_hardening(&self) -> Result<()> {
        if let Some(adversarial) = &self.adversarial {
            adversarial
                .norm
                .check_bound("adversarial.epsilon =", adversarial.epsilon)?;
            at_least_one("adversarial.steps", adversarial.steps as u64)?;
            above_zero("adversarial.step_size", adversarial.step_size)?;
        }
        let Some(noise) = self.noise else {
            return Ok(());
        };
        above_zero("noise.sigma", noise.sigma)?;
        ensure!(
            self.adversarial.is_none(),
            "[noise] and [adversarial]: expected one of them; an attack on noisy images is neither"
        );
        ensure!(
            self.learning.data_noise == 0.0,
            range(
                "learning.data_noise",
                self.learning.data_noise,
                "0 beside [noise], which says the same of pixels in [0, 1]"
            )
        );
        Ok(())
    }
}

fn above_zero(key: &str, distance: PixelDistance) -> Result<()> {
    let value = distance.in_unit_range();
    ensure!(
        value > 0.0,
        range(key, value, "above 0, of pixels in [0, 1]")
    );
    Ok(())
}

/// Distances as they are typed: `0.1` or `"8/255"`, of pixels in `[0, 1]`.
mod typed {
    use ebm_common::PixelDistance;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(
        untagged,
        expecting = "expected a distance of pixels in [0, 1], as in 0.03 or \"8/255\""
    )]
    enum Typed {
        Number(f64),
        Fraction(String),
    }

    pub fn serialize<S: Serializer>(
        distance: &PixelDistance,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let typed = match distance.in_unit_range() {
            // A number above 1 would not be believed when it is read again.
            large if large > 1.0 => Typed::Fraction(format!("{large}/1")),
            usual => Typed::Number(usual),
        };
        typed.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PixelDistance, D::Error> {
        let text = match Typed::deserialize(deserializer)? {
            Typed::Number(number) => number.to_string(),
            Typed::Fraction(text) => text,
        };
        text.parse().map_err(Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn resolved(sets: &str) -> Result<ClassifierConfig> {
        let layers = Layers::default().preset("digits-classifier")?;
        let sets: Vec<String> = sets.split(' ').map(str::to_string).collect();
        layers.set_all(&sets)?.resolve()
    }

    const ADVERSARIAL: &str = "adversarial.norm=linf adversarial.steps=7 adversarial.step_size=2/255 adversarial.start=random";

    #[test]
    fn distances_are_of_0_to_1_and_survive_being_written() {
        for (epsilon, wanted) in [("8/255", 8.0 / 255.0), ("0.1", 0.1), ("1", 1.0)] {
            let config = resolved(&format!("{ADVERSARIAL} adversarial.epsilon={epsilon}")).unwrap();
            let adversarial = config.adversarial.unwrap();
            assert_eq!(adversarial.epsilon.in_unit_range(), wanted);
            assert_eq!(adversarial.step_size.in_signed_range(), 4.0 / 255.0);
            let written = toml::to_string(&config).unwrap();
            assert_eq!(
                toml::from_str::<ClassifierConfig>(&written).unwrap(),
                config
            );
        }
        let of_l2 = "adversarial.norm=l2 adversarial.steps=7 adversarial.step_size=0.5 adversarial.start=clean";
        let config = resolved(&format!("{of_l2} adversarial.epsilon=1.5/1")).unwrap();
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(
            serde_json::from_value::<ClassifierConfig>(json).unwrap(),
            config
        );
        let noisy = resolved("noise.sigma=0.25").unwrap();
        assert_eq!(noisy.data_noise(), 0.5);
        assert_eq!(
            resolved("learning.data_noise=0.25").unwrap().data_noise(),
            0.25
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let with = |epsilon: &str| format!("{ADVERSARIAL} adversarial.epsilon={epsilon}");
        for (sets, wanted) in [
            (with("8"), "did you mean 8/255?"),
            (with("0"), "adversarial.epsilon = 0: expected above 0"),
            (with("300/255"), "expected at most 1"),
            (with("-0.1"), "expected a distance of pixels in [0, 1]"),
            (with("large"), "expected a distance of pixels in [0, 1]"),
            (with("[0.1]"), "expected a distance of pixels in [0, 1]"),
            (
                with("0.1 adversarial.steps=0"),
                "adversarial.steps = 0: expected at least 1",
            ),
            (
                with("0.1 adversarial.step_size=0"),
                "adversarial.step_size = 0: expected above 0",
            ),
            (with("0.1 noise.sigma=0.25"), "expected one of them"),
            ("adversarial.epsilon=0.1".to_string(), "norm"),
            (
                "noise.sigma=0".to_string(),
                "noise.sigma = 0: expected above 0",
            ),
            ("noise.sigma=-1".to_string(), "expected a distance"),
            ("noise.sigma=64".to_string(), "did you mean 64/255?"),
            (
                "noise.sigma=0.25 learning.data_noise=0.5".to_string(),
                "learning.data_noise = 0.5: expected 0 beside [noise]",
            ),
        ] {
            let error = format!("{:#}", resolved(&sets).unwrap_err());
            assert!(error.contains(wanted), "{sets}: {error}");
        }
        let energy = Layers::default().preset("digits-midrun").unwrap();
        let energy = energy.set("noise.sigma=0.25").unwrap();
        let error = energy.resolve_fit().unwrap_err().to_string();
        assert!(error.contains("unknown key `noise`"), "{error}");
    }
}
