// The GPUs that a process sees.
#pragma once

namespace fake_cuda {

/// How many there are: those of the machine (FAKE_CUDA_DEVICES, 1 if unset), or those of them that CUDA_VISIBLE_DEVICES names.
int n_devices();

/// The number of a visible GPU among all of the machine, by which two processes can tell whether they have the same one.
int place_in_machine(int device);

/// The GPU on which this thread computes.
int current_device();
void choose_device(int device);

/// Chooses a GPU for as long as it lives.
class Chosen {
 public:
  explicit Chosen(int device) : before_(current_device()) {
    choose_device(device);
  }
  ~Chosen() {
    choose_device(before_);
  }
  Chosen(const Chosen&) = delete;
  Chosen& operator=(const Chosen&) = delete;

 private:
  int before_;
};

} // namespace fake_cuda
