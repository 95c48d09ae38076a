"""Losses of distillation against values written out by hand."""

import itertools

import numpy as np
import pytest
import torch

from onnxopt.errors import ModelError
from onnxopt.training import losses

RNG = np.random.RandomState(0)


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    student, teacher = (torch.from_numpy(RNG.standard_normal(shape).astype(np.float32)) for _ in range(2))
    return student.requires_grad_(), teacher.requires_grad_()


def huber(difference: np.ndarray) -> np.ndarray:
    return np.where(np.abs(difference) < 1, difference**2 / 2, np.abs(difference) - 0.5)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def close(found: torch.Tensor, expected: float, student: torch.Tensor, teacher: torch.Tensor) -> None:
    assert float(found) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert student.grad is not None
    assert float(student.grad.abs().max()) > 0
    assert teacher.grad is None


def arrays(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [t.detach().numpy().astype(np.float64) for t in tensors]


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_response(shape, temperature: float) -> None:
    student, teacher = pair(*shape)
    s, t = (softmax(a.reshape(-1, 3) / temperature) for a in arrays(student, teacher))
    expected = (t * np.log(t / s)).sum(1).mean() * temperature**2
    close(losses.response(student, teacher, temperature=temperature), expected, student, teacher)


def test_response_with_labels() -> None:
    student, teacher = pair(4, 3)
    labels = torch.tensor([0, 2, 1, 1])
    s, t = map(softmax, arrays(student, teacher))
    hard = -np.log(s[np.arange(4), labels.numpy()]).mean()
    expected = 0.3 * (t * np.log(t / s)).sum(1).mean() + 0.7 * hard
    close(losses.response(student, teacher, labels=labels, alpha=0.3), expected, student, teacher)


def test_a_student_that_agrees_has_no_loss() -> None:
    same, _ = pair(4, 3, 5, 5)
    rows = same.flatten(1)
    assert float(losses.response(rows, rows)) == pytest.approx(0, abs=1e-6)
    for loss in (losses.attention_transfer, losses.relation_distance, losses.relation_angle):
        assert float(loss(same, same)) == 0
    assert float(losses.flow((same, same), (same, same))) == 0


@pytest.mark.parametrize(("small", "large"), [((4, 3, 5, 5), (4, 7, 5, 5)), ((4, 6, 3), (4, 6, 7)), ((4, 3), (4, 7))])
def test_hints(small, large) -> None:
    torch.manual_seed(0)
    adapter = losses.adapter_for(small, large)
    student, teacher = torch.randn(small, requires_grad=True), torch.randn(large, requires_grad=True)
    weight, bias = (p.detach().numpy().astype(np.float64) for p in adapter.parameters())
    channel = 1 if len(small) > 3 else -1
    s, t = (np.moveaxis(a, channel, -1) for a in arrays(student, teacher))
    expected = np.square(s @ weight.reshape(7, 3).T + bias - t).mean()
    close(torch.square(adapter(student) - teacher.detach()).mean(), expected, student, teacher)
    assert all(p.grad is not None for p in adapter.parameters())


@pytest.mark.parametrize(("one", "other"), [((4, 3, 5, 5), (4, 7, 3, 3)), ((4, 6, 3), (4, 5, 3)), ((4, 3), (4, 3, 1))])
def test_features_of_other_resolutions_are_refused(one, other) -> None:
    with pytest.raises(ModelError, match="ONX308"):
        losses.adapter_for(one, other)


def test_attention_transfer() -> None:
    student, teacher = pair(2, 3, 4, 4)[0], pair(2, 5, 4, 4)[0]
    maps = [np.square(a).mean(1).reshape(2, -1) for a in arrays(student, teacher)]
    s, t = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps)
    close(losses.attention_transfer(student, teacher), np.square(s - t).mean(), student, teacher)


def test_flow() -> None:
    (s1, t1), (s2, t2) = pair(2, 3, 4, 4), pair(2, 5, 4, 4)
    grams = [np.einsum("nihw,njhw->nij", *arrays(a, b)) / 16 for a, b in ((s1, s2), (t1, t2))]
    close(losses.flow((s1, s2), (t1, t2)), np.square(grams[0] - grams[1]).mean(), s1, t1)


def test_relation_distance() -> None:
    student, teacher = pair(4, 3)[0], pair(4, 6)[0]
    found = []
    for rows in arrays(student, teacher):
        apart = np.array([np.linalg.norm(a - b) for a, b in itertools.combinations(rows, 2)])
        found.append(apart / apart.mean())
    close(losses.relation_distance(student, teacher), huber(found[0] - found[1]).mean(), student, teacher)


def test_relation_angle() -> None:
    student, teacher = pair(3, 4)[0], pair(3, 6)[0]
    cosines = []
    for rows in arrays(student, teacher):
        values = []
        for i, j, k in itertools.product(range(3), repeat=3):
            one, other = rows[j] - rows[i], rows[k] - rows[i]
            length = np.linalg.norm(one) * np.linalg.norm(other)
            values.append(one @ other / length if length else 0.0)
        cosines.append(np.array(values))
    close(losses.relation_angle(student, teacher), huber(cosines[0] - cosines[1]).mean(), student, teacher)


def test_samples_that_coincide_give_finite_gradients() -> None:
    student = torch.ones(3, 4, requires_grad=True)
    teacher = pair(3, 4)[1]
    (losses.relation_distance(student, teacher) + losses.relation_angle(student, teacher)).backward()
    assert torch.isfinite(student.grad).all()
