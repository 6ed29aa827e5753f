// Random numbers of the devices.
#pragma once

#include <ATen/core/Generator.h>

namespace fake_cuda {

/// The generator that a device draws from if none is named.
const at::Generator& default_generator(int device);

at::Generator new_generator(int device);

/// The generator of the CPU that draws the numbers of a device's generator.
at::Generator drawing(const at::Generator& generator);

} // namespace fake_cuda
