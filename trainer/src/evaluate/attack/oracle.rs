//! What an attack learns about images: the loss, and the direction in which it grows.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::defence::{Defence, recorded, voted};
use super::front::Front;
use super::loss::Loss;
use super::purification::Stride;
use crate::evaluate::is_right;
use crate::machine::randomness::{Purpose, derive};
use crate::network::BoundNetwork;

/// What an attack wants to spoil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The answer after one purification: the mean of the losses of the copies.
    Single,
    /// The answer of many: the loss of their mean logits.
    Vote,
}

/// How a gradient finds its way back through the purification.
#[derive(Clone, Copy, Debug)]
pub enum Backward<'a> {
    /// It is taken for the identity (BPDA, Athalye et al. 2018).
    Identity,
    /// Exactly.
    Exact {
        /// With the output `hvp`.
        curvature: &'a BoundNetwork<'a>,
        /// Which states are kept.
        stride: Stride,
    },
}

/// What images are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// The loss alone.
    Loss,
    /// The loss and its gradient.
    Gradient,
}

/// Asks a defence about images.
#[derive(Clone, Copy, Debug)]
pub struct Oracle<'a> {
    /// What is asked: the defence itself, or something that is like it.
    pub defence: Defence<'a>,
    /// The way back.
    pub backward: Backward<'a>,
    /// What is climbed.
    pub loss: Loss,
    /// What is to be spoilt.
    pub metric: Metric,
    /// Purifications per image and question (EOT).
    pub copies: usize,
    /// Seed of their noise.
    pub seed: u64,
    /// Whether that noise is the same for all questions, as for an attacker who knows the seed of a device.
    pub replay: Replay,
}

/// Whether the noise of a question is drawn anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Each question has noise of its own.
    Fresh,
    /// Each question has the same.
    Same,
}

/// An answer.
#[derive(Debug)]
pub struct Probe {
    /// Per image, `[n]`.
    pub loss: Tensor,
    /// Per image, do the mean logits get it wrong?
    pub wrong: Vec<bool>,
    /// `[n, C, H, W]`, if it was asked for.
    pub slope: Option<Slope>,
}

/// A gradient, and what tells whether it can be trusted.
#[derive(Debug)]
pub struct Slope {
    /// `[n, C, H, W]`.
    pub gradient: Tensor,
    /// Share of images whose gradient is zero in every pixel.
    pub zeros: f64,
    /// Mean cosine between the gradients of two halves of the copies, if there are two copies.
    pub agreement: Option<f64>,
}

impl Oracle<'_> {
    /// Asks about images `[n, C, H, W]` with labels int64 `[n]`. The number of the question draws its noise.
    pub fn ask(
        &self,
        question: Question,
        images: &Tensor,
        labels: &Tensor,
        number: u64,
    ) -> Result<Probe> {
        let seed = match self.replay {
            Replay::Fresh => derive(self.seed, number, Purpose::AttackPurification),
            Replay::Same => self.seed,
        };
        match question {
            Question::Loss => {
                let logits = self.defence.logits(images, self.copies, seed)?;
                self.answer(&logits, labels)
            }
            Question::Gradient => self.differentiated(images, labels, seed),
        }
    }

    fn differentiated(&self, images: &Tensor, labels: &Tensor, seed: u64) -> Result<Probe> {
        let n = images.size()[0];
        let (ends, way) = match (&self.defence.front, self.backward) {
            (Some(Front::Purification(purification)), Backward::Exact { curvature, stride }) => {
                let copies = self.defence.copies(self.copies);
                let record = recorded(purification, images, copies, seed, stride)?;
                (
                    record.ends()?,
                    Some((record, purification, stride, curvature)),
                )
            }
            _ => (self.defence.cleaned(images, self.copies, seed)?, None),
        };
        let leaf = ends.detach().set_requires_grad(true);
        let logits = self.defence.classified(&leaf)?;
        let copies = logits.size()[0] / n;
        let logits = logits.f_view([copies, n, -1])?;
        let total = self.losses(&logits, labels)?.f_sum(Kind::Float)?;
        let slope = Tensor::f_run_backward(&[&total], &[&leaf], false, false)?.swap_remove(0);
        let slope = match way {
            None => slope,
            Some((record, purification, stride, curvature)) => {
                record.pull_back(purification, stride, curvature, &slope)?
            }
        };
        let mut probe = self.answer(&logits.detach(), labels)?;
        probe.slope = Some(Slope::of(&slope, copies, n)?);
        Ok(probe)
    }

    fn answer(&self, logits: &Tensor, labels: &Tensor) -> Result<Probe> {
        let right = is_right(&voted(logits)?, labels)?;
        Ok(Probe {
            loss: self.losses(logits, labels)?,
            wrong: right.into_iter().map(|right| !right).collect(),
            slope: None,
        })
    }

    /// Per image, from logits `[copies, n, n_classes]`.
    fn losses(&self, logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        match self.metric {
            Metric::Vote => self.loss.per_image(&voted(logits)?, labels),
            Metric::Single => {
                let size = logits.size();
                let flat = logits.f_view([size[0] * size[1], size[2]])?;
                let losses = self.loss.per_image(&flat, &labels.f_repeat([size[0]])?)?;
                voted(&losses.f_view([size[0], size[1]])?)
            }
        }
    }
}

impl Slope {
    /// From the gradient of each copy, `[copies · n, C, H, W]`.
    fn of(slopes: &Tensor, copies: i64, n: i64) -> Result<Slope> {
        let per_copy = slopes.f_reshape([copies, n, -1])?;
        let sum = |slopes: &Tensor| slopes.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float);
        let agreement = match copies >= 2 {
            false => None,
            true => {
                let half = copies / 2;
                let halves = [
                    per_copy.f_narrow(0, 0, half)?,
                    per_copy.f_narrow(0, half, half)?,
                ];
                let [one, other] = [sum(&halves[0])?, sum(&halves[1])?];
                let cosine = Tensor::f_cosine_similarity(&one, &other, 1, 1e-30)?;
                Some(cosine.f_mean(Kind::Double)?.double_value(&[]))
            }
        };
        let total = sum(&per_copy)?;
        let largest = total.f_abs()?.f_amax([1i64].as_slice(), false)?;
        let zeros = largest
            .f_eq(0.0)?
            .f_to_kind(Kind::Double)?
            .f_mean(Kind::Double)?;
        let mut size = slopes.size();
        size[0] = n;
        Ok(Slope {
            gradient: total.f_view(size.as_slice())?,
            zeros: zeros.double_value(&[]),
            agreement,
        })
    }
}
