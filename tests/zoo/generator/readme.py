"""Writes the README of the zoo from what was made."""
import collections

ISSUE_LIST = """
Conv ConvTranspose Gemm MatMul Einsum Add Sub Mul Div Neg Pow Sqrt Reciprocal Exp Log Abs Sign Erf Sin Cos Min Max Clip Where
Equal Greater GreaterOrEqual Less LessOrEqual And Or Not Xor
Relu LeakyRelu PRelu Elu Selu Celu Sigmoid HardSigmoid Tanh Softplus Softsign Gelu HardSwish Mish
AveragePool MaxPool GlobalAveragePool GlobalMaxPool
ReduceSum ReduceMean ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare ReduceProd
Softmax LogSoftmax BatchNormalization InstanceNormalization GroupNormalization LayerNormalization LpNormalization
Reshape Flatten Transpose Concat Split Slice Squeeze Unsqueeze Expand Tile Gather Pad Identity Dropout Cast Constant ConstantOfShape
Shape Range Resize Upsample DepthToSpace SpaceToDepth
""".split()
"""The operators that `ebm-export gradient` reads."""

HEAD = """# Forward models that `ebm-export gradient` is proved with

`make_zoo.py` writes everything here, this text included: {n_files} forward models of {n_models} networks, as exporters write them, with
energy, gradient and Hessian-vector product by autograd in f64; and `bad/`, {n_bad} files that must be refused.
`make_operators.py` writes `operators/`: a small model for each operator and kind of its attributes, with the energies that ONNX Runtime gives in f32 (`golden.safetensors`,
tensors `NAME/x` and `NAME/energy`), also of `exporters/`, models that others exported. Their derivatives are compared with differences in f64.

## Files

- `NAME.VARIANT.onnx` is the network NAME as VARIANT writes it: `legacy13` is `torch.onnx.export(dynamo=False)` at opset 13, `dynamo18` the
  exporter with `dynamo=True` at opset 18, `onnx13`, `tf2onnx15`, `jax2onnx17` are built by hand in the manner of other frameworks.
- `NAME.safetensors`, the name up to the first dot, is the golden of all variants of NAME. All tensors are F64; `x`, `v` and `input.*` are exact in f32.

| tensor | shape | content |
|---|---|---|
| `x` | `[n, …]` | the input; n is 3, or the batch that the file fixes |
| `v` | shape of x | the direction of the Hessian-vector product |
| `energy` | `[n]` | also where the model's output is `[N, 1]` |
| `gradient` | shape of x | ∂(sum of energies)/∂x |
| `hvp` | shape of x | ∂²(sum of energies)/∂x² · v |
| `input.NAME` | `[n, …]` | the value of a further input NAME, which is not differentiated |

Metadata of a golden (text): `input` and `output` are the names for `--input` and `--output`; `zero_hvp` is `true` where the energy is piecewise
linear, so that `hvp` is zero and only an absolute error has a meaning; `generator` and `torch` say how the file was made.

The script checks every golden against central differences in f64 (relative L2 {fd:.0e}, of the energy {fd10:.0e}), autograd in f32 against f64
({condition:.0e}, so that 1e-4 can be had in f32), and every exported file in ONNX Runtime against the energy ({energy:.0e}; batches 1, 2 and 3 where the batch is symbolic).

To make all anew: `pip install torch==2.11.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 safetensors==0.8.0 numpy==2.4.6`, then `python make_zoo.py`
(minutes on one core; nothing is fetched; the bytes of models and goldens stay the same on the same machine).
Stack traces, which hold paths, are dropped from the files; the exporter's other notes on nodes stay in `toy_tanh.dynamo20.onnx` only.

## Models
"""


def write(path, found, bad):
    operators = collections.Counter(kind for _, _, kinds in found for kind in set(kinds))
    missing = sorted(set(ISSUE_LIST) - set(operators))
    assert not missing, f"no model has {missing}"
    path.write_text("\n".join([head(found, bad), *models(found), *coverage(operators, found), *refusals(bad)]) + "\n")


def head(found, bad):
    from . import golden

    return HEAD.format(
        n_files=len(found), n_models=len({entry.name for entry, _, _ in found}), n_bad=len(bad), fd=golden.FINITE_DIFFERENCE_TOLERANCE,
        fd10=10 * golden.FINITE_DIFFERENCE_TOLERANCE, condition=golden.CONDITION_TOLERANCE, energy=golden.ENERGY_TOLERANCE,
    )


def models(found):
    """A row for each network: what it is, its variants, the batch and the operators of all variants."""
    yield "| network | x | family | variants | operators |"
    yield "|---|---|---|---|---|"
    rows = collections.defaultdict(list)
    for entry, path, kinds in found:
        rows[entry].append((path, kinds))
    for entry, files in rows.items():
        batch = entry.exports[0].batch
        shape = ", ".join(str(extent) for extent in (batch, *entry.shape))
        variants = ", ".join(path.name.split(".")[1] for path, _ in files)
        kinds = " ".join(sorted({kind for _, kinds in files for kind in kinds}))
        yield f"| `{entry.name}` | [{shape}] | {entry.family} | {variants} | {kinds} |"
    yield ""


def coverage(operators, found):
    """Which operators the models have, and those beyond the list that exporters write all the same."""
    yield "## Operators"
    yield ""
    yield f"All {len(ISSUE_LIST)} operators that `ebm-export gradient` promises occur; the number of files is in brackets:"
    yield ""
    yield " ".join(f"{kind} ({operators[kind]})" for kind in ISSUE_LIST)
    yield ""
    yield "Beyond the list, which the exporters of PyTorch write all the same:"
    yield ""
    for kind in sorted(set(operators) - set(ISSUE_LIST)):
        files = ", ".join(f"`{path.name}`" for _, path, kinds in found if kind in kinds)
        yield f"- {kind}: {files}"
    yield ""
    yield "Upsample exists up to opset 9 only, so `ops_upsample.onnx9.onnx` is older than the oldest opset promised."
    yield ""


def refusals(bad):
    yield "## Files that must be refused"
    yield ""
    yield "`bad/expected.tsv` holds this table for tests (tab-separated, with a head line; needles separated by commas): the refusal has to hold every needle,"
    yield "and no output file may stay behind."
    yield ""
    yield "| file in `bad/` | refused because | needles |"
    yield "|---|---|---|"
    for entry in bad:
        yield f"| `{entry.name}.onnx` | {entry.reason} | {', '.join(f'`{needle}`' for needle in entry.needles)} |"
