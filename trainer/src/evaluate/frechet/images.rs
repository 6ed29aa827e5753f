//! Images to compare, wherever they lie.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ebm_common::FloatRange;
use ebm_common::contract::ImageShape;
use tch::{Kind, Tensor};

use crate::data;
use crate::evaluate::npz::{self, Npz};
use crate::evaluate::sampling::IMAGES;

/// Numbers of channels that images have; an axis of that length is taken for theirs.
const CHANNELS: [i64; 2] = [1, 3];
/// Which share of a range rounding may lead out of it.
const SLACK: f64 = 5e-4;

/// What the user says of the values of floating-point arrays, and the option that says it.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// Their range, if it is said.
    pub range: Option<FloatRange>,
    /// For example `--samples-range`.
    pub option: &'static str,
}

impl Meaning {
    /// Refuses a range for images whose range is known.
    pub fn expect_none(&self, path: &Path) -> Result<()> {
        ensure!(
            self.range.is_none(),
            "{}: {} is not an npy or npz file of floating-point numbers, so that its range is known: leave the option out",
            self.option,
            path.display()
        );
        Ok(())
    }

    /// f32 in `[-1, 1]` of an array of a file, which bytes stay; says which range was taken.
    fn apply(&self, array: Tensor, path: &Path) -> Result<Tensor> {
        if !matches!(array.kind(), Kind::Float | Kind::Double) {
            self.expect_none(path)?;
            return Ok(array);
        }
        let [low, high] = self.range.unwrap_or_default().ends().map(f64::from);
        let [least, most] = [array.f_min()?, array.f_max()?].map(|value| value.double_value(&[]));
        let (path, option) = (path.display(), self.option);
        let slack = SLACK * (high - low);
        let outside = [least, most]
            .into_iter()
            .find(|value| !(low - slack..=high + slack).contains(value));
        if let Some(value) = outside {
            bail!(
                "expected uint8, or values from {low} to {high}, got {value}: say their range with {option} LOW,HIGH"
            );
        }
        note!("{path}: values from {low} to {high} ({option})");
        if self.range.is_none() && least >= 0.0 {
            warning!(
                "{path}: no value is below 0, so that they may be meant from 0 to 1, as torchvision's ToTensor makes them: \
                 then give {option} 0,1 (or {option}=-1,1 to say that they are not)"
            );
        }
        let array = array.f_to_kind(Kind::Float)?;
        match self.range {
            None => Ok(array),
            Some(_) => Ok((array - low) * (2.0 / (high - low)) - 1.0),
        }
    }
}

/// Images in the order in which they lie.
#[derive(Debug)]
pub enum ImageSet {
    /// In memory: f32 `[N, C, H, W]` in `[-1, 1]`, or uint8.
    Array(Tensor),
    /// Images of a data set, or pictures of one size.
    Data(data::Images),
}

impl ImageSet {
    /// The images of an npy file, or those of an npz file: the array `images`, or the only one of rank 4; floating-point numbers or uint8,
    /// `[N, C, H, W]` or `[N, H, W, C]`.
    ///
    /// # Errors
    /// There is no such array, or a value lies outside of the range.
    pub fn of_file(path: &Path, meaning: Meaning) -> Result<ImageSet> {
        let array = match npz::is_npy(path) {
            true => npz::read_npy(path)?,
            false => array_of_images(&mut Npz::open(path)?, path)?,
        };
        let images = || ImageSet::of_array(meaning.apply(array, path)?);
        images().with_context(|| format!("the images of {}", path.display()))
    }

