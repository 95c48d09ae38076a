"""Effect of a layer's error on a model's outputs, which makes the errors of layers comparable."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from onnxopt.measure.output_error import OutputError
from onnxopt.reconstruction.layers import LinearLayer, bias_of, write_layer
from onnxopt.reconstruction.low_rank.layer_statistics import LayerStatistics, weight_of
from onnxopt.reconstruction.low_rank.rank_choice import RankChoice
from onnxopt.samples import Samples

_MIDDLE = 0.3
"""Share of the work at which a layer is tried, in the range of relevant errors."""


def output_loss(
    model: ir.Model,
    layers: Mapping[str, LinearLayer],
    seen: Mapping[str, LayerStatistics],
    tables: Mapping[str, Sequence[RankChoice]],
    samples: Samples,
) -> dict[str, float]:
    """Return the output error per layer error, measured with each layer reduced alone."""
    error = OutputError(model, samples)
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
        write_layer(tried, layer, projection @ weight.reshape(len(weight), -1), offset)
        found[name] = max(error.of(tried), 1e-9) / max(spectrum.error(rank), 1e-9)
    return found
