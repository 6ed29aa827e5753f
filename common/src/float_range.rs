//! What the numbers of floating-point images mean.

use std::fmt;
use std::str::FromStr;

/// The values of a black and a white pixel in a file of floating-point numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloatRange {
    low: f32,
    high: f32,
}

impl FloatRange {
    /// The range from `low` to `high`.
    ///
    /// # Errors
    /// They are not finite, or `low` is not below `high`.
    pub fn new(low: f32, high: f32) -> Result<Self, String> {
        match low < high && (high - low).is_finite() {
            true => Ok(Self { low, high }),
            false => Err(format!(
                "expected two finite numbers, the lower one first, as in 0,1, got {low},{high}"
            )),
        }
    }

    /// The value of a black pixel, and that of a white one.
    pub fn ends(self) -> [f32; 2] {
        [self.low, self.high]
    }

    /// The pixel in `[-1, 1]` for a value.
    pub fn pixel(self, value: f32) -> f32 {
        (value - self.low) / (self.high - self.low) * 2.0 - 1.0
    }

    /// The value for a pixel. Pixels outside `[-1, 1]` are clamped.
    pub fn value(self, pixel: f32) -> f32 {
        let value = self.low + (pixel.clamp(-1.0, 1.0) + 1.0) / 2.0 * (self.high - self.low);
        value.clamp(self.low, self.high)
    }
}

/// The range of the models, `[-1, 1]`.
impl Default for FloatRange {
    fn default() -> Self {
        Self {
            low: -1.0,
            high: 1.0,
        }
    }
}

/// `LOW,HIGH`.
impl fmt::Display for FloatRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.low, self.high)
    }
}

/// `LOW,HIGH`.
impl FromStr for FloatRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f32>().ok();
        let parsed = text.split_once(',');
        let parsed = parsed.and_then(|(low, high)| Some((number(low)?, number(high)?)));
        let (low, high) = parsed.ok_or("expected two numbers with a comma between, as in 0,1")?;
        Self::new(low, high)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_are_two_finite_numbers_the_lower_one_first() {
        for text in [
            "1,0",
            "1,1",
            "0",
            "0,1,2",
            "a,b",
            "0,inf",
            "NaN,1",
            "-3e38,3e38",
            "",
        ] {
            assert!(text.parse::<FloatRange>().is_err(), "{text}");
        }
        let range: FloatRange = " -0.5, 1".parse().unwrap();
        assert_eq!(
            (range.ends(), range.to_string().as_str()),
            ([-0.5, 1.0], "-0.5,1")
        );
    }

    #[test]
    fn pixels_outside_the_range_are_clamped() {
        let range = FloatRange::new(-3.0, 1.0).unwrap();
        assert_eq!(
            [-7.0, -1.0, 1.0, 7.0].map(|pixel| range.value(pixel)),
            [-3.0, -3.0, 1.0, 1.0]
        );
        assert_eq!(
            [-3.0, -1.0, 1.0].map(|value| range.pixel(value)),
            [-1.0, 0.0, 1.0]
        );
    }
}
