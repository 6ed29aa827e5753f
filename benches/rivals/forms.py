"""Forms of a gradient that the benchmarks compare."""

import onnxruntime
import torch

from networks import energy_of


def pytorch_gradient(description, weights, algebra, memory_format):
    """`x [N, C, H, W]` as an array to the gradient as an array, by autograd."""
    weights = {
        name: weight.contiguous(memory_format=memory_format) if weight.dim() == 4 else weight
        for name, weight in weights.items()
    }
    dtype = next(iter(weights.values())).dtype

    def gradient(x):
        x = torch.from_numpy(x).to(dtype).contiguous(memory_format=memory_format).requires_grad_(True)
        energy = energy_of(description, weights, x, algebra)
        return torch.autograd.grad(energy.sum(), x)[0].numpy()

    return gradient


def onnxruntime_session(path, n_threads):
    """A session with the settings that were fastest for these graphs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = n_threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
