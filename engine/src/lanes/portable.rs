//! Sixteen lanes as an array: right on every processor, as fast as the compiler makes plain loops, and what the other kinds are tested against.

use super::{Kernel, LANES, Lanes};

#[derive(Clone, Copy)]
pub(super) struct Array([f32; LANES]);

impl Array {
    #[inline(always)]
    fn zip(self, other: Self, function: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| {
            function(self.0[lane], other.0[lane])
        }))
    }
}

impl Lanes for Array {
    const ROWS: [usize; 3] = [2, 0, 0];

    #[inline(never)]
    fn call<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<Self>()
    }

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller says that sixteen floats can be read there.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller says that sixteen floats can be written there.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    /// Rounded twice: one rounding is a function call on processors without the instruction.
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            self.0[lane] * factor.0[lane] + term.0[lane]
        }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    fn if_above(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if self.0[lane] > other.0[lane] {
                yes.0[lane]
            } else {
                no.0[lane]
            }
        }))
    }
    #[inline(always)]
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            if self.0[lane] == other.0[lane] {
                yes.0[lane]
            } else {
                no.0[lane]
            }
        }))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(
            self.0
                .map(|x| f32::from_bits(((x as i32 + 127) << 23) as u32)),
        )
    }
}
