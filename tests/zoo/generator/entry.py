"""What the zoo knows of a model before it is exported, and the register of all models."""
import dataclasses
import typing
import zlib

import torch

REGISTER = []


@dataclasses.dataclass(frozen=True)
class Legacy:
    """The exporter that traces TorchScript: `torch.onnx.export(dynamo=False)`."""

    opset: int
    batch: typing.Union[str, int] = "N"
    folding: bool = True
    """Whether the exporter folds constants; without, weights that are computed stay computations."""
    training: torch.onnx.TrainingMode = torch.onnx.TrainingMode.EVAL
    """PRESERVE keeps BatchNormalization nodes that EVAL folds into the convolution before them."""

    @property
    def variant(self):
        return f"legacy{self.opset}"


@dataclasses.dataclass(frozen=True)
class Dynamo:
    """The exporter on top of `torch.export`: `torch.onnx.export(dynamo=True)`."""

    opset: int
    batch: typing.Union[str, int] = "N"
    optimize: bool = True
    metadata: bool = False
    """Whether nodes keep the exporter's notes on the modules that they come from."""

    @property
    def variant(self):
        return f"dynamo{self.opset}"


@dataclasses.dataclass(frozen=True)
class HandBuilt:
    """A graph made node by node, as exporters of other frameworks make them."""

    build: typing.Callable
    """Called with the PyTorch module of the same weights; returns the ONNX model."""
    variant: str
    batch: typing.Union[str, int] = "N"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network with the ways in which it is exported."""

    name: str
    family: str
    build: typing.Callable
    """Makes the PyTorch module; the random seed is set before."""
    shape: tuple
    """Shape of one sample, without the batch."""
    exports: tuple
    input: str = "x"
    output: str = "energy"
    extra: tuple = ()
    """(name, shape of one sample) of the inputs that are not differentiated."""
    extra_outputs: tuple = ()
    zero_hvp: bool = False
    """The energy is piecewise linear, so the Hessian is zero almost everywhere."""
    range: tuple = (-1.5, 1.5)
    """Range of the uniform random input."""

    @property
    def seed(self):
        return zlib.crc32(self.name.encode())

    @property
    def n_samples(self):
        batch = self.exports[0].batch
        return batch if isinstance(batch, int) else 3

    def module(self):
        torch.manual_seed(self.seed)
        return self.build().float().eval()


def entry(name, family, build, shape, *exports, **others):
    """Registers a model."""
    assert all(known.name != name for known in REGISTER), name
    assert "." not in name, "a dot parts the name from the variant"
    REGISTER.append(Entry(name, family, build, shape, exports, **others))
