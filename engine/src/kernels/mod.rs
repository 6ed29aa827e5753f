//! What steps consist of: loops over vectors, each written once for all processors.
//!
//! A kernel holds pointers. Who makes one says that they reach as far as its numbers say, and that nobody else writes there meanwhile; in debug builds
//! [`Floats`](crate::memory::Floats) looks after the former.

#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers are unrolled, and read as the formulas do"
)]

pub(crate) mod elements;
pub(crate) mod product;
pub(crate) mod softmax;
pub(crate) mod table;
pub(crate) mod winograd;
