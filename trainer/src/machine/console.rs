//! What is printed. That nobody reads it any more, as with `| head`, neither stops work nor is an error.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints results, and a line break behind them, on standard output.
///
/// # Errors
/// They cannot be written, and not because the reader has gone away.
pub fn print(results: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{results}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Writes a line for people to standard error, whether somebody reads it or not.
pub fn note(line: fmt::Arguments<'_>) {
    // Tests show only what the standard library's macro prints of those that fail.
    match cfg!(test) {
        true => std::eprintln!("{line}"),
        false => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// As the standard library's, which ends the process if nobody reads standard error any more.
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::machine::console::note(format_args!($($argument)*))
    };
}
