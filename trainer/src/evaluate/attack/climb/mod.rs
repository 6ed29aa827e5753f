//! Ways up a loss within a ball: which images an attack asks about next, and what it makes of the answers.

mod apgd;
mod control;
mod differences;
mod pgd;
mod square;

use anyhow::Result;
use tch::Tensor;

pub use apgd::Apgd;
pub use control::{Scatter, Still};
pub use differences::Differences;
pub use pgd::Pgd;
pub use square::Square;

use super::ball::Ball;
use super::oracle::{Probe, Question};

/// Where the climb of some images stands; all tensors have one row per image.
pub trait Climber {
    /// What it wants to know.
    fn question(&self) -> Question;

    /// The images to ask about next, `[n, C, H, W]`.
    fn query(&mut self) -> Result<Tensor>;

    /// Which noise the next question wants, if the number of the question is this. Two questions of the same number have the same.
    fn noise(&self, number: u64) -> u64 {
        number
    }

    /// Goes on with the answer about these images.
    fn learn(&mut self, images: &Tensor, answer: &Probe) -> Result<()>;

    /// Drops all images but those at the places, int64 `[m]`.
    fn keep(&mut self, places: &Tensor) -> Result<()>;
}

/// The gradient of an answer to [`Question::Gradient`].
fn gradient(answer: &Probe) -> Result<&Tensor> {
    let slope = answer.slope.as_ref();
    Ok(&anyhow::Context::context(slope, "a gradient was asked for and none came")?.gradient)
}

/// A step from images, of this length in the norm of the ball, along a gradient and back into the ball.
fn ascend(
    ball: &Ball,
    images: &Tensor,
    gradient: &Tensor,
    clean: &Tensor,
    length: &Tensor,
) -> Result<Tensor> {
    let moved = images.f_add(&ball.direction(gradient)?.f_mul(length)?)?;
    ball.project(&moved, clean)
}
