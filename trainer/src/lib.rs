#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

#[macro_use(eprintln)]
extern crate ebm_common;

#[macro_use]
pub mod machine;

pub mod config;
pub mod data;
pub mod draw;
pub mod network;
pub mod weights;

pub mod chains;
pub mod learn;
pub mod run;

pub mod evaluate;
pub mod report;

pub mod cli;
pub mod command;
