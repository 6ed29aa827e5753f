//! Pictures of runs and pages about them: sample sheets, plots, the diagnostics, and the page of `trainer report`.

pub mod correlation;
pub mod diagnostics;
pub mod distances;
pub mod page;
pub mod plot;
pub mod quantity;
pub mod run;

mod canvas;
mod lettering;
mod sheet;

pub use sheet::{Block, sheet};
