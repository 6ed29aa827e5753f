//! How the pixels of an image lie in a file.

use ebm_common::{FloatRange, pixel};
use ebm_runtime::ndarray::ArrayView3;
use ebm_runtime::{Error, ErrorKind, ImageShape, Result};

/// The type of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element {
    /// u8, 0 to 255.
    Byte,
    /// f32, lowest byte first.
    Float(FloatRange),
}

impl Element {
    pub(super) fn n_bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Float(_) => 4,
        }
    }
}

/// The order of the values of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// `[C, H, W]`.
    Planar,
    /// `[H, W, C]`.
    Interleaved,
}

/// How the pixels of each image of an array lie in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Layout {
    pub(super) shape: ImageShape,
    pub(super) element: Element,
    pub(super) order: Order,
}

impl Layout {
    /// The number of images and their order in an array of these dimensions.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`] if they are not images of this shape, or could be read in two ways.
    pub(super) fn of_dimensions(dimensions: &[usize], shape: ImageShape) -> Result<(usize, Order)> {
        let [c, h, w] = shape.dimensions();
        let mut readings = Vec::new();
        let mut reading = |n: usize, image: &[usize]| {
            let orders = [(Order::Planar, [c, h, w]), (Order::Interleaved, [h, w, c])];
            // Without a channel axis, and with one channel or one pixel, both orders are the same.
            if c == 1 && image == [h, w] {
                readings.push((n, Order::Planar));
            }
            for (order, wanted) in orders {
                if image == wanted.as_slice() {
                    let same = c == 1 || h * w == 1;
                    readings.push((n, if same { Order::Planar } else { order }));
                }
            }
        };
        if let Some((&n, image)) = dimensions.split_first() {
            reading(n, image);
        }
        reading(1, dimensions);
        readings.dedup();
        let wanted = match c {
            1 => format!("[N, {h}, {w}], [N, {c}, {h}, {w}] or [N, {h}, {w}, {c}]"),
            _ => format!("[N, {c}, {h}, {w}] or [N, {h}, {w}, {c}]"),
        };
        match readings[..] {
            [reading] => Ok(reading),
            [] => {
                let error = Error::new(
                    ErrorKind::Shape,
                    "the array has another shape than the model's images",
                );
                let error = error.expected(wanted).but_got(format!("{dimensions:?}"));
                Err(match missing_padding(dimensions, shape) {
                    Some(n) => error.advise(format!("give --padding {n} if the model learned from such images with {n} black pixels on every side")),
                    None => error.advise("resize or convert the images, or use a model for their shape"),
                })
            }
            _ => Err(Error::new(
                ErrorKind::Shape,
                "the order of the array's axes is ambiguous",
            )
            .expected(wanted)
            .but_got(format!("{dimensions:?}, which can be read as both"))
            .advise("write the images as pictures")),
        }
    }

    /// The bytes of one image.
    pub(super) fn n_bytes(self) -> usize {
        self.shape.n_values() * self.element.n_bytes()
    }

    /// The pixels `[C, H, W]` of one image.
    ///
    /// # Errors
    /// [`ErrorKind::NonFinite`] and [`ErrorKind::Image`] for values that are not numbers or lie outside the file's range.
    pub(super) fn decode(self, bytes: &[u8]) -> Result<Vec<f32>> {
        let values = match self.element {
            Element::Byte => bytes.iter().map(|&byte| pixel::of_byte(byte)).collect(),
            Element::Float(range) => floats(bytes)
                .map(|value| check(value, range).map(|()| range.pixel(value)))
                .collect::<Result<Vec<f32>>>()?,
        };
        Ok(match self.order {
            Order::Planar => values,
            Order::Interleaved => {
                let [c, h, w] = self.shape.dimensions();
                permuted(&values, [h, w, c], [2, 0, 1])
            }
        })
    }

    /// The bytes of the pixels `[C, H, W]` of one image. Pixels outside `[-1, 1]` are clamped.
    pub(super) fn encode(self, pixels: &[f32]) -> Vec<u8> {
        let ordered = match self.order {
            Order::Planar => pixels.to_vec(),
            Order::Interleaved => permuted(pixels, self.shape.dimensions(), [1, 2, 0]),
        };
        match self.element {
            Element::Byte => ordered.into_iter().map(pixel::to_byte).collect(),
            Element::Float(range) => ordered
                .into_iter()
                .flat_map(|pixel| range.value(pixel).to_le_bytes())
                .collect(),
        }
    }
}

/// The pixels that images of these dimensions lack on every side, if that is all that they lack.
fn missing_padding(dimensions: &[usize], shape: ImageShape) -> Option<usize> {
    let ImageShape {
        channels,
        height,
        width,
    } = shape;
    (1..height.min(width).div_ceil(2)).find(|n| {
        let unpadded = ImageShape::new(channels, height - 2 * n, width - 2 * n);
        Layout::of_dimensions(dimensions, unpadded).is_ok()
    })
}

