//! What an attack may change: a ball around each image, within the range of pixels.

use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::config::{Begin, Norm};
use ebm_common::PixelDistance;

/// All images `[N, C, H, W]` within a distance of clean ones, with pixels in `[-1, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ball {
    /// How the change is measured.
    pub norm: Norm,
    /// Its bound ε.
    #[serde(with = "super::distance")]
    pub epsilon: PixelDistance,
}

impl Ball {
    /// ε of pixels in `[-1, 1]`, in which all images are.
    pub fn radius(&self) -> f64 {
        self.epsilon.in_signed_range()
    }

    /// The nearest images of the ball, per pixel for ℓ∞ and along the change for ℓ2, then of the range.
    pub fn project(&self, images: &Tensor, clean: &Tensor) -> Result<Tensor> {
        let change = images.f_sub(clean)?;
        let within = match self.norm {
            Norm::Linf => change.f_clamp(-self.radius(), self.radius())?,
            Norm::L2 => {
                let excess = (length(&change)? / self.radius()).f_clamp_min(1.0)?;
                change.f_div(&excess)?
            }
        };
        Ok(clean.f_add(&within)?.f_clamp(-1.0, 1.0)?)
    }

    /// A direction of length 1 in this norm along a gradient: its signs, or itself over its length. Zero stays zero.
    pub fn direction(&self, gradient: &Tensor) -> Result<Tensor> {
        match self.norm {
            Norm::Linf => Ok(gradient.f_sign()?),
            Norm::L2 => Ok(gradient.f_div(&length(gradient)?.f_clamp_min(1e-12)?)?),
        }
    }

    /// Where an attack begins. The caller has seeded libtorch's generator.
    pub fn start(&self, begin: Begin, clean: &Tensor) -> Result<Tensor> {
        match begin {
            Begin::Clean => Ok(clean.shallow_clone()),
            Begin::Random => self.random(clean),
        }
    }

    /// A random image of each ball: uniform in every pixel for ℓ∞; for ℓ2 in a uniform direction at a uniform distance. The caller has seeded
    /// libtorch's generator.
    pub fn random(&self, clean: &Tensor) -> Result<Tensor> {
        let change = match self.norm {
            Norm::Linf => clean.f_rand_like()? * 2.0 - 1.0,
            Norm::L2 => {
                let distances = length(clean)?.f_rand_like()?;
                self.direction(&clean.f_randn_like()?)? * distances
            }
        };
        self.project(&clean.f_add(&(change * self.radius()))?, clean)
    }
}

impl fmt::Display for Ball {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.norm, self.epsilon)
    }
}

/// L2 norm of each image, `[N, 1, 1, 1]`.
fn length(images: &Tensor) -> Result<Tensor> {
    Ok(crate::chains::langevin::norms(images)?.f_view([-1, 1, 1, 1])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).view([1, 1, 1, -1])
    }

    fn values(images: &Tensor) -> Vec<f64> {
        Vec::try_from(images.view([-1])).unwrap()
    }

    fn ball(norm: Norm, epsilon: f64) -> Ball {
        Ball {
            norm,
            epsilon: PixelDistance::of_unit_range(epsilon),
        }
    }

    /// ε = 0.05 of [0, 1] is 0.1 of [-1, 1].
    #[test]
    fn projections_stay_in_the_ball_and_in_the_range() {
        for (norm, moved, wanted) in [
            (Norm::Linf, [0.5, 1.45, -1.5], [0.1, 1.0, -1.0]),
            (Norm::Linf, [0.05, 0.9, -1.0], [0.05, 0.9, -1.0]),
            // A change of (3, -4, 0) times 0.1 is 0.5 long: a fifth of it stays.
            (Norm::L2, [0.3, 0.55, -1.0], [0.06, 0.87, -1.0]),
            (Norm::L2, [0.03, 0.95, -1.0], [0.03, 0.95, -1.0]),
        ] {
            let clean = image(&[0.0, 0.95, -1.0]);
            let got = ball(norm, 0.05).project(&image(&moved), &clean).unwrap();
            for (got, wanted) in values(&got).iter().zip(wanted) {
                assert!((got - wanted).abs() < 1e-12, "{norm}: {moved:?}");
            }
        }
    }

    #[test]
    fn directions_have_length_one_and_zero_stays() {
        let gradient = Tensor::from_slice(&[3.0, -4.0, 0.0, 0.0]).view([2, 1, 1, 2]);
        for (norm, wanted) in [
            (Norm::Linf, [1.0, -1.0, 0.0, 0.0]),
            (Norm::L2, [0.6, -0.8, 0.0, 0.0]),
        ] {
            assert_eq!(
                values(&ball(norm, 0.1).direction(&gradient).unwrap()),
                wanted
            );
        }
    }

    #[test]
    fn random_images_lie_in_the_ball() {
        let _draws = crate::machine::randomness::seeded(1);
        let clean = Tensor::zeros([50, 1, 4, 4], (tch::Kind::Double, tch::Device::Cpu));
        for norm in [Norm::Linf, Norm::L2] {
            let change = ball(norm, 0.2).random(&clean).unwrap();
            let sizes = match norm {
                Norm::Linf => change.abs().amax([1i64, 2, 3].as_slice(), false),
                Norm::L2 => crate::chains::langevin::norms(&change).unwrap(),
            };
            let largest = sizes.max().double_value(&[]);
            assert!(largest <= 0.4 + 1e-9 && largest > 0.3, "{norm}: {largest}");
        }
    }
}
