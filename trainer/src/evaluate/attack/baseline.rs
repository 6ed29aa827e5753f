//! What stands beside a defence in its table: cheap ones that it has to be better than.

use anyhow::Result;
use tch::Tensor;

use super::audit::{Attempt, Audit};
use super::kind::Attack;
use super::outcome::{BaselineResult, Made};

/// A defence to compare with.
#[derive(Debug)]
pub struct Baseline<'a> {
    /// What it is called in the table.
    pub title: String,
    /// It, under the same parameters.
    pub audit: Audit<'a>,
}

impl Baseline<'_> {
    /// Attacks it by what is known to be strong against its kind: the gradient of the classifier, taken through what stands before it exactly if that
    /// has a derivative, else as if it were the identity. `clean` are the images that meet every attack.
    ///
    /// # Errors
    /// The images do not fit the networks.
    pub fn attacked(&self, clean: &Tensor, labels: &Tensor) -> Result<BaselineResult> {
        let (on_clean, facing) = self.audit.right(clean, labels)?;
        let attacks = [Attack::Transfer, Attack::Exact, Attack::ApgdDlr];
        let circumstances = self.audit.circumstances();
        let suitable = attacks.into_iter();
        let suitable = suitable.filter(|attack| attack.obstacle(&circumstances).is_none());
        let attacks = suitable.map(|attack| {
            let Attempt { row, .. } = self.audit.attempt(attack, &facing)?;
            let images = facing.numbers.clone();
            Ok(Made { images, row })
        });
        Ok(BaselineResult {
            title: self.title.clone(),
            attacks: attacks.collect::<Result<_>>()?,
            on_clean,
        })
    }
}
