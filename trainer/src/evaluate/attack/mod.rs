//! Attacks on a classifier behind purification, and an audit of all of them.
//!
//! A [`Defence`] is what is attacked. An [`Oracle`] answers questions about images: the loss, and its gradient through the purification, exact or
//! not. A climber (see [`climb`]) decides what to ask next. [`pursue`] lets it climb until a [`Judge`], with noise of its own, confirms that an
//! image is broken. An [`Audit`] makes one attack after the other, and what survives all of them is its result.
//!
//! Images are in `[-1, 1]` here; what a user types or reads of distances is of `[0, 1]` (see [`PixelDistance`]).

mod audit;
mod ball;
mod baseline;
mod campaign;
pub mod climb;
mod curve;
mod defence;
mod distance;
mod front;
mod health;
mod images;
mod judge;
mod kind;
mod loss;
mod model;
mod oracle;
mod outcome;
mod protocol;
mod purification;
mod pursuit;
mod sweep;
#[cfg(test)]
mod tests;

pub use audit::{Attempt, Audit, Bare, Facing};
pub use ball::Ball;
pub use baseline::Baseline;
pub use campaign::Campaign;
pub use curve::{Axis, Curve, Point};
pub use defence::Defence;
pub use ebm_common::PixelDistance;
pub use front::{Cleaner, Front};
pub use health::{Health, slope_by_differences};
pub use images::{Broken, IMAGES, worst_broken};
pub use judge::{Judge, Verdict, WORST_OF};
pub use kind::{Attack, Circumstances};
pub use loss::Loss;
pub use model::AttackedModel;
pub use oracle::{Backward, Metric, Oracle, Question, Replay};
pub use outcome::{
    Accuracies, BaselineResult, Made, Outcome, Parameters, Results, TableLine, union,
};
pub use protocol::Protocol;
pub use purification::{Noise, Purification, Stride};
pub use pursuit::{Course, Found, Plan, Suspicion, pursue};
pub use sweep::suits;
