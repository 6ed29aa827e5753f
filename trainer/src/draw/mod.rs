//! Pictures: sheets of images, and plots.

pub mod plot;
pub mod sheet;

mod canvas;
mod lettering;
