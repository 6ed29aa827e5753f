//! Standard normals from pseudo-random words by Box–Muller, several at a time.
//!
//! Sums, products, quotients and square roots of f64 alone, without branches: compilers make vector instructions of it, and every machine gets the same bits.

use std::f64::consts::TAU;

/// Pairs of words that are worked on together.
pub(super) const LANES: usize = 8;

/// `2⁻³²`
const SCALE: f64 = 1.0 / 4_294_967_296.0;

/// `(word + ½)·2⁻³²`, which is never 0 or 1.
#[inline(always)]
pub(super) fn uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * SCALE
}

/// Two independent standard normals of each pair of words: `√(−2 ln u₁)·cos 2πu₂` and `√(−2 ln u₁)·sin 2πu₂` with their [`uniform`] numbers, computed in f64 and
/// rounded once.
#[inline(always)]
pub(super) fn box_muller(
    words_1: &[u32; LANES],
    words_2: &[u32; LANES],
) -> ([f32; LANES], [f32; LANES]) {
    let (mut cosines, mut sines) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        let radius = (-2.0 * logarithm(uniform(words_1[lane]))).sqrt();
        let (cosine, sine) = cosine_and_sine(words_2[lane]);
        cosines[lane] = (radius * cosine) as f32;
        sines[lane] = (radius * sine) as f32;
    }
    (cosines, sines)
}

/// `ln x` of a positive, normal number, to about one unit in the last place.
///
/// With `x = 2ᵏ·m`, `m` between `√½` and `√2`, and `s = (m − 1) / (m + 1)`, it is `k·ln 2 + 2·artanh s`, whose series after the first term is a
/// polynomial of `s²`. Coefficients: fdlibm, `e_log.c` (Sun Microsystems 1993).
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const COEFFICIENTS: [f64; 7] = [
        6.666_666_666_666_735e-1,
        3.999_999_999_940_942e-1,
        2.857_142_874_366_239e-1,
        2.222_219_843_214_978_4e-1,
        1.818_357_216_161_805e-1,
        1.531_383_769_920_937_3e-1,
        1.479_819_860_511_658_6e-1,
    ];
    /// High words of 1 and of `√½`.
    const ONE: u32 = 0x3ff0_0000;
    const SQRT_HALF: u32 = 0x3fe6_a09e;
    let bits = x.to_bits();
    let high = ((bits >> 32) as u32).wrapping_add(ONE - SQRT_HALF);
    let exponent = f64::from((high >> 20) as i32 - 0x3ff);
    let high = (high & 0x000f_ffff) + SQRT_HALF;
    let mantissa = f64::from_bits(u64::from(high) << 32 | bits & 0xffff_ffff);
    let f = mantissa - 1.0;
    let s = f / (2.0 + f);
    let half_square = 0.5 * f * f;
    let z = s * s;
    let rest = z * polynomial(&COEFFICIENTS, z);
    exponent * LN_2_HIGH - ((half_square - (s * (half_square + rest) + exponent * LN_2_LOW)) - f)
}

/// `cos 2πu` and `sin 2πu` of the uniform number u of a word, to about one unit in the last place.
///
/// The word's quarter of the circle and its place in it, between −π/4 and π/4, are exact. Coefficients: fdlibm, `k_cos.c` and `k_sin.c`.
#[inline(always)]
fn cosine_and_sine(word: u32) -> (f64, f64) {
    const OF_COSINE: [f64; 6] = [
        4.166_666_666_666_66e-2,
        -1.388_888_888_887_411e-3,
        2.480_158_728_947_673e-5,
        -2.755_731_435_139_066_3e-7,
        2.087_572_321_298_175e-9,
        -1.135_964_755_778_819_5e-11,
    ];
    const OF_SINE: [f64; 6] = [
        -1.666_666_666_666_663_2e-1,
        8.333_333_333_322_49e-3,
        -1.984_126_982_985_795e-4,
        2.755_731_370_707_007e-6,
        -2.505_076_025_340_686_3e-8,
        1.589_690_995_211_55e-10,
    ];
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let place = word.wrapping_sub(quarter << 30) as i32;
    let angle = (f64::from(place) + 0.5) * (TAU * SCALE);
    let z = angle * angle;
    let sine = angle + angle * z * polynomial(&OF_SINE, z);
    let cosine = 1.0 - (0.5 * z - z * z * polynomial(&OF_COSINE, z));
    let (cosine, sine) = match quarter & 1 {
        0 => (cosine, sine),
        _ => (sine, cosine),
    };
    // The cosine is negative in quarters 1 and 2, the sine in 2 and 3.
    let sign = |bit: u32| f64::from(1 - (bit & 2) as i32);
    (sign(quarter + 1) * cosine, sign(quarter) * sine)
}

/// `c₀ + c₁x + c₂x² + …`
#[inline(always)]
fn polynomial<const N: usize>(coefficients: &[f64; N], x: f64) -> f64 {
    let lower = coefficients[..N - 1].iter().rev();
    lower.fold(coefficients[N - 1], |sum, coefficient| {
        sum * x + coefficient
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words over the whole range, with all neighbourhoods of quarters of the circle and of powers of two.
    fn words() -> impl Iterator<Item = u32> {
        let edges = (0..32)
            .flat_map(|bit| (0..64).map(move |n| (1_u32 << bit).wrapping_add(n).wrapping_sub(32)));
        let eighths = (0..8_u32)
            .flat_map(|n| (0..64).map(move |m| (n << 29).wrapping_add(m).wrapping_sub(32)));
        edges.chain(eighths).chain((0..1 << 20).map(|n| n * 4093))
    }

    #[test]
    fn logarithms_are_those_of_libm_to_two_units_in_the_last_place() {
        for word in words() {
            let u = uniform(word);
            let (got, wanted) = (logarithm(u), libm::log(u));
            let error = (got - wanted).abs() / wanted.abs();
            assert!(error <= 2.0 * f64::EPSILON, "ln {u}: {got}, not {wanted}");
        }
    }

    #[test]
    fn cosines_and_sines_are_those_of_libm() {
        for word in words() {
            let (cosine, sine) = cosine_and_sine(word);
            let (wanted_sine, wanted_cosine) = libm::sincos(TAU * uniform(word));
            // The angle that libm is given is rounded, to within 2π·ε/2.
            for (got, wanted) in [(cosine, wanted_cosine), (sine, wanted_sine)] {
                assert!(
                    (got - wanted).abs() <= 4.0 * f64::EPSILON,
                    "{word}: {got}, not {wanted}"
                );
            }
            assert!((cosine * cosine + sine * sine - 1.0).abs() <= 4.0 * f64::EPSILON);
        }
    }

    #[test]
    fn every_lane_is_worked_on_alone() {
        let words = |first: u32| std::array::from_fn(|lane| first.wrapping_mul(lane as u32 + 1));
        let (of_radius, of_angle) = (words(0x6627_e8d5), words(0xe169_c58d));
        let (cosines, sines) = box_muller(&of_radius, &of_angle);
        for lane in 0..LANES {
            let radius = (-2.0 * libm::log(uniform(of_radius[lane]))).sqrt();
            let (sine, cosine) = libm::sincos(TAU * uniform(of_angle[lane]));
            for (got, wanted) in [
                (cosines[lane], radius * cosine),
                (sines[lane], radius * sine),
            ] {
                assert!((f64::from(got) - wanted).abs() <= 1e-7 * wanted.abs());
            }
        }
    }
}
