//! What the functions of the reader give.

/// The error is a sentence that says what was expected and what came. Who knows the node puts its name before it.
pub(super) type Result<T, E = String> = std::result::Result<T, E>;
