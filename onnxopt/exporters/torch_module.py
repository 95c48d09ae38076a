"""torch: `torch.export` (dynamo) or TorchScript, by `torch.onnx.export`."""

import inspect
import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.errors import OnnxoptError, UsageError, first_line, nearest
from onnxopt.exporters.converted import Converted, Outputs, Wanted, flat, needs_inputs
from onnxopt.exporters.packages import require, versions
from onnxopt.model_file import from_bytes
from onnxopt.samples import Feeds

EXTRA = "export"
KINDS = ("dynamo", "torchscript")


def convert(module: Any, wanted: Wanted) -> Converted:
    """Export a `torch.nn.Module` in evaluation mode; `auto` tries dynamo, then TorchScript.

    Raises:
        UsageError: ONX101 no such exporter or too many inputs, ONX108 a package is missing, ONX113 no example inputs.
    """
    torch = require("torch", EXTRA)
    # It warns of every optional package that is not there.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    if wanted.exporter not in ("auto", *KINDS):
        hint = nearest(wanted.exporter, ("auto", *KINDS))
        raise UsageError("ONX101", "unknown exporter", where=wanted.exporter, hint=hint)
    if wanted.inputs is None:
        raise needs_inputs("torch")
    inputs = _by_name(torch, module, wanted.inputs)
    if wanted.dynamic_batch:
        inputs = {name: _two_rows(torch, tensor) for name, tensor in inputs.items()}
    training = module.training
    module.eval()
    try:
        model, kind, notes = _exported(torch, module, inputs, wanted)
    finally:
        module.train(training)

    def run(feeds: Feeds) -> Outputs:
        module.eval()
        try:
            given = {
                n: torch.from_numpy(np.ascontiguousarray(feeds[n])) if n in feeds else t for n, t in inputs.items()
            }
            with torch.no_grad():
                return [tensor.detach().cpu().numpy() for tensor in flat(_call(module, given))]
        finally:
            module.train(training)

    taken = {value.name for value in model.graph.inputs}
    example = {name: tensor.numpy() for name, tensor in inputs.items() if name in taken}
    return Converted(f"torch.onnx ({kind})", model, example, run, versions("torch", "onnxscript"), notes)


def _exported(
    torch: Any, module: Any, inputs: Mapping[str, Any], wanted: Wanted
) -> tuple[ir.Model, str, tuple[str, ...]]:
    if wanted.exporter == "torchscript":
        return _torchscript(torch, module, inputs, wanted), "torchscript", ()
    try:
        return _dynamo(torch, module, inputs, wanted), "dynamo", ()
    except OnnxoptError:
        raise
    except Exception as error:
        if wanted.exporter == "dynamo":
            raise
        note = f"dynamo failed ({first_line(error, 120)}); TorchScript was used"
        return _torchscript(torch, module, inputs, wanted), "torchscript", (note,)


def _dynamo(torch: Any, module: Any, inputs: Mapping[str, Any], wanted: Wanted) -> ir.Model:
    require("onnxscript", EXTRA)
    batch = torch.export.Dim("batch", min=1)
    # torch names graph inputs after the parameters of `forward`.
    open_axes = {name: {0: batch} if tensor.ndim else {} for name, tensor in inputs.items()}
    program = torch.onnx.export(
        module,
        (),
        kwargs=dict(inputs),
        dynamo=True,
        dynamic_shapes=open_axes if wanted.dynamic_batch else None,
        opset_version=wanted.opset,
        verbose=False,
    )
    model: ir.Model = program.model
    return model


def _torchscript(torch: Any, module: Any, inputs: Mapping[str, Any], wanted: Wanted) -> ir.Model:
    file = io.BytesIO()
    outputs = _output_names(torch, module, inputs)
    open_axes = {name: {0: "batch"} for name, tensor in inputs.items() if tensor.ndim}
    open_axes |= {name: {0: "batch"} for name, tensor in outputs.items() if tensor.ndim}
    torch.onnx.export(
        module,
        (),
        file,
        kwargs=dict(inputs),
        dynamo=False,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=open_axes if wanted.dynamic_batch else None,
        opset_version=wanted.opset,
        verbose=False,
    )
    return from_bytes(file.getvalue())


def _output_names(torch: Any, module: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    with torch.no_grad():
        tensors = flat(_call(module, inputs))
    return {"output" if len(tensors) == 1 else f"output_{i}": tensor for i, tensor in enumerate(tensors)}


def _by_name(torch: Any, module: Any, inputs: Any) -> dict[str, Any]:
    """Return inputs by the names of the parameters of `forward`."""
    if not isinstance(inputs, Mapping):
        values = inputs if isinstance(inputs, tuple | list) else (inputs,)
        names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind is not p.VAR_KEYWORD]
        if len(names) < len(values):
            why = f"{len(values)} given for {len(names)} parameters of forward"
            raise UsageError("ONX101", "there are too many example inputs", where="inputs", why=why)
        inputs = dict(zip(names, values, strict=False))
    return {name: v.detach().cpu() if hasattr(v, "detach") else torch.as_tensor(v) for name, v in inputs.items()}


def _call(module: Any, inputs: Mapping[str, Any]) -> Any:
    return module(**inputs)


def _two_rows(torch: Any, tensor: Any) -> Any:
    # torch.export takes a batch of one for a constant.
    return tensor if tensor.ndim == 0 or len(tensor) > 1 else torch.cat([tensor, tensor])
