//! How a chain moves.

use super::walk::{Point, Walk};
use crate::error::{Error, Result};
use crate::langevin::drift_factor;

/// How a chain of `p(x) ∝ exp(−U(x))`, U = E/T, moves in one step of size ε.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Transition {
    /// The Langevin step `x′ = x − (ε²/2)·∇U(x) + ε·z`, accepted with probability `min(1, p(x′)q(x|x′) / (p(x)q(x′|x)))`.
    ///
    /// Source: Roberts, Tweedie, *Exponential convergence of Langevin distributions and their discrete approximations*, Bernoulli 2, 1996.
    MetropolisLangevin,
    /// Langevin dynamics with a velocity of unit mass, in the splitting BAOAB; one gradient a step, every step is accepted.
    ///
    /// Source: Leimkuhler, Matthews, *Rational construction of stochastic numerical methods for molecular sampling*, AMRX 2013.
    UnderdampedLangevin {
        /// γ > 0, in units of one over the time of which a step takes ε.
        friction: f64,
    },
    /// A new velocity, `n_leapfrog` steps of Hamiltonian dynamics, accepted by the change of the total energy.
    ///
    /// Source: Neal, *MCMC using Hamiltonian dynamics*, Handbook of Markov Chain Monte Carlo, 2011.
    Hamiltonian {
        /// Leapfrog steps, from 1; each takes a gradient.
        n_leapfrog: u32,
    },
}

impl Transition {
    pub(super) fn check(&self) -> Result<()> {
        match *self {
            Self::UnderdampedLangevin { friction } if !(friction > 0.0 && friction.is_finite()) => {
                Err(Error::out_of_range(
                    "friction",
                    "a positive, finite number",
                    friction,
                ))
            }
            Self::Hamiltonian { n_leapfrog: 0 } => {
                Err(Error::out_of_range("n_leapfrog", "a number from 1", 0))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn take(&self, state: &mut Walk<'_>, step: u32) -> Result<()> {
        match *self {
            Self::MetropolisLangevin => metropolis_langevin(state, step),
            Self::UnderdampedLangevin { friction } => underdamped_langevin(state, friction, step),
            Self::Hamiltonian { n_leapfrog } => hamiltonian(state, n_leapfrog, step),
        }
    }
}

fn metropolis_langevin(state: &mut Walk<'_>, step: u32) -> Result<()> {
    let (step_size, temperature) = (state.settings.step_size, state.settings.temperature);
    let rate = drift_factor(step_size, temperature);
    let z = state.normals(step);
    let moved = |((x, g), z): ((&f32, &f32), &f32)| x - rate as f32 * g + step_size as f32 * z;
    let at = &state.point;
    let proposed = at.x.iter().zip(&at.gradients).zip(&z).map(moved).collect();
    let proposal = state.evaluate(proposed)?;
    // −‖x′ − x + (ε²/2)·∇U(x)‖² / (2ε²), up to what cancels.
    let log_q = |from: &Point, to: &Point, values: std::ops::Range<usize>| {
        let terms = values.map(|i| {
            let mean = f64::from(from.x[i]) - rate * f64::from(from.gradients[i]);
            (f64::from(to.x[i]) - mean).powi(2)
        });
        -terms.sum::<f64>() / (2.0 * step_size * step_size)
    };
    let n = state.n_values();
    let log_ratios: Vec<f64> = (0..state.n_chains())
        .map(|chain| {
            let values = chain * n..(chain + 1) * n;
            let (here, there) = (&state.point, &proposal);
            let fall = f64::from(here.energies[chain]) - f64::from(there.energies[chain]);
            fall / temperature + log_q(there, here, values.clone()) - log_q(here, there, values)
        })
        .collect();
    state.accept(&proposal, &log_ratios, step);
    Ok(())
}

/// B: half a kick, A: half a drift, O: friction and noise, A, B.
fn underdamped_langevin(state: &mut Walk<'_>, friction: f64, step: u32) -> Result<()> {
    let (step_size, temperature) = (state.settings.step_size, state.settings.temperature);
    let z = state.normals(step);
    // Velocities are those of unit masses at the temperature T, on which E pulls.
    let kick = (step_size / 2.0) as f32;
    let drift = (step_size / 2.0) as f32;
    let kept = (-friction * step_size).exp();
    let stirred = ((1.0 - kept * kept) * temperature).sqrt();
    let (kept, stirred) = (kept as f32, stirred as f32);
    let mut x = state.point.x.clone();
    for (i, x) in x.iter_mut().enumerate() {
        let mut v = state.v[i] - kick * state.point.gradients[i];
        *x += drift * v;
        v = kept * v + stirred * z[i];
        *x += drift * v;
        state.v[i] = v;
    }
    let point = state.evaluate(x)?;
    for (v, g) in state.v.iter_mut().zip(&point.gradients) {
        *v -= kick * g;
    }
    state.move_to(point, step);
    Ok(())
}

fn hamiltonian(state: &mut Walk<'_>, n_leapfrog: u32, step: u32) -> Result<()> {
    let (step_size, temperature) = (state.settings.step_size, state.settings.temperature);
    let kick = (step_size / (2.0 * temperature)) as f32;
    let mut v = state.normals(step);
    let n = state.n_values();
    let kinetic = |v: &[f32], chain: usize| -> f64 {
        let squares = v[chain * n..(chain + 1) * n]
            .iter()
            .map(|&v| f64::from(v).powi(2));
        squares.sum::<f64>() / 2.0
    };
    let total = |point: &Point, v: &[f32], chain: usize| {
        f64::from(point.energies[chain]) / temperature + kinetic(v, chain)
    };
    let before: Vec<f64> = (0..state.n_chains())
        .map(|chain| total(&state.point, &v, chain))
        .collect();
    let mut at = state.point.clone();
    for _ in 0..n_leapfrog {
        let mut x = at.x;
        for ((x, v), g) in x.iter_mut().zip(&mut v).zip(&at.gradients) {
            *v -= kick * g;
            *x += step_size as f32 * *v;
        }
        at = state.evaluate(x)?;
        for (v, g) in v.iter_mut().zip(&at.gradients) {
            *v -= kick * g;
        }
    }
    let log_ratios: Vec<f64> = before
        .iter()
        .enumerate()
        .map(|(chain, before)| before - total(&at, &v, chain))
        .collect();
    state.accept(&at, &log_ratios, step);
    Ok(())
}
