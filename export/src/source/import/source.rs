//! Named tensors of a file that somebody else wrote.

use std::collections::BTreeMap;
use std::ops::Range;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use super::pytorch;
use crate::graph::tensor::Tensor;

/// The tensors of a file by name.
#[derive(Debug)]
pub struct Source {
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Stored>,
}

/// Where a tensor lies within the bytes of its file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    pub element: Element,
    pub sizes: Vec<usize>,
    /// Elements from one index of an axis to the next.
    pub strides: Vec<usize>,
    /// Bytes of the storage from the first element on.
    pub range: Range<usize>,
}

/// The type of an element, all lowest byte first.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
    /// One that weights do not have, by its name.
    Other(String),
}

impl Element {
    fn size(&self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::BF16 => 2,
            Element::Other(_) => 0,
        }
    }
}

impl Source {
    /// Reads safetensors, a PyTorch zip file or an older PyTorch file, whichever the bytes are. Tensors within dictionaries within
    /// dictionaries have the keys joined by dots for their name.
    ///
    /// # Errors
    /// The bytes are none of these, or damaged.
    pub fn read(bytes: Vec<u8>) -> Result<Source, String> {
        let tensors = if bytes.starts_with(b"PK\x03\x04") {
            pytorch::zipped(&bytes)?
        } else if bytes.starts_with(pytorch::LEGACY_START) {
            pytorch::legacy(&bytes)?
        } else if bytes.get(8) == Some(&b'{') {
            safetensors(&bytes)?
        } else {
            return Err(
                "neither safetensors nor a PyTorch checkpoint (torch.save); convert it to one of these"
                    .to_string(),
            );
        };
        Ok(Source { bytes, tensors })
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The extents of a tensor by name.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(self.tensors.get(name)?.sizes.as_slice())
    }

    /// A tensor by name, in f32; `None` if there is none.
    ///
    /// # Errors
    /// It is none of floats, or it reaches beyond its storage.
    pub fn tensor(&self, name: &str) -> Result<Option<Tensor>, String> {
        self.tensors
            .get(name)
            .map(|stored| stored.read(&self.bytes))
            .transpose()
    }
}

impl Stored {
    /// Row-major within the range.
    fn dense(element: Element, sizes: &[usize], range: Range<usize>) -> Stored {
        let mut strides = vec![1usize; sizes.len()];
        for axis in (1..sizes.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(sizes[axis]);
        }
        Stored {
            element,
            sizes: sizes.to_vec(),
            strides,
            range,
        }
    }

    fn read(&self, bytes: &[u8]) -> Result<Tensor, String> {
        let storage = bytes
            .get(self.range.clone())
            .ok_or("its storage is not within the file")?;
        let count = self.check(storage.len())?;
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0; self.sizes.len()];
        for _ in 0..count {
            let offset: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(i, stride)| i * stride)
                .sum();
            data.push(self.element_at(storage, offset));
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.sizes[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(Tensor::new(&self.sizes, data))
    }

    /// Checks that all elements are floats within the storage, and gives their number.
    fn check(&self, n_bytes: usize) -> Result<usize, String> {
        if let Element::Other(name) = &self.element {
            return Err(format!("expected f64, f32, f16 or bf16, got {name}"));
        }
        let outside = || {
            format!(
                "a tensor of shape {:?} reaches beyond its storage",
                self.sizes
            )
        };
        if self.strides.len() != self.sizes.len() {
            return Err(outside());
        }
        if self.sizes.contains(&0) {
            return Ok(0);
        }
        let last = self
            .sizes
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |last, (size, stride)| {
                last.checked_add((size - 1).checked_mul(*stride)?)
            });
        let count = self
            .sizes
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size));
        let n_elements = n_bytes / self.element.size();
        match (last, count) {
            (Some(last), Some(count)) if last < n_elements && count <= n_elements => Ok(count),
            _ => Err(outside()),
        }
    }

    fn element_at(&self, storage: &[u8], offset: usize) -> f32 {
        fn bytes<const SIZE: usize>(storage: &[u8], offset: usize) -> [u8; SIZE] {
            storage.as_chunks().0[offset]
        }
        match self.element {
            Element::F64 => f64::from_le_bytes(bytes(storage, offset)) as f32,
            Element::F32 => f32::from_le_bytes(bytes(storage, offset)),
            Element::F16 => f16::from_le_bytes(bytes(storage, offset)).to_f32(),
            Element::BF16 => bf16::from_le_bytes(bytes(storage, offset)).to_f32(),
            Element::Other(_) => f32::NAN,
        }
    }
}

