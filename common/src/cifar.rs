//! CIFAR's binary batches: for each image its labels, one byte each, then 3,072 bytes in planes of red, green and blue.
//!
//! Source: Krizhevsky, *Learning multiple layers of features from tiny images*, 2009; <https://www.cs.toronto.edu/~kriz/cifar.html>

use crate::contract::ImageShape;

/// The shape of every image.
pub const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// One of the two data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cifar {
    /// CIFAR-10.
    Ten,
    /// CIFAR-100.
    Hundred,
}

impl Cifar {
    /// The number of classes for each label of an image: of CIFAR-100 the coarse label comes first, then the fine one.
    pub fn n_classes(self) -> &'static [u8] {
        match self {
            Self::Ten => &[10],
            Self::Hundred => &[20, 100],
        }
    }

    /// The bytes of an image with its labels.
    pub fn n_record_bytes(self) -> usize {
        self.n_classes().len() + SHAPE.n_values()
    }

    /// The data set that a file of this length is of, if it is of one. Its first labels are looked at with `byte_at`.
    ///
    /// # Errors
    /// Those of `byte_at`.
    pub fn of_file<E>(
        n_bytes: u64,
        byte_at: impl Fn(u64) -> Result<u8, E>,
    ) -> Result<Option<Self>, E> {
        const N_TRIED: u64 = 64;
        for cifar in [Self::Ten, Self::Hundred] {
            let n_record_bytes = cifar.n_record_bytes() as u64;
            let n_records = n_bytes / n_record_bytes;
            let mut fits = n_bytes > 0 && n_bytes.is_multiple_of(n_record_bytes);
            for record in 0..n_records.min(N_TRIED) {
                for (place, n_classes) in (0..).zip(cifar.n_classes()) {
                    fits = fits && byte_at(record * n_record_bytes + place)? < *n_classes;
                }
            }
            if fits {
                return Ok(Some(cifar));
            }
        }
        Ok(None)
    }
}
