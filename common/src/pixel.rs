//! Pixels: bytes from 0 to 255 in files, numbers in `[-1, 1]` for a model.

/// The pixel that a byte stands for: `v / 127.5 − 1`.
pub fn of_byte(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// The byte that stands for a pixel: `round((x + 1)·127.5)`, clamped to `[0, 255]`.
pub fn to_byte(pixel: f32) -> u8 {
    ((pixel + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_way_there_and_back() {
        for byte in 0..=u8::MAX {
            let pixel = of_byte(byte);
            assert!((-1.0..=1.0).contains(&pixel));
            assert_eq!(to_byte(pixel), byte);
        }
        assert_eq!((of_byte(0), of_byte(255)), (-1.0, 1.0));
    }

    #[test]
    fn pixels_out_of_range_are_clamped() {
        for (pixel, byte) in [
            (-7.0, 0),
            (7.0, 255),
            (f32::INFINITY, 255),
            (f32::NEG_INFINITY, 0),
            (0.0, 128),
        ] {
            assert_eq!(to_byte(pixel), byte, "{pixel}");
        }
    }
}
