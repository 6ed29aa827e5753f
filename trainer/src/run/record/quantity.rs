//! What the measured values are called in plots.

use crate::draw::panel::Panel;

const TITLES: [(&str, &str); 7] = [
    (
        "energy_difference",
        "energy difference: (E(data) − E(chain ends)) / T",
    ),
    (
        "gradient_strength",
        "gradient strength: mean of ‖(ε²/2)·∇U‖",
    ),
    ("saturation", "saturation: share of values at or beyond ±1"),
    ("generator_loss", "generator: mean of ‖x⁻ − G(z)‖²"),
    ("loss", "loss on training images"),
    ("accuracy", "accuracy on training images"),
    ("learning_rate", "learning rate"),
];

/// The names of values that say how good learning is, the most important first.
pub fn known() -> impl Iterator<Item = &'static str> {
    let names = TITLES.into_iter().map(|(name, _)| name);
    names.filter(|name| *name != "learning_rate")
}

/// The title of a value, or its own name if it has no title.
pub fn title(name: &str) -> String {
    let known = TITLES.iter().find(|(known, _)| *known == name);
    known.map_or_else(|| name.replace('_', " "), |(_, title)| (*title).to_string())
}

/// A panel of a value over updates.
pub fn panel(name: &str, points: Vec<(f64, f64)>) -> Panel {
    let panel = Panel::new(&title(name), "update").line(name, points);
    match name {
        "energy_difference" => panel.cut_where_wild(),
        "learning_rate" => panel.logarithmic(),
        _ => panel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_called_by_its_name() {
        for (name, wanted) in [
            ("accuracy", "accuracy on training images"),
            ("some_value", "some value"),
        ] {
            assert_eq!(title(name), wanted);
        }
    }
}
