//! An attack from its first question to what it found.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::climb::Climber;
use super::judge::Judge;
use super::oracle::{Oracle, Probe};
use crate::machine::randomness::index;
use crate::run::record::Progress;

/// When images are suspected to be broken, which the judge then confirms or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// As soon as an answer says so. Broken images are attacked no more.
    AtOnce,
    /// All at the end: the answers are those of another classifier.
    AtTheEnd,
}

/// What an attack asks for.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Shown meanwhile.
    pub name: &'static str,
    /// Questions about each image.
    pub n_questions: usize,
    /// When images are suspected.
    pub suspicion: Suspicion,
}

/// What an attack found.
#[derive(Debug)]
pub struct Found {
    /// Per image the confirmed break, else where the climb ended; `[n, C, H, W]`.
    pub last: Tensor,
    /// Per image the confirmed break, else the image of the largest loss.
    pub best: Tensor,
    /// Per image: was a break confirmed?
    pub broken: Vec<bool>,
    /// How the climb went.
    pub course: Course,
}

/// How a climb went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Mean loss of the images that stood, per question.
    pub losses: Vec<f64>,
    /// Share of images with a gradient of zero, over all questions about gradients.
    pub zero_gradients: Option<f64>,
    /// Mean cosine between the gradients of two halves of the copies, over all questions.
    pub agreement: Option<f64>,
    /// Questions about images, each of as many purifications as there are copies.
    pub n_questions: u64,
}

/// Attacks images `[n, C, H, W]` with labels int64 `[n]`.
pub fn pursue(
    oracle: &Oracle<'_>,
    judge: &mut Judge<'_>,
    climber: &mut dyn Climber,
    clean: &Tensor,
    labels: &Tensor,
    plan: &Plan,
) -> Result<Found> {
    let n = clean.size()[0] as usize;
    let numbers = |value: f64| Tensor::f_full([n as i64], value, (clean.kind(), clean.device()));
    let mut found = Found {
        last: clean.copy(),
        best: clean.copy(),
        broken: vec![false; n],
        course: Course::default(),
    };
    let mut best_loss = numbers(f64::NEG_INFINITY)?;
    let mut standing: Vec<i64> = (0..n as i64).collect();
    let mut tally = Tally::default();
    let mut progress = Progress::new(plan.name, 0, plan.n_questions as u64);
    for number in 0..plan.n_questions {
        let places = index(&standing).to_device(clean.device());
        let images = climber.query()?;
        let truth = labels.f_index_select(0, &places)?;
        let answer = oracle.ask(
            climber.question(),
            &images,
            &truth,
            climber.noise(number as u64),
        )?;
        tally.add(&answer, &mut found.course)?;
        note(&mut found, &mut best_loss, &places, &images, &answer)?;
        let confirmed = match plan.suspicion {
            Suspicion::AtOnce => judge.confirm(&images, &truth, &answer.wrong)?,
            Suspicion::AtTheEnd => vec![false; standing.len()],
        };
        climber.learn(&images, &answer)?;
        if confirmed.contains(&true) {
            standing = found.settle(&standing, &images, &confirmed)?;
            if standing.is_empty() {
                break;
            }
            climber.keep(&kept(&confirmed, clean.device()))?;
        }
        progress.show(number as u64, &format!("{} of {n} stand", standing.len()));
    }
    progress.finish();
    if plan.suspicion == Suspicion::AtTheEnd {
        let confirmed = judge.confirm(&found.last, labels, &vec![true; n])?;
        let all: Vec<i64> = (0..n as i64).collect();
        let images = found.last.shallow_clone();
        found.settle(&all, &images, &confirmed)?;
    }
    tally.close(&mut found.course);
    Ok(found)
}

impl Found {
    /// Writes down confirmed breaks; gives the places of the images that still stand.
    fn settle(
        &mut self,
        standing: &[i64],
        images: &Tensor,
        confirmed: &[bool],
    ) -> Result<Vec<i64>> {
        let mut left = Vec::new();
        for (row, (&place, &is_broken)) in standing.iter().zip(confirmed).enumerate() {
            if !is_broken {
                left.push(place);
                continue;
            }
            self.broken[place as usize] = true;
            for rows in [&self.last, &self.best] {
                rows.f_get(place)?.copy_(&images.f_get(row as i64)?);
            }
        }
        Ok(left)
    }
}

/// Keeps the images of an answer: the last ones, and those whose loss is the largest so far.
fn note(
    found: &mut Found,
    best_loss: &mut Tensor,
    places: &Tensor,
    images: &Tensor,
    answer: &Probe,
) -> Result<()> {
    let _ = found.last.f_index_copy_(0, places, images)?;
    let better = answer
        .loss
        .f_gt_tensor(&best_loss.f_index_select(0, places)?)?;
    let rows = better.f_nonzero()?.f_squeeze_dim(1)?;
    let better_places = places.f_index_select(0, &rows)?;
    let _ = found
        .best
        .f_index_copy_(0, &better_places, &images.f_index_select(0, &rows)?)?;
    let _ = best_loss.f_index_copy_(0, &better_places, &answer.loss.f_index_select(0, &rows)?)?;
    Ok(())
}

/// The rows of images that are not among the confirmed, int64 `[m]`.
fn kept(confirmed: &[bool], device: tch::Device) -> Tensor {
    let rows: Vec<i64> = (0..confirmed.len() as i64)
        .filter(|&row| !confirmed[row as usize])
        .collect();
    index(&rows).to_device(device)
}

/// Means over questions.
#[derive(Debug, Default)]
struct Tally {
    zeros: Vec<f64>,
    agreements: Vec<f64>,
}

impl Tally {
    fn add(&mut self, answer: &Probe, course: &mut Course) -> Result<()> {
        course.n_questions += answer.wrong.len() as u64;
        course
            .losses
            .push(answer.loss.f_mean(Kind::Double)?.double_value(&[]));
        if let Some(slope) = &answer.slope {
            self.zeros.push(slope.zeros);
            self.agreements.extend(slope.agreement);
        }
        Ok(())
    }

    fn close(&self, course: &mut Course) {
        let mean = |values: &[f64]| {
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        course.zero_gradients = mean(&self.zeros);
        course.agreement = mean(&self.agreements);
    }
}
