//! Files and folders that are whole or absent.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::Error;

/// Writes a file under a temporary name in the same folder, syncs it and renames it.
///
/// # Errors
/// The system refused; nothing is left behind.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        make_readable(file.as_file())?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// Writes the files of a new folder under a temporary name beside it, syncs them and renames the folder.
///
/// # Errors
/// The folder exists already, or the system refused; nothing is left behind.
pub fn write_whole_folder(path: &Path, files: &[(String, Vec<u8>)]) -> Result<(), Error> {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(parent)?;
        if path.exists() {
            return Err(std::io::Error::from(std::io::ErrorKind::AlreadyExists));
        }
        let unfinished = tempfile::Builder::new()
            .prefix(".unfinished-")
            .tempdir_in(parent)?;
        for (name, bytes) in files {
            let mut file = File::create(unfinished.path().join(name))?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
        let folder = File::open(unfinished.path())?;
        make_searchable(&folder)?;
        folder.sync_all()?;
        fs::rename(unfinished.path(), path)?;
        let _ = unfinished.keep();
        File::open(parent)?.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// Temporary files are private; finished ones have the rights that new files usually have.
#[cfg(unix)]
fn make_readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(unix)]
fn make_searchable(folder: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    folder.set_permissions(fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn make_readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn make_searchable(_: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let files = [("a".to_string(), b"1".to_vec())];
        write_whole_folder(&path, &files).unwrap();
        let error = write_whole_folder(&path, &[("b".to_string(), b"2".to_vec())]).unwrap_err();
        assert!(error.to_string().starts_with("cannot write "), "{error}");
        assert_eq!(entries(&path), ["a"]);
        assert_eq!(entries(folder.path()), ["new"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("a".to_string(), b"1".to_vec()),
            ("no/such/folder".to_string(), b"2".to_vec()),
        ];
        write_whole_folder(&folder.path().join("new"), &files).unwrap_err();
        assert!(entries(folder.path()).is_empty());
    }
}