/// The values of an array with other axes first.
fn permuted(values: &[f32], dimensions: [usize; 3], axes: [usize; 3]) -> Vec<f32> {
    let array = ArrayView3::from_shape(dimensions, values);
    let array = array.expect("there is a value for each place of an image");
    array.permuted_axes(axes).iter().copied().collect()
}

pub(super) fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn check(value: f32, range: FloatRange) -> Result<()> {
    let [low, high] = range.ends();
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(if value.is_finite() {
        Error::new(ErrorKind::Image, "a pixel lies outside the range")
            .expected(format!("values from {low} to {high}"))
            .but_got(value)
            .advise("scale the array, or say what range it has")
    } else {
        Error::new(ErrorKind::NonFinite, "the image has a bad pixel")
            .expected("finite values")
            .but_got(value)
            .advise("leave this image out or repair its source")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const fn shape(channels: usize, height: usize, width: usize) -> ImageShape {
        ImageShape {
            channels,
            height,
            width,
        }
    }

    #[test]
    fn dimensions_are_read_in_the_one_way_that_fits() {
        use Order::{Interleaved, Planar};
        let (grey, colour) = (shape(1, 8, 6), shape(3, 8, 6));
        type Case<'a> = (&'a [usize], ImageShape, Option<(usize, Order)>);
        let cases: [Case<'_>; 14] = [
            (&[5, 3, 8, 6], colour, Some((5, Planar))),
            (&[5, 8, 6, 3], colour, Some((5, Interleaved))),
            (&[3, 8, 6], colour, Some((1, Planar))),
            (&[8, 6, 3], colour, Some((1, Interleaved))),
            (&[5, 8, 6], colour, None),
            (&[5, 6, 8, 3], colour, None),
            (&[5, 8, 6], grey, Some((5, Planar))),
            (&[5, 1, 8, 6], grey, Some((5, Planar))),
            (&[5, 8, 6, 1], grey, Some((5, Planar))),
            (&[8, 6], grey, Some((1, Planar))),
            (&[48], grey, None),
            (&[], grey, None),
            (&[2, 3, 8, 6, 1], colour, None),
            (&[7, 3, 1, 1], shape(3, 1, 1), Some((7, Planar))),
        ];
        for (dimensions, shape, expected) in cases {
            let got = Layout::of_dimensions(dimensions, shape).ok();
            assert_eq!(got, expected, "{dimensions:?} for {shape}");
        }
        let advised = |dimensions: &[usize]| {
            let error = Layout::of_dimensions(dimensions, grey).unwrap_err();
            error.to_string().contains("--padding 2")
        };
        assert!(advised(&[5, 4, 2]) && advised(&[5, 4, 2, 1]));
        assert!(!advised(&[5, 5, 2]) && !advised(&[5, 3, 1]) && !advised(&[5, 10, 8]));
        let error = Layout::of_dimensions(&[9, 3, 3, 3], shape(3, 3, 3)).unwrap_err();
        assert!(error.to_string().contains("ambiguous"), "{error}");
    }

    #[test]
    fn encoded_images_decode_to_themselves_in_every_layout() {
        let shape = shape(3, 2, 5);
        let pixels: Vec<f32> = (0..30).map(|i| pixel::of_byte(i * 8)).collect();
        let unit = FloatRange::new(0.0, 1.0).unwrap();
        for element in [
            Element::Byte,
            Element::Float(FloatRange::default()),
            Element::Float(unit),
        ] {
            for order in [Order::Planar, Order::Interleaved] {
                let layout = Layout {
                    shape,
                    element,
                    order,
                };
                let bytes = layout.encode(&pixels);
                assert_eq!(bytes.len(), layout.n_bytes());
                let got = layout.decode(&bytes).unwrap();
                let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
                assert!(got.iter().zip(&pixels).all(close), "{layout:?}");
            }
        }
        let interleaved = Layout {
            shape,
            element: Element::Byte,
            order: Order::Interleaved,
        };
        // Row 1, column 3, channel 2 is number (1·5 + 3)·3 + 2 of [H, W, C] and number 2·10 + 5 + 3 of [C, H, W].
        assert_eq!(interleaved.encode(&pixels)[26], 28 * 8);
    }

    #[test]
    fn values_that_are_no_pixels_are_refused() {
        let layout = |range| Layout {
            shape: shape(1, 1, 2),
            element: Element::Float(range),
            order: Order::Planar,
        };
        let bytes = |value: f32| [0.5_f32.to_le_bytes(), value.to_le_bytes()].concat();
        let unit = FloatRange::new(0.0, 1.0).unwrap();
        for (value, range, kind) in [
            (f32::NAN, unit, ErrorKind::NonFinite),
            (f32::INFINITY, unit, ErrorKind::NonFinite),
            (1.5, unit, ErrorKind::Image),
            (-0.5, unit, ErrorKind::Image),
            (255.0, FloatRange::default(), ErrorKind::Image),
        ] {
            let error = layout(range).decode(&bytes(value)).unwrap_err();
            assert_eq!(error.kind(), kind, "{value}: {error}");
        }
        assert_eq!(layout(unit).decode(&bytes(1.0)).unwrap(), [0.0, 1.0]);
    }
}
