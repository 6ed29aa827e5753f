//! The tasks as a user meets them, on a clone, a cache and programs of their own.

#![allow(clippy::unwrap_used)]

mod fixture;
mod setup;
mod tasks;
