//! Standard normal noise from a counter: Philox 4x32-10 and Box–Muller.
//!
//! The noise of an image depends on nothing but seed, replica, image index, step and element, so that a result does not change with batch size, order,
//! threads or backend. Logarithm, sine and cosine are computed here, in f64, and rounded once to f32: every machine gets the same bits.

mod normal;
mod runs;

#[cfg(feature = "native")]
use ebm_engine::on_widest_vectors;
use normal::{LANES, box_muller, uniform};
pub(crate) use runs::{NoiseCoordinates, NoiseOfRuns, NoiseThread};

/// The four pseudo-random words that belong to a counter under a key: Philox 4x32 with 10 rounds.
///
/// Source: Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011.
#[inline(always)]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    const N_ROUNDS: usize = 10;
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..N_ROUNDS {
        let product_0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let product_1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        (c0, c1, c2, c3) = (
            (product_1 >> 32) as u32 ^ c1 ^ k0,
            product_1 as u32,
            (product_0 >> 32) as u32 ^ c3 ^ k1,
            product_0 as u32,
        );
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3]
}

/// Fills `noise` with independent standard normals: element `e` is number `e % 4` of the block with counter `[e / 4, step, image, replica]` under the key `seed`.
///
/// `step` counts from 0. The values do not depend on how long `noise` is.
pub fn fill_normal(seed: u64, image: u32, replica: u32, step: u32, noise: &mut [f32]) {
    on_widest_vectors(|| fill(seed, [step, image, replica], noise));
}

#[inline(always)]
fn fill(seed: u64, counter: [u32; 3], noise: &mut [f32]) {
    let key = [seed as u32, (seed >> 32) as u32];
    for (group, values) in noise.chunks_mut(4 * LANES).enumerate() {
        let words = words(group * LANES, counter, key);
        let (z0, z1) = box_muller(&words[0], &words[1]);
        let (z2, z3) = box_muller(&words[2], &words[3]);
        for (lane, values) in values.chunks_mut(4).enumerate() {
            let block = [z0[lane], z1[lane], z2[lane], z3[lane]];
            values.copy_from_slice(&block[..values.len()]);
        }
    }
}

/// Fills `values` with independent uniform numbers in `(-1, 1)`: element `e` is `2u − 1` with `u = (word + ½)·2⁻³²` of the word that [`fill_normal`] would
/// begin with at the same counter and place.
pub fn fill_uniform(seed: u64, image: u32, replica: u32, step: u32, values: &mut [f32]) {
    let key = [seed as u32, (seed >> 32) as u32];
    for (block, values) in values.chunks_mut(4).enumerate() {
        let words = philox4x32_10([block as u32, step, image, replica], key);
        for (value, word) in values.iter_mut().zip(words) {
            *value = (2.0 * uniform(word) - 1.0) as f32;
        }
    }
}

/// Without the engine, the vectors that every processor of this kind has.
#[cfg(not(feature = "native"))]
fn on_widest_vectors(work: impl FnOnce()) {
    work();
}

/// The words of [`LANES`] blocks from `first_block` on: number `w` of all blocks together, for each `w`.
#[inline(always)]
fn words(first_block: usize, counter: [u32; 3], key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut words = [[0; LANES]; 4];
    for lane in 0..LANES {
        let [c1, c2, c3] = counter;
        let block = philox4x32_10([(first_block + lane) as u32, c1, c2, c3], key);
        for (words, word) in words.iter_mut().zip(block) {
            words[lane] = word;
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_reproduces_the_known_answers_of_random123() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(
                philox4x32_10(counter, key),
                answer,
                "counter {counter:x?} key {key:x?}"
            );
        }
    }

    /// The first block of seed 0 written out, so that an accidental change of the noise cannot pass.
    #[test]
    fn first_values_are_fixed() {
        let mut noise = [0.0; 4];
        fill_normal(0, 0, 0, 0, &mut noise);
        // Words 0x6627e8d5 and 0xe169c58d: u₁ = 0.399046…, u₂ = 0.880520…
        let radius = (-2.0
            * (f64::from(0x6627_e8d5_u32) + 0.5)
                .mul_add(2f64.powi(-32), 0.0)
                .ln())
        .sqrt();
        let angle = std::f64::consts::TAU * (f64::from(0xe169_c58d_u32) + 0.5) * 2f64.powi(-32);
        assert!((f64::from(noise[0]) - radius * angle.cos()).abs() < 1e-6);
        assert!((f64::from(noise[1]) - radius * angle.sin()).abs() < 1e-6);
    }

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        const N: usize = 1 << 20;
        let mut noise = vec![0.0; N];
        fill_normal(7, 3, 1, 2, &mut noise);
        let moment =
            |power: i32| noise.iter().map(|&z| f64::from(z).powi(power)).sum::<f64>() / N as f64;
        // Five standard errors of the mean of zᵖ: √(Var zᵖ / N) with Var = 1, 2, 15, 96 for p = 1, 2, 3, 4.
        for (power, expected, variance) in
            [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)]
        {
            let tolerance = 5.0 * f64::sqrt(variance / N as f64);
            let got = moment(power);
            assert!(
                (got - expected).abs() < tolerance,
                "moment {power}: {got} ± {tolerance}"
            );
        }
    }

    #[test]
    fn every_coordinate_changes_the_noise_and_length_does_not() {
        let draw = |seed, image, replica, step, n| {
            let mut noise = vec![0.0; n];
            fill_normal(seed, image, replica, step, &mut noise);
            noise
        };
        let base = draw(1, 2, 3, 4, 64);
        for (name, other) in [
            ("seed, low word", draw(2, 2, 3, 4, 64)),
            ("seed, high word", draw(1 | 1 << 32, 2, 3, 4, 64)),
            ("image", draw(1, 3, 3, 4, 64)),
            ("replica", draw(1, 2, 4, 4, 64)),
            ("step", draw(1, 2, 3, 5, 64)),
            ("image and replica exchanged", draw(1, 3, 2, 4, 64)),
        ] {
            assert!(base.iter().zip(&other).all(|(a, b)| a != b), "{name}");
        }
        for n in [1, 3, 4, 5, 63] {
            assert_eq!(draw(1, 2, 3, 4, n), base[..n], "length {n}");
        }
    }

    #[test]
    fn uniform_numbers_have_their_moments_and_stay_inside() {
        const N: usize = 1 << 18;
        let mut values = vec![0.0; N];
        fill_uniform(7, 3, 1, 2, &mut values);
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        // Mean 0 and mean square 1/3, each within five standard errors.
        for (power, expected, variance) in [(1, 0.0, 1.0 / 3.0), (2, 1.0 / 3.0, 4.0 / 45.0)] {
            let sum: f64 = values.iter().map(|&v| f64::from(v).powi(power)).sum();
            let error = (sum / N as f64 - expected).abs();
            assert!(
                error < 5.0 * f64::sqrt(variance / N as f64),
                "moment {power}: off by {error}"
            );
        }
    }

    #[test]
    fn neighbouring_streams_are_uncorrelated() {
        const N: usize = 1 << 16;
        let draw = |image, replica, step| {
            let mut noise = vec![0.0_f32; N];
            fill_normal(11, image, replica, step, &mut noise);
            noise
        };
        let base = draw(0, 0, 0);
        for (image, replica, step) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let other = draw(image, replica, step);
            let correlation = base
                .iter()
                .zip(&other)
                .map(|(a, b)| f64::from(a * b))
                .sum::<f64>()
                / N as f64;
            assert!(correlation.abs() < 5.0 / (N as f64).sqrt(), "{correlation}");
        }
    }
}
