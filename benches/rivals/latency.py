"""Times one whole Langevin step, noise and update included: this project's runtime against PyTorch, ONNX Runtime and OpenVINO from Python.

One network, batch and number of threads. Correctness comes first: the gradients of the forms in Python are compared with PyTorch's
autograd in f64, and a chain of each backend of the runtime with the same chain in f64 and the documented noise; one that is off ends the
program before anything is timed. Then the forms take turns, round by round, so that a disturbance of the machine meets all of them.

    latency.py --name NAME --checkpoint DIR --model DIR --raw-model DIR --purify PROGRAM --batch 1 --threads 1 --rounds 15 --output rows.json

OpenVINO is left out, with a line that says so, where its chain is wrong.

Wanted: numpy, onnxruntime, openvino, safetensors, torch.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy
import openvino.opset13
import safetensors.torch
import torch

from forms import onnxruntime_session, pytorch_gradient
from machine import has_avx512
from networks import energy_of
from noise import normals, uniforms
from report import summary, write_report

# Largest relative L2 error of a gradient in f32, against f64: in deep networks with random weights, ReLUs flip at which a value is zero but for rounding.
MAX_GRADIENT_ERROR = 5e-3
# Largest difference of a pixel after the steps of a sample, against the same chain in f64, in parts of the largest step of a pixel.
MAX_CHAIN_ERROR = 1e-2
# Rest before each sample in seconds: the threads of the form that ran before spin for a while.
PAUSE = 0.05
N_WARM_UPS = 2
SEED = 0

PYTORCH_EAGER = "pytorch eager"
OPENVINO = "openvino from python, naive graph"
RUNTIMES = {f"ebm-runtime, {name}": name for name in ["native", "rten", "ort", "tract"]}
# The engine on lesser vectors than the processor has.
AVX2 = "ebm-runtime, native on AVX2"


def arguments():
    parser = argparse.ArgumentParser(description="Times one whole Langevin step.")
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="folder that `ebm-export init` wrote")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="folder of `ebm-export onnx` with the default rewrites")
    parser.add_argument("--tract-model", type=pathlib.Path, required=True, help="the same for the target tract")
    parser.add_argument("--raw-model", type=pathlib.Path, required=True, help="the same without rewrites")
    parser.add_argument("--purify", type=pathlib.Path, required=True, help="the command `purify`")
    parser.add_argument("--name", required=True, help="name of the network in the rows")
    parser.add_argument("--compiled", action="store_true", help="also time torch.compile")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="Langevin steps of a sample")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file for the rows")
    return parser.parse_args()


class Dynamics:
    """Step size and temperature, which `ebm-export init` recommends, and how many steps."""

    def __init__(self, header, n_steps):
        purification = header["purification"]
        self.step_size = purification["step_size"]
        self.rate = self.step_size**2 / (2 * purification["temperature"])
        self.temperature = purification["temperature"]
        self.n_steps = n_steps

    def torch_chain(self, energy, memory_format):
        """`x` as an array to where the chain ends as an array, by autograd."""

        def chain(x):
            x = torch.from_numpy(x).contiguous(memory_format=memory_format)
            for _ in range(self.n_steps):
                x = x.requires_grad_(True)
                gradient = torch.autograd.grad(energy(x).sum(), x)[0]
                x = x.detach() - self.rate * gradient + self.step_size * torch.randn_like(x)
            return x.numpy()

        return chain

    def onnxruntime_chain(self, session):
        draw = numpy.random.default_rng(SEED)
        scalars = {
            "step_size": numpy.array(self.step_size, numpy.float32),
            "temperature": numpy.array(self.temperature, numpy.float32),
        }

        def chain(x):
            for _ in range(self.n_steps):
                noise = draw.standard_normal(x.shape, dtype=numpy.float32)
                x = session.run(["x_next"], {"x": x, "noise": noise, **scalars})[0]
            return x

        return chain

    def openvino_chain(self, path, n_threads):
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": n_threads, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        model = core.read_model(path)
        # OpenVINO computes something else if a convolution and a transposed one share their weights.
        for operation in model.get_ordered_ops():
            if operation.get_type_name() == "ConvolutionBackpropData":
                weights = operation.input_value(1).get_node().get_data().copy()
                operation.input(1).replace_source_output(openvino.opset13.constant(weights).output(0))
        request = core.compile_model(model, "CPU", options).create_infer_request()
        draw = numpy.random.default_rng(SEED)
        scalars = {
            "step_size": numpy.array(self.step_size, numpy.float32),
            "temperature": numpy.array(self.temperature, numpy.float32),
        }

        def chain(x, noise_of=None):
            for step in range(self.n_steps):
                noise = noise_of(step) if noise_of else draw.standard_normal(x.shape, dtype=numpy.float32)
                x = request.infer({"x": x, "noise": noise, **scalars})["x_next"]
            return x

        return chain

    def noise_of(self, image, shape):
        """The runtime's noise of one image, by the step."""
        return lambda step: normals(SEED, image, 0, step, numpy.prod(shape)).reshape(shape)

    def exact_chain(self, gradient, x, image):
        """Where the chain of one image ends, with the runtime's noise."""
        noise_of = self.noise_of(image, x.shape)
        for step in range(self.n_steps):
            noise = noise_of(step)
            x = x - self.rate * gradient(x) + self.step_size * noise
        return x


