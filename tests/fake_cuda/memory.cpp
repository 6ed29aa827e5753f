#include "memory.h"

#include <execinfo.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

namespace fake_cuda {
namespace {

/// Reserved, not used: pages come when they are touched.
constexpr size_t SIZE = size_t(16) << 30;
/// As large as a block of libtorch's own allocator for CUDA.
constexpr size_t GRAIN = 512;

/// One mapping for all GPUs, with a memory-protection key: what a thread may touch is then a register of that thread, which costs nothing to
/// change. Without such keys nothing is checked.
class Arena {
 public:
  Arena() {
    void* mapped =
        mmap(nullptr, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
      std::perror("fake CUDA: cannot reserve memory");
      std::abort();
    }
    base_ = static_cast<char*>(mapped);
    const int key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
    if (key >= 0 && pkey_mprotect(base_, SIZE, PROT_READ | PROT_WRITE, key) == 0) {
      key_ = key;
    } else {
      std::fprintf(
          stderr, "fake CUDA: NOT CHECKED whether the host touches memory of the device: this machine has no memory-protection keys\n");
    }
  }

  bool holds(const void* address) const {
    const char* byte = static_cast<const char*>(address);
    return byte >= base_ && byte < base_ + SIZE;
  }

  void open() const {
    if (key_ >= 0) pkey_set(key_, 0);
  }

  void close() const {
    if (key_ >= 0) pkey_set(key_, PKEY_DISABLE_ACCESS);
  }

  void* allocate(size_t n_bytes) {
    size_t size = std::max((n_bytes + GRAIN - 1) / GRAIN * GRAIN, GRAIN);
    std::lock_guard<std::mutex> held(mutex_);
    size_t offset = used_;
    const auto found = free_.lower_bound(size);
    // A block that is much larger would be wasted on it.
    if (found != free_.end() && found->first <= size + size / 4) {
      std::tie(size, offset) = *found;
      free_.erase(found);
    } else if (used_ + size <= SIZE) {
      used_ += size;
    } else {
      return nullptr;
    }
    live_[offset] = size;
    in_use_ += size;
    peak_ = std::max(peak_, in_use_);
    return base_ + offset;
  }

  void release(void* address) {
    std::lock_guard<std::mutex> held(mutex_);
    const auto found = live_.find(static_cast<char*>(address) - base_);
    if (found == live_.end()) {
      std::fprintf(stderr, "fake CUDA: %p is given back and was not allocated\n", address);
      std::abort();
    }
    in_use_ -= found->second;
    free_.emplace(found->second, found->first);
    live_.erase(found);
  }

  size_t peak() {
    std::lock_guard<std::mutex> held(mutex_);
    return peak_;
  }

 private:
  char* base_;
  int key_ = -1;
  std::mutex mutex_;
  size_t used_ = 0;
  size_t in_use_ = 0;
  size_t peak_ = 0;
  std::multimap<size_t, size_t> free_; // size to offset
  std::map<size_t, size_t> live_; // offset to size
};

/// Never destroyed: tensors in static objects are given back after the destructors of this library.
Arena& arena() {
  static auto* arena = new Arena();
  return *arena;
}

thread_local int n_nested = 0;

struct sigaction handler_before;

/// A segmentation fault, as on a GPU, but with the reason and the stack of the thread.
void on_fault(int, siginfo_t* info, void*) {
  if (!arena().holds(info->si_addr)) {
    sigaction(SIGSEGV, &handler_before, nullptr);
    return;
  }
  const char reason[] =
      "\nfake CUDA: the host touched memory of the device outside of a kernel; on a GPU this is a segmentation fault\n";
  (void)!write(STDERR_FILENO, reason, sizeof reason - 1);
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  _exit(128 + SIGSEGV);
}

/// Before any tensor is made, so that a fault needs no memory.
const bool listens = [] {
  arena();
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGSEGV, &action, &handler_before) == 0;
}();

} // namespace

void* allocate(size_t n_bytes) {
  void* address = arena().allocate(n_bytes);
  if (address) {
    Kernel kernel;
    std::memset(address, 0xff, n_bytes);
  }
  return address;
}

void release(void* address) {
  arena().release(address);
}

size_t peak_bytes() {
  return arena().peak();
}

Kernel::Kernel() {
  if (n_nested++ == 0) arena().open();
}

Kernel::~Kernel() {
  if (--n_nested == 0) arena().close();
}

} // namespace fake_cuda
