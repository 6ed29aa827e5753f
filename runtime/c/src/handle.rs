//! Handles: names of the objects that a program in C holds.
//!
//! A handle looks like a pointer, so that the C compiler tells handles of different things apart, but it is a number that is given once and never again.
//! So a handle that is null, was freed, belongs to something else or was made up is always found out, and an object that another thread frees in the middle of
//! a call lives until the call ends.
#![allow(unsafe_code)]

use std::any::Any;
use std::collections::HashMap;
use std::marker::{PhantomData, PhantomPinned};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::pointer;
use crate::status::{Failure, Result, Status};

/// What a handle points to in the eyes of C: nothing that can be read.
pub(crate) type Opaque = PhantomData<(*mut u8, PhantomPinned)>;

/// A type in C whose pointers are handles of objects of type [`Named::Object`].
pub(crate) trait Named {
    /// What is behind the handle.
    type Object: Any + Send + Sync;
    /// Its name in C.
    const NAME: &'static str;
}

/// An object that a handle names, and the name of its handle's type.
struct Entry {
    object: Arc<dyn Any + Send + Sync>,
    name: &'static str,
}

#[derive(Default)]
struct Handles {
    n_given: usize,
    live: HashMap<usize, Entry>,
}

static HANDLES: LazyLock<Mutex<Handles>> = LazyLock::new(Mutex::default);

fn handles() -> MutexGuard<'static, Handles> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives an object a handle.
pub(crate) fn give<N: Named>(object: N::Object) -> Result<*mut N> {
    let mut handles = handles();
    let number = handles.n_given.checked_add(1);
    let number = number.ok_or_else(|| Failure::new(Status::Handle, "there are no more handles"))?;
    handles.n_given = number;
    let entry = Entry {
        object: Arc::new(object),
        name: N::NAME,
    };
    handles.live.insert(number, entry);
    Ok(std::ptr::without_provenance_mut(number))
}

/// Makes an object and writes its handle to `place`; null if that fails.
///
/// # Safety
/// `place` is null, misaligned or a place for a handle.
pub(crate) unsafe fn give_at<N: Named>(
    argument: &str,
    place: *mut *mut N,
    make: impl FnOnce() -> Result<N::Object>,
) -> Result<()> {
    // SAFETY: as for this function.
    unsafe {
        pointer::write(argument, place, &[std::ptr::null_mut()])?;
        pointer::write(argument, place, &[give(make()?)?])
    }
}

/// The object that a handle names.
pub(crate) fn get<N: Named>(argument: &str, handle: *const N) -> Result<Arc<N::Object>> {
    let handles = handles();
    let entry = find(&handles, argument, handle)?;
    let object = Arc::clone(&entry.object).downcast();
    object.map_err(|_| other_type::<N>(argument, entry.name))
}

/// Takes a handle back. Its object goes when the last call that uses it ends.
pub(crate) fn free<N: Named>(argument: &str, handle: *mut N) -> Result<()> {
    if handle.is_null() {
        return Ok(());
    }
    let mut handles = handles();
    let entry = find(&handles, argument, handle)?;
    if entry.name != N::NAME {
        return Err(other_type::<N>(argument, entry.name));
    }
    let entry = handles.live.remove(&handle.addr());
    // What the object frees in turn may take its time, and needs no lock.
    drop(handles);
    drop(entry);
    Ok(())
}

/// The number of handles of all types that were given out and not taken back, for programs that look for leaks.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_n_handles() -> usize {
    handles().live.len()
}

fn find<'a, N: Named>(handles: &'a Handles, argument: &str, handle: *const N) -> Result<&'a Entry> {
    let expected = format!("`{argument}`: expected a handle of type `{}`", N::NAME);
    if handle.is_null() {
        return Err(Failure::new(
            Status::Handle,
            format!("{expected}, got null"),
        ));
    }
    let got = match handle.addr() <= handles.n_given {
        true => "got one that was freed",
        false => "got a pointer that is not a handle",
    };
    let entry = handles.live.get(&handle.addr());
    entry.ok_or_else(|| Failure::new(Status::Handle, format!("{expected}, {got}")))
}

fn other_type<N: Named>(argument: &str, name: &str) -> Failure {
    let message = format!(
        "`{argument}`: expected a handle of type `{}`, got one of type `{name}`",
        N::NAME
    );
    Failure::new(Status::Handle, message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Word(#[allow(dead_code)] Opaque);
    struct Number(#[allow(dead_code)] Opaque);

    impl Named for Word {
        type Object = String;
        const NAME: &'static str = "word";
    }

    impl Named for Number {
        type Object = u32;
        const NAME: &'static str = "number";
    }

    fn message<T>(result: Result<T>) -> String {
        let failure = result.err().unwrap();
        assert_eq!(failure.status, Status::Handle);
        failure.message
    }

    #[test]
    fn handles_that_are_none_are_found_out() {
        let word = give::<Word>("poem".into()).unwrap();
        assert_eq!(*get("w", word).unwrap(), "poem");
        assert!(
            message(get("w", std::ptr::null::<Word>()))
                .contains("`w`: expected a handle of type `word`, got null")
        );
        assert!(message(get("n", word.cast::<Number>())).contains("got one of type `word`"));
        assert!(message(free("n", word.cast::<Number>())).contains("got one of type `word`"));
        let local = 0_u64;
        let pointer = std::ptr::from_ref(&local).cast::<Word>();
        assert!(message(get("w", pointer)).contains("not a handle"));
        free("w", word).unwrap();
        assert!(message(get("w", word)).contains("freed"));
        assert!(message(free("w", word)).contains("freed"));
        assert_ne!(give::<Word>("other".into()).unwrap(), word);
        free("w", std::ptr::null_mut::<Word>()).unwrap();
    }

    #[test]
    fn an_object_lives_as_long_as_it_is_used() {
        let word = give::<Word>("poem".into()).unwrap();
        let used = get("w", word).unwrap();
        free("w", word).unwrap();
        assert_eq!(*used, "poem");
    }
}
