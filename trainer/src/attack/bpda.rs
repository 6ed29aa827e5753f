//! BPDA+EOT on a defended classifier, every break confirmed on fresh purifications.

use anyhow::Result;
use tch::Tensor;

use super::{Defence, Outcome, Parameters, ascend, mean_over_replicas, random_start, standing};
use crate::classifier::is_right;
use crate::randomness::{Purpose, seed_torch};
use crate::record::Progress;

/// Attacks images `[n, C, H, W]` with labels int64 `[n]`.
///
/// Each step purifies `replicas` copies of every image that stands and moves it up the cross-entropy of the mean logits; the
/// gradient is that with respect to the purified images, averaged over the copies. An image that the mean logits get wrong is
/// verified on `verify_replicas` fresh purifications, and is broken only if they get it wrong as well. Clean images are
/// verified first: those that the defence gets wrong are broken from the start.
///
/// # Errors
/// The images do not fit the networks.
pub fn attack_defended(
    defence: &Defence<'_>,
    clean: &Tensor,
    labels: &Tensor,
    parameters: &Parameters,
) -> Result<Outcome> {
    let mut verification = Verification {
        defence,
        parameters,
        n_done: 0,
    };
    eprintln!(
        "verifying {} clean images on {} purifications each",
        labels.size()[0],
        parameters.verify_replicas
    );
    let right_when_clean = verification.is_right(clean, labels)?;
    let mut broken: Vec<bool> = right_when_clean.iter().map(|right| !right).collect();
    let _draws = seed_torch(parameters.attack_seed, 0, Purpose::AttackStart);
    let mut attacked = random_start(clean, parameters.epsilon);
    restore_clean(&broken, clean, &mut attacked);
    let mut progress = Progress::new("BPDA+EOT step", 0, parameters.pgd_steps as u64);
    for step in 0..=parameters.pgd_steps {
        let places = standing(&broken, clean.device());
        if places.size()[0] == 0 {
            break;
        }
        let [images, originals, truth] =
            [&attacked, clean, labels].map(|all| all.index_select(0, &places));
        let (suspect, gradient) = probe(defence, &images, &truth, parameters, step)?;
        let confirmed = verification.confirm(&images, &truth, &suspect)?;
        for (within, _) in confirmed
            .iter()
            .enumerate()
            .filter(|(_, confirmed)| **confirmed)
        {
            broken[places.int64_value(&[within as i64]) as usize] = true;
        }
        let n_standing = broken.iter().filter(|broken| !**broken).count();
        progress.show(
            step as u64,
            &format!("{n_standing} of {} stand", broken.len()),
        );
        if step < parameters.pgd_steps {
            let moved = ascend(&images, &gradient, &originals, parameters);
            let stays = Tensor::from_slice(&confirmed)
                .view([-1, 1, 1, 1])
                .to_device(clean.device());
            let _ = attacked.index_copy_(0, &places, &images.where_self(&stays, &moved));
        }
    }
    progress.finish();
    Ok(Outcome {
        attacked,
        broken,
        right_when_clean,
    })
}

/// An image that is wrong without an attack is its own break.
fn restore_clean(broken: &[bool], clean: &Tensor, attacked: &mut Tensor) {
    for (place, _) in broken.iter().enumerate().filter(|(_, broken)| **broken) {
        attacked.get(place as i64).copy_(&clean.get(place as i64));
    }
}

/// Per image: do the mean logits of fresh purifications get it wrong? And the direction in which to go on.
fn probe(
    defence: &Defence<'_>,
    images: &Tensor,
    labels: &Tensor,
    parameters: &Parameters,
    step: usize,
) -> Result<(Vec<bool>, Tensor)> {
    let replicas = parameters.replicas;
    let _draws = seed_torch(
        parameters.attack_seed,
        step as u64,
        Purpose::AttackPurification,
    );
    let purified = tch::no_grad(|| defence.purified(images, replicas))?.set_requires_grad(true);
    let mean = mean_over_replicas(
        &super::logits(defence.classifier, &purified, defence.batch)?,
        replicas,
    )?;
    let loss =
        mean.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Sum, -100, 0.0)?;
    let gradients = Tensor::f_run_backward(&[&loss], &[&purified], false, false)?;
    let size = images.size();
    let gradient = gradients[0].f_view([replicas as i64, size[0], size[1], size[2], size[3]])?;
    let gradient = gradient.f_mean_dim([0i64].as_slice(), false, gradient.kind())?;
    let wrong = is_right(&mean.detach(), labels)?
        .into_iter()
        .map(|right| !right)
        .collect();
    Ok((wrong, gradient))
}

/// Confirms breaks with a seed of its own, fresh noise each time.
struct Verification<'a> {
    defence: &'a Defence<'a>,
    parameters: &'a Parameters,
    n_done: u64,
}

impl Verification<'_> {
    /// Per image: does the defended classifier get it right?
    fn is_right(&mut self, images: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
        let _draws = seed_torch(
            self.parameters.verify_seed,
            self.n_done,
            Purpose::Verification,
        );
        self.n_done += 1;
        is_right(
            &self
                .defence
                .mean_logits(images, self.parameters.verify_replicas)?,
            labels,
        )
    }

    /// Per image: is it suspect, and wrong again?
    fn confirm(&mut self, images: &Tensor, labels: &Tensor, suspect: &[bool]) -> Result<Vec<bool>> {
        let places: Vec<i64> = (0..suspect.len() as i64)
            .filter(|&place| suspect[place as usize])
            .collect();
        let mut confirmed = vec![false; suspect.len()];
        if places.is_empty() {
            return Ok(confirmed);
        }
        let index = crate::randomness::index(&places).to_device(images.device());
        let right = self.is_right(
            &images.index_select(0, &index),
            &labels.index_select(0, &index),
        )?;
        for (place, right) in places.iter().zip(right) {
            confirmed[*place as usize] = !right;
        }
        Ok(confirmed)
    }
}
