"""Description of the data that a model expects."""

from collections.abc import Mapping
from dataclasses import replace

from onnxopt.model_file import Signature, TensorSpec
from onnxopt.options.reading import ReadOptions
from onnxopt.samples.audio.waveform import likely_wave_input
from onnxopt.samples.expect import has_batch_axis
from onnxopt.samples.pixels import image_layout, with_image_size
from onnxopt.samples.text import takes_tokens

_EXAMPLE_COUNT, _EXAMPLE_SIZE = 100, 16


def schema_text(signature: Signature, states: Mapping[str, str] | None = None) -> str:
    """Return the inputs with types and shapes, the kinds of suitable files, and code that writes one.

    Args:
        signature: the signature of the model.
        states: the outputs of the step before by the inputs that take them.
    """
    batched = has_batch_axis(signature)
    lines = ["inputs:", *(f"  {spec}" for spec in signature.inputs), "", "data that fits:"]
    count = "N samples" if batched else "N runs"
    names = ", ".join(spec.name for spec in signature.inputs)
    lines.append(f"  samples.npz   {count}, one array per input: {names}; labels, if any, as y")
    lines += (f"                {spec.name}: {spec.dtype} {_shape(spec, batched)}" for spec in signature.inputs)
    lines.append("  folder        of such .npz files, or of ONNX test data (input_0.pb)")
    rest = replace(signature, inputs=tuple(spec for spec in signature.inputs if spec.name not in (states or {})))
    lines += (f"  {kind:<13} {text}" for kind, text in _other_kinds(rest))
    if states:
        pairs = ", ".join(f"{name} takes {output}" for name, output in states.items())
        lines.append(f"  with states   {pairs} of the step before: `onnxopt data` makes them from any of these")
    return "\n".join([*lines, "", "make one:", *(f"  {line}" for line in _example(signature, batched))]) + "\n"


def _shape(spec: TensorSpec, batched: bool) -> str:
    dims = ["N", *map(_word, (spec.shape or ())[batched:])]
    return f"({', '.join(dims)}{',' if len(dims) == 1 else ''})" if spec.shape is not None else "of any shape"


def _word(dim: object) -> str:
    return "any" if dim is None else str(dim)


def _other_kinds(signature: Signature) -> list[tuple[str, str]]:
    kinds = []
    if len(signature.inputs) == 1:
        spec = signature.inputs[0]
        kinds.append(("samples.npy", "the array alone"))
        if image_layout(spec):
            scaled = "; pixels / 255 unless mean, std or divide_by say otherwise" if "float" in spec.dtype else ""
            kinds.append(("image folder", f"one sub-folder per class, or labels.csv (file,label){scaled}"))
        if spec.shape is not None and len(spec.shape) == 2 and not takes_tokens(signature):
            features = spec.shape[1]
            count = f"{features} feature columns" if isinstance(features, int) else "feature columns"
            kinds.append(("table", f".csv, .tsv, .jsonl or .parquet: {count}; a column label, if any"))
    if likely_wave_input(signature) is not None:
        kinds.append(
            ("sound folder", ".wav, .flac or .ogg, with labels as an image folder has them; --sample-rate, --window")
        )
    if takes_tokens(signature):
        kinds.append(("text table", ".csv, .tsv, .jsonl or .parquet: columns text and label, with --vocab"))
        kinds.append(("sentences", ".txt: one per line, without labels, with --vocab"))
    return kinds


def _example(signature: Signature, batched: bool) -> list[str]:
    arrays = []
    for spec in with_image_size(signature, ReadOptions()).inputs:
        dims = [d if isinstance(d, int) else _EXAMPLE_SIZE for d in (spec.shape or ())[batched:]]
        shape = (_EXAMPLE_COUNT, *dims)
        dtype = "U8" if spec.dtype == "str" else spec.dtype
        arrays.append(f"    {spec.name!r}: np.zeros({shape}, {dtype!r}),")
    labels = [f"    'y': np.zeros({_EXAMPLE_COUNT}, 'int64'),  # optional"] if batched else []
    return ["import numpy as np", "np.savez('samples.npz', **{", *arrays, *labels, "})"]
