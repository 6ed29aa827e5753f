//! Files and folders that are whole or absent.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::files::{AtomicFile, FileError, folder_of};

/// Writes a file under a temporary name in the same folder, syncs it and renames it.
///
/// # Errors
/// The system refused; nothing is left behind.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut files = Staged::default();
    files.write(path, |file| file.write_all(bytes))?;
    files.publish()
}

/// Files that belong together: no name is touched before all of them are on the disk under temporary names. Those that are
/// not published are removed, with the folders that were made for them.
#[derive(Debug, Default)]
pub struct Staged {
    files: Vec<AtomicFile>,
    made: Vec<PathBuf>,
}

impl Staged {
    /// Makes a folder, and those above it, if they are not there.
    ///
    /// # Errors
    /// The system refused.
    pub fn make_folder(&mut self, folder: &Path) -> Result<(), FileError> {
        if folder.is_dir() {
            return Ok(());
        }
        self.make_folder(folder_of(folder))?;
        fs::create_dir(folder).map_err(FileError::on("make folder", folder))?;
        self.made.push(folder.to_path_buf());
        Ok(())
    }

    /// Writes one more file under a temporary name in the folder of `path`, which is made if it is not there, and syncs it.
    ///
    /// # Errors
    /// The system refused.
    pub fn write(
        &mut self,
        path: &Path,
        content: impl FnOnce(&mut AtomicFile) -> io::Result<()>,
    ) -> Result<(), FileError> {
        self.make_folder(folder_of(path))?;
        let staged = || {
            let mut file = AtomicFile::create(path)?;
            content(&mut file)?;
            file.sync()?;
            Ok(file)
        };
        self.files
            .push(staged().map_err(FileError::on("write", path))?);
        Ok(())
    }

