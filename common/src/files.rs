//! Files that are never seen half-written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file under a temporary name in the same folder, syncs it and renames it to `path`. An existing file is replaced.
///
/// # Errors
/// That of the file system. Nothing is left behind then, and a file that was at `path` before stays as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that is written piece by piece under a temporary name in its folder, and gets its own name when it is complete.
///
/// One that is dropped before [`AtomicFile::commit`] leaves nothing behind, and a file that was at the path before stays as it was.
#[derive(Debug)]
pub struct AtomicFile {
    file: BufWriter<File>,
    temporary: Temporary,
    path: PathBuf,
}

impl AtomicFile {
    /// Starts a file that will be at `path`.
    ///
    /// # Errors
    /// That of the file system.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary)?;
        Ok(Self {
            file: BufWriter::new(file),
            temporary: Temporary(temporary),
            path: path.to_path_buf(),
        })
    }

    /// Syncs the file and gives it its name. An existing file is replaced.
    ///
    /// # Errors
    /// That of the file system.
    pub fn commit(mut self) -> std::io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        std::fs::rename(&self.temporary.0, &self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// A file that is removed in the end, unless it has another name by then.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // There is nobody to report to, and after a rename there is nothing to remove.
        std::fs::remove_file(&self.0).ok();
    }
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

    #[test]
    fn a_dropped_file_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_atomically(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
