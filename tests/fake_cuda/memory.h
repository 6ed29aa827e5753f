// Memory that only kernels may touch.
#pragma once

#include <cstddef>

namespace fake_cuda {

/// Memory of the device, or null if there is no more. It is filled with 0xff, so that an f32 that nobody has written is NaN.
void* allocate(size_t n_bytes);

/// Gives memory back. What was not allocated ends the process.
void release(void* address);

/// The most that was in use at once.
size_t peak_bytes();

/// While one lives, this thread runs a kernel and may touch the memory of the device; kernels may be nested.
///
/// Threads that libtorch starts inside a kernel would not inherit the permission: libtorch has to compute on one thread, as
/// `ebm_trainer::parallel` sets it.
class Kernel {
 public:
  Kernel();
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
};

} // namespace fake_cuda
