//! Sixteen lanes as four registers of NEON, which every 64-bit ARM processor has.

use std::arch::aarch64::*;

use super::{Kernel, Lanes};

#[derive(Clone, Copy)]
pub(super) struct Four([float32x4_t; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        Self(std::array::from_fn(|part| {
            function(self.0[part], other.0[part])
        }))
    }
}

// SAFETY of all blocks below: NEON belongs to the target; pointers are as the trait asks.
impl Lanes for Four {
    const ROWS: [usize; 3] = [6, 0, 0];

    #[inline(never)]
    fn call<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        unsafe { Self([vdupq_n_f32(x); 4]) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(std::array::from_fn(|part| vld1q_f32(from.add(4 * part)))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (part, register) in self.0.into_iter().enumerate() {
            unsafe { vst1q_f32(to.add(4 * part), register) }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|part| unsafe {
            vfmaq_f32(term.0[part], self.0[part], factor.0[part])
        }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.if_above(other, self, other)
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        other.if_above(self, self, other)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(|a| unsafe { vsqrtq_f32(a) }))
    }
    #[inline(always)]
    fn if_above(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|part| unsafe {
            vbslq_f32(
                vcgtq_f32(self.0[part], other.0[part]),
                yes.0[part],
                no.0[part],
            )
        }))
    }
    #[inline(always)]
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|part| unsafe {
            vbslq_f32(
                vceqq_f32(self.0[part], other.0[part]),
                yes.0[part],
                no.0[part],
            )
        }))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|x| unsafe {
            let exponent = vaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }))
    }
}
