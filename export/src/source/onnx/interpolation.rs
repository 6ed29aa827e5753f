//! What each element of a resized axis is made of: nearest neighbours, linear and cubic interpolation.

use ebm_common::named;

named! {
    "coordinate_transformation_mode";
    /// Where an element of the result lies among those of the operand.
    pub enum Coordinates {
        HalfPixel = "half_pixel",
        HalfPixelSymmetric = "half_pixel_symmetric",
        PytorchHalfPixel = "pytorch_half_pixel",
        AlignCorners = "align_corners",
        Asymmetric = "asymmetric",
        TfHalfPixel = "tf_half_pixel_for_nn",
    }
}

named! {
    "nearest_mode";
    /// Which neighbour is nearest.
    pub enum Nearest {
        RoundPreferFloor = "round_prefer_floor",
        RoundPreferCeil = "round_prefer_ceil",
        Floor = "floor",
        Ceil = "ceil",
    }
}

/// What elements are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mode {
    Nearest(Nearest),
    Linear,
    Cubic(Cubic),
}

/// Interpolation between four elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cubic {
    /// The `a` of Keys, "Cubic convolution interpolation for digital image processing" (1981).
    pub(super) a: f32,
    pub(super) border: Border,
}

/// What stands outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Border {
    /// The elements at the border.
    Repeated,
    /// Nothing: the weights of those inside add up to 1.
    Excluded,
}

/// An axis before and after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    pub(super) old: usize,
    pub(super) new: usize,
    pub(super) scale: f32,
}

/// An element of the result: elements of the operand and their weights.
pub(super) type Taps = Vec<(usize, f32)>;

impl Mode {
    /// What each element of the result is made of.
    pub(super) fn taps(self, extents: Extents, coordinates: Coordinates) -> Vec<Taps> {
        let last = extents.old - 1;
        (0..extents.new)
            .map(|index| {
                let place = coordinates.place(index, extents);
                match self {
                    Mode::Nearest(nearest) => {
                        let nearest = nearest.of(place).clamp(0.0, last as f32);
                        vec![(nearest as usize, 1.0)]
                    }
                    Mode::Linear => {
                        let place = place.clamp(0.0, last as f32);
                        let first = place.floor() as usize;
                        let share = place - place.floor();
                        match share == 0.0 || first == last {
                            true => vec![(first, 1.0)],
                            false => vec![(first, 1.0 - share), (first + 1, share)],
                        }
                    }
                    Mode::Cubic(cubic) => cubic.taps(place, last),
                }
            })
            .collect()
    }
}

impl Cubic {
    /// The four elements around a place.
    fn taps(self, place: f32, last: usize) -> Taps {
        let share = place - place.floor();
        let a = self.a;
        // |t|³ and so on for the distances t = 1 + share, share, 1 − share and 2 − share.
        let near = |t: f32| ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
        let far = |t: f32| ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a;
        let weights = [
            far(1.0 + share),
            near(share),
            near(1.0 - share),
            far(2.0 - share),
        ];
        let first = place.floor() as i64 - 1;
        let places = (first..).zip(weights);
        let (inside, scale): (Vec<(i64, f32)>, f32) = match self.border {
            Border::Repeated => (places.collect(), 1.0),
            Border::Excluded => {
                let inside = places.filter(|(place, _)| (0..=last as i64).contains(place));
                let inside: Vec<(i64, f32)> = inside.collect();
                let sum = inside.iter().map(|(_, weight)| weight).sum();
                (inside, sum)
            }
        };
        let taps = inside.into_iter().filter(|(_, weight)| *weight != 0.0);
        taps.map(|(place, weight)| (place.clamp(0, last as i64) as usize, weight / scale))
            .collect()
    }
}

impl Coordinates {
    /// In f32, as ONNX Runtime reckons it.
    fn place(self, index: usize, extents: Extents) -> f32 {
        let Extents { old, new, scale } = extents;
        let index = index as f32;
        match self {
            Coordinates::HalfPixel => (index + 0.5) / scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = new as f32 / (scale * old as f32);
                let offset = old as f32 / 2.0 * (1.0 - adjustment);
                offset + (index + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel if new == 1 => 0.0,
            Coordinates::PytorchHalfPixel => (index + 0.5) / scale - 0.5,
            Coordinates::AlignCorners if new == 1 => 0.0,
            Coordinates::AlignCorners => index * (old - 1) as f32 / (new - 1) as f32,
            Coordinates::Asymmetric => index / scale,
            Coordinates::TfHalfPixel => (index + 0.5) / scale,
        }
    }
}

impl Nearest {
    fn of(self, place: f32) -> f32 {
        match self {
            Nearest::RoundPreferFloor => (place - 0.5).ceil(),
            Nearest::RoundPreferCeil => (place + 0.5).floor(),
            Nearest::Floor => place.floor(),
            Nearest::Ceil => place.ceil(),
        }
    }
}
