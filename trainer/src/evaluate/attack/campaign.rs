//! An audit on its way: each attack is written as soon as it is made, so that an interrupted audit goes on where it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tch::Tensor;

use super::audit::{Attempt, Audit, Bare, Facing};
use super::baseline::Baseline;
use super::curve::{Axis, Curve};
use super::health::{Health, slope_by_differences};
use super::images::{self, IMAGES, flags};
use super::judge::Verdict;
use super::kind::{Attack, View};
use super::outcome::{Accuracies, BaselineResult, Made, Results, TableLine, union};
use super::sweep::go_on;
use crate::evaluate::interval::Accuracy;

/// The judge of the images that are written: no attack has one of this number.
const LAST_JUDGE: u64 = u64::MAX;
/// Images on which slopes are compared with differences.
const N_PROBED: i64 = 16;

/// What is to be done, and where it is written.
#[derive(Debug)]
pub struct Campaign<'a> {
    /// The defence.
    pub audit: Audit<'a>,
    /// The attacks, in order.
    pub attacks: &'a [Attack],
    /// What the defence is compared with.
    pub baselines: &'a [Baseline<'a>],
    /// The curves that are drawn.
    pub curves: &'a [Axis],
    /// `[n, C, H, W]`.
    pub clean: &'a Tensor,
    /// Int64 `[n]`.
    pub labels: &'a Tensor,
    /// SHA-256 of the weights of the energy and of the classifier.
    pub weights_sha256: BTreeMap<String, String>,
    /// The folder of the results.
    pub folder: &'a Path,
}

