//! The formats of pictures. A new one is a variant, a line of [`FORMATS`] and a feature of this crate.

use std::fmt;
use std::path::Path;

use crate::name::extension;
use crate::whole::{Structure, of_jpeg, of_png, of_webp};

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

/// What is known of a format.
struct Known {
    format: PictureFormat,
    name: &'static str,
    /// Endings of names, in small letters.
    extensions: &'static [&'static str],
    /// What stands at which place of every file.
    magic: &'static [(usize, &'static [u8])],
    /// The structure of a whole file.
    structure: fn(&[u8]) -> Option<Structure<'_>>,
}

#[rustfmt::skip]
const FORMATS: [Known; 3] = [
    Known { format: PictureFormat::Png, name: "PNG", extensions: &["png"], magic: &[(0, b"\x89PNG")], structure: of_png },
    Known { format: PictureFormat::Jpeg, name: "JPEG", extensions: &["jpg", "jpeg"], magic: &[(0, b"\xff\xd8\xff")], structure: of_jpeg },
    Known { format: PictureFormat::WebP, name: "WebP", extensions: &["webp"], magic: &[(0, b"RIFF"), (8, b"WEBP")], structure: of_webp },
];

impl PictureFormat {
    /// The format that a file's first bytes tell.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let is_there = |(place, piece): &(usize, &[u8])| {
            bytes
                .get(*place..)
                .is_some_and(|rest| rest.starts_with(piece))
        };
        let known = FORMATS
            .iter()
            .find(|known| known.magic.iter().all(is_there));
        known.map(|known| known.format)
    }

    /// The format that a file's name tells by its ending, in letters of any case.
    pub fn of_name(path: &Path) -> Option<Self> {
        Self::of_extension(&extension(path)?)
    }

    /// The format that an ending in small letters stands for, as in `png`.
    pub fn of_extension(extension: &str) -> Option<Self> {
        let known = FORMATS
            .iter()
            .find(|known| known.extensions.contains(&extension));
        known.map(|known| known.format)
    }

    /// The endings of all formats as patterns of names: `*.png, *.jpg, …`.
    pub fn patterns() -> String {
        let extensions = FORMATS.iter().flat_map(|known| known.extensions);
        let patterns: Vec<String> = extensions
            .map(|extension| format!("*.{extension}"))
            .collect();
        patterns.join(", ")
    }

    /// The names of all formats: `PNG, JPEG or WebP`.
    pub fn names() -> String {
        let [others @ .., last] = FORMATS.map(|known| known.name);
        format!("{} or {last}", others.join(", "))
    }

    /// What the structure of a file of this format says; `None` if its end is missing.
    pub(crate) fn structure(self, bytes: &[u8]) -> Option<Structure<'_>> {
        (self.known().structure)(bytes)
    }

    fn known(self) -> &'static Known {
        let known = FORMATS.iter().find(|known| known.format == self);
        known.expect("each format has a line, as a test makes sure")
    }
}

impl fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.known().name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_formats_in_letters_of_any_case() {
        for known in &FORMATS {
            assert_eq!(known.format.to_string(), known.name);
            for extension in known.extensions {
                let name = format!("a/b.{}", extension.to_uppercase());
                let format = PictureFormat::of_name(Path::new(&name));
                assert_eq!(format, Some(known.format), "{name}");
            }
        }
        for name in ["png", ".png", "a.gif", "a.png.txt", "a", ""] {
            assert_eq!(PictureFormat::of_name(Path::new(name)), None, "{name}");
        }
    }

    #[test]
    fn formats_are_listed_for_people() {
        assert_eq!(PictureFormat::names(), "PNG, JPEG or WebP");
        assert_eq!(PictureFormat::patterns(), "*.png, *.jpg, *.jpeg, *.webp");
    }

    /// The smallest structure of each format; none of them decodes.
    #[test]
    fn only_what_reaches_the_end_is_whole() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\x02IDATxxcccc\0\0\0\0IENDcccc".as_slice();
        let jpeg =
            b"\xff\xd8\xff\xe1\0\x08\xff\xda\xff\xd9ab\xff\xda\0\x02a\xff\0\xff\xd0b\xff\xd9";
        let webp = b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0abcd";
        for (format, bytes) in [
            (PictureFormat::Png, png),
            (PictureFormat::Jpeg, jpeg),
            (PictureFormat::WebP, webp),
        ] {
            assert_eq!(PictureFormat::of_bytes(bytes), Some(format));
            for length in 0..bytes.len() {
                let cut = format.structure(&bytes[..length]);
                assert_eq!(cut, None, "{format:?} of {length} bytes");
            }
            let whole = format.structure(bytes).map(|structure| structure.n_frames);
            assert_eq!(whole, Some(1), "{format:?}");
            // The film behind a photo is not looked at, whatever it looks like.
            let longer = [bytes, b"\xff\xda\0\x09more"].concat();
            assert!(format.structure(&longer).is_some(), "{format:?} and more");
        }
    }
}
