//! A run: its folder, its checkpoints, its record, and how it goes on.

pub mod folder;
pub mod guard;
pub mod lock;
pub mod record;
pub mod resumption;
pub mod saved;
pub mod session;
pub mod stage;