    /// Those of an array: f32 in `[-1, 1]` or uint8, in either order.
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
            Kind::Uint8 => Ok(ImageSet::Array(array)),
            Kind::Float => Ok(ImageSet::Array(array)),
            kind => bail!(
                "expected values of f32, f64 or uint8, got {kind:?}: convert them with numpy's astype"
            ),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        match self {
            ImageSet::Array(array) => array.size()[0] as usize,
            ImageSet::Data(images) => images.len(),
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
        }
    }

    /// `n` images from one on, f32 `[n, C, H, W]` in `[-1, 1]`.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tch::Device;

    use super::*;
    use crate::draw::sheet::Block;

    const CPU: Device = Device::Cpu;
    const UNSAID: Meaning = Meaning {
        range: None,
        option: "--samples-range",
    };

    #[test]
    fn floating_point_numbers_mean_what_is_said_or_minus_one_to_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let said = |text: &str| Meaning {
            range: Some(text.parse().unwrap()),
            ..UNSAID
        };
        for (values, kind, meaning, wanted) in [
            ([-1.0f64, 1.0], Kind::Float, UNSAID, Ok([-1.0f64, 1.0])),
            ([0.0, 1.0], Kind::Float, UNSAID, Ok([0.0, 1.0])),
            ([0.0, 1.0], Kind::Float, said("0,1"), Ok([-1.0, 1.0])),
            ([0.25, 1.0], Kind::Double, said("0,1"), Ok([-0.5, 1.0])),
            ([0.0, 255.0], Kind::Float, said("0,255"), Ok([-1.0, 1.0])),
            ([0.0, 1.0], Kind::Float, said("-1,1"), Ok([0.0, 1.0])),
            (
                [0.0, 255.0],
                Kind::Float,
                UNSAID,
                Err("from -1 to 1, got 255"),
            ),
            (
                [-1.0, 1.0],
                Kind::Float,
                said("0,1"),
                Err("from 0 to 1, got -1"),
            ),
            ([0.0, f64::NAN], Kind::Float, UNSAID, Err("got NaN")),
            ([0.0, 255.0], Kind::Int64, UNSAID, Err("f32, f64 or uint8")),
            (
                [0.0, 255.0],
                Kind::Int64,
                said("0,1"),
                Err("leave the option out"),
            ),
        ] {
            let array = Tensor::from_slice(&values).to_kind(kind).view([2, 1, 1, 1]);
            npz::write(&path, &[("images", &array)]).unwrap();
            match (ImageSet::of_file(&path, meaning), wanted) {
                (Ok(set), Ok(wanted)) => {
                    let got = Vec::<f64>::try_from(
                        set.batch(0, 2)
                            .unwrap()
                            .to_kind(Kind::Double)
                            .flatten(0, -1),
                    );
                    assert_eq!(got.unwrap(), wanted, "{values:?} {kind:?} {meaning:?}");
                }
                (Err(error), Err(wanted)) => {
                    let error = format!("{error:#}");
                    assert!(error.contains(wanted), "expected {wanted:?} in: {error}");
                }
                (got, wanted) => panic!("{got:?} {wanted:?}"),
            }
        }
    }

    #[test]
    fn an_npy_file_is_one_array() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let array = ndarray::ArrayD::<u8>::from_elem(vec![3, 4, 4, 1], 255);
        ndarray_npy::write_npy(&path, &array).unwrap();
        let set = ImageSet::of_file(&path, UNSAID).unwrap();
        assert_eq!((set.len(), set.shape().channels), (3, 1));
        assert_eq!(set.batch(2, 1).unwrap().min().double_value(&[]), 1.0);
        ndarray_npy::write_npy(&path, &array.mapv(u16::from)).unwrap();
        let error = format!("{:#}", ImageSet::of_file(&path, UNSAID).unwrap_err());
        assert!(error.contains("astype"), "{error}");
        fs::write(&path, b"\x93NUMPY\x01").unwrap();
        assert!(ImageSet::of_file(&path, UNSAID).is_err());
    }

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
            (
                floats(&[2, 1, 4, 4], 0.0).to_kind(Kind::Int64),
                "f32, f64 or uint8",
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
            match (ImageSet::of_file(&path, UNSAID), wanted) {
                (Ok(set), Ok(n)) => assert_eq!(set.len(), n),
                (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted)),
                (got, wanted) => panic!("{got:?} {wanted:?}"),
            }
        }
    }

    #[test]
    fn pictures_of_a_folder_are_of_one_size() {
        let folder = tempfile::tempdir().unwrap();
        let error = data::pictures_of_one_size(folder.path())
            .map(ImageSet::Data)
            .unwrap_err();
        assert!(error.to_string().contains("found none of these"));
        let write = |name: &str, n: i64| {
            let images = Tensor::ones([n, 1, 48, 48], (Kind::Float, CPU));
            let picture = Block::new("", images).picture().unwrap();
            fs::write(folder.path().join(name), picture.png).unwrap();
        };
        write("b.png", 1);
        write("a.PNG", 1);
        fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
        let set = data::pictures_of_one_size(folder.path())
            .map(ImageSet::Data)
            .unwrap();
        assert_eq!((set.len(), set.shape().channels), (2, 3));
        assert_eq!(set.batch(1, 1).unwrap().max().double_value(&[]), 1.0);
        write("c.png", 9);
        let error = data::pictures_of_one_size(folder.path())
            .map(ImageSet::Data)
            .unwrap_err()
            .to_string();
        assert!(error.contains("c.png: expected a picture like the first"));
        fs::remove_file(folder.path().join("c.png")).unwrap();
        let size = (set.shape().width as u32, set.shape().height as u32);
        let red = image::RgbImage::from_pixel(size.0, size.1, image::Rgb([255, 0, 0]));
        fs::create_dir_all(folder.path().join("class/deep")).unwrap();
        red.save(folder.path().join("class/deep/0.webp")).unwrap();
        red.save(folder.path().join("._0.png")).unwrap();
        fs::write(folder.path().join("0.jpeg"), "nothing").unwrap();
        let set = data::pictures_of_one_size(folder.path())
            .map(ImageSet::Data)
            .unwrap();
        assert_eq!((set.len(), set.shape().channels), (3, 3));
        let means = set
            .batch(0, 3)
            .unwrap()
            .mean_dim([2i64, 3].as_slice(), false, Kind::Float);
        assert!(
            means
                .get(2)
                .equal(&Tensor::from_slice(&[1.0f32, -1.0, -1.0]))
        );
        for name in ["a.PNG", "b.png", "class/deep/0.webp"] {
            fs::write(folder.path().join(name), "nothing").unwrap();
        }
        let error = data::pictures_of_one_size(folder.path())
            .map(ImageSet::Data)
            .unwrap_err()
            .to_string();
        assert!(error.contains("all 4 pictures are damaged"), "{error}");
    }
}
