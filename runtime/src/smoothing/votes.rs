//! Votes of a classifier under noise, and what follows from them.

use super::Smoothing;
use super::statistics::p_value_of_a_tie;
use crate::seed::Seed;
use ebm_common::PixelDistance;
use ebm_common::interval::lower_bound;

/// How often each class was the answer under noise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Votes {
    /// For each class, from 0.
    pub of_classes: Vec<usize>,
    /// Draws without an answer: their chain left the finite numbers, or the logits are not numbers. They count against every class.
    pub of_none: usize,
}

impl Votes {
    pub(super) fn none(n_classes: usize) -> Self {
        Self {
            of_classes: vec![0; n_classes],
            of_none: 0,
        }
    }

    pub(super) fn add(&mut self, answer: Option<usize>) {
        match answer {
            Some(class) => self.of_classes[class] += 1,
            None => self.of_none += 1,
        }
    }

    /// The number of draws.
    pub fn n(&self) -> usize {
        self.of_classes.iter().sum::<usize>() + self.of_none
    }

    /// The class with most votes; the lowest of those that tie.
    pub(super) fn leader(&self) -> usize {
        let votes = self.of_classes.iter().zip((0..).map(std::cmp::Reverse));
        votes.max().map_or(0, |(_, class)| class.0)
    }
}

/// The answer of [`SmoothedClassifier::predict`](crate::SmoothedClassifier::predict).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The class of the smoothed classifier; `None` if the votes cannot tell it with confidence 1 − α.
    pub class: Option<usize>,
    /// The votes of which it follows. Drawing ends early once it is certain that they cannot tell.
    pub votes: Votes,
    /// The seed of the noise, which reproduces the answer.
    pub seed: Seed,
    /// The index of the image in the noise.
    pub index: u32,
}

/// The answer of [`SmoothedClassifier::certify`](crate::SmoothedClassifier::certify).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// The class of the smoothed classifier at the image and at all others within the radius; `None` if there is no certificate.
    pub class: Option<usize>,
    /// The ℓ2 radius; 0 if there is no certificate.
    pub radius: PixelDistance,
    /// The lower bound of the probability of [`selected`](Self::selected) under noise. 0 if drawing ended early.
    pub probability: f64,
    /// The class that the selection took.
    pub selected: usize,
    /// The votes of the selection.
    pub selection: Votes,
    /// The votes of the estimation, on noise of their own. Drawing ends early once it is certain that there will be no certificate.
    pub estimation: Votes,
    /// The seed of the noise, which reproduces the answer.
    pub seed: Seed,
    /// The index of the image in the noise.
    pub index: u32,
}

impl Smoothing {
    /// The class of the smoothed classifier according to these votes, if all of `n_left` further ones were for the leader; `None` if even then the runner-up could be as likely.
    pub(super) fn winner(&self, votes: &Votes, n_left: usize) -> Option<usize> {
        let leader = votes.leader();
        let others = votes.of_classes.iter().enumerate();
        let others = others.filter(|(class, _)| *class != leader);
        let rival = others.map(|(_, n)| *n).chain([votes.of_none]).max()?;
        let n = votes.of_classes.get(leader)? + n_left;
        (n > rival && p_value_of_a_tie(n, rival) <= self.alpha).then_some(leader)
    }

    /// The lower bound of the probability of `class` according to these votes, if all of `n_left` further ones were for it.
    pub(super) fn probability(&self, class: usize, votes: &Votes, n_left: usize) -> f64 {
        let n = votes.of_classes.get(class).map_or(0, |n| n + n_left);
        lower_bound(n, votes.n() + n_left, self.alpha)
    }

