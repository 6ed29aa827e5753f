//! What lies below a folder: links are followed, hidden files and what systems put beside data are passed over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, FileType};
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::name::{is_hidden, other_format};

/// The files that were looked for below a folder, and what else was met there.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files, in the order of their paths.
    pub files: Vec<PathBuf>,
    /// Why something was left out, each in a sentence for people.
    pub left_out: Vec<String>,
}

/// A folder that cannot be listed.
#[derive(Debug)]
pub struct Unlisted {
    /// The folder.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// The files below a folder that are `wanted`, in the order of their paths. Folders that are not to be `entered` are passed over.
///
/// A link that leads to nothing is listed if its name is wanted, so that it counts as a damaged file. A link to a folder that it lies in is
/// not followed.
///
/// # Errors
/// A folder cannot be read.
pub fn files_below(
    root: &Path,
    entered: impl Fn(&Path) -> bool,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Listing, Unlisted> {
    let mut listing = Listing::default();
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    let entries = WalkDir::new(root)
        .follow_links(true)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            let is_folder = entry.file_type().is_dir();
            let is_passed = is_hidden(entry.file_name()) || is_folder && !entered(entry.path());
            entry.depth() == 0 || !is_passed
        });
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                listing.note_failed(root, error, &wanted)?;
                continue;
            }
        };
        let file_type = entry.file_type();
        if file_type.is_dir() {
            continue;
        }
        let path = entry.into_path();
        if !wanted(&path) {
            *others
                .entry(other_format(&path).unwrap_or_default())
                .or_default() += 1;
        } else if is_stream(file_type) {
            listing.leave_out(&path, "it is a pipe or a socket");
        } else {
            listing.files.push(path);
        }
    }
    // Nothing is said about files that are not pictures.
    others.remove("");
    if !others.is_empty() {
        let counts = others.iter().map(|(format, n)| format!("{n} *.{format}"));
        let counts = counts.collect::<Vec<String>>().join(", ");
        let why = format!("pictures in formats that are not read ({counts}); convert them to PNG");
        listing.leave_out(root, &why);
    }
    Ok(listing)
}

/// The names of the folders in a folder, sorted; hidden ones, and links to a folder that they lie in, are passed over.
///
/// # Errors
/// The folder cannot be read.
pub fn folders_in(folder: &Path) -> io::Result<Vec<OsString>> {
    let itself = folder.canonicalize()?;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let holds_itself = || {
            path.canonicalize()
                .is_ok_and(|path| itself.starts_with(path))
        };
        if path.is_dir() && !is_hidden(&entry.file_name()) && !holds_itself() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    Ok(names)
}

impl Listing {
    fn leave_out(&mut self, path: &Path, why: &str) {
        self.left_out
            .push(format!("left out: `{}`: {why}", path.display()));
    }

    /// Notes an entry that cannot be read if it is a link. Any other stops the listing.
    fn note_failed(
        &mut self,
        root: &Path,
        error: walkdir::Error,
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<(), Unlisted> {
        let path = error.path().unwrap_or(root).to_path_buf();
        let is_link = error.depth() > 0 && path.is_symlink();
        if !is_link {
            let source = error.into_io_error();
            let source = source.unwrap_or_else(|| io::Error::other("it cannot be listed"));
            return Err(Unlisted { path, source });
        }
        if is_hidden(path.file_name().unwrap_or_default()) {
            return Ok(());
        }
        if error.loop_ancestor().is_some() {
            self.leave_out(&path, "it is a link to a folder that it lies in");
        } else if wanted(&path) {
            self.files.push(path);
        } else {
            self.leave_out(&path, "it is a link to something that is not there");
        }
        Ok(())
    }
}

/// Whether reading would wait for somebody to write.
#[cfg(unix)]
fn is_stream(file_type: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    file_type.is_fifo() || file_type.is_socket()
}

#[cfg(not(unix))]
fn is_stream(_: FileType) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::name::has_extension;

    fn fill(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
    }

    fn pictures(root: &Path) -> Listing {
        let listing = files_below(
            root,
            |_| true,
            |path| has_extension(path, &["png", "jpg", "webp"]),
        );
        let mut listing = listing.unwrap();
        let prefix = format!("{}/", root.display());
        for path in &mut listing.files {
            *path = path.strip_prefix(root).unwrap().to_path_buf();
        }
        for line in &mut listing.left_out {
            *line = line.replace(&prefix, "");
        }
        listing
    }

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn files_are_in_the_order_of_their_paths_and_none_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        fill(
            folder.path(),
            &[
                "b/2.PNG",
                "b/1.png",
                "a.jpg",
                "c.txt",
                ".hidden/3.png",
                ".4.png",
                "__MACOSX/5.png",
                "b/@eaDir/6.png",
                "b/7.gif",
                "b/8.GIF",
                "9.bmp",
            ],
        );
        let found = pictures(folder.path());
        assert_eq!(found.files, paths(&["a.jpg", "b/1.png", "b/2.PNG"]));
        let [others] = &found.left_out[..] else {
            panic!("{found:?}");
        };
        assert!(others.contains("not read (1 *.bmp, 2 *.gif)"), "{others}");
    }

    #[test]
    fn a_hidden_folder_that_is_named_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path(), &[".data/a.png"]);
        let found = pictures(&folder.path().join(".data"));
        assert_eq!(found.files, paths(&["a.png"]));
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let wanted = |_: &Path| true;
        let error = files_below(Path::new("/nowhere"), wanted, wanted).unwrap_err();
        assert_eq!(error.path, Path::new("/nowhere"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_those_to_nothing_or_back_are_noticed() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let store = tempfile::tempdir().unwrap();
        fill(store.path(), &["1.png", "blob"]);
        fill(folder.path(), &["dog/0.png"]);
        let at = |name: &str| folder.path().join(name);
        symlink(store.path(), at("cat")).unwrap();
        symlink(store.path().join("blob"), at("dog/1.png")).unwrap();
        symlink("nowhere", at("dog/2.png")).unwrap();
        symlink("nowhere", at("newt")).unwrap();
        symlink("nowhere", at("dog/._3.png")).unwrap();
        symlink("4.png", at("dog/4.png")).unwrap();
        symlink(folder.path(), at("dog/again")).unwrap();
        symlink("..", at("dog/.again")).unwrap();
        symlink(".", at("itself")).unwrap();
        let found = pictures(folder.path());
        let wanted = [
            "cat/1.png",
            "dog/0.png",
            "dog/1.png",
            "dog/2.png",
            "dog/4.png",
        ];
        assert_eq!(found.files, paths(&wanted));
        let mut left_out = found.left_out;
        left_out.sort();
        assert_eq!(
            left_out,
            [
                "left out: `dog/again`: it is a link to a folder that it lies in",
                "left out: `itself`: it is a link to a folder that it lies in",
                "left out: `newt`: it is a link to something that is not there",
            ]
        );
        assert_eq!(folders_in(folder.path()).unwrap(), ["cat", "dog"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_are_left_out_and_names_need_not_be_text() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.png");
        fs::write(folder.path().join(name), b"").unwrap();
        let pipe = folder.path().join("pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let found = pictures(folder.path());
        assert_eq!(found.files, [PathBuf::from(name)]);
        assert_eq!(
            found.left_out,
            ["left out: `pipe.png`: it is a pipe or a socket"]
        );
    }
}
