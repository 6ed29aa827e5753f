"""Times one update of an energy network: the trainer against PyTorch, one width, interleaved.

Both do the same update. By maximum likelihood: K Langevin steps from noise, the difference of the mean energies of data and chain ends over T, its
gradient with respect to the weights, a step of Adam. By matching: the gradient of the energy regressed on targets, differentiated with respect to
the weights, a step of Adam. Correctness comes first: from the trainer's own weights and inputs the rival has to come to the trainer's weights, or
the program ends before anything is timed. Then they take turns, round by round, so that a disturbance of the machine meets both.

    learning.py --objective maximum-likelihood --trainer target/release/trainer --width 64 --threads 2 --rounds 9 --work DIR --output rows.json

Wanted: numpy, safetensors, torch.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import safetensors.torch
import torch

from networks import energy_of
from report import summary, write_report

# Largest mean difference of the weights after the update, as a part of the learning rate, which is about how far Adam's first step moves each.
# Where a gradient is within rounding of zero its sign, and so the whole step, is up to chance: the comparison is of the mean over all weights.
MAX_ERROR = 1e-2
BATCH = 32
STEPS = 20
# Rest before each sample in seconds: the threads of the form that ran before spin for a while.
PAUSE = 0.1

PYTORCH_EAGER = "pytorch eager"
CHANNELS_LAST = "pytorch channels-last, same algebra"
TRAINER = "trainer"
# Only by maximum likelihood.
TRAINER_BF16 = "trainer, chains in bf16"

LIKELIHOOD = "maximum-likelihood"
MATCHING = "matching"


def update_of(objective, width):
    """What the trainer is asked to time."""
    preset, values = {
        LIKELIHOOD: (
            "cifar10-midrun-data",
            {"network.widths": [width] * 4, "learning.batch": BATCH, "langevin.steps": STEPS, "chains.start": "noise"},
        ),
        MATCHING: (
            "cifar10-denoise-small",
            {"network.widths": [width] + [2 * width] * 4, "learning.batch": BATCH, "learning.weight_gradient_clip": "off"},
        ),
    }[objective]
    values["learning.ema_decay"] = "off"
    sets = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    return [preset, *(word for text in sets for word in ("--set", text))]


def arguments():
    parser = argparse.ArgumentParser(description="Times one update of an energy network.")
    parser.add_argument("--trainer", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--objective", choices=[LIKELIHOOD, MATCHING], required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for the update that is compared")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="JSON file for the rows")
    return parser.parse_args()


class Trainer:
    """The trainer, which does an update for each line that it gets."""

    def __init__(self, options, folder, *sets):
        update = [*update_of(options.objective, options.width), *(word for text in sets for word in ("--set", text))]
        self.folder = folder
        self.process = subprocess.Popen(
            [options.trainer, "bench", *update, "--threads", str(options.threads), "--record", folder, "--on-request"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self):
        self.process.stdin.write("update\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("error: the trainer ended, see its message")
        return float(answer)

    def weights(self):
        """After the first update."""
        return safetensors.torch.load_file(self.folder / "after.safetensors")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Rival:
    """The same update in PyTorch."""

    def __init__(self, folder, algebra, memory_format):
        header = json.loads((folder / "checkpoint.json").read_text())
        self.network, self.config = header["network"], header["config"]
        self.algebra, self.format = algebra, memory_format
        self.begin(safetensors.torch.load_file(folder / "inputs.safetensors"), header["state"])
        weights = safetensors.torch.load_file(folder / "before.safetensors")
        self.weights = {name: self.laid_out(weight).requires_grad_(True) for name, weight in weights.items()}
        learning = self.config["learning"]
        adam = learning["adam"]
        self.learning_rate = learning["learning_rate"]
        if isinstance(self.learning_rate, list):
            self.learning_rate = self.learning_rate[0][1]
        self.adam = torch.optim.Adam(
            self.weights.values(), lr=self.learning_rate, betas=(adam["beta1"], adam["beta2"]), eps=adam["epsilon"]
        )

    def laid_out(self, tensor):
        return tensor.contiguous(memory_format=self.format) if tensor.dim() == 4 else tensor

    def energy(self, weights, x):
        return energy_of(self.network, weights, x, self.algebra)

    def update(self):
        loss = self.loss()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def seconds(self):
        started = time.perf_counter()
        self.update()
        return time.perf_counter() - started


class LikelihoodRival(Rival):
    """Chains, then the difference of mean energies."""

    def begin(self, inputs, state):
        self.positives, self.starts = self.laid_out(inputs["positives"]), inputs["starts"]
        self.noise_seed = state["noise_seed"]

    def chain_ends(self):
        langevin = self.config["langevin"]
        step_size, temperature = langevin["step_size"], langevin["temperature"]
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        torch.manual_seed(self.noise_seed)
        x = self.starts
        for _ in range(STEPS):
            noise = torch.randn(self.starts.shape)
            x = self.laid_out(x).detach().requires_grad_(True)
            gradient = torch.autograd.grad(self.energy(weights, x).sum(), x)[0]
            x = x.detach() - step_size**2 / (2 * temperature) * gradient + step_size * noise
        return self.laid_out(x.detach())

    def loss(self):
        ends = self.chain_ends()
        temperature = self.config["langevin"]["temperature"]
        energies = self.energy(self.weights, torch.cat([self.positives, ends]))
        n = len(self.positives)
        return (energies[:n].mean() - energies[n:].mean()) / temperature


class MatchingRival(Rival):
    """The regression of the gradient, differentiated twice by autograd."""

    def begin(self, inputs, _):
        self.inputs, self.targets = self.laid_out(inputs["inputs"]), self.laid_out(inputs["targets"])
        self.image_weights = inputs["weights"].flatten()

    def loss(self):
        x = self.inputs.detach().requires_grad_(True)
        gradient = torch.autograd.grad(self.energy(self.weights, x).sum(), x, create_graph=True)[0]
        squares = (gradient - self.targets).square().sum((1, 2, 3))
        return (self.image_weights * squares).mean()


RIVALS = {LIKELIHOOD: LikelihoodRival, MATCHING: MatchingRival}


def error_of(weights, after, learning_rate):
    """Mean difference of the weights after an update, as a part of the learning rate."""
    with torch.no_grad():
        differences = [(weights[name] - weight).abs().flatten() for name, weight in after.items()]
    return float(torch.cat(differences).mean()) / learning_rate


def rows_of(options, samples, errors):
    eager = statistics.median(samples[PYTORCH_EAGER])
    for name, values in samples.items():
        yield {
            "network": f"sngan32, {options.objective}",
            "width": options.width,
            "form": name,
            "threads": options.threads,
            "batch": BATCH,
            **summary("seconds_per_update", values, eager, 4),
            "weight_error": float(f"{errors.get(name, 0.0):.2e}"),
        }


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    trainer = Trainer(options, options.work)
    trainer.seconds()  # The update that is compared, which also warms up.
    rival = RIVALS[options.objective]
    rivals = {
        PYTORCH_EAGER: rival(options.work, "as described", torch.contiguous_format),
        CHANNELS_LAST: rival(options.work, "rewritten", torch.channels_last),
    }
    errors = {}
    for name, rival in rivals.items():
        rival.update()
        errors[name] = error_of(rival.weights, trainer.weights(), rival.learning_rate)
    wrong = {name: error for name, error in errors.items() if not error <= MAX_ERROR}
    if wrong:
        sys.exit(f"error: weights differ from the trainer's by more than {MAX_ERROR} of the learning rate, so nothing was timed: {wrong}")
    trainers = {TRAINER: trainer}
    if options.objective == LIKELIHOOD:
        # Another computation, which the error of its weights tells apart; it is timed beside the others and compared with none.
        rounded = Trainer(options, options.work / "bf16", "langevin.precision=bf16")
        rounded.seconds()
        errors[TRAINER_BF16] = error_of(rounded.weights(), trainer.weights(), rivals[PYTORCH_EAGER].learning_rate)
        trainers[TRAINER_BF16] = rounded
    forms = {**rivals, **trainers}
    samples = {name: [] for name in forms}
    for _ in range(options.rounds):
        for name, form in forms.items():
            time.sleep(PAUSE)
            samples[name].append(form.seconds())
    for trainer in trainers.values():
        trainer.close()
    write_report(options, rows_of(options, samples, errors))


if __name__ == "__main__":
    main()
