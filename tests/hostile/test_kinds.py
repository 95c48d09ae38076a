"""Odd or damaged models of kinds that a change of one field does not make: every command ends in order, in time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.measure.runtime import written
from tests.hostile.model_faults import cnn, info, mlp, weight, whole


def infinite_weights() -> onnx.ModelProto:
    model = cnn()
    for tensor, value in zip(model.graph.initializer, (np.inf, np.nan), strict=False):
        array = numpy_helper.to_array(tensor).copy()
        array.flat[0] = value
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def nul_in_the_name_of_external_data() -> onnx.ModelProto:
    model = mlp()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "ok\x00data.bin"), ("offset", "0"), ("length", "96")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model


def sequence_input() -> onnx.ModelProto:
    given = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["n", 4])
    first = numpy_helper.from_array(np.int64(0), "k")
    nodes = [
        helper.make_node("SequenceAt", ["x", "k"], ["a"], "at"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "out"),
    ]
    return whole(nodes, [given], [info("y", "n", 3)], [first, weight("w", 4, 3)])


def no_rows() -> onnx.ModelProto:
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    return model


def endless_loop(handed_on: str = "And") -> onnx.ModelProto:
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "more")]
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    nodes = [
        helper.make_node(handed_on, ["c", "c"][: 1 + (handed_on == "And")], ["more"]),
        helper.make_node("MatMul", ["v", "w"], ["u"]),
    ]
    body = helper.make_graph(nodes, "body", [step, flags[0], info("v", "n", 4)], [flags[1], info("u", "n", 4)])
    start = numpy_helper.from_array(np.array(True), "start")
    loop = helper.make_node("Loop", ["", "start", "x"], ["z"], "for_ever", body=body)
    last = helper.make_node("MatMul", ["z", "v4"], ["y"], "out")
    return whole([loop, last], [info("x", "n", 4)], [info("y", "n", 3)], [start, weight("w", 4, 4), weight("v4", 4, 3)])


def loop_that_states_that_it_never_ends() -> onnx.ModelProto:
    return endless_loop("Identity")


KINDS: dict[Callable[[], onnx.ModelProto], frozenset[int]] = {
    infinite_weights: frozenset({0, 1}),
    nul_in_the_name_of_external_data: frozenset({1, 3}),
    sequence_input: frozenset({0}),
    no_rows: frozenset({0}),
    endless_loop: frozenset({0}),
    loop_that_states_that_it_never_ends: frozenset({1, 3}),
}
"""Models, and the exit codes that are right for commands that need no samples."""


@pytest.fixture(params=KINDS, ids=lambda make: make.__name__)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, frozenset[int]]:
    path = tmp_path / "m.onnx"
    path.write_bytes(request.param().SerializeToString())
    return path, KINDS[request.param]


@pytest.mark.parametrize(
    "words",
    [
        "check {m}",
        "inspect {m}",
        "inspect {m} --spectrum",
        "apply {m} --passes simplify -o {o}",
        "apply {m} --passes factorize -o {o}",
        "apply {m} --passes prune-weights -o {o}",
        "quantize {m} --mode dynamic -o {o}",
    ],
)
def test_commands_without_samples_end_in_order(cli, kind, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, right = kind
    monkeypatch.setattr(written, "PATIENCE_S", 0.5)
    out = path.with_name("o.onnx")

    ended = cli(*words.format(m=path, o=out).split())

    assert ended.code in right, ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") <= (ended.code != 0), ended.err
    if out.exists():
        ort.InferenceSession(out)


def test_samples_of_a_model_that_takes_a_sequence_are_refused_in_a_line(cli, tmp_path: Path) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    path.write_bytes(sequence_input().SerializeToString())
    np.savez(data, x=np.zeros((4, 4), np.float32))

    ended = cli("quantize", path, "-d", data, "-o", tmp_path / "o.onnx")

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "a sequence or a map" in ended.err


@pytest.mark.parametrize(
    "words", ["sensitivity {m} -d {d}", "compare {m} {m} -d {d}", "quantize {m} -d {d} --mode auto"]
)
def test_a_model_that_gives_nan_alone_is_refused_in_a_line(cli, tmp_path: Path, words: str) -> None:
    path, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    path.write_bytes(infinite_weights().SerializeToString())
    np.savez(data, x=np.ones((32, 2, 6, 6), np.float32))

    ended = cli(*words.format(m=path, d=data).split(), *(["-o", tmp_path / "o.onnx"] if "auto" in words else []), "-q")

    assert (ended.code, ended.err.count("\n")) == (2, 1), ended.err
    assert "ONX207: the baseline gives NaN for most of these samples" in ended.err
    assert "`onnxopt check` names weights" in ended.err
