//! How an NVIDIA GPU multiplies the f32 numbers of convolutions and matrices.
#![allow(unsafe_code)]

use tch::Device;

/// In how many bits operands are multiplied. Sums are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// All 24.
    Exact,
    /// The first 11, in TF32: several times as fast.
    Tf32,
}

unsafe extern "C" {
    fn ebm_allow_tf32(allowed: bool);
}

impl Products {
    /// From now on, for the whole process, where the device has a choice. What autograd computes later on the way back goes by what holds then.
    pub fn choose(self, device: Device) {
        if matches!(device, Device::Cuda(_)) {
            self.choose_for_gpus();
        }
    }

    fn choose_for_gpus(self) {
        // Safety: libtorch keeps the settings in its own static object, and reads them at each convolution.
        unsafe { ebm_allow_tf32(self == Products::Tf32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn ebm_tf32_is_allowed() -> bool;
    }

    #[test]
    fn libtorch_is_told() {
        for (products, wanted) in [(Products::Tf32, true), (Products::Exact, false)] {
            products.choose_for_gpus();
            // Safety: it reads what was set.
            assert_eq!(unsafe { ebm_tf32_is_allowed() }, wanted);
        }
    }
}
