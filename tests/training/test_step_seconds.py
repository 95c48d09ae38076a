"""The time of a training step in each number format."""

import itertools

import pytest
import torch

from onnxopt.errors import ModelError
from onnxopt.model_file import to_bytes
from onnxopt.training import step_seconds as room
from onnxopt.training.step_seconds import STEPS, step_seconds
from tests import builders


def test_each_format_has_the_time_of_its_fastest_step_after_the_first() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    before = to_bytes(model)
    # Begin and end of each step: the first takes least, and does not count.
    steps = [0, 1, 10, 15, 20, 23, 30, 31, 40, 42, 50, 59]
    assert len(steps) == 2 * 2 * STEPS
    clock = iter(steps)
    found = step_seconds(
        model, builders.samples_of(model), 8, ("float32", "bfloat16"), clock=lambda: float(next(clock))
    )
    assert found == {"float32": 3.0, "bfloat16": 2.0}
    assert to_bytes(model) == before


def test_each_format_is_the_one_that_runs(monkeypatch) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    asked, as_it_is = list[str](), room.mixed_precision
    monkeypatch.setattr(room, "mixed_precision", lambda name, device: (asked.append(name), as_it_is(name, device))[1])
    step_seconds(model, builders.samples_of(model), 24, ("float32", "bfloat16"))
    assert [name for name, _ in itertools.groupby(asked)] == ["float32", "bfloat16"]
    assert len(asked) == 2 * STEPS


def test_a_model_without_float_weights_is_refused() -> None:
    model = builders.BUILDERS["already_quantized"]()
    with pytest.raises(ModelError) as caught:
        step_seconds(model, builders.samples_of(model), 8, ("float32",))
    assert caught.value.code == "ONX309"


def test_a_loss_that_reaches_no_weight_is_refused(monkeypatch) -> None:
    model = builders.BUILDERS["gemm_mlp"]()
    monkeypatch.setattr(room, "divergence", lambda *_: torch.zeros(()))
    with pytest.raises(ModelError, match=r"ONX309.*no weight can learn"):
        step_seconds(model, builders.samples_of(model), 8, ("float32",))


def test_an_operator_without_a_gradient_is_no_obstacle() -> None:
    """As in a distillation, what flows into it is compared."""
    net = builders.Net(3)
    net.node("CenterCropPad", net.node("Flatten", net.conv("x", 3, 4)), net.ints(5), axes=[1], out="y")
    model = net.model([builders.IMAGE], [("y", builders.F, ["batch", 5])], opset=18)
    assert step_seconds(model, builders.samples_of(model), 8, ("float32",)).keys() == {"float32"}
