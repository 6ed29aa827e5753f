//! Images to compare, wherever they lie.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ebm_export::contract::ImageShape;
use tch::{Kind, Tensor};

use crate::data;
use crate::npz::Npz;
use crate::sampling::IMAGES;

/// Numbers of channels that images have; an axis of that length is taken for theirs.
const CHANNELS: [i64; 2] = [1, 3];
/// How far outside of `[-1, 1]` rounding may lead.
const SLACK: f64 = 1e-3;

/// Images in the order in which they lie.
#[derive(Debug)]
pub enum ImageSet {
    /// In memory: f32 `[N, C, H, W]` in `[-1, 1]`, or uint8.
    Array(Tensor),
    /// Training images of a data set.
    Data(data::Images),
    /// Pictures of one size, read when they are needed.
    Pictures {
        /// Their files.
        files: Vec<PathBuf>,
        /// Their extents.
        shape: ImageShape,
    },
}

impl ImageSet {
    /// The images of an npz file: the array `images`, or the only one of rank 4; f32 in `[-1, 1]` or uint8, `[N, C, H, W]` or
    /// `[N, H, W, C]`.
    ///
    /// # Errors
    /// There is no such array.
    pub fn of_npz(path: &Path) -> Result<ImageSet> {
        let mut npz = Npz::open(path)?;
        let array = array_of_images(&mut npz, path)?;
        ImageSet::of_array(array).with_context(|| format!("the images of {}", path.display()))
    }

    /// Those of an array, as for [`ImageSet::of_npz`].
    ///
    /// # Errors
    /// It holds no images.
    pub fn of_array(array: Tensor) -> Result<ImageSet> {
        let size = array.size();
        let array = match size[..] {
            [_, channels, _, _] if CHANNELS.contains(&channels) => array,
            [_, _, _, channels] if CHANNELS.contains(&channels) => {
                array.f_permute([0i64, 3, 1, 2])?.f_contiguous()?
            }
            _ => bail!("expected [N, C, H, W] or [N, H, W, C] of 1 or 3 channels, got {size:?}"),
        };
        ensure!(array.numel() > 0, "expected images, got none: {size:?}");
        match array.kind() {
            Kind::Uint8 => return Ok(ImageSet::Array(array)),
            Kind::Float | Kind::Double => {}
            kind => bail!("expected values of f32 or uint8, got {kind:?}"),
        }
        let largest = array.f_abs()?.f_max()?.double_value(&[]);
        ensure!(
            largest <= 1.0 + SLACK,
            "expected uint8, or values from -1 to 1, got {largest}"
        );
        Ok(ImageSet::Array(array.f_to_kind(Kind::Float)?))
    }

