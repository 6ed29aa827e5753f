//! What a run computes on, and what it says meanwhile.

#[macro_use]
pub mod console;

pub mod device;
pub mod memory;
pub mod parallel;
pub mod randomness;
pub mod ranks;
