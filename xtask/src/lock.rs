//! The right to write into a cache, which one process has at a time and the system takes back when it dies.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::{Context, Result};

/// Held while it lives.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// The lock of `folder` if nobody holds it.
    pub fn attempt(folder: &Path) -> Result<Option<Self>> {
        let file = open(folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| could_not(folder)),
        }
    }

    /// The lock of `folder`, as soon as whoever holds it is done.
    pub fn wait(folder: &Path) -> Result<Self> {
        if let Some(lock) = Self::attempt(folder)? {
            return Ok(lock);
        }
        println!(
            "Another set-up is filling {}: waiting for it.",
            folder.display()
        );
        let file = open(folder)?;
        file.lock().with_context(|| could_not(folder))?;
        Ok(Self(file))
    }
}

impl Drop for Lock {
    /// Said aloud, because closing the file is not enough while a program that is just being started still shares it.
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}

fn open(folder: &Path) -> Result<File> {
    File::create(folder.join("lock")).with_context(|| could_not(folder))
}

fn could_not(folder: &Path) -> String {
    format!("could not lock {}", folder.display())
}
