//! Chains as an iterator over their states.

use std::fmt;
use std::iter::FusedIterator;

use super::{Purifier, Request};
use crate::error::{Error, Result};
use crate::images::Images;
use crate::langevin::{Batch, Measurement};

/// The states of one chain for each image, from [`Purifier::trajectory`]: an iterator that takes its steps when it is asked for the next state.
///
/// All images run as one batch on one session. Leaving the loop leaves the remaining steps undone.
///
/// ```no_run
/// # fn main() -> ebm_runtime::Result<()> {
/// # let purifier = ebm_runtime::Purifier::builder(&ebm_runtime::Model::open("step.onnx")?).build(1)?;
/// # let images = ebm_runtime::Images::from_vec(purifier.contract().image, vec![])?;
/// for state in purifier.trajectory(&images)? {
///     let state = state?;
///     if state.before.iter().all(|at| at.energy < -10.0) {
///         println!("{} steps were enough", state.n_steps);
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Trajectory<'a> {
    batch: Batch<'a>,
    steps_per_run: u32,
    /// Runs of the model that are still to be done.
    n_runs: u32,
}

/// Where the chains are after some steps.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct State {
    /// Steps taken so far.
    pub n_steps: u32,
    /// The images `[N, C, H, W]` as they are now. One whose chain failed is as it was given.
    pub images: Images,
    /// Energy and gradient norm of each image before the last step.
    pub before: Vec<Measurement>,
    /// For each image the step at which its chain left the finite numbers or the range of energies, if it did.
    pub failed_steps: Vec<Option<u32>>,
}

impl Purifier {
    /// The states of one chain for each image, step by step; image `i` has index `i` in the noise, as in [`Purifier::purify`]. A model that takes k
    /// steps in a run gives every k-th state.
    ///
    /// # Errors
    /// As [`Purifier::purify`], here or from the iterator, which ends after an error, except that chains which leave the finite numbers are told in the states;
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for no images, or more than the batch that the model is fixed to.
    pub fn trajectory<'a>(&'a self, images: &'a Images) -> Result<Trajectory<'a>> {
        let chains = self.chains(&Request::new(images))?;
        let fixed = self.contract().batch;
        let most = fixed.unwrap_or(usize::MAX);
        if !(1..=most).contains(&chains.len()) {
            let expected = match fixed {
                Some(fixed) => format!("from 1 to {fixed} images, the batch of the model"),
                None => "from 1 image".to_owned(),
            };
            return Err(Error::out_of_range("images", &expected, chains.len()));
        }
        let n_rows = fixed.unwrap_or(chains.len());
        let batch = Batch::new(
            &*self.model.session(),
            images,
            chains,
            &self.dynamics,
            n_rows,
            0,
            self.noise_thread(n_rows),
        )?;
        let steps_per_run = self.dynamics.steps_per_run;
        Ok(Trajectory {
            batch,
            steps_per_run,
            n_runs: self.dynamics.n_steps / steps_per_run,
        })
    }
}

impl Trajectory<'_> {
    fn advance(&mut self) -> Result<State> {
        self.batch.advance()?;
        let values = self.batch.states()?;
        Ok(State {
            n_steps: self.batch.n_steps(),
            images: Images::from_vec(self.batch.image_shape(), values)?,
            before: self.batch.measurements(self.steps_per_run - 1),
            failed_steps: self.batch.failed_steps().to_vec(),
        })
    }
}

impl Iterator for Trajectory<'_> {
    type Item = Result<State>;

    fn next(&mut self) -> Option<Result<State>> {
        self.n_runs = self.n_runs.checked_sub(1)?;
        let state = self.advance();
        if state.is_err() {
            self.n_runs = 0;
        }
        Some(state)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n_runs = self.n_runs as usize;
        // An error ends the iterator early.
        (n_runs.min(1), Some(n_runs))
    }
}

impl FusedIterator for Trajectory<'_> {}

impl fmt::Debug for Trajectory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trajectory")
            .field("n_steps", &self.batch.n_steps())
            .field("n_runs", &self.n_runs)
            .finish_non_exhaustive()
    }
}
