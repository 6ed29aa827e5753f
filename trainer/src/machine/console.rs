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
pub fn tell(line: fmt::Arguments<'_>) {
    // Tests show only what the standard library's macro prints of those that fail.
    match cfg!(test) {
        true => std::eprintln!("{line}"),
        false => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// As the standard library's, which ends the process if nobody reads standard error any more.
macro_rules! eprintln {
    ($($argument:tt)*) => {
        $crate::machine::console::tell(format_args!($($argument)*))
    };
}

/// Says on standard error what people may want to know.
macro_rules! note {
    ($($argument:tt)*) => {
        $crate::machine::console::tell(format_args!("note: {}", format_args!($($argument)*)))
    };
}

/// Says on standard error what may not be as people mean it.
macro_rules! warning {
    ($($argument:tt)*) => {
        $crate::machine::console::tell(format_args!("warning: {}", format_args!($($argument)*)))
    };
}
