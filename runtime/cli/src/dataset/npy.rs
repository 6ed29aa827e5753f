//! NumPy's array files: a header that is a Python dictionary, then the values.
//!
//! The header is read here and not by a crate of its own: those read whole arrays instead of streams, and come with a parser of all of Python's
//! literals, whose stack grows with the file's brackets.
//!
//! Source: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use std::io::Read;

use ebm_common::FloatRange;
use serde::Deserialize;
use serde_json::Value;

use super::layout::{Element, Layout};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// The first bytes of every file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy itself refuses headers that are longer than this.
const MAX_HEADER_BYTES: usize = 10_000;

/// What a header says, and its bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    pub(super) descriptor: String,
    pub(super) fortran_order: bool,
    pub(super) dimensions: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl Header {
    /// Reads up to where the values begin.
    pub(super) fn read(file: &mut dyn Read) -> Result<Self> {
        let mut bytes = vec![0; 8];
        file.read_exact(&mut bytes).map_err(damaged)?;
        if !bytes.starts_with(MAGIC) {
            return Err(no_array().but_got(format!("a file that begins with {:02x?}", &bytes[..6])));
        }
        let n_length_bytes = match bytes[6] {
            1 => 2,
            2 | 3 => 4,
            version => {
                return Err(
                    Error::new(ErrorKind::Version, "the npy file has another version")
                        .expected("1, 2 or 3")
                        .but_got(version)
                        .advise("save it again with numpy.save"),
                );
            }
        };
        let mut length = [0; 4];
        file.read_exact(&mut length[..n_length_bytes])
            .map_err(damaged)?;
        bytes.extend_from_slice(&length[..n_length_bytes]);
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(no_array()
                .expected(format!("a header of at most {MAX_HEADER_BYTES} bytes"))
                .but_got(length));
        }
        let start = bytes.len();
        bytes.resize(start + length, 0);
        file.read_exact(&mut bytes[start..]).map_err(damaged)?;
        let text = String::from_utf8_lossy(&bytes[start..]).into_owned();
        let dictionary = Dictionary::parse(&text);
        let read = dictionary.and_then(|read| Some((read.descriptor(&text)?, read)));
        let Some((descriptor, dictionary)) = read else {
            return Err(no_array()
                .expected("a header with `descr`, `fortran_order` and `shape`")
                .but_got(text.trim()));
        };
        Ok(Self {
            descriptor,
            fortran_order: dictionary.fortran_order,
            dimensions: dictionary.shape,
            bytes,
        })
    }

    /// The array of images that the header announces.
    pub(super) fn stack(self, shape: ImageShape, range: FloatRange) -> Result<Stack> {
        let element = match self.descriptor.as_str() {
            "|u1" | "<u1" | ">u1" | "=u1" => Element::Byte,
            "<f4" => Element::Float(range),
            other => {
                return Err(
                    Error::new(ErrorKind::Image, "the array has values of another type")
                        .expected("`|u1` (uint8) or `<f4` (float32, little-endian)")
                        .but_got(format!("`{other}`"))
                        .advise("convert it with numpy's `astype`"),
                );
            }
        };
        let (n_images, order) = Layout::of_dimensions(&self.dimensions, shape)?;
        if self.fortran_order {
            return Err(
                Error::new(ErrorKind::Image, "the array is in Fortran's order")
                    .expected("the last axis varying fastest")
                    .advise("save `numpy.ascontiguousarray` of it"),
            );
        }
        Ok(Stack {
            header: self.bytes,
            n_images,
            n_label_bytes: 0,
            layout: Layout {
                shape,
                element,
                order,
            },
        })
    }
}

fn no_array() -> Error {
    Error::new(ErrorKind::Image, "the file is not an npy array").advise("save it with numpy.save")
}

fn damaged(e: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Image,
        "the npy file ends within its header or cannot be read",
    )
    .advise("save it again with numpy.save")
    .caused_by(e)
}

