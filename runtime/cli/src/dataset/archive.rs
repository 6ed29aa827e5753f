//! NumPy's zip files of arrays.

use std::io::Write;
use std::ops::Range;

use ebm_common::FloatRange;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use rawzip::path::EntryPath;
use rawzip::{
    CompressionMethod, DataDescriptorOutput, RECOMMENDED_BUFFER_SIZE, RangeReader,
    ZipArchiveWriter, ZipLocator,
};

use super::npy::Header;
use super::source::{Packing, Part, Source};
use super::stack::Stack;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// The files in a zip file.
#[derive(Debug)]
pub(super) struct Archive {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Vec<u8>,
    method: CompressionMethod,
    /// Where its packed bytes lie.
    range: Range<u64>,
    n_bytes: u64,
    crc: u32,
    /// Its number among the arrays of images, if it is one.
    stack: Option<usize>,
}

impl Archive {
    /// Lists the files, and finds the arrays of images among them.
    pub(super) fn read(
        source: &Source,
        shape: ImageShape,
        range: FloatRange,
    ) -> Result<(Self, Vec<(Stack, Part)>)> {
        let (mut entries, mut stacks, mut others) = (list(source)?, Vec::new(), Vec::new());
        for entry in &mut entries {
            let Some(part) = entry.part() else {
                others.push(format!("{} (packed in another way)", entry.name()));
                continue;
            };
            match array(source, &part, shape, range) {
                Ok(stack) => {
                    entry.stack = Some(stacks.len());
                    stacks.push((stack, part));
                }
                Err(reason) => others.push(format!("{} ({reason})", entry.name())),
            }
        }
        if stacks.is_empty() {
            return Err(
                Error::new(ErrorKind::Shape, "the npz file has no array of images")
                    .expected(format!(
                        "u8 or f32 [N, C, H, W] or [N, H, W, C] with images {shape}"
                    ))
                    .but_got(if others.is_empty() {
                        "no arrays".into()
                    } else {
                        others.join(", ")
                    }),
            );
        }
        Ok((Self { entries }, stacks))
    }

    /// Writes the files again in their order: each array of images by `write_stack`, which gets its number, the others as they are.
    pub(super) fn write(
        &self,
        out: &mut dyn Write,
        source: &Source,
        mut write_stack: impl FnMut(usize, &mut dyn Write) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut archive = ZipArchiveWriter::new(out);
        for entry in &self.entries {
            let file = archive
                .new_file(EntryPath::verbatim(&entry.name))
                .compression_method(entry.method);
            let (mut file, config) = file.start().map_err(std::io::Error::other)?;
            let descriptor = match entry.stack {
                None => {
                    let mut packed = RangeReader::new(source.reader(), entry.range.clone());
                    std::io::copy(&mut packed, &mut file)?;
                    DataDescriptorOutput::new(entry.crc, entry.n_bytes)
                }
                Some(index) if entry.method == CompressionMethod::DEFLATE => {
                    let encoder = DeflateEncoder::new(&mut file, Compression::default());
                    let mut stream = config.wrap(encoder);
                    write_stack(index, &mut stream)?;
                    let (encoder, descriptor) = stream.finish().map_err(std::io::Error::other)?;
                    encoder.finish()?;
                    descriptor
                }
                Some(index) => {
                    let mut stream = config.wrap(&mut file);
                    write_stack(index, &mut stream)?;
                    stream.finish().map_err(std::io::Error::other)?.1
                }
            };
            file.finish(descriptor).map_err(std::io::Error::other)?;
        }
        archive.finish().map_err(std::io::Error::other)?;
        Ok(())
    }
}

#[cfg(test)]
impl Archive {
    /// Names and checksums of the entries that are not arrays of images.
    pub(super) fn entries(&self) -> Vec<(String, u32, u64)> {
        let others = self.entries.iter().filter(|entry| entry.stack.is_none());
        others
            .map(|entry| (entry.name(), entry.crc, entry.n_bytes))
            .collect()
    }
}

impl Entry {
    fn name(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        name.strip_suffix(".npy").unwrap_or(&name).to_string()
    }

    fn part(&self) -> Option<Part> {
        let packing = match self.method {
            CompressionMethod::STORE => Packing::None,
            CompressionMethod::DEFLATE => Packing::Deflate,
            _ => return None,
        };
        Some(Part {
            packing,
            range: self.range.clone(),
            crc: Some(self.crc),
        })
    }
}

fn list(source: &Source) -> Result<Vec<Entry>> {
    let damaged = |e: rawzip::Error| {
        Error::new(ErrorKind::Image, "the file is not a whole npz (zip) file")
            .advise("it may be cut off: fetch or save it again")
            .caused_by(e)
    };
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let archive = ZipLocator::new()
        .locate_in_reader(source.reader(), &mut buffer, source.len())
        .map_err(|(_, e)| damaged(e))?;
    let mut found = archive.entries(&mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = found.next_entry().map_err(damaged)? {
        if entry.is_dir() {
            continue;
        }
        let file = archive.get_entry(entry.wayfinder()).map_err(damaged)?;
        let (start, end) = file.compressed_data_range();
        entries.push(Entry {
            name: entry.file_path().as_bytes().to_vec(),
            method: entry.compression_method(),
            range: start..end.max(start),
            n_bytes: entry.uncompressed_size_hint(),
            crc: entry.crc32(),
            stack: None,
        });
    }
    Ok(entries)
}

/// The array of images that a file is, or a short word on what it is instead.
fn array(
    source: &Source,
    part: &Part,
    shape: ImageShape,
    range: FloatRange,
) -> Result<Stack, String> {
    let mut stream = source.stream(part, 0).map_err(|e| e.to_string())?;
    let header = Header::read(&mut stream).map_err(|_| "no array".to_string())?;
    let description = format!("{} {:?}", header.descriptor, header.dimensions);
    header.stack(shape, range).map_err(|_| description)
}
