"""Small networks in ONNX's text form, and their outputs."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import numpy_helper, parser

from tests import builders

IMAGES = "float[2, 4, 6, 6] x"


def net(
    body: str,
    weights: Mapping[str, np.ndarray],
    *,
    x: str = IMAGES,
    y: str = "float[] y",
    kind: type[np.floating[Any]] = np.float32,
) -> ir.Model:
    """Return a model of these nodes with constants of one type."""
    text = f'<ir_version: 8, opset_import: ["" : 13]> net ({x}) => ({y}) {{ {body} }}'
    model = parser.parse_model(text)
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    for name, array in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
    return ir.serde.deserialize_model(model)


def same_outputs(before: ir.Model, after: ir.Model, feed: np.ndarray) -> None:
    """Assert that two models have equal outputs up to rounding, in shape and number."""
    first, second = (builders.run(model, {"x": feed}) for model in (before, after))
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * float(np.abs(a).max()))


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes())
