//! Correlations of two series over lags.

/// `c[k] = (1/n) Σ_t a[t + k]·b[t]` for the lags k from `lags.start()` to `lags.end()`, over all t for which both exist, n the length of both.
/// Pairs `(k, c[k])`.
pub fn correlation(a: &[f64], b: &[f64], lags: std::ops::RangeInclusive<i64>) -> Vec<(f64, f64)> {
    let n = a.len().min(b.len());
    let at = |lag: i64| {
        let (skip_a, skip_b) = (lag.max(0) as usize, (-lag).max(0) as usize);
        let pairs = a
            .iter()
            .take(n)
            .skip(skip_a)
            .zip(b.iter().take(n).skip(skip_b));
        pairs.map(|(a, b)| a * b).sum::<f64>() / n as f64
    };
    lags.map(|lag| (lag as f64, at(lag))).collect()
}

/// Divides by the root of the mean square, so that the auto-correlation at lag 0 is 1. The mean stays.
pub fn rescaled(values: &[f64]) -> Vec<f64> {
    let mean_square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
    let scale = match mean_square > 0.0 {
        true => mean_square.sqrt().recip(),
        false => 0.0,
    };
    values.iter().map(|value| value * scale).collect()
}

/// Shifted to mean 0 and scaled to variance 1.
pub fn normalised(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let centred: Vec<f64> = values.iter().map(|value| value - mean).collect();
    rescaled(&centred)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const N: usize = 4000;

    fn series(value: impl Fn(f64) -> f64) -> Vec<f64> {
        (0..N).map(|t| value(t as f64)).collect()
    }

    #[test]
    fn correlations_of_sines_are_cosines_of_the_lag() {
        // Of a sine of unit mean square with period P, c[k] = cos(2πk/P)·(n − k)/n up to the ends; one that is s earlier shifts it.
        let sine = |shift: f64| series(|t| 2f64.sqrt() * (TAU * (t + shift) / 20.0).sin());
        for shift in [0.0, 3.0, 5.0] {
            for (lag, value) in correlation(&sine(shift), &sine(0.0), -15..=15) {
                let wanted = (TAU * (lag + shift) / 20.0).cos();
                assert!(
                    (value - wanted).abs() < 6e-3,
                    "{shift} {lag}: {value} {wanted}"
                );
            }
        }
    }

    #[test]
    fn a_series_of_first_order_forgets_by_powers() {
        // x[t] = φ·x[t−1] + e[t] has correlation φ^k; its noise here comes from a linear congruence.
        let (phi, mut state, mut value) = (0.8, 1u64, 0.0);
        let values: Vec<f64> = (0..100_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                value = phi * value + (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
                value
            })
            .collect();
        let values = normalised(&values);
        for (lag, value) in correlation(&values, &values, 0..=15) {
            assert!((value - phi.powf(lag)).abs() < 0.03, "{lag}: {value}");
        }
    }

    #[test]
    fn what_alternates_is_opposite_to_its_neighbour() {
        let alternating = series(|t| if t % 2.0 == 0.0 { 3.0 } else { -3.0 });
        let values = rescaled(&alternating);
        for (lag, wanted) in [(0, 1.0), (1, -1.0), (2, 1.0)] {
            let (_, value) = correlation(&values, &values, lag..=lag)[0];
            assert!((value - wanted).abs() < 1e-3, "{lag}: {value}");
        }
    }

    #[test]
    fn a_constant_keeps_its_mean_or_loses_it() {
        assert_eq!(rescaled(&[-2.0, -2.0]), [-1.0, -1.0]);
        assert_eq!(normalised(&[5.0, 5.0]), [0.0, 0.0]);
        assert_eq!(normalised(&[1.0, 3.0]), [-1.0, 1.0]);
    }
}
