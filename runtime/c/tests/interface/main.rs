//! The library as C sees it: its header, programs in C that are compiled, linked and run, and cases that run through Rust and through C.
#![allow(clippy::unwrap_used)]

mod cases;
mod header;
mod programs;
mod workshop;
