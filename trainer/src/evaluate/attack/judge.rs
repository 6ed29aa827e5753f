//! Who says whether an image is broken: fresh purifications, with a seed that no attack has seen.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::defence::{Defence, voted};
use super::loss::Loss;
use super::oracle::Replay;
use crate::evaluate::is_right;
use crate::machine::randomness::{Purpose, derive};

/// Purifications of which all have to be right in the worst case.
pub const WORST_OF: usize = 10;

/// Judges images, each time with other noise; or always with the same, as a device with a fixed seed does.
#[derive(Debug)]
pub struct Judge<'a> {
    /// What is attacked.
    pub defence: Defence<'a>,
    /// Purifications whose vote confirms a break.
    pub copies: usize,
    /// Seed of their noise.
    pub seed: u64,
    /// Whether judgements after the first have noise of their own.
    pub replay: Replay,
    /// Judgements so far.
    pub n_done: u64,
}

/// What the defence answers about some images, per image and right or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// After one purification.
    pub single: Vec<bool>,
    /// By the mean logits of that many purifications.
    pub votes: Vec<(usize, Vec<bool>)>,
    /// Each of [`WORST_OF`] purifications by itself.
    pub worst: Vec<bool>,
}

impl Judge<'_> {
    /// Per image: does the vote get it right?
    pub fn is_right(&mut self, images: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
        let logits = self.logits(images, self.copies)?;
        is_right(&voted(&logits)?, labels)
    }

    /// Per image: is it suspected, and the vote wrong?
    pub fn confirm(
        &mut self,
        images: &Tensor,
        labels: &Tensor,
        suspected: &[bool],
    ) -> Result<Vec<bool>> {
        let places: Vec<i64> = (0..suspected.len() as i64)
            .filter(|&place| suspected[place as usize])
            .collect();
        let mut confirmed = vec![false; suspected.len()];
        if places.is_empty() {
            return Ok(confirmed);
        }
        let index = crate::machine::randomness::index(&places).to_device(images.device());
        let [images, labels] = [images, labels].map(|all| all.index_select(0, &index));
        for (place, right) in places.iter().zip(self.is_right(&images, &labels)?) {
            confirmed[*place as usize] = !right;
        }
        Ok(confirmed)
    }

    /// What the vote answers, int64 `[n]`, and by how much a wrong class leads, `[n]`.
    pub fn answers(&mut self, images: &Tensor, labels: &Tensor) -> Result<(Tensor, Tensor)> {
        let mean = voted(&self.logits(images, self.copies)?)?;
        let margins = Loss::Margin.per_image(&mean, labels)?;
        Ok((mean.f_argmax(1, false)?, margins))
    }

    /// All that is said of images at once, from the same purifications: as many as the largest vote takes, [`WORST_OF`] at least.
    pub fn verdict(
        &mut self,
        images: &Tensor,
        labels: &Tensor,
        votes: &[usize],
    ) -> Result<Verdict> {
        let copies = votes.iter().copied().max().unwrap_or(1).max(WORST_OF);
        let logits = self.logits(images, copies)?;
        let copies = logits.size()[0];
        let single = |copy: i64| is_right(&logits.f_get(copy)?, labels);
        let mut worst = single(0)?;
        for copy in 1..copies.min(WORST_OF as i64) {
            for (worst, right) in worst.iter_mut().zip(single(copy)?) {
                *worst &= right;
            }
        }
        let votes = votes.iter().map(|&vote| {
            let first = logits.f_narrow(0, 0, copies.min(vote as i64))?;
            Ok((vote, is_right(&voted(&first)?, labels)?))
        });
        Ok(Verdict {
            single: single(0)?,
            votes: votes.collect::<Result<_>>()?,
            worst,
        })
    }

    fn logits(&mut self, images: &Tensor, copies: usize) -> Result<Tensor> {
        let seed = match self.replay {
            Replay::Fresh => derive(self.seed, self.n_done, Purpose::Verification),
            Replay::Same => self.seed,
        };
        self.n_done += 1;
        self.defence.logits(images, copies, seed)
    }
}

impl Verdict {
    /// The answers that decide whether an image stands: those of the largest vote.
    pub fn decisive(&self) -> &[bool] {
        let largest = self.votes.last();
        largest.map_or(&self.single, |(_, right)| right)
    }

    /// Of a device that purifies once with the same noise: there is but one answer.
    pub fn of_one(right: Vec<bool>) -> Verdict {
        Verdict {
            worst: right.clone(),
            single: right,
            votes: Vec::new(),
        }
    }

    /// What is left of the verdict on all images if these ones, by their numbers, also meet another: a confirmed break is one of every vote.
    pub fn lose(&mut self, images: &[usize], other: &Verdict, broken: &[bool]) {
        let lose = |all: &mut [bool], right: &[bool]| {
            for (&image, right) in images.iter().zip(right) {
                all[image] &= *right;
            }
        };
        lose(&mut self.single, &other.single);
        lose(&mut self.worst, &other.worst);
        let stands: Vec<bool> = broken.iter().map(|broken| !broken).collect();
        for ((_, all), (_, right)) in self.votes.iter_mut().zip(&other.votes) {
            lose(all, right);
            lose(all, &stands);
        }
    }
}
