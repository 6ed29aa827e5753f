//! Files of many images: npy, npz, IDX and CIFAR's binary batches, read and written in streams.

mod archive;
mod cifar;
mod idx;
mod layout;
mod npy;
mod source;
mod stack;

use std::fmt;
use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use archive::Archive;
pub use ebm_common::FloatRange;
use ebm_runtime::{Error, ErrorKind, ImageShape, Images, Result};
use source::{Packing, Part, Source};
use stack::Stack;

/// A format of files of many images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataSetFormat {
    /// One array of NumPy.
    Npy,
    /// Several arrays of NumPy in a zip file. Those of the model's shape are the images, the others stay as they are.
    Npz,
    /// IDX, as MNIST has it, plain or gzip.
    Idx,
    /// A binary batch of CIFAR-10 or CIFAR-100.
    Cifar,
}

impl DataSetFormat {
    /// The format that a file's name tells: `.npy`, `.npz`, `.idx`, `…idx3-ubyte`, `…idx4-ubyte` (these three with `.gz` too) and `.bin`.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").unwrap_or(&name);
        let is_idx = ["idx3-ubyte", "idx4-ubyte", ".idx"]
            .iter()
            .any(|end| plain.ends_with(end));
        match name.rsplit_once('.') {
            Some((_, "npy")) => Some(Self::Npy),
            Some((_, "npz")) => Some(Self::Npz),
            Some((_, "bin")) => Some(Self::Cifar),
            _ => is_idx.then_some(Self::Idx),
        }
    }

    /// The format that a file's first four bytes belong to, if it can be told.
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        match *bytes.first_chunk::<4>()? {
            [0x93, b'N', b'U', b'M'] => Some(Self::Npy),
            [b'P', b'K', 3, 4] => Some(Self::Npz),
            [0, 0, 8, 1 | 3 | 4] => Some(Self::Idx),
            _ => None,
        }
    }
}

/// A file of many images whose headers have been read and whose length has been checked. Its images are read one after another, so that
/// memory does not grow with their number.
pub struct DataSet {
    format: DataSetFormat,
    source: Source,
    /// The arrays of images, and where they lie.
    stacks: Vec<(Stack, Part)>,
    archive: Option<Archive>,
}

impl DataSet {
    /// Opens a file for images of this shape. Bytes stand for pixels as in pictures, floating-point numbers as `range` says.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read. [`ErrorKind::Image`] if its format is not known, or it is damaged, of another format or
    /// without images. [`ErrorKind::Shape`] if its images are of another shape, or the order of its axes is ambiguous.
    pub fn open(path: impl AsRef<Path>, shape: ImageShape, range: FloatRange) -> Result<Self> {
        let path = path.as_ref();
        let open = || {
            let source = Source::open(path)?;
            let format = DataSetFormat::of_name(path).or_else(|| {
                let start = source.start().ok()?;
                DataSetFormat::of_bytes(&start)
            });
            let format = format.ok_or_else(|| {
                Error::new(ErrorKind::Image, "the format of the file is not known")
                    .expected("a file named *.npy, *.npz, *.idx, *idx3-ubyte or *.bin")
            })?;
            Self::read(source, format, shape, range)
        };
        open().map_err(|error| error.at_path(path))
    }

    /// Like [`DataSet::open`] for the bytes of a file.
    ///
    /// # Errors
    /// As [`DataSet::open`], without [`ErrorKind::Io`].
    pub fn from_bytes(
        bytes: Vec<u8>,
        format: DataSetFormat,
        shape: ImageShape,
        range: FloatRange,
    ) -> Result<Self> {
        Self::read(Source::memory(bytes), format, shape, range)
    }

    /// The format.
    pub fn format(&self) -> DataSetFormat {
        self.format
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.stacks.iter().map(|(stack, _)| stack.n_images).sum()
    }

    /// Whether pixels stand in the file as floating-point numbers, whose range it does not say.
    pub fn has_floats(&self) -> bool {
        self.stacks.iter().any(|(stack, _)| stack.has_floats())
    }

