// Operators that have a kernel of their own: those that make tensors, that only look at them in another way, and that cross between the
// host and a device. All others run the CPU's kernel.

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_local_scalar_dense_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <cstring>

#include "counts.h"
#include "device.h"
#include "devices.h"
#include "fallback.h"
#include "memory.h"
#include "tensors.h"

namespace fake_cuda {
namespace {

at::Tensor empty_memory_format(
    c10::IntArrayRef size, c10::optional<c10::ScalarType> type, c10::optional<c10::Layout>, c10::optional<c10::Device> device,
    c10::optional<bool>, c10::optional<c10::MemoryFormat> format) {
  return empty(
      size, c10::dtype_or_default(type), device.value_or(c10::DeviceType::CUDA), format.value_or(c10::MemoryFormat::Contiguous));
}

at::Tensor empty_with_strides(
    c10::IntArrayRef size, c10::IntArrayRef strides, c10::optional<c10::ScalarType> type, c10::optional<c10::Layout>,
    c10::optional<c10::Device> device, c10::optional<bool>) {
  return empty_strided(size, strides, c10::dtype_or_default(type), device.value_or(c10::DeviceType::CUDA));
}

/// Between host and device the host waits, unless the caller says that it need not.
at::Tensor& copy(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  if (self.device() == source.device()) {
    count_kernel("aten::copy_");
  } else if (self.device().is_cpu() || source.device().is_cpu()) {
    count_copy(self.device().is_cpu() ? Copy::ToHost : Copy::FromHost, self.nbytes());
    if (!non_blocking) count_wait();
  }
  Kernel kernel;
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  on_cpu(self).copy_(on_cpu(source));
  return self;
}

/// A number that the host asks for, and waits for.
at::Scalar local_scalar(const at::Tensor& self) {
  count_copy(Copy::ToHost, self.dtype().itemsize());
  count_wait();
  Kernel kernel;
  return at::native::_local_scalar_dense_cpu(on_cpu(self));
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size, c10::optional<c10::MemoryFormat> format) {
  TORCH_CHECK(!format || *format == c10::MemoryFormat::Contiguous, "fake CUDA: resize_ with a memory format");
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(size);
  const size_t n_bytes = at::detail::computeStorageNbytesContiguous(size, self.dtype().itemsize(), self.storage_offset());
  auto* storage = impl->unsafe_storage().unsafeGetStorageImpl();
  if (n_bytes <= storage->nbytes()) return self;
  Chosen chosen(self.device().index());
  auto memory = allocator()->allocate(n_bytes);
  if (storage->nbytes() > 0) allocator()->copy_data(memory.get(), storage->data(), storage->nbytes());
  storage->set_data_ptr_noswap(std::move(memory));
  storage->set_nbytes(n_bytes);
  return self;
}

} // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", empty_memory_format);
  library.impl("empty_strided", empty_with_strides);
  library.impl("copy_", copy);
  library.impl("_local_scalar_dense", local_scalar);
  library.impl("resize_", resize);
  // These only look at memory, and libtorch's functions for the CPU do not touch it.
  library.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("unfold", at::native::unfold);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  // These have a kernel for any device, which for one that it does not know goes astray.
  library.impl("convolution", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
  library.impl("convolution_backward", torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>());
}

} // namespace fake_cuda
