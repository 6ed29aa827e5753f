//! Printing that goes on if nobody reads it any more, as with `| head`: the standard library's macros end the process then.

/// As the standard library's, but never ends the process.
macro_rules! println {
    ($($argument:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}

/// As the standard library's, but never ends the process.
macro_rules! print {
    ($($argument:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!($($argument)*));
    }};
}

/// As the standard library's, but never ends the process.
#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{}\n", format_args!($($argument)*)));
    }};
}
