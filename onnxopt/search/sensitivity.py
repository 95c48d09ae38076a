"""Ranking of layers by their loss from quantization, each measured alone."""

from collections.abc import Sequence
from dataclasses import replace

from onnxopt.passes.quantize_static import QuantizeStatic
from onnxopt.search.losses import Base, Losses


def rank_layers(
    spec: QuantizeStatic, base: Base, layers: Sequence[str], quantized: Sequence[str], losses: Losses
) -> list[str]:
    """Return the names of layers, the most harmful first.

    Args:
        spec: the quantization; its own exclusions do not count here.
        base: passes before it.
        layers: names of the nodes to rank, as they are after `base`.
        quantized: names of all nodes that `spec` quantizes.
        losses: measures; a layer that cannot even be quantized alone is the first.
    """
    alone = [
        replace(spec, placement="all", min_sqnr_db=0, exclude=tuple(other for other in quantized if other != layer))
        for layer in layers
    ]
    found = dict(zip(layers, losses(base, alone), strict=True))
    return sorted(layers, key=lambda layer: -found[layer])
