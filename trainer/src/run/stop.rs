//! How a run ends: by itself, or because the user wants it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All updates are done.
    Complete,
    /// Ctrl-C: the checkpoint holds all updates done.
    Interrupted,
}

/// Set when the user wants to stop.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Listens for Ctrl-C and a request to terminate; a second one ends the process at once.
    pub fn listen() -> Result<StopSignal> {
        let signal = StopSignal::default();
        let flag = signal.0.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED);
            }
            eprintln!("");
            note!("stopping as soon as what is done is kept; a second Ctrl-C stops at once");
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(signal)
    }

    /// Whether the user wants to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Exit code of a process that Ctrl-C ended.
pub const INTERRUPTED: i32 = 130;
