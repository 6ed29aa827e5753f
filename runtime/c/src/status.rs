//! What a call comes to: a status, and the message of the last failure on each thread.
// The names of C, and what is exported to it.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use runtime::{Error, ErrorKind};

/// What a call came to. `ebm_last_error` says more.
#[repr(i32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// All went well.
    Ok = 0,
    /// A file or folder could not be read or written.
    Io = 1,
    /// The bytes are not an ONNX model.
    Model = 2,
    /// The model carries no contract, or one that this library does not understand.
    Contract = 3,
    /// The contract has another format version.
    Version = 4,
    /// The model's graph or contract is not what its hash was made of.
    Tampered = 5,
    /// The model is of another kind than was wanted, a classifier instead of a step for example.
    WrongKind = 6,
    /// A parameter lies outside its range.
    Argument = 7,
    /// Images or buffers have another size than they must.
    Shape = 8,
    /// A value is NaN or infinite.
    NonFinite = 9,
    /// The backend is unknown, not compiled in, or its library is missing.
    BackendMissing = 10,
    /// The backend failed at preparing or running the model.
    Backend = 11,
    /// The run was cancelled.
    Cancelled = 12,
    /// An image file could not be decoded or encoded.
    Image = 13,
    /// An error of a sort that has no number here yet.
    Other = 99,
    /// A handle is null, was freed, or is of something else.
    Handle = 100,
    /// A pointer is null or not aligned for what it points to, or a string is not UTF-8.
    Pointer = 101,
    /// The library broke down; the message says where. Its handles can still be freed.
    Panic = 102,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Io => Self::Io,
            ErrorKind::Model => Self::Model,
            ErrorKind::Contract => Self::Contract,
            ErrorKind::Version => Self::Version,
            ErrorKind::Tampered => Self::Tampered,
            ErrorKind::WrongKind => Self::WrongKind,
            ErrorKind::Argument => Self::Argument,
            ErrorKind::Shape => Self::Shape,
            ErrorKind::NonFinite => Self::NonFinite,
            ErrorKind::BackendMissing => Self::BackendMissing,
            ErrorKind::Backend => Self::Backend,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::Image => Self::Image,
            _ => Self::Other,
        }
    }
}

impl Status {
    fn name(code: i32) -> &'static CStr {
        match code {
            0 => c"ok",
            1 => c"io",
            2 => c"model",
            3 => c"contract",
            4 => c"version",
            5 => c"tampered",
            6 => c"wrong kind",
            7 => c"argument",
            8 => c"shape",
            9 => c"non-finite",
            10 => c"backend missing",
            11 => c"backend",
            12 => c"cancelled",
            13 => c"image",
            100 => c"handle",
            101 => c"pointer",
            102 => c"panic",
            _ => c"other",
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: Status,
    pub message: String,
}

/// The result of what a call does.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let message = format!("the library broke down: {}", text.unwrap_or("no message"));
        Self::new(Status::Panic, message)
    }
}

impl From<Error> for Failure {
    /// The error's message and those of its causes.
    fn from(error: Error) -> Self {
        Self::new(error.kind().into(), error.with_causes())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::new(CString::default());
}

/// Does what a call does, keeps the message of a failure, and lets no panic out.
pub(crate) fn guard(call: impl FnOnce() -> Result<()>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(call));
    match result.unwrap_or_else(|payload| Err(Failure::panicked(&*payload))) {
        Ok(()) => Status::Ok,
        Err(failure) => {
            let message = failure.message.replace('\0', "␀");
            let message = CString::new(message).unwrap_or_default();
            LAST_ERROR.with(|last| *last.borrow_mut() = message);
            failure.status
        }
    }
}

/// The message of the last call on this thread that failed, in UTF-8: what was expected, what came, where, and how to mend it. Empty if none has
/// failed.
///
/// The library owns the string. It is valid until another call fails on this thread, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.borrow().as_ptr())
}

/// The name of a status, "backend missing" for example; "other" for a number that is not a status. The string is valid for as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_status_name(status: i32) -> *const c_char {
    Status::name(status).as_ptr()
}

/// The version of the library, "0.1.0" for example. The string is valid for as long as the library is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// The `EBM_ABI` that the library was built with. If it is not that of the header, compile the program again.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_abi() -> u32 {
    crate::ABI
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn last_error() -> String {
        // SAFETY: the string is that of this thread, and no call fails meanwhile.
        let message = unsafe { CStr::from_ptr(ebm_last_error()) };
        message.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_become_a_status_with_their_message() {
        assert_eq!(guard(|| panic!("poem")), Status::Panic);
        assert_eq!(last_error(), "the library broke down: poem");
        let number = 7;
        assert_eq!(guard(|| panic!("poem {number}")), Status::Panic);
        assert_eq!(last_error(), "the library broke down: poem 7");
    }

    #[test]
    fn a_message_lives_until_the_next_failure_of_its_own_thread() {
        assert_eq!(last_error(), "");
        let fail = |text: &str| guard(|| Err(Failure::new(Status::Argument, text)));
        assert_eq!(fail("one\0two"), Status::Argument);
        assert_eq!(last_error(), "one␀two");
        assert_eq!(guard(|| Ok(())), Status::Ok);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(last_error(), "");
                fail("other");
            });
        });
        assert_eq!(last_error(), "one␀two");
    }

    #[test]
    fn every_kind_of_error_has_a_status_of_its_name() {
        let source = include_str!("../../src/error.rs");
        let kinds = source.split("pub enum ErrorKind {").nth(1).unwrap();
        let kinds = kinds.split('}').next().unwrap();
        let kinds = kinds
            .lines()
            .filter_map(|line| line.trim().strip_suffix(','));
        let kinds: Vec<&str> = kinds.filter(|line| !line.starts_with("//")).collect();
        assert!(kinds.contains(&"Io") && kinds.len() >= 13, "{kinds:?}");
        let own = include_str!("status.rs");
        for kind in kinds {
            let arm = format!("ErrorKind::{kind} => Self::{kind},");
            assert!(own.contains(&arm), "add `{arm}`, and a number for it");
        }
    }

    #[test]
    fn every_status_has_a_name_of_its_own() {
        let own = include_str!("status.rs");
        let enumeration = own.split("pub enum Status {").nth(1).unwrap();
        let enumeration = enumeration.split('}').next().unwrap();
        let codes = enumeration
            .lines()
            .filter_map(|line| line.split_once(" = "));
        let codes: Vec<i32> = codes
            .map(|(_, code)| code.trim_end_matches(',').parse().unwrap())
            .collect();
        let names: std::collections::BTreeSet<_> =
            codes.iter().map(|&code| Status::name(code)).collect();
        assert_eq!(names.len(), codes.len());
        assert_eq!(Status::name(-1), c"other");
    }
}
