//! Processes that add up tensors, by c10d and Gloo, PyTorch's own engine (see `c10d/README.md`).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tch::Tensor;

use super::launch::Launch;

/// How long the processes wait for each other at the beginning.
const TO_JOIN: Duration = Duration::from_secs(300);
/// How long one waits for the others' part of a sum: they may have more to do in an update, but not hours more.
const TO_SUM: Duration = Duration::from_secs(2 * 3600);
/// The network interface for Gloo, by the name that PyTorch knows it by.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";

#[repr(C)]
struct Meeting {
    host: *const c_char,
    port: u16,
    is_server: bool,
    prefix: *const c_char,
    interface: *const c_char,
    rank: i32,
    n_ranks: i32,
    join_milliseconds: i64,
    sum_milliseconds: i64,
}

unsafe extern "C" {
    fn ebm_group_join(meeting: *const Meeting, message: *mut *mut c_char) -> *mut c_void;
    fn ebm_group_sum(group: *mut c_void, tensor: *mut c_void, message: *mut *mut c_char) -> bool;
    fn ebm_group_leave(group: *mut c_void);
    fn ebm_message_free(message: *mut c_char);
}

/// This process among the others.
#[derive(Debug)]
pub struct Group(NonNull<c_void>);

impl Group {
    /// Meets the others; all must do so within five minutes.
    ///
    /// # Errors
    /// One does not come, or the place to meet is not reached.
    pub fn join(launch: &Launch) -> Result<Group> {
        let host = CString::new(launch.host.as_str())?;
        let prefix = CString::new(format!("ebm/{}", launch.attempt))?;
        let interface = CString::new(std::env::var(INTERFACE).unwrap_or_default())?;
        let milliseconds = |duration: Duration| duration.as_millis() as i64;
        let meeting = Meeting {
            host: host.as_ptr(),
            port: launch.port,
            is_server: launch.rank == 0 && !launch.launcher_keeps_store,
            prefix: prefix.as_ptr(),
            interface: interface.as_ptr(),
            rank: i32::try_from(launch.rank)?,
            n_ranks: i32::try_from(launch.n_ranks)?,
            join_milliseconds: milliseconds(TO_JOIN),
            sum_milliseconds: milliseconds(TO_SUM),
        };
        let mut message = ptr::null_mut();
        // Safety: the strings of `meeting` live until the end of this function, and C++ copies them; `message` is writable.
        let group = unsafe { ebm_group_join(&meeting, &mut message) };
        NonNull::new(group).map(Group).ok_or_else(|| taken(message))
    }

    /// Replaces a contiguous tensor in the memory of the processor by its sum over all processes, the same bits on each.
    ///
    /// # Errors
    /// A process has ended, or the tensors differ in shape.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<()> {
        let mut message = ptr::null_mut();
        // Safety: the group lives as long as `self`; `as_ptr` gives the `at::Tensor` of a tensor that outlives the call; `message` is
        // writable.
        let summed =
            unsafe { ebm_group_sum(self.0.as_ptr(), tensor.as_mut_ptr().cast(), &mut message) };
        if summed { Ok(()) } else { Err(taken(message)) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Safety: the group came from `ebm_group_join` and is given back once.
        unsafe { ebm_group_leave(self.0.as_ptr()) }
    }
}

/// The message of a failed call.
fn taken(message: *mut c_char) -> anyhow::Error {
    if message.is_null() {
        return anyhow!("c10d gave no reason");
    }
    // Safety: a message that is not null ends with a zero and is given back once, after it was copied.
    unsafe {
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        ebm_message_free(message);
        anyhow!(text)
    }
}
