//! One process at a time writes into a folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The file that is locked.
pub const NAME: &str = "trainer.lock";

/// The right to write into a folder. It ends with the process, however that ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes it; the folder is made if it is not there.
    pub fn take(folder: &Path) -> Result<FolderLock> {
        let path = folder.join(NAME);
        let cannot_write = || format!("cannot write {}", path.display());
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(cannot_write)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another process{} writes into this folder: wait for it or stop it, or choose another folder",
                folder.display(),
                holder(&mut file)
            ),
            Err(TryLockError::Error(why)) => warning!(
                "{}: this file system has no locks ({why}): take care that no other process writes into this folder",
                folder.display()
            ),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .with_context(cannot_write)?;
        Ok(FolderLock { _file: file })
    }

    /// Checks that no other process has it; nothing is written.
    pub fn expect_free(folder: &Path) -> Result<()> {
        match folder.join(NAME).exists() {
            true => FolderLock::take(folder).map(drop),
            false => Ok(()),
        }
    }
}

/// Which process it is, if it has said so already.
fn holder(file: &mut File) -> String {
    let mut id = String::new();
    match file.read_to_string(&mut id) {
        Ok(_) if !id.is_empty() => format!(" ({id})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_as_long_as_the_lock_lives() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("new");
        FolderLock::expect_free(&folder).unwrap();
        assert!(!folder.exists());
        let lock = FolderLock::take(&folder).unwrap();
        for refused in [
            FolderLock::take(&folder).map(drop),
            FolderLock::expect_free(&folder),
        ] {
            let error = refused.unwrap_err().to_string();
            let wanted = format!("another process ({}) writes", std::process::id());
            assert!(error.contains(&wanted), "{error}");
        }
        drop(lock);
        FolderLock::expect_free(&folder).unwrap();
        FolderLock::take(&folder).unwrap();
    }
}
