//! GPUs that add up tensors without the memory of the processor, by NCCL, which comes with the CUDA parts of libtorch.
//!
//! The functions are those of NCCL's C interface: <https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html>. They are looked up when
//! a run begins, so that one binary serves machines with and without GPUs.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs;
use std::mem::transmute;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, bail, ensure};
use ebm_export::source::checkpoint::sha256;
use tch::{Device, Kind, Tensor};

use super::group::Group;
use crate::machine::device::symbol;

/// `ncclUniqueId`: what those who belong together know of each other.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueId([u8; 128]);

/// `ncclFloat32`.
const FLOAT: c_int = 7;
/// `ncclSum`.
const SUM: c_int = 0;

type GetUniqueId = unsafe extern "C" fn(*mut UniqueId) -> c_int;
type CommInitRank = unsafe extern "C" fn(*mut *mut c_void, c_int, UniqueId, c_int) -> c_int;
/// From where, to where, how many, of which type, by which operation, with whom, on which stream.
type AllReduce = unsafe extern "C" fn(
    *const c_void,
    *mut c_void,
    usize,
    c_int,
    c_int,
    *mut c_void,
    *mut c_void,
) -> c_int;
type GetErrorString = unsafe extern "C" fn(c_int) -> *const c_char;
type SetDevice = unsafe extern "C" fn(c_int) -> c_int;
/// Into what, of how many bytes, of which GPU.
type DeviceGetPciBusId = unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int;

/// Two ranks that compute on the same GPU, if there are such; 0 is no GPU.
fn together_on_one(places: &[i64]) -> Option<(usize, usize)> {
    let mut ranks = places.iter().enumerate();
    ranks.find_map(|(other, place)| {
        let one = places[..other].iter().position(|before| before == place)?;
        (*place != 0).then_some((one, other))
    })
}

/// What no other machine has that runs at the same time, be it virtual; containers of a machine have the same.
fn machine() -> Result<String> {
    let files = [
        "/proc/sys/kernel/random/boot_id",
        "/proc/sys/kernel/hostname",
    ];
    let found = files.iter().find_map(|file| fs::read_to_string(file).ok());
    found.with_context(|| {
        format!(
            "cannot tell machines apart: cannot read {}",
            files.join(" or ")
        )
    })
}

/// The functions of NCCL, and two of CUDA's.
#[derive(Clone, Copy, Debug)]
struct Library {
    get_unique_id: GetUniqueId,
    comm_init_rank: CommInitRank,
    all_reduce: AllReduce,
    get_error_string: GetErrorString,
    set_device: SetDevice,
    device_get_pci_bus_id: DeviceGetPciBusId,
}

/// The GPU of this process among those of the others.
#[derive(Debug)]
pub struct Nccl {
    library: Library,
    communicator: NonNull<c_void>,
    gpu: usize,
}

impl Nccl {
    /// Meets the others, where all of them have a GPU of their own and NCCL.
    ///
    /// # Errors
    /// A process has ended, two have the same GPU, or NCCL fails.
    pub fn join(
        group: &Group,
        rank: usize,
        n_ranks: usize,
        device: Device,
    ) -> Result<Option<Nccl>> {
        let own = match device {
            Device::Cuda(gpu) => Library::find().map(|library| (library, gpu)),
            _ => None,
        };
        // What each computes on, or 0.
        let mut places = vec![0; n_ranks];
        if let Some((library, gpu)) = own {
            places[rank] = library.place(gpu)?;
        }
        let mut places = Tensor::from_slice(&places);
        group.sum(&mut places)?;
        let places = Vec::<i64>::try_from(places)?;
        if let Some((one, other)) = together_on_one(&places) {
            bail!(
                "ranks {one} and {other} have the same GPU, which would take longer than one rank alone: start at most one rank per GPU, and \
                 let each see all GPUs of its machine or one of its own (CUDA_VISIBLE_DEVICES, or srun --gpus-per-task=1)"
            );
        }
        let Some((library, gpu)) = own.filter(|_| !places.contains(&0)) else {
            return Ok(None);
        };
        let id = if rank == 0 {
            library.unique_id()?
        } else {
            UniqueId([0; 128])
        };
        let mut id = Tensor::from_slice(&id.0);
        group.sum(&mut id)?;
        let id = <[u8; 128]>::try_from(Vec::<u8>::try_from(id)?.as_slice())?;
        let communicator = library.communicator(UniqueId(id), rank, n_ranks, gpu)?;
        Ok(Some(Nccl {
            library,
            communicator,
            gpu,
        }))
    }

    /// Replaces a contiguous tensor on this process's GPU by its sum over all processes, in the order of the GPU's other work.
    ///
    /// # Errors
    /// The tensor lies elsewhere or has numbers that NCCL does not know, or NCCL fails.
    pub fn sum(&self, tensor: &mut Tensor) -> Result<()> {
        let (device, kind) = (tensor.device(), tensor.kind());
        ensure!(
            device == Device::Cuda(self.gpu) && kind == Kind::Float && tensor.is_contiguous(),
            "NCCL adds up contiguous tensors of f32 on GPU {}, and this one is of {kind:?} on {device:?}",
            self.gpu
        );
        let data = tensor.data_ptr();
        self.library.choose(self.gpu)?;
        // Safety: `data` has `numel` numbers of that kind, and is replaced in place. The null stream is libtorch's own for each device, so
        // that the sum comes after what computes the tensor and before what reads it or reuses its memory.
        let status = unsafe {
            (self.library.all_reduce)(
                data,
                data,
                tensor.numel(),
                FLOAT,
                SUM,
                self.communicator.as_ptr(),
                ptr::null_mut(),
            )
        };
        self.library.check(status, "add up a tensor")
    }

