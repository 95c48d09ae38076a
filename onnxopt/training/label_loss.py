"""Losses against labels, for fine-tuning."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.errors import DataError, UsageError, first_line, nearest
from onnxopt.measure.metrics.user_metric import user_metric
from onnxopt.training.objective import Tensors, are_scores, as_scores, label_tensor

LOSSES = ("auto", "cross-entropy", "mse", "bce")
LabelLoss = Callable[[Tensors, np.ndarray], Tensor]
"""From the outputs by name and the labels of a batch to their mean loss."""


def label_loss(name: str, model: ir.Model, output: str) -> LabelLoss:
    """Return the loss `name`, one of `LOSSES` or `file.py:function`.

    The function is called with all outputs by name and the labels, as tensors, and returns the mean loss as a tensor.

    Raises:
        UsageError: ONX101 no loss has this name, ONX107 the function cannot be used.
    """
    if ".py:" in name:
        return _of_user(name)
    if name not in LOSSES:
        hint = f"{nearest(name, LOSSES)} Or give file.py:function."
        raise UsageError("ONX101", "there is no such loss", where=name, hint=hint)

    producer = next(v for v in model.graph.outputs if v.name == output).producer()
    squashed = producer is not None and producer.op_type == "Sigmoid"

    def loss(outputs: Tensors, labels: np.ndarray) -> Tensor:
        found = outputs[output]
        kind = _kind(found, labels) if name == "auto" else name
        if kind == "cross-entropy":
            return F.cross_entropy(as_scores(found, found), label_tensor(labels, outputs, output))
        wanted = _like(labels, found)
        if kind == "mse":
            return F.mse_loss(found.float(), wanted)
        if bool(((wanted < 0) | (wanted > 1)).any()):
            raise DataError(
                "ONX206", "bce needs labels from 0 to 1", why=f"{labels.min()} to {labels.max()} were given"
            )
        if squashed:
            return F.binary_cross_entropy(found.float().clamp(0, 1), wanted)
        return F.binary_cross_entropy_with_logits(found.float(), wanted)

    return loss


def _kind(found: Tensor, labels: np.ndarray) -> str:
    return "cross-entropy" if labels.dtype.kind in "iub" and labels.ndim == 1 and are_scores(found) else "mse"


def _like(labels: np.ndarray, found: Tensor) -> Tensor:
    if labels.dtype.kind not in "iubf" or labels.size != found.numel():
        raise DataError(
            "ONX206",
            "the labels do not fit the model's output",
            why=f"{labels.dtype}{list(labels.shape)} for an output of shape {list(found.shape)}",
            hint="Give as many numbers per sample as the output has, or name another output or loss.",
        )
    return torch.as_tensor(np.ascontiguousarray(labels, np.float32)).to(found.device).reshape(found.shape)


def _of_user(name: str) -> LabelLoss:
    try:
        function = user_metric(name).function
    except UsageError as error:
        raise _unusable(name, error.why or error.what.replace("the metric's", "the"), error.hint) from error

    def loss(outputs: Tensors, labels: np.ndarray) -> Tensor:
        try:
            value = function(dict(outputs), torch.as_tensor(labels))
        except Exception as error:  # whatever the user's code raises
            raise _unusable(name, f"{type(error).__name__}: {first_line(error)}") from error
        if (
            not isinstance(value, Tensor)
            or value.numel() != 1
            or not (value.requires_grad or not torch.is_grad_enabled())
        ):
            raise _unusable(name, "it gave no tensor of one number that depends on the outputs")
        return value.reshape(())

    return loss


def _unusable(name: str, why: str, hint: str = "Correct it.") -> UsageError:
    return UsageError("ONX107", "the loss function cannot be used", where=name, why=why, hint=hint)