impl Campaign<'_> {
    /// Makes all attacks that an earlier session has not made, then what they are compared with.
    ///
    /// # Errors
    /// The earlier session was about something else; or libtorch or the disk fails.
    pub fn run(&self, earlier: Option<Results>) -> Result<Results> {
        let mut clock = Instant::now();
        // What does not fit the memory, the norm or the energy is refused before any work.
        for &attack in self.attacks {
            self.audit.oracle(attack)?;
        }
        let mut results = self.begun(earlier)?;
        let bare = self.audit.attack_bare(self.clean, self.labels)?;
        self.summarise(&mut results, &bare);
        for &attack in self.attacks {
            if results.attacks.iter().any(|made| made.row.attack == attack) {
                continue;
            }
            let facing = Facing::new(self.facing(attack, &results), self.clean, self.labels);
            let attempt = self.audit.attempt(attack, &facing);
            let Attempt { row, images } =
                attempt.with_context(|| format!("the attack {attack} failed"))?;
            images::write(&self.images_of(attack), &[("images", &images)])?;
            let images = facing.numbers;
            results.attacks.push(Made { images, row });
            self.summarise(&mut results, &bare);
            self.keep(&mut results, &mut clock)?;
        }
        results.health = self.health(&results)?;
        self.compare(&mut results, &mut clock)?;
        self.draw(&mut results, &mut clock)?;
        results.complete = true;
        self.write_images(&results, &bare)?;
        self.keep(&mut results, &mut clock)?;
        Ok(results)
    }

    /// Attacks the baselines.
    fn compare(&self, results: &mut Results, clock: &mut Instant) -> Result<()> {
        let (clean, labels) = self.in_all();
        for baseline in self.baselines {
            let is_done = |done: &BaselineResult| done.title == baseline.title;
            if results.baselines.iter().any(is_done) {
                continue;
            }
            eprintln!("baseline: {}", baseline.title);
            let result = baseline.attacked(&clean, &labels)?;
            results.baselines.push(result);
            self.keep(results, clock)?;
        }
        Ok(())
    }

    /// Finds the points of the curves.
    fn draw(&self, results: &mut Results, clock: &mut Instant) -> Result<()> {
        let (clean, labels) = self.in_all();
        let attack = results.strongest.unwrap_or(Attack::Exact);
        for &axis in self.curves {
            let begun = results.curves.iter().position(|curve| curve.axis == axis);
            let place = begun.unwrap_or_else(|| {
                results.curves.push(Curve::new(axis, attack));
                results.curves.len() - 1
            });
            while !results.curves[place].complete {
                let curve = &mut results.curves[place];
                eprintln!(
                    "curve over {}: point {}",
                    axis.title(),
                    curve.points.len() + 1
                );
                go_on(curve, &self.audit, &clean, &labels)?;
                self.keep(results, clock)?;
            }
        }
        Ok(())
    }

    /// Writes what there is, with the time since the last time.
    fn keep(&self, results: &mut Results, clock: &mut Instant) -> Result<()> {
        results.seconds += clock.elapsed().as_secs_f64();
        *clock = Instant::now();
        results.write(self.folder)
    }

    /// What an earlier session left, if it was about the same; else the verdicts on clean images.
    fn begun(&self, earlier: Option<Results>) -> Result<Results> {
        let parameters = self.audit.parameters;
        let purification = self.audit.defence.purification();
        let purification = purification.map(|purification| purification.dynamics);
        if let Some(earlier) = earlier {
            ensure!(
                earlier.parameters == *parameters
                    && earlier.purification == purification
                    && earlier.weights_sha256 == self.weights_sha256,
                "{} holds an audit that was begun with other networks or options: choose another folder with -o, or replace it with --force",
                self.folder.display()
            );
            let names: Vec<String> = earlier
                .attacks
                .iter()
                .map(|made| made.row.attack.to_string())
                .collect();
            note!("continuing after the attacks {}", names.join(", "));
            return Ok(earlier);
        }
        let start = Instant::now();
        let on_clean = self
            .audit
            .judge(0)
            .verdict(self.clean, self.labels, &parameters.votes)?;
        let nothing = Accuracy::new(0, 1);
        self.estimate(start.elapsed().as_secs_f64(), &on_clean);
        Ok(Results {
            parameters: parameters.clone(),
            purification,
            piecewise_linear: self.audit.has_relus,
            n_images: parameters.n_images,
            lines: Vec::new(),
            strongest: None,
            baselines: Vec::new(),
            curves: Vec::new(),
            report: Accuracies {
                clean: nothing,
                attacked: nothing,
                defended_clean: nothing,
                defended_attacked: nothing,
            },
            health: None,
            complete: false,
            on_clean,
            attacks: Vec::new(),
            seconds: 0.0,
            weights_sha256: self.weights_sha256.clone(),
        })
    }

    /// Says how long it will take, from the time that the verdicts on clean images took.
    fn estimate(&self, seconds: f64, on_clean: &Verdict) {
        let per_purification =
            seconds / (on_clean.single.len() * self.audit.verdict_copies()) as f64;
        let purifications: f64 = self
            .attacks
            .iter()
            .map(|&attack| self.audit.cost(attack))
            .sum();
        let minutes = per_purification * purifications / 60.0;
        note!(
            "at most about {minutes:.1} minutes for {} attacks on {} images; less as images are broken",
            self.attacks.len(),
            on_clean.single.len()
        );
        let goes_back = |attack: &Attack| !matches!(attack.view(), View::Bare | View::Identity);
        if let Some(memory) = self.audit.memory()
            && self.attacks.iter().any(goes_back)
        {
            note!("{memory}");
        }
    }

    /// The images that an attack is made on: of those that are right when clean, the first ones, and the others that stand.
    fn facing(&self, attack: Attack, results: &Results) -> Vec<usize> {
        let n_in_all = self.audit.parameters.n_in_all;
        let right = results.on_clean.decisive();
        let stands = union(&results.on_clean, &results.attacks);
        let stands = stands.decisive();
        let faces = |&image: &usize| {
            right[image] && (image < n_in_all || (attack.is_of_the_union() && stands[image]))
        };
        (0..right.len()).filter(faces).collect()
    }

    /// The images that meet every attack, and their labels.
    fn in_all(&self) -> (Tensor, Tensor) {
        let n = self.audit.parameters.n_in_all as i64;
        (self.clean.narrow(0, 0, n), self.labels.narrow(0, 0, n))
    }

    /// The table and the four accuracies, from the verdicts so far.
    fn summarise(&self, results: &mut Results, bare: &Bare) {
        let (n, n_in_all) = (results.n_images, self.audit.parameters.n_in_all);
        let all: Vec<usize> = (0..n).collect();
        let survivors = union(&results.on_clean, &results.attacks);
        let mut lines = vec![TableLine::new(
            self.clean_title(),
            n,
            &all,
            &results.on_clean,
        )];
        for made in &results.attacks {
            lines.push(TableLine::new(
                made.row.attack.title(),
                n_in_all,
                &made.images,
                &made.row.best,
            ));
        }
        lines.push(TableLine::new("what no attack broke", n, &all, &survivors));
        let attacks = results.attacks.iter().map(|made| made.row.attack);
        let attacks = attacks.filter(|attack| attack.is_of_the_union());
        results.strongest = attacks.min_by_key(|attack| {
            let line = lines.iter().find(|line| line.title == attack.title());
            line.map_or(n, |line| {
                line.votes
                    .last()
                    .map_or(line.single.n_right, |(_, vote)| vote.n_right)
            })
        });
        results.lines = lines;
        results.report = Accuracies {
            clean: Accuracy::of(&bare.right_when_clean),
            attacked: Accuracy::of(&bare.broken.iter().map(|broken| !broken).collect::<Vec<_>>()),
            defended_clean: Accuracy::of(results.on_clean.decisive()),
            defended_attacked: Accuracy::of(survivors.decisive()),
        };
    }

    fn clean_title(&self) -> &'static str {
        match self.audit.defence.front {
            Some(_) => "defended, clean",
            None => "clean",
        }
    }

    /// Of the exact attack, if it was made.
    fn health(&self, results: &Results) -> Result<Option<Health>> {
        let made = |attack| {
            results
                .attacks
                .iter()
                .find(|made| made.row.attack == attack)
        };
        let Some(exact) = made(Attack::Exact) else {
            return Ok(None);
        };
        let n = self.clean.size()[0].min(N_PROBED);
        let [images, labels] = [self.clean, self.labels].map(|all| all.narrow(0, 0, n));
        let oracle = self.audit.oracle(Attack::Exact)?;
        let differences = slope_by_differences(&oracle, &images, &labels)?;
        let n_broken = |made: &Made| {
            let broken = made.images.iter().zip(&made.row.broken);
            broken
                .filter(|(image, broken)| **image < self.audit.parameters.n_in_all && **broken)
                .count()
        };
        let beats_transfer =
            made(Attack::Transfer).map(|transfer| n_broken(exact) >= n_broken(transfer));
        Ok(Some(Health::new(
            &exact.row.course,
            differences,
            beats_transfer,
        )))
    }

    /// Per image what the first attack that broke it made of it; of the others what the last attack did.
    fn write_images(&self, results: &Results, bare: &Bare) -> Result<()> {
        let attacked = self.clean.copy();
        let mut broken: Vec<bool> = results
            .on_clean
            .decisive()
            .iter()
            .map(|right| !right)
            .collect();
        let attacks = results.attacks.iter();
        for made in attacks.filter(|made| made.row.attack.is_of_the_union()) {
            let images = images::read(&self.images_of(made.row.attack), "images")?
                .to_device(self.clean.device());
            for (row, &image) in made
                .images
                .iter()
                .enumerate()
                .filter(|(_, image)| !broken[**image])
            {
                attacked.get(image as i64).copy_(&images.get(row as i64));
            }
            for (&image, &is_broken) in made.images.iter().zip(&made.row.broken) {
                broken[image] |= is_broken;
            }
        }
        let mut judge = self.audit.judge(LAST_JUDGE);
        let purified = judge.defence.cleaned(&attacked, 1, judge.seed)?;
        let (answers, margins) = judge.answers(&attacked, self.labels)?;
        let tensors = [
            ("clean", self.clean),
            ("attacked", &attacked),
            ("purified", &purified),
            ("answers", &answers),
            ("margins", &margins),
            ("labels", self.labels),
            ("broken", &flags(&broken)),
            ("bare_attacked", &bare.images),
            ("bare_broken", &flags(&bare.broken)),
        ];
        images::write(&self.folder.join(IMAGES), &tensors)
    }

    fn images_of(&self, attack: Attack) -> std::path::PathBuf {
        self.folder.join(format!("{attack}.safetensors"))
    }
}
