//! The interval of a share, by Clopper and Pearson (1934): the one that all programs of this workspace state.
//!
//! It is exact: `k` hits in `n` draws, however likely a hit is, give an interval that misses its probability in at most the share α of all cases.
//! Intervals by a normal approximation promise that only for many draws. The price is that it is a little wider.

use statrs::function::beta::beta_reg;

/// The probability of `k` or more hits in `n` draws that each hit with probability `p`: `I_p(k, n − k + 1)`.
pub fn upper_tail(k: usize, n: usize, p: f64) -> f64 {
    match k {
        0 => 1.0,
        k => beta_reg(k as f64, (n - k + 1) as f64, p),
    }
}

/// The one-sided lower bound: it lies above the probability of a hit in at most the share `alpha` of all cases.
pub fn lower_bound(k: usize, n: usize, alpha: f64) -> f64 {
    // Halved until nothing changes any more; `low` is on the safe side all along.
    const N_HALVINGS: usize = 64;
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..N_HALVINGS {
        let middle = 0.5 * (low + high);
        match upper_tail(k, n, middle) <= alpha {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}

/// The two-sided interval: it misses the probability of a hit in at most the share `alpha` of all cases.
pub fn interval(k: usize, n: usize, alpha: f64) -> [f64; 2] {
    let one_sided = 0.5 * alpha;
    [
        lower_bound(k, n, one_sided),
        1.0 - lower_bound(n - k, n, one_sided),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The probability of `k` hits, from the one before.
    fn probabilities(n: usize, p: f64) -> Vec<f64> {
        let first = (1.0 - p).powi(n as i32);
        let next = |(k, probability): (usize, f64)| {
            let factor = (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            (k < n).then_some((k + 1, probability * factor))
        };
        std::iter::successors(Some((0, first)), |&at| next(at))
            .map(|(_, probability)| probability)
            .collect()
    }

    /// For any p the counts whose bound is above it have a probability of at most α together; and not of much less, so that nothing is given away.
    #[test]
    fn the_bound_is_above_the_truth_in_at_most_the_share_alpha() {
        let mut closest = 0.0_f64;
        for n in [1, 10, 100, 400] {
            for alpha in [0.001, 0.05, 0.3] {
                let bounds: Vec<f64> = (0..=n).map(|k| lower_bound(k, n, alpha)).collect();
                assert!(bounds.is_sorted(), "n {n}, alpha {alpha}");
                for p in (1..100).map(|percent| f64::from(percent) / 100.0) {
                    let missed = bounds.iter().zip(probabilities(n, p));
                    let missed: f64 = missed
                        .filter(|(bound, _)| **bound > p)
                        .map(|(_, q)| q)
                        .sum();
                    assert!(
                        missed <= alpha * (1.0 + 1e-9),
                        "n {n}, p {p}: {missed} of {alpha}"
                    );
                    closest = closest.max(missed / alpha);
                }
            }
        }
        assert!(closest > 0.95, "{closest}");
    }

    /// All of n hits: `pⁿ = α`.
    #[test]
    fn bounds_at_the_ends_have_a_closed_form() {
        for (n, alpha) in [(1, 0.5), (100, 0.001), (10_000, 0.001), (100_000, 1e-6)] {
            let expected = f64::powf(alpha, 1.0 / n as f64);
            assert!((lower_bound(n, n, alpha) - expected).abs() < 1e-12, "n {n}");
            assert_eq!(lower_bound(0, n, alpha), 0.0);
            let [low, high] = interval(n, n, 2.0 * alpha);
            assert!((low - expected).abs() < 1e-12 && high == 1.0, "n {n}");
        }
    }
}
