#include "devices.h"

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

namespace fake_cuda {
namespace {

std::vector<int> visible_devices() {
  const char* n = std::getenv("FAKE_CUDA_DEVICES");
  const int n_in_machine = n ? std::atoi(n) : 1;
  std::vector<int> visible;
  const char* named = std::getenv("CUDA_VISIBLE_DEVICES");
  if (!named) {
    for (int device = 0; device < n_in_machine; ++device) visible.push_back(device);
    return visible;
  }
  std::istringstream numbers(named);
  for (std::string number; std::getline(numbers, number, ',');) {
    // As with the driver, the first that does not exist ends the list.
    const int device = std::atoi(number.c_str());
    if (device < 0 || device >= n_in_machine) break;
    visible.push_back(device);
  }
  return visible;
}

const std::vector<int>& visible() {
  static const std::vector<int> visible = visible_devices();
  return visible;
}

thread_local int current = 0;

} // namespace

int n_devices() {
  return static_cast<int>(visible().size());
}

int place_in_machine(int device) {
  return visible().at(device);
}

int current_device() {
  return current;
}

void choose_device(int device) {
  current = device;
}

} // namespace fake_cuda
