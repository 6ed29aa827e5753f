//! Attacks one after the other on the same images, and what survives all of them.

use std::time::Instant;

use anyhow::{Result, bail};
use tch::Tensor;

use super::ball::Ball;
use super::climb::{Apgd, Climber, Differences, Pgd, Scatter, Square, Still};
use super::defence::Defence;
use super::front::Front;
use super::judge::{Judge, Verdict, WORST_OF};
use super::kind::{Attack, Circumstances, Climb, View};
use super::oracle::{Backward, Oracle, Replay};
use super::outcome::{Outcome, Parameters};
use super::purification::{Noise, Purification, Stride};
use super::pursuit::{Plan, Suspicion, pursue};
use crate::config::{Begin, Dynamics};
use crate::machine::randomness::{Purpose, derive, index, seeded};
use crate::network::BoundNetwork;

/// Steps of the surrogate chain: a fifth of the whole one's, each as long in time as five.
const SURROGATE_SHARE: usize = 5;

/// A defence under audit.
#[derive(Clone, Copy, Debug)]
pub struct Audit<'a> {
    /// The defence as it is deployed: each image is purified with noise of its own.
    pub defence: Defence<'a>,
    /// Of the energy, if there is one, with the output `hvp`.
    pub curvature: Option<&'a BoundNetwork<'a>>,
    /// Whether the energy has ReLUs.
    pub has_relus: bool,
    /// The same of energies whose ReLUs have a bend of this width.
    pub softened: &'a [(f32, BoundNetwork<'a>)],
    /// Bytes of one image.
    pub image_bytes: u64,
    /// What is asked for.
    pub parameters: &'a Parameters,
}

/// What PGD on the bare classifier came to.
#[derive(Debug)]
pub struct Bare {
    /// Per image: was it right before the attack?
    pub right_when_clean: Vec<bool>,
    /// Per image: was it broken, or wrong from the start?
    pub broken: Vec<bool>,
    /// Per image the break, else the image of the largest loss.
    pub images: Tensor,
}

/// Images that an attack is made on.
#[derive(Debug)]
pub struct Facing {
    /// Their numbers among all, rising.
    pub numbers: Vec<usize>,
    /// `[n, C, H, W]`.
    pub images: Tensor,
    /// Int64 `[n]`.
    pub labels: Tensor,
}

impl Facing {
    /// Those of the images `[N, C, H, W]` with the labels int64 `[N]` that have these numbers.
    pub fn new(numbers: Vec<usize>, clean: &Tensor, labels: &Tensor) -> Facing {
        let rows: Vec<i64> = numbers.iter().map(|&number| number as i64).collect();
        let rows = index(&rows).to_device(clean.device());
        let [images, labels] = [clean, labels].map(|all| all.index_select(0, &rows));
        Facing {
            numbers,
            images,
            labels,
        }
    }
}

/// An attack, with its images.
#[derive(Debug)]
pub struct Attempt {
    /// What goes into the table.
    pub row: Outcome,
    /// Per image the confirmed break, else the image of the largest loss.
    pub images: Tensor,
}

