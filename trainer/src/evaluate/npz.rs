//! Arrays in npz files, as numpy reads and writes them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ebm_common::files::AtomicFile;
use ndarray::{ArrayD, OwnedRepr};
use ndarray_npy::{NpzReader, NpzWriter, ReadNpyError, ReadNpyExt, ReadNpzError, ReadableElement};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// The types of arrays that are read.
const TYPES: &str =
    "expected numbers of type f32, f64, uint8 or int64: convert it with numpy's astype";

/// The most bytes of an array that is written. More would need another form of zip files.
pub const MAX_BYTES: u64 = u32::MAX as u64 - (1 << 16);

/// Writes arrays of f32, f64 or int64 under a temporary name in the same folder, and renames the file.
///
/// # Errors
/// The system refused, or the file would hold more than 4 GiB in one array; nothing is left behind.
pub fn write(path: &Path, arrays: &[(&str, &Tensor)]) -> Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let file = AtomicFile::create(path).with_context(failed)?;
    let mut npz = NpzWriter::new(file);
    for (name, tensor) in arrays {
        match tensor.kind() {
            Kind::Float => npz.add_array(*name, &array::<f32>(tensor)?)?,
            Kind::Double => npz.add_array(*name, &array::<f64>(tensor)?)?,
            Kind::Int64 => npz.add_array(*name, &array::<i64>(tensor)?)?,
            kind => bail!("array {name:?} is of kind {kind:?}, expected f32, f64 or int64"),
        }
    }
    npz.finish()?.commit().with_context(failed)
}

fn array<T: Element + Copy>(tensor: &Tensor) -> Result<ArrayD<T>> {
    let shape: Vec<usize> = tensor.size().iter().map(|&size| size as usize).collect();
    let flat = tensor
        .detach()
        .to_device(Device::Cpu)
        .contiguous()
        .view([-1]);
    Ok(ArrayD::from_shape_vec(shape, Vec::<T>::try_from(flat)?)?)
}

/// An npz file that is there.
pub struct Npz {
    path: PathBuf,
    reader: NpzReader<BufReader<File>>,
}

impl Npz {
    /// Opens a file.
    ///
    /// # Errors
    /// It is not there, or is not an npz file.
    pub fn open(path: &Path) -> Result<Npz> {
        let reading = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(reading)?;
        let reader = NpzReader::new(BufReader::new(file))
            .with_context(|| format!("{} is not an intact npz (zip) file", path.display()))?;
        Ok(Npz {
            path: path.to_path_buf(),
            reader,
        })
    }

    /// The names of its arrays.
    pub fn names(&mut self) -> Result<Vec<String>> {
        let damaged = || format!("{} is damaged", self.path.display());
        self.reader.names().with_context(damaged)
    }

    /// One array, of f32, f64, uint8 or int64.
    ///
    /// # Errors
    /// There is none of this name, its numbers are of another type, or the file is damaged.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let path = self.path.display().to_string();
        let mut names = self.names()?;
        if !names.iter().any(|own| own == name) {
            names.sort();
            bail!("{path} has no array {name:?}, only {names:?}");
        }
        let readers: [Reader; 4] = [
            Npz::read::<f32>,
            Npz::read::<f64>,
            Npz::read::<u8>,
            Npz::read::<i64>,
        ];
        for read in readers {
            match read(self, name) {
                Err(error) if is_of_another_type(&error) => {}
                tensor => {
                    return tensor
                        .with_context(|| format!("array {name:?} of {path} cannot be read"));
                }
            }
        }
        bail!("array {name:?} of {path}: {TYPES}")
    }

    fn read<T: ReadableElement + Element + Clone>(
        &mut self,
        name: &str,
    ) -> Result<Tensor, ReadNpzError> {
        Ok(tensor(
            self.reader.by_name::<OwnedRepr<T>, ndarray::IxDyn>(name)?,
        ))
    }
}

/// Reads an array of numbers of one type.
type Reader = fn(&mut Npz, &str) -> Result<Tensor, ReadNpzError>;

fn is_of_another_type(error: &ReadNpzError) -> bool {
    matches!(error, ReadNpzError::Npy(ReadNpyError::WrongDescriptor(_)))
}

/// Whether a file begins as an npy file, which holds one array.
pub fn is_npy(path: &Path) -> bool {
    let mut start = [0; 6];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *b"\x93NUMPY"
}

/// The array of an npy file, of f32, f64, uint8 or int64.
///
/// # Errors
/// Its numbers are of another type, or the file is damaged.
pub fn read_npy(path: &Path) -> Result<Tensor> {
    type Read = fn(&Path) -> Result<Tensor, ReadNpyError>;
    fn read<T: ReadableElement + Element + Clone>(path: &Path) -> Result<Tensor, ReadNpyError> {
        Ok(tensor::<T>(ArrayD::read_npy(BufReader::new(File::open(
            path,
        )?))?))
    }
    let readers: [Read; 4] = [read::<f32>, read::<f64>, read::<u8>, read::<i64>];
    for read in readers {
        match read(path) {
            Err(ReadNpyError::WrongDescriptor(_)) => {}
            tensor => return tensor.with_context(|| format!("{} cannot be read", path.display())),
        }
    }
    bail!("{}: {TYPES}", path.display())
}

fn tensor<T: Element + Clone>(array: ArrayD<T>) -> Tensor {
    let shape: Vec<i64> = array.shape().iter().map(|&size| size as i64).collect();
    let array = array.as_standard_layout();
    Tensor::from_slice(array.as_slice().unwrap_or_default()).view(shape.as_slice())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn arrays_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let whole = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([2, 3, 4]);
        let arrays = [
            ("turned", whole.transpose(0, 2)),
            ("double", whole.to_kind(Kind::Double) + 0.1),
            ("number", Tensor::from(7i64)),
        ];
        let named: Vec<(&str, &Tensor)> = arrays.iter().map(|(name, a)| (*name, a)).collect();
        write(&path, &named).unwrap();
        let mut npz = Npz::open(&path).unwrap();
        for (name, wanted) in &arrays {
            let got = npz.tensor(name).unwrap();
            assert_eq!((got.size(), got.kind()), (wanted.size(), wanted.kind()));
            assert!(got.equal(wanted), "{name}");
        }
        let error = npz.tensor("other").unwrap_err().to_string();
        assert!(
            error.contains(r#"["double", "number", "turned"]"#),
            "{error}"
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        write(&path, &[("a", &Tensor::from_slice(&[1.0f32; 100]))]).unwrap();
        let bytes = fs::read(&path).unwrap();
        for length in (0..bytes.len()).step_by(7) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                Npz::open(&path)
                    .and_then(|mut npz| npz.tensor("a"))
                    .is_err()
            );
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0xff;
            fs::write(&path, &changed).unwrap();
            // Whatever comes out, nothing panics.
            let _ = Npz::open(&path).and_then(|mut npz| npz.tensor("a"));
        }
    }
}
