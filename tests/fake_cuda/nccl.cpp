// The functions of CUDA's runtime and of NCCL that `trainer/src/machine/ranks/nccl.rs` looks up. Sums go through memory that the processes of a
// machine share. This library is preloaded, so that these come before those of a libcudart.so that libtorch brings.
//
// Each function refuses what the real one would: a GPU that is not there, an identifier that did not arrive whole, another type than f32.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <random>

#include "counts.h"
#include "devices.h"
#include "memory.h"

namespace {

using fake_cuda::Kernel;

// The numbers of the real headers.
constexpr int SUCCESS = 0;
constexpr int CUDA_INVALID_DEVICE = 101;
constexpr int NCCL_SYSTEM_ERROR = 2;
constexpr int NCCL_INVALID_ARGUMENT = 4;
constexpr int NCCL_FLOAT = 7;
constexpr int NCCL_SUM = 0;

/// So many numbers of each process are added at a time.
constexpr size_t SLOT = 1 << 18;

struct UniqueId {
  char bytes[128];
};

/// The name of the shared memory stands in front; the rest is a pattern, by which an identifier is known to be whole.
constexpr size_t NAME = 64;

char pattern(size_t position) {
  return static_cast<char>(3 * position + 1);
}

bool is_whole(const UniqueId& id) {
  for (size_t position = NAME; position < sizeof id.bytes; ++position) {
    if (id.bytes[position] != pattern(position)) return false;
  }
  return true;
}

/// What the processes share: a barrier, and behind it a slot for each.
struct Shared {
  std::atomic<int> n_arrived;
  std::atomic<int> generation;
  alignas(64) float slots[];
};

struct Communicator {
  int rank;
  int n_ranks;
  Shared* shared;

  /// Returns when all processes have come here.
  void meet() const {
    const int generation = shared->generation.load();
    if (shared->n_arrived.fetch_add(1) + 1 == n_ranks) {
      shared->n_arrived = 0;
      shared->generation.fetch_add(1);
    }
    while (shared->generation.load() == generation) sched_yield();
  }

  float* slot(int of_rank) const {
    return shared->slots + SLOT * of_rank;
  }
};

bool exists(int device) {
  return device >= 0 && device < fake_cuda::n_devices();
}

} // namespace

extern "C" {

int cudaSetDevice(int device) {
  if (!exists(device)) return CUDA_INVALID_DEVICE;
  fake_cuda::choose_device(device);
  return SUCCESS;
}

int cudaDeviceGetPCIBusId(char* bus, int length, int device) {
  if (!exists(device)) return CUDA_INVALID_DEVICE;
  std::snprintf(bus, length, "0000:%02x:00.0", 16 + fake_cuda::place_in_machine(device));
  return SUCCESS;
}

int ncclGetUniqueId(UniqueId* id) {
  std::random_device random;
  std::memset(id->bytes, 0, NAME);
  std::snprintf(id->bytes, NAME, "/fake_nccl_%u_%u", static_cast<unsigned>(getpid()), random());
  for (size_t position = NAME; position < sizeof id->bytes; ++position) id->bytes[position] = pattern(position);
  return SUCCESS;
}

int ncclCommInitRank(void** communicator, int n_ranks, UniqueId id, int rank) {
  if (!is_whole(id) || rank < 0 || rank >= n_ranks) return NCCL_INVALID_ARGUMENT;
  const size_t size = sizeof(Shared) + sizeof(float) * SLOT * n_ranks;
  const int file = shm_open(id.bytes, O_CREAT | O_RDWR, 0600);
  if (file < 0 || ftruncate(file, size) != 0) return NCCL_SYSTEM_ERROR;
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return NCCL_SYSTEM_ERROR;
  auto* made = new Communicator{rank, n_ranks, static_cast<Shared*>(memory)};
  made->meet();
  if (rank == 0) shm_unlink(id.bytes);
  *communicator = made;
  return SUCCESS;
}

int ncclAllReduce(
    const void* from, void* to, size_t count, int type, int operation, void* communicator, void* stream) {
  // The null stream is the one on which libtorch computes; there is no other here.
  if (type != NCCL_FLOAT || operation != NCCL_SUM || stream != nullptr) return NCCL_INVALID_ARGUMENT;
  fake_cuda::count_sum(count);
  const auto& own = *static_cast<Communicator*>(communicator);
  const auto* parts = static_cast<const float*>(from);
  auto* sums = static_cast<float*>(to);
  Kernel kernel;
  for (size_t first = 0; first < count; first += SLOT) {
    const size_t n = std::min(count - first, SLOT);
    std::memcpy(own.slot(own.rank), parts + first, n * sizeof(float));
    own.meet();
    for (size_t i = 0; i < n; ++i) {
      // In the order of the ranks, so that each process has the same bits.
      float sum = 0;
      for (int rank = 0; rank < own.n_ranks; ++rank) sum += own.slot(rank)[i];
      sums[first + i] = sum;
    }
    own.meet();
  }
  return SUCCESS;
}

const char* ncclGetErrorString(int) {
  return "fake NCCL refuses its arguments";
}

} // extern "C"
