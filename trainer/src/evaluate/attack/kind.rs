//! The attacks of an audit.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::loss::Loss;
use super::oracle::Metric;
use crate::config::{Begin, Norm};

/// An attack on a defended classifier, or a control beside it. In the order in which an audit makes them: what breaks most images
/// for its time first, since those ask no further questions. The number of each is a part of the seed of its draws, so it never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Control: no perturbation, asked about as often as an attack asks.
    None = 0,
    /// Control: random perturbations, each question another.
    Random = 1,
    /// PGD on the bare classifier, judged on the defended one.
    Transfer = 2,
    /// BPDA+EOT: the purification is taken for the identity in the backward pass (the reference's).
    Bpda = 5,
    /// Exact gradients through a chain of fewer, larger steps (Lee and Kim 2023).
    Surrogate = 6,
    /// Exact gradients through the whole chain, from a random start.
    Exact = 7,
    /// The same from the clean image.
    ExactFromClean = 8,
    /// Auto-PGD on exact gradients with the cross-entropy.
    ApgdCe = 9,
    /// Auto-PGD on exact gradients with the difference of logits ratio.
    ApgdDlr = 10,
    /// Exact gradients where masks of ReLU are softened on the way back, by a bend of width e = 0.01.
    #[value(name = "softened-0.01")]
    #[serde(rename = "softened-0.01")]
    SoftenedSharply = 11,
    /// The same with e = 0.1.
    #[value(name = "softened-0.1", alias = "softened")]
    #[serde(rename = "softened-0.1", alias = "softened")]
    Softened = 12,
    /// The same with e = 0.3.
    #[value(name = "softened-0.3")]
    #[serde(rename = "softened-0.3")]
    SoftenedWidely = 13,
    /// Exact gradients by an attacker who knows the seed of a device that purifies once.
    KnownNoise = 14,
    /// Square: random squares, without gradients (ℓ∞ only).
    Square = 3,
    /// Gradients estimated from differences of losses.
    Differences = 4,
}

/// How an attack is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Climb {
    /// See [`super::climb::Still`].
    Still,
    /// See [`super::climb::Scatter`].
    Scatter,
    /// See [`super::climb::Pgd`].
    Pgd(Begin),
    /// See [`super::climb::Apgd`].
    Apgd,
    /// See [`super::climb::Square`].
    Square,
    /// See [`super::climb::Differences`].
    Differences,
}

/// What decides which attacks can be made.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// How changes are measured.
    pub norm: Norm,
    /// Whether anything stands before the classifier.
    pub has_front: bool,
    /// Whether the energy has ReLUs.
    pub has_relus: bool,
}

/// Through what an attack looks at the defence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum View {
    /// It sees the bare classifier only.
    Bare,
    /// The purification, without its derivative.
    Identity,
    /// The purification with its exact derivative.
    Exact,
    /// A shorter chain, exactly.
    Shorter,
    /// The purification, with the derivative of an energy whose ReLUs have a bend of this width.
    Softened(f32),
}

impl Attack {
    /// All of them, in order.
    pub fn all() -> &'static [Attack] {
        Attack::value_variants()
    }

    /// As it is called in tables; how it climbs; through what it looks.
    fn row(self) -> (&'static str, Climb, View) {
        let pgd = Climb::Pgd(Begin::Random);
        match self {
            Attack::None => ("no perturbation", Climb::Still, View::Identity),
            Attack::Random => ("random perturbations", Climb::Scatter, View::Identity),
            Attack::Transfer => ("transfer of PGD on the bare classifier", pgd, View::Bare),
            Attack::Bpda => ("BPDA+EOT", pgd, View::Identity),
            Attack::Surrogate => ("surrogate chain (Lee and Kim)", pgd, View::Shorter),
            Attack::Exact => ("exact PGD+EOT", pgd, View::Exact),
            Attack::ExactFromClean => {
                let title = "exact PGD+EOT from the clean image";
                (title, Climb::Pgd(Begin::Clean), View::Exact)
            }
            Attack::ApgdCe => ("exact APGD, cross-entropy", Climb::Apgd, View::Exact),
            Attack::ApgdDlr => ("exact APGD, logits ratio", Climb::Apgd, View::Exact),
            Attack::SoftenedSharply => ("softened masks, e = 0.01", pgd, View::Softened(0.01)),
            Attack::Softened => ("softened masks, e = 0.1", pgd, View::Softened(0.1)),
            Attack::SoftenedWidely => ("softened masks, e = 0.3", pgd, View::Softened(0.3)),
            Attack::KnownNoise => ("known noise, exact PGD", pgd, View::Exact),
            Attack::Square => ("Square", Climb::Square, View::Identity),
            Attack::Differences => {
                let title = "differences of losses (NES)";
                (title, Climb::Differences, View::Identity)
            }
        }
    }

    /// As it is called in tables.
    pub fn title(self) -> &'static str {
        self.row().0
    }

    /// How it climbs.
    pub fn climb(self) -> Climb {
        self.row().1
    }

    /// Through what it looks.
    pub fn view(self) -> View {
        self.row().2
    }

    /// The width of the bend that ReLUs have on the way back, if it softens them.
    pub fn bend(self) -> Option<f32> {
        match self.view() {
            View::Softened(bend) => Some(bend),
            _ => None,
        }
    }

    /// What it climbs.
    pub fn loss(self) -> Loss {
        match self {
            Attack::ApgdDlr => Loss::LogitsRatio,
            Attack::Square | Attack::Differences => Loss::Margin,
            _ => Loss::CrossEntropy,
        }
    }

    /// What it wants to spoil.
    pub fn metric(self) -> Metric {
        match self {
            Attack::KnownNoise => Metric::Single,
            _ => Metric::Vote,
        }
    }

    /// Why it cannot be made, if so.
    pub fn obstacle(self, circumstances: &Circumstances) -> Option<&'static str> {
        let Circumstances {
            norm,
            has_front,
            has_relus,
        } = *circumstances;
        let looks_through = self.knows_the_seed()
            || self.bend().is_some()
            || matches!(self.view(), View::Bare | View::Shorter)
            || self == Attack::Bpda;
        if looks_through && !has_front {
            return Some("it is one of purifications, and none stands before the classifier");
        }
        match self {
            Attack::Square if norm == Norm::L2 => Some("it is one of ℓ∞"),
            _ if self.bend().is_some() && !has_relus => {
                Some("it softens ReLUs, and this energy is smooth")
            }
            _ => None,
        }
    }

    /// Whether it only serves as a comparison, without looking for a break.
    pub fn is_control(self) -> bool {
        matches!(self, Attack::None | Attack::Random)
    }

    /// Whether what it breaks counts as broken by the attacks together. Others are made on the images alone that all attacks meet.
    pub fn is_of_the_union(self) -> bool {
        !self.is_control() && !self.knows_the_seed()
    }

    /// Whether it supposes what only a device with a fixed seed gives away; then it has no part in the union.
    pub fn knows_the_seed(self) -> bool {
        self == Attack::KnownNoise
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As it is written on a command line.
        let typed = self.to_possible_value();
        typed.map_or(Ok(()), |typed| f.write_str(typed.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for attack in Attack::all() {
            let typed = attack.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), attack.to_string());
            assert_eq!(serde_json::to_value(attack).unwrap(), attack.to_string());
        }
    }
}
