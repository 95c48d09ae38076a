"""Quantization error of each layer, layers that run in INT8, and layers to keep in float."""

import shlex
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.document.blocks import Column, Displayed, Document, Table, Text
from onnxopt.errors import ModelError, UsageError
from onnxopt.graph.edit import editable, name_nodes
from onnxopt.model_file import Given, as_graph, given, signature_of
from onnxopt.model_file.given import name_of_given
from onnxopt.model_file.writable import refuse_output_file
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.diagnosis.layers import LayerLoss, names_in_common, worst
from onnxopt.quantization.diagnosis.layers import diagnose as layer_losses
from onnxopt.samples import ReadOptions, open_samples
from onnxopt.target import detect
from onnxopt.tasks.overrides import overrides_text


@dataclass(frozen=True)
class Diagnosis(Displayed):
    """The layers of a quantized model and their losses.

    Attributes:
        layers: the worst first.
        exclude: layers to keep in float first.
        file: the file of overrides that was written; None for none.
        document: the same as a table.
    """

    layers: tuple[LayerLoss, ...]
    exclude: tuple[str, ...]
    file: Path | None
    document: Document = field(repr=False)


def diagnose(
    model: Given,
    quantized: Given,
    data: object,
    *,
    keep: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
    limit: int | None = 64,
    read: ReadOptions | None = None,
) -> Diagnosis:
    """Rank the layers of a quantized model by their error against the float model.

    Args:
        model: the float model.
        quantized: the model made from it.
        data: samples to run both on.
        keep: number of the worst layers in the file of overrides.
        out: file of overrides to write; None for none.
        overwrite: whether to replace an existing `out`.
        limit: largest number of samples.
        read: options of the data readers.

    Raises:
        UsageError: ONX101 `keep` is negative.
        ModelError: ONX308 `quantized` was not made from `model`.
        OnnxoptError: ONX2xx data, ONX4xx runtime, ONX5xx files.
    """
    if keep < 0:
        raise UsageError("ONX101", "invalid option value", where="keep", why=f"{keep} given", hint="0 or more.")
    found = given(quantized)
    if out is not None:
        source = None if isinstance(found, ir.Model) else found
        refuse_output_file(Path(out), overwrite=overwrite, source=source, read=[model, data], kind=".toml")
    first, second = name_of_given(model, "the float model"), name_of_given(quantized, "the quantized model")
    graph, other = as_graph(model), as_graph(found)
    samples = open_samples(data, signature_of(graph), options=read, limit=limit).with_batch_size(1)
    before = _as_it_was_quantized(graph, other)
    if before is None or [s.name for s in signature_of(graph).inputs] != [s.name for s in signature_of(other).inputs]:
        raise ModelError(
            "ONX308",
            "the second model was not made from the first",
            where=second,
            why="they have no layer in common" if before is None else "their inputs differ",
            hint="Give the float model first, then the output of `onnxopt quantize`.",
        )
    losses = layer_losses(before, other, samples)
    kept = worst(losses, keep)
    by_name = {loss.name: loss for loss in losses}
    if out is not None:
        reasons = {name: f"SQNR of the outputs {_db(by_name[name].output_db)} dB" for name in kept}
        model_file.atomic_write_text(Path(out), overrides_text(reasons), overwrite=overwrite)
    file = None if out is None else Path(out)
    return Diagnosis(losses, kept, file, _document(first, second, losses, kept, file))


def _as_it_was_quantized(model: ir.Model, quantized: ir.Model) -> ir.Model | None:
    """Return the float model with the node names of the quantizer's input: simplified or not."""
    plain = editable(model)
    forms = [Pipeline((Simplify(fuse=fuse),)).run(model, Context(detect())).model for fuse in (True, False)]
    for form in forms:
        name_nodes(form)
    best = max((*forms, plain), key=lambda m: names_in_common(m, quantized))
    return best if names_in_common(best, quantized) else None


def _document(
    first: str, second: str, losses: tuple[LayerLoss, ...], kept: tuple[str, ...], out: Path | None
) -> Document:
    numbers = tuple(Column(title, number=True) for title in ("output dB", "layer dB", "total dB"))
    columns = (Column("layer"), Column("operator"), *numbers, Column("runs in"))
    rows = tuple(
        (
            loss.name,
            loss.op_type,
            _db(loss.output_db),
            _db(loss.own_db),
            _db(loss.total_db),
            loss.kernel or "INT8" if loss.quantized else f"float: {loss.state}",
        )
        for loss in losses
    )
    integer = sum(loss.quantized for loss in losses)
    lines = [
        f"{integer} of {len(losses)} layers run in INT8, according to the runtime's optimized graph.",
        "SQNR of the model outputs (output) and of the layer's output (layer) with only this layer quantized, and of "
        "the layer's output with all layers up to here quantized (total); 20 dB = 10 % error.",
    ]
    if kept:
        lines.append(f"Best layers to keep in float: {', '.join(kept)}.")
    if out is not None:
        quoted = [shlex.quote(str(name)) for name in (first, out)]
        lines.append(
            f"Written: {out}. Next: onnxopt quantize {quoted[0]} --overrides {quoted[1]} --data SAMPLES -o OUT.onnx"
        )
    data = {
        "first": first,
        "second": second,
        "layers": [
            {
                "name": loss.name,
                "op_type": loss.op_type,
                "output_db": loss.output_db,
                "own_db": loss.own_db,
                "total_db": loss.total_db,
                "quantized": loss.quantized,
                "kernel": loss.kernel or None,
                "reason": None if loss.quantized else loss.state,
            }
            for loss in losses
        ],
        "exclude": list(kept),
        "file": None if out is None else str(out),
    }
    return Document((Table(columns, rows), Text(tuple(lines))), data)


def _db(value: float) -> str:
    return "-" if isnan(value) else f"{value:.1f}"
