//! The presets that are built in.

use super::Error;

/// A configuration with a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What the user types.
    pub name: &'static str,
    /// The TOML text; its first line is a comment that says what it is for.
    pub text: &'static str,
}

impl Preset {
    /// What it is for, in one line.
    pub fn summary(&self) -> &'static str {
        self.text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches('#')
            .trim()
    }
}

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        /// All presets by name.
        pub const PRESETS: &[Preset] =
            &[$(Preset { name: $name, text: include_str!(concat!("../../presets/", $name, ".toml")) }),*];
    };
}

presets![
    "digits-classifier",
    "digits-midrun",
    "mnist-classifier",
    "mnist-midrun",
    "cifar10-classifier-small",
    "cifar10-midrun-data",
];

/// The preset of that name.
///
/// # Errors
/// There is none; the error lists those that exist.
pub fn preset(name: &str) -> Result<&'static Preset, Error> {
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .ok_or_else(|| Error::UnknownPreset {
            name: name.to_string(),
            presets: PRESETS
                .iter()
                .map(|preset| preset.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClassifierConfig, EnergyConfig, Layers};

    #[test]
    fn every_preset_resolves() {
        for preset in PRESETS {
            let layers = Layers::default().preset(preset.name).unwrap();
            let energy = layers.resolve::<EnergyConfig>().map(|_| ());
            let classifier = layers.resolve::<ClassifierConfig>().map(|_| ());
            assert!(
                energy.is_ok() || classifier.is_ok(),
                "{}: {energy:?} {classifier:?}",
                preset.name
            );
        }
    }
}
