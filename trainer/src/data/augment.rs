//! Shifts and mirroring of training images.

use tch::{Device, Kind, Tensor};

use crate::config::{DataConfig, Mirror};

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
pub(super) fn i64s(tensor: &Tensor) -> Vec<i64> {
    Vec::<i64>::try_from(tensor.flatten(0, -1)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::randomness::seeded;

    #[test]
    fn a_shift_moves_the_image_and_fills_with_background() {
        let _draws = seeded(1);
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

    /// Of 200 images about half are mirrored: the deviation of their number is √50.
    #[test]
    fn half_of_the_images_are_mirrored() {
        let _draws = seeded(1);
        let config = DataConfig {
            mirror: Mirror::Half,
            ..DataConfig::digits_for_tests()
        };
        let ramp = Tensor::from_slice(&[-1.0f32, 1.0])
            .view([1, 1, 1, 2])
            .repeat([200, 1, 1, 1]);
        let left = augment(ramp, &config).select(3, 0);
        let n_mirrored = left.gt(0.0).sum(Kind::Int64).int64_value(&[]);
        assert!((n_mirrored - 100).abs() < 4 * 7, "{n_mirrored}");
    }
}
