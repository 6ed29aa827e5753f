//! Functions of one element that take more than an instruction, for sixteen at once.
//!
//! The polynomials are those of Cephes (Moshier, single precision), within a few units in the last place of f32.

use super::Lanes;

/// Adding it rounds to a whole number, for numbers below 2²² of either sign.
const ROUNDER: f32 = 12_582_912.0;

#[inline(always)]
fn polynomial<V: Lanes>(x: V, coefficients: &[f32]) -> V {
    let mut sum = V::splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, V::splat(coefficient));
    }
    sum
}

#[inline(always)]
pub(crate) fn abs<V: Lanes>(x: V) -> V {
    x.max(V::zero().sub(x))
}

/// `eˣ`: infinite above 89, 0 below -104.
#[inline(always)]
pub(crate) fn exp<V: Lanes>(x: V) -> V {
    // The operand comes second, so that NaN stays NaN.
    let x = V::splat(-105.0).max(V::splat(90.0).min(x));
    let n = x
        .mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDER))
        .sub(V::splat(ROUNDER));
    let rest = n.mul_add(V::splat(-0.693_359_4), x);
    let rest = n.mul_add(V::splat(2.121_944_4e-4), rest);
    let tail = polynomial(
        rest,
        &[
            1.987_569_1e-4,
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_65,
            0.5,
        ],
    );
    let power = tail.mul_add(rest.mul(rest), rest).add(V::splat(1.0));
    // 2ⁿ in two factors: n reaches beyond the exponents of f32.
    let half = n
        .mul_add(V::splat(0.5), V::splat(ROUNDER))
        .sub(V::splat(ROUNDER));
    power
        .mul(half.power_of_two())
        .mul(n.sub(half).power_of_two())
}

/// `log(1 + t)` for t from 0 to 1.
#[inline(always)]
fn log_above_one<V: Lanes>(t: V) -> V {
    let one = V::splat(1.0);
    let u = t.add(one);
    let root = V::splat(std::f32::consts::SQRT_2);
    // 1 + t = m·2ᵉ with m near 1. What rounding took from 1 + t comes back as a first-order term.
    let (half, two) = (V::splat(0.5), V::splat(2.0));
    let scale = u.if_above(root, half, one);
    let m = u.mul(scale).sub(one);
    let lost = t
        .sub(u.sub(one))
        .mul(u.if_above(root, half, one))
        .div(m.add(one));
    let square = m.mul(m);
    let tail = polynomial(
        m,
        &[
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_98,
            -0.124_201_41,
            0.142_493_23,
            -0.166_680_57,
            0.200_007_14,
            -0.249_999_94,
            0.333_333_3,
        ],
    );
    let log = tail
        .mul(m)
        .mul(square)
        .sub(square.div(two))
        .add(m)
        .add(lost);
    log.add(u.if_above(root, V::splat(std::f32::consts::LN_2), V::zero()))
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) fn sigmoid<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(exp(V::zero().sub(x)).add(one))
}

/// `log(1 + eˣ)`.
#[inline(always)]
pub(crate) fn softplus<V: Lanes>(x: V) -> V {
    log_above_one(exp(V::zero().sub(abs(x)))).add(V::zero().max(x))
}

/// The hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<V: Lanes>(x: V) -> V {
    let (one, two) = (V::splat(1.0), V::splat(2.0));
    let size = abs(x);
    let far = one.sub(two.div(exp(size.mul(two)).add(one)));
    let far = V::zero().if_above(x, V::zero().sub(far), far);
    let square = x.mul(x);
    let near = polynomial(
        square,
        &[
            -5.704_988_7e-3,
            2.063_908_8e-2,
            -5.373_971_6e-2,
            0.133_314_42,
            -0.333_332_8,
        ],
    );
    let near = near.mul(square).mul_add(x, x);
    size.if_above(V::splat(0.625), far, near)
}

/// The error function.
#[inline(always)]
pub(crate) fn erf<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    let (size, square) = (abs(x), x.mul(x));
    let near = polynomial(
        square,
        &[
            7.853_861e-5,
            -8.010_194e-4,
            5.188_327_7e-3,
            -2.685_381_2e-2,
            0.112_835_85,
            -0.376_126_26,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    )
    .mul(x);
    // Behind 1 the complement, e^(−x²)/x times a polynomial of 1/x².
    let size_there = one.max(size);
    let inverse = one.div(size_there);
    let inverse_square = inverse.mul(inverse);
    let middle = polynomial(
        inverse_square,
        &[
            2.326_82e-2,
            -0.138_703_94,
            0.368_742_47,
            -0.582_473_3,
            0.621_000_47,
            -0.494_451_53,
            0.340_488,
            -0.274_112_7,
            0.563_825_94,
        ],
    );
    let outer = polynomial(
        inverse_square,
        &[
            -10.477_664,
            12.977_199,
            -7.495_519,
            2.921_019,
            -1.015_265_3,
            0.421_846_35,
            -0.282_076_75,
            0.564_189_6,
        ],
    );
    let tail = size_there.if_above(V::splat(2.0), outer, middle);
    let complement = exp(V::zero().sub(size_there.mul(size_there)))
        .mul(inverse)
        .mul(tail);
    let far = one.sub(complement);
    let far = V::zero().if_above(x, V::zero().sub(far), far);
    size.if_above(one, far, near)
}
