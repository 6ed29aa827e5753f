//! Which part of a picture becomes the image.

use super::fit::Crop;

/// Width and height.
pub type Size = (u32, u32);

/// Part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Column of its first pixel.
    pub left: u32,
    /// Row of its first pixel.
    pub top: u32,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl Crop {
    /// The part of a picture that becomes an image, both larger than 0.
    pub fn rectangle(self, picture: Size, image: Size) -> Rectangle {
        let aspect = f64::from(image.0) / f64::from(image.1);
        match self {
            Crop::Off | Crop::Resize => placed(picture, picture, [0.0, 0.0]),
            Crop::Centre => {
                let size = largest(picture, aspect);
                Rectangle {
                    left: (picture.0 - size.0) / 2,
                    top: (picture.1 - size.1) / 2,
                    width: size.0,
                    height: size.1,
                }
            }
            Crop::Drawn {
                area,
                aspect: aspects,
                draws,
            } => {
                let between = |[least, most]: [f64; 2], draw| least + (most - least) * draw;
                let aspect = aspect * between(aspects.map(f64::ln), draws[0]).exp();
                let side = between(area, draws[1]).sqrt();
                let (width, height) = largest(picture, aspect);
                let shortened = |length: u32| ((f64::from(length) * side).round() as u32).max(1);
                let size = (shortened(width), shortened(height));
                placed(picture, size, [draws[2], draws[3]])
            }
        }
    }
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

    #[test]
    fn the_centre_is_the_largest_square_in_the_middle() {
        for (picture, wanted) in [
            ((178, 218), (0, 20, 178, 178)),
            ((218, 178), (20, 0, 178, 178)),
            ((7, 4), (1, 0, 4, 4)),
            ((5, 5), (0, 0, 5, 5)),
            ((1, 9), (0, 4, 1, 1)),
        ] {
            let Rectangle {
                left,
                top,
                width,
                height,
            } = Crop::Centre.rectangle(picture, (64, 64));
            assert_eq!((left, top, width, height), wanted, "{picture:?}");
        }
    }

    /// With the whole area and aspect 1 the largest square slides along the longer side, to each place equally often.
    #[test]
    fn a_square_of_the_whole_area_slides_along_the_longer_side() {
        let n = 3000;
        let mut counts = [0; 3];
        for place in 0..n {
            let draws = [0.0, 0.0, 0.5, f64::from(place) / f64::from(n)];
            let (area, aspect) = ([1.0, 1.0], [1.0, 1.0]);
            let crop = Crop::Drawn {
                area,
                aspect,
                draws,
            };
            let part = crop.rectangle((10, 12), (4, 4));
            assert_eq!((part.left, part.width, part.height), (0, 10, 10));
            counts[part.top as usize] += 1;
        }
        assert_eq!(counts, [n / 3; 3]);
    }

    proptest::proptest! {
        #[test]
        fn drawn_rectangles_lie_within_the_picture_and_within_their_ranges(draws in proptest::array::uniform4(0.0f64..1.0)) {
            let (area, aspect) = ([0.25, 0.81], [0.5, 2.0]);
            let part = Crop::Drawn { area, aspect, draws }.rectangle((400, 300), (64, 64));
            assert!(part.left + part.width <= 400 && part.top + part.height <= 300);
            let (width, height) = (f64::from(part.width), f64::from(part.height));
            let drawn = width / height;
            assert!((0.49..2.02).contains(&drawn), "aspect {drawn}");
            let fitting = (400.0 / width).min(300.0 / height);
            let share = 1.0 / (fitting * fitting);
            assert!((0.24..0.83).contains(&share), "share {share}");
        }

        #[test]
        fn no_picture_is_too_small_or_too_long(width in 1u32..70, height in 1u32..70, draws in proptest::array::uniform4(0.0f64..1.0), least in 0.01f64..1.0) {
            let crop = Crop::Drawn { area: [least, 1.0], aspect: [0.01, 100.0], draws };
            let part = crop.rectangle((width, height), (3, 5));
            assert!(part.width >= 1 && part.height >= 1);
            assert!(part.left + part.width <= width && part.top + part.height <= height);
        }
    }
}
