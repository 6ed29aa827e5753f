//! Langevin dynamics: chains of `x ← x − (ε²/2T)·g(x) + ε·z`, without autograd; g is `T·∇U`, which is ∇E if the potential is the energy alone.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::config::{Dynamics, Purification, Setting};
use crate::machine::parallel::{Shared, Team};
use crate::network::BoundNetwork;

impl Dynamics {
    /// ε²/(2T), the factor of ∇E.
    pub fn drift_factor(&self) -> f64 {
        self.step_size * self.step_size / (2.0 * self.temperature)
    }
}

impl From<Purification> for Dynamics {
    fn from(purification: Purification) -> Dynamics {
        let Purification {
            steps,
            step_size,
            temperature,
        } = purification;
        Dynamics {
            steps,
            step_size,
            temperature,
            clip: Setting::OFF,
        }
    }
}

/// One Langevin step: state, gradient and noise are `[N, C, H, W]`; gives the next state and the drift `(ε²/2T)·∇E`,
/// the norm of which is clipped per image if that is on.
pub fn step(
    x: &Tensor,
    gradient: &Tensor,
    noise: &Tensor,
    dynamics: &Dynamics,
) -> Result<(Tensor, Tensor)> {
    let mut drift = gradient.f_mul_scalar(dynamics.drift_factor())?;
    if let Some(largest) = dynamics.clip.value() {
        let factor = (largest / (norms(&drift)? + f64::MIN_POSITIVE.sqrt())).f_clamp_max(1.0)?;
        drift = drift.f_mul(&factor.f_view([-1, 1, 1, 1])?)?;
    }
    let next = x
        .f_sub(&drift)?
        .f_add(&noise.f_mul_scalar(dynamics.step_size)?)?;
    Ok((next, drift))
}

/// ∇ of a network with the output `gradient [N, C, H, W]`, in the numbers of the images, in whatever numbers it is computed.
pub fn gradient_at(gradient_network: &BoundNetwork<'_>, images: &Tensor) -> Result<Tensor> {
    let rounded = images.f_to_kind(gradient_network.kind())?;
    let gradient = gradient_network.output("gradient", &rounded)?;
    Ok(gradient.f_to_kind(images.kind())?)
}

/// L2 norm of each image of `[N, C, H, W]`: `[N]`.
pub fn norms(images: &Tensor) -> Result<Tensor> {
    Ok(images
        .f_square()?
        .f_sum_dim_intlist([1i64, 2, 3].as_slice(), false, images.kind())?
        .f_sqrt()?)
}

/// Share of the pixels of each image of `[N, C, H, W]` that are at or beyond the ends of the range `[-1, 1]`: f32 `[N]`.
pub fn saturation(images: &Tensor) -> Result<Tensor> {
    Ok(saturated(images)?.f_mean_dim([1i64, 2, 3].as_slice(), false, Kind::Float)?)
}

/// Whether each value is at or beyond the ends of `[-1, 1]`: bool of the shape of the images.
pub fn saturated(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_abs()?.f_ge(1.0)?)
}

/// Where chains are after their steps.
#[derive(Debug)]
pub struct ChainEnds {
    /// `[N, C, H, W]`.
    pub images: Tensor,
    /// Mean over chains and steps of the L2 norm of the drift `(ε²/2T)·∇E`.
    pub gradient_strength: f64,
}

/// Runs all steps of `dynamics` from `start`, the same in every process; noise is drawn from libtorch's generator, which the caller has seeded.
///
/// `gradient_network` has the outputs `energy [N]` and `gradient [N, C, H, W]`.
pub fn run(
    team: &Team,
    gradient_network: &BoundNetwork<'_>,
    start: &Tensor,
    dynamics: &Dynamics,
) -> Result<ChainEnds> {
    let _guard = tch::no_grad_guard();
    let ranks = team.ranks();
    let n = start.size()[0] as f64;
    let most = gradient_network.images_at_once();
    let mut parts = team.split(&ranks.own(start)?, most)?;
    let mut strength = 0.0;
    let network = Shared::new(gradient_network);
    for _ in 0..dynamics.steps {
        let noise = team.split(&ranks.own(&start.f_randn_like()?)?, most)?;
        let moved = team.map(parts.into_iter().zip(noise).collect(), |(images, noise)| {
            let gradient = gradient_at(network.get(), &images)?;
            let (next, drift) = step(&images, &gradient, &noise, dynamics)?;
            Ok((next, norms(&drift)?.f_sum(Kind::Double)?.double_value(&[])))
        })?;
        strength += moved.iter().map(|(_, strength)| strength).sum::<f64>() / n;
        parts = moved.into_iter().map(|(next, _)| next).collect();
    }
    let [strength] = ranks.sums([strength])?;
    Ok(ChainEnds {
        images: ranks.whole(&Tensor::f_cat(&parts, 0)?, n as usize)?,
        gradient_strength: strength / dynamics.steps as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMICS: Dynamics = Dynamics {
        steps: 1,
        step_size: 0.2,
        temperature: 0.5,
        clip: Setting::OFF,
    };

    /// ε = 0.2, T = 0.5: ε²/(2T) = 0.04, so that x − 0.04·g + 0.2·z = 1 − 0.4 + 0.1.
    #[test]
    fn a_step_has_its_closed_form() {
        let image =
            |value: f64| Tensor::full([1, 1, 1, 1], value, (Kind::Double, tch::Device::Cpu));
        let (next, drift) = step(&image(1.0), &image(10.0), &image(0.5), &DYNAMICS).unwrap();
        assert!((next.double_value(&[0, 0, 0, 0]) - 0.7).abs() < 1e-12);
        assert!((drift.double_value(&[0, 0, 0, 0]) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn what_is_at_or_beyond_the_range_is_saturated() {
        let images = Tensor::from_slice(&[1.0f32, -1.5, 0.99, 0.0, 0.0, 0.5, -0.5, 0.0]);
        let shares = saturation(&images.view([2, 1, 2, 2])).unwrap();
        assert_eq!(Vec::<f32>::try_from(shares).unwrap(), [0.5, 0.0]);
    }

    #[test]
    fn a_clipped_drift_keeps_its_direction_and_a_small_one_its_length() {
        let clipped = Dynamics {
            clip: Setting::On(0.1),
            ..DYNAMICS
        };
        let gradient = Tensor::from_slice(&[30.0, -40.0, 0.0, 0.25]).view([2, 1, 1, 2]);
        let zero = gradient.zeros_like();
        let (_, drift) = step(&zero, &gradient, &zero, &clipped).unwrap();
        let drift = Vec::<f64>::try_from(drift.view([-1])).unwrap();
        for (got, expected) in drift.iter().zip([0.06, -0.08, 0.0, 0.01]) {
            assert!((got - expected).abs() < 1e-9, "{drift:?}");
        }
    }
}
