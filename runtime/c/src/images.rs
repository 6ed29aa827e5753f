//! Images in the caller's memory: f32 in the order `[N, C, H, W]`, or bytes in the order `[N, H, W, C]`.
#![allow(unsafe_code)]

use runtime::{ImageShape, Images};

use crate::pointer;
use crate::status::{Failure, Result, Status};

/// A value of an image in the caller's memory.
pub(crate) trait Pixel: Copy {
    /// Images of these values.
    fn read(shape: ImageShape, values: &[Self]) -> Result<Images>;

    /// The values of these images.
    fn write(images: &Images) -> Vec<Self>;
}

impl Pixel for f32 {
    fn read(shape: ImageShape, values: &[Self]) -> Result<Images> {
        Ok(Images::from_vec(shape, values.to_vec())?)
    }

    fn write(images: &Images) -> Vec<Self> {
        images.array().iter().copied().collect()
    }
}

impl Pixel for u8 {
    fn read(shape: ImageShape, values: &[Self]) -> Result<Images> {
        Ok(Images::from_bytes(shape, values)?)
    }

    fn write(images: &Images) -> Vec<Self> {
        (0..images.len())
            .flat_map(|index| images.to_bytes(index))
            .collect()
    }
}

/// Images as a caller describes them.
#[derive(Clone, Copy)]
pub(crate) struct Given<P> {
    pub values: *const P,
    pub n_images: usize,
    pub n_values: usize,
}

impl<P: Pixel> Given<P> {
    pub fn new(values: *const P, n_images: usize, n_values: usize) -> Self {
        Self {
            values,
            n_images,
            n_values,
        }
    }

    /// Copies the images, so that the caller's memory may be written to afterwards.
    ///
    /// # Safety
    /// If `values` is aligned and not null, there are `n_values` that nobody writes meanwhile.
    pub unsafe fn read(self, shape: ImageShape) -> Result<Images> {
        expect_room("images", self.n_values, n_values(shape, self.n_images)?)?;
        // SAFETY: as for this function.
        unsafe {
            pointer::with_slice("images", self.values, self.n_values, |values| {
                P::read(shape, values)
            })
        }
    }
}

/// Room for `n` values in the caller's memory; null if the caller wants none of them.
#[derive(Clone, Copy)]
pub(crate) struct Room<T> {
    pub name: &'static str,
    pub values: *mut T,
    pub n: usize,
}

impl<T: Copy> Room<T> {
    pub fn new(name: &'static str, values: *mut T, n: usize) -> Self {
        Self { name, values, n }
    }

    /// Returns Ok if there is room for exactly `n` values.
    pub fn check(self, n: usize) -> Result<()> {
        expect_room(self.name, self.n, n)?;
        pointer::check(self.name, self.values, self.n)
    }

    /// Like [`Room::check`]; null is allowed, and means no room.
    pub fn check_unless_null(self, n: usize) -> Result<()> {
        match self.values.is_null() {
            true => Ok(()),
            false => self.check(n),
        }
    }

    /// Writes as many values as there is room for; none if there is no room.
    ///
    /// # Safety
    /// If the pointer is aligned and not null, there is room for `n` values.
    pub unsafe fn write(self, values: &[T]) -> Result<()> {
        if self.values.is_null() {
            return Ok(());
        }
        expect_room(self.name, self.n, values.len())?;
        // SAFETY: as for this function.
        unsafe { pointer::write(self.name, self.values, values) }
    }
}

/// The number of values of `n_images`.
pub(crate) fn n_values(shape: ImageShape, n_images: usize) -> Result<usize> {
    times("n_images", n_images, shape.n_values())
}

/// A product of sizes that a caller stated.
pub(crate) fn times(argument: &str, n: usize, other: usize) -> Result<usize> {
    n.checked_mul(other).ok_or_else(|| {
        let message =
            format!("`{argument}`: {n} is more than memory can hold; was the number negative?");
        Failure::new(Status::Shape, message)
    })
}

fn expect_room(name: &str, got: usize, expected: usize) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let message =
        format!("`{name}` has another size than it must: expected {expected} values, got {got}");
    Err(Failure::new(Status::Shape, message))
}
