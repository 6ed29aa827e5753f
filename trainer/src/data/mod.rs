//! Data sets: images as bytes, converted to f32 in `[-1, 1]` where a batch is drawn.

mod cifar;
mod digits;
mod error;
mod idx;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use ebm_export::contract::ImageShape;
use flate2::read::MultiGzDecoder;
use tch::{Device, Kind, Tensor};

pub use error::Error;

use crate::config::{DataConfig, Mirror, Source};
use crate::network::bytes;
use crate::randomness;

/// Images with their labels.
#[derive(Debug)]
pub struct Images {
    /// uint8 `[N, C, H, W]`, 0 is the background.
    pixels: Tensor,
    /// int64 `[N]`.
    labels: Tensor,
    /// The grey value that means 1.
    brightest: u8,
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Images and labels at some indices (int64 `[n]`): f32 `[n, C, H, W]` in `[-1, 1]` and int64 `[n]`, on the CPU.
    ///
    /// This is the one place where bytes become pixel values.
    pub fn batch(&self, indices: &Tensor) -> (Tensor, Tensor) {
        let pixels = self.pixels.index_select(0, indices).to_kind(Kind::Float);
        (
            pixels * (2.0 / f64::from(self.brightest)) - 1.0,
            self.labels.index_select(0, indices),
        )
    }

    /// The first `n` images (or all, where there are fewer) and their labels.
    pub fn first(&self, n: usize) -> (Tensor, Tensor) {
        let n = n.min(self.len()) as i64;
        self.batch(&Tensor::arange(n, (Kind::Int64, Device::Cpu)))
    }

    /// Bytes of images and labels.
    pub fn bytes(&self) -> u64 {
        bytes([&self.pixels, &self.labels])
    }

    /// Channels, height and width.
    pub fn shape(&self) -> ImageShape {
        let size = self.pixels.size();
        ImageShape {
            channels: size[1] as usize,
            height: size[2] as usize,
            width: size[3] as usize,
        }
    }

    /// `n` images of random pixels, all of class 0.
    pub fn random(shape: ImageShape, n: usize) -> Images {
        let size = [n, shape.channels, shape.height, shape.width].map(|size| size as i64);
        Images {
            pixels: Tensor::randint(256, size, (Kind::Uint8, Device::Cpu)),
            labels: Tensor::zeros([n as i64], (Kind::Int64, Device::Cpu)),
            brightest: u8::MAX,
        }
    }

    fn new(pixels: Vec<u8>, shape: ImageShape, labels: &[u8], brightest: u8) -> Images {
        let size = [
            labels.len() as i64,
            shape.channels as i64,
            shape.height as i64,
            shape.width as i64,
        ];
        Images {
            pixels: Tensor::from_slice(&pixels).view(size),
            labels: Tensor::from_slice(labels).to_kind(Kind::Int64),
            brightest,
        }
    }

    fn padded(self, padding: usize) -> Images {
        let sides = [padding as i64; 4];
        Images {
            pixels: self.pixels.constant_pad_nd(sides),
            ..self
        }
    }
}

/// A data set, split for training and testing.
#[derive(Debug)]
pub struct Dataset {
    /// What is learned from.
    pub train: Images,
    /// What is never learned from.
    pub test: Images,
    /// Labels are below it.
    pub n_classes: usize,
}

impl Dataset {
    /// Bytes of all images and labels.
    pub fn bytes(&self) -> u64 {
        self.train.bytes() + self.test.bytes()
    }
}

/// Reads the configured data set and checks that its images fit the network.
pub fn load(
    config: &DataConfig,
    directory: Option<&Path>,
    network: ImageShape,
) -> Result<Dataset, Error> {
    let dataset = match config.source {
        Source::Digits => digits::load(config, directory)?,
        Source::Idx => idx::load(required(directory, "idx")?, config.n_classes)?,
        Source::Cifar10 => cifar::load(required(directory, "cifar10")?)?,
        Source::Images => return Err(Error::Unsupported),
        Source::Generator => return Err(Error::NoLabels),
    };
    let dataset = Dataset {
        train: dataset.train.padded(config.padding),
        test: dataset.test.padded(config.padding),
        n_classes: dataset.n_classes,
    };
    check_shape(dataset.train.shape(), network, config.padding)?;
    check_shape(dataset.test.shape(), network, config.padding)?;
    Ok(dataset)
}

fn required<'a>(directory: Option<&'a Path>, source: &'static str) -> Result<&'a Path, Error> {
    directory.ok_or(Error::NoDirectory {
        source_name: source,
    })
}

fn check_shape(got: ImageShape, expected: ImageShape, padding: usize) -> Result<(), Error> {
    let extents = |shape: &ImageShape| [shape.channels, shape.height, shape.width];
    if extents(&got) == extents(&expected) {
        return Ok(());
    }
    Err(Error::ImageShape {
        expected: extents(&expected),
        got: extents(&got),
        padding,
    })
}

