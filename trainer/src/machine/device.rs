//! Which device a run uses. One binary serves CPU and CUDA: it is linked with the CPU parts of libtorch, and the CUDA parts
//! are loaded at start if they lie beside them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use tch::{Cuda, Device};

/// A device as it is typed: `cpu`, `cuda` or `cuda:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU: that of this number, else the first, or of several processes on a machine one each.
    Cuda(Option<usize>),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceName, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("cpu", _) => Ok(DeviceName::Cpu),
            ("cuda", _) => Ok(DeviceName::Cuda(None)),
            (_, Some(Ok(number))) => Ok(DeviceName::Cuda(Some(number))),
            _ => Err("expected cpu, cuda or cuda:N, as in cuda:1".to_string()),
        }
    }
}

/// The device of that name, for the process of that number on its machine.
///
/// # Errors
/// CUDA is asked for and not there; nothing falls back in silence.
pub fn device(name: DeviceName, local_rank: usize) -> Result<Device> {
    prepare(name)?;
    let DeviceName::Cuda(number) = name else {
        return Ok(Device::Cpu);
    };
    let n_devices = Cuda::device_count() as usize;
    // A process may see all GPUs of its machine, or only some that are its own. If two come to the same one, they find out when they meet.
    let number = number.unwrap_or(local_rank % n_devices);
    ensure!(
        number < n_devices,
        "--device cuda:{number}: libtorch finds {n_devices} GPUs here: expected a number from 0 to {}",
        n_devices - 1
    );
    Ok(Device::Cuda(number))
}

/// Makes a device usable: loads the CUDA parts of libtorch if it is one of theirs. To be called before libtorch draws a random number, since
/// what it then knows of CUDA is all that it ever will.
///
/// # Errors
/// CUDA is asked for and not there.
pub fn prepare(name: DeviceName) -> Result<()> {
    if name == DeviceName::Cpu {
        return Ok(());
    }
    let Some(library) = libtorch_cuda() else {
        bail!(
            "--device cuda needs the CUDA parts of libtorch 2.11.0, and there is no libtorch_cuda.so beside the libtorch_cpu.so in use: \
             run `cargo xtask setup --cuda`, or set LD_LIBRARY_PATH to the lib folder of a full PyTorch 2.11.0; or leave out --device"
        );
    };
    load(&library)?;
    if !Cuda::is_available() {
        bail!(
            "--device cuda: {} is loaded, but libtorch finds no usable NVIDIA GPU: check the driver with nvidia-smi; or leave out --device",
            library.display()
        );
    }
    Ok(())
}

/// `libtorch_cuda.so` beside the `libtorch_cpu.so` of this process.
fn libtorch_cuda() -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // A method of at::Tensor, exported by libtorch_cpu.so.
    let address = symbol(c"_ZN2at4_ops4relu4callERKNS_6TensorE")?;
    // Safety: dladdr reads loader tables; `info` is writable for the whole call. The name that it gives belongs to the loader and lives as
    // long as the library, which is never unloaded.
    let file = unsafe {
        if libc::dladdr(address, &mut info) == 0 || info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname)
    };
    let folder = PathBuf::from(std::ffi::OsStr::from_bytes(file.to_bytes()))
        .parent()?
        .to_path_buf();
    Some(folder.join("libtorch_cuda.so")).filter(|library| library.exists())
}

/// What a library that is loaded has under a name of C.
pub(crate) fn symbol(name: &CStr) -> Option<*mut c_void> {
    // Safety: dlsym reads loader tables; `name` ends with a zero.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

fn load(library: &std::path::Path) -> Result<()> {
    let path = CString::new(library.as_os_str().as_bytes())?;
    // Safety: loading runs the library's initialisers, which register CUDA kernels with the libtorch_cpu.so that is loaded
    // already; the path ends with a zero. dlerror gives null or a string that is copied at once.
    unsafe {
        if libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL).is_null() {
            let error = libc::dlerror();
            let reason = if error.is_null() {
                "unknown".into()
            } else {
                CStr::from_ptr(error).to_string_lossy().into_owned()
            };
            bail!("--device cuda: cannot load {}: {reason}", library.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_others_refused() {
        for (text, wanted) in [
            ("cpu", Some(DeviceName::Cpu)),
            ("cuda", Some(DeviceName::Cuda(None))),
            ("cuda:0", Some(DeviceName::Cuda(Some(0)))),
            ("cuda:11", Some(DeviceName::Cuda(Some(11)))),
            ("cuda:", None),
            ("cuda:-1", None),
            ("gpu", None),
            ("", None),
        ] {
            let read = text.parse::<DeviceName>();
            assert_eq!(read.clone().ok(), wanted, "{text:?}");
            let refusal = read.err().unwrap_or_default();
            let says = refusal.contains("cpu, cuda or cuda:N");
            assert_eq!(says, wanted.is_none(), "{text:?}: {refusal}");
        }
    }
}
