//! Lines on standard output.

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};

/// Standard output, until its reader has gone. The work goes on then.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lines {
    Printed,
    Silent,
}

impl Lines {
    /// As a switch says.
    pub fn of(printed: bool) -> Self {
        match printed {
            true => Self::Printed,
            false => Self::Silent,
        }
    }

    pub fn print(&mut self, lines: &str) -> Result<()> {
        if *self == Self::Silent {
            return Ok(());
        }
        match std::io::stdout().lock().write_all(lines.as_bytes()) {
            // As with `| head`.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => *self = Self::Silent,
            result => result.context("standard output cannot be written")?,
        }
        Ok(())
    }
}
