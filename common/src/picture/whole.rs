//! Whether a file is there to its end.
//!
//! Decoders fill up what is missing of a JPEG with grey, and stop reading a PNG or WebP behind its last pixel. So the structure of a file is
//! followed to its end before it is decoded.

use crate::name::PictureFormat;

/// What the structure of a whole file tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Structure<'a> {
    /// Pictures of an animation, or 1.
    pub(super) n_frames: u32,
    /// The notes of the camera in a PNG file, where decoders overlook them if they stand behind the pixels.
    pub(super) exif: Option<&'a [u8]>,
}

/// The structure of a file, or nothing if its end is missing.
pub(super) fn structure(bytes: &[u8], format: PictureFormat) -> Option<Structure<'_>> {
    match format {
        PictureFormat::Png => of_png(bytes),
        PictureFormat::Jpeg => of_jpeg(bytes),
        PictureFormat::WebP => of_webp(bytes),
    }
}

/// Chunks up to `IEND`: length, type, data, checksum.
fn of_png(bytes: &[u8]) -> Option<Structure<'_>> {
    let mut structure = Structure {
        n_frames: 1,
        exif: None,
    };
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        let data = rest.get(8..)?.get(..length)?;
        rest = rest.get(8 + length + 4..)?;
        match kind {
            b"IEND" => return Some(structure),
            b"eXIf" => structure.exif = Some(data),
            b"acTL" => structure.n_frames = u32::from_be_bytes(*data.first_chunk()?),
            _ => {}
        }
    }
}

/// Segments and the data of scans up to the marker of the end. What stands behind it, such as the film of a moving photo, does not count.
fn of_jpeg(bytes: &[u8]) -> Option<Structure<'_>> {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let (mut rest, mut has_scan) = (bytes.get(2..)?, false);
    loop {
        // In the data of a scan 0xff is followed by 0, by a restart marker, or by the next segment.
        let is_marker =
            |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0x01 | 0xff | 0xd0..=0xd8);
        let at = rest.windows(2).position(is_marker)?;
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        if marker == END {
            return has_scan.then_some(Structure {
                n_frames: 1,
                exif: None,
            });
        }
        has_scan |= marker == SCAN;
        let length = u16::from_be_bytes(*rest.first_chunk()?);
        rest = rest.get(usize::from(length)..)?;
    }
}

/// One chunk that holds the others: type, length, data, and a byte more if the length is odd.
fn of_webp(bytes: &[u8]) -> Option<Structure<'_>> {
    let length = u32::from_le_bytes(*bytes.get(4..)?.first_chunk()?) as usize;
    let mut rest = bytes.get(8..)?.get(..length)?.get(4..)?;
    let mut n_frames = 0;
    while let Some(kind) = rest.get(..4) {
        n_frames += u32::from(kind == b"ANMF");
        let length = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?) as usize;
        let data = rest.get(8..)?;
        data.get(..length)?;
        rest = data.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    Some(Structure {
        n_frames: n_frames.max(1),
        exif: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            for length in 0..bytes.len() {
                let cut = structure(&bytes[..length], format);
                assert_eq!(cut, None, "{format:?} of {length} bytes");
            }
            let whole = structure(bytes, format).map(|structure| structure.n_frames);
            assert_eq!(whole, Some(1), "{format:?}");
            // The film behind a photo is not looked at, whatever it looks like.
            let longer = [bytes, b"\xff\xda\0\x09more"].concat();
            assert!(structure(&longer, format).is_some(), "{format:?} and more");
        }
    }
}
