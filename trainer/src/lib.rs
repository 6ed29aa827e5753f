#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

#[macro_use]
pub mod console;

pub mod randomness;

pub mod config;
pub mod data;

pub mod adam;
pub mod ema;
pub mod gradients;
pub mod learned;
pub mod network;
pub mod optimizer;
pub mod parallel;
pub mod ranks;
pub mod schedule;
pub mod sgd;

pub mod bank;
pub mod burn_in;
pub mod chains;
pub mod descent;
pub mod examples;
pub mod generator;
pub mod langevin;
pub mod pool;
pub mod start;

pub mod borrowed;
pub mod classifier;
pub mod guard;
pub mod interval;
pub mod learner;
pub mod lock;
pub mod memory;
pub mod record;
pub mod report;
pub mod resumption;
pub mod run_folder;
pub mod saved;
pub mod session;
pub mod stage;

pub mod attack;
pub mod frechet;
pub mod mixing;
pub mod npz;
pub mod sampling;

pub mod cli;
pub mod command;
pub mod cuda;
