//! What a call asks of chains, and what it is told of them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime::{Cancel, ChainReport, Images};

use crate::pointer;
use crate::status::{Failure, Result, Status};

/// A function that is told how far a call has come, in steps of single images: images × replicas × steps. Where it returns anything but 0, the call ends
/// with `EBM_STATUS_CANCELLED` after the steps that it is in.
///
/// It is called by one thread at a time, which need not be that of the call, and `n_done` never falls. It must return, neither by `longjmp` nor by a C++
/// exception. It may call this library.
pub type Progress =
    Option<unsafe extern "C" fn(n_done: u64, n_total: u64, user_data: *mut c_void) -> i32>;

/// What a call asks of its chains. Start from `ebm_request_default`. Null in place of a request stands for that too.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The number of independent purifications of each image, from 1.
    pub n_replicas: usize,
    /// The index of the first image in the noise; the others follow. The same seed, image and index give the same result, whatever else is in the call.
    pub first_index: u32,
    /// Seconds, from 0: as many steps as fit into this time are taken, and `ebm_report` says how many. INFINITY for all steps.
    pub time_limit: f64,
    /// What is told of progress and can cancel the call, or null.
    pub on_progress: Progress,
    /// What `on_progress` is called with.
    pub user_data: *mut c_void,
}

/// What is known of one chain at its end.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Place of the image in the call.
    pub image: usize,
    /// Number of the replica in the noise.
    pub replica: u32,
    /// Steps that were taken: all, unless there was a time limit.
    pub n_steps: u32,
    /// Energy of the image as it was given; NaN if there was no time for a step.
    pub energy: f32,
    /// L2 norm of the energy's gradient at the image as it was given; NaN if there was no time for a step.
    pub gradient_norm: f32,
    /// The share of the values of the result at or beyond the ends of [-1, 1].
    pub saturation: f32,
    /// The step, counted from 0, at which the chain left the finite numbers or its range of energies, so that its image is returned as it was given; -1 if
    /// it did not.
    pub failed_step: i64,
}

impl From<&ChainReport> for Report {
    fn from(report: &ChainReport) -> Self {
        Self {
            image: report.image,
            replica: report.replica,
            n_steps: report.n_steps,
            energy: report.start.map_or(f32::NAN, |at| at.energy),
            gradient_norm: report.start.map_or(f32::NAN, |at| at.gradient_norm),
            saturation: report.saturation,
            failed_step: report.failed_step.map_or(-1, i64::from),
        }
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            n_replicas: 1,
            first_index: 0,
            time_limit: f64::INFINITY,
            on_progress: None,
            user_data: std::ptr::null_mut(),
        }
    }
}

impl Request {
    /// Reads a request; null stands for the default.
    ///
    /// # Safety
    /// `request` is null, misaligned or points to a request.
    pub(crate) unsafe fn read(request: *const Self) -> Result<Self> {
        if request.is_null() {
            return Ok(Self::default());
        }
        // SAFETY: as for this function.
        let request = unsafe { pointer::read("request", request)? };
        let refuse = |what: &str| Err(Failure::new(Status::Argument, what));
        if request.time_limit.is_nan() || request.time_limit < 0.0 {
            return refuse(
                "the request's `time_limit` is out of range: expected seconds from 0, or INFINITY",
            );
        }
        if request.n_replicas == 0 {
            return refuse(
                "the request's `n_replicas` is out of range: expected a number from 1, got 0",
            );
        }
        Ok(request)
    }

    /// The request for these images.
    pub(crate) fn of<'a>(&self, images: &'a Images, cancel: &Cancel) -> runtime::Request<'a> {
        // No images have no replicas, however many were asked for.
        let n_replicas = if images.is_empty() {
            1
        } else {
            self.n_replicas
        };
        let request = runtime::Request::new(images)
            .first_index(self.first_index)
            .n_replicas(n_replicas)
            .cancel(cancel);
        // More seconds than a duration holds never end.
        match Duration::try_from_secs_f64(self.time_limit) {
            Ok(time) => request.within(time),
            Err(_) => request,
        }
    }

    /// What watches a run for the caller, if they want it.
    pub(crate) fn watcher(&self, cancel: &Cancel) -> Option<Watcher> {
        self.on_progress.map(|callback| Watcher {
            callback,
            user_data: UserData(self.user_data),
            cancel: cancel.clone(),
            furthest: Mutex::new(0),
        })
    }
}

/// What a run came to, unless the caller cancelled it, be it in its last step.
pub(crate) fn unless_cancelled<T>(cancel: &Cancel, outcome: T) -> Result<T> {
    match cancel.is_cancelled() {
        true => Err(Failure::new(Status::Cancelled, "the run was cancelled")),
        false => Ok(outcome),
    }
}

/// Tells the caller how far a run has come, and cancels it if they say so.
pub(crate) struct Watcher {
    callback: unsafe extern "C" fn(u64, u64, *mut c_void) -> i32,
    user_data: UserData,
    cancel: Cancel,
    furthest: Mutex<u64>,
}

struct UserData(*mut c_void);

// SAFETY: this library does nothing with the pointer but hand it back to the caller's function, one thread at a time, as the header says.
unsafe impl Send for UserData {}
// SAFETY: as above.
unsafe impl Sync for UserData {}

impl Watcher {
    pub fn report(&self, progress: runtime::Progress) {
        let mut furthest = self.furthest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.cancel.is_cancelled() {
            return;
        }
        *furthest = furthest.max(progress.n_done);
        // SAFETY: the caller gave a function of this type, and what it is called with.
        let answer = unsafe { (self.callback)(*furthest, progress.n_total, self.user_data.0) };
        if answer != 0 {
            self.cancel.cancel();
        }
    }
}

/// A request for one purification of each image, with indices from 0, all steps, and no reports of progress.
#[unsafe(no_mangle)]
pub extern "C" fn ebm_request_default() -> Request {
    Request::default()
}
