//! Images that are in memory as bytes.

use ebm_common::contract::ImageShape;
use tch::{Device, Kind, Tensor};

use super::fingerprint::{Hash, Print};
use super::order::Pick;
use super::values;
use crate::machine::randomness::{self, seeded};
use crate::network::bytes;

/// Images with their labels.
#[derive(Debug)]
pub(super) struct Stored {
    /// uint8 `[N, C, H, W]`, 0 is the background.
    pub(super) pixels: Tensor,
    /// int64 `[N]`.
    labels: Tensor,
    /// The grey value that means 1.
    brightest: u8,
}

/// Images for training and for testing.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) train: Stored,
    pub(super) test: Stored,
}

impl Stored {
    pub(super) fn new(pixels: Vec<u8>, shape: ImageShape, labels: &[u8], brightest: u8) -> Stored {
        let [channels, height, width] = shape.dimensions();
        let size = [labels.len(), channels, height, width].map(|size| size as i64);
        Stored {
            pixels: Tensor::from_slice(&pixels).view(size),
            labels: Tensor::from_slice(labels).to_kind(Kind::Int64),
            brightest,
        }
    }

    /// `n` images of random pixels, all of class 0.
    pub(super) fn random(shape: ImageShape, n: usize) -> Stored {
        let _draws = seeded(n as u64);
        let size = [n, shape.channels, shape.height, shape.width].map(|size| size as i64);
        Stored {
            pixels: Tensor::randint(256, size, (Kind::Uint8, Device::Cpu)),
            labels: Tensor::zeros([n as i64], (Kind::Int64, Device::Cpu)),
            brightest: u8::MAX,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.labels.size()[0] as usize
    }

    /// Bytes of images and labels.
    pub(super) fn bytes(&self) -> u64 {
        bytes([&self.pixels, &self.labels])
    }

    pub(super) fn shape(&self) -> ImageShape {
        let size = self.pixels.size();
        ImageShape {
            channels: size[1] as usize,
            height: size[2] as usize,
            width: size[3] as usize,
        }
    }

    pub(super) fn padded(self, padding: usize) -> Stored {
        let sides = [padding as i64; 4];
        Stored {
            pixels: self.pixels.constant_pad_nd(sides),
            ..self
        }
    }

    /// f32 `[n, C, H, W]` in `[-1, 1]` and int64 `[n]`.
    pub(super) fn batch(&self, picks: &[Pick]) -> (Tensor, Tensor) {
        let indices: Vec<i64> = picks.iter().map(|pick| pick.index as i64).collect();
        let indices = randomness::index(&indices);
        (
            values(&self.pixels.index_select(0, &indices), self.brightest),
            self.labels.index_select(0, &indices),
        )
    }

    /// The fingerprint: of content and labels.
    pub(super) fn print(&self) -> Print {
        let (mut content, mut labels) = (Hash::default(), Hash::default());
        content.add(&Vec::<u8>::try_from(self.pixels.flatten(0, -1)).unwrap_or_default());
        for label in Vec::<i64>::try_from(&self.labels).unwrap_or_default() {
            labels.add(&label.to_le_bytes());
        }
        Print {
            n_images: self.len(),
            labels: labels.finish(),
            names: None,
            sizes: None,
            content: Some(content.finish()),
        }
    }

    /// The grey value that means 1.
    pub(super) fn brightest(&self) -> u8 {
        self.brightest
    }

    /// The bytes of an image, `[C, H, W]`, and its label.
    pub(super) fn raw(&self, index: usize) -> (Vec<u8>, i64) {
        let pixels = self.pixels.get(index as i64).flatten(0, -1);
        (
            Vec::<u8>::try_from(pixels).unwrap_or_default(),
            self.labels.int64_value(&[index as i64]),
        )
    }
}
