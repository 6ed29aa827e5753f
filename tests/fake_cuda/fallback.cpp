#include "fallback.h"

#include <ATen/core/List.h>
#include <ATen/ops/empty.h>

#include <set>
#include <string>
#include <vector>

#include "counts.h"
#include "device.h"
#include "generator.h"
#include "memory.h"
#include "tensors.h"

namespace fake_cuda {
namespace {

using c10::IValue;

/// Without the overload and without the underscore of what is computed in place: `aten::add` of `aten::add_.Tensor`.
std::string family(const c10::FunctionSchema& schema) {
  auto name = schema.name();
  if (name.back() == '_') name.pop_back();
  return name;
}

/// Operators that are computed element by element. These alone take a scalar tensor of the CPU beside tensors of a GPU.
bool is_elementwise(const std::string& family) {
  static const std::set<std::string> families{
      "aten::add",        "aten::sub",        "aten::rsub",        "aten::mul",         "aten::div",         "aten::floor_divide",
      "aten::remainder",  "aten::fmod",       "aten::pow",         "aten::atan2",       "aten::maximum",     "aten::minimum",
      "aten::eq",         "aten::ne",         "aten::lt",          "aten::le",          "aten::gt",          "aten::ge",
      "aten::where",      "aten::clamp",      "aten::clamp_min",   "aten::clamp_max",   "aten::lerp",        "aten::addcmul",
      "aten::addcdiv",    "aten::fill",       "aten::masked_fill", "aten::logical_and", "aten::logical_or",  "aten::logical_xor",
      "aten::bitwise_and", "aten::bitwise_or", "aten::bitwise_xor"};
  return families.count(family) > 0;
}

/// Operators whose result the host needs, be it only its size. Indices that are masks are another case.
bool is_waited_for(const std::string& family) {
  static const std::set<std::string> families{
      "aten::nonzero",      "aten::masked_select",     "aten::equal",   "aten::_unique2", "aten::unique_dim",
      "aten::unique_consecutive", "aten::repeat_interleave", "aten::bincount"};
  return families.count(family) > 0;
}

std::string device_error(const std::string& name, c10::Device device, const at::Tensor& other) {
  return c10::str(
      "Expected all tensors to be on the same device, but found at least two devices, ", device, " and ", other.device(), "! (", name,
      ", a tensor of shape ", other.sizes(), ")");
}

/// The arguments of one call, on the stack.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op),
        schema_(op.schema()),
        stack_(stack),
        first_(stack.size() - schema_.arguments().size()),
        given_(stack.begin() + first_, stack.end()),
        outs_(given_.size()),
        device_(device()) {}

  void run() {
    for (const IValue& value : given_) check(value);
    Kernel kernel;
    for (size_t i = 0; i < given_.size(); ++i) stack_[first_ + i] = argument(i);
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
    for (size_t i = 0; i < schema_.returns().size(); ++i) stack_[first_ + i] = result(i, stack_[first_ + i]);
  }

 private:
  /// The device of the first tensor that has one; for a factory, the one that it is told.
  c10::Device device() const {
    c10::optional<c10::Device> found;
    for (const IValue& value : given_) {
      each_tensor(value, [&](const at::Tensor& tensor) {
        if (!found && tensor.device().is_cuda()) found = tensor.device();
      });
    }
    for (const IValue& value : given_) {
      if (!found && value.isDevice() && value.toDevice().is_cuda()) found = whole(value.toDevice());
    }
    TORCH_CHECK(found, "fake CUDA: ", schema_.name(), " without a device");
    return *found;
  }

  void check(const IValue& value) const {
    // Indices, which may lie on the CPU.
    if (value.isOptionalTensorList()) {
      each_tensor(value, [&](const at::Tensor& index) {
        TORCH_CHECK(index.device().is_cpu() || index.device() == device_, device_error(schema_.name(), device_, index));
        if (index.scalar_type() == c10::ScalarType::Bool) count_wait();
      });
      return;
    }
    each_tensor(value, [&](const at::Tensor& tensor) {
      const bool is_scalar_of_cpu = tensor.device().is_cpu() && tensor.dim() == 0 && is_elementwise(family(schema_));
      TORCH_CHECK(tensor.device() == device_ || is_scalar_of_cpu, device_error(schema_.name(), device_, tensor));
    });
  }

