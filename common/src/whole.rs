//! Whether a picture's file is complete.
//!
//! Decoders fill up what is missing of a JPEG with grey, and stop reading a PNG or WebP behind its last pixel. So the structure of a file is
//! followed to its end before it is decoded.

/// What the structure of a complete file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Structure<'a> {
    /// The number of pictures: more than 1 for an animation.
    pub(crate) n_frames: u32,
    /// The camera's notes in a PNG file. Decoders overlook them if they come after the pixels.
    pub(crate) exif: Option<&'a [u8]>,
}

/// Chunks up to `IEND`: length, type, data, checksum.
pub(crate) fn of_png(bytes: &[u8]) -> Option<Structure<'_>> {
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
pub(crate) fn of_jpeg(bytes: &[u8]) -> Option<Structure<'_>> {
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
pub(crate) fn of_webp(bytes: &[u8]) -> Option<Structure<'_>> {
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
