//! Energy of data against that of chain ends, beside the regression on flows.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::chains::langevin::gradient_at;
use crate::config::ContrastConfig;
use crate::machine::parallel::{Shared, Team};
use crate::machine::randomness::{Purpose, seed_torch};
use crate::network::{BoundNetwork, Program, Weights};
use crate::weights::gradients::{of_loss, sum};

/// What a second phase evaluates beside the gradient that it regresses.
#[derive(Debug)]
pub struct SecondPhase {
    /// Outputs `energy [N]`.
    pub energy: Program,
    /// Outputs `gradient [N, C, H, W]`, which chains descend without autograd.
    pub chains: Program,
}

/// What `max(λ(mean V(x⁺) − trimmed mean V(x⁻)), −clamp)` comes to, and its gradient.
#[derive(Debug)]
pub struct Contrasted {
    /// `mean V(x⁺) − trimmed mean V(x⁻)`.
    pub difference: f64,
    /// The loss.
    pub loss: f64,
    /// Its gradient with respect to the weights, over all images of all processes; none where the loss is held at `−clamp`.
    pub gradients: Option<Weights>,
}

/// Where chains begin: the first half at data, the others at normal noise, `[n, C, H, W]` on the CPU.
///
/// # Errors
/// libtorch fails.
pub fn starts(images: &Tensor, (seed, update): (u64, u64)) -> Result<Tensor> {
    let n = images.size()[0];
    let _draws = seed_torch(seed, update, Purpose::Chains);
    let noise = images.f_randn_like()?.f_narrow(0, n / 2, n - n / 2)?;
    Ok(Tensor::f_cat(&[images.f_narrow(0, 0, n / 2)?, noise], 0)?)
}

/// Where chains are after all steps `x ← x − Δt·∇V + √(2·T·Δt)·z`, clamped to `[-1, 1]` once at the end: of the rows of this process, which
/// all draw the same noise. Time begins at 0, and the temperature follows it.
///
/// # Errors
/// The images do not fit the network.
pub fn ends(
    team: &Team,
    network: &BoundNetwork<'_>,
    starts: &Tensor,
    config: &ContrastConfig,
    (seed, update): (u64, u64),
) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let _draws = seed_torch(seed, update, Purpose::Langevin);
    let ranks = team.ranks();
    let own =
        |whole: &Tensor| -> Result<Tensor> { Ok(ranks.own(whole)?.to_device(network.device())) };
    let most = network.images_at_once();
    let mut parts = team.split(&own(starts)?, most)?;
    let network = Shared::new(network);
    for step in 0..config.steps {
        let temperature = config.warming().at(step as f64 * config.drift);
        let deviation = (2.0 * temperature * config.drift).sqrt();
        let noise = match deviation > 0.0 {
            true => own(&starts.f_randn_like()?)? * deviation,
            false => own(starts)?.f_zeros_like()?,
        };
        let noise = team.split(&noise, most)?;
        parts = team.map(
            parts.into_iter().zip(noise).collect(),
            |(images, noise): (Tensor, Tensor)| {
                let drift = gradient_at(network.get(), &images)?.f_mul_scalar(config.drift)?;
                Ok(images.f_sub(&drift)?.f_add(&noise)?)
            },
        )?;
    }
    Ok(Tensor::f_cat(&parts, 0)?.f_clamp(-1.0, 1.0)?)
}

/// The loss of positives and negatives of this process, `[n, C, H, W]` each, of `batch` in all processes.
///
/// # Errors
/// The images do not fit the energy, whose output is `energy [N]`.
pub fn contrast(
    team: &Team,
    energy: &Program,
    weights: &Weights,
    (positives, negatives): (&Tensor, &Tensor),
    (config, batch): (&ContrastConfig, usize),
) -> Result<Contrasted> {
    let most = energy.images_at_once();
    let shared = (Shared::new(energy), Shared::new(weights));
    let energies = |images: &Tensor| -> Result<Vec<f64>> {
        let _guard = tch::no_grad_guard();
        let network = energy.bind(weights)?;
        let network = Shared::new(&network);
        let parts = team.map(team.split(images, most)?, |part: Tensor| {
            network.get().output("energy", &part)
        })?;
        let own = Tensor::f_cat(&parts, 0)?.to_kind(Kind::Double);
        let whole = team.ranks().whole(&own.to_device(Device::Cpu), batch)?;
        Ok(Vec::<f64>::try_from(whole)?)
    };
    let data = energies(positives)?;
    let ends = energies(negatives)?;
    let shares = trimmed_shares(&ends, config.trim);
    let mean = data.iter().sum::<f64>() / batch as f64;
    let difference = mean
        - ends
            .iter()
            .zip(&shares)
            .map(|(energy, share)| energy * share)
            .sum::<f64>();
    let loss = config.weight * difference;
    if loss < -config.clamp {
        return Ok(Contrasted {
            difference,
            loss: -config.clamp,
            gradients: None,
        });
    }
    let of_data = vec![1.0 / batch as f64; batch];
    let factors = |shares: &[f64], sign: f64| -> Result<Tensor> {
        let factors: Vec<f64> = shares
            .iter()
            .map(|share| sign * config.weight * share)
            .collect();
        let own = team
            .ranks()
            .own(&Tensor::from_slice(&factors).to_kind(Kind::Float))?;
        Ok(own.to_device(positives.device()))
    };
    let images = Tensor::f_cat(&[positives, negatives], 0)?;
    let factors = Tensor::f_cat(&[factors(&of_data, 1.0)?, factors(&shares, -1.0)?], 0)?;
    let parts = team.split_with(&images, &factors, most)?;
    let parts = team.map(parts, |(images, factors): (Tensor, Tensor)| {
        let (program, weights) = (shared.0.get(), shared.1.get());
        let energies = program.bind(weights)?.output("energy", &images)?;
        of_loss(&(energies * factors).f_sum(Kind::Float)?, weights)
    })?;
    Ok(Contrasted {
        difference,
        loss,
        gradients: Some(team.ranks().sum_weights(sum(parts)?)?),
    })
}

/// The share of each value in the mean of all but the largest, of which that share is left out.
fn trimmed_shares(values: &[f64], trim: f64) -> Vec<f64> {
    let n_dropped = (trim * values.len() as f64) as usize;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    let n_kept = values.len() - n_dropped;
    let mut shares = vec![0.0; values.len()];
    for &place in &order[..n_kept] {
        shares[place] = 1.0 / n_kept as f64;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_values_are_left_out_of_the_mean() {
        let shares = trimmed_shares(&[3.0, 9.0, 1.0, 2.0], 0.3);
        assert_eq!(shares, [1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]);
        assert_eq!(trimmed_shares(&[3.0, 9.0], 0.0), [0.5, 0.5]);
    }
}
