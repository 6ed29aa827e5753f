//! What an audit found, and how it is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ebm_common::staged::write_whole;
use serde::{Deserialize, Serialize};

use super::ball::Ball;
use super::curve::Curve;
use super::health::Health;
use super::judge::{Verdict, WORST_OF};
use super::kind::Attack;
use super::protocol::Protocol;
use super::pursuit::Course;
use crate::config::Dynamics;
use crate::evaluate::interval::Accuracy;
use crate::run::folder::ATTACK_RESULTS;
use ebm_common::PixelDistance;

/// What is asked of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Where the defaults come from.
    pub protocol: Protocol,
    /// What may be changed.
    pub ball: Ball,
    /// The number of test images, from the first on.
    pub n_images: usize,
    /// The number of these, from the first on, that meet every attack; the others only until they are broken.
    pub n_in_all: usize,
    /// Steps of the ascent.
    pub pgd_steps: usize,
    /// Length of each step, in the norm of the ball.
    #[serde(with = "super::distance")]
    pub pgd_step_size: PixelDistance,
    /// Questions of attacks without gradients, in parts of those with.
    pub blind_factor: usize,
    /// Purifications per image and question, over which the gradient is averaged (EOT).
    pub replicas: usize,
    /// Fresh purifications whose vote confirms a break.
    pub verify_replicas: usize,
    /// The numbers of purifications whose votes are reported.
    pub votes: Vec<usize>,
    /// Images per evaluation of a network.
    pub batch: usize,
    /// Bytes that the states of one batch of chains may take.
    pub memory_bytes: u64,
    /// Seed of the attacks.
    pub attack_seed: u64,
    /// Seed of the verdicts.
    pub verify_seed: u64,
}

impl Parameters {
    /// Says which value is out of its range.
    pub fn check(&self) -> Result<()> {
        self.ball.norm.check_bound("--epsilon", self.ball.epsilon)?;
        ensure!(
            self.pgd_step_size.in_unit_range() > 0.0,
            "--pgd-step-size 0: expected above 0"
        );
        for (option, number) in [
            ("-n", self.n_images),
            ("--pgd-steps", self.pgd_steps),
            ("--replicas", self.replicas),
            ("--verify-replicas", self.verify_replicas),
            ("--batch", self.batch),
        ] {
            ensure!(number >= 1, "{option} {number}: expected at least 1");
        }
        ensure!(
            self.attack_seed != self.verify_seed,
            "--seed and --verify-seed are both {}: a break must be confirmed with another seed",
            self.attack_seed
        );
        Ok(())
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters {
            ball,
            pgd_steps,
            pgd_step_size,
            replicas,
            verify_replicas,
            ..
        } = self;
        write!(
            f,
            "{ball}; {pgd_steps} steps of {pgd_step_size}, gradients over {replicas} purifications, breaks confirmed by a vote of {verify_replicas}"
        )
    }
}

/// One attack on some images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which.
    pub attack: Attack,
    /// On the images that it found: confirmed breaks, else those of the largest loss.
    pub best: Verdict,
    /// On the images at its end: confirmed breaks, else the last ones.
    pub last: Verdict,
    /// Per image: was a break confirmed?
    pub broken: Vec<bool>,
    /// How it went.
    pub course: Course,
    /// Its duration.
    pub seconds: f64,
}

impl Outcome {
    /// Of an attack on no images, since none stands.
    pub fn of_nothing(attack: Attack, votes: &[usize]) -> Outcome {
        let verdict = Verdict {
            single: Vec::new(),
            votes: votes.iter().map(|&copies| (copies, Vec::new())).collect(),
            worst: Vec::new(),
        };
        Outcome {
            attack,
            best: verdict.clone(),
            last: verdict,
            broken: Vec::new(),
            course: Course::default(),
            seconds: 0.0,
        }
    }
}

/// The images that an attack was made on, by their numbers among the test images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// Numbers of the images, rising; those that the defence gets wrong without an attack are left out.
    pub images: Vec<usize>,
    /// What came of it.
    #[serde(flatten)]
    pub row: Outcome,
}

/// Accuracies of the bare and the defended classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracies {
    /// Bare, on clean images.
    pub clean: Accuracy,
    /// Bare, on images attacked for it.
    pub attacked: Accuracy,
    /// Defended, on clean images.
    pub defended_clean: Accuracy,
    /// Defended: what no attack broke.
    pub defended_attacked: Accuracy,
}

