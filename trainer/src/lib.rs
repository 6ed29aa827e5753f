#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod randomness;

pub mod config;
pub mod data;

pub mod adam;
pub mod bank;
pub mod ema;
pub mod gradients;
pub mod langevin;
pub mod network;
pub mod parallel;
pub mod schedule;

pub mod classifier;
pub mod interval;
pub mod learner;
pub mod record;
pub mod report;
pub mod run_folder;
pub mod saved;
pub mod session;

pub mod attack;

pub mod cli;
pub mod command;
pub mod cuda;
