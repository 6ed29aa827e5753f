//! How well chains mix: R-hat and effective sample size of a number that each chain has at each draw.
//!
//! As in Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021), but for the numbers themselves and not for their ranks. Each chain is cut
//! in halves, which count as chains of their own. Of m such chains of n draws W is the mean variance within chains, B/n the variance of
//! their means, and `var⁺ = (n−1)/n · W + B/n`. Then `R-hat = √(var⁺/W)`, and with the autocorrelation over chains
//! `ρ_t = 1 − (W − mean over chains of the autocovariance at lag t)/var⁺` the effective sample size is `m·n/τ`,
//! `τ = −1 + 2·Σ_k P_k` with the pairs `P_k = ρ_2k + ρ_2k+1`, summed while they are positive and lowered to the smallest so far
//! (the initial monotone sequence of Geyer 1992).

use serde::Serialize;

/// Draws of half a chain, at least: fewer say nothing of its variance.
const MIN_DRAWS: usize = 4;

/// How well chains mix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Mixing {
    /// 1 if all chains are alike and stationary, above it otherwise.
    pub r_hat: f64,
    /// As many independent draws would say as much of the mean as all draws of all chains do.
    pub effective_sample_size: f64,
}

/// R-hat and effective sample size of chains of equal lengths. None if a chain has fewer than eight draws, a number is not finite, or
/// no chain ever moves.
pub fn mixing(chains: &[Vec<f64>]) -> Option<Mixing> {
    let halves: Vec<Half<'_>> = chains.iter().flat_map(|chain| halves(chain)).collect();
    let n = halves.first()?.draws.len();
    if n < MIN_DRAWS {
        return None;
    }
    let (m, count) = (halves.len() as f64, n as f64);
    let within = mean(halves.iter().map(Half::variance));
    let between = variance_of(&halves.iter().map(|half| half.mean).collect::<Vec<f64>>());
    let total = (count - 1.0) / count * within + between;
    if !(within > 0.0 && total.is_finite()) {
        return None;
    }
    let autocorrelation = |lag: usize| {
        let covariance = mean(halves.iter().map(|half| half.autocovariance(lag)));
        match lag {
            0 => 1.0,
            _ => 1.0 - (within - covariance) / total,
        }
    };
    let pairs = (0..n / 2).map(|pair| autocorrelation(2 * pair) + autocorrelation(2 * pair + 1));
    let monotone = pairs
        .take_while(|&pair| pair > 0.0)
        .scan(f64::INFINITY, |least, pair| {
            *least = least.min(pair);
            Some(*least)
        });
    let time = -1.0 + 2.0 * monotone.sum::<f64>();
    // Chains that alternate may say more than independent draws, but no estimate of how much more can be trusted.
    let shortest = 1.0 / (m * count).log10();
    Some(Mixing {
        r_hat: (total / within).sqrt(),
        effective_sample_size: m * count / time.max(shortest),
    })
}

/// A half of a chain.
struct Half<'a> {
    draws: &'a [f64],
    mean: f64,
}

/// The first and the last half; a draw in the middle belongs to neither.
fn halves(chain: &[f64]) -> [Half<'_>; 2] {
    let n = chain.len() / 2;
    [&chain[..n], &chain[chain.len() - n..]].map(|draws| Half {
        draws,
        mean: mean(draws.iter().copied()),
    })
}

