//! What files say and cost, and whether they compute what they claim.

pub mod images;
pub mod inspect;
pub mod memory;
mod shapes;
pub mod verify;
