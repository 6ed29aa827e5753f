#include "tensors.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/from_blob.h>

#include "device.h"
#include "devices.h"

namespace fake_cuda {
namespace {

const c10::DispatchKeySet KEYS(c10::DispatchKey::CUDA);

/// Numbers of a program that became tensors promote types less than other tensors do.
void keep_number(const at::Tensor& from, const at::Tensor& to) {
  if (from.unsafeGetTensorImpl()->is_wrapped_number()) to.unsafeGetTensorImpl()->set_wrapped_number(true);
}

} // namespace

at::Tensor on_cpu(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.device().is_cuda()) return tensor;
  char* memory = static_cast<char*>(tensor.storage().mutable_data());
  if (memory) memory += tensor.storage_offset() * tensor.dtype().itemsize();
  const auto options = at::TensorOptions().dtype(tensor.dtype()).device(c10::DeviceType::CPU);
  auto same = at::from_blob(memory, tensor.sizes(), tensor.strides(), [](void*) {}, options);
  keep_number(tensor, same);
  return same;
}

at::Tensor on_device(const at::Tensor& made, c10::Device device) {
  if (!made.defined() || made.device().is_cuda()) return made;
  const auto dense = made.is_non_overlapping_and_dense() ? made : made.contiguous();
  auto result = empty_strided(dense.sizes(), dense.strides(), dense.scalar_type(), device);
  if (dense.numel() > 0) on_cpu(result).copy_(dense);
  keep_number(made, result);
  return result;
}

at::Tensor empty(c10::IntArrayRef size, c10::ScalarType type, c10::Device device, c10::MemoryFormat format) {
  Chosen chosen(whole(device).index());
  return at::detail::empty_generic(size, allocator(), KEYS, type, format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef strides, c10::ScalarType type, c10::Device device) {
  Chosen chosen(whole(device).index());
  return at::detail::empty_strided_generic(size, strides, allocator(), KEYS, type);
}

} // namespace fake_cuda
