#!/usr/bin/env python3
"""Makes the forward models of this folder with their goldens, and the files of `bad/`.

Written with torch 2.11.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.4.6, safetensors 0.8.0 and Python 3.11.
Nothing is fetched; every seed derives from the name of the model. Run it in any folder.
The bytes are the same on every run; the README beside this file is written too.
"""
import argparse
import pathlib

from generator import attention, bad_files, convolution, decoder, hand_built, readme, vector  # noqa: F401 (some only fill the register)
from generator.entry import REGISTER
from generator.exporting import export
from generator.golden import Golden

HERE = pathlib.Path(__file__).parent
LARGEST_MODEL = 60_000
LARGEST_GOLDEN = 100_000
LARGEST_FOLDER = 1_000_000
"""Bytes of all models and goldens together."""


def make(entry):
    """Writes a model in all its variants with its golden; returns path and operators of each variant."""
    module = entry.module()
    golden = Golden(entry, module)
    golden.check_finite_differences()
    golden.check_condition(module)
    golden.check_samples_apart()
    found = []
    for how in entry.exports:
        path = HERE / f"{entry.name}.{how.variant}.onnx"
        operators = export(entry, how, module, path)
        golden.check_export(path)
        assert path.stat().st_size <= LARGEST_MODEL, f"{path} has {path.stat().st_size} bytes"
        found.append((path, operators))
    path = HERE / f"{entry.name}.safetensors"
    golden.save(path)
    assert path.stat().st_size <= LARGEST_GOLDEN, f"{path} has {path.stat().st_size} bytes"
    return found


def make_bad():
    """Writes the files that must be refused and what their refusals have to say."""
    folder = HERE / "bad"
    folder.mkdir(exist_ok=True)
    lines = ["file\tneedles\treason"]
    for entry in bad_files.REGISTER:
        (folder / f"{entry.name}.onnx").write_bytes(bad_files.bytes_of(entry))
        lines.append(f"{entry.name}.onnx\t{','.join(entry.needles)}\t{entry.reason}")
    (folder / "expected.tsv").write_text("\n".join(lines) + "\n")


def remove_old():
    """Removes what an earlier run left, so that no file stays that nothing makes."""
    for pattern in ("*.onnx", "*.safetensors", "bad/*"):
        for path in HERE.glob(pattern):
            path.unlink()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", metavar="NAME", help="make one model and leave the rest as it is")
    only = arguments.parse_args().only
    if only is None:
        remove_old()
    found = []
    for entry in REGISTER:
        if only in (None, entry.name):
            found += [(entry, *made) for made in make(entry)]
            print(entry.name, *(path.stat().st_size for known, path, _ in found if known is entry))
    make_bad()
    if only is None:
        size = sum(p.stat().st_size for p in HERE.rglob("*") if p.suffix in (".onnx", ".safetensors"))
        assert size <= LARGEST_FOLDER, f"all models and goldens have {size} bytes"
        readme.write(HERE / "README.md", found, bad_files.REGISTER)
        print(f"{len(found)} models and {len(bad_files.REGISTER)} bad files of {size} bytes")


if __name__ == "__main__":
    main()
