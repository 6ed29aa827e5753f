//! Every random draw of the trainer derives from a run's seed, the number of the update and a purpose.
//!
//! So a resumed run draws what the uninterrupted one would have drawn, and one purpose never disturbs another.

use parking_lot::{ReentrantMutex, ReentrantMutexGuard};
use tch::Tensor;

/// What a draw is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The split of a data set into training and test images.
    Split = 1,
    /// The order in which an epoch visits the training images.
    Order,
    /// Random shifts and mirroring of training images.
    Augmentation,
    /// The noise that is added to data.
    DataNoise,
    /// The first states of the bank.
    BankStart,
    /// Which chains are drawn from the bank, and which of them restart.
    Chains,
    /// The noise of the Langevin steps.
    Langevin,
    /// The random start of an attack.
    AttackStart,
    /// Purifications by which an attack finds its direction.
    AttackPurification,
    /// Fresh purifications that confirm or refute a break.
    Verification,
    /// The chains of a sample sheet.
    Samples,
    /// The first states of the bank in which chains burn in.
    BurnInStart,
    /// Which of its chains are visited, and which begin there.
    BurnInChains,
    /// The noise of their Langevin steps.
    BurnInLangevin,
    /// Images of a generator that are learned from.
    Examples,
    /// Which part of a picture becomes the image.
    Crop,
    /// The noise of one of several batches, or copies, of purifications.
    ChainNoise,
    /// What `∇_x E` is regressed on: levels of noise, and the noise.
    Matching,
    /// Which values dropout forgets.
    Dropout,
}

/// A seed for one purpose at one update.
pub fn derive(seed: u64, update: u64, purpose: Purpose) -> u64 {
    mix(mix(mix(seed).wrapping_add(update)).wrapping_add(purpose as u64))
}

/// libtorch has one generator of numbers for the whole process.
static GENERATOR: ReentrantMutex<()> = ReentrantMutex::new(());

/// While it lives, no other thread seeds libtorch's generator of numbers; a thread may have several.
#[derive(Debug)]
#[must_use = "the draws are this thread's alone only while this lives"]
pub struct Draws(#[expect(dead_code, reason = "held, not read")] ReentrantMutexGuard<'static, ()>);

/// Makes libtorch's next draws those of this purpose at this update.
pub fn seed_torch(seed: u64, update: u64, purpose: Purpose) -> Draws {
    seeded(derive(seed, update, purpose))
}

/// Makes libtorch's next draws those of this seed.
pub fn seeded(seed: u64) -> Draws {
    let held = GENERATOR.lock();
    tch::manual_seed(seed as i64);
    Draws(held)
}

/// The seed of a run that went back to an earlier checkpoint that many times: the configured one before the first time, then another each time.
pub fn after_rollbacks(seed: u64, rollbacks: u64) -> u64 {
    (0..rollbacks).fold(seed, |seed, _| mix(!seed))
}

/// A permutation of `0..n` by Fisher and Yates.
pub fn permutation(n: usize, seed: u64) -> Vec<i64> {
    let mut order: Vec<i64> = (0..n as i64).collect();
    let mut state = seed;
    for last in (1..n).rev() {
        state = state.wrapping_add(GOLDEN_GAMMA);
        let pick = (mix(state) as u128 * (last as u128 + 1)) >> 64;
        order.swap(last, pick as usize);
    }
    order
}

/// The draw of that number from a seed, uniform in `[0, 1)`.
pub fn uniform(seed: u64, number: u64) -> f64 {
    let bits = mix(seed.wrapping_add(number.wrapping_mul(GOLDEN_GAMMA)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Numbers as an index tensor, int64 `[n]`.
pub fn index(numbers: &[i64]) -> Tensor {
    Tensor::from_slice(numbers)
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(GOLDEN_GAMMA);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_permutation_holds_each_number_once_and_depends_on_the_seed() {
        let order = permutation(100, 1);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<i64>>());
        assert_ne!(order, permutation(100, 2));
        assert_eq!(order, permutation(100, 1));
    }

    /// The mean of n uniform draws is 1/2 with a deviation of `1/√(12n)`, that of their squares 1/3 with one of `√(4/45n)`.
    #[test]
    fn uniform_draws_have_the_moments_of_their_distribution() {
        let n = 10_000u64;
        let mean = |power| {
            (0..n)
                .map(|i| uniform(i % 100, i / 100).powi(power))
                .sum::<f64>()
                / n as f64
        };
        let deviations = 4.0 / (n as f64).sqrt();
        assert!((mean(1) - 1.0 / 2.0).abs() < deviations / 12f64.sqrt());
        assert!((mean(2) - 1.0 / 3.0).abs() < deviations * (4.0 / 45.0f64).sqrt());
    }

    #[test]
    fn each_rollback_changes_the_seed_and_none_keeps_it() {
        let seeds: std::collections::HashSet<u64> = (0..5)
            .map(|rollbacks| after_rollbacks(7, rollbacks))
            .collect();
        assert_eq!((seeds.len(), after_rollbacks(7, 0)), (5, 7));
    }

    /// Threads that seed and draw at the same time have what each would have alone.
    #[test]
    fn threads_do_not_disturb_each_others_draws() {
        let drawn = |seed| {
            let _draws = seeded(seed);
            let draws = (0..500).map(|_| Tensor::rand([1], (Kind::Float, Device::Cpu)));
            draws.map(|draw| draw.double_value(&[0])).collect()
        };
        let alone: Vec<Vec<f64>> = (0..4).map(drawn).collect();
        let together: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|seed| scope.spawn(move || drawn(seed)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(alone, together);
    }

    #[test]
    fn seed_update_and_purpose_each_change_the_draw() {
        let base = derive(1, 2, Purpose::Chains);
        assert_ne!(base, derive(2, 2, Purpose::Chains));
        assert_ne!(base, derive(1, 3, Purpose::Chains));
        assert_ne!(base, derive(1, 2, Purpose::Langevin));
    }
}
