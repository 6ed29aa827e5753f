//! IDX, the format of MNIST: a magic number, the sizes of the axes, then bytes.
//!
//! Source: LeCun, Cortes, Burges, *The MNIST database of handwritten digits*.

use std::io::{self, Read};

use crate::hex;

/// The code of unsigned bytes, the only type that is read.
const UNSIGNED_BYTE: u8 = 8;

/// What stands before the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The sizes of the axes. The first counts the images or labels.
    pub sizes: Vec<usize>,
    /// The bytes of the header itself.
    pub bytes: Vec<u8>,
}

impl Header {
    /// Reads up to the first value. The inner result is what the file is instead, to be put behind "got".
    ///
    /// # Errors
    /// The file ends within its header, or cannot be read.
    pub fn read(file: &mut dyn Read) -> io::Result<Result<Header, String>> {
        let mut bytes = Vec::new();
        file.take(4).read_to_end(&mut bytes)?;
        let n_axes = match bytes[..] {
            [0, 0, UNSIGNED_BYTE, n_axes @ 1..=u8::MAX] => n_axes,
            [_, _, _, _] => return Ok(Err(format!("a file that begins with {}", hex(&bytes)))),
            _ => return Ok(Err(format!("{} bytes in all", bytes.len()))),
        };
        bytes.resize(4 + 4 * usize::from(n_axes), 0);
        file.read_exact(&mut bytes[4..])?;
        let sizes = bytes[4..].chunks_exact(4);
        let sizes =
            sizes.map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize);
        Ok(Ok(Header {
            sizes: sizes.collect(),
            bytes,
        }))
    }

    /// The length of a whole file with this header; `None` if no file is so long.
    pub fn n_file_bytes(&self) -> Option<u64> {
        let product = |n: u64, size: &usize| n.checked_mul(*size as u64);
        let n_values = self.sizes.iter().try_fold(1, product)?;
        n_values.checked_add(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_tell_the_length_of_the_file() {
        let bytes = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 0, 7];
        let header = Header::read(&mut &bytes[..]).unwrap().unwrap();
        assert_eq!(header.sizes, [2, 1, 256]);
        assert_eq!(header.bytes, bytes[..16]);
        assert_eq!(header.n_file_bytes(), Some(16 + 512));
        for length in 4..16 {
            assert!(Header::read(&mut &bytes[..length]).is_err(), "{length}");
        }
        let long = [&[0, 0, 8, 3][..], &[0xff; 12]].concat();
        let long = Header::read(&mut &long[..]).unwrap().unwrap();
        assert_eq!(long.n_file_bytes(), None);
        let short = Header::read(&mut &bytes[..3]).unwrap();
        assert_eq!(short.unwrap_err(), "3 bytes in all");
        let floats = Header::read(&mut &[0, 0, 0x0d, 3][..]).unwrap();
        assert_eq!(floats.unwrap_err(), "a file that begins with 00000d03");
    }
}
