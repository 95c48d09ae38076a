"""Time of a convolution as a sum of separable ones, relative to the original."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnxopt.errors import NativeError
from onnxopt.graph.separable_edit import replace_by_separable
from onnxopt.measure.latency.latency_table import LatencyTable, alone, copies
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank.plan import MOST_TIME
from onnxopt.reconstruction.separable import separated


class SeparableTimer:
    """Times layers and their separable convolutions, in chains of copies.

    Args:
        model: the model of the layers.
        shapes: input shapes by name of the value.
        folder: cache folder of times; None for no cache.
    """

    def __init__(self, model: ir.Model, shapes: Mapping[str, tuple[int, ...]], folder: Path | None) -> None:
        self._model, self._shapes = model, shapes
        self._nodes = {node.name: node for node in model.graph}
        self._note, self._table = "", None
        try:
            self._table = LatencyTable(folder)
        except NativeError as error:
            self._note = f"not replaced, as it cannot be timed: {error.why or error.what}"

    def too_slow(self, layer: LinearLayer, weight: np.ndarray, terms: int) -> str:
        """Return the reason against a replacement; "" where the separable convolutions are faster."""
        tensor = self._model.graph.initializers[layer.weight].const_value
        if self._table is None or tensor is None or layer.x not in self._shapes:
            return self._note or "its input shape is unknown, so it cannot be timed"
        dense = alone(self._nodes[layer.node], tensor, self._shapes[layer.x], 1)
        changed, rng = dense.clone(), np.random.default_rng(0)
        sums = separated(rng.standard_normal(weight.shape), terms)
        replace_by_separable(changed, "layer", sums.depthwise(), sums.mix)
        feeds = {"x": rng.standard_normal(self._shapes[layer.x]).astype(tensor.dtype.numpy())}
        one, other, two, others = self._table.times_ms([dense, changed, copies(dense, 2), copies(changed, 2)], feeds)
        share = max(others - other, 1e-4) / max(two - one, 1e-4)
        return "" if share <= MOST_TIME else f"not faster: with {terms} terms it took {share:.2f} times its time"
