#![doc = include_str!("../README.md")]

/// The programs of the repository's own README, compiled with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
