//! What is printed.

use anyhow::Result;

/// Prints results, and a line break behind them, on standard output.
///
/// # Errors
/// They cannot be written, and not because the reader has gone away.
pub fn print(results: &str) -> Result<()> {
    Ok(ebm_common::console::print(format_args!("{results}\n"))?)
}

/// Says on standard error what people may want to know.
macro_rules! note {
    ($($argument:tt)*) => {
        eprintln!("note: {}", format_args!($($argument)*))
    };
}

/// Says on standard error what may not be as people mean it.
macro_rules! warning {
    ($($argument:tt)*) => {
        eprintln!("warning: {}", format_args!($($argument)*))
    };
}
