"""The first steps with a model without samples: the data that a search needs, and the commands that need none."""

import shlex
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document.blocks import Document, Text
from onnxopt.document.units import many
from onnxopt.errors import DataError
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.equivalence import runnable
from onnxopt.measure.generation.states import states_of, without_states
from onnxopt.measure.latency import drawn_inputs
from onnxopt.model_file import Signature, signature_of
from onnxopt.model_file.signature import IMAGE_SIDE
from onnxopt.quantization.outcome import WEIGHTED
from onnxopt.samples import open_samples
from onnxopt.samples.audio.waveform import likely_wave_input
from onnxopt.samples.expect import has_batch_axis
from onnxopt.samples.pixels import image_layout
from onnxopt.samples.text import takes_tokens
from onnxopt.tasks.advice import STATIC_ONLY
from onnxopt.tasks.check import mendable
from onnxopt.tasks.inspect import schema_data

_QUANTIZED = ("DequantizeLinear", "DynamicQuantizeLinear", "MatMulNBits", "MatMulInteger", "ConvInteger")
_MOST_SHOWN = 4

Command = tuple[str, str]
"""A command line and its purpose in a few words."""


def first_steps(path: Path) -> Document:
    """Return the needs of a search of a model, and the commands that need no samples; the model is only read.

    Raises:
        FileError: ONX501 the file does not exist, ONX505 it cannot be read.
        ModelError: ONX301 to ONX305 it is not a valid model.
    """
    model = model_file.load(path)
    signature = signature_of(model)
    to_search, (measured, without) = _to_search(path, signature), _without(path, model)
    if not _runs(model, signature):
        # Such as a model of sound, which takes one rate and one length only.
        to_search += [(f"{line} --data {_samples_file(signature)}", does) for line, does in measured]
    else:
        without = [*measured[:-1], *without, measured[-1]]
    inputs = [str(spec) for spec in signature.inputs]
    named = ", ".join(inputs[:_MOST_SHOWN]) + (f" and {len(inputs) - _MOST_SHOWN} more" if inputs[_MOST_SHOWN:] else "")
    count = "some hundred samples" if has_batch_axis(signature) else "some hundred runs"
    lines = [
        f"A search needs {count} of {named}; labels are optional and strengthen the proof.",
        *_lines("With samples:", to_search),
        *_lines("Without:", without),
    ]
    data = {
        "code": "ONX114",
        "model": str(path),
        **schema_data(signature),
        "with_samples": [_data(command) for command in to_search],
        "without_samples": [_data(command) for command in without],
    }
    return Document((Text(tuple(lines)),), data)


def _to_search(path: Path, signature: Signature) -> list[Command]:
    model = shlex.quote(str(path))
    source, kind = _kind(without_states(signature, states_of(signature)))
    out = _samples_file(signature)
    return [
        (f"onnxopt data {source} --for {model} -o {out}", f"Make samples from {kind}"),
        (f"onnxopt optimize {model} --data {out} --max-drop 1pp --time-limit 300", "Search, measure, prove"),
    ]


def _samples_file(signature: Signature) -> str:
    """Return a name for the samples: that of a folder where they differ in length, as sentences and caches do."""
    states = states_of(signature)
    rest = without_states(signature, states)
    free = takes_tokens(rest) and any(not isinstance(d, int) for s in rest.inputs for d in (s.shape or ())[1:])
    return "samples" if free or any(state.grows for state in states) else "samples.npz"


def _runs(model: ir.Model, signature: Signature) -> bool:
    """Return whether a model runs on made-up inputs; one too large to try quickly counts as one that does."""
    if not model_file.fits_protobuf(model):
        return True
    try:
        return bool(runnable(model, signature, drawn_inputs(open_samples("random:1", signature), 1)))
    except DataError:
        return False


def _kind(signature: Signature) -> tuple[str, str]:
    """Return the words for a source of samples, and its kind."""
    spec = signature.inputs[0] if len(signature.inputs) == 1 else None
    if spec is not None and image_layout(spec):
        fixed = all(isinstance(dim, int) for dim in (spec.shape or ())[1:])
        size = "" if fixed else f" --size {IMAGE_SIDE}"
        return f"IMAGES{size}", "a folder of images; further options as in training: --mean, --std"
    if takes_tokens(signature):
        return "TEXTS.csv --vocab tokenizer.json", "a table with a column `text`"
    sound = likely_wave_input(signature)
    if sound is not None:
        window = "" if sound.length else " --window 512"
        return f"SOUNDS --sample-rate 16000{window}", "a folder of .wav files; numbers as in training"
    if all(spec.shape is not None and len(spec.shape) == 2 for spec in signature.inputs):
        return "TABLE.csv", "a table of feature columns, or columns named as the inputs"
    return "ARRAYS.npz", "arrays named as the inputs; see `onnxopt inspect --schema`"


def _without(path: Path, model: ir.Model) -> tuple[list[Command], list[Command]]:
    """Return the commands that run a model, the clock the last, and others that find something to do in it."""
    name = shlex.quote(str(path))
    commands, measured = list[Command](), list[Command]()
    quantized = any(n.op_type in _QUANTIZED or n.op_type.startswith("QLinear") for n in model.graph.all_nodes())
    faults = [finding.code for finding in mendable(model)]
    if quantized or faults:
        which = f" ({', '.join(faults)})" if faults else ""
        does = "Mend a quantized file" if quantized else "Mend a file"
        out = _beside(path, "repaired")
        measured.append((f"onnxopt repair {name} -o {out}", f"{does} that is slow or large{which}"))
    layers = [layer.op_type for layer in anatomy_of(model).layers if layer.op_type in WEIGHTED]
    dynamic = sum(op not in STATIC_ONLY for op in layers)
    if dynamic and not quantized:
        did = f"Quantize {many(dynamic, 'layer')} to INT8 with ranges found at run time"
        commands.append((f"onnxopt quantize {name} --mode dynamic -o {_beside(path, 'int8')}", did))
    if layers and not quantized:
        passes = shlex.quote("quantize-weights{form=dequantize}")
        does = "Make the file smaller: INT8 weights, computed in float"
        commands.append((f"onnxopt apply {name} --passes {passes} -o {_beside(path, 'small')}", does))
    measured.append((f"onnxopt benchmark {name}", "Measure its latency"))
    return measured, commands


def _beside(path: Path, word: str) -> str:
    return shlex.quote(str(path.with_name(f"{path.stem}-{word}.onnx")))


def _lines(title: str, commands: list[Command]) -> list[str]:
    return [title, *(text for line, does in commands for text in (f"  {does}:", f"    {line}"))]


def _data(command: Command) -> dict[str, str]:
    line, does = command
    return {"command": line, "does": does}