    /// Returns when all sums are done.
    pub fn finish(&self) -> Result<()> {
        // What comes to the processor was computed after them.
        let last = Tensor::f_zeros([1], (Kind::Float, Device::Cuda(self.gpu)))?;
        let _ = last.f_double_value(&[0])?;
        Ok(())
    }
}

// The communicator is not given back: that waits for the other processes, which may have ended, and the process ends when it would be.

impl Library {
    /// Where the CUDA parts of libtorch are loaded and have brought NCCL with them.
    fn find() -> Option<Library> {
        let [
            get_unique_id,
            comm_init_rank,
            all_reduce,
            get_error_string,
            set_device,
            device_get_pci_bus_id,
        ] = [
            c"ncclGetUniqueId",
            c"ncclCommInitRank",
            c"ncclAllReduce",
            c"ncclGetErrorString",
            c"cudaSetDevice",
            c"cudaDeviceGetPCIBusId",
        ]
        .map(symbol);
        // Safety: the types are those that the headers of NCCL 2 and CUDA give to these names.
        unsafe {
            Some(Library {
                get_unique_id: transmute::<*mut c_void, GetUniqueId>(get_unique_id?),
                comm_init_rank: transmute::<*mut c_void, CommInitRank>(comm_init_rank?),
                all_reduce: transmute::<*mut c_void, AllReduce>(all_reduce?),
                get_error_string: transmute::<*mut c_void, GetErrorString>(get_error_string?),
                set_device: transmute::<*mut c_void, SetDevice>(set_device?),
                device_get_pci_bus_id: transmute::<*mut c_void, DeviceGetPciBusId>(
                    device_get_pci_bus_id?,
                ),
            })
        }
    }

    fn unique_id(&self) -> Result<UniqueId> {
        let mut id = UniqueId([0; 128]);
        // Safety: `id` is writable and of the size that NCCL writes.
        let status = unsafe { (self.get_unique_id)(&mut id) };
        self.check(status, "make an identifier")?;
        Ok(id)
    }

    fn communicator(
        &self,
        id: UniqueId,
        rank: usize,
        n_ranks: usize,
        gpu: usize,
    ) -> Result<NonNull<c_void>> {
        self.choose(gpu)?;
        let mut communicator = ptr::null_mut();
        let (rank, n_ranks) = (c_int::try_from(rank)?, c_int::try_from(n_ranks)?);
        // Safety: `communicator` is writable.
        let status = unsafe { (self.comm_init_rank)(&mut communicator, n_ranks, id, rank) };
        self.check(status, "bring the GPUs together")?;
        NonNull::new(communicator).context("NCCL gave no communicator")
    }

    /// A number that a GPU has for itself among those of all machines; not 0.
    fn place(&self, gpu: usize) -> Result<i64> {
        let mut bus = [0 as c_char; 32];
        let number = c_int::try_from(gpu)?;
        // Safety: `bus` is writable over its length, and its last byte stays 0.
        let status = unsafe { (self.device_get_pci_bus_id)(bus.as_mut_ptr(), 31, number) };
        ensure!(
            status == 0,
            "CUDA does not say where GPU {gpu} is: cudaError {status}"
        );
        // Safety: it ends with a zero.
        let bus = unsafe { CStr::from_ptr(bus.as_ptr()) };
        let digest = sha256(&[machine()?.as_bytes(), b"/", bus.to_bytes()].concat());
        Ok(i64::from_str_radix(&digest[..15], 16)?.max(1))
    }

    /// Makes a GPU the one of this thread.
    fn choose(&self, gpu: usize) -> Result<()> {
        // Safety: it takes a number and refuses one that is no GPU's.
        let status = unsafe { (self.set_device)(c_int::try_from(gpu)?) };
        ensure!(
            status == 0,
            "CUDA cannot choose GPU {gpu}: cudaError {status}"
        );
        Ok(())
    }

    fn check(&self, status: c_int, what: &str) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        // Safety: NCCL gives a text of its own that ends with a zero, for any number.
        let reason = unsafe { CStr::from_ptr((self.get_error_string)(status)) };
        bail!("NCCL cannot {what}: {}", reason.to_string_lossy());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_on_one_gpu_are_found() {
        for (places, wanted) in [
            (&[3, 5, 7][..], None),
            (&[3, 5, 3], Some((0, 2))),
            (&[3, 5, 5, 3], Some((1, 2))),
            (&[0, 0, 3], None),
            (&[], None),
        ] {
            assert_eq!(together_on_one(places), wanted, "{places:?}");
        }
    }

    #[test]
    #[ignore = "needs libnccl.so.2 and libcudart.so.13 in LD_PRELOAD, and a machine without a GPU"]
    fn nccl_is_found_and_refusals_are_told() {
        let library = Library::find().unwrap();
        let error = library.place(0).unwrap_err().to_string();
        assert!(
            error.contains("CUDA does not say where GPU 0 is"),
            "{error}"
        );
        let error = library.choose(0).unwrap_err().to_string();
        assert!(error.contains("CUDA cannot choose GPU 0"), "{error}");
        let error = library.check(5, "do that").unwrap_err().to_string();
        assert!(error.starts_with("NCCL cannot do that: "), "{error}");
    }
}
