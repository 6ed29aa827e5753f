//! Where a command puts its results.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ebm_common::target::{Existing, Target};

#[derive(Args)]
pub struct ResultArguments {
    /// Print the results as JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// Write the results as JSON to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Replace the file of -o if it exists
    #[arg(long, requires = "output")]
    pub force: bool,
}

impl ResultArguments {
    /// Returns Ok if the file can be written, and is none of those that the command reads.
    pub fn check(&self, read: impl IntoIterator<Item = PathBuf>) -> Result<()> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        let target = Target {
            option: "-o",
            path,
            existing: Existing::of(self.force),
        };
        Ok(target.check(read, None)?)
    }
}
