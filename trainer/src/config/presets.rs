//! The presets that are built in.

use anyhow::{Context, Result};

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
    "digits-classifier-adversarial",
    "digits-shortrun",
    "digits-midrun",
    "digits-midrun-cooperative",
    "digits-denoise",
    "digits-flow",
    "digits-energy-matching",
    "digits-prior",
    "digits-longrun",
    "mnist-classifier",
    "mnist-classifier-adversarial",
    "mnist-classifier-noise",
    "mnist-shortrun",
    "mnist-midrun",
    "mnist-midrun-cooperative",
    "mnist-denoise",
    "mnist-flow",
    "mnist-energy-matching",
    "mnist-flow-small",
    "mnist-energy-matching-small",
    "mnist-prior",
    "mnist-prior-cooperative",
    "mnist-longrun",
    "mnist-longrun-cooperative",
    "cifar10-classifier",
    "cifar10-shortrun",
    "cifar10-midrun",
    "cifar10-midrun-smooth",
    "cifar10-midrun-data",
    "cifar10-midrun-data-smooth",
    "cifar10-prior",
    "cifar10-longrun",
    "cifar10-longrun-data",
    "cifar10-flow",
    "cifar10-energy-matching",
    "cifar10-classifier-small",
    "cifar10-shortrun-small",
    "cifar10-midrun-small",
    "cifar10-denoise-small",
    "cifar10-prior-small",
    "cifar10-longrun-small",
    "celeba64-shortrun",
    "celeba64-prior",
    "celeba64-longrun",
    "imagenet32-flow",
    "imagenet32-energy-matching",
    "imagenet64-prior",
    "imagenet64-longrun",
    "imagenet128-shortrun",
    "imagenet224-midrun",
    "imagenet224-midrun-smooth",
];