/// Accuracies of one line of the table, each of the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableLine {
    /// Of what.
    pub title: String,
    /// After one purification.
    pub single: Accuracy,
    /// By votes, each with its number of purifications.
    pub votes: Vec<(usize, Accuracy)>,
    /// Right by each of ten purifications.
    pub worst: Accuracy,
}

/// `attack.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was asked for.
    pub parameters: Parameters,
    /// How images were purified, if they were.
    pub purification: Option<Dynamics>,
    /// Whether the energy is piecewise linear, so that exact gradients say nothing.
    pub piecewise_linear: bool,
    /// Images attacked.
    pub n_images: usize,
    /// The table.
    pub lines: Vec<TableLine>,
    /// What it is compared with.
    #[serde(default)]
    pub baselines: Vec<BaselineResult>,
    /// How accuracies change with what was chosen.
    #[serde(default)]
    pub curves: Vec<Curve>,
    /// The strongest attack, by the vote on the images that all met.
    pub strongest: Option<Attack>,
    /// What came out.
    #[serde(flatten)]
    pub report: Accuracies,
    /// Whether all attacks were made.
    pub complete: bool,
    /// Whether the gradients can be believed.
    pub health: Option<Health>,
    /// Verdicts on the clean images.
    pub on_clean: Verdict,
    /// The attacks, image by image.
    pub attacks: Vec<Made>,
    /// Duration of the attacks.
    pub seconds: f64,
    /// SHA-256 of the weights of the energy and of the classifier.
    pub weights_sha256: BTreeMap<String, String>,
}

impl TableLine {
    /// Of the first `n` images: those that were wrong from the start count as wrong.
    pub fn new(
        title: impl fmt::Display,
        n: usize,
        images: &[usize],
        verdict: &Verdict,
    ) -> TableLine {
        let accuracy = |right: &[bool]| {
            let right = images
                .iter()
                .zip(right)
                .filter(|(image, right)| **image < n && **right);
            Accuracy::new(right.count(), n)
        };
        TableLine {
            title: title.to_string(),
            single: accuracy(&verdict.single),
            votes: verdict
                .votes
                .iter()
                .map(|(copies, right)| (*copies, accuracy(right)))
                .collect(),
            worst: accuracy(&verdict.worst),
        }
    }
}

/// What no attack broke, of all images: an image survives if every verdict on every attack with fresh noise is right and no break was confirmed.
pub fn union(on_clean: &Verdict, attacks: &[Made]) -> Verdict {
    let mut union = on_clean.clone();
    let attacks = attacks
        .iter()
        .filter(|made| made.row.attack.is_of_the_union());
    for made in attacks {
        for verdict in [&made.row.best, &made.row.last] {
            union.lose(&made.images, verdict, &made.row.broken);
        }
    }
    union
}

/// What became of a defence that is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineResult {
    /// What it is called in the table.
    pub title: String,
    /// Verdicts on the clean images that meet every attack.
    pub on_clean: Verdict,
    /// The attacks on those that it gets right.
    pub attacks: Vec<Made>,
}

impl BaselineResult {
    /// Its lines of the table.
    pub fn lines(&self) -> [TableLine; 2] {
        let n = self.on_clean.single.len();
        let all: Vec<usize> = (0..n).collect();
        let survivors = union(&self.on_clean, &self.attacks);
        [
            TableLine::new(format!("{}, clean", self.title), n, &all, &self.on_clean),
            TableLine::new(format!("{}, attacked", self.title), n, &all, &survivors),
        ]
    }
}

impl Results {
    /// Writes `attack.json` into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("cannot encode the results")? + "\n";
        Ok(write_whole(&folder.join(ATTACK_RESULTS), json.as_bytes())?)
    }

    /// Reads `attack.json` of a folder.
    ///
    /// # Errors
    /// It is none that this version wrote: it says, for example, not of which scale its ε is.
    pub fn read(folder: &Path) -> Result<Results> {
        let path = folder.join(ATTACK_RESULTS);
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let value: serde_json::Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a JSON file", path.display()))?;
        let epsilon = &value["parameters"]["ball"]["epsilon"]["of_0_to_1"];
        ensure!(
            epsilon.is_number(),
            "{} does not say of which scale its epsilon is (an earlier version wrote it): attack again",
            path.display()
        );
        serde_json::from_value(value).with_context(|| {
            format!(
                "{} holds other results than this version writes: attack again",
                path.display()
            )
        })
    }
}

impl Results {
    /// What is to be said where exact gradients say nothing.
    pub const PIECEWISE_LINEAR: &str = "This energy is piecewise linear (ReLU): its second derivatives are zero almost everywhere, so that an exact gradient \
        is that of BPDA and says nothing about the strength of the defence. Learn it with a smooth activation, or look at the attacks with softened masks.";

