"""The training objective of a student: weighted losses on outputs and features."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onnxopt.errors import DataError
from onnxopt.training import losses

Tensors = Mapping[str, Tensor]


class Objective(nn.Module):  # type: ignore[misc]  # torch is not typed here
    """The weighted sum of the losses of a student.

    Args:
        outputs: names of the outputs that are compared.
        features: names of inner values, in graph order.
        weights: the weights of `response`, `feature`, `attention`, `relation` and `flow`; others are not computed.
        temperature: class scores are divided by it.
        alpha: share of the teacher's part of the response where there are labels.

    Adapters between features of different widths are made at the first batch, and trained along.
    """

    def __init__(
        self,
        outputs: Sequence[str],
        features: Sequence[str],
        weights: Mapping[str, float],
        *,
        temperature: float = 4.0,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.outputs, self.features, self.shares = tuple(outputs), tuple(features), dict(weights)
        self.temperature, self.alpha = temperature, alpha
        self.adapters = nn.ModuleDict()

    def prepare(self, student: Tensors, teacher: Tensors) -> None:
        """Make the adapters that these features need."""
        if "feature" not in self.shares:
            return
        for name in self.features:
            one, other = student[name].shape, teacher[name].shape
            same = one == other
            self.adapters[_key(name)] = nn.Identity() if same else losses.adapter_for(one, other)

    def forward(self, student: Tensors, teacher: Tensors, labels: Tensor | None = None) -> Tensor:
        """Return the loss of one batch."""
        total = torch.zeros(())
        for name, share in self.shares.items():
            total = total + share * getattr(self, f"_{name}")(student, teacher, labels)
        return total

    def _response(self, student: Tensors, teacher: Tensors, labels: Tensor | None) -> Tensor:
        parts = []
        for name in self.outputs:
            found, wanted = student[name], teacher[name]
            if are_scores(wanted):
                one, other = as_scores(found, wanted), as_scores(wanted, wanted)
                heat, known_labels = self.temperature, labels if name == self.outputs[0] else None
                parts.append(losses.response(one, other, temperature=heat, labels=known_labels, alpha=self.alpha))
            else:
                parts.append(_relative(found, wanted))
        return torch.stack(parts).mean()

    def _feature(self, student: Tensors, teacher: Tensors, _: Tensor | None) -> Tensor:
        pairs = [(self.adapters[_key(name)](student[name]), teacher[name]) for name in self.features]
        if "response" not in self.shares:
            # Nothing else would teach what follows the last feature to read it.
            pairs += [_scores_or_values(student[name], teacher[name]) for name in self.outputs]
        return torch.stack([_relative(found, wanted) for found, wanted in pairs]).mean()

    def _attention(self, student: Tensors, teacher: Tensors, _: Tensor | None) -> Tensor:
        # Maps of n positions are normalized to length 1: their squares are worth 1/n.
        return torch.stack(
            [
                losses.attention_transfer(student[name], teacher[name]) * teacher[name][0, 0].numel()
                for name in self.features
            ]
        ).mean()

    def _relation(self, student: Tensors, teacher: Tensors, _: Tensor | None) -> Tensor:
        name = self.features[-1] if self.features else self.outputs[0]
        one, other = student[name], teacher[name]
        if len(one) < 3:
            return one.sum() * 0
        if one.dim() > 2:
            one, other = one.flatten(2).mean(2), other.flatten(2).mean(2)
        return losses.relation_distance(one, other) + 2 * losses.relation_angle(one, other)

    def _flow(self, student: Tensors, teacher: Tensors, _: Tensor | None) -> Tensor:
        pairs = [
            (a, b)
            for a, b in zip(self.features, self.features[1:], strict=False)
            if student[a].shape == teacher[a].shape
            and student[b].shape == teacher[b].shape
            and student[a].shape[2:] == student[b].shape[2:]
        ]
        if not pairs:
            return student[self.outputs[0]].sum() * 0
        parts = []
        for a, b in pairs:
            scale = losses.flow((teacher[a] * 0, teacher[b]), (teacher[a], teacher[b])).clamp_min(1e-12)
            parts.append(losses.flow((student[a], student[b]), (teacher[a], teacher[b])) / scale)
        return torch.stack(parts).mean()


def divergence(student: Tensors, teacher: Tensors, outputs: Sequence[str]) -> Tensor:
    """Return the distance of the outputs from the teacher's, 0 if they are the same; it is the held-out score.

    Per output the Kullback-Leibler divergence of class scores, or the squared difference in units of the variance.
    """
    parts = []
    for name in outputs:
        found, wanted = student[name], teacher[name]
        if are_scores(wanted):
            parts.append(losses.response(as_scores(found, wanted), as_scores(wanted, wanted)))
        else:
            parts.append(_relative(found, wanted))
    return torch.stack(parts).mean()


def are_scores(output: Tensor) -> bool:
    """Return whether an output (n, ...) is class scores per sample: one axis of more than one element."""
    return bool(output.dim() > 1 and sum(size > 1 for size in output.shape[1:]) == 1)


def _scores_or_values(found: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    return (as_scores(found, wanted), as_scores(wanted, wanted)) if are_scores(wanted) else (found, wanted)


def as_scores(output: Tensor, teacher: Tensor) -> Tensor:
    """Return class scores (n, classes) before softmax, of what may be probabilities in the teacher."""
    rows, seen = output.reshape(len(output), -1).float(), teacher.detach().reshape(len(teacher), -1).float()
    if bool((seen >= 0).all()) and torch.allclose(seen.sum(1), torch.ones_like(seen.sum(1)), atol=1e-3):
        return rows.clamp_min(1e-12).log()
    return rows


def _relative(found: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted.detach().float()
    spread = wanted.var() if wanted.numel() > 1 else wanted.abs().mean()
    return F.mse_loss(found.float(), wanted) / spread.clamp_min(1e-12)


def label_tensor(labels: np.ndarray | None, outputs: Tensors, name: str) -> Tensor | None:
    """Return integer labels that fit the scores of output `name`; None where there are none.

    Raises:
        DataError: ONX206 they do not fit.
    """
    if labels is None:
        return None
    scores = outputs[name]
    if not are_scores(scores) or labels.dtype.kind not in "iub" or labels.shape != (len(scores),):
        raise DataError(
            "ONX206",
            "the labels do not fit the model's outputs",
            why=f"{labels.dtype}{list(labels.shape)} for outputs of shape {list(scores.shape)}",
            hint="Give one class number per sample, or leave the labels out.",
        )
    classes = scores.flatten(1).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            "ONX206",
            "a label is not a class of the model",
            why=f"{labels.min()} to {labels.max()} of {classes} classes",
        )
    return torch.as_tensor(labels.astype(np.int64)).to(scores.device)


def _key(name: str) -> str:
    return name.replace(".", "/")
