//! What is said to people.

use std::io::Write;

/// Writes a line to standard error. That nobody reads it any more is no reason to stop.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
