//! Pictures: sheets of images, and plots.

pub mod panel;
pub mod plot;
pub mod sheet;

mod font;
mod ticks;
mod view;