impl<'a> Audit<'a> {
    /// The same questions to another defence.
    pub fn of(self, defence: Defence<'a>) -> Audit<'a> {
        Audit { defence, ..self }
    }

    /// The same classifier behind something else.
    pub fn behind(self, front: Front<'a>) -> Audit<'a> {
        self.of(Defence {
            front: Some(front),
            ..self.defence
        })
    }

    /// The verdict on images, and those of them that are right: their numbers, and they with their labels.
    ///
    /// # Errors
    /// The images do not fit the networks.
    pub fn right(&self, clean: &Tensor, labels: &Tensor) -> Result<(Verdict, Facing)> {
        let verdict = self
            .judge(0)
            .verdict(clean, labels, &self.parameters.votes)?;
        let right = verdict.decisive();
        let numbers = (0..right.len()).filter(|&number| right[number]).collect();
        let facing = Facing::new(numbers, clean, labels);
        Ok((verdict, facing))
    }

    /// Judges with noise that no attack has seen. Each judge of an audit has a number, and noise of its own.
    pub fn judge(&self, number: u64) -> Judge<'a> {
        Judge {
            defence: self.defence,
            copies: self.parameters.verify_replicas,
            seed: derive(self.parameters.verify_seed, number, Purpose::Verification),
            replay: Replay::Fresh,
            n_done: 0,
        }
    }

    /// PGD on the bare classifier, judged by itself.
    pub fn attack_bare(&self, clean: &Tensor, labels: &Tensor) -> Result<Bare> {
        let mut judge = Judge {
            defence: self.defence.bare(),
            copies: 1,
            ..self.judge(0)
        };
        let right_when_clean = judge.is_right(clean, labels)?;
        let oracle = Oracle {
            defence: self.defence.bare(),
            seed: derive(self.parameters.attack_seed, 0, Purpose::AttackPurification),
            ..self.oracle(Attack::None)?
        };
        let mut climber = self.climber(Climb::Pgd(Begin::Random), clean, 0)?;
        let plan = Plan {
            name: "PGD on the bare classifier: step",
            n_questions: self.questions(Climb::Pgd(Begin::Random)),
            suspicion: Suspicion::AtOnce,
        };
        let mut found = pursue(&oracle, &mut judge, climber.as_mut(), clean, labels, &plan)?;
        for (place, broken) in found.broken.iter_mut().enumerate() {
            // An image that is wrong without an attack is its own break.
            if !right_when_clean[place] {
                *broken = true;
                found.best.get(place as i64).copy_(&clean.get(place as i64));
            }
        }
        Ok(Bare {
            right_when_clean,
            broken: found.broken,
            images: found.best,
        })
    }

    /// Purifications of each image for a verdict.
    pub fn verdict_copies(&self) -> usize {
        self.parameters
            .votes
            .iter()
            .copied()
            .max()
            .unwrap_or(1)
            .max(WORST_OF)
    }

    /// Work of an attack, at most, in purifications without a way back.
    pub fn cost(&self, attack: Attack) -> f64 {
        let Parameters {
            n_images,
            n_in_all,
            replicas,
            verify_replicas,
            ..
        } = *self.parameters;
        let n_images = if attack.is_of_the_union() {
            n_images
        } else {
            n_in_all
        } as f64;
        let per_question = match attack.view() {
            View::Bare => 0.0,
            View::Identity => 1.0,
            View::Exact | View::Softened(_) => 3.0,
            View::Shorter => 3.0 / SURROGATE_SHARE as f64,
        };
        let copies = if attack.knows_the_seed() { 1 } else { replicas };
        let questions = per_question * (self.questions(attack.climb()) * copies) as f64;
        let verdicts = if attack.knows_the_seed() {
            2
        } else {
            2 * self.verdict_copies()
        };
        n_images * (questions + (verdicts + verify_replicas) as f64)
    }

    /// One attack on images that the defence gets right.
    ///
    /// # Errors
    /// The images do not fit the networks, or the attack does not suit the norm or the energy.
    pub fn attempt(&self, attack: Attack, facing: &Facing) -> Result<Attempt> {
        let start = Instant::now();
        let (clean, labels) = (&facing.images, &facing.labels);
        if clean.size()[0] == 0 {
            return Ok(Attempt {
                row: Outcome::of_nothing(attack, &self.parameters.votes),
                images: clean.shallow_clone(),
            });
        }
        let oracle = self.oracle(attack)?;
        let mut judge = self.judge(1 + attack as u64);
        if attack.knows_the_seed() {
            judge = Judge {
                defence: oracle.defence,
                copies: 1,
                seed: oracle.seed,
                replay: Replay::Same,
                n_done: 0,
            };
        }
        let plan = Plan {
            name: attack.title(),
            n_questions: self.questions(attack.climb()),
            suspicion: match attack.view() {
                View::Bare | View::Shorter => Suspicion::AtTheEnd,
                _ => Suspicion::AtOnce,
            },
        };
        let mut climber = self.climber(attack.climb(), clean, 1 + attack as u64)?;
        let found = pursue(&oracle, &mut judge, climber.as_mut(), clean, labels, &plan)?;
        let votes: &[usize] = match attack.knows_the_seed() {
            true => &[],
            false => &self.parameters.votes,
        };
        let mut verdict = |images: &Tensor| match attack.knows_the_seed() {
            true => judge.is_right(images, labels).map(Verdict::of_one),
            false => judge.verdict(images, labels, votes),
        };
        Ok(Attempt {
            row: Outcome {
                attack,
                best: verdict(&found.best)?,
                last: verdict(&found.last)?,
                broken: found.broken,
                course: found.course,
                seconds: start.elapsed().as_secs_f64(),
            },
            images: found.best,
        })
    }

    /// What decides which attacks can be made.
    pub fn circumstances(&self) -> Circumstances {
        Circumstances {
            norm: self.parameters.ball.norm,
            has_front: self.defence.front.is_some(),
            has_relus: self.has_relus,
        }
    }

    /// Questions about each image: as many as PGD has iterates; what sees no gradient asks more often.
    fn questions(&self, climb: Climb) -> usize {
        let iterates = self.parameters.pgd_steps + 1;
        match climb {
            Climb::Square | Climb::Differences => iterates * self.parameters.blind_factor,
            _ => iterates,
        }
    }

    pub(super) fn oracle(&self, attack: Attack) -> Result<Oracle<'a>> {
        let Parameters {
            replicas,
            attack_seed,
            ..
        } = *self.parameters;
        let exact = |curvature: Option<&'a BoundNetwork<'a>>, dynamics: Dynamics| match curvature {
            Some(curvature) => Ok(Backward::Exact {
                curvature,
                stride: self.stride(dynamics.steps)?,
            }),
            None => bail!("the attack {attack} needs second derivatives of the energy"),
        };
        let mut oracle = Oracle {
            defence: self.defence,
            backward: Backward::Identity,
            loss: attack.loss(),
            metric: attack.metric(),
            copies: replicas,
            seed: derive(attack_seed, 1 + attack as u64, Purpose::AttackPurification),
            replay: Replay::Fresh,
        };
        if let Some(obstacle) = attack.obstacle(&self.circumstances()) {
            bail!("the attack {attack}: {obstacle}");
        }
        if attack.view() == View::Bare {
            oracle.defence = self.defence.bare();
        }
        // Without a chain, every gradient is that of the classifier.
        let Some(purification) = self.defence.purification() else {
            return Ok(oracle);
        };
        let behind = |purification| self.behind(Front::Purification(purification)).defence;
        match attack.view() {
            View::Identity | View::Bare => {}
            View::Exact => oracle.backward = exact(self.curvature, purification.dynamics)?,
            View::Softened(bend) => {
                let of_bend = self.softened.iter().find(|(own, _)| *own == bend);
                let curvature = of_bend.map(|(_, curvature)| curvature);
                oracle.backward = exact(curvature, purification.dynamics)?;
            }
            View::Shorter => {
                let dynamics = shorter(purification.dynamics);
                oracle.defence = behind(Purification {
                    dynamics,
                    ..purification
                });
                oracle.backward = exact(self.curvature, dynamics)?;
            }
        }
        if attack.knows_the_seed() {
            oracle.defence = behind(Purification {
                noise: Noise::OfTheDevice,
                ..purification
            });
            (oracle.copies, oracle.replay) = (1, Replay::Same);
        }
        Ok(oracle)
    }

