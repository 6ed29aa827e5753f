//! The points of curves: the strongest attack, again and again with one value changed.

use anyhow::Result;
use tch::Tensor;

use super::audit::{Attempt, Audit};
use super::curve::{Axis, Curve, Point};
use super::front::Front;
use super::kind::Attack;
use super::outcome::Parameters;
use crate::config::Norm;
use crate::evaluate::interval::Accuracy;
use ebm_common::PixelDistance;

/// Whether a curve over it means something for a defence.
pub fn suits(axis: Axis, audit: &Audit<'_>) -> bool {
    match axis {
        Axis::Epsilon | Axis::Iterations => true,
        Axis::Steps | Axis::Copies => audit.defence.purification().is_some(),
    }
}

/// The values to try, in rising order; of images with that many values.
fn values(axis: Axis, audit: &Audit<'_>, n_values: f64) -> Vec<f64> {
    let parameters = audit.parameters;
    let around = |middle: usize| {
        let values = [middle.div_ceil(4), middle.div_ceil(2), middle, 2 * middle];
        let mut values = values.map(|value| value as f64).to_vec();
        values.dedup();
        values
    };
    match axis {
        Axis::Epsilon => {
            let epsilon = parameters.ball.epsilon.in_unit_range();
            let whole = match parameters.ball.norm {
                Norm::Linf => 1.0,
                Norm::L2 => n_values.sqrt(),
            };
            let doubled = (-1..).map(|power| epsilon * f64::powi(2.0, power));
            let mut values: Vec<f64> = doubled.take_while(|value| *value < whole).collect();
            values.push(whole);
            values
        }
        Axis::Steps => {
            let purification = audit.defence.purification();
            around(purification.map_or(1, |purification| purification.dynamics.steps))
        }
        Axis::Copies => around(parameters.replicas),
        Axis::Iterations => {
            let values = [1, 2, 4, 8].map(|factor| factor * parameters.pgd_steps.div_ceil(2));
            values.map(|value| value as f64).to_vec()
        }
    }
}

/// Adds the next point of a curve, of images `[n, C, H, W]`; or says that there is none.
///
/// # Errors
/// The images do not fit the networks, or the states of longer chains do not fit the memory.
pub fn go_on(curve: &mut Curve, audit: &Audit<'_>, clean: &Tensor, labels: &Tensor) -> Result<()> {
    let n_values = clean.numel() as f64 / clean.size()[0].max(1) as f64;
    let values = values(curve.axis, audit, n_values);
    let next = values.get(curve.points.len());
    let (Some(&at), false) = (next, curve.is_flat()) else {
        curve.complete = true;
        return Ok(());
    };
    let accuracy = accuracy_at(audit, curve.axis, at, curve.attack, clean, labels)?;
    curve.points.push(Point { at, accuracy });
    Ok(())
}

/// The accuracy with one value changed. Images that are wrong without an attack count as wrong.
fn accuracy_at(
    audit: &Audit<'_>,
    axis: Axis,
    at: f64,
    attack: Attack,
    clean: &Tensor,
    labels: &Tensor,
) -> Result<Accuracy> {
    let mut parameters = audit.parameters.clone();
    let mut defence = audit.defence;
    match axis {
        Axis::Epsilon => scale(&mut parameters, at),
        Axis::Copies => parameters.replicas = at as usize,
        Axis::Iterations => parameters.pgd_steps = at as usize,
        Axis::Steps => {
            if let Some(mut purification) = defence.purification() {
                purification.dynamics.steps = at as usize;
                defence.front = Some(Front::Purification(purification));
            }
        }
    }
    let changed = Audit {
        defence,
        parameters: &parameters,
        ..*audit
    };
    let (_, facing) = changed.right(clean, labels)?;
    let Attempt { row, .. } = changed.attempt(attack, &facing)?;
    let stands = row.best.decisive().iter().zip(&row.broken);
    let n_right = stands
        .filter(|(right, broken)| **right && !**broken)
        .count();
    Ok(Accuracy::new(n_right, labels.numel()))
}

/// Another ε, with steps in proportion.
fn scale(parameters: &mut Parameters, epsilon: f64) {
    let step = parameters.pgd_step_size.in_unit_range();
    let factor = epsilon / parameters.ball.epsilon.in_unit_range();
    parameters.ball.epsilon = PixelDistance::of_unit_range(epsilon);
    parameters.pgd_step_size = PixelDistance::of_unit_range(step * factor);
}
