"""No command writes a file that ONNX Runtime does not load and run, and nothing stands there when it refuses."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt import model_file
from onnxopt.errors import ModelError
from onnxopt.measure.runtime import written
from onnxopt.model_file import memory


def model(op: str = "Relu", *, domain: str = "", **attributes: int) -> ir.Model:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 4]) for n in "xy")
    weight = numpy_helper.from_array(np.ones((2, 2, 100), np.float32), "w")
    nodes = [
        helper.make_node("ReduceSum", ["w"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["a"]),
        helper.make_node(op, ["a"], ["y"], domain=domain, **attributes),
    ]
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    return model_file.as_graph(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def reshape(sizes: list[int]) -> ir.Model:
    """Loads whatever `sizes` are; runs only where they hold as many numbers as the input."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])
    shape = numpy_helper.from_array(np.array(sizes), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape])
    opsets = [helper.make_opsetid("", 17)]
    return model_file.as_graph(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def test_a_file_that_loads_and_runs_is_written(tmp_path: Path) -> None:
    good = model()

    files = model_file.save(good, tmp_path / "m.onnx", proof=written.proof(good))

    assert files == (tmp_path / "m.onnx",)


@pytest.mark.parametrize("external", [False, True], ids=["one file", "external data"])
def test_a_file_that_does_not_load_is_not_written(
    tmp_path: Path, external: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if external:
        monkeypatch.setattr(memory, "EXTERNAL_ABOVE_BYTES", 10)

    with pytest.raises(ModelError) as refused:
        model_file.save(model("NoSuchOperator"), tmp_path / "m.onnx", proof=written.proof(model()))

    assert refused.value.code == "ONX306"
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_where_the_new_one_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"older")

    with pytest.raises(ModelError):
        model_file.save(model("NoSuchOperator"), path, overwrite=True, proof=written.proof(model()))

    assert path.read_bytes() == b"older"


def test_the_source_is_blamed_where_it_does_not_load_either(tmp_path: Path) -> None:
    bad = model("NoSuchOperator")

    with pytest.raises(ModelError) as refused:
        model_file.save(bad, tmp_path / "m.onnx", proof=written.proof(bad))

    assert refused.value.code == "ONX304"


def test_a_file_that_loads_but_does_not_run_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        model_file.save(reshape([3, 3]), tmp_path / "m.onnx", proof=written.proof(reshape([-1, 2])))

    assert refused.value.code == "ONX306"
    assert list(tmp_path.iterdir()) == []


def test_a_made_up_input_that_the_source_fails_on_proves_nothing(tmp_path: Path) -> None:
    odd = reshape([3, 4])

    assert model_file.save(odd, tmp_path / "m.onnx", proof=written.proof(odd))


def test_a_run_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "PATIENCE_S", 0.0)
    endless = _endless()

    assert model_file.save(endless, tmp_path / "m.onnx", proof=written.proof(endless))


def _endless() -> ir.Model:
    """Return a Loop whose condition is computed; one that states that it never ends is refused when it is read."""
    true = [
        helper.make_node("Not", ["c"], ["less"]),
        helper.make_node("Not", ["less"], ["more"]),
        helper.make_node("Add", ["v", "v"], ["w"]),
    ]
    flag = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("c", "more")]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("v", "w", "x", "y")]
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(true, "body", [step, flag[0], value[0]], [flag[1], value[1]])
    start = numpy_helper.from_array(np.array(True), "start")
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "start", "x"], ["y"], body=body)], "g", [value[2]], [value[3]], [start]
    )
    opsets = [helper.make_opsetid("", 17)]
    return model_file.as_graph(helper.make_model(graph, opset_imports=opsets, ir_version=9))
