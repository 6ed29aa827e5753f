"""Energy, gradient and Hessian-vector product by autograd in f64, and the checks that make them trustworthy."""
import copy
import json

import numpy as np
import onnxruntime
import safetensors.torch
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

ENERGY_TOLERANCE = 1e-4
"""ONNX Runtime in f32 against f64, relative to the largest energy of the batch."""
FINITE_DIFFERENCE_TOLERANCE = 1e-6
"""Autograd in f64 against central differences in f64, relative L2."""
CONDITION_TOLERANCE = 2e-5
"""Autograd in f32 against f64, relative L2: a larger error would say that 1e-4 is not to be had in f32."""


class Golden:
    """The tensors of one golden file, all f64; x, v and the further inputs are exact in f32."""

    def __init__(self, entry, module):
        self.entry = entry
        self.module = copy.deepcopy(module).double()
        generator = torch.Generator().manual_seed(entry.seed ^ 1)
        low, high = entry.range
        shape = (entry.n_samples, *entry.shape)
        self.x = (torch.rand(shape, generator=generator) * (high - low) + low).double()
        self.v = torch.randn(shape, generator=generator).double()
        self.others = [torch.rand((entry.n_samples, *s), generator=generator).double() for _, s in entry.extra]
        self.energy, self.gradient, self.hvp = derivatives(self.module, self.x, self.v, self.others)

    def check_finite_differences(self):
        """The gradient along v against differences of the energy, hvp against differences of the gradient."""
        step = 1e-5
        ahead = derivatives(self.module, self.x + step * self.v, self.v, self.others)
        behind = derivatives(self.module, self.x - step * self.v, self.v, self.others)
        slope = (ahead[0] - behind[0]) / (2 * step)
        along = (self.gradient * self.v).flatten(1).sum(1)
        self.expect("gradient and finite differences", slope, along, FINITE_DIFFERENCE_TOLERANCE * 10)
        hvp = (ahead[1] - behind[1]) / (2 * step)
        self.expect("hvp and finite differences", hvp, self.hvp, FINITE_DIFFERENCE_TOLERANCE)

    def check_condition(self, module):
        """The same derivatives in f32, as an engine would compute them."""
        low = derivatives(module, self.x.float(), self.v.float(), [o.float() for o in self.others])
        for what, got, want in zip(("energy", "gradient", "hvp"), low, (self.energy, self.gradient, self.hvp)):
            self.expect(f"{what} in f32", got.double(), want, CONDITION_TOLERANCE)

    def check_samples_apart(self):
        """The energy of a sample alone is its energy in the batch."""
        if isinstance(self.entry.exports[0].batch, int):
            return
        alone = self.module(self.x[1:2], *(o[1:2] for o in self.others))
        alone = (alone[0] if isinstance(alone, tuple) else alone).reshape(1)
        self.expect("a sample alone", alone, self.energy[1:2], 1e-10)

    def check_export(self, path):
        """ONNX Runtime reproduces the energy with the exported file, at several batches where it is symbolic."""
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        fixed = isinstance(self.entry.exports[0].batch, int)
        for n in (self.entry.n_samples,) if fixed else (1, 2, 3):
            feeds = {self.entry.input: self.x[:n].float().numpy()}
            feeds |= {name: o[:n].float().numpy() for (name, _), o in zip(self.entry.extra, self.others)}
            got = session.run([self.entry.output], feeds)[0]
            assert got.shape in ((n,), (n, 1)), f"{path}: energy of shape {got.shape}"
            error = np.abs(got.reshape(n) - self.energy[:n].numpy()).max() / self.energy.abs().max().item()
            assert error < ENERGY_TOLERANCE, f"{path}: energy differs by {error:.1e} at batch {n}"

    def expect(self, what, got, want, tolerance):
        norm = want.norm().item()
        error = (got - want).norm().item() / (norm if norm > 0 else 1.0)
        assert error < tolerance, f"{self.entry.name}: {what}: relative error {error:.1e}"

    def save(self, path):
        tensors = {"x": self.x, "v": self.v, "energy": self.energy, "gradient": self.gradient, "hvp": self.hvp}
        tensors |= {f"input.{name}": o for (name, _), o in zip(self.entry.extra, self.others)}
        metadata = {
            "generator": "tests/zoo/make_zoo.py",
            "torch": torch.__version__.split("+")[0],
            "input": self.entry.input,
            "output": self.entry.output,
            "zero_hvp": json.dumps(self.entry.zero_hvp),
        }
        path.write_bytes(sorted_header(safetensors.torch.save({k: t.contiguous() for k, t in tensors.items()}, metadata)))


def sorted_header(file):
    """The same safetensors file with the keys of its header sorted, since the library writes metadata in a random order."""
    size = int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + file[8 + size :]


def derivatives(module, x, v, others):
    """Energy [N], gradient and Hessian-vector product of the shape of x."""
    x = x.detach().clone().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):
        energy = module(x, *others)
        energy = (energy[0] if isinstance(energy, tuple) else energy).reshape(len(x))
        (gradient,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        slope = (gradient * v).sum()
        hvp = torch.autograd.grad(slope, x, allow_unused=True)[0] if slope.requires_grad else None
    hvp = torch.zeros_like(x) if hvp is None else hvp
    return energy.detach(), gradient.detach(), hvp.detach()
