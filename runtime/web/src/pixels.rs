//! Pixels of JavaScript as images of the runtime.

use ebm_runtime::{ImageShape, Images};

use crate::failure::Failure;

/// Bytes of one pixel of a canvas: red, green, blue, opacity.
const CANVAS_CHANNELS: usize = 4;

/// One image of bytes `[H, W, C]`, or `[H, W, 4]` of a canvas.
pub(crate) fn of_bytes(shape: ImageShape, bytes: &[u8]) -> Result<Images, Failure> {
    let n_pixels = shape.height * shape.width;
    if bytes.len() == shape.n_values() {
        return Ok(Images::from_bytes(shape, bytes)?);
    }
    if bytes.len() != n_pixels * CANVAS_CHANNELS {
        return Err(Failure::new(format!(
            "the image does not fit the model: expected {} bytes for images {shape}, or {} of a canvas, got {}; scale it to {}×{} (width×height)",
            shape.n_values(),
            n_pixels * CANVAS_CHANNELS,
            bytes.len(),
            shape.width,
            shape.height,
        )));
    }
    let pixels = bytes.chunks_exact(CANVAS_CHANNELS);
    if pixels.clone().any(|pixel| pixel[3] != u8::MAX) {
        return Err(Failure::new(
            "the image has transparent pixels: draw it on an opaque background",
        ));
    }
    let is_grey = |pixel: &[u8]| pixel[0] == pixel[1] && pixel[1] == pixel[2];
    match shape.channels {
        1 if pixels.clone().all(is_grey) => {
            let grey: Vec<u8> = pixels.map(|pixel| pixel[0]).collect();
            Ok(Images::from_bytes(shape, &grey)?)
        }
        1 => Err(Failure::new(
            "the model is for grey images, and the image has colours: convert it to grey",
        )),
        3 => {
            let colours: Vec<u8> = pixels.flat_map(|pixel| &pixel[..3]).copied().collect();
            Ok(Images::from_bytes(shape, &colours)?)
        }
        n => Err(Failure::new(format!(
            "the model is for images of {n} channels, and a canvas has 3: give the bytes [H, W, {n}]"
        ))),
    }
}

/// One image of values `[C, H, W]`.
pub(crate) fn of_values(shape: ImageShape, values: Vec<f32>) -> Result<Images, Failure> {
    if values.len() != shape.n_values() {
        return Err(Failure::new(format!(
            "the image does not fit the model: expected {} values for images {shape}, got {}",
            shape.n_values(),
            values.len()
        )));
    }
    Ok(Images::from_vec(shape, values)?)
}

/// The bytes `[H, W, 4]` of a canvas, of an image of one or three channels; of others the first alone.
pub(crate) fn to_canvas(image: &Images) -> Vec<u8> {
    let channels = image.shape().channels;
    let bytes = image.to_bytes(0);
    let canvas = bytes.chunks_exact(channels).flat_map(|pixel| match *pixel {
        [red, green, blue] => [red, green, blue, u8::MAX],
        _ => [pixel[0], pixel[0], pixel[0], u8::MAX],
    });
    canvas.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shape(channels: usize) -> ImageShape {
        ImageShape {
            channels,
            height: 1,
            width: 2,
        }
    }

    #[test]
    fn a_canvas_has_the_pixels_of_the_file() {
        let cases: [(usize, &[u8], &[u8]); 2] = [
            (1, &[7, 9], &[7, 7, 7, 255, 9, 9, 9, 255]),
            (3, &[1, 2, 3, 4, 5, 6], &[1, 2, 3, 255, 4, 5, 6, 255]),
        ];
        for (channels, file, canvas) in cases {
            let image = of_bytes(shape(channels), file).unwrap();
            assert_eq!(of_bytes(shape(channels), canvas).unwrap(), image);
            assert_eq!(to_canvas(&image), canvas);
            assert_eq!(image.to_bytes(0), file);
        }
    }

    #[test]
    fn pixels_that_do_not_fit_are_refused() {
        let cases: [(usize, &[u8], &str); 5] = [
            (
                1,
                &[0; 3],
                "expected 2 bytes for images [1, 1, 2], or 8 of a canvas, got 3",
            ),
            (3, &[], "got 0"),
            (3, &[0; 8], "transparent"),
            (1, &[1, 2, 3, 255, 0, 0, 0, 255], "convert it to grey"),
            (2, &[255; 8], "give the bytes [H, W, 2]"),
        ];
        for (channels, bytes, part) in cases {
            let message = of_bytes(shape(channels), bytes).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        let message = of_values(shape(1), vec![0.0; 4]).unwrap_err().to_string();
        assert!(message.contains("expected 2 values"), "{message}");
    }
}
