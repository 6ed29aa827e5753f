// What libtorch may compute in, for the whole process, as C functions: `tch` has none for it.

#include <ATen/Context.h>

extern "C" {

/// Whether convolutions and products of f32 matrices on an NVIDIA GPU may round their operands to TF32.
void ebm_allow_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuDNN(allowed);
  at::globalContext().setAllowTF32CuBLAS(allowed);
}

bool ebm_tf32_is_allowed() {
  return at::globalContext().allowTF32CuDNN() && at::globalContext().allowTF32CuBLAS();
}

} // extern "C"
