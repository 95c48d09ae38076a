"""Output statistics of the original layers on calibration samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import tensor_in
from onnxopt.measure.runtime.replay import Replay
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank.spectrum import Spectrum, pooled, spectrum_of
from onnxopt.reconstruction.moments import Accumulator
from onnxopt.samples import Samples

HELD_OUT = 5
"""One batch in this many is held out to judge fits."""
_TOGETHER = 8
_FEWEST_ROWS = 32768
_PATCHES = 1024


@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of a layer of the original on calibration samples.

    Attributes:
        spectrum: spectrum of its outputs; `mean` is their mean.
        patches: some of its input rows, centred, shape (rows, inputs * kernel positions); None for a layer without a
            kernel.
        power: second moments of its input channels; None for a layer without a kernel.
    """

    spectrum: Spectrum
    mean: np.ndarray
    patches: np.ndarray | None = None
    power: np.ndarray | None = None


def weight_of(model: ir.Model, layer: LinearLayer) -> np.ndarray:
    """Return the weight of a layer in double precision, shape (outputs, inputs, *kernel)."""
    tensor = tensor_in(model.graph.initializers[layer.weight])
    matrix = layer.matrix(tensor.numpy())
    kernel = layer.window.kernel if layer.window is not None else ()
    return matrix.reshape(len(matrix), -1, *kernel)


def seen_by(model: ir.Model, layers: Sequence[LinearLayer], samples: Samples) -> dict[str, LayerStatistics]:
    """Return the statistics of layers by node; a few layers are observed at a time."""
    found = dict[str, LayerStatistics]()
    for start in range(0, len(layers), _TOGETHER):
        found |= _seen_together(model, layers[start : start + _TOGETHER], samples)
    return found


def _seen_together(model: ir.Model, layers: Sequence[LinearLayer], samples: Samples) -> dict[str, LayerStatistics]:
    sums, patches = dict[str, tuple[Accumulator, Accumulator]](), dict[str, list[np.ndarray]]()
    wide = [
        layer.node
        for layer in layers
        if layer.window is not None and layer.groups == 1 and max(layer.window.kernel) > 1
    ]
    names = [layer.y for layer in layers] + [layer.x for layer in layers if layer.node in wide]
    batches = batches_of(samples)
    for number, arrays in enumerate(Replay(samples).of(model, names)):
        for layer in layers:
            y, seed = arrays[layer.y], seed_of(layer, number)
            rows = outputs_of(layer, y, batches, seed)
            if layer.node not in sums:
                sums[layer.node] = Accumulator(rows.shape[1], 1), Accumulator(rows.shape[1], 1)
            sums[layer.node][number % HELD_OUT == 1].add(rows, rows[:, :1])
            if layer.node in wide:
                few = layer.rows(arrays[layer.x], y, _PATCHES // batches + 1, seed)[0]
                patches.setdefault(layer.node, []).append(few.astype(np.float32))
    found = dict[str, LayerStatistics]()
    for layer in layers:
        fit, held = (part.moments() for part in sums[layer.node])
        weight = weight_of(model, layer)
        spectrum = spectrum_of(fit, held, weight.reshape(len(weight), -1), groups=layer.groups)
        mean = pooled(fit, held).mean_x
        if layer.node not in wide or layer.window is None:
            found[layer.node] = LayerStatistics(spectrum, mean)
            continue
        rows = np.concatenate(patches[layer.node])
        channels = np.moveaxis(rows.reshape(len(rows), -1, *layer.window.kernel), 1, -1)
        flat = channels.reshape(-1, channels.shape[-1]).astype(np.float64)
        found[layer.node] = LayerStatistics(spectrum, mean, rows - rows.mean(0), flat.T @ flat / len(flat))
    return found


def outputs_of(layer: LinearLayer, y: np.ndarray, batches: int, seed: int) -> np.ndarray:
    """Return some output rows of a layer, shape (rows, outputs).

    Args:
        layer: the layer.
        y: its output for one batch.
        batches: total number of batches.
        seed: seed of the choice.
    """
    axis = 1 if layer.window is not None else -2 if layer.side == "left" else -1
    moved = np.moveaxis(y, axis, -1)
    rows = moved.reshape(-1, moved.shape[-1])
    limit = max(_FEWEST_ROWS, 8 * rows.shape[1]) // batches + 1
    if len(rows) > limit:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]
    return rows


def batches_of(samples: Samples) -> int:
    """Return the number of batches, at least 1."""
    return max(len(samples) // max(samples.batch_size, 1), 1)


def seed_of(layer: LinearLayer, number: int) -> int:
    """Return the seed for drawing rows from a batch."""
    return crc32(f"{layer.node}/{number}".encode())
