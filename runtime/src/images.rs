//! Batches of images.

use ebm_common::pixel;
use ndarray::{Array4, Axis, s};

use crate::contract::ImageShape;
use crate::error::{Error, ErrorKind, Result};

/// N images of one shape: f32 `[N, C, H, W]` in memory order, pixels in `[-1, 1]`.
///
/// Values outside the range are allowed, as Langevin dynamics makes them; they are clamped when they become bytes.
///
/// ```
/// use ebm_runtime::{ImageShape, Images};
///
/// # fn main() -> ebm_runtime::Result<()> {
/// let shape = ImageShape::new(3, 1, 2); // C, H, W
/// let images = Images::from_bytes(shape, &[0, 51, 255, 255, 255, 255])?; // H, W, C, as image files have them
/// assert_eq!(images.array()[[0, 1, 0, 0]], -0.6); // N, C, H, W
/// assert_eq!(images.to_bytes(0), [0, 51, 255, 255, 255, 255]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Images {
    pixels: Array4<f32>,
}

impl Images {
    /// Takes over an array `[N, C, H, W]`.
    pub fn from_array(pixels: Array4<f32>) -> Self {
        let pixels = if pixels.is_standard_layout() {
            pixels
        } else {
            pixels.as_standard_layout().into_owned()
        };
        Self { pixels }
    }

    /// Takes over values in the order `[N, C, H, W]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the number of values is not a multiple of the image's.
    pub fn from_vec(shape: ImageShape, values: Vec<f32>) -> Result<Self> {
        let n_images = count_images(shape, values.len())?;
        let pixels = Array4::from_shape_vec(
            (n_images, shape.channels, shape.height, shape.width),
            values,
        );
        Ok(Self {
            pixels: pixels.expect("the number of values has been checked"),
        })
    }

    /// Converts bytes in the order `[N, H, W, C]`, as image files have them: `x = v / 127.5 − 1`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the number of bytes is not a multiple of the image's.
    pub fn from_bytes(shape: ImageShape, bytes: &[u8]) -> Result<Self> {
        let n_images = count_images(shape, bytes.len())?;
        Ok(Self::of_bytes(shape, n_images, bytes))
    }

    /// Like [`Images::from_bytes`], if the number of bytes is known to be right.
    pub(crate) fn of_bytes(shape: ImageShape, n_images: usize, bytes: &[u8]) -> Self {
        let ImageShape {
            channels,
            height,
            width,
        } = shape;
        let pixels = Array4::from_shape_fn((n_images, channels, height, width), |(n, c, h, w)| {
            pixel::of_byte(bytes[((n * height + h) * width + w) * channels + c])
        });
        Self { pixels }
    }

    /// The bytes `[H, W, C]` of one image: `v = round((x + 1)·127.5)`, clamped to `[0, 255]`.
    ///
    /// # Panics
    /// If `index` is not below [`Images::len`].
    pub fn to_bytes(&self, index: usize) -> Vec<u8> {
        let image = self.pixels.index_axis(Axis(0), index);
        image
            .permuted_axes([1, 2, 0])
            .iter()
            .map(|&x| pixel::to_byte(x))
            .collect()
    }

    /// N.
    pub fn len(&self) -> usize {
        self.pixels.len_of(Axis(0))
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape `[C, H, W]` of each image.
    pub fn shape(&self) -> ImageShape {
        let (_, channels, height, width) = self.pixels.dim();
        ImageShape::new(channels, height, width)
    }

    /// The array `[N, C, H, W]`, in standard layout.
    pub fn array(&self) -> &Array4<f32> {
        &self.pixels
    }

    /// The array `[N, C, H, W]`, in standard layout.
    pub fn into_array(self) -> Array4<f32> {
        self.pixels
    }

    /// The values `[C, H, W]` of one image.
    ///
    /// # Panics
    /// If `index` is not below [`Images::len`].
    pub fn image(&self, index: usize) -> &[f32] {
        let n = self.shape().n_values();
        &self.values()[index * n..(index + 1) * n]
    }

    /// Each image with `n` more pixels of −1 (black) on every side, as `data.padding` of the trainer adds them: `[N, C, H + 2n, W + 2n]`.
    ///
    /// ```
    /// use ebm_runtime::{ImageShape, Images};
    ///
    /// # fn main() -> ebm_runtime::Result<()> {
    /// let digits = Images::from_bytes(ImageShape::new(1, 28, 28), &[255; 784])?;
    /// let padded = digits.padded(2);
    /// assert_eq!(padded.shape(), ImageShape::new(1, 32, 32));
    /// assert_eq!(padded.unpadded(2), digits);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn padded(&self, n: usize) -> Self {
        let (images, channels, height, width) = self.pixels.dim();
        let mut pixels = Array4::from_elem((images, channels, height + 2 * n, width + 2 * n), -1.0);
        pixels
            .slice_mut(s![.., .., n..n + height, n..n + width])
            .assign(&self.pixels);
        Self { pixels }
    }

