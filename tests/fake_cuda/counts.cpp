#include "counts.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "memory.h"

namespace fake_cuda {
namespace {

struct Total {
  size_t number = 0;
  size_t amount = 0;

  void add(size_t more) {
    number += 1;
    amount += more;
  }
};

struct Counts {
  std::mutex mutex;
  std::map<std::string, size_t> kernels;
  Total to_host, from_host, sums;
  size_t waits = 0;
};

void write();

Counts& counts() {
  static auto* counts = [] {
    std::atexit(write);
    return new Counts();
  }();
  return *counts;
}

/// As JSON into the file that FAKE_CUDA_COUNTS names.
void write() {
  const char* path = std::getenv("FAKE_CUDA_COUNTS");
  FILE* file = path ? std::fopen(path, "w") : nullptr;
  if (!file) return;
  const Counts& all = counts();
  size_t n_kernels = 0;
  std::string by_operator;
  for (const auto& [name, n] : all.kernels) {
    n_kernels += n;
    by_operator += (by_operator.empty() ? "\"" : ", \"") + name + "\": " + std::to_string(n);
  }
  std::fprintf(
      file,
      "{\"kernels\": %zu, \"waits\": %zu, \"copies_to_host\": %zu, \"bytes_to_host\": %zu, \"copies_from_host\": %zu, "
      "\"bytes_from_host\": %zu, \"sums\": %zu, \"summed_values\": %zu, \"peak_bytes\": %zu, \"operators\": {%s}}\n",
      n_kernels, all.waits, all.to_host.number, all.to_host.amount, all.from_host.number, all.from_host.amount, all.sums.number,
      all.sums.amount, peak_bytes(), by_operator.c_str());
  std::fclose(file);
}

} // namespace

void count_kernel(const std::string& name) {
  static const bool is_traced = std::getenv("FAKE_CUDA_TRACE") != nullptr;
  if (is_traced) std::fprintf(stderr, "fake CUDA: %s\n", name.c_str());
  std::lock_guard<std::mutex> held(counts().mutex);
  counts().kernels[name] += 1;
}

void count_copy(Copy direction, size_t n_bytes) {
  std::lock_guard<std::mutex> held(counts().mutex);
  (direction == Copy::ToHost ? counts().to_host : counts().from_host).add(n_bytes);
}

void count_wait() {
  std::lock_guard<std::mutex> held(counts().mutex);
  counts().waits += 1;
}

void count_sum(size_t n_values) {
  std::lock_guard<std::mutex> held(counts().mutex);
  counts().sums.add(n_values);
}

} // namespace fake_cuda
