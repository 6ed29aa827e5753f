//! Pages about runs: what `trainer report` writes.

pub mod distances;
pub mod page;
pub mod run;