fn safetensors(bytes: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("not a safetensors file: {error}"))?;
    let stored = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let element = match view.dtype() {
            Dtype::F64 => Element::F64,
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::BF16,
            other => Element::Other(format!("{other:?}")),
        };
        let data = view.data();
        let start = data.as_ptr() as usize - bytes.as_ptr() as usize;
        let range = start..start + data.len();
        (
            name.to_string(),
            Stored::dense(element, view.shape(), range),
        )
    };
    Ok(file.iter().map(stored).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(element: Element, sizes: &[usize], strides: &[usize], range: Range<usize>) -> Stored {
        Stored {
            element,
            sizes: sizes.to_vec(),
            strides: strides.to_vec(),
            range,
        }
    }

    #[test]
    fn every_float_is_read_and_every_stride_followed() {
        let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        for (stored, wanted) in [
            (
                Stored::dense(Element::F32, &[2, 3], 0..24),
                vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            ),
            (
                stored(Element::F32, &[3, 2], &[1, 3], 0..24),
                vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0],
            ),
            (stored(Element::F32, &[2], &[2], 8..24), vec![3.0, 5.0]),
            (stored(Element::F32, &[], &[], 4..24), vec![2.0]),
            // The upper halves of 1 and 2, and 2.0 in half precision.
            (stored(Element::BF16, &[2], &[2], 2..24), vec![1.0, 2.0]),
            (stored(Element::F16, &[1], &[1], 6..24), vec![2.0]),
        ] {
            let tensor = stored.read(&bytes).unwrap();
            assert_eq!(tensor.data(), wanted, "{stored:?}");
            assert_eq!(tensor.shape(), stored.sizes);
        }
        let double = Stored::dense(Element::F64, &[1], 0..8);
        assert_eq!(double.read(&0.1f64.to_le_bytes()).unwrap().data(), [0.1]);
    }

    #[test]
    fn what_reaches_beyond_its_storage_is_refused() {
        for (stored, wanted) in [
            (stored(Element::F32, &[3], &[1], 0..8), "reaches beyond"),
            (
                stored(Element::F32, &[2], &[usize::MAX], 0..8),
                "reaches beyond",
            ),
            (
                stored(Element::F32, &[usize::MAX, 2], &[0, 0], 0..8),
                "reaches beyond",
            ),
            (
                stored(Element::F32, &[1 << 40], &[0], 0..8),
                "reaches beyond",
            ),
            (stored(Element::F32, &[1], &[], 0..8), "reaches beyond"),
            (
                stored(Element::F32, &[1], &[1], 0..80),
                "not within the file",
            ),
            (
                stored(Element::Other("I64".into()), &[1], &[1], 0..8),
                "got I64",
            ),
        ] {
            let error = stored.read(&[0; 8]).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [&b""[..], b"GIF89a", b"\x89HDF\r\n\x1a\n"] {
            let error = Source::read(bytes.to_vec()).unwrap_err();
            assert!(
                error.starts_with("neither safetensors nor a PyTorch"),
                "{error}"
            );
        }
        let error = Source::read(b"\xff\0\0\0\0\0\0\0{\"a\":1}".to_vec()).unwrap_err();
        assert!(error.starts_with("not a safetensors file"), "{error}");
    }
}