/// Shifts each image by up to `shift` pixels in each direction and mirrors half of them, as configured.
///
/// Draws from libtorch's generator, which the caller has seeded. `images` is f32 `[n, C, H, W]`.
pub fn augment(images: Tensor, config: &DataConfig) -> Tensor {
    let images = mirrored(images, config.mirror);
    if config.shift == 0 {
        return images;
    }
    let (n, _, height, width) = dimensions(&images);
    let shift = config.shift as i64;
    let padded = (images + 1.0).constant_pad_nd([shift; 4]) - 1.0;
    let offsets: Vec<i64> = i64s(&Tensor::randint(
        2 * shift + 1,
        [2 * n],
        (Kind::Int64, Device::Cpu),
    ));
    let crops: Vec<Tensor> = (0..n)
        .map(|i| {
            let (top, left) = (offsets[2 * i as usize], offsets[2 * i as usize + 1]);
            padded.get(i).narrow(1, top, height).narrow(2, left, width)
        })
        .collect();
    Tensor::stack(&crops, 0)
}

fn mirrored(images: Tensor, mirror: Mirror) -> Tensor {
    match mirror {
        Mirror::Off => images,
        Mirror::Half => {
            let n = images.size()[0];
            let flipped = images.flip([3]);
            let pick = Tensor::rand([n, 1, 1, 1], (Kind::Float, Device::Cpu)).lt(0.5);
            flipped.where_self(&pick, &images)
        }
    }
}

fn dimensions(images: &Tensor) -> (i64, i64, i64, i64) {
    let size = images.size();
    (size[0], size[1], size[2], size[3])
}

/// The elements of an int64 tensor.
fn i64s(tensor: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(tensor.flatten(0, -1)).unwrap_or_default()
}

/// Visits the training images in a fresh order each epoch; which images an update gets follows from its number alone.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    n_images: usize,
    epoch: Option<(u64, Vec<i64>)>,
}

impl Order {
    /// An order of `n_images` images.
    pub fn new(seed: u64, n_images: usize) -> Order {
        Order {
            seed,
            n_images,
            epoch: None,
        }
    }

    /// The indices that an update uses, int64 `[batch]`.
    pub fn batch(&mut self, update: u64, batch: usize) -> Tensor {
        let first = update * batch as u64;
        let indices: Vec<i64> = (first..first + batch as u64)
            .map(|position| self.at(position))
            .collect();
        randomness::index(&indices)
    }

    fn at(&mut self, position: u64) -> i64 {
        let (epoch, within) = (
            position / self.n_images as u64,
            (position % self.n_images as u64) as usize,
        );
        if self
            .epoch
            .as_ref()
            .is_none_or(|(current, _)| *current != epoch)
        {
            let seed = randomness::derive(self.seed, epoch, randomness::Purpose::Order);
            self.epoch = Some((epoch, randomness::permutation(self.n_images, seed)));
        }
        self.epoch.as_ref().map_or(0, |(_, order)| order[within])
    }
}

/// The first of the paths that exists.
fn find(directory: &Path, candidates: &[String]) -> Result<PathBuf, Error> {
    candidates
        .iter()
        .map(|name| directory.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Missing {
            directory: directory.to_path_buf(),
            candidates: candidates.join(", "),
        })
}

/// The content of a file, unpacked where it is gzip.
fn read_unpacked(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path).map_err(|source| Error::Unreadable {
        file: path.to_path_buf(),
        source,
    })?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        unpack(path, &bytes)
    } else {
        Ok(bytes)
    }
}

fn unpack(path: &Path, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(bytes)
        .read_to_end(&mut unpacked)
        .map_err(|source| Error::Gzip {
            file: path.to_path_buf(),
            source,
        })?;
    Ok(unpacked)
}

fn check_labels(path: &Path, labels: &[u8], n_classes: usize) -> Result<(), Error> {
    match labels
        .iter()
        .position(|&label| usize::from(label) >= n_classes)
    {
        Some(row) => Err(Error::Label {
            file: path.to_path_buf(),
            row,
            label: labels[row],
            n_classes,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_each_image_once_and_the_next_in_another_order() {
        let mut order = Order::new(3, 10);
        let first: Vec<i64> = (0..5)
            .flat_map(|update| i64s(&order.batch(update, 2)))
            .collect();
        let second: Vec<i64> = (5..10)
            .flat_map(|update| i64s(&order.batch(update, 2)))
            .collect();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<i64>>());
        assert_ne!(first, second);
        assert_eq!(i64s(&Order::new(3, 10).batch(4, 2)), first[8..]);
    }

    #[test]
    fn bytes_become_values_between_minus_one_and_one_and_padding_is_background() {
        let shape = ImageShape {
            channels: 1,
            height: 1,
            width: 2,
        };
        let images = Images::new(vec![0, 16], shape, &[7], 16).padded(1);
        let (batch, labels) = images.first(5);
        assert_eq!(batch.size(), [1, 1, 3, 4]);
        let values = Vec::<f32>::try_from(batch.flatten(0, -1)).unwrap();
        assert_eq!(values[5..7], [-1.0, 1.0]);
        assert_eq!(values[0], -1.0);
        assert_eq!(i64s(&labels), [7]);
    }

    #[test]
    fn a_shift_moves_the_image_and_fills_with_background() {
        tch::manual_seed(1);
        let config = DataConfig {
            shift: 1,
            ..DataConfig::digits_for_tests()
        };
        let shifted = augment(
            Tensor::ones([50, 1, 3, 3], (Kind::Float, Device::Cpu)),
            &config,
        );
        assert_eq!(shifted.size(), [50, 1, 3, 3]);
        assert_eq!(
            shifted.select(2, 1).select(2, 1).min().double_value(&[]),
            1.0
        );
        assert_eq!(shifted.min().double_value(&[]), -1.0);
    }
}
