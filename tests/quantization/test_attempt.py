"""Nodes that the quantizer cannot do are found and left out; the rest is quantized."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.errors import NativeError
from onnxopt.measure.runtime.session import Loadable, Runtime, Session, session_and_graph
from onnxopt.model_file import from_runtime
from onnxopt.quantization.attempt import attempt, runnable_feeds
from onnxopt.quantization.built import Built
from tests.builders import ROWS, Net, feeds_of, samples_of

SIZE = 12


def chain() -> ir.Model:
    """Return products and activations by turns, all of their own name."""
    net, x = Net(1), "x"
    for i in range(SIZE):
        last = i == SIZE - 1
        x = net.node(
            "Relu" if i % 2 else "MatMul", x, *([] if i % 2 else [net.weight(8, 8)]), out="y" if last else None
        )
    return net.model([ROWS], [("y", 1, ["batch", 8])], opset=13)


class Breaking:
    """A quantizer that cannot do some nodes, and counts how often it is called."""

    def __init__(self, model: ir.Model, *bad: str, why: str = "no such luck") -> None:
        self.model, self.bad, self.why, self.calls = model, set(bad), why, 0

    def __call__(self, left: tuple[str, ...]) -> Built:
        self.calls += 1
        found = sorted(self.bad - set(left))
        if found:
            raise NativeError("ONX402", "ONNX Runtime's quantizer failed", why=self.why.format(found[0]))
        return Built(self.model)


@pytest.mark.parametrize("position", range(SIZE))
def test_a_node_that_no_message_names_is_found(position: int) -> None:
    model = chain()
    bad = model.graph.node(position).name or ""
    build = Breaking(model, bad)
    made = attempt(build, list(model.graph), None)
    assert made.model is model
    assert list(made.left) == [bad]
    assert "no such luck" in made.left[bad]
    assert build.calls <= 8


def test_only_results_are_written_with_the_graph_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[Loadable]()

    def counted(model: Loadable, runtime: Runtime) -> tuple[Session, bytes]:
        written.append(model)
        return session_and_graph(model, runtime)

    monkeypatch.setattr("onnxopt.quantization.attempt.session_and_graph", counted)
    model = chain()
    build = Breaking(model, model.graph.node(5).name or "")
    made = attempt(build, list(model.graph), None)
    assert build.calls > 2
    assert len(written) == 1
    assert [node.op_type for node in from_runtime(made.optimized).graph]


def test_no_equal_scalars_are_sought() -> None:
    net = Net(1)
    net.node("Add", net.node("Tanh", net.node("Mul", "x", net.const(np.float32(2)))), net.const(np.float32(2)), out="y")
    made = attempt(Breaking(net.model([ROWS], [("y", 1, ["batch", 8])], opset=13)), [], None)
    names = [value.name for node in from_runtime(made.optimized).graph for value in node.inputs if value is not None]
    assert len(set(names)) == 5
    assert not [name for name in names if name and name.startswith("ortshared")]


def test_a_node_that_the_message_names_is_believed_only_if_that_helps() -> None:
    model = chain()
    names = [n.name or "" for n in model.graph]
    helps = Breaking(model, names[4], why="node '{}' failed")
    assert list(attempt(helps, list(model.graph), None).left) == [names[4]]
    assert helps.calls == 3
    wrong = Breaking(model, names[4], why=f"node '{names[2]}' failed")
    assert list(attempt(wrong, list(model.graph), None).left) == [names[4]]


def test_of_names_that_begin_alike_the_message_means_the_longest() -> None:
    model = chain()
    for node, name in zip(model.graph, ("conv", "conv1"), strict=False):
        node.name = name
    build = Breaking(model, "conv1", why="node '{}' failed")
    assert list(attempt(build, list(model.graph), None).left) == ["conv1"]
    assert build.calls == 3


def test_after_two_of_a_kind_the_others_stay_in_float_too() -> None:
    model = chain()
    products = [n.name or "" for n in model.graph if n.op_type == "MatMul"]
    build = Breaking(model, *products)
    made = attempt(build, list(model.graph), None)
    assert set(made.left) == set(products)
    assert build.calls < 16


def test_a_failure_that_no_node_explains_is_raised() -> None:
    model = chain()
    build = Breaking(model, "none of them")
    with pytest.raises(NativeError, match="no such luck"):
        attempt(build, list(model.graph), None)
    assert build.calls == 2  # as it is, and with every node in float


def test_a_model_that_loads_but_does_not_run_counts_as_failed() -> None:
    model = chain()
    bad = model.graph.node(6)
    net = Net(2)
    net.node("Reshape", "x", net.ints(3, 5), out="y")
    fails = net.model([ROWS], [("y", 1, None)], opset=13)

    def build(left: tuple[str, ...]) -> Built:
        return Built(model if bad.name in left else fails)

    assert list(attempt(build, list(model.graph), feeds_of(model)).left) == [bad.name]


def test_feeds_are_made_up_where_no_sample_runs() -> None:
    model = chain()
    found = runnable_feeds(model, samples_of(model))
    assert found is not None
    assert found["x"].shape == (1, 8)
    assert runnable_feeds(model, None) is not None
    net = Net(2)
    net.node("Reshape", "x", net.ints(3, 5), out="y")
    assert runnable_feeds(net.model([ROWS], [("y", 1, None)], opset=13), None) is None
    assert np.isfinite(found["x"]).all()


def test_a_run_without_end_gives_no_feeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxopt.quantization.attempt.ends", lambda session, feeds: False)
    assert runnable_feeds(chain(), None) is None