    /// Gives the files their names, and replaces those that bear them already.
    ///
    /// # Errors
    /// The system refused.
    pub fn publish(mut self) -> Result<(), FileError> {
        for file in std::mem::take(&mut self.files) {
            let path = file.path().to_path_buf();
            let renamed = file.commit();
            renamed
                .and_then(|()| sync_folder(folder_of(&path)))
                .map_err(FileError::on("write", &path))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    /// Folders in which something was published stay: the system removes none that is not empty.
    fn drop(&mut self) {
        self.files.clear();
        for folder in self.made.iter().rev() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// A new folder under a temporary name beside its own. One that is not published is removed.
#[derive(Debug)]
pub struct NewFolder {
    folder: TempDir,
    path: PathBuf,
}

impl NewFolder {
    /// An empty one; the folder above it is made if it is not there.
    ///
    /// # Errors
    /// There is something of that name already, or the system refused.
    pub fn begin(path: &Path) -> Result<NewFolder, FileError> {
        let begun = || {
            if path.exists() {
                let problem =
                    "it exists already, expected a new folder; give another name or remove it";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
            }
            fs::create_dir_all(folder_of(path))?;
            let folder = unfinished().tempdir_in(folder_of(path));
            folder.map_err(without_name)
        };
        Ok(NewFolder {
            folder: begun().map_err(FileError::on("write", path))?,
            path: path.to_path_buf(),
        })
    }

    /// Writes one of its files and syncs it.
    ///
    /// # Errors
    /// The system refused.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let write = || {
            let mut file = File::create(self.folder.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(FileError::on("write", &self.path))
    }

    /// Takes in a file from elsewhere, as a second name of it where the file system has such, otherwise as a copy.
    ///
    /// # Errors
    /// The system refused.
    pub fn take_in(&self, file: &Path) -> Result<(), FileError> {
        let copy = self
            .folder
            .path()
            .join(file.file_name().unwrap_or_default());
        fs::hard_link(file, &copy)
            .or_else(|_| fs::copy(file, &copy).and_then(|_| File::open(&copy)?.sync_all()))
            .map_err(FileError::on("write", &self.path))
    }

    /// Gives the folder its name.
    ///
    /// # Errors
    /// The system refused.
    pub fn publish(self) -> Result<(), FileError> {
        let rename = || {
            sync_folder(self.folder.path())?;
            fs::rename(self.folder.path(), &self.path)?;
            let _ = self.folder.keep();
            sync_folder(folder_of(&self.path))
        };
        rename().map_err(FileError::on("write", &self.path))
    }
}

/// Refuses a path at which no file or folder can be made: the nearest folder above it that is there has to take one.
///
/// # Errors
/// What is there is not a folder, or the system refused.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let mut folder = folder_of(path);
    while folder.symlink_metadata().is_err() {
        folder = folder_of(folder);
    }
    let probe = match folder.is_dir() {
        true => AtomicFile::create(&folder.join("probe")).map(drop),
        false => Err(io::ErrorKind::NotADirectory.into()),
    };
    probe.map_err(FileError::on("write into", folder))
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Temporary names of folders. They have the rights that new folders usually have, which the user's mask restricts.
fn unfinished() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".unfinished-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder
}

/// The reason alone: the temporary name means nothing to the user.
fn without_name(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(_) => error,
        None => io::Error::from(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_a_file_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for content in ["one", "two"] {
            write_whole(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(entries(folder.path()), ["file"]);
    }

    #[test]
    fn a_folder_that_exists_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        let new = NewFolder::begin(&path).unwrap();
        new.write("a", b"1").unwrap();
        assert!(!path.exists(), "it is not published yet");
        new.publish().unwrap();
        let error = NewFolder::begin(&path).unwrap_err();
        assert!(
            error.source.to_string().contains("exists already"),
            "{error}"
        );
        assert_eq!(entries(&path), ["a"]);
        assert_eq!(entries(folder.path()), ["new"]);
    }

    #[test]
    fn a_file_that_is_taken_in_outlives_the_one_that_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, "content").unwrap();
        let new = NewFolder::begin(&to).unwrap();
        new.take_in(&from).unwrap();
        new.publish().unwrap();
        fs::remove_file(&from).unwrap();
        assert_eq!(fs::read_to_string(to.join("from")).unwrap(), "content");
    }

    #[test]
    fn what_cannot_be_written_is_refused_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        check_writable(&folder.path().join("new/folder/file")).unwrap();
        check_writable(&file).unwrap();
        check_writable(Path::new("file")).unwrap();
        for below in ["file/new", "file/new/folder"] {
            let error = check_writable(&folder.path().join(below)).unwrap_err();
            assert!(error.to_string().contains("cannot write into"), "{error}");
        }
        assert_eq!(entries(folder.path()), ["file"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let new = NewFolder::begin(&folder.path().join("new")).unwrap();
        new.write("a", b"1").unwrap();
        new.write("no/such/folder", b"2").unwrap_err();
        new.take_in(Path::new("/no/such/file")).unwrap_err();
        drop(new);
        assert!(entries(folder.path()).is_empty());
    }

    #[test]
    fn of_files_that_belong_together_none_is_replaced_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] =
            ["first", "new/folder/second", "first/third"].map(|name| folder.path().join(name));
        fs::write(&first, "old").unwrap();
        let mut files = Staged::default();
        files.make_folder(folder_of(&second)).unwrap();
        for path in [&first, &second] {
            files.write(path, |file| file.write_all(b"new")).unwrap();
        }
        files
            .write(&third, |file| file.write_all(b"new"))
            .unwrap_err();
        drop(files);
        assert_eq!(fs::read_to_string(&first).unwrap(), "old");
        assert_eq!(entries(folder.path()), ["first"]);
    }

    #[test]
    fn folders_are_made_for_files_that_are_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/file");
        let mut files = Staged::default();
        files.make_folder(folder_of(&path)).unwrap();
        files.write(&path, |file| file.write_all(b"new")).unwrap();
        files.publish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    }
}
