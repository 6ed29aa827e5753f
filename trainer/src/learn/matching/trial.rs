//! Looks at what a network makes of images that it does not learn from, and of noise.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::Regression;
use crate::chains::heun::Flow;
use crate::config::{MatchingConfig, MatchingObjective};
use crate::data::Images;
use crate::draw::sheet::Block;
use crate::machine::randomness::{Purpose, derive, seeded};
use crate::run::record::PSNR;

/// A network is tried on so many images.
const N_TESTED: usize = 128;
/// So many are shown.
const N_SHOWN: i64 = 32;
/// What the loss of flows on images that are not learned from is called.
const TEST_LOSS: &str = "test_loss";

/// Images that are not learned from, and what is done with them.
#[derive(Debug)]
pub struct Trial {
    /// f32 `[n, C, H, W]` in `[-1, 1]`.
    images: Tensor,
    objective: MatchingObjective,
    /// Whether the images say anything about the network: those that it learns from do not.
    use_of_images: Use,
    seed: u64,
}

/// What images are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The network is tested on them.
    Tested,
    /// They are only looked at, since the network learns from them.
    Shown,
}

impl Trial {
    /// Of the first images of some.
    ///
    /// # Errors
    /// Pictures are damaged or lost.
    pub fn new(config: &MatchingConfig, images: &Images, use_of_images: Use) -> Result<Trial> {
        Ok(Trial {
            images: images.first(N_TESTED)?.0,
            objective: config.objective.clone(),
            use_of_images,
            seed: config.seed,
        })
    }

    /// How many images there are.
    pub fn n_images(&self) -> usize {
        self.images.size()[0] as usize
    }

    /// Bytes of the images.
    pub fn bytes(&self) -> u64 {
        (self.images.numel() * size_of::<f32>()) as u64
    }

    /// Of a denoiser the peak signal-to-noise ratio in dB of what becomes of noisy images, at each σ; of flows the loss. Noise is the same at
    /// every update. None if the network learns from the images.
    ///
    /// # Errors
    /// `gradient`, which gives ∇E of images, fails.
    pub fn measured(
        &self,
        gradient: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<(String, f64)>> {
        match &self.objective {
            _ if self.use_of_images == Use::Shown => Ok(Vec::new()),
            MatchingObjective::Denoise(denoise) => {
                let levels = denoise.psnr_at.iter().map(|&sigma| {
                    let noisy = self.noisy(sigma)?;
                    let denoised = noisy.f_sub(&gradient(&noisy)?)?.f_clamp(-1.0, 1.0)?;
                    let error = (denoised - &self.images).f_square()?.f_mean(Kind::Double)?;
                    Ok((format!("{PSNR}{sigma}"), psnr(error.double_value(&[]))))
                });
                levels.collect()
            }
            MatchingObjective::Flow(_) => {
                let drawn = Regression::draw(&self.objective, &self.images, (self.seed, 0))?;
                let losses = drawn.losses(&gradient(&drawn.inputs)?)?;
                let loss = losses.f_mean(Kind::Double)?.double_value(&[]);
                Ok(vec![(TEST_LOSS.to_string(), loss)])
            }
        }
    }

    /// How good the network is, more being better: the mean PSNR, or the loss times −1.
    ///
    /// # Errors
    /// As [`Trial::measured`].
    pub fn merit(&self, gradient: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Option<f64>> {
        let measured = self.measured(gradient)?;
        let sum: f64 = measured.iter().map(|(_, value)| value).sum();
        let mean = (!measured.is_empty()).then(|| sum / measured.len() as f64);
        Ok(match &self.objective {
            MatchingObjective::Denoise(_) => mean,
            MatchingObjective::Flow(_) => mean.map(|loss| -loss),
        })
    }

    /// Blocks to look at.
    ///
    /// # Errors
    /// As [`Trial::measured`].
    pub fn samples(&self, gradient: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<Block>> {
        let n = N_SHOWN.min(self.n_images() as i64);
        let mut blocks = vec![Block::new("data", self.images.narrow(0, 0, n))];
        match &self.objective {
            MatchingObjective::Denoise(denoise) => {
                for &sigma in &denoise.psnr_at {
                    let noisy = self.noisy(sigma)?.narrow(0, 0, n);
                    let denoised = noisy.f_sub(&gradient(&noisy)?)?;
                    blocks.push(Block::new(format!("σ = {sigma}"), noisy));
                    blocks.push(Block::new("denoised", denoised));
                }
            }
            MatchingObjective::Flow(objective) => {
                let (flow, n_steps) = Flow::of(objective);
                let _draws = seeded(derive(self.seed, 0, Purpose::Samples));
                let mut images = self.images.narrow(0, 0, n).f_randn_like()?;
                for number in 0..n_steps {
                    let noise = images.f_randn_like()?;
                    let slope = gradient(&images)?;
                    (images, _) = flow.step(number as u64, (&images, &slope), &noise, &gradient)?;
                }
                let title = format!("from noise at t = {}", objective.sampling.time);
                blocks.push(Block::new(title, images));
            }
        }
        Ok(blocks)
    }

    /// The images with noise.
    fn noisy(&self, sigma: f64) -> Result<Tensor> {
        let _draws = seeded(derive(self.seed, 0, Purpose::Samples));
        Ok(&self.images + self.images.f_randn_like()? * sigma)
    }
}

/// In dB, of images in `[-1, 1]` with that mean squared error.
fn psnr(error: f64) -> f64 {
    10.0 * (4.0 / error).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range of 2 and a root mean square error of 0.02 are 40 dB apart.
    #[test]
    fn the_ratio_has_its_closed_form() {
        assert!((psnr(0.02 * 0.02) - 40.0).abs() < 1e-9);
    }
}
