"""Distillation losses: functions of outputs and features, each a mean over the batch.

Teachers' tensors are targets: no gradient goes to them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from onnxopt.errors import ModelError


def response(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None, alpha: float = 0.5
) -> Tensor:
    """Return the divergence of the teacher's softened classes from the student's: Hinton et al., 2015.

    Scaled by the square of the temperature, so that the size of the gradient does not depend on it. With labels,
    `alpha` times that plus `1 - alpha` times the cross-entropy.

    Args:
        student: class scores before softmax, shape (..., classes).
        teacher: the teacher's values, of the same shape.
        temperature: scores are divided by it.
        labels: class numbers, shape (...).
        alpha: share of the teacher's part; unused without labels.
    """
    wanted = F.log_softmax(teacher.detach() / temperature, -1).flatten(0, -2)
    found = F.log_softmax(student / temperature, -1).flatten(0, -2)
    soft = F.kl_div(found, wanted, reduction="batchmean", log_target=True) * temperature**2
    if labels is None:
        return soft
    return alpha * soft + (1 - alpha) * F.cross_entropy(student.flatten(0, -2), labels.reshape(-1))


def adapter_for(student: Sequence[int], teacher: Sequence[int]) -> nn.Module:
    """Return a trainable map between features of these shapes: a linear layer, or a 1x1 convolution for images.

    Raises:
        ModelError: ONX308 the features differ in more than their channels.
    """
    same = len(student) == len(teacher) and len(student) > 1
    image = same and len(student) > 3
    if image and tuple(student[2:]) == tuple(teacher[2:]):
        kind = {4: nn.Conv2d, 5: nn.Conv3d}[len(student)]
        return kind(student[1], teacher[1], 1)
    if not image and same and tuple(student[1:-1]) == tuple(teacher[1:-1]):
        return nn.Linear(student[-1], teacher[-1])
    raise ModelError(
        "ONX308",
        "the features of student and teacher cannot be compared",
        why=f"shapes {list(student)} and {list(teacher)} differ in more than their channels",
        hint="Choose values of one resolution.",
    )


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of normalized maps of where features are large, shape (n, c, ...).

    Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017; the channels may differ in number.
    """
    return F.mse_loss(_attention_map(student), _attention_map(teacher.detach()))


def _attention_map(features: Tensor) -> Tensor:
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def flow(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared difference of how features of two layers go together, shapes (n, c, ...).

    Their Gram matrices over positions: Yim et al., "A Gift from Knowledge Distillation", CVPR 2017. The two layers of
    a network have one resolution, and each the same channels in student and teacher.
    """
    return F.mse_loss(_gram(*student), _gram(*(t.detach() for t in teacher)))


def _gram(first: Tensor, second: Tensor) -> Tensor:
    one, other = first.flatten(2), second.flatten(2)
    return one @ other.transpose(1, 2) / one.shape[2]


def relation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the difference of the distances between samples, each in units of the mean distance, shapes (n, ...).

    Huber loss over all pairs: Park et al., "Relational Knowledge Distillation", CVPR 2019.
    """
    return F.smooth_l1_loss(_distances(student), _distances(teacher.detach()))


def _distances(features: Tensor) -> Tensor:
    rows = features.flatten(1)
    pairs = torch.triu_indices(len(rows), len(rows), 1, device=rows.device)
    # Only pairs of two samples: the distance of a sample to itself has no gradient.
    apart = torch.linalg.vector_norm(rows[pairs[0]] - rows[pairs[1]], dim=1)
    return apart / apart.mean().clamp_min(1e-12)


def relation_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the difference of the angles that samples form, shapes (n, ...).

    Huber loss over all triples: Park et al., "Relational Knowledge Distillation", CVPR 2019.
    """
    return F.smooth_l1_loss(_angles(student), _angles(teacher.detach()))


def _angles(features: Tensor) -> Tensor:
    """Return the cosine of the angle at each sample between each two, shape (n, n, n)."""
    rows = features.flatten(1)
    directions = F.normalize(rows[None, :, :] - rows[:, None, :], dim=2)
    return directions @ directions.transpose(1, 2)
