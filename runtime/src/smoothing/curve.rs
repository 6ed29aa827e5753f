//! Certified accuracy over the radius.

use super::Smoothing;
use ebm_common::PixelDistance;
use ebm_common::interval::interval;

/// The share of images that are certified for their own class within a radius.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct CertifiedAccuracy {
    /// The ℓ2 radius.
    pub radius: PixelDistance,
    /// Images that are certified for their class within this radius.
    pub n_certified: usize,
    /// All images, those without a certificate too.
    pub n: usize,
    /// The share, in `[0, 1]`.
    pub share: f64,
    /// Its 95 % interval of Clopper and Pearson, over the choice of the images.
    pub interval: [f64; 2],
}

impl CertifiedAccuracy {
    /// The share at one radius. `certified` are the radii of those of `n` images whose certificate is for their class.
    pub fn at(radius: PixelDistance, certified: &[PixelDistance], n: usize) -> Self {
        let n_certified = certified.iter().filter(|own| **own >= radius).count();
        Self {
            radius,
            n_certified,
            n,
            share: n_certified as f64 / n.max(1) as f64,
            interval: interval(n_certified, n, 0.05),
        }
    }

    /// The shares at round radii from 0 to the largest that this smoothing can certify.
    pub fn curve(smoothing: &Smoothing, certified: &[PixelDistance], n: usize) -> Vec<Self> {
        const ROWS_OF_UNIT: [f64; 7] = [200.0, 100.0, 40.0, 20.0, 10.0, 4.0, 2.0];
        const MOST_ROWS: f64 = 12.0;
        let largest = smoothing.largest_radius().in_unit_range();
        let rows_of_unit = ROWS_OF_UNIT
            .into_iter()
            .find(|rows| largest * rows < MOST_ROWS);
        let rows_of_unit = rows_of_unit.unwrap_or(1.0);
        (0..=(largest * rows_of_unit) as u32)
            .map(|row| PixelDistance::of_unit_range(f64::from(row) / rows_of_unit))
            .map(|radius| Self::at(radius, certified, n))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_falls_from_the_accuracy_to_nothing() {
        let certified = [0.3, 0.1, 0.0, 0.5].map(PixelDistance::of_unit_range);
        let smoothing = Smoothing::new(PixelDistance::of_unit_range(0.25));
        let curve = CertifiedAccuracy::curve(&smoothing, &certified, 5);
        let radii: Vec<f64> = curve.iter().map(|at| at.radius.in_unit_range()).collect();
        let counts: Vec<usize> = curve.iter().map(|at| at.n_certified).collect();
        // σ·Φ⁻¹(0.001^(1/10,000)) = 0.7997.
        assert_eq!(radii.len(), 8);
        assert_eq!(radii[7], 0.7);
        assert_eq!(counts, [4, 3, 2, 2, 1, 1, 0, 0]);
        assert_eq!(curve[0].share, 0.8);
        // R's binom.test(4, 5).
        let [low, high] = curve[0].interval;
        assert!((low - 0.283_582).abs() < 1e-6 && (high - 0.994_949).abs() < 1e-6);
    }

    #[test]
    fn no_images_have_the_whole_interval() {
        let at = CertifiedAccuracy::at(PixelDistance::ZERO, &[], 0);
        assert_eq!((at.share, at.interval), (0.0, [0.0, 1.0]));
    }
}
