"""The rank that each layer needs, and the saving by factorization."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.document.units import count
from onnxopt.graph.layers import anatomy_of
from onnxopt.measure.latency.latency_table import LatencyTable
from onnxopt.measure.latency.remembered import cache_folder
from onnxopt.measure.verdict import one_sample
from onnxopt.model_file import Given, as_graph
from onnxopt.model_file.given import name_of_given
from onnxopt.reconstruction.factorizable import FactorizableModel
from onnxopt.reconstruction.layers import LinearLayer
from onnxopt.reconstruction.low_rank.chain_timer import Timer, timer_of
from onnxopt.reconstruction.low_rank.factors import unfolded
from onnxopt.reconstruction.low_rank.fit import Choice
from onnxopt.reconstruction.low_rank.forms import of_one_group
from onnxopt.reconstruction.low_rank.layer_statistics import weight_of
from onnxopt.reconstruction.low_rank.rank_choice import macs_share
from onnxopt.reconstruction.low_rank.spectrum import Spectrum

ENERGIES = (0.90, 0.95, 0.99)
_TIMED = 0.95
_BLOCK = 16


def spectrum_document(source: Given, sizes: Mapping[str, int], *, measure: bool = False) -> Document:
    """Return the rank at which each weight keeps its energy, and the cost at that rank; per group of a convolution.

    Args:
        source: the model.
        sizes: the sizes of named dynamic dimensions, for the MACs; others count as 1.
        measure: whether to time each layer, original and factorized.

    Raises:
        NativeError: ONX403 `measure` on an emulated processor.
    """
    model = as_graph(source)
    work = FactorizableModel.of(model, (), None)
    anatomy = anatomy_of(work.model, sizes)
    macs = {layer.name: layer.macs for layer in anatomy.layers}
    timer = None
    if measure:
        fed = {name: shape for name, shape in anatomy.input_shapes.items() if shape is not None}
        shapes = work.shapes(one_sample(model, None), fed)
        timer = timer_of(work.model, shapes, LatencyTable(cache_folder()), work.inner)
    found = [_layer(work.model, layer, macs.get(name), timer) for name, layer in work.layers.items()]
    columns = (
        Column("layer"),
        Column("weight"),
        Column("MACs", number=True),
        *(Column(f"{energy:.0%}", number=True) for energy in ENERGIES),
        *((Column("time", number=True),) if measure else ()),
    )
    says = [
        "Rank that keeps this share of the weight's energy; in brackets the MACs at that",
        "rank, relative to the dense layer. With samples, lower ranks are enough.",
    ]
    if measure:
        says += [
            f"Time: at the rank for {100 * _TIMED:.0f} % in whole blocks of {_BLOCK}, relative to the dense layer,",
            "both measured on this machine.",
        ]
    return Document(
        (
            Table(columns, tuple(_row(f, measure) for f in found), title=name_of_given(source, "a model in memory")),
            Text(tuple(says)),
        ),
        {"layers": found, "left": work.refused},
    )


def _layer(model: ir.Model, layer: LinearLayer, macs: int | None, timer: Timer | None) -> dict[str, Any]:
    weight = weight_of(model, layer)
    groups, shape = layer.groups, of_one_group(weight.shape, layer.groups)
    spectrum = Spectrum.of_weight(unfolded(weight, "channel"), groups)
    strides = layer.window.strides if layer.window is not None else ()
    full = len(spectrum.energies) // groups
    timed = min(-(-spectrum.rank(_TIMED) // _BLOCK) * _BLOCK // groups or 1, full)
    ranks = {energy: -(-spectrum.rank(energy) // groups) for energy in ENERGIES}
    times = timer(layer, [Choice("channel", (timed,))]) if timer is not None else []
    return {
        "name": layer.node,
        "weight_shape": list(weight.shape),
        "macs": macs,
        "full_rank": full,
        "ranks": [
            {"energy": e, "rank": r, "macs_share": macs_share(Choice("channel", (r,)), shape, strides)}
            for e, r in ranks.items()
        ],
        **({"time_share": times[1] / times[0]} if times else {}),
    }


def _row(found: Mapping[str, Any], measure: bool) -> tuple[str, ...]:
    return (
        found["name"],
        "x".join(map(str, found["weight_shape"])),
        "?" if found["macs"] is None else count(found["macs"]),
        *(f"{at['rank']} ({at['macs_share']:.2f})" for at in found["ranks"]),
        *((f"{found['time_share']:.2f}",) if measure else ()),
    )
