//! Distances of pixels, in either of the two scales that the literature has.

use std::fmt;
use std::str::FromStr;

/// A distance between images, or the deviation of noise on them. Its scale is part of what makes it, since a number alone does not tell: 8/255 of pixels in
/// `[0, 1]` is 16/255 of pixels in `[-1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct PixelDistance {
    of_unit_range: f64,
}

impl PixelDistance {
    /// No distance.
    pub const ZERO: Self = Self { of_unit_range: 0.0 };

    /// A distance of pixels in `[0, 1]`, as the literature states it.
    pub fn of_unit_range(distance: f64) -> Self {
        Self {
            of_unit_range: distance,
        }
    }

    /// A distance of pixels in `[-1, 1]`, as the models have them.
    pub fn of_signed_range(distance: f64) -> Self {
        Self::of_unit_range(distance / 2.0)
    }

    /// The distance of pixels in `[0, 1]`.
    pub fn in_unit_range(self) -> f64 {
        self.of_unit_range
    }

    /// The distance of pixels in `[-1, 1]`.
    pub fn in_signed_range(self) -> f64 {
        2.0 * self.of_unit_range
    }

    /// The ℓ∞ distance that this ℓ2 distance of d values implies, `ℓ2/√d`: all of them may change by as much without leaving it.
    pub fn implied_linf(self, d: usize) -> Self {
        Self::of_unit_range(self.of_unit_range / (d as f64).sqrt())
    }
}

/// Pixels in `[0, 1]`, as a number or a fraction: `0.25`, `1/4`, `8/255`.
impl FromStr for PixelDistance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || {
            format!("expected a distance of pixels in [0, 1], as in 8/255 or 0.03, got `{text}`")
        };
        let number = |part: &str| part.trim().parse::<f64>().ok().filter(|x| x.is_finite());
        let distance = match text.split_once('/') {
            Some((above, below)) => number(above).zip(number(below)).map(|(a, b)| a / b),
            None => number(text),
        };
        match distance.filter(|distance| distance.is_finite() && *distance >= 0.0) {
            None => Err(refuse()),
            Some(distance) if distance > 1.0 && !text.contains('/') => {
                let typed = text.trim();
                Err(format!(
                    "{}; did you mean {typed}/255? (If not, write {typed}/1.)",
                    refuse()
                ))
            }
            Some(distance) => Ok(Self::of_unit_range(distance)),
        }
    }
}

/// Both scales: `0.25 of [0, 1] (0.5 of [-1, 1])`.
impl fmt::Display for PixelDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = |x: f64| (x * 1e6).round() / 1e6;
        write!(
            f,
            "{} of [0, 1] ({} of [-1, 1])",
            rounded(self.in_unit_range()),
            rounded(self.in_signed_range())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_fractions_are_read_and_the_wrong_scale_is_asked_about() {
        for (text, distance) in [
            ("0.25", 0.25),
            ("1/4", 0.25),
            ("8/255", 8.0 / 255.0),
            (" 8 / 255 ", 8.0 / 255.0),
            ("0.5/255", 0.5 / 255.0),
            ("1e-3", 0.001),
            ("0", 0.0),
            ("1", 1.0),
            ("3/2", 1.5),
        ] {
            assert_eq!(
                text.parse(),
                Ok(PixelDistance::of_unit_range(distance)),
                "{text}"
            );
        }
        for (text, part) in [
            ("8", "did you mean 8/255?"),
            ("1.5", "did you mean 1.5/255?"),
            ("-1", "got `-1`"),
            ("-8/255", "got `-8/255`"),
            ("8/0", "got `8/0`"),
            ("0/0", "got `0/0`"),
            ("nan", "got `nan`"),
            ("inf", "got `inf`"),
            ("1/inf", "got `1/inf`"),
            ("8/255/2", "got `8/255/2`"),
            ("8 of 255", "as in 8/255 or 0.03"),
            ("0,25", "got `0,25`"),
            ("25%", "got `25%`"),
            ("", "got ``"),
        ] {
            let error = text.parse::<PixelDistance>().expect_err(text);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn both_scales_are_there_and_the_linf_radius_that_an_l2_radius_implies() {
        let distance = PixelDistance::of_signed_range(0.5);
        assert_eq!(
            (distance.in_unit_range(), distance.in_signed_range()),
            (0.25, 0.5)
        );
        assert_eq!(distance.to_string(), "0.25 of [0, 1] (0.5 of [-1, 1])");
        assert_eq!(
            distance.implied_linf(64),
            PixelDistance::of_unit_range(0.25 / 8.0)
        );
    }
}