    /// What the votes of selection and estimation certify.
    pub(super) fn certificate(
        &self,
        selection: Votes,
        estimation: Votes,
        (seed, index): (Seed, u32),
    ) -> Certificate {
        let selected = selection.leader();
        let is_whole = estimation.n() == self.n;
        let probability = match is_whole {
            true => self.probability(selected, &estimation, 0),
            false => 0.0,
        };
        let radius = self.radius(probability);
        Certificate {
            class: (radius > PixelDistance::ZERO).then_some(selected),
            radius,
            probability,
            selected,
            selection,
            estimation,
            seed,
            index,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn votes(text: &str) -> Votes {
        let of_classes = text.split(',').map(|n| n.parse().unwrap()).collect();
        Votes {
            of_classes,
            of_none: 0,
        }
    }

    fn class(text: &str) -> Option<usize> {
        (text != "-").then(|| text.parse().unwrap())
    }

    #[test]
    fn the_same_votes_come_to_what_scipy_makes_of_them() {
        let lines = include_str!("golden/counts.tsv").lines();
        let mut worst = 0.0_f64;
        for line in lines.clone() {
            let columns: Vec<&str> = line.split('\t').collect();
            let (selection, estimation) = (votes(columns[2]), votes(columns[3]));
            let smoothing = Smoothing {
                sigma: columns[0].parse().unwrap(),
                n0: selection.n(),
                n: estimation.n(),
                alpha: columns[1].parse().unwrap(),
            };
            assert_eq!(
                smoothing.winner(&estimation, 0),
                class(columns[6]),
                "{line}"
            );
            let certificate = smoothing.certificate(selection, estimation, (0.into(), 0));
            assert_eq!(certificate.class, class(columns[4]), "{line}");
            let radius: f64 = columns[5].parse().unwrap();
            worst = worst.max((certificate.radius.in_unit_range() - radius).abs());
        }
        assert_eq!(lines.count(), 1000, "golden/make_counts.py made the file");
        assert!(worst < 1e-8, "{worst}: golden/make_counts.py made the file");
    }

    #[test]
    fn draws_without_an_answer_count_against_every_class() {
        let smoothing = Smoothing::new(PixelDistance::of_unit_range(0.25));
        let with_none = |of_none| Votes {
            of_classes: vec![6000, 100],
            of_none,
        };
        assert_eq!(smoothing.winner(&with_none(0), 0), Some(0));
        assert_eq!(smoothing.winner(&with_none(5900), 0), None);
        assert_eq!(smoothing.winner(&with_none(7000), 0), None);
        let certify = |of_none| {
            let smoothing = Smoothing {
                n: 6100 + of_none,
                ..smoothing
            };
            smoothing.certificate(votes("0,3"), with_none(of_none), (0.into(), 0))
        };
        assert_eq!(certify(0).class, None, "class 1 was selected");
        let probability = |of_none| smoothing.probability(0, &with_none(of_none), 0);
        assert!(probability(0) > 0.97 && probability(5000) < 0.56);
    }

    /// Wherever drawing stops, the outcome is that of the best that could still come.
    #[test]
    fn an_open_outcome_is_one_that_the_rest_could_still_decide() {
        let smoothing = Smoothing {
            n: 200,
            ..Smoothing::new(PixelDistance::of_unit_range(0.25))
        };
        for (text, certifiable, predictable) in [
            ("0,0", true, true),
            ("20,78", true, true),
            ("79,20", true, true),
            ("78,70", true, true),
            ("80,90", false, false),
            ("90,80", false, false),
        ] {
            let votes = votes(text);
            let n_left = 200 - votes.n();
            let leader = votes.leader();
            assert_eq!(
                smoothing.probability(leader, &votes, n_left) > 0.5,
                certifiable,
                "{text}"
            );
            assert_eq!(
                smoothing.winner(&votes, n_left).is_some(),
                predictable,
                "{text}"
            );
        }
    }

    #[test]
    fn the_leader_is_the_first_of_those_that_tie() {
        for (text, leader) in [("0,0,0", 0), ("1,3,3", 1), ("5,3,5", 0), ("0,1,2", 2)] {
            assert_eq!(votes(text).leader(), leader, "{text}");
        }
    }
}
