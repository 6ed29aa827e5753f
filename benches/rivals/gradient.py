"""Times one gradient of an energy network: exported files on ONNX Runtime against PyTorch, one network, batch and number of threads.

All forms compute the gradient of the same function: the network of a checkpoint that `ebm-export init` wrote, with its weights.
Correctness comes first: each form is compared with the gradient in f64 by PyTorch's autograd, and one that is off ends the program
before anything is timed. Then the forms take turns, round by round, so that a disturbance of the machine meets all of them.

    gradient.py --name NAME --checkpoint DIR --onnx FILE --raw-onnx FILE --without mask=FILE --batch 1 --threads 1 --rounds 40 --output rows.json

Wanted: numpy, onnxruntime, safetensors, torch.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import numpy
import safetensors.torch
import torch

from forms import onnxruntime_session, pytorch_gradient
from report import summary, write_report

# Largest median over images of the relative L2 error of a gradient in f32, against f64. A pre-activation within rounding of zero flips a mask and
# moves the error of its image to 1e-4 … 1e-3, on every engine and in PyTorch too; large images have such pixels each. A wrong gradient is off by more.
MAX_ERROR = 1e-3
# Images on which the forms are compared before they are timed.
N_COMPARED = 4
# Rest before each sample in seconds: the threads of the form that ran before spin for a while.
PAUSE = 0.05
# Runs of a sample.
N_RUNS = 4
# Runs of each form before the first round.
N_WARM_UPS = 3
SEED = 0

PYTORCH_EAGER = "pytorch eager"


def arguments():
    parser = argparse.ArgumentParser(description="Times one gradient of an energy network.")
    parser.add_argument("--checkpoint", type=pathlib.Path, required=True, help="folder that `ebm-export init` wrote")
    parser.add_argument("--onnx", type=pathlib.Path, required=True, help="gradient.onnx with the default rewrites")
    parser.add_argument("--raw-onnx", type=pathlib.Path, required=True, help="gradient.onnx without rewrites")
    parser.add_argument("--without", type=named_file, action="append", default=[], help="NAME=FILE: gradient.onnx without that rewrite")
    parser.add_argument("--fixed-onnx", type=pathlib.Path, help="gradient.onnx for the batch alone")
    parser.add_argument("--name", required=True, help="name of the network in the rows")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file for the rows")
    return parser.parse_args()


def named_file(text):
    name, path = text.split("=", 1)
    return name, pathlib.Path(path)


def onnxruntime_gradient(path, n_threads):
    """`x [N, C, H, W]` as an array to the gradient as an array, by an exported file."""
    session = onnxruntime_session(path, n_threads)
    return lambda x: session.run(["gradient"], {"x": x})[0]


def error_of(form, x, wanted):
    """The median over the images of which the gradient is known of the relative L2 error."""
    got = form(x).astype(numpy.float64)
    return statistics.median(
        float(numpy.linalg.norm(got[image] - wanted[image]) / numpy.linalg.norm(wanted[image])) for image in range(len(wanted))
    )


def checked_errors(forms, x, wanted):
    errors = {name: error_of(form, x, wanted) for name, form in forms.items()}
    wrong = {name: error for name, error in errors.items() if not error <= MAX_ERROR}
    if wrong:
        sys.exit(f"error: gradients differ from f64 by more than {MAX_ERROR}, so nothing was timed: {wrong}")
    return errors


def milliseconds(form, x):
    """A run of several in a row, after one that wakes the threads and fills the caches, as in a chain of Langevin steps."""
    time.sleep(PAUSE)
    form(x)
    started = time.perf_counter()
    for _ in range(N_RUNS):
        form(x)
    return (time.perf_counter() - started) * 1e3 / N_RUNS


def timed(forms, x, n_rounds):
    """Samples of each form in milliseconds per image."""
    for form in forms.values():
        for _ in range(N_WARM_UPS):
            form(x)
    samples = {name: [] for name in forms}
    for _ in range(n_rounds):
        for name, form in forms.items():
            samples[name].append(milliseconds(form, x) / len(x))
    return samples


def rows_of(options, description, samples, errors):
    eager = statistics.median(samples[PYTORCH_EAGER])
    for name, values in samples.items():
        yield {
            "network": options.name,
            "width": description.get("stem", description["widths"][0]),
            "batch": options.batch,
            "threads": options.threads,
            "form": name,
            **summary("milliseconds", values, eager, 4),
            "gradient_error": float(f"{errors[name]:.2e}"),
        }


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    description = json.loads((options.checkpoint / "checkpoint.json").read_text())["network"]
    weights = safetensors.torch.load_file(options.checkpoint / "weights.safetensors")
    size, channels = description["image_size"], description["channels"]
    draw = numpy.random.default_rng(SEED)
    images = draw.uniform(-1, 1, (max(N_COMPARED, options.batch), channels, size, size)).astype(numpy.float32)

    exact_weights = {name: weight.double() for name, weight in weights.items()}
    exact = pytorch_gradient(description, exact_weights, "as described", torch.contiguous_format)
    wanted = numpy.concatenate([exact(image[None]) for image in images[:N_COMPARED]])

    forms = {
        # Autograd of the network as described, NCHW.
        PYTORCH_EAGER: pytorch_gradient(description, weights, "as described", torch.contiguous_format),
        # Autograd of the network with its pooled convolutions rewritten by hand, NHWC.
        "pytorch channels-last, same algebra": pytorch_gradient(description, weights, "rewritten", torch.channels_last),
        "onnxruntime, raw": onnxruntime_gradient(options.raw_onnx, options.threads),
    }
    for name, path in options.without:
        forms[f"onnxruntime, without {name}"] = onnxruntime_gradient(path, options.threads)
    forms["onnxruntime"] = onnxruntime_gradient(options.onnx, options.threads)
    if options.fixed_onnx:
        forms["onnxruntime, fixed batch"] = onnxruntime_gradient(options.fixed_onnx, options.threads)
    compared = images[: options.batch] if options.fixed_onnx else images[:N_COMPARED]
    errors = checked_errors(forms, compared, wanted[: len(compared)])
    samples = timed(forms, images[: options.batch], options.rounds)
    write_report(options, rows_of(options, description, samples, errors))


if __name__ == "__main__":
    main()
