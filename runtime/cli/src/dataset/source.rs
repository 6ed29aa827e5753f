//! The bytes of a file, and the parts of it that hold arrays.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use flate2::Crc;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use rawzip::{FileReader, RangeReader, ReaderAt};

use super::stack::Stack;
use super::unreadable;
use ebm_runtime::{Error, ErrorKind, Result};

type Bytes = Arc<dyn ReaderAt + Send + Sync>;

/// A file, or bytes in memory.
#[derive(Clone)]
pub(super) struct Source {
    bytes: Bytes,
    n_bytes: u64,
}

/// How a part of a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Deflate,
}

/// A part of a file.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) packing: Packing,
    pub(super) range: Range<u64>,
    /// The checksum that the unpacked bytes have to have, if the file says so.
    pub(super) crc: Option<u32>,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Io, "the file cannot be read")
                .expected("a regular file")
                .advise("pictures and npy arrays can come from standard input"));
        }
        Ok(Self {
            bytes: Arc::new(FileReader::from(file)),
            n_bytes: metadata.len(),
        })
    }

    pub(super) fn memory(bytes: Vec<u8>) -> Self {
        Self {
            n_bytes: bytes.len() as u64,
            bytes: Arc::new(bytes),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.n_bytes
    }

    pub(super) fn reader(&self) -> Bytes {
        self.bytes.clone()
    }

    pub(super) fn byte_at(&self, at: u64) -> Result<u8> {
        let mut byte = [0];
        self.bytes
            .read_exact_at(&mut byte, at)
            .map_err(unreadable)?;
        Ok(byte[0])
    }

    /// The first four bytes, or fewer if there are fewer.
    pub(super) fn start(&self) -> Result<Vec<u8>> {
        (0..self.n_bytes.min(4))
            .map(|at| self.byte_at(at))
            .collect()
    }

    /// All of it, which may be gzip.
    pub(super) fn whole(&self) -> Result<Part> {
        let packing = match self.start()?[..] {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            _ => Packing::None,
        };
        Ok(Part {
            packing,
            range: 0..self.n_bytes,
            crc: None,
        })
    }

    /// The unpacked bytes of a part, from number `start` on.
    pub(super) fn stream(&self, part: &Part, start: u64) -> std::io::Result<Box<dyn Read>> {
        let range = |start: u64| {
            let from = part.range.start.saturating_add(start).min(part.range.end);
            BufReader::new(RangeReader::new(self.reader(), from..part.range.end))
        };
        let mut stream: Box<dyn Read> = match part.packing {
            Packing::None => return Ok(Box::new(range(start))),
            Packing::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(range(0)))),
            Packing::Deflate => Box::new(BufReader::new(DeflateDecoder::new(range(0)))),
        };
        std::io::copy(&mut stream.by_ref().take(start), &mut std::io::sink())?;
        Ok(stream)
    }

    /// Returns Ok if a part holds exactly what its header announces, and has the right checksum.
    pub(super) fn check(&self, part: &Part, stack: &Stack) -> Result<()> {
        let length = |got: String| {
            Error::new(
                ErrorKind::Image,
                "the file has another length than its header says",
            )
            .expected(match stack.n_bytes() {
                Some(n) => format!("{n} bytes for {} images", stack.n_images),
                None => "a number of bytes below 2⁶⁴".into(),
            })
            .but_got(got)
            .advise("it may be cut off: fetch or save it again")
        };
        let expected = stack.n_bytes().ok_or_else(|| length("more".into()))?;
        let n_packed = part.range.end - part.range.start;
        if part.packing == Packing::None && n_packed != expected {
            return Err(length(format!("{n_packed} bytes")));
        }
        if part.packing == Packing::None && part.crc.is_none() {
            return Ok(());
        }
        let damaged = |e: std::io::Error| {
            Error::new(ErrorKind::Image, "the packed file is damaged")
                .advise("it may be cut off: fetch or save it again")
                .caused_by(e)
        };
        // One byte more than there should be tells that there is more.
        let stream = self.stream(part, 0).map_err(damaged)?;
        let (crc, n_read) = checksum(stream.take(expected.saturating_add(1))).map_err(damaged)?;
        if n_read != expected {
            return Err(length(if n_read > expected {
                "more".into()
            } else {
                format!("{n_read} bytes")
            }));
        }
        match part.crc {
            Some(wanted) if wanted != crc => Err(Error::new(
                ErrorKind::Image,
                "the packed file is damaged: its checksum is wrong",
            )
            .expected(format!("{wanted:08x}"))
            .but_got(format!("{crc:08x}"))
            .advise("fetch or save it again")),
            _ => Ok(()),
        }
    }
}

/// The checksum and the number of all bytes.
fn checksum(mut stream: impl Read) -> std::io::Result<(u32, u64)> {
    let (mut crc, mut n_read, mut buffer) = (Crc::new(), 0, vec![0; 1 << 16]);
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok((crc.sum(), n_read));
        }
        crc.update(&buffer[..n]);
        n_read += n as u64;
    }
}
