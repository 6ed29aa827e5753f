// Tensors of a device, and the same memory as tensors of the CPU.
#pragma once

#include <ATen/core/Tensor.h>

namespace fake_cuda {

/// The memory of a device's tensor as a tensor of the CPU, which only kernels may use. Any other tensor as it is.
at::Tensor on_cpu(const at::Tensor& tensor);

/// A copy on a device of what a kernel has made on the CPU.
at::Tensor on_device(const at::Tensor& made, c10::Device device);

at::Tensor empty(c10::IntArrayRef size, c10::ScalarType type, c10::Device device, c10::MemoryFormat format);

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef strides, c10::ScalarType type, c10::Device device);

} // namespace fake_cuda
