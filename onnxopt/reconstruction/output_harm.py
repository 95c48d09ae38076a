"""Effect of an inner error on a model's outputs, which makes errors of layers comparable."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.reconstruction.layers import LinearLayer, bias_of, write
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics, weight_of
from onnxopt.reconstruction.low_rank.rank_choice import RankChoice
from onnxopt.samples import Samples

_JUDGES = 64
_MIDDLE = 0.3
"""Share of the work at which a layer is tried: where the errors that matter are made."""


def output_harm(
    model: ir.Model,
    layers: Mapping[str, LinearLayer],
    seen: Mapping[str, LayerStatistics],
    tables: Mapping[str, Sequence[RankChoice]],
    samples: Samples,
) -> dict[str, float]:
    """Return the error of the model's outputs per error of each layer, measured with that layer alone reduced."""
    few = list(samples.take(min(len(samples), _JUDGES)))
    before = _float_outputs(model, few)
    found = dict[str, float]()
    for name, table in tables.items():
        channel = [c for c in table if c.choice.form == "channel"] or list(table)
        probe = min(channel, key=lambda c: abs(c.macs - _MIDDLE))
        layer, spectrum, weight = layers[name], seen[name].spectrum, weight_of(model, layers[name])
        rank = probe.choice.ranks[-1] * layer.groups
        projection = spectrum.basis[:, :rank] @ spectrum.basis[:, :rank].T
        bias = bias_of(model, layer, len(weight))
        tried = model.clone()
        offset = seen[name].mean - projection @ (seen[name].mean - bias) - bias
        write(tried, layer, projection @ weight.reshape(len(weight), -1), offset)
        after = _float_outputs(tried, few)
        lost = sum(_relative(a, b) for a, b in zip(before, after, strict=True)) / max(len(before), 1)
        found[name] = max(lost, 1e-9) / max(spectrum.error(rank), 1e-9)
    return found


def _float_outputs(model: ir.Model, batches: Sequence[Mapping[str, np.ndarray]]) -> list[np.ndarray]:
    session = Session(model, Runtime())
    runs = [session.run(feeds) for feeds in batches]
    columns = zip(*runs, strict=True)
    found = []
    for column in columns:
        if all(isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in column):
            found.append(np.concatenate([a.astype(np.float64).ravel() for a in column]))
    return found


def _relative(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.square(after - before).sum() / max(np.square(before - before.mean()).sum(), 1e-30))
