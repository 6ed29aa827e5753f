// What libtorch asks of a device: memory, which one a thread computes on, streams, and what there is.
//
// Work is done when it is asked for, so there is one stream, every event has happened, and nothing is waited for.

#include "device.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstring>

#include "devices.h"
#include "generator.h"
#include "memory.h"

namespace fake_cuda {

c10::Device whole(c10::Device device) {
  const int index = device.has_index() ? device.index() : current_device();
  TORCH_CHECK(index >= 0 && index < n_devices(), "CUDA error: invalid device ordinal (fake): ", device);
  return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index)};
}

namespace {

void give_back(void* address) {
  if (address) release(address);
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t n_bytes) override {
    const auto device = whole(c10::DeviceType::CUDA);
    if (n_bytes == 0) return {nullptr, nullptr, &give_back, device};
    void* address = fake_cuda::allocate(n_bytes);
    TORCH_CHECK(address, "CUDA out of memory (fake): ", n_bytes, " bytes");
    return {address, address, &give_back, device};
  }
  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back;
  }
  void copy_data(void* to, const void* from, size_t n_bytes) const override {
    Kernel kernel;
    std::memcpy(to, from, n_bytes);
  }
};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::DeviceType::CUDA;
  }
  c10::Device exchangeDevice(c10::Device device) const override {
    const auto before = getDevice();
    setDevice(device);
    return before;
  }
  c10::Device getDevice() const override {
    return {c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(current_device())};
  }
  void setDevice(c10::Device device) const override {
    choose_device(whole(device).index());
  }
  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index()) choose_device(device.index());
  }
  c10::DeviceIndex deviceCount() const noexcept override {
    return static_cast<c10::DeviceIndex>(n_devices());
  }
  c10::Stream getStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::DEFAULT, whole(device));
  }
  c10::Stream getDefaultStream(c10::Device device) const override {
    return getStream(device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return getStream(stream.device());
  }
  bool queryStream(const c10::Stream&) const override {
    return true;
  }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    // Anything but null: an event that was recorded.
    static char recorded;
    *event = &recorded;
  }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override {
    return true;
  }
  void synchronizeEvent(void*) const override {}
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

} // namespace

c10::Allocator* allocator() {
  static auto* allocator = new Allocator();
  return allocator;
}

namespace {

const bool has_allocator = [] {
  c10::SetAllocator(c10::DeviceType::CUDA, allocator(), /*priority=*/1);
  return true;
}();

} // namespace
} // namespace fake_cuda

namespace at {

/// The name that libtorch_cpu.so asks its registry for, in this namespace.
struct CUDAHooks final : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool isBuilt() const override {
    return true;
  }
  bool isAvailable() const override {
    return hasCUDA();
  }
  bool hasCUDA() const override {
    return getNumGPUs() > 0;
  }
  int getNumGPUs() const override {
    return fake_cuda::n_devices();
  }
  DeviceIndex deviceCount() const override {
    return static_cast<DeviceIndex>(getNumGPUs());
  }
  bool hasPrimaryContext(DeviceIndex) const override {
    return true;
  }
  DeviceIndex current_device() const override {
    return static_cast<DeviceIndex>(fake_cuda::current_device());
  }
  DeviceIndex getCurrentDevice() const override {
    return current_device();
  }
  void setCurrentDevice(DeviceIndex device) const override {
    fake_cuda::choose_device(device);
  }
  DeviceIndex exchangeDevice(DeviceIndex device) const override {
    const auto before = current_device();
    fake_cuda::choose_device(device);
    return before;
  }
  DeviceIndex maybeExchangeDevice(DeviceIndex device) const override {
    return exchangeDevice(device);
  }
  Device getDeviceFromPtr(void*) const override {
    return {DeviceType::CUDA, current_device()};
  }
  const Generator& getDefaultGenerator(DeviceIndex device = -1) const override {
    return fake_cuda::default_generator(device < 0 ? current_device() : device);
  }
  Generator getNewGenerator(DeviceIndex device = -1) const override {
    return fake_cuda::new_generator(device < 0 ? current_device() : device);
  }
  void deviceSynchronize(DeviceIndex) const override {}
  std::string showConfig() const override {
    return "a fake CUDA device";
  }
};

REGISTER_CUDA_HOOKS(CUDAHooks)

} // namespace at