    /// The table: the bare classifier first, the baselines last.
    pub fn all_lines(&self) -> Vec<TableLine> {
        let bare = [
            ("bare classifier, clean", self.report.clean),
            ("bare classifier, attacked (PGD)", self.report.attacked),
        ];
        let bare = bare.into_iter();
        let bare = bare.map(|(title, accuracy)| TableLine {
            title: title.to_string(),
            single: accuracy,
            votes: Vec::new(),
            worst: accuracy,
        });
        let baselines = self.baselines.iter().flat_map(BaselineResult::lines);
        bare.chain(self.lines.iter().cloned())
            .chain(baselines)
            .collect()
    }
}

impl TableLine {
    /// By the vote of that many purifications.
    pub fn vote(&self, copies: usize) -> Option<Accuracy> {
        let found = self.votes.iter().find(|(own, _)| *own == copies);
        found.map(|(_, accuracy)| *accuracy)
    }

    /// By the largest vote, if there is one.
    pub fn last(&self) -> Accuracy {
        self.votes
            .last()
            .map_or(self.single, |(_, accuracy)| *accuracy)
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let votes = &self.parameters.votes;
        write!(f, "{:<42} {:>5}", "right, in % of the images", "one")?;
        for vote in votes {
            write!(f, " {:>8}", format!("vote {vote}"))?;
        }
        let worst = format!("worst of {WORST_OF}");
        writeln!(f, " {worst:>12} {:>6}  95 % interval of the vote", "n")?;
        let percent = |accuracy: Accuracy| format!("{:.1}", 100.0 * accuracy.accuracy);
        for line in self.all_lines() {
            let is_strongest = self
                .strongest
                .is_some_and(|attack| attack.title() == line.title);
            let title = if is_strongest {
                format!("* {}", line.title)
            } else {
                line.title.clone()
            };
            write!(f, "{title:<42} {:>5}", percent(line.single))?;
            for vote in votes {
                write!(
                    f,
                    " {:>8}",
                    line.vote(*vote).map_or("–".to_string(), percent)
                )?;
            }
            let Accuracy {
                n,
                interval: [low, high],
                at_least,
                ..
            } = line.last();
            let [low, high, at_least] = [low, high, at_least].map(|share| 100.0 * share);
            writeln!(
                f,
                " {:>12} {n:>6}  {low:.1} to {high:.1} %, at least {at_least:.1} %",
                percent(line.worst)
            )?;
        }
        if self.strongest.is_some() {
            writeln!(f, "* the strongest attack, by the vote")?;
        }
        writeln!(f, "{}", self.parameters.ball)?;
        for curve in &self.curves {
            writeln!(f, "{curve}")?;
        }
        if let Some(health) = &self.health {
            writeln!(f, "{health}")?;
        }
        if self.piecewise_linear {
            writeln!(f, "{}", Results::PIECEWISE_LINEAR)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(right: [bool; 3]) -> Verdict {
        Verdict {
            single: right.to_vec(),
            votes: vec![(32, right.to_vec())],
            worst: right.to_vec(),
        }
    }

    fn made(attack: Attack, images: &[usize], right: [bool; 3], broken: [bool; 3]) -> Made {
        let row = Outcome {
            attack,
            best: verdict(right),
            last: verdict([true; 3]),
            broken: broken.to_vec(),
            course: Course::default(),
            seconds: 0.0,
        };
        Made {
            images: images.to_vec(),
            row,
        }
    }

    #[test]
    fn an_image_survives_if_nothing_breaks_it() {
        let on_clean = Verdict {
            single: vec![true; 5],
            votes: vec![(32, vec![true, true, true, true, false])],
            worst: vec![true; 5],
        };
        let attacks = [
            made(Attack::Random, &[0, 1, 2], [false; 3], [true; 3]),
            made(Attack::KnownNoise, &[0, 1, 2], [false; 3], [true; 3]),
            made(Attack::Bpda, &[0, 1, 3], [true, false, true], [false; 3]),
            made(Attack::Exact, &[0, 2, 3], [true; 3], [false, true, false]),
        ];
        let union = union(&on_clean, &attacks);
        assert_eq!(union.votes, [(32, vec![true, false, false, true, false])]);
        // A break that was confirmed by a vote is one of the vote; each other verdict is by its own draws.
        assert_eq!(union.single, [true, false, true, true, true]);
        let line = TableLine::new("x", 2, &[0, 1, 3], &verdict([true, false, true]));
        assert_eq!((line.single.n_right, line.single.n), (1, 2));
    }
}
