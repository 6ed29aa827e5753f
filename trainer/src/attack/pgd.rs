//! Projected gradient ascent of the cross-entropy on a bare classifier (Madry et al. 2018).

use anyhow::Result;
use tch::Tensor;

use super::{Outcome, Parameters, ascend, random_start};
use crate::classifier::is_right;
use crate::network::Network;
use crate::randomness::{Purpose, seed_torch};
use crate::record::Progress;

/// Attacks images `[n, C, H, W]` with labels int64 `[n]`; an image is broken as soon as one iterate is misclassified.
///
/// # Errors
/// The images do not fit the classifier.
pub fn attack_bare(
    classifier: &Network<'_>,
    clean: &Tensor,
    labels: &Tensor,
    parameters: &Parameters,
) -> Result<Outcome> {
    let right =
        tch::no_grad(|| is_right(&super::logits(classifier, clean, parameters.batch)?, labels))?;
    let mut broken: Vec<bool> = right.iter().map(|right| !right).collect();
    let mut best = clean.copy();
    let _draws = seed_torch(parameters.attack_seed, 0, Purpose::AttackStart);
    let mut attacked = random_start(clean, parameters.epsilon);
    let mut progress = Progress::new("PGD step", 0, parameters.pgd_steps as u64);
    for step in 0..=parameters.pgd_steps {
        let (logits, gradient) = loss_gradient(classifier, &attacked, labels, parameters.batch)?;
        note_breaks(&logits, labels, &attacked, &mut best, &mut broken)?;
        let n_standing = broken.iter().filter(|broken| !**broken).count();
        progress.show(
            step as u64,
            &format!("{n_standing} of {} stand", broken.len()),
        );
        if step < parameters.pgd_steps {
            attacked = ascend(&attacked, &gradient, clean, parameters);
        }
    }
    progress.finish();
    keep_last_iterates(&broken, &attacked, &mut best);
    Ok(Outcome {
        attacked: best,
        broken,
        right_when_clean: right,
    })
}

/// Logits, and the gradient of the summed cross-entropy with respect to the images.
fn loss_gradient(
    classifier: &Network<'_>,
    images: &Tensor,
    labels: &Tensor,
    batch: usize,
) -> Result<(Tensor, Tensor)> {
    let images = images.detach().set_requires_grad(true);
    let logits = super::logits(classifier, &images, batch)?;
    let loss =
        logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Sum, -100, 0.0)?;
    let mut gradients = Tensor::f_run_backward(&[&loss], &[&images], false, false)?;
    Ok((logits.detach(), gradients.swap_remove(0)))
}

fn note_breaks(
    logits: &Tensor,
    labels: &Tensor,
    attacked: &Tensor,
    best: &mut Tensor,
    broken: &mut [bool],
) -> Result<()> {
    for (place, right) in is_right(logits, labels)?.into_iter().enumerate() {
        if !right && !broken[place] {
            broken[place] = true;
            best.get(place as i64).copy_(&attacked.get(place as i64));
        }
    }
    Ok(())
}

/// Where an image stands, its result is the last iterate.
fn keep_last_iterates(broken: &[bool], attacked: &Tensor, best: &mut Tensor) {
    for (place, _) in broken.iter().enumerate().filter(|(_, broken)| !**broken) {
        best.get(place as i64).copy_(&attacked.get(place as i64));
    }
}