    /// Whether all floating-point numbers of one of its arrays lie in `[0, 1]`, which then may be their range. Reads the arrays up to the
    /// first number outside of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read any more.
    pub fn has_floats_from_0_to_1(&self) -> Result<bool> {
        for (stack, part) in self.stacks.iter().filter(|(stack, _)| stack.has_floats()) {
            let start = stack.header.len() as u64;
            let mut stream = self.source.stream(part, start).map_err(unreadable)?;
            let mut image = vec![0; stack.layout.n_bytes()];
            let mut from_0_to_1 = true;
            for _ in 0..stack.n_images {
                stream.read_exact(&mut image).map_err(unreadable)?;
                if !layout::floats(&image).all(|value| (0.0..=1.0).contains(&value)) {
                    from_0_to_1 = false;
                    break;
                }
            }
            if from_0_to_1 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The images from number `first` on, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read any more.
    pub fn records(&self, first: usize) -> Result<Records<'_>> {
        let mut n_before = 0;
        let mut rest = Vec::new();
        for (stack, part) in &self.stacks {
            let n_skipped = first.saturating_sub(n_before).min(stack.n_images);
            n_before += stack.n_images;
            rest.push((stack, part, n_skipped));
        }
        rest.retain(|(stack, _, n_skipped)| *n_skipped < stack.n_images);
        let mut records = Records {
            source: &self.source,
            rest: rest.into_iter(),
            current: None,
        };
        records.enter()?;
        Ok(records)
    }

    /// The bytes that stand in the file for the pixels `[C, H, W]` of its image number `place`. Pixels outside `[-1, 1]` are clamped.
    ///
    /// # Panics
    /// If `place` is not below [`DataSet::len`], or `index` not below [`Images::len`].
    pub fn encode(&self, place: usize, images: &Images, index: usize) -> Vec<u8> {
        let mut n_before = 0;
        let stack = self.stacks.iter().map(|(stack, _)| stack).find(|stack| {
            n_before += stack.n_images;
            place < n_before
        });
        let stack = stack.expect("the place is that of an image");
        stack.layout.encode(images.image(index))
    }

    /// The number of bytes that stand for the pixels of the first `n` images.
    pub fn n_pixel_bytes(&self, n: usize) -> u64 {
        let mut n_left = n;
        let bytes = self.stacks.iter().map(|(stack, _)| {
            let n = n_left.min(stack.n_images);
            n_left -= n;
            (n * stack.layout.n_bytes()) as u64
        });
        bytes.sum()
    }

    /// Writes the file again, with other pixels: all of them, as [`DataSet::encode`] makes them, are read from `pixels` in the images' order.
    /// Headers, labels and other arrays stay as they are.
    ///
    /// # Errors
    /// That of reading and writing.
    pub fn write(&self, out: &mut dyn Write, pixels: &mut dyn Read) -> std::io::Result<()> {
        if let Some(archive) = &self.archive {
            return archive.write(out, &self.source, |index, out| {
                self.write_stack(index, out, pixels)
            });
        }
        match self.stacks[0].1.packing {
            Packing::Gzip => {
                let mut encoder = GzEncoder::new(out, Compression::default());
                self.write_stack(0, &mut encoder, pixels)?;
                encoder.finish()?;
                Ok(())
            }
            Packing::None | Packing::Deflate => self.write_stack(0, out, pixels),
        }
    }

    fn write_stack(
        &self,
        index: usize,
        out: &mut dyn Write,
        pixels: &mut dyn Read,
    ) -> std::io::Result<()> {
        let (stack, part) = &self.stacks[index];
        out.write_all(&stack.header)?;
        let n_pixel_bytes = stack.layout.n_bytes() as u64;
        if stack.n_label_bytes == 0 {
            return copy_exactly(pixels, out, n_pixel_bytes * stack.n_images as u64);
        }
        let mut original = self.source.stream(part, stack.header.len() as u64)?;
        for _ in 0..stack.n_images {
            copy_exactly(&mut original, out, stack.n_label_bytes as u64)?;
            copy_exactly(&mut original, &mut std::io::sink(), n_pixel_bytes)?;
            copy_exactly(pixels, out, n_pixel_bytes)?;
        }
        Ok(())
    }

    fn read(
        source: Source,
        format: DataSetFormat,
        shape: ImageShape,
        range: FloatRange,
    ) -> Result<Self> {
        let (stacks, archive) = match format {
            DataSetFormat::Npz => {
                let (archive, stacks) = Archive::read(&source, shape, range)?;
                (stacks, Some(archive))
            }
            _ => {
                let part = source.whole()?;
                let mut stream = source.stream(&part, 0).map_err(unreadable)?;
                let stack = match format {
                    DataSetFormat::Cifar => {
                        cifar::stack(source.len(), shape, &|at| source.byte_at(at))?
                    }
                    DataSetFormat::Idx => idx::read_header(&mut stream, shape)?,
                    _ => npy::Header::read(&mut stream)?.stack(shape, range)?,
                };
                (vec![(stack, part)], None)
            }
        };
        for (stack, part) in &stacks {
            source.check(part, stack)?;
        }
        let data_set = Self {
            format,
            source,
            stacks,
            archive,
        };
        if data_set.is_empty() {
            return Err(Error::new(ErrorKind::Image, "the file has no images"));
        }
        Ok(data_set)
    }
}

impl fmt::Debug for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataSet")
            .field("format", &self.format)
            .field("stacks", &self.stacks)
            .finish_non_exhaustive()
    }
}

