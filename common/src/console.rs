//! Printing that goes on if nobody reads it any more, as with `| head`: the standard library's macros end the process then.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Writes results to standard output.
///
/// # Errors
/// They cannot be written, and not because their reader has gone.
pub fn print(results: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{results}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(io::Error::new(
            error.kind(),
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}

/// As the standard library's, but never ends the process.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        drop($crate::console::print(::std::format_args!("{}\n", ::std::format_args!($($argument)*))))
    };
}

/// As the standard library's, but never ends the process.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => {
        drop($crate::console::print(::std::format_args!($($argument)*)))
    };
}

/// As the standard library's, but never ends the process.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {
        match ::std::cfg!(test) {
            // Only what the standard library's macro prints is shown with the tests that fail, and hidden with the others.
            true => ::std::eprintln!($($argument)*),
            false => drop(::std::io::Write::write_fmt(
                &mut ::std::io::stderr(),
                ::std::format_args!("{}\n", ::std::format_args!($($argument)*)),
            )),
        }
    };
}
