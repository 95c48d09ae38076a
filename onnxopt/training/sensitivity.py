"""Sensitivity of the loss to each channel, from gradients: first-order Taylor and Fisher scores.

Without labels the model's own answers take their place: the likeliest class, or the output itself for a regression.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir
import torch
import torch.nn.functional as F
from torch import Tensor

from onnxopt.errors import DataError, ModelError
from onnxopt.samples import Samples
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.ops.convert import to_array, to_tensors

Member = tuple[str, int]
"""Name of an initializer and an axis of it."""
Scores = dict[Member, np.ndarray]
TEMPERATURE = 4.0
"""Class scores are divided by it: a network that is sure of its answers has hardly a gradient otherwise."""


def taylor_scores(model: ir.Model, samples: Samples, members: Sequence[Member], *, batch_size: int = 32) -> Scores:
    """Return the squared effect of removing each channel on the loss, to first order, as a mean over batches.

    The square of the sum of weight times gradient over the channel, shape (channels,): Molchanov et al., "Importance
    Estimation for Neural Network Pruning", CVPR 2019. Members that are no trained weights are left out.

    Raises:
        ModelError: ONX309 an operator cannot be trained.
        DataError: ONX206 labels do not fit the model's outputs.
    """
    return _scored(model, samples.with_batch_size(batch_size), members, "taylor")


def fisher_scores(model: ir.Model, samples: Samples, members: Sequence[Member]) -> Scores:
    """Return half the diagonal of the Fisher information in direction of each channel's removal, shape (channels,).

    The mean over samples of the squared sum of weight times gradient over the channel: Theis et al., "Faster gaze
    prediction with dense networks and Fisher pruning", 2018; Liu et al., "Group Fisher Pruning", ICML 2021. Members
    that are no trained weights are left out.

    Raises:
        ModelError: ONX309 an operator cannot be trained.
        DataError: ONX206 labels do not fit the model's outputs.
    """
    return _scored(model, samples.with_batch_size(1), members, "fisher")


def _scored(model: ir.Model, samples: Samples, members: Sequence[Member], kind: Literal["taylor", "fisher"]) -> Scores:
    module = TorchModel(model).eval()
    weights = {name: tensor for name, tensor in module.named_weights() if isinstance(tensor, torch.nn.Parameter)}
    wanted = [(name, axis) for name, axis in dict.fromkeys(members) if name in weights]
    if not wanted:
        return {}
    for name, weight in weights.items():
        weight.requires_grad_(any(name == chosen for chosen, _ in wanted))
    totals = {member: torch.zeros(weights[member[0]].shape[member[1]], dtype=torch.float64) for member in wanted}
    count = 0
    for losses in _losses(module, samples):
        # The Fisher information needs the gradient of each sample by itself.
        parts = losses.unbind() if kind == "fisher" else (losses.mean(),)
        for number, loss in enumerate(parts, 1):
            for member, effect in _effects(loss, weights, wanted, keep=number < len(parts)).items():
                totals[member] += effect.square()
        count += len(parts)
    share = 1 / (2 * count) if kind == "fisher" else 1 / count
    return {member: to_array(total * share) for member, total in totals.items()}


def _effects(loss: Tensor, weights: Mapping[str, Tensor], wanted: Sequence[Member], keep: bool) -> dict[Member, Tensor]:
    """Return the sum of weight times gradient over each channel."""
    names = [*dict.fromkeys(name for name, _ in wanted)]
    found = torch.autograd.grad(loss, [weights[n] for n in names], retain_graph=keep, allow_unused=True)
    products = {n: weights[n].detach() * g for n, g in zip(names, found, strict=True) if g is not None}
    return {(name, axis): _per_channel(products[name], axis) for name, axis in wanted if name in products}


def _per_channel(product: Tensor, axis: int) -> Tensor:
    return product.double().movedim(axis, 0).flatten(1).sum(1) if product.dim() > 1 else product.double()


def _losses(module: TorchModel, samples: Samples) -> Iterator[Tensor]:
    """Yield the loss of each sample, batch by batch; one batch is held at a time."""
    for batch in samples.batches():
        outputs = [o for o in module(to_tensors(batch.feeds)).values() if o.is_floating_point() and o.requires_grad]
        if not outputs:
            raise ModelError(
                "ONX309",
                "no output depends on a weight by a gradient",
                hint="Choose an importance that needs none.",
            )
        losses = per_sample_loss(outputs[0], batch.labels)
        for other in outputs[1:]:
            if len(other) == len(losses):
                # Labels and classes are those of the first output; the rest must not be worth nothing.
                losses = losses + other.float().flatten(1).square().sum(1) / 2
        yield losses


def per_sample_loss(output: Tensor, labels: np.ndarray | None) -> Tensor:
    """Return a loss per sample, shape (n,), of an output (n, ...): class scores or probabilities, or numbers.

    Integer labels that fit the columns, or without labels the likeliest column, give the softened log-likelihood.
    Anything else gives half the squared distance to the labels, or without labels half the squared norm.

    Raises:
        DataError: ONX206 labels do not fit the output.
    """
    samples = len(output)
    # Axes of one element after the first are what a pooling leaves.
    output = output.float().reshape(samples, *(n for n in output.shape[1:] if n > 1))
    columns = output.shape[-1] if output.dim() > 1 else 1
    if columns == 1 or (labels is not None and labels.dtype.kind == "f"):
        distance = output.reshape(samples, -1)
        if labels is not None:
            if labels.size != output.numel():
                raise _misfit(labels, output)
            distance = distance - torch.as_tensor(labels.astype(np.float32)).to(output.device).reshape(distance.shape)
        return distance.square().sum(1) / 2
    scores = _log_likelihoods(output.reshape(-1, columns))
    if labels is None:
        target = scores.detach().argmax(1)
    elif labels.dtype.kind in "iub" and labels.size == len(scores) and labels.min() >= 0 and labels.max() < columns:
        target = torch.as_tensor(labels.astype(np.int64)).to(output.device).reshape(-1)
    else:
        raise _misfit(labels, output)
    return F.nll_loss(scores, target, reduction="none").reshape(samples, -1).sum(1)


def _log_likelihoods(rows: Tensor) -> Tensor:
    """Return softened log-probabilities of class scores, or of outputs that are probabilities already."""
    seen = rows.detach()
    if bool((seen >= 0).all()) and torch.allclose(seen.sum(1), torch.ones(len(seen), device=seen.device), atol=1e-3):
        rows = rows.clamp_min(1e-12).log()
    return F.log_softmax(rows / TEMPERATURE, 1)


def _misfit(labels: np.ndarray, output: Tensor) -> DataError:
    return DataError(
        "ONX206",
        "the labels do not fit the model's outputs",
        why=f"{labels.dtype}{list(labels.shape)} for outputs of shape {list(output.shape)}",
        hint="Give one class number or value per output, counting from 0, or leave the labels out.",
    )
