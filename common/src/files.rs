//! Files that are never seen half-written.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What the system refused, and on which file or folder.
#[derive(Debug)]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// The error of an action, of what the system says of it.
    pub fn on<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> FileError + use<'a> {
        move |source| FileError {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.action, self.path.display())
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// Endings of names that every command takes for files.
const OF_FILES: [&str; 15] = [
    "bin",
    "csv",
    "gz",
    "html",
    "idx",
    "jpeg",
    "jpg",
    "json",
    "npy",
    "npz",
    "onnx",
    "png",
    "safetensors",
    "toml",
    "webp",
];

/// The name of a folder to write into, unless it is that of a file: `-o model.onnx` would become a folder of that name.
///
/// # Errors
/// The name ends as those of files do, and there is no such folder.
pub fn folder_name(path: PathBuf) -> Result<PathBuf, String> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    let is_of_file = ending.is_some_and(|ending| OF_FILES.contains(&ending.as_str()));
    match is_of_file && !path.is_dir() {
        true => Err(format!(
            "expected a folder, got the name of a file: give `{}`, or a folder of that name that you made",
            path.with_extension("").display()
        )),
        false => Ok(path),
    }
}

/// Writes a file under a temporary name in the same folder, syncs it and renames it to `path`. An existing file is replaced.
///
/// # Errors
/// That of the file system. Nothing is left behind then, and a file that was at `path` before stays as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file that is written piece by piece under a temporary name in its folder, and gets its own name when it is complete.
///
/// If it is dropped before [`AtomicFile::commit`], it leaves nothing behind, and a file that was at the path before stays as it was.
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
    pub fn create(path: &Path) -> io::Result<Self> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary)?;
        Ok(Self {
            file: BufWriter::new(file),
            temporary: Temporary(temporary),
            path: path.to_path_buf(),
        })
    }

    /// Has all that was written so far on the disk, still under the temporary name.
    ///
    /// # Errors
    /// That of the file system.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }

    /// Syncs the file and gives it its name. An existing file is replaced.
    ///
    /// # Errors
    /// That of the file system.
    pub fn commit(mut self) -> io::Result<()> {
        self.sync()?;
        std::fs::rename(&self.temporary.0, &self.path)
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
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

/// The file that a temporary one was to become, if a path is that of a temporary one: a process that is killed leaves it behind.
pub fn final_path(temporary: &Path) -> Option<PathBuf> {
    let name = temporary.file_name()?.to_str()?;
    let (name, process) = name
        .strip_prefix('.')?
        .strip_suffix(".part")?
        .rsplit_once('.')?;
    process.parse::<u32>().ok()?;
    Some(temporary.with_file_name(name))
}

/// The folder that holds a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
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

    #[test]
    fn temporary_files_are_told_by_their_names() {
        for (name, target) in [
            ("out/.a.png.123.part", Some("out/a.png")),
            (".x.npy.7.part", Some("x.npy")),
            ("a.png.123.part", None),
            (".a.png.part", None),
            (".a.png.12x.part", None),
            (".a.png.123", None),
        ] {
            assert_eq!(
                final_path(Path::new(name)),
                target.map(PathBuf::from),
                "{name}"
            );
        }
    }

    #[test]
    fn names_of_files_are_no_folders() {
        let made = tempfile::tempdir().unwrap();
        let folder = made.path().join("made.onnx");
        std::fs::create_dir(&folder).unwrap();
        for name in ["model", "runs/mine", "v1.2", "-", "a.b/c"].map(PathBuf::from) {
            assert_eq!(folder_name(name.clone()), Ok(name));
        }
        assert_eq!(folder_name(folder.clone()), Ok(folder));
        for name in ["model.onnx", "out/x.NPY", "a.png"] {
            let error = folder_name(PathBuf::from(name)).unwrap_err();
            assert!(error.contains("the name of a file: give `"), "{error}");
        }
    }
}