    /// The pictures of a folder (PNG, JPEG, WebP), by their names.
    ///
    /// # Errors
    /// There are none, or they are of different sizes.
    pub fn of_folder(path: &Path) -> Result<ImageSet> {
        let entries =
            fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| data::ends_in(file, data::EXTENSIONS))
            .collect();
        files.sort();
        let Some(first) = files.first() else {
            bail!(
                "{}: expected a run, what `trainer sample` wrote, or pictures (PNG, JPEG, WebP), found none of these",
                path.display()
            );
        };
        let shape = picture(first)?.size();
        Ok(ImageSet::Pictures {
            shape: ImageShape {
                channels: shape[0] as usize,
                height: shape[1] as usize,
                width: shape[2] as usize,
            },
            files,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            ImageSet::Array(array) => array.size()[0] as usize,
            ImageSet::Data(images) => images.len(),
            ImageSet::Pictures { files, .. } => files.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their extents.
    pub fn shape(&self) -> ImageShape {
        match self {
            ImageSet::Array(array) => {
                let size = array.size();
                ImageShape {
                    channels: size[1] as usize,
                    height: size[2] as usize,
                    width: size[3] as usize,
                }
            }
            ImageSet::Data(images) => images.shape(),
            ImageSet::Pictures { shape, .. } => *shape,
        }
    }

    /// `n` images from one on, f32 `[n, C, H, W]` in `[-1, 1]`.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn batch(&self, first: usize, n: usize) -> Result<Tensor> {
        match self {
            ImageSet::Array(array) => {
                let images = array.f_narrow(0, first as i64, n as i64)?;
                match images.kind() {
                    Kind::Uint8 => Ok(data::values(&images, u8::MAX)),
                    _ => Ok(images),
                }
            }
            ImageSet::Data(images) => Ok(images.range(first..first + n)?.0),
            ImageSet::Pictures { files, shape } => {
                let pictures = files[first..first + n].iter().map(|file| {
                    let picture = picture(file)?;
                    let size = picture.size();
                    let wanted = [shape.channels, shape.height, shape.width];
                    ensure!(
                        size == wanted.map(|size| size as i64),
                        "{}: expected a picture like the first, {wanted:?}, got {size:?}",
                        file.display()
                    );
                    Ok(picture)
                });
                let pictures = pictures.collect::<Result<Vec<Tensor>>>()?;
                Ok(data::values(&Tensor::f_stack(&pictures, 0)?, u8::MAX))
            }
        }
    }
}

fn array_of_images(npz: &mut Npz, path: &Path) -> Result<Tensor> {
    let names = npz.names()?;
    if names.iter().any(|name| name == IMAGES) {
        return npz.tensor(IMAGES);
    }
    let mut found = Vec::new();
    for name in &names {
        let array = npz.tensor(name);
        found.extend(array.ok().filter(|array| array.dim() == 4));
    }
    match found.len() {
        1 => Ok(found.swap_remove(0)),
        n => bail!(
            "{}: expected an array \"images\" or one of rank 4, got {n} of rank 4 among {names:?}",
            path.display()
        ),
    }
}

/// A picture as bytes, uint8 `[C, H, W]`; grey ones have one channel.
fn picture(file: &Path) -> Result<Tensor> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let picture = data::decoded(&bytes).map_err(|why| anyhow!("{} {why}", file.display()))?;
    let (width, height) = (i64::from(picture.width()), i64::from(picture.height()));
    let (bytes, channels) = match picture.color().has_color() {
        true => (picture.into_rgb8().into_raw(), 3),
        false => (picture.into_luma8().into_raw(), 1),
    };
    let picture = Tensor::from_slice(&bytes).f_view([height, width, channels])?;
    Ok(picture.f_permute([2i64, 0, 1])?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::npz;
    use crate::report::Block;

    const CPU: Device = Device::Cpu;

    fn refusal(array: Tensor) -> String {
        ImageSet::of_array(array).unwrap_err().to_string()
    }

    #[test]
    fn arrays_are_images_in_either_order() {
        let bytes = Tensor::from_slice(&[0u8, 255]).view([2, 1, 1, 1]);
        for array in [
            bytes.expand([2, 3, 4, 4], false),
            bytes.expand([2, 4, 4, 3], false),
        ] {
            let set = ImageSet::of_array(array).unwrap();
            let shape = set.shape();
            assert_eq!((set.len(), shape.channels, shape.height), (2, 3, 4));
            let last = set.batch(1, 1).unwrap();
            assert_eq!(last.size(), [1, 3, 4, 4]);
            assert_eq!(last.min().double_value(&[]), 1.0);
            assert_eq!(set.batch(0, 1).unwrap().max().double_value(&[]), -1.0);
        }
    }

    #[test]
    fn what_is_no_array_of_images_is_refused() {
        let floats = |size: &[i64], value: f64| Tensor::full(size, value, (Kind::Float, CPU));
        for (array, wanted) in [
            (floats(&[2, 3, 4], 0.0), "expected [N, C, H, W] or"),
            (floats(&[2, 5, 4, 4], 0.0), "of 1 or 3 channels"),
            (floats(&[0, 1, 4, 4], 0.0), "expected images, got none"),
            (floats(&[2, 1, 4, 4], 255.0), "values from -1 to 1, got 255"),
            (
                floats(&[2, 1, 4, 4], 0.0).to_kind(Kind::Int64),
                "f32 or uint8",
            ),
        ] {
            let refusal = refusal(array);
            assert!(refusal.contains(wanted), "{refusal}");
        }
    }

    #[test]
    fn an_npz_file_has_one_array_of_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let images = Tensor::zeros([2, 1, 4, 4], (Kind::Float, CPU));
        let labels = Tensor::zeros([2], (Kind::Int64, CPU));
        for (arrays, wanted) in [
            (vec![("arr_0", &images), ("labels", &labels)], Ok(2)),
            (vec![("a", &images), ("images", &images)], Ok(2)),
            (vec![("a", &images), ("b", &images)], Err("got 2 of rank 4")),
            (vec![("labels", &labels)], Err("got 0 of rank 4")),
        ] {
            npz::write(&path, &arrays).unwrap();
            match (ImageSet::of_npz(&path), wanted) {
                (Ok(set), Ok(n)) => assert_eq!(set.len(), n),
                (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted)),
                (got, wanted) => panic!("{got:?} {wanted:?}"),
            }
        }
    }

    #[test]
    fn pictures_of_a_folder_are_of_one_size() {
        let folder = tempfile::tempdir().unwrap();
        let error = ImageSet::of_folder(folder.path()).unwrap_err();
        assert!(error.to_string().contains("found none of these"));
        let write = |name: &str, n: i64| {
            let images = Tensor::ones([n, 1, 48, 48], (Kind::Float, CPU));
            let picture = Block::new("", images).picture().unwrap();
            fs::write(folder.path().join(name), picture.png).unwrap();
        };
        write("b.png", 1);
        write("a.PNG", 1);
        fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
        let set = ImageSet::of_folder(folder.path()).unwrap();
        assert_eq!((set.len(), set.shape().channels), (2, 3));
        assert_eq!(set.batch(1, 1).unwrap().max().double_value(&[]), 1.0);
        write("c.png", 9);
        let set = ImageSet::of_folder(folder.path()).unwrap();
        let error = set.batch(0, 3).unwrap_err().to_string();
        assert!(error.contains("c.png: expected a picture like the first"));
        let white = image::GrayImage::from_pixel(48, 48, image::Luma([255]));
        white.save(folder.path().join("0.jpeg")).unwrap();
        let set = ImageSet::of_folder(folder.path()).unwrap();
        assert_eq!((set.len(), set.shape().channels), (4, 1));
        assert!(set.batch(0, 1).unwrap().min().double_value(&[]) > 0.95);
        fs::write(folder.path().join("0.jpeg"), "nothing").unwrap();
        let error = ImageSet::of_folder(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("0.jpeg is no PNG, JPEG or WebP picture"),
            "{error}"
        );
    }
}
