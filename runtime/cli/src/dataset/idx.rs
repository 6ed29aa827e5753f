//! IDX, the format of MNIST: a magic number, the sizes of the axes, bytes.
//!
//! Source: LeCun, Cortes, Burges, *The MNIST database of handwritten digits*.

use std::io::Read;

use super::layout::{Element, Layout};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// The code of unsigned bytes.
const UNSIGNED_BYTE: u8 = 8;

/// Reads the header of a file of byte images: `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`.
pub(super) fn read_header(file: &mut dyn Read, shape: ImageShape) -> Result<Stack> {
    let mut header = vec![0; 4];
    file.read_exact(&mut header).map_err(damaged)?;
    let foreign = || {
        Error::new(ErrorKind::Image, "the file is no IDX file of images")
            .expected("bytes with three or four axes (00000803, 00000804)")
    };
    match header[..] {
        [0, 0, UNSIGNED_BYTE, n_axes @ (3 | 4)] => {
            header.resize(4 + 4 * usize::from(n_axes), 0);
        }
        [0, 0, UNSIGNED_BYTE, 1] => {
            return Err(foreign()
                .but_got("an IDX file of labels")
                .advise("give the file of images that belongs to it"));
        }
        _ => {
            let got: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(foreign().but_got(format!("a file that begins with {got}")));
        }
    }
    file.read_exact(&mut header[4..]).map_err(damaged)?;
    let dimensions: Vec<usize> = header[4..]
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    let (n_images, order) = match Layout::of_dimensions(&dimensions, shape)? {
        // The first axis counts the images.
        (n_images, order) if n_images == dimensions[0] => (n_images, order),
        _ => return Err(foreign().but_got(format!("axes {dimensions:?}"))),
    };
    Ok(Stack {
        header,
        n_images,
        n_label_bytes: 0,
        layout: Layout {
            shape,
            element: Element::Byte,
            order,
        },
    })
}

fn damaged(e: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Image,
        "the IDX file ends within its header or cannot be read",
    )
    .advise("fetch it again")
    .caused_by(e)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, UNSIGNED_BYTE, dimensions.len() as u8];
        bytes.extend(dimensions.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(values);
        bytes
    }

    const fn shape(channels: usize) -> ImageShape {
        ImageShape {
            channels,
            height: 8,
            width: 6,
        }
    }

    #[test]
    fn images_are_told_from_everything_else() {
        let good = [
            (idx(&[5, 8, 6], &[]), 1),
            (idx(&[5, 3, 8, 6], &[]), 3),
            (idx(&[5, 8, 6, 3], &[]), 3),
        ];
        for (bytes, channels) in good {
            let stack = read_header(&mut bytes.as_slice(), shape(channels)).unwrap();
            assert_eq!((stack.n_images, stack.header), (5, bytes));
        }
        let floats = [0, 0, 0x0d, 3, 0, 0, 0, 1];
        let bad: [(&[u8], &str); 5] = [
            (&idx(&[5], &[]), "got an IDX file of labels"),
            (&idx(&[5, 8, 8], &[]), "got [5, 8, 8]"),
            (&floats, "begins with 00000d03"),
            (b"\x1f\x8b\x08\x08", "begins with 1f8b0808"),
            (&idx(&[5, 8, 6], &[])[..12], "ends within its header"),
        ];
        for (bytes, part) in bad {
            let error = read_header(&mut &bytes[..], shape(1)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
