//! The attacks of an audit.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::ball::Norm;
use super::loss::Loss;
use super::oracle::Metric;

/// An attack on a defended classifier, or a control beside it. In the order in which an audit makes them: the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Control: no perturbation, asked about as often as an attack asks.
    None,
    /// Control: random perturbations, each question another.
    Random,
    /// PGD on the bare classifier, judged on the defended one.
    Transfer,
    /// Square: random squares, without gradients (ℓ∞ only).
    Square,
    /// Gradients estimated from differences of losses.
    Differences,
    /// BPDA+EOT: the purification is taken for the identity in the backward pass (the reference's).
    Bpda,
    /// Exact gradients through a chain of fewer, larger steps (Lee and Kim 2023).
    Surrogate,
    /// Exact gradients through the whole chain, from a random start.
    Exact,
    /// The same from the clean image.
    ExactFromClean,
    /// Auto-PGD on exact gradients with the cross-entropy.
    ApgdCe,
    /// Auto-PGD on exact gradients with the difference of logits ratio.
    ApgdDlr,
    /// Exact gradients where masks of ReLU are softened on the way back.
    Softened,
    /// Exact gradients by an attacker who knows the seed of a device that purifies once.
    KnownNoise,
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

/// Where a climb begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At a random image of the ball.
    Random,
    /// At the clean image.
    Clean,
}

/// Through what an attack looks at the defence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// It sees the bare classifier only.
    Bare,
    /// The purification, without its derivative.
    Identity,
    /// The purification with its exact derivative.
    Exact,
    /// A shorter chain, exactly.
    Shorter,
    /// The purification, with the derivative of a softened energy.
    Softened,
}

impl Attack {
    /// All of them, in order.
    pub fn all() -> &'static [Attack] {
        Attack::value_variants()
    }

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Attack::None => "none",
            Attack::Random => "random",
            Attack::Transfer => "transfer",
            Attack::Square => "square",
            Attack::Differences => "differences",
            Attack::Bpda => "bpda",
            Attack::Surrogate => "surrogate",
            Attack::Exact => "exact",
            Attack::ExactFromClean => "exact-from-clean",
            Attack::ApgdCe => "apgd-ce",
            Attack::ApgdDlr => "apgd-dlr",
            Attack::Softened => "softened",
            Attack::KnownNoise => "known-noise",
        }
    }

    /// As it is called in tables.
    pub fn title(self) -> &'static str {
        match self {
            Attack::None => "no perturbation",
            Attack::Random => "random perturbations",
            Attack::Transfer => "transfer of PGD on the bare classifier",
            Attack::Square => "Square",
            Attack::Differences => "differences of losses (NES)",
            Attack::Bpda => "BPDA+EOT",
            Attack::Surrogate => "surrogate chain (Lee and Kim)",
            Attack::Exact => "exact PGD+EOT",
            Attack::ExactFromClean => "exact PGD+EOT from the clean image",
            Attack::ApgdCe => "exact APGD, cross-entropy",
            Attack::ApgdDlr => "exact APGD, logits ratio",
            Attack::Softened => "exact PGD+EOT, softened masks",
            Attack::KnownNoise => "known noise, exact PGD",
        }
    }

    /// How it climbs.
    pub fn climb(self) -> Climb {
        match self {
            Attack::None => Climb::Still,
            Attack::Random => Climb::Scatter,
            Attack::Square => Climb::Square,
            Attack::Differences => Climb::Differences,
            Attack::ApgdCe | Attack::ApgdDlr => Climb::Apgd,
            Attack::ExactFromClean => Climb::Pgd(Begin::Clean),
            Attack::Transfer | Attack::Bpda | Attack::Surrogate | Attack::Exact => {
                Climb::Pgd(Begin::Random)
            }
            Attack::Softened | Attack::KnownNoise => Climb::Pgd(Begin::Random),
        }
    }

    /// Through what it looks.
    pub fn view(self) -> View {
        match self {
            Attack::Transfer => View::Bare,
            Attack::None | Attack::Random | Attack::Square | Attack::Differences | Attack::Bpda => {
                View::Identity
            }
            Attack::Surrogate => View::Shorter,
            Attack::Softened => View::Softened,
            Attack::Exact
            | Attack::ExactFromClean
            | Attack::ApgdCe
            | Attack::ApgdDlr
            | Attack::KnownNoise => View::Exact,
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
    pub fn obstacle(self, norm: Norm, has_relus: bool) -> Option<&'static str> {
        match (self, norm, has_relus) {
            (Attack::Square, Norm::L2, _) => Some("it is one of ℓ∞"),
            (Attack::Softened, _, false) => Some("it softens ReLUs, and this energy is smooth"),
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
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        for attack in Attack::all() {
            let typed = attack.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), attack.name());
            assert_eq!(serde_json::to_value(attack).unwrap(), attack.name());
        }
    }
}
