//! Sixteen f32 at once: the vector type in which every kernel is written, and what it is on each processor.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod functions;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;

use std::fmt;

pub(crate) use functions::{abs, erf, exp, sigmoid, softplus, tanh};

/// How many elements a vector has, and how many channels stand beside each other in blocked pictures.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 and what kernels do with them.
///
/// All but [`Lanes::load`] and [`Lanes::store`] are safe to call as soon as a value of the type exists, and those are only made in functions that were
/// compiled for the processor: [`Processor::run`] is the one way into them.
pub(crate) trait Lanes: Copy {
    /// Rows of a product that fit the registers with 1, 2 and 4 vectors of outputs; 0 if that many vectors do not fit.
    const ROWS: [usize; 3];

    fn splat(x: f32) -> Self;
    /// # Safety
    /// Sixteen floats can be read there, and the processor has the instructions.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// Sixteen floats can be written there.
    unsafe fn store(self, to: *mut f32);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self · factor + term`, rounded once where the processor can.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// The greater; `other` if one of both is NaN.
    fn max(self, other: Self) -> Self;
    /// The lesser; `other` if one of both is NaN.
    fn min(self, other: Self) -> Self;
    fn sqrt(self) -> Self;
    /// `yes` where self > other, else `no`.
    fn if_above(self, other: Self, yes: Self, no: Self) -> Self;
    /// `yes` where self = other, else `no`.
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self;
    /// `2ˣ` for whole x from -126 to 127.
    fn power_of_two(self) -> Self;

    /// Runs a kernel as a function of its own, compiled for these vectors.
    fn call<K: Kernel>(kernel: K) -> K::Output;

    /// Asks for the line of the cache at an address that is read soon; any address will do.
    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// Each element through a function of one.
    #[inline(always)]
    fn each(self, function: impl Fn(f32) -> f32) -> Self {
        let mut elements = [0.0; LANES];
        // SAFETY: the array has sixteen floats, and a value of this type exists.
        unsafe {
            self.store(elements.as_mut_ptr());
            elements.iter_mut().for_each(|x| *x = function(*x));
            Self::load(elements.as_ptr())
        }
    }

    /// Each pair of elements through a function of two.
    #[inline(always)]
    fn each_with(self, other: Self, function: impl Fn(f32, f32) -> f32) -> Self {
        let (mut elements, mut others) = ([0.0; LANES], [0.0; LANES]);
        // SAFETY: the arrays have sixteen floats, and a value of this type exists.
        unsafe {
            self.store(elements.as_mut_ptr());
            other.store(others.as_mut_ptr());
            elements
                .iter_mut()
                .zip(others)
                .for_each(|(x, y)| *x = function(*x, y));
            Self::load(elements.as_ptr())
        }
    }
}

/// Work that is written once for every kind of vector.
///
/// What it calls has to be inlined into it (`#[inline(always)]`): only so is it compiled for the processor.
pub(crate) trait Kernel {
    type Output;
    fn run<V: Lanes>(self) -> Self::Output;
}

/// The kind of vectors that this machine computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// AVX-512: one register.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2 and FMA: two registers.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON: four registers.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// WebAssembly's vectors: four registers.
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    Simd128,
    /// What the compiler makes of plain loops.
    Portable,
}

impl Processor {
    /// Those that this machine has, the fastest first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if has_avx2 && is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
            if has_avx2 {
                all.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Self::Neon);
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        all.push(Self::Simd128);
        all.push(Self::Portable);
        all
    }

    /// The fastest of this machine.
    pub fn best() -> Self {
        Self::all()[0]
    }

    /// See [`Lanes::ROWS`].
    pub(crate) fn rows(self) -> [usize; 3] {
        struct Rows;
        impl Kernel for Rows {
            type Output = [usize; 3];
            #[inline(always)]
            fn run<V: Lanes>(self) -> [usize; 3] {
                V::ROWS
            }
        }
        self.run(Rows)
    }

    /// Vectors of outputs that kernels compute at once, if that many and no more are there.
    pub(crate) fn most_vectors(self, n_vectors: usize) -> usize {
        let rows = self.rows();
        let fits =
            |&vectors: &usize| vectors <= n_vectors && rows[vectors.trailing_zeros() as usize] > 0;
        [4, 2].into_iter().find(fits).unwrap_or(1)
    }

    #[inline(always)]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: `all` gives out these kinds only where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => kernel.run::<neon::Four>(),
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => kernel.run::<wasm::Four>(),
            Self::Portable => kernel.run::<portable::Array>(),
        }
    }
}

/// Runs work as the compiler makes it for the widest vectors that this machine has.
///
/// The work has to be plain code that the compiler can inline, loops over numbers for example. Its results do not depend on the vectors, since no
/// operation on numbers is put in another's place.
pub fn on_widest_vectors<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> Kernel for Work<F> {
        type Output = R;
        #[inline(always)]
        fn run<V: Lanes>(self) -> R {
            self.0()
        }
    }
    Processor::best().run(Work(work))
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
            #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
            Self::Simd128 => "simd128",
            Self::Portable => "plain scalars",
        })
    }
}
