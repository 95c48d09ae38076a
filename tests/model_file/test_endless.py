"""Loops that state that they never end are refused where a model enters; all others are read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.errors import ModelError
from onnxopt.model_file import load

FLAG, COUNT = TensorProto.BOOL, TensorProto.INT64


def looping(
    rounds: int | None = None, begin: bool | None = True, handed_on: str = "Identity", inputs: tuple[str, ...] = ()
) -> onnx.ModelProto:
    """Return a model that doubles its input in a Loop.

    Args:
        rounds: constant trip count; None for none.
        begin: constant first condition; None for none.
        handed_on: operator that makes the next condition from the last one.
        inputs: names of trip count (`n`) and first condition (`c`) that the caller gives.
    """
    value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [2])
    flags = [helper.make_tensor_value_info(name, FLAG, []) for name in ("last", "next")]
    step = helper.make_tensor_value_info("i", COUNT, [])
    body = helper.make_graph(
        [
            helper.make_node(handed_on, ["last"] * (2 if handed_on == "And" else 1), ["next"]),
            helper.make_node("Add", ["v", "v"], ["w"]),
        ],
        "body",
        [step, flags[0], value],
        [flags[1], helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])],
    )
    weights = [numpy_helper.from_array(np.array(rounds, np.int64), "n")] if rounds is not None else []
    weights += [numpy_helper.from_array(np.array(begin), "c")] if begin is not None else []
    given = [helper.make_tensor_value_info(name, COUNT if name == "n" else FLAG, []) for name in inputs]
    names = {weight.name for weight in weights} | set(inputs)
    loop = helper.make_node(
        "Loop", ["n" if "n" in names else "", "c" if "c" in names else "", "x"], ["y"], "turn", body=body
    )
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([loop], "g", [x, *given], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def in_a_branch() -> onnx.ModelProto:
    model = looping()
    inner = onnx.GraphProto(name="then", node=model.graph.node, output=model.graph.output)
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], "choice", then_branch=inner, else_branch=inner))
    model.graph.output[0].name = "z"
    return model


def always_true_inside() -> onnx.ModelProto:
    model = looping()
    body = model.graph.node[0].attribute[0].g
    body.node[0].CopyFrom(helper.make_node("Constant", [], ["next"], value=numpy_helper.from_array(np.array(True))))
    return model


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "make",
    [
        looping,
        lambda: looping(begin=None),
        lambda: looping(rounds=1 << 62),
        in_a_branch,
        always_true_inside,
    ],
)
def test_a_loop_that_states_that_it_never_ends_is_refused(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ONX305.*node 'turn' \(Loop\) never ends"):
        load(saved(make(), tmp_path))


@pytest.mark.parametrize(
    "make",
    [
        lambda: looping(rounds=10),
        lambda: looping(begin=False),
        lambda: looping(handed_on="Not"),
        lambda: looping(handed_on="And"),
        lambda: looping(begin=None, inputs=("n",)),
        lambda: looping(begin=None, inputs=("c",)),
        lambda: looping(rounds=1 << 62, inputs=("n",)),
    ],
)
def test_a_loop_that_may_end_is_read(make: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    assert load(saved(make(), tmp_path)).graph