/// The preset of that name.
pub fn preset(name: &str) -> Result<&'static Preset> {
    let found = PRESETS.iter().find(|preset| preset.name == name);
    found.with_context(|| {
        let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
        let names = names.join(", ");
        format!("{name:?} is neither a file nor a preset: the presets are {names}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClassifierConfig, EnergyConfig, Fit, GeneratorConfig, Layers};

    /// Resolving builds the graphs of all networks, without weights.
    #[test]
    fn every_preset_resolves() {
        for preset in PRESETS {
            let layers = Layers::default().preset(preset.name).unwrap();
            let energy = layers.resolve_fit().map(|_| ());
            let classifier = layers.resolve::<ClassifierConfig>().map(|_| ());
            assert!(
                energy.is_ok() || classifier.is_ok(),
                "{}: {energy:?} {classifier:?}",
                preset.name
            );
        }
    }

    #[test]
    fn every_preset_states_every_value() {
        for preset in PRESETS {
            let layers = Layers::default().preset(preset.name).unwrap();
            let resolved = match layers.resolve_fit() {
                Ok(Fit::Likelihood(config)) => toml::Table::try_from(config),
                Ok(Fit::Matching(config)) => toml::Table::try_from(config),
                Err(_) => toml::Table::try_from(layers.resolve::<ClassifierConfig>().unwrap()),
            };
            let written: toml::Table = preset.text.parse().unwrap();
            let [resolved, written] = [resolved.unwrap(), written].map(|table| keys(&table));
            assert_eq!(resolved, written, "{}", preset.name);
        }
    }

    /// All keys with their sections.
    fn keys(table: &toml::Table) -> Vec<String> {
        let below = |(key, value): (&String, &toml::Value)| match value {
            toml::Value::Table(table) => {
                let keys = keys(table).into_iter();
                keys.map(|below| format!("{key}.{below}")).collect()
            }
            _ => vec![key.clone()],
        };
        table.iter().flat_map(below).collect()
    }

    #[test]
    fn every_preset_says_what_it_is_for_and_every_file_is_one() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/presets");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), PRESETS.len());
        for preset in PRESETS {
            assert!(preset.text.starts_with("# "), "{}", preset.name);
            assert!(preset.summary().ends_with('.'), "{}", preset.name);
        }
    }

    /// Exact gradients say something about a smooth energy alone.
    #[test]
    fn energies_that_purify_are_smooth_or_have_a_smooth_twin() {
        const RELU: &str = "activation = \"relu\"";
        const SMOOTH: &str = "activation = \"silu\"";
        let of_network = |text: &str| {
            let network = text.split_once("[network]").unwrap().1;
            network.split_once("\n[").unwrap().0.to_string()
        };
        for own in PRESETS.iter().filter(|own| own.name.contains("midrun")) {
            let twin = PRESETS
                .iter()
                .find(|twin| twin.name == format!("{}-smooth", own.name));
            let Some(twin) = twin else {
                assert!(of_network(own.text).contains(SMOOTH), "{}", own.name);
                continue;
            };
            let values = |preset: &Preset| preset.text.split_once('\n').unwrap().1.to_string();
            assert_eq!(
                values(own).replacen(RELU, SMOOTH, 1),
                values(twin),
                "{}",
                own.name
            );
            assert!(of_network(own.text).contains(RELU), "{}", own.name);
        }
    }

    /// What PRESETS of the reference say, of one preset of each regime.
    #[test]
    fn published_values_are_those_of_the_reference() {
        let resolve = |name: &str| -> EnergyConfig {
            Layers::default().preset(name).unwrap().resolve().unwrap()
        };
        for (name, updates, steps, step_size, temperature, tau, bank) in [
            ("cifar10-shortrun", 150_000, 100, 5e-3, 1e-4, None, 10_000),
            ("celeba64-shortrun", 200_000, 75, 3e-3, 1e-6, None, 10_000),
            (
                "imagenet128-shortrun",
                300_000,
                50,
                3e-3,
                1e-7,
                None,
                10_000,
            ),
            ("cifar10-midrun", 150_000, 100, 1.25e-2, 1e-4, None, 25_000),
            (
                "cifar10-midrun-data",
                150_000,
                100,
                1e-2,
                1e-4,
                None,
                20_000,
            ),
            ("imagenet224-midrun", 150_000, 100, 2e-2, 1e-5, None, 10_000),
            ("cifar10-prior", 150_000, 50, 1e-2, 1e-4, Some(0.15), 10_000),
            (
                "celeba64-prior",
                150_000,
                100,
                1e-2,
                1e-4,
                Some(0.15),
                10_000,
            ),
            (
                "imagenet64-prior",
                150_000,
                100,
                1e-2,
                1e-5,
                Some(0.15),
                10_000,
            ),
            (
                "cifar10-longrun",
                250_000,
                100,
                1e-2,
                1e-4,
                Some(0.15),
                10_000,
            ),
            (
                "cifar10-longrun-data",
                250_000,
                100,
                1e-2,
                1e-4,
                Some(0.15),
                10_000,
            ),
            (
                "celeba64-longrun",
                250_000,
                100,
                1e-2,
                1e-4,
                Some(0.15),
                15_000,
            ),
            (
                "imagenet64-longrun",
                250_000,
                100,
                1e-2,
                1e-5,
                Some(0.15),
                15_000,
            ),
        ] {
            let config = resolve(name);
            let langevin = &config.langevin;
            assert_eq!(config.learning.updates, updates, "{name}");
            assert_eq!(langevin.steps.values(), [steps], "{name}");
            let got = (
                langevin.step_size,
                langevin.temperature,
                langevin.tau.value(),
            );
            assert_eq!(got, (step_size, temperature, tau), "{name}");
            assert_eq!(config.chains.bank, bank, "{name}");
            assert_eq!(config.burn_in.is_some(), name.contains("longrun"), "{name}");
            assert_eq!(config.prior.is_some(), name.contains("longrun"), "{name}");
            let learns = matches!(config.generator, Some(GeneratorConfig::Learned(_)));
            assert_eq!(learns, name.contains("shortrun"), "{name}");
            let averages = config.learning.ema_decay.value();
            let wanted = (!name.contains("longrun")).then_some(0.9999);
            assert_eq!(averages, wanted, "{name}");
        }
    }
}
