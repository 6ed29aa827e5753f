//! What is said to people.

/// As the standard library's, which ends the process if nobody reads standard error any more.
macro_rules! eprintln {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
