// Any operator on tensors of a device.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

namespace fake_cuda {

/// Runs the CPU's kernel of an operator on the memory of the device, as one kernel. Before that it refuses tensors of several devices, as
/// libtorch's own kernels for CUDA do.
void run_on_cpu(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack);

} // namespace fake_cuda
