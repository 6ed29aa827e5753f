//! A batch of chains between two steps.

use super::MarkovChains;
use crate::backend::Session;
use crate::contract::ImageShape;
use crate::error::Result;
use crate::generator::START;
use crate::noise::{fill_normal, fill_uniform};
use crate::rows::{Rows, RowsOut, run};

/// The replica in the coordinates of the numbers that decide on acceptance, which no chain has.
const DECISIONS: u32 = u32::MAX;

/// Where chains are, with energy and gradient there.
#[derive(Clone)]
pub(super) struct Point {
    /// `[chains, C, H, W]`, as is the gradient of E.
    pub x: Vec<f32>,
    pub energies: Vec<f32>,
    pub gradients: Vec<f32>,
}

/// Values, energies, shares of accepted steps, and steps that failed, chain by chain.
pub(super) type Ends = (Vec<f32>, Vec<f32>, Vec<f32>, Vec<Option<u32>>);

pub(super) struct Walk<'a> {
    pub settings: &'a MarkovChains,
    session: &'a mut dyn Session,
    image: ImageShape,
    starts: &'a [f32],
    start_energies: Vec<f32>,
    first: usize,
    pub point: Point,
    /// Velocities, for transitions that keep them from step to step.
    pub v: Vec<f32>,
    n_accepted: Vec<u32>,
    failed_steps: Vec<Option<u32>>,
}

impl<'a> Walk<'a> {
    /// Chains number `first` and on, at `starts`.
    pub fn new(
        settings: &'a MarkovChains,
        session: &'a mut dyn Session,
        image: ImageShape,
        starts: &'a [f32],
        first: usize,
    ) -> Result<Self> {
        let n_chains = starts.len() / image.n_values();
        let mut this = Self {
            settings,
            session,
            image,
            starts,
            start_energies: Vec::new(),
            first,
            point: Point {
                x: Vec::new(),
                energies: Vec::new(),
                gradients: Vec::new(),
            },
            v: Vec::new(),
            n_accepted: vec![0; n_chains],
            failed_steps: vec![None; n_chains],
        };
        this.point = this.evaluate(starts.to_vec())?;
        this.start_energies = this.point.energies.clone();
        this.v = this.normals(START);
        // The velocities of unit masses at the temperature T.
        let scale = settings.temperature.sqrt() as f32;
        this.v.iter_mut().for_each(|v| *v *= scale);
        Ok(this)
    }

    /// Values of one chain.
    pub fn n_values(&self) -> usize {
        self.image.n_values()
    }

    pub fn n_chains(&self) -> usize {
        self.n_accepted.len()
    }

    /// Energies and gradients at `x`.
    pub fn evaluate(&mut self, x: Vec<f32>) -> Result<Point> {
        let shape = self.image.dimensions();
        let input = Rows::new("x", &shape, &x);
        let (n_chains, batch) = (self.n_chains(), self.settings.model.contract().batch);
        let outputs: [RowsOut<'_>; 2] = [("energy", &[]), ("gradient", &shape)];
        let mut results = run(self.session, n_chains, batch, &[input], &[], &outputs)?;
        let (mut gradients, mut energies) = (results.remove(1), results.remove(0));
        energies.truncate(n_chains);
        gradients.truncate(x.len());
        Ok(Point {
            x,
            energies,
            gradients,
        })
    }

    /// Standard normal numbers for a step, `[chains, C, H, W]`.
    pub fn normals(&self, step: u32) -> Vec<f32> {
        let n = self.n_values();
        let mut normals = vec![0.0; self.n_chains() * n];
        for (chain, normals) in normals.chunks_exact_mut(n).enumerate() {
            fill_normal(
                self.settings.seed.number(),
                self.number(chain),
                0,
                step,
                normals,
            );
        }
        normals
    }

    /// Moves the chains to `proposal` whose logarithm of the acceptance ratio is above that of a uniform number.
    pub fn accept(&mut self, proposal: &Point, log_ratios: &[f64], step: u32) {
        let n = self.n_values();
        for (chain, &log_ratio) in log_ratios.iter().enumerate() {
            let mut decision = [0.0];
            let number = self.number(chain);
            fill_uniform(
                self.settings.seed.number(),
                number,
                DECISIONS,
                step,
                &mut decision,
            );
            let uniform = (f64::from(decision[0]) + 1.0) / 2.0;
            // A ratio that is not a number, from a proposal outside the finite numbers, compares as false.
            if log_ratio >= uniform.ln() {
                self.n_accepted[chain] += 1;
                let values = chain * n..(chain + 1) * n;
                self.point.x[values.clone()].copy_from_slice(&proposal.x[values.clone()]);
                self.point.gradients[values.clone()].copy_from_slice(&proposal.gradients[values]);
                self.point.energies[chain] = proposal.energies[chain];
            }
        }
    }

    /// Moves all chains, but for those that leave the finite numbers.
    pub fn move_to(&mut self, point: Point, step: u32) {
        self.point = point;
        for (chain, energy) in self.point.energies.iter().enumerate() {
            if self.failed_steps[chain].is_some() {
                continue;
            }
            if energy.is_finite() {
                self.n_accepted[chain] += 1;
            } else {
                self.failed_steps[chain] = Some(step);
            }
        }
    }

    pub fn into_drawn(mut self, n_steps: u32) -> Ends {
        let n = self.n_values();
        for (chain, failed) in self.failed_steps.iter_mut().enumerate() {
            let values = chain * n..(chain + 1) * n;
            let end = &mut self.point.x[values.clone()];
            if failed.is_none() && end.iter().any(|x| !x.is_finite()) {
                *failed = Some(n_steps.saturating_sub(1));
            }
            if failed.is_some() {
                end.copy_from_slice(&self.starts[values]);
                self.point.energies[chain] = self.start_energies[chain];
            }
        }
        let share = |&n_accepted: &u32| n_accepted as f32 / n_steps.max(1) as f32;
        let acceptance = self.n_accepted.iter().map(share).collect();
        (
            self.point.x,
            self.point.energies,
            acceptance,
            self.failed_steps,
        )
    }

    fn number(&self, chain: usize) -> u32 {
        // More chains than 2³² do not fit into memory.
        (self.first + chain) as u32
    }
}