impl Half<'_> {
    fn variance(&self) -> f64 {
        variance_of(self.draws)
    }

    /// The mean over all draws, though a lag leaves fewer pairs, so that autocovariances at long lags are small.
    fn autocovariance(&self, lag: usize) -> f64 {
        let pairs = self.draws.iter().zip(&self.draws[lag..]);
        let products = pairs.map(|(early, late)| (early - self.mean) * (late - self.mean));
        products.sum::<f64>() / self.draws.len() as f64
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// The variance of the population that values were drawn from.
fn variance_of(values: &[f64]) -> f64 {
    let centre = mean(values.iter().copied());
    let squares = values.iter().map(|value| (value - centre).powi(2));
    squares.sum::<f64>() / (values.len() as f64 - 1.0)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::machine::randomness::seeded;

    /// Stationary chains `x_t = ρ·x_t−1 + √(1 − ρ²)·z` of variance 1, each around its mean.
    fn chains(rho: f64, means: &[f64], n: usize) -> Vec<Vec<f64>> {
        let _draws = seeded(7);
        let noise = || {
            let noise = Tensor::randn([n as i64], (Kind::Double, Device::Cpu));
            Vec::<f64>::try_from(noise).unwrap()
        };
        let chain = |mean: &f64| {
            let mut state = noise()[0];
            let moves = noise().into_iter().map(|z| {
                state = rho * state + (1.0 - rho * rho).sqrt() * z;
                mean + state
            });
            moves.collect()
        };
        means.iter().map(chain).collect()
    }

    /// Draws with autocorrelation ρ^t are worth (1 − ρ)/(1 + ρ) of as many independent ones.
    #[test]
    fn autoregressive_chains_have_their_effective_sample_size() {
        for (rho, tolerance) in [(0.0, 0.06), (0.3, 0.08), (0.6, 0.1), (0.9, 0.15)] {
            let Mixing {
                r_hat,
                effective_sample_size,
            } = mixing(&chains(rho, &[0.0; 8], 4000)).unwrap();
            let wanted = 32_000.0 * (1.0 - rho) / (1.0 + rho);
            let error = effective_sample_size / wanted - 1.0;
            assert!(error.abs() < tolerance, "{rho}: {effective_sample_size}");
            assert!((0.999..1.01).contains(&r_hat), "{rho}: {r_hat}");
        }
    }

    /// Of means ±a and variance 1 within, the four halves have means of variance 4a²/3.
    #[test]
    fn chains_of_different_means_have_their_r_hat() {
        for a in [0.5, 1.5, 4.0] {
            let Mixing {
                r_hat,
                effective_sample_size,
            } = mixing(&chains(0.0, &[-a, a], 4000)).unwrap();
            let wanted = (1.0 + 4.0 * a * a / 3.0f64).sqrt();
            assert!((r_hat / wanted - 1.0).abs() < 0.03, "{a}: {r_hat}");
            assert!(effective_sample_size < 20.0, "{a}: {effective_sample_size}");
        }
    }

    #[test]
    fn a_trend_within_chains_is_no_mixing() {
        let drifting: Vec<Vec<f64>> = chains(0.0, &[0.0; 4], 1000)
            .into_iter()
            .map(|chain| {
                let drift = chain.into_iter().enumerate();
                drift.map(|(t, x)| x + 0.01 * t as f64).collect()
            })
            .collect();
        assert!(mixing(&drifting).unwrap().r_hat > 1.5);
    }

    /// By hand: halves (0, 2, 0, 2) and (4, 2, 4, 2) have means 1 and 3 and variances 4/3; var⁺ = 3/4 · 4/3 + 2 = 3. The autocovariances at
    /// lags 0 to 3 are 1, −3/4, 2/4, −1/4, so that ρ is 1, 11/36, 26/36, 17/36 and the pairs are 47/36 and 43/36.
    #[test]
    fn eight_draws_have_the_values_by_hand() {
        let chain = vec![0.0, 2.0, 0.0, 2.0, 4.0, 2.0, 4.0, 2.0];
        let Mixing {
            r_hat,
            effective_sample_size,
        } = mixing(&[chain]).unwrap();
        assert!((r_hat - (9.0f64 / 4.0).sqrt()).abs() < 1e-12);
        let wanted = 8.0 / (-1.0 + 2.0 * (47.0 + 43.0) / 36.0);
        assert!((effective_sample_size - wanted).abs() < 1e-12);
    }

    #[test]
    fn what_says_nothing_has_no_values() {
        let alternating = [1.0, -1.0].repeat(50);
        let capped = mixing(&[alternating]).unwrap().effective_sample_size;
        assert!((capped - 100.0 * 100f64.log10()).abs() < 1e-9, "{capped}");
        for chains in [
            vec![],
            vec![vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]],
            vec![vec![3.0; 20]; 4],
            vec![vec![f64::NAN; 20]; 4],
        ] {
            assert_eq!(mixing(&chains), None, "{chains:?}");
        }
    }
}
