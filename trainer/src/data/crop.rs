//! Which part of a picture becomes the image.

use super::order::View;
use crate::config::{Crop, RandomCrop};
use crate::randomness::uniform;

/// Part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub(super) left: u32,
    pub(super) top: u32,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// Width and height.
pub(super) type Size = (u32, u32);

/// The part of a picture that becomes an image, both larger than 0.
pub(super) fn rectangle(crop: Crop, picture: Size, image: Size, view: View) -> Rectangle {
    let aspect = f64::from(image.0) / f64::from(image.1);
    match (crop, view) {
        (Crop::Off, _) => placed(picture, picture, [0.0, 0.0]),
        (Crop::Random(random), View::Drawn(seed)) => drawn(random, picture, aspect, seed),
        (Crop::Centre | Crop::Random(_), _) => {
            let size = largest(picture, aspect);
            Rectangle {
                left: (picture.0 - size.0) / 2,
                top: (picture.1 - size.1) / 2,
                width: size.0,
                height: size.1,
            }
        }
    }
}

fn drawn(random: RandomCrop, picture: Size, aspect: f64, seed: u64) -> Rectangle {
    let between = |[least, most]: [f64; 2], number| least + (most - least) * uniform(seed, number);
    let aspect = aspect * between(random.aspect.map(f64::ln), 0).exp();
    let side = between(random.area, 1).sqrt();
    let (width, height) = largest(picture, aspect);
    let shortened = |length: u32| ((f64::from(length) * side).round() as u32).max(1);
    let size = (shortened(width), shortened(height));
    placed(picture, size, [uniform(seed, 2), uniform(seed, 3)])
}

/// The size of the largest rectangle of an aspect (width over height) in a picture.
fn largest((width, height): Size, aspect: f64) -> Size {
    let across = (f64::from(height) * aspect).round();
    if across <= f64::from(width) {
        ((across as u32).max(1), height)
    } else {
        let down = (f64::from(width) / aspect).round() as u32;
        (width, down.clamp(1, height))
    }
}

/// A rectangle of a size at one of its places, all of which are equally likely for `place` uniform in `[0, 1)`.
fn placed(picture: Size, (width, height): Size, place: [f64; 2]) -> Rectangle {
    let at = |whole: u32, part: u32, place: f64| {
        let slack = whole - part;
        ((f64::from(slack) + 1.0) * place) as u32
    };
    Rectangle {
        left: at(picture.0, width, place[0]),
        top: at(picture.1, height, place[1]),
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(area: [f64; 2], aspect: [f64; 2]) -> Crop {
        Crop::Random(RandomCrop { area, aspect })
    }

    #[test]
    fn the_centre_is_the_largest_square_in_the_middle() {
        for (picture, wanted) in [
            ((178, 218), (0, 20, 178, 178)),
            ((218, 178), (20, 0, 178, 178)),
            ((7, 4), (1, 0, 4, 4)),
            ((5, 5), (0, 0, 5, 5)),
            ((1, 9), (0, 4, 1, 1)),
        ] {
            for (crop, view) in [
                (Crop::Centre, View::Centre),
                (Crop::Centre, View::Drawn(3)),
                (random([0.1, 1.0], [0.5, 2.0]), View::Centre),
            ] {
                let Rectangle {
                    left,
                    top,
                    width,
                    height,
                } = rectangle(crop, picture, (64, 64), view);
                assert_eq!((left, top, width, height), wanted, "{picture:?} {crop:?}");
            }
        }
    }

    /// With the whole area and aspect 1 the largest square slides along the longer side, to each place equally often.
    #[test]
    fn a_random_square_of_the_whole_area_slides_along_the_longer_side() {
        let crop = random([1.0, 1.0], [1.0, 1.0]);
        let n = 3000u64;
        let mut counts = [0u64; 3];
        for seed in 0..n {
            let part = rectangle(crop, (10, 12), (4, 4), View::Drawn(seed));
            assert_eq!((part.left, part.width, part.height), (0, 10, 10));
            counts[part.top as usize] += 1;
        }
        let deviation = (n as f64 * (1.0 / 3.0) * (2.0 / 3.0)).sqrt();
        for count in counts {
            assert!(
                (count as f64 - n as f64 / 3.0).abs() < 4.0 * deviation,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn random_rectangles_lie_within_the_picture_and_within_their_ranges() {
        let (area, aspect) = ([0.25, 0.81], [0.5, 2.0]);
        let picture = (400u32, 300u32);
        for seed in 0..2000 {
            let part = rectangle(random(area, aspect), picture, (64, 64), View::Drawn(seed));
            assert!(part.left + part.width <= picture.0 && part.top + part.height <= picture.1);
            let (width, height) = (f64::from(part.width), f64::from(part.height));
            let drawn = width / height;
            assert!((0.49..2.02).contains(&drawn), "aspect {drawn}");
            let fitting = (400.0 / width).min(300.0 / height);
            let share = 1.0 / (fitting * fitting);
            assert!((0.24..0.83).contains(&share), "share {share}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_picture_is_too_small_or_too_long(width in 1u32..70, height in 1u32..70, seed: u64, least in 0.01f64..1.0) {
            let crop = random([least, 1.0], [0.01, 100.0]);
            let part = rectangle(crop, (width, height), (3, 5), View::Drawn(seed));
            assert!(part.width >= 1 && part.height >= 1);
            assert!(part.left + part.width <= width && part.top + part.height <= height);
        }
    }
}