    /// Which states fit the memory.
    fn stride(&self, steps: usize) -> Result<Stride> {
        Stride::that_fits(steps, self.state_bytes(), self.parameters.memory_bytes)
    }

    /// Bytes of the images that move together.
    fn state_bytes(&self) -> u64 {
        let Parameters {
            n_images,
            replicas,
            batch,
            ..
        } = *self.parameters;
        batch.min(n_images * replicas) as u64 * self.image_bytes
    }

    /// What the states of chains take on the way back, if there are chains.
    pub fn memory(&self) -> Option<String> {
        let steps = self.defence.purification()?.dynamics.steps;
        let megabytes = |stride: Stride| stride.bytes(steps, self.state_bytes()) as f64 / 1e6;
        let root = Stride::root(steps);
        Some(format!(
            "for the way back the {steps} states of a batch take {:.1} MB, only {root} {:.1} MB; --memory allows {:.1} MB",
            megabytes(Stride::ALL),
            megabytes(root),
            self.parameters.memory_bytes as f64 / 1e6
        ))
    }

    fn climber(&self, climb: Climb, clean: &Tensor, number: u64) -> Result<Box<dyn Climber>> {
        let Parameters {
            ball,
            attack_seed,
            pgd_step_size,
            ..
        } = *self.parameters;
        let seed = derive(attack_seed, number, Purpose::AttackStart);
        let length = pgd_step_size.in_signed_range();
        let clean = clean.shallow_clone();
        let n_questions = self.questions(climb);
        Ok(match climb {
            Climb::Still => Box::new(Still(clean)),
            Climb::Scatter => Box::new(Scatter { ball, clean, seed }),
            Climb::Pgd(begin) => {
                let start = start(&ball, begin, &clean, seed)?;
                Box::new(Pgd::new(ball, &clean, start, length))
            }
            Climb::Apgd => {
                let start = start(&ball, Begin::Random, &clean, seed)?;
                Box::new(Apgd::new(ball, &clean, start, n_questions)?)
            }
            Climb::Square => Box::new(Square::new(ball, &clean, n_questions, seed)?),
            Climb::Differences => {
                let start = clean.shallow_clone();
                Box::new(Differences::new(ball, &clean, start, length, seed)?)
            }
        })
    }
}

fn start(ball: &Ball, begin: Begin, clean: &Tensor, seed: u64) -> Result<Tensor> {
    let _draws = seeded(seed);
    ball.start(begin, clean)
}

/// A chain of a fifth of the steps that moves for the same time: each ε²/2 is as much larger as there are fewer.
fn shorter(dynamics: Dynamics) -> Dynamics {
    let steps = dynamics.steps.div_ceil(SURROGATE_SHARE);
    let factor = dynamics.steps as f64 / steps as f64;
    Dynamics {
        steps,
        step_size: dynamics.step_size * factor.sqrt(),
        ..dynamics
    }
}
