"""Layers that do the same work get one time, so that a disturbed profile does not choose their form."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.errors import ModelError
from onnxopt.options.search import Goal
from onnxopt.search.mix import alike
from onnxopt.search.mix.alike import evened, kinds_of
from onnxopt.search.mix.bits import bit_tables
from onnxopt.search.mix.layer_times import TimedForm
from onnxopt.solver import FLOAT
from tests.builders import F, Net
from tests.search.mix.test_bits import WHOLE, Loss, Profile, called, context

WIDTH = 64
LAYERS = ("MatMul_0", "MatMul_2", "MatMul_4", "MatMul_6")


def model(*, other: str = "Tanh") -> ir.Model:
    """Return four products, each with an activation behind it; that of the last one may be another."""
    net, x = Net(6), "x"
    for _ in LAYERS[:-1]:
        x = net.node("Tanh", net.node("MatMul", x, net.weight(WIDTH, WIDTH)))
    net.node(other, net.node("MatMul", x, net.weight(WIDTH, WIDTH)), out="y")
    return net.model([("x", F, ["n", WIDTH])], [("y", F, ["n", WIDTH])], opset=17)


def owners(source: ir.Model) -> dict[str, str]:
    names = [node.name or "" for node in source.graph]
    return {name: names[place - place % 2] for place, name in enumerate(names)}


def feeds(rows: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.zeros((rows, WIDTH), np.float32)}


def named(source: ir.Model) -> ir.Model:
    for place, node in enumerate(source.graph):
        node.name = f"{node.op_type}_{place}"
    return source


def test_layers_of_one_kind_have_matrix_work_and_what_follows_in_common() -> None:
    same, one_apart = named(model()), named(model(other="Relu"))
    kinds = kinds_of(same, owners(same), feeds())
    assert list(kinds) == list(LAYERS)
    assert len(set(kinds.values())) == 1
    assert set(kinds_of(same, owners(same), feeds(7)).values()).isdisjoint(kinds.values())
    apart = kinds_of(one_apart, owners(one_apart), feeds())
    assert [list(apart.values()).count(kind) for kind in apart.values()] == [3, 3, 3, 1]


def test_a_model_whose_shapes_cannot_be_followed_has_no_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ir.Model) -> None:
        raise ModelError("ONX304", "no shapes")

    monkeypatch.setattr(alike, "anatomy_of", fail)
    same = named(model())
    assert kinds_of(same, owners(same), feeds()) == {}


def test_the_median_of_a_kind_is_the_time_of_its_layers() -> None:
    kinds = {**dict.fromkeys("abc", ("one",)), **dict.fromkeys("de", ("two",))}
    times = {"a": 1.0, "b": 9.0, "c": 2.0, "d": 3.0, "e": 5.0, "rest": 7.0}
    # Of two layers nobody knows which one was disturbed.
    assert evened(times, kinds) == {"a": 2.0, "b": 2.0, "c": 2.0, "d": 3.0, "e": 5.0, "rest": 7.0}


def test_one_disturbed_time_in_a_profile_does_not_choose_the_form_of_its_layer() -> None:
    class Disturbed(Profile):
        """Has another program run during the third layer in INT8."""

        def of(
            self, forms: Sequence[TimedForm], feeds: Mapping[str, np.ndarray], *, conversions: bool = False
        ) -> list[dict[str, float]]:
            found = []
            for form in forms:
                integer = any(node.op_type == "MatMulInteger" for node in form.made.graph)
                found.append(dict.fromkeys(LAYERS, 4.0 if integer else 10.0))
                found[-1][LAYERS[2]] *= 5 if integer else 1
            return found

    made = bit_tables(
        model(), context(), [(feeds(), 1.0)], goal=Goal.LATENCY, times=Disturbed(), clock=called(WHOLE), losses=Loss(),
        seconds=60,
    )  # fmt: skip
    costs = {form: [float(made.problem.layers[name].costs[form]) for name in LAYERS] for form in made.forms}
    assert costs["dynamic INT8"] == pytest.approx([20 / 4] * 4)
    # The time of the whole is that of calls.
    assert made.problem.cost(made.problem.whole(FLOAT)) == pytest.approx(WHOLE[FLOAT])