class Runtime:
    """A process of `purify bench` that makes a sample when it is asked."""

    def __init__(self, options, model, backend, vectors=None):
        command = [options.purify, "bench", "--model", model, "--on-request", "--backend", backend]
        command += ["--batch", str(options.batch), "--threads", str(options.threads), "--steps", str(options.steps)]
        environment = os.environ | ({"EBM_VECTORS": vectors} if vectors else {})
        self.process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self.read() != "ready":
            sys.exit(f"error: `purify bench` does not run on the backend {backend}; see above")

    def read(self):
        return self.process.stdout.readline().strip()

    def ask(self, request):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return self.read()

    def image(self):
        """Where the chain of the first image ends."""
        return numpy.array(self.ask("image").split(), dtype=numpy.float64)

    def milliseconds(self):
        """One sample, per image and step."""
        return float(self.ask("sample"))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def check_gradients(gradients, x, wanted):
    for name, gradient in gradients.items():
        got = gradient(x).astype(numpy.float64)
        error = numpy.linalg.norm(got - wanted) / numpy.linalg.norm(wanted)
        if not error <= MAX_GRADIENT_ERROR:
            sys.exit(f"error: the gradient of `{name}` is off by {error:.1e}, expected at most {MAX_GRADIENT_ERROR}")


def chain_error(end, wanted, start):
    """Largest difference of a pixel, in parts of the largest step of a pixel."""
    return numpy.abs(end.reshape(-1) - wanted.reshape(-1)).max() / numpy.abs(wanted - start).max()


def check_chains(runtimes, wanted, start):
    for name, runtime in runtimes.items():
        error = chain_error(runtime.image(), wanted, start)
        if not error <= MAX_CHAIN_ERROR:
            sys.exit(f"error: the chain of `{name}` is off by {error:.1e}, expected at most {MAX_CHAIN_ERROR}")


def sampler(chain, x, n_steps):
    """A function that times the chain, in milliseconds per image and step."""

    def sample():
        time.sleep(PAUSE)
        started = time.perf_counter()
        chain(x)
        return (time.perf_counter() - started) * 1e3 / (len(x) * n_steps)

    return sample


def timed(samplers, n_rounds):
    samples = {name: [] for name in samplers}
    for sample in samplers.values():
        for _ in range(N_WARM_UPS):
            sample()
    for _ in range(n_rounds):
        for name, sample in samplers.items():
            samples[name].append(sample())
    return samples


def rows_of(options, description, samples):
    eager = statistics.median(samples[PYTORCH_EAGER])
    for name, values in samples.items():
        yield {
            "network": options.name,
            "width": description.get("stem", description["widths"][0]),
            "backend": name,
            "threads": options.threads,
            "batch": options.batch,
            **summary("milliseconds_per_image_step", values, eager, 5),
        }


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(SEED)
    header = json.loads((options.checkpoint / "checkpoint.json").read_text())
    description = header["network"]
    weights = safetensors.torch.load_file(options.checkpoint / "weights.safetensors")
    channels, size = description["channels"], description["image_size"]
    dynamics = Dynamics(header, options.steps)

    n_values = channels * size * size
    start = uniforms(SEED, 0, 0, 0, options.batch * n_values).reshape(options.batch, channels, size, size)
    x = start.astype(numpy.float32)
    layouts = {"as described": torch.contiguous_format, "rewritten": torch.channels_last}

    def energy(algebra):
        layout = layouts[algebra]
        placed = {name: w.contiguous(memory_format=layout) if w.dim() == 4 else w for name, w in weights.items()}
        return lambda x: energy_of(description, placed, x, algebra)

    exact_weights = {name: weight.double() for name, weight in weights.items()}
    exact = pytorch_gradient(description, exact_weights, "as described", torch.contiguous_format)
    raw = onnxruntime_session(options.raw_model / "step.onnx", options.threads)
    rewritten = onnxruntime_session(options.model / "step.onnx", options.threads)
    raw_gradient = onnxruntime_session(options.raw_model / "gradient.onnx", options.threads)
    check_gradients(
        {
            PYTORCH_EAGER: pytorch_gradient(description, weights, "as described", torch.contiguous_format),
            "pytorch channels-last": pytorch_gradient(description, weights, "rewritten", torch.channels_last),
            "onnxruntime": lambda x: raw_gradient.run(["gradient"], {"x": x})[0],
        },
        x[:1],
        exact(start[:1]),
    )
    runtimes = {
        name: Runtime(options, options.model if backend == "ort" else options.tract_model, backend)
        for name, backend in RUNTIMES.items()
    }
    if has_avx512():
        runtimes[AVX2] = Runtime(options, options.tract_model, "native", "AVX2")
    wanted = dynamics.exact_chain(exact, start[:1], 0)
    check_chains(runtimes, wanted, start[:1])

    chains = {
        PYTORCH_EAGER: dynamics.torch_chain(energy("as described"), torch.contiguous_format),
        "pytorch channels-last, same algebra": dynamics.torch_chain(energy("rewritten"), torch.channels_last),
        "onnxruntime from python, naive graph": dynamics.onnxruntime_chain(raw),
        "onnxruntime from python, rewritten": dynamics.onnxruntime_chain(rewritten),
    }
    if options.compiled:
        compiled = torch.compile(energy("as described"))
        chains["pytorch compiled"] = dynamics.torch_chain(compiled, torch.contiguous_format)
    of_openvino = dynamics.openvino_chain(options.raw_model / "step.onnx", options.threads)
    error = chain_error(of_openvino(x[:1], dynamics.noise_of(0, start[:1].shape)), wanted, start[:1])
    if error <= MAX_CHAIN_ERROR:
        chains[OPENVINO] = of_openvino
    else:
        print(f"OpenVINO is not timed: its chain is off by {error:.1e}, expected at most {MAX_CHAIN_ERROR}")
    samplers = {name: sampler(chain, x, options.steps) for name, chain in chains.items()}
    samplers |= {name: runtime.milliseconds for name, runtime in runtimes.items()}
    samples = timed(samplers, options.rounds)
    for runtime in runtimes.values():
        runtime.close()
    write_report(options, rows_of(options, description, samples))


if __name__ == "__main__":
    main()
