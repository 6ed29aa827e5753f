#include "generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <vector>

#include "devices.h"

namespace fake_cuda {
namespace {

/// A GPU has other numbers than the CPU for the same seed. What is drawn here and expected there, or the other way round, shows.
constexpr uint64_t SALT = 77;

struct Generator final : c10::GeneratorImpl {
  at::Generator on_cpu;

  explicit Generator(int device)
      : c10::GeneratorImpl(
            c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(device)),
            c10::DispatchKeySet(c10::DispatchKey::CUDA)),
        on_cpu(at::make_generator<at::CPUGeneratorImpl>(c10::default_rng_seed_val + SALT)) {}

  void set_current_seed(uint64_t seed) override {
    on_cpu.set_current_seed(seed + SALT);
  }
  uint64_t current_seed() const override {
    return on_cpu.current_seed() - SALT;
  }
  uint64_t seed() override {
    return on_cpu.seed() - SALT;
  }
  void set_offset(uint64_t) override {
    TORCH_CHECK(false, "fake CUDA: generators have no offset");
  }
  uint64_t get_offset() const override {
    TORCH_CHECK(false, "fake CUDA: generators have no offset");
  }
  void set_state(const c10::TensorImpl& state) override {
    on_cpu.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return on_cpu.unsafeGetGeneratorImpl()->get_state();
  }

 protected:
  Generator* clone_impl() const override {
    auto* copy = new Generator(device().index());
    copy->on_cpu = on_cpu.clone();
    return copy;
  }
};

} // namespace

const at::Generator& default_generator(int device) {
  static const auto* all = [] {
    auto* all = new std::vector<at::Generator>();
    for (int device = 0; device < n_devices(); ++device) all->push_back(new_generator(device));
    return all;
  }();
  return all->at(device);
}

at::Generator new_generator(int device) {
  return at::make_generator<Generator>(device);
}

at::Generator drawing(const at::Generator& generator) {
  return static_cast<Generator*>(generator.unsafeGetGeneratorImpl())->on_cpu;
}

} // namespace fake_cuda
