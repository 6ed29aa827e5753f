//! The command `purify`, as a specification: what it does, and what it says where it cannot.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bench;
mod certify;
mod classify;
mod formats;
mod info;
#[cfg(target_os = "linux")]
mod library;
mod models;
mod options;
mod pictures;
mod resume;
mod run;
mod shell;
mod stream;
mod targets;
mod workbench;
