//! Which tensor of a file becomes which weight of a network, and by which steps. `docs/importing-weights.md` describes the file format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::step::Step;

/// A map of names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameMap {
    /// Dictionaries of the file to look in, by name; the first that holds any tensor counts. Empty for the file itself.
    #[serde(default)]
    pub roots: Vec<String>,
    /// Names of tensors that are left out on purpose; `*` stands for any characters.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Name in the file → weight of the network.
    #[serde(default)]
    pub weights: BTreeMap<String, Target>,
    /// Weights that the file does not have → the value of all their elements; `*` stands for any characters.
    #[serde(default)]
    pub fill: BTreeMap<String, f32>,
}

/// Where a tensor goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Target {
    /// As it is, to the weight of that name.
    Same(String),
    /// Through steps.
    Through(Through),
}

/// A weight, and the steps to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Through {
    /// Name of the weight.
    pub to: String,
    /// What is done with the tensor, in order.
    pub steps: Vec<Step>,
}

impl Target {
    /// Name of the weight.
    pub fn name(&self) -> &str {
        match self {
            Target::Same(name) => name,
            Target::Through(through) => &through.to,
        }
    }

    /// What is done with the tensor.
    pub fn steps(&self) -> &[Step] {
        match self {
            Target::Same(_) => &[],
            Target::Through(through) => &through.steps,
        }
    }
}

/// Does a pattern, in which `*` stands for any characters, fit the whole text?
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(position) => rest = &rest[position + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::import::step::SpectralNorm;

    #[test]
    fn reads_as_toml() {
        let map: NameMap = toml::from_str(
            r#"
            roots = ["model_state_dict", ""]
            ignore = ["*.num_batches_tracked"]

            [weights]
            "block1.c1.bias" = "stem.conv1.bias"
            "l5.weight" = { to = "head.weight", steps = [{ transpose = [1, 0] }, { scale = 64.0 }] }
            "c.weight_orig" = { to = "c.weight", steps = [{ spectral_norm = { u = "c.weight_u", v = "c.weight_v" } }] }

            [fill]
            "*.bias" = 0.0
            "#,
        )
        .unwrap();
        let through = |to: &str, steps| {
            Target::Through(Through {
                to: to.to_string(),
                steps,
            })
        };
        let norm = SpectralNorm {
            u: "c.weight_u".to_string(),
            v: Some("c.weight_v".to_string()),
        };
        let wanted = NameMap {
            roots: vec!["model_state_dict".to_string(), String::new()],
            ignore: vec!["*.num_batches_tracked".to_string()],
            weights: BTreeMap::from([
                (
                    "block1.c1.bias".to_string(),
                    Target::Same("stem.conv1.bias".to_string()),
                ),
                (
                    "l5.weight".to_string(),
                    through(
                        "head.weight",
                        vec![Step::Transpose(vec![1, 0]), Step::Scale(64.0)],
                    ),
                ),
                (
                    "c.weight_orig".to_string(),
                    through("c.weight", vec![Step::SpectralNorm(norm)]),
                ),
            ]),
            fill: BTreeMap::from([("*.bias".to_string(), 0.0)]),
        };
        assert_eq!(map, wanted);
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in [
            "ignored = []",
            "[weights]\na = { to = \"b\", steps = [{ rotate = 1 }] }",
            "[weights]\na = { steps = [] }",
        ] {
            toml::from_str::<NameMap>(text).unwrap_err();
        }
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, wanted) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*.bias", "a.bias", true),
            ("*.bias", "bias", false),
            ("a.*.c", "a.b.b.c", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern} and {text}");
        }
    }
}
