// What a process asked of its GPUs.
#pragma once

#include <cstddef>
#include <string>

namespace fake_cuda {

/// A kernel, by the operator that it computes. With FAKE_CUDA_TRACE it is told on standard error.
void count_kernel(const std::string& name);

/// A copy between the host and a device.
enum class Copy { ToHost, FromHost };
void count_copy(Copy direction, size_t n_bytes);

/// The host waits until the device has done all that was asked of it before.
void count_wait();

/// A sum over the processes by NCCL.
void count_sum(size_t n_values);

} // namespace fake_cuda