    /// Each image without the `n` outermost pixels on every side: `[N, C, H − 2n, W − 2n]`. Undoes [`Images::padded`].
    ///
    /// # Panics
    /// If an image has no pixel within them.
    #[must_use]
    pub fn unpadded(&self, n: usize) -> Self {
        let ImageShape { height, width, .. } = self.shape();
        assert!(2 * n < height.min(width), "no pixel is left");
        Self::from_array(
            self.pixels
                .slice(s![.., .., n..height - n, n..width - n])
                .to_owned(),
        )
    }

    /// All images of several batches, in order.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if the batches are of different shapes, or there is none.
    pub fn concatenate(batches: &[Self]) -> Result<Self> {
        let Some(first) = batches.first() else {
            return Err(Error::new(
                ErrorKind::Shape,
                "there are no batches to put together",
            ));
        };
        if let Some(other) = batches.iter().find(|batch| batch.shape() != first.shape()) {
            return Err(Error::new(
                ErrorKind::Shape,
                "batches of different shapes cannot be put together",
            )
            .expected(first.shape())
            .but_got(other.shape()));
        }
        let values = batches
            .iter()
            .flat_map(|batch| batch.values())
            .copied()
            .collect();
        Self::from_vec(first.shape(), values)
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.pixels
            .as_slice()
            .expect("the constructors keep standard layout")
    }

    /// Returns Ok if each image has this shape and all its pixels are finite.
    pub(crate) fn check(&self, shape: ImageShape) -> Result<()> {
        if self.shape() != shape {
            return Err(
                Error::new(ErrorKind::Shape, "the images do not fit the model")
                    .expected(format!("images {shape}"))
                    .but_got(self.shape())
                    .advise("resize or convert them, or use a model for their shape"),
            );
        }
        let n = shape.n_values();
        match self.values().iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::new(
                ErrorKind::NonFinite,
                format!("image {} has a bad pixel", at / n),
            )
            .expected("finite values")
            .but_got(self.values()[at])
            .advise("leave this image out or repair its source")),
        }
    }
}

fn count_images(shape: ImageShape, n_values: usize) -> Result<usize> {
    let n = shape.n_values();
    if n > 0 && n_values.is_multiple_of(n) {
        return Ok(n_values / n);
    }
    Err(Error::new(
        ErrorKind::Shape,
        "the number of values does not make whole images",
    )
    .expected(format!("a multiple of {n} for images {shape}"))
    .but_got(n_values))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHAPE: ImageShape = ImageShape::new(3, 2, 5);

    #[test]
    fn channels_are_separated_and_interleaved_again() {
        let bytes: Vec<u8> = (0..60).collect();
        let images = Images::from_bytes(SHAPE, &bytes).unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images.array()[[1, 2, 0, 3]], pixel::of_byte(30 + 3 * 3 + 2));
        assert_eq!([images.to_bytes(0), images.to_bytes(1)].concat(), bytes);
        assert_eq!(images.image(1).len(), 30);
    }

    #[test]
    fn wrong_counts_and_shapes_are_refused() {
        assert_eq!(
            Images::from_bytes(SHAPE, &[0; 31]).unwrap_err().kind(),
            ErrorKind::Shape
        );
        assert_eq!(
            Images::from_vec(SHAPE, vec![0.0; 29]).unwrap_err().kind(),
            ErrorKind::Shape
        );
        let images = Images::from_vec(SHAPE, vec![0.0; 60]).unwrap();
        let error = images
            .check(ImageShape {
                channels: 1,
                ..SHAPE
            })
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected images [1, 2, 5], got [3, 2, 5]"),
            "{error}"
        );
        let other = Images::from_vec(
            ImageShape {
                channels: 1,
                ..SHAPE
            },
            vec![0.0; 10],
        )
        .unwrap();
        assert!(Images::concatenate(&[images, other]).is_err());
        assert!(Images::concatenate(&[]).is_err());
    }

    #[test]
    fn bad_pixels_are_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.0; 90];
            values[65] = bad;
            let error = Images::from_vec(SHAPE, values)
                .unwrap()
                .check(SHAPE)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NonFinite);
            assert!(error.to_string().contains("image 2"), "{error}");
        }
    }

    #[test]
    fn arrays_of_any_layout_are_accepted() {
        let array = Array4::from_shape_fn((5, 2, 3, 2), |(w, h, c, n)| {
            (w + 10 * h + 100 * c + 1000 * n) as f32
        });
        let images = Images::from_array(array.reversed_axes());
        assert_eq!((images.len(), images.shape()), (2, SHAPE));
        assert_eq!(images.image(1)[10], 1100.0);
    }
}