/// All images of a file's bytes, as [`DataSet::from_bytes`] and [`DataSet::records`] give them.
///
/// # Errors
/// Those of [`DataSet::from_bytes`], and those of the first bad image.
pub fn decode_data_set(
    bytes: Vec<u8>,
    format: DataSetFormat,
    shape: ImageShape,
    range: FloatRange,
) -> Result<Images> {
    let data_set = DataSet::from_bytes(bytes, format, shape, range)?;
    let images = data_set.records(0)?.map(|record| record?.image);
    Images::concatenate(&images.collect::<Result<Vec<_>>>()?)
}

/// An image of a file.
#[derive(Debug)]
pub struct Record {
    /// The bytes that stand for its pixels.
    pub pixels: Vec<u8>,
    /// Its class in formats that state one beside the pixels: CIFAR-10's label, CIFAR-100's fine one.
    pub label: Option<u8>,
    /// The image `[1, C, H, W]`, or why these bytes are not one: a value that is not a number, or is outside the file's range.
    pub image: Result<Images>,
}

/// The images of a [`DataSet`], one after another.
pub struct Records<'a> {
    source: &'a Source,
    /// The arrays that follow, and how many of their first images are skipped.
    rest: std::vec::IntoIter<(&'a Stack, &'a Part, usize)>,
    /// An array, the rest of its bytes and the number of images in them.
    current: Option<(&'a Stack, Box<dyn Read>, usize)>,
}

impl Records<'_> {
    /// Goes to the next array, if there is one.
    fn enter(&mut self) -> Result<()> {
        self.current = None;
        if let Some((stack, part, n_skipped)) = self.rest.next() {
            let n_record_bytes = stack.n_label_bytes + stack.layout.n_bytes();
            let start = stack.header.len() as u64 + n_skipped as u64 * n_record_bytes as u64;
            let stream = self.source.stream(part, start).map_err(unreadable)?;
            self.current = Some((stack, stream, stack.n_images - n_skipped));
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Record>> {
        while let Some((_, _, 0)) = self.current {
            self.enter()?;
        }
        let Some((stack, stream, n_left)) = &mut self.current else {
            return Ok(None);
        };
        *n_left -= 1;
        let mut record = vec![0; stack.n_label_bytes + stack.layout.n_bytes()];
        stream.read_exact(&mut record).map_err(unreadable)?;
        let pixels = record.split_off(stack.n_label_bytes);
        let values = stack.layout.decode(&pixels);
        Ok(Some(Record {
            label: record.last().copied(),
            image: values.and_then(|values| Images::from_vec(stack.layout.shape, values)),
            pixels,
        }))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record>;

    /// Nothing follows an error.
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read();
        if record.is_err() {
            (self.rest, self.current) = (Vec::new().into_iter(), None);
        }
        record.transpose()
    }
}

fn copy_exactly(from: &mut dyn Read, to: &mut dyn Write, n_bytes: u64) -> std::io::Result<()> {
    let n_copied = std::io::copy(&mut from.take(n_bytes), to)?;
    if n_copied == n_bytes {
        return Ok(());
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        format!("expected {n_bytes} bytes of pixels, got {n_copied}"),
    ))
}

fn unreadable(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the file cannot be read").caused_by(e)
}

#[cfg(test)]
mod tests;
