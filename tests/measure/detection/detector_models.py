"""A detector in ONNX that reads its output off the first values of its image."""

from pathlib import Path

import numpy as np
import onnx
import scenes
from onnx import TensorProto, helper, numpy_helper

ATTRIBUTES, ROWS = 4 + scenes.CLASSES, 126


def detector(path: Path, scale: np.ndarray | None = None) -> Path:
    """Write a model that gives `(n, 7, 126)`, its attributes multiplied by `scale` `(7,)`."""
    factors = np.ones(ATTRIBUTES) if scale is None else scale
    constants = {
        "flat": np.array([0, -1]),
        "start": np.array([0]),
        "end": np.array([ATTRIBUTES * ROWS]),
        "axis": np.array([1]),
        "table": np.array([0, ATTRIBUTES, ROWS]),
        "factors": factors.reshape(1, -1, 1).astype(np.float32),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["values"]),
        helper.make_node("Slice", ["values", "start", "end", "axis"], ["some"]),
        helper.make_node("Reshape", ["some", "table"], ["rows"]),
        helper.make_node("Mul", ["rows", "factors"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, scenes.HEIGHT, scenes.WIDTH])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["n", ATTRIBUTES, ROWS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def images(found: list[scenes.Scene]) -> np.ndarray:
    """Return the images `(n, 3, height, width)` in which the detector finds these boxes."""
    pixels = np.zeros((len(found), 3 * scenes.HEIGHT * scenes.WIDTH), np.float32)
    pixels[:, : ATTRIBUTES * ROWS] = scenes.v8(found)["output0"].reshape(len(found), -1)
    return pixels.reshape(-1, 3, scenes.HEIGHT, scenes.WIDTH)
