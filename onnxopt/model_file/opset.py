"""Raise a model's opset, and prove that the outputs stayed the same."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from onnxopt.errors import ModelError, first_line
from onnxopt.model_file.held import share_weights
from onnxopt.model_file.light import give_weights_back, light_proto, without_large_weights
from onnxopt.model_file.memory import fits_protobuf, materialize
from onnxopt.model_file.proto import from_proto
from onnxopt.model_file.signature import probe_feeds, signature_of
from onnxopt.model_file.streamed import array_of

TOLERANCE = 1e-4
"""Largest accepted difference, relative to the largest output: operators may be rewritten, not approximated."""


_UNREAD_BYTES = 1 << 20
"""Weights above this hold no shape, axis or limit that the converter reads."""


def opset_of(model: ir.Model) -> int:
    """Return the version of the standard operator set; 0 when the model imports none."""
    return model.opset_imports.get("", 0)


def upgrade_opset(model: ir.Model, minimum: int) -> ir.Model:
    """Return `model` at opset `minimum` or above; the same object when nothing is to be done.

    The converted model is run in ONNX Runtime beside the old one on made-up inputs. The weights of a model above the
    limit of protobuf are inputs for both, so that they stay where they are.

    Raises:
        ModelError: ONX307 the converter fails, or the outputs differ.
    """
    current = opset_of(model)
    if current >= minimum or not current:
        return model
    try:
        light, weights = light_proto(model, _UNREAD_BYTES)
        converted = from_proto(onnx.version_converter.convert_version(light, minimum))
        give_weights_back(converted, model, weights)
    except Exception as error:  # the converter raises RuntimeError, ValueError and protobuf errors alike
        raise _refusal(current, minimum, first_line(error)) from error
    converted.metadata_props.update(model.metadata_props)
    converted.ir_version = max(converted.ir_version, model.ir_version)
    share_weights(converted, model)
    try:
        difference = _largest_difference(model, converted)
    except Exception as error:  # onnxruntime has no common base class for its errors
        raise _refusal(current, minimum, f"it cannot be compared: {first_line(error)}") from error
    if not difference <= TOLERANCE:
        raise _refusal(current, minimum, f"the outputs differ by {difference:.1e} of their range")
    return converted


def _refusal(current: int, minimum: int, why: str) -> ModelError:
    return ModelError(
        "ONX307",
        f"the opset cannot be raised from {current} to {minimum}",
        why=why,
        hint=f"Export the model again with opset {minimum} or above.",
    )


def _run(model: ir.Model, dynamic: int) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    light, weights = (model, {}) if fits_protobuf(model) else without_large_weights(model)
    with materialize(light) as source:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feeds = {name: array_of(tensor) for name, tensor in weights.items()}
    return list(session.run(None, {**probe_feeds(signature_of(model), dynamic=dynamic), **feeds}))


def _largest_difference(before: ir.Model, after: ir.Model) -> float:
    try:
        pairs = zip(_run(before, 2), _run(after, 2), strict=True)
    except Exception:  # a model may declare a dynamic batch and only run at 1
        pairs = zip(_run(before, 1), _run(after, 1), strict=True)
    return max((_difference(old, new) for old, new in pairs), default=0.0)


def _difference(old: Any, new: Any) -> float:
    """Return the largest difference relative to the largest magnitude; infinite for other types, unless equal."""
    if not isinstance(old, np.ndarray) or old.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(old, new) else float("inf")
    if old.shape != new.shape:
        return float("inf")
    one, other = old.astype(np.float64), new.astype(np.float64)
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    difference = float(np.abs(one - other).max()) / max(float(np.abs(one).max()), 1e-6)
    return difference if np.isfinite(difference) else float("inf")
