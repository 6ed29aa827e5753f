//! What the names of files say.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// Endings of the files that are pictures, in letters of any case.
pub const EXTENSIONS: &[&str] = &["png", "jpg", "jpeg", "webp"];

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

/// A format of picture files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PictureFormat {
    /// PNG: without loss.
    Png,
    /// JPEG: with loss.
    Jpeg,
    /// WebP: read with and without loss, written without.
    WebP,
}

impl PictureFormat {
    /// The format that a file's first bytes tell.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG") {
            Some(Self::Png)
        } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else {
            None
        }
    }

    /// The format that a file's name tells: `.png`, `.jpg`, `.jpeg`, `.webp`, in letters of any case.
    pub fn of_name(path: &Path) -> Option<Self> {
        match extension(path)?.as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

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

/// In small letters.
fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats_in_letters_of_any_case() {
        for extension in EXTENSIONS {
            let name = format!("a/b.{}", extension.to_uppercase());
            assert!(PictureFormat::of_name(Path::new(&name)).is_some(), "{name}");
        }
        for name in ["png", ".png", "a.gif", "a.png.txt", "a", ""] {
            assert_eq!(PictureFormat::of_name(Path::new(name)), None, "{name}");
        }
    }

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
