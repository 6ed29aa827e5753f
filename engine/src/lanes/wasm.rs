//! Sixteen lanes as four registers of WebAssembly, where the build has `simd128`.

use std::arch::wasm32::*;

use super::{Kernel, Lanes};

#[derive(Clone, Copy)]
pub(super) struct Four([v128; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(v128, v128) -> v128) -> Self {
        Self(std::array::from_fn(|part| {
            function(self.0[part], other.0[part])
        }))
    }
}

impl Lanes for Four {
    const ROWS: [usize; 3] = [3, 0, 0];

    #[inline(never)]
    fn call<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([f32x4_splat(x); 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller says that sixteen floats can be read there.
        unsafe {
            Self(std::array::from_fn(|part| {
                v128_load(from.add(4 * part).cast())
            }))
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (part, register) in self.0.into_iter().enumerate() {
            // SAFETY: the caller says that sixteen floats can be written there.
            unsafe { v128_store(to.add(4 * part).cast(), register) }
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| f32x4_add(a, b))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| f32x4_sub(a, b))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| f32x4_mul(a, b))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| f32x4_div(a, b))
    }
    /// Rounded twice: WebAssembly has no such instruction that rounds everywhere alike.
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul(factor).add(term)
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
        Self(self.0.map(|a| f32x4_sqrt(a)))
    }
    #[inline(always)]
    fn if_above(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|part| {
            v128_bitselect(
                yes.0[part],
                no.0[part],
                f32x4_gt(self.0[part], other.0[part]),
            )
        }))
    }
    #[inline(always)]
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|part| {
            v128_bitselect(
                yes.0[part],
                no.0[part],
                f32x4_eq(self.0[part], other.0[part]),
            )
        }))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|x| {
            let exponent = i32x4_add(i32x4_trunc_sat_f32x4(x), i32x4_splat(127));
            i32x4_shl(exponent, 23)
        }))
    }
}
