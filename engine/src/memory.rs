//! Memory of a run: one block of floats that is aligned to cache lines.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Bytes of a line of the cache.
const LINE: usize = 64;
/// Bytes of a huge page; larger blocks begin at one, so that the system can map them with few entries.
const HUGE_PAGE: usize = 2 << 20;

/// Owned floats.
pub(crate) struct Block {
    start: NonNull<f32>,
    length: usize,
}

// SAFETY: a block owns its memory, like a `Vec<f32>`.
unsafe impl Send for Block {}
// SAFETY: as above; what is written through [`Floats`] is the writer's to answer for.
unsafe impl Sync for Block {}

impl Block {
    /// Zeros.
    pub fn new(length: usize) -> Self {
        let layout = Self::layout(length);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        if layout.align() == HUGE_PAGE {
            // Only advice, before the first touch: without it the system maps weights with thousands of entries. A refusal changes nothing.
            // SAFETY: the bytes are those that were just allocated.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        // SAFETY: as above; zeros are floats.
        unsafe { start.write_bytes(0, layout.size()) };
        let start = start.cast();
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        let bytes = (length.max(1) * size_of::<f32>()).next_multiple_of(LINE);
        let alignment = if bytes > HUGE_PAGE { HUGE_PAGE } else { LINE };
        Layout::from_size_align(bytes, alignment)
            .expect("plans are bounded far below the size of the address space")
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: the memory is owned, initialised, that long, and borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }

    /// For kernels.
    pub fn floats(&self) -> Floats {
        Floats {
            start: self.start.as_ptr(),
            #[cfg(debug_assertions)]
            length: self.length,
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.length)) }
    }
}

/// Floats that a kernel reads or writes: a pointer that knows in debug builds how far it may go.
#[derive(Clone, Copy)]
pub(crate) struct Floats {
    start: *mut f32,
    #[cfg(debug_assertions)]
    length: usize,
}

// SAFETY: it is a pointer into a block that outlives the run; who uses it answers for what other threads do there.
unsafe impl Send for Floats {}
// SAFETY: as above.
unsafe impl Sync for Floats {}

impl Floats {
    /// The pointer to the float at a place behind which `length` more are used.
    #[inline(always)]
    pub fn at(self, place: usize, length: usize) -> *mut f32 {
        #[cfg(debug_assertions)]
        assert!(
            place + length <= self.length,
            "{place} + {length} of {}",
            self.length
        );
        let _ = length;
        self.start.wrapping_add(place)
    }

    /// So many floats from a place on, to be read. Nobody writes them meanwhile.
    #[inline(always)]
    pub fn read<'a>(self, place: usize, length: usize) -> &'a [f32] {
        // SAFETY: the floats are there, as `at` says, initialised, and who calls answers for the rest.
        unsafe { std::slice::from_raw_parts(self.at(place, length), length) }
    }

    /// So many floats from a place on, to be written. Nobody else reads or writes them meanwhile.
    #[inline(always)]
    pub fn write<'a>(self, place: usize, length: usize) -> &'a mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.at(place, length), length) }
    }

    /// What begins at a place.
    #[inline(always)]
    pub fn from(self, place: usize) -> Self {
        Self {
            start: self.at(place, 0),
            #[cfg(debug_assertions)]
            length: self.length - place,
        }
    }
}
