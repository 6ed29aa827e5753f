//! IDX files of images.

use std::io::Read;

use ebm_common::idx::Header;

use super::layout::{Element, Layout};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// Reads the header of a file of byte images: `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`.
pub(super) fn read_header(file: &mut dyn Read, shape: ImageShape) -> Result<Stack> {
    let foreign = |got: String| {
        Error::new(ErrorKind::Image, "the file is not an IDX file of images")
            .expected("bytes with three or four axes (00000803, 00000804)")
            .but_got(got)
    };
    let header = Header::read(file).map_err(|e| {
        let problem = "the IDX file ends within its header or cannot be read";
        Error::new(ErrorKind::Image, problem)
            .advise("fetch it again")
            .caused_by(e)
    })?;
    let Header { sizes, bytes } = header.map_err(foreign)?;
    match sizes.len() {
        1 => {
            return Err(foreign("an IDX file of labels".into())
                .advise("give the file of images that belongs to it"));
        }
        3 | 4 => {}
        n => return Err(foreign(format!("{n} axes"))),
    }
    let (n_images, order) = match Layout::of_dimensions(&sizes, shape)? {
        // The first axis counts the images.
        (n_images, order) if n_images == sizes[0] => (n_images, order),
        _ => return Err(foreign(format!("axes {sizes:?}"))),
    };
    Ok(Stack {
        header: bytes,
        n_images,
        n_label_bytes: 0,
        layout: Layout {
            shape,
            element: Element::Byte,
            order,
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn idx(dimensions: &[u32], values: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
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