  /// What the kernel of the CPU gets for an argument.
  IValue argument(size_t i) {
    const IValue& value = given_[i];
    const auto& declared = schema_.arguments()[i];
    // It may be resized, which memory that is borrowed cannot be.
    if (declared.is_out()) return outs_[i] = at::empty({0}, at::TensorOptions().dtype(value.toTensor().dtype()));
    if (value.isTensor()) return on_cpu(value.toTensor());
    if (value.isTensorList()) {
      TORCH_CHECK(!is_written(declared), "fake CUDA: ", schema_.name(), " writes into a list of tensors");
      std::vector<at::Tensor> tensors;
      each_tensor(value, [&](const at::Tensor& tensor) { tensors.push_back(on_cpu(tensor)); });
      return tensors;
    }
    if (value.isOptionalTensorList()) {
      c10::List<c10::optional<at::Tensor>> tensors;
      for (const auto& tensor : value.toOptionalTensorVector()) {
        tensors.push_back(tensor ? c10::optional<at::Tensor>(on_cpu(*tensor)) : c10::nullopt);
      }
      return tensors;
    }
    if (value.isDevice()) return c10::Device(c10::DeviceType::CPU);
    if (value.isGenerator()) return drawing(value.toGenerator());
    const bool draws_by_default = value.isNone() && declared.type()->str().find("Generator") != std::string::npos;
    return draws_by_default ? IValue(drawing(default_generator(device_.index()))) : value;
  }

  /// What the caller gets for a result.
  IValue result(size_t i, const IValue& made) const {
    const auto* alias = schema_.returns()[i].alias_info();
    if (alias) return written(*alias);
    if (made.isTensor()) return on_device(made.toTensor(), device_);
    if (made.isTensorList()) {
      std::vector<at::Tensor> tensors;
      each_tensor(made, [&](const at::Tensor& tensor) { tensors.push_back(on_device(tensor, device_)); });
      return tensors;
    }
    return made;
  }

  /// The argument that was written and is returned. What libtorch itself gives back for several of them refers to its stack, and is gone.
  IValue written(const c10::AliasInfo& alias) const {
    TORCH_CHECK(alias.isWrite(), "fake CUDA: ", schema_.name(), " gives a view and needs a kernel of its own");
    for (size_t i = 0; i < given_.size(); ++i) {
      const auto& declared = schema_.arguments()[i];
      if (!is_written(declared) || declared.alias_info()->beforeSets() != alias.beforeSets()) continue;
      const auto& target = given_[i].toTensor();
      if (declared.is_out()) {
        if (target.sizes() != outs_[i].sizes()) target.resize_(outs_[i].sizes());
        on_cpu(target).copy_(outs_[i]);
      }
      return given_[i];
    }
    TORCH_CHECK(false, "fake CUDA: ", schema_.name(), " returns what is no argument");
  }

  static bool is_written(const c10::Argument& declared) {
    return declared.alias_info() && declared.alias_info()->isWrite();
  }

  template <typename Function>
  static void each_tensor(const IValue& value, Function&& function) {
    const auto visit = [&](const at::Tensor& tensor) {
      if (tensor.defined()) function(tensor);
    };
    if (value.isTensor()) visit(value.toTensor());
    if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) visit(tensor);
    }
    if (value.isOptionalTensorList()) {
      for (const auto& tensor : value.toOptionalTensorVector()) {
        if (tensor) visit(*tensor);
      }
    }
  }

  const c10::OperatorHandle& op_;
  const c10::FunctionSchema& schema_;
  torch::jit::Stack& stack_;
  const size_t first_;
  const std::vector<IValue> given_;
  /// What the kernel of the CPU writes in place of an argument that is only written.
  std::vector<at::Tensor> outs_;
  const c10::Device device_;
};

} // namespace

void run_on_cpu(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  count_kernel(op.schema().name());
  if (is_waited_for(family(op.schema()))) count_wait();
  Call(op, *stack).run();
}

} // namespace fake_cuda
