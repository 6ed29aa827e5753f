// What tensors need of a device.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/Device.h>

namespace fake_cuda {

/// The device with its number; that on which this thread computes if it has none.
c10::Device whole(c10::Device device);

/// Of memory of the device on which this thread computes.
c10::Allocator* allocator();

} // namespace fake_cuda