/// What the dictionary of a header says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dictionary {
    descr: Value,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Dictionary {
    /// `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 8, 8), }`. But for its spelling this is JSON; Python 2 also marks long numbers, as in `3L`.
    fn parse(text: &str) -> Option<Self> {
        const SPELLINGS: [(&str, &str); 10] = [
            (" ", ""),
            ("'", "\""),
            ("(", "["),
            (")", "]"),
            ("False", "false"),
            ("True", "true"),
            ("L,", ","),
            ("L]", "]"),
            (",]", "]"),
            (",}", "}"),
        ];
        let respelled = |text: String, (from, to): (&str, &str)| text.replace(from, to);
        let json = SPELLINGS.into_iter().fold(text.to_string(), respelled);
        serde_json::from_str(&json).ok()
    }

    /// The name of a type, or the list of a record's fields as it stands in the header.
    fn descriptor(&self, text: &str) -> Option<String> {
        match &self.descr {
            Value::String(name) => Some(name.clone()),
            _ => Some(text[text.find('[')?..=text.rfind(']')?].to_string()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A file as `numpy.save` writes it.
    pub(crate) fn npy(header: &str, values: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16 + 1).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.push(b'\n');
        bytes.extend(values);
        bytes
    }

    const SHAPE: ImageShape = ImageShape {
        channels: 3,
        height: 8,
        width: 6,
    };

    fn stack(header: &str) -> Result<Stack> {
        Header::read(&mut npy(header, &[]).as_slice())?.stack(SHAPE, FloatRange::default())
    }

    #[test]
    fn headers_are_read_in_every_spelling_that_numpy_wrote() {
        for header in [
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 3, 8, 6), }          ",
            "{'shape': (5L, 3L, 8L, 6L), 'fortran_order': False, 'descr': '|u1'}",
            "{\"descr\":\"|u1\",\"fortran_order\":False,\"shape\":(5,3,8,6)}",
        ] {
            let stack = stack(header).unwrap();
            assert_eq!(stack.n_images, 5, "{header}");
            assert_eq!(stack.header, npy(header, &[]), "{header}");
        }
    }

    #[test]
    fn other_arrays_are_refused_with_the_way_out() {
        for (header, part) in [
            (
                "{'descr': '<f8', 'fortran_order': False, 'shape': (5, 3, 8, 6), }",
                "got `<f8`; convert it with numpy's `astype`",
            ),
            (
                "{'descr': '>f4', 'fortran_order': False, 'shape': (5, 3, 8, 6), }",
                "got `>f4`",
            ),
            (
                "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (5,), }",
                "got `[('a', '|u1')]`",
            ),
            (
                "{'descr': '|u1', 'fortran_order': True, 'shape': (5, 3, 8, 6), }",
                "ascontiguousarray",
            ),
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 8, 8, 3), }",
                "expected [N, 3, 8, 6] or [N, 8, 6, 3], got [5, 8, 8, 3]",
            ),
            ("{'descr': '|u1', 'shape': (5,)}", "expected a header with"),
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 3, 8, 6), }",
                "expected a header with",
            ),
            ("{{{{", "expected a header with"),
        ] {
            let error = stack(header).unwrap_err().to_string();
            assert!(error.contains(part), "{header}: {error}");
        }
    }

    #[test]
    fn headers_that_are_cut_off_or_too_long_are_refused() {
        let whole = npy(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 3, 8, 6), }",
            &[],
        );
        for n in 0..whole.len() {
            assert!(Header::read(&mut &whole[..n]).is_err(), "{n} bytes");
        }
        let long = b"\x93NUMPY\x02\x00\xff\xff\xff\xff";
        let error = Header::read(&mut long.as_slice()).unwrap_err().to_string();
        assert!(error.contains("a header of at most"), "{error}");
        let newer = b"\x93NUMPY\x04\x00\xff\xff\xff\xff";
        let error = Header::read(&mut newer.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Version);
    }
}
