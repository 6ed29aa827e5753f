//! Files that are never seen half-written.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a file under a temporary name in the same folder, syncs it and renames it to `path`. An existing file is replaced.
///
/// # Errors
/// That of the file system. Nothing is left behind then, and a file that was at `path` before stays as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = temporary_name(path);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let result = written.and_then(|()| std::fs::rename(&temporary, path));
    if result.is_err() {
        // The first error is the one to report; the file may not even exist.
        std::fs::remove_file(&temporary).ok();
    }
    result
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let occupied = folder.path().join("occupied");
        std::fs::create_dir(&occupied).unwrap();
        assert!(write_atomically(&occupied, b"abc").is_err());
        assert!(write_atomically(&folder.path().join("no/folder"), b"abc").is_err());
        write_atomically(&folder.path().join("a"), b"abc").unwrap();
        write_atomically(&folder.path().join("a"), b"xyz").unwrap();
        assert_eq!(std::fs::read(folder.path().join("a")).unwrap(), b"xyz");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
