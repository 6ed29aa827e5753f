//! What the names of files say.

use std::ffi::OsStr;
use std::path::Path;

/// Endings of pictures in formats that are not read.
#[cfg(feature = "folders")]
const OTHER_EXTENSIONS: &[&str] = &[
    "gif", "bmp", "tif", "tiff", "ppm", "pgm", "jfif", "jp2", "jxl", "heic", "heif", "avif",
];

/// Names that systems and servers put beside data. Names that begin with a dot are hidden too.
const OF_SYSTEMS: &[&str] = &[
    "__MACOSX",
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
];

/// Whether a name ends in one of those ways, in letters of any case.
pub fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    extension(path).is_some_and(|extension| extensions.contains(&extension.as_str()))
}

/// Whether a file or folder of this name is passed over in a folder: hidden ones, and what systems put beside data.
pub fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    // `.` and `..` are ways to other folders.
    let has_dot = name.starts_with('.') && name != "." && name != "..";
    has_dot || OF_SYSTEMS.iter().any(|of| of.eq_ignore_ascii_case(&name))
}

/// The ending of a picture in a format that is not read, in small letters.
#[cfg(feature = "folders")]
pub(crate) fn other_format(path: &Path) -> Option<String> {
    extension(path).filter(|extension| OTHER_EXTENSIONS.contains(&extension.as_str()))
}

/// The ending of a name, in small letters.
pub(crate) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systems_leave_is_hidden() {
        for (name, hidden) in [
            (".DS_Store", true),
            ("._a.png", true),
            (".ipynb_checkpoints", true),
            ("__MACOSX", true),
            ("@eaDir", true),
            ("Thumbs.db", true),
            ("thumbs.db", true),
            ("$RECYCLE.BIN", true),
            (".", false),
            ("..", false),
            ("a.png", false),
            ("_a.png", false),
            ("@cat", false),
        ] {
            assert_eq!(is_hidden(OsStr::new(name)), hidden, "{name}");
        }
    }
}
