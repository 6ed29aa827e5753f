//! The caller's memory: the only place that reads or writes it.
//!
//! What can be checked is checked: null, alignment, and sizes that no memory has. That as much memory is there as the caller says is on their word.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use crate::status::{Failure, Result, Status};

/// Returns Ok if `pointer` can point to `n` values.
pub(crate) fn check<T>(argument: &str, pointer: *const T, n: usize) -> Result<()> {
    let bad = |what: &str| {
        Err(Failure::new(
            Status::Pointer,
            format!("`{argument}`: {what}"),
        ))
    };
    let n_bytes = n.checked_mul(size_of::<T>());
    if n_bytes.is_none_or(|n_bytes| isize::try_from(n_bytes).is_err()) {
        let message = format!(
            "`{argument}`: {n} values are more than memory can hold; was the number negative?"
        );
        return Err(Failure::new(Status::Shape, message));
    }
    if n == 0 {
        Ok(())
    } else if pointer.is_null() {
        bad("expected a pointer, got null")
    } else if !pointer.is_aligned() {
        bad(&format!(
            "expected a pointer to a multiple of {} bytes, got {pointer:p}",
            align_of::<T>()
        ))
    } else {
        Ok(())
    }
}

/// Reads one value.
///
/// # Safety
/// Where `pointer` is aligned and not null, there is an initialised value that nobody writes meanwhile.
pub(crate) unsafe fn read<T: Copy>(argument: &str, pointer: *const T) -> Result<T> {
    check(argument, pointer, 1)?;
    // SAFETY: it is neither null nor misaligned, and the rest is the caller's word.
    Ok(unsafe { pointer.read() })
}

/// Hands `n` values to `use_them`; none if `n` is 0.
///
/// # Safety
/// Where `pointer` is aligned and not null, there are `n` initialised values that nobody writes meanwhile.
pub(crate) unsafe fn with_slice<T, R>(
    argument: &str,
    pointer: *const T,
    n: usize,
    use_them: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    check(argument, pointer, n)?;
    if n == 0 {
        return use_them(&[]);
    }
    // SAFETY: it is neither null nor misaligned, `n` values are no larger than memory can be, and the rest is the caller's word.
    use_them(unsafe { std::slice::from_raw_parts(pointer, n) })
}

/// Copies values to the caller's memory.
///
/// # Safety
/// If `pointer` is aligned and not null, there is room for these values.
pub(crate) unsafe fn write<T: Copy>(argument: &str, pointer: *mut T, values: &[T]) -> Result<()> {
    check(argument, pointer, values.len())?;
    if !values.is_empty() {
        // SAFETY: it is neither null nor misaligned, the room is there on the caller's word, and `values` are memory of this library.
        unsafe { pointer.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
    }
    Ok(())
}

/// The string at `pointer`, which must be UTF-8.
///
/// # Safety
/// Where `pointer` is not null, there is a string that ends with 0.
pub(crate) unsafe fn text(argument: &str, pointer: *const c_char) -> Result<String> {
    // SAFETY: as for this function.
    let bytes = unsafe { bytes(argument, pointer)? };
    let text = String::from_utf8(bytes);
    text.map_err(|_| {
        Failure::new(
            Status::Pointer,
            format!("`{argument}`: expected a string in UTF-8"),
        )
    })
}

/// The path at `pointer`: any bytes on Unix, else UTF-8.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn path(argument: &str, pointer: *const c_char) -> Result<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        // SAFETY: as for this function.
        let bytes = unsafe { bytes(argument, pointer)? };
        Ok(std::ffi::OsString::from_vec(bytes).into())
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as for this function.
        Ok(unsafe { text(argument, pointer)? }.into())
    }
}

/// Like [`path`], with `None` for null.
///
/// # Safety
/// As for [`text`].
pub(crate) unsafe fn path_or_null(
    argument: &str,
    pointer: *const c_char,
) -> Result<Option<PathBuf>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: as for this function.
    unsafe { path(argument, pointer).map(Some) }
}

/// The bytes of the string at `pointer`, without the 0 at its end.
///
/// # Safety
/// As for [`text`].
unsafe fn bytes(argument: &str, pointer: *const c_char) -> Result<Vec<u8>> {
    check(argument, pointer, 1)?;
    // SAFETY: it is not null, and the end is there on the caller's word.
    Ok(unsafe { CStr::from_ptr(pointer) }.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pointers_that_cannot_be_are_refused() {
        let values = [0_f32; 4];
        let misaligned = values.as_ptr().cast::<u8>().wrapping_add(1).cast::<f32>();
        for (pointer, n, status) in [
            (values.as_ptr(), 4, None),
            (std::ptr::null(), 0, None),
            (misaligned, 0, None),
            (std::ptr::null(), 1, Some(Status::Pointer)),
            (misaligned, 1, Some(Status::Pointer)),
            (values.as_ptr(), usize::MAX, Some(Status::Shape)),
            (values.as_ptr(), usize::MAX / 4, Some(Status::Shape)),
        ] {
            let failure = check("x", pointer, n).err();
            assert_eq!(
                failure.as_ref().map(|f| f.status),
                status,
                "{pointer:p}, {n}"
            );
            assert!(failure.is_none_or(|f| f.message.starts_with("`x`: ")));
        }
    }

    #[test]
    fn strings_are_read_whole_or_refused() {
        let null = std::ptr::null();
        // SAFETY: the pointers are null, or to literals that end with 0.
        unsafe {
            assert_eq!(text("s", c"poem".as_ptr()).unwrap(), "poem");
            assert_eq!(
                text("s", c"\xff".as_ptr()).unwrap_err().status,
                Status::Pointer
            );
            assert_eq!(text("s", null).unwrap_err().status, Status::Pointer);
            assert_eq!(path_or_null("s", null).unwrap(), None);
            assert_eq!(path("s", c"a/b".as_ptr()).unwrap(), PathBuf::from("a/b"));
        }
    }
}
