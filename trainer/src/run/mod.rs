//! A run: its folder, its checkpoints, its record, and how it goes on.

pub mod folder;
pub mod guard;
pub mod learning;
pub mod lock;
pub mod record;
pub mod resumption;
pub mod saved;
pub mod stage;
pub mod state;
pub mod stop;
pub mod training;
