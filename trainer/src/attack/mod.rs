//! Attacks in the ε∞ ball: on a bare classifier, and on one that is defended by purification.
//!
//! BPDA+EOT (Athalye et al. 2018) takes the purification as the identity in the backward pass and averages the gradient over
//! purifications. It is the attack of the reference system, not the strongest one known.

mod bpda;
mod outcome;
mod pgd;

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use bpda::attack_defended;
pub use outcome::{Outcome, RESULTS, Report, Results};
pub use pgd::attack_bare;

use crate::config::Dynamics;
use crate::network::Network;
use crate::parallel::Team;

/// A projected-gradient attack.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Parameters {
    /// ε∞: largest change of a pixel, of a range that is 2 wide.
    pub epsilon: f64,
    /// Steps of the ascent.
    pub pgd_steps: usize,
    /// Length of each step in every pixel.
    pub pgd_step_size: f64,
    /// Purifications per image and step, over which the gradient is averaged.
    pub replicas: usize,
    /// Fresh purifications that confirm a break.
    pub verify_replicas: usize,
    /// Images per evaluation of a network.
    pub batch: usize,
    /// Seed of the attack's random start and purifications.
    pub attack_seed: u64,
    /// Seed of the verification's purifications.
    pub verify_seed: u64,
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parameters {
            epsilon,
            pgd_steps,
            pgd_step_size,
            replicas,
            verify_replicas,
            ..
        } = self;
        write!(
            f,
            "ε∞ {epsilon} of pixels in [-1, 1], {pgd_steps} steps of {pgd_step_size}, gradients over {replicas} purifications, breaks confirmed over {verify_replicas}"
        )
    }
}

impl Parameters {
    /// Says which value is out of its range.
    ///
    /// # Errors
    /// The first such value.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.epsilon > 0.0 && self.epsilon <= 2.0,
            "--epsilon {}: expected above 0 and at most 2, the width of the pixel range [-1, 1]",
            self.epsilon
        );
        ensure!(
            self.pgd_steps >= 1,
            "--pgd-steps {}: expected at least 1",
            self.pgd_steps
        );
        ensure!(
            self.pgd_step_size > 0.0 && self.pgd_step_size.is_finite(),
            "--pgd-step-size {}: expected above 0",
            self.pgd_step_size
        );
        ensure!(
            self.replicas >= 1,
            "--replicas {}: expected at least 1",
            self.replicas
        );
        ensure!(
            self.verify_replicas >= 1,
            "--verify-replicas {}: expected at least 1",
            self.verify_replicas
        );
        ensure!(
            self.batch >= 1,
            "--batch {}: expected at least 1",
            self.batch
        );
        Ok(())
    }
}

/// A classifier behind purifications.
#[derive(Debug)]
pub struct Defence<'a> {
    /// Divides the work.
    pub team: &'a Team,
    /// With outputs `energy` and `gradient`.
    pub gradient_network: &'a Network<'a>,
    /// With output `logits`.
    pub classifier: &'a Network<'a>,
    /// How images are purified.
    pub dynamics: Dynamics,
    /// Images per evaluation of a network.
    pub batch: usize,
}

impl Defence<'_> {
    /// `replicas` purifications of each image: `[replicas · n, C, H, W]`, those of one image `n` apart. Noise is drawn from
    /// libtorch's generator, which the caller has seeded.
    fn purified(&self, images: &Tensor, replicas: usize) -> Result<Tensor> {
        let copies = images.f_repeat([replicas as i64, 1, 1, 1])?;
        crate::langevin::purify(
            self.team,
            self.gradient_network,
            &copies,
            &self.dynamics,
            self.batch,
        )
    }

    /// Mean logits over `replicas` purifications, `[n, n_classes]`.
    fn mean_logits(&self, images: &Tensor, replicas: usize) -> Result<Tensor> {
        tch::no_grad(|| {
            let logits = logits(
                self.classifier,
                &self.purified(images, replicas)?,
                self.batch,
            )?;
            mean_over_replicas(&logits, replicas)
        })
    }
}

/// Logits in batches, `[n, n_classes]`.
fn logits(classifier: &Network<'_>, images: &Tensor, batch: usize) -> Result<Tensor> {
    let parts = images.f_split(batch as i64, 0)?;
    let parts = parts
        .iter()
        .map(|part| classifier.output("logits", part))
        .collect::<Result<Vec<Tensor>>>()?;
    Ok(Tensor::f_cat(&parts, 0)?)
}

/// `[replicas · n, n_classes]` to `[n, n_classes]`.
fn mean_over_replicas(logits: &Tensor, replicas: usize) -> Result<Tensor> {
    let size = logits.size();
    Ok(logits
        .f_view([replicas as i64, size[0] / replicas as i64, size[1]])?
        .f_mean_dim([0i64].as_slice(), false, Kind::Float)?)
}

/// A random point of the ball around each image; the caller has seeded libtorch's generator.
fn random_start(clean: &Tensor, epsilon: f64) -> Tensor {
    let noise = (clean.rand_like() * 2.0 - 1.0) * epsilon;
    (clean + noise).clamp(-1.0, 1.0)
}

/// One step up the loss, back into the ball and into the range of pixels.
fn ascend(attacked: &Tensor, gradient: &Tensor, clean: &Tensor, parameters: &Parameters) -> Tensor {
    let moved = attacked + gradient.sign() * parameters.pgd_step_size;
    moved
        .maximum(&(clean - parameters.epsilon))
        .minimum(&(clean + parameters.epsilon))
        .clamp(-1.0, 1.0)
}

/// The places of images that still stand, int64 `[n]`.
fn standing(broken: &[bool], device: Device) -> Tensor {
    let places: Vec<i64> = (0..broken.len() as i64)
        .filter(|&place| !broken[place as usize])
        .collect();
    crate::randomness::index(&places).to_device(device)
}

#[cfg(test)]
mod tests;
