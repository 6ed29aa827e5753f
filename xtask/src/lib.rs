//! The tasks of this workspace: `cargo xtask setup`, `test`, `demo`, `install`, `browser`, `bench`, `lines` and `api`.
//!
//! Nothing here needs a native library, so that the tasks build in seconds on a bare machine.

#[macro_use(print, println)]
extern crate ebm_common;

pub mod api;
pub mod bench;
pub mod browser;
pub mod cache;
pub mod demo;
pub mod install;
pub mod lines;
pub mod link;
pub mod lock;
pub mod own_library;
pub mod part;
pub mod platform;
pub mod programs;
pub mod rivals;
pub mod rust_source;
pub mod setup;
pub mod step;
pub mod surroundings;
pub mod test;
pub mod tool;
pub mod wheel;
