"""The functions of a model: their external data, which must not let files out, and their expansion, which must end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.errors import ModelError
from onnxopt.model_file import load, refuse_endless, save
from onnxopt.model_file.load import from_memory
from onnxopt.model_file.save import external_files

SECRET = np.frombuffer(b"CANARY: nobody outside reads it!", np.float32)
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]


def outside(location: str, name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(SECRET, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(weight: TensorProto) -> onnx.GraphProto:
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, [8])
    return helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [out], [weight])


def function_of(name: str, *calls: str) -> onnx.FunctionProto:
    ends = ["x", *(f"v{i}" for i in range(len(calls)))]
    nodes = [
        helper.make_node(call, [ends[i]], [ends[i + 1]], domain="" if call == "Relu" else "local")
        for i, call in enumerate(calls)
    ]
    return helper.make_function("local", name, ["x"], [ends[-1]], nodes, OPSETS)


def model_of(functions: list[onnx.FunctionProto], calls: str) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [8]) for name in "xy")
    graph = helper.make_graph([helper.make_node(calls, ["x"], ["y"], domain="local")], "g", [x], [y])
    return helper.make_model(graph, functions=functions, opset_imports=OPSETS, ir_version=9)


def in_a_branch(location: str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node(
            "If", ["c"], ["i"], then_branch=branch(outside(location)), else_branch=branch(outside(location))
        ),
        helper.make_node("Add", ["x", "i"], ["z"]),
    ]
    return model_of([helper.make_function("local", "F", ["x"], ["z"], nodes, OPSETS)], "F")


def in_a_constant(location: str) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["c"], value=outside(location)),
        helper.make_node("Add", ["x", "c"], ["z"]),
    ]
    return model_of([helper.make_function("local", "F", ["x"], ["z"], nodes, OPSETS)], "F")


def in_sparse_weights(location: str) -> onnx.ModelProto:
    model = model_of([function_of("F", "Relu")], "F")
    sparse = model.graph.sparse_initializer.add(dims=[8])
    sparse.values.CopyFrom(outside(location))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.arange(8)))
    return model


def in_training(location: str) -> onnx.ModelProto:
    model = model_of([function_of("F", "Relu")], "F")
    model.training_info.add().initialization.CopyFrom(branch(outside(location)))
    return model


def in_a_sparse_attribute(location: str) -> onnx.ModelProto:
    model = model_of([function_of("F", "Relu")], "F")
    attribute = model.graph.node[0].attribute.add(name="s", type=onnx.AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.add(dims=[8]).values.CopyFrom(outside(location))
    return model


PLACES = [in_a_branch, in_a_constant, in_sparse_weights, in_training, in_a_sparse_attribute]


def written(model: onnx.ModelProto, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("reach", ["absolute", "parent", "symbolic", "hard", "null"])
@pytest.mark.parametrize("place", PLACES)
def test_no_place_of_a_model_reads_a_file_outside_its_folder(
    tmp_path: Path, place: Callable[[str], onnx.ModelProto], reach: str
) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "models"
    secret.write_bytes(SECRET.tobytes())
    folder.mkdir()
    if reach == "symbolic":
        (folder / "w").symlink_to(secret)
    if reach == "hard":
        (folder / "w").hardlink_to(secret)
    location = {"absolute": str(secret), "parent": "../secret", "null": "w\0.bin"}.get(reach, "w")
    with pytest.raises(ModelError) as caught:
        load(written(place(location), folder))
    assert caught.value.code == "ONX303"


@pytest.mark.parametrize("place", [in_a_branch, in_a_constant])
def test_external_data_of_functions_is_kept_when_saved_elsewhere(
    tmp_path: Path, place: Callable[[str], onnx.ModelProto]
) -> None:
    path = written(place("w"), tmp_path / "from")
    (path.parent / "w").write_bytes(SECRET.tobytes())
    assert external_files(path) == (path.parent / "w",)
    (tmp_path / "to").mkdir()
    (saved, *_) = save(load(path), tmp_path / "to" / "m.onnx")
    (path.parent / "w").unlink()
    (y,) = ort.InferenceSession(saved).run(None, {"x": np.zeros(8, np.float32)})
    np.testing.assert_array_equal(y, SECRET)


def test_external_data_of_functions_in_memory_is_refused() -> None:
    with pytest.raises(ModelError, match="external files"):
        from_memory(in_a_branch("w"))


def refusal(functions: list[onnx.FunctionProto], calls: str) -> str:
    with pytest.raises(ModelError) as caught:
        from_memory(model_of(functions, calls))
    assert caught.value.code == "ONX305"
    return str(caught.value)


def test_functions_that_call_themselves_are_refused() -> None:
    assert "'local::F': it calls itself" in refusal([function_of("F", "F")], "F")
    assert "it calls itself" in refusal([function_of("F", "G"), function_of("G", "Relu", "F")], "F")


def test_functions_that_double_at_every_level_are_refused() -> None:
    levels = [function_of("F0", "Relu"), *(function_of(f"F{i}", f"F{i - 1}", f"F{i - 1}") for i in range(1, 41))]
    assert "expands to more than 1,000,000 nodes" in refusal(levels, "F40")


def test_functions_that_call_each_other_too_deep_are_refused() -> None:
    levels = [*(function_of(f"F{i}", f"F{i - 1}") for i in range(300, 0, -1)), function_of("F0", "Relu")]
    assert "more than 100 deep" in refusal(levels, "F300")


def test_a_function_whose_name_is_no_text_is_refused_before_the_runtime_expands_it(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of([function_of("FOR", "FOR")], "FOR").SerializeToString().replace(b"FOR", b"F\xffR"))
    with pytest.raises(ModelError, match="it calls itself") as caught:
        refuse_endless(path)
    assert caught.value.code == "ONX305"


def test_functions_that_call_others_are_read() -> None:
    levels = [function_of("F0", "Relu"), function_of("F1", "F0", "F0"), function_of("F2", "F1", "Relu", "F0")]
    assert len(from_memory(model_of(levels, "F2")).functions) == len(levels)
