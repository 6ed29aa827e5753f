// Processes that add up tensors, by c10d and Gloo, as C functions. A function that fails gives null or false and a message to free.

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace {

using Gloo = c10d::ProcessGroupGloo;

struct Group {
  c10::intrusive_ptr<Gloo> gloo;
};

/// Runs a function, and keeps the message of what it throws.
template <typename Function>
bool succeeds(char** message, Function&& function) {
  try {
    std::forward<Function>(function)();
    return true;
  } catch (const c10::Error& error) {
    *message = strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    *message = strdup(error.what());
  }
  return false;
}

} // namespace

/// Where and as what a process joins. The server is the process that keeps the store, where no launcher does.
struct EbmMeeting {
  const char* host;
  uint16_t port;
  bool is_server;
  const char* prefix;
  const char* interface;
  int32_t rank;
  int32_t n_ranks;
  int64_t join_milliseconds;
  int64_t sum_milliseconds;
};

extern "C" {

void* ebm_group_join(const EbmMeeting* meeting, char** message) {
  auto group = std::make_unique<Group>();
  const bool joined = succeeds(message, [&] {
    c10d::TCPStoreOptions options;
    options.port = meeting->port;
    options.isServer = meeting->is_server;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(meeting->join_milliseconds);
    auto tcp = c10::make_intrusive<c10d::TCPStore>(meeting->host, options);
    auto store = c10::make_intrusive<c10d::PrefixStore>(meeting->prefix, tcp);
    auto gloo = Gloo::Options::create(options.timeout);
    const std::string interface(meeting->interface);
    gloo->devices.push_back(
        interface.empty() ? Gloo::createDefaultDevice() : Gloo::createDeviceForInterface(interface));
    gloo->timeout = std::chrono::milliseconds(meeting->join_milliseconds);
    group->gloo = c10::make_intrusive<Gloo>(store, meeting->rank, meeting->n_ranks, gloo);
    group->gloo->setTimeout(std::chrono::milliseconds(meeting->sum_milliseconds));
  });
  return joined ? group.release() : nullptr;
}

/// Replaces a tensor in the memory of the processor by its sum over all processes.
bool ebm_group_sum(void* group, at::Tensor* tensor, char** message) {
  return succeeds(message, [&] {
    std::vector<at::Tensor> tensors{*tensor};
    static_cast<Group*>(group)->gloo->allreduce(tensors)->wait();
  });
}

void ebm_group_leave(void* group) {
  delete static_cast<Group*>(group);
}

void ebm_message_free(char* message) {
  free(message);
}

} // extern "C"
