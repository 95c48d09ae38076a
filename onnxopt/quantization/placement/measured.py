"""Layers to keep in float because INT8 is slower or too inaccurate there, measured on this machine."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite, isnan

import onnx_ir as ir

from onnxopt.measure.latency.latency_table import fastest_ms
from onnxopt.measure.runtime.emulation import emulator
from onnxopt.measure.runtime.session import Runtime
from onnxopt.quantization.diagnosis.layers import diagnose
from onnxopt.quantization.placement.cheapest import PricedLayer, cheapest
from onnxopt.quantization.placement.edges import edges_of, heads_of
from onnxopt.quantization.placement.node_times import layer_times_ms
from onnxopt.samples import Feeds, Samples
from onnxopt.target import Target, detect

_PRICES = (1.0, 3.0, 8.0)
"""Multiples of a bare conversion's time to try, because a conversion may also change the memory layout."""
_GAIN = 0.98
"""Largest ratio of times at which a model counts as faster than a simpler one."""
_JUDGES = 16

BuildModel = Callable[[tuple[str, ...]], ir.Model]
"""Builds the quantized model with the named nodes in float."""


@dataclass(frozen=True)
class Placed:
    """Layers to leave in float.

    Attributes:
        reasons: reasons by name.
        along: activations that stay in float with them.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    along: tuple[str, ...] = ()

    @property
    def exclude(self) -> tuple[str, ...]:
        """The names of all nodes to exclude."""
        return (*self.reasons, *self.along)


def unmeasurable(target: Target) -> str | None:
    """Return the reason why times on this machine do not apply to `target`; None if they do."""
    here = detect()
    if target != here:
        return f"times are measured on {here.name}, not on {target.name}: all layers are in INT8"
    why = emulator()
    return f"{why}: no times are measured, all layers are in INT8" if why else None


def place(
    model: ir.Model,
    quantized: ir.Model,
    integer: Collection[str],
    build: BuildModel,
    samples: Samples,
    *,
    min_sqnr_db: float,
) -> Placed:
    """Return the nodes to leave in float: the fastest of several placements and both pure forms, timed in turn.

    Args:
        model: the float model, with all nodes named.
        quantized: the model with all possible layers in INT8.
        integer: names of these layers.
        build: builds the model with further layers in float.
        samples: samples in batches of one; the first determines the shapes.
        min_sqnr_db: lowest signal-to-noise ratio of the outputs for the sum of layer errors; minus infinity for no
            limit.

    Raises:
        ModelError, NativeError: a model cannot be loaded or run.
    """
    runtime, feeds = Runtime(), next(iter(samples))
    heads = heads_of(model, integer)
    layers = _layers(model, quantized, heads, feeds, runtime)
    if isfinite(min_sqnr_db):
        layers = _with_noise(layers, model, quantized, samples.take(min(len(samples), _JUDGES)))
    allowed = 10 ** (-min_sqnr_db / 10)
    edges = edges_of(model, heads, feeds, runtime)
    everything, nothing = frozenset(layers), frozenset[str]()
    found = dict.fromkeys(
        cheapest(layers, [replace(edge, cost=edge.cost * price) for edge in edges], allowed) for price in _PRICES
    )
    # The simplest comes first: another must be faster to be chosen.
    fits = sum(layer.noise for layer in layers.values()) <= allowed
    choices = [*([everything] if fits else []), nothing, *(c for c in found if c not in (everything, nothing))]
    models = [
        _built(choice, everything, nothing, heads=heads, model=model, quantized=quantized, build=build)
        for choice in choices
    ]
    times = fastest_ms(models, feeds, runtime)
    best = 0
    for index in range(1, len(choices)):
        if times[index] < times[best] * _GAIN:
            best = index
    left = [name for name in layers if name not in choices[best]]
    free = cheapest(layers, edges)
    reasons = {name: _reason(layers[name], name in free and isfinite(min_sqnr_db)) for name in left}
    return Placed(reasons, tuple(_followers(heads, left)))


def _built(
    choice: frozenset[str],
    everything: frozenset[str],
    nothing: frozenset[str],
    *,
    heads: Mapping[str, str],
    model: ir.Model,
    quantized: ir.Model,
    build: BuildModel,
) -> ir.Model:
    if choice == everything:
        return quantized
    if choice == nothing:
        return model
    left = [name for name in everything if name not in choice]
    return build((*sorted(left), *_followers(heads, left)))


def _reason(layer: PricedLayer, sensitive: bool) -> str:
    if sensitive:
        return "too sensitive in INT8"
    if not layer.float_ms and layer.int8_ms:
        return "in float it takes no time: the runtime merges or removes it"
    if layer.int8_ms > layer.float_ms:
        return f"slower in INT8: {layer.float_ms / layer.int8_ms:.2f}x"
    return "in INT8 it does not pay for the conversions around it"


def _followers(heads: Mapping[str, str], left: Collection[str]) -> list[str]:
    return sorted(name for name, head in heads.items() if name != head and head in left)


def _layers(
    model: ir.Model, quantized: ir.Model, heads: Mapping[str, str], feeds: Feeds, runtime: Runtime
) -> dict[str, PricedLayer]:
    floats, integers = (layer_times_ms(model, made, feeds, runtime) for made in (model, quantized))
    times = {head: [0.0, 0.0] for head in heads.values()}
    for name, head in heads.items():
        times[head][0] += floats.get(name, 0.0)
        times[head][1] += integers.get(name, 0.0)
    return {name: PricedLayer(*both) for name, both in times.items()}


def _with_noise(
    layers: Mapping[str, PricedLayer], model: ir.Model, quantized: ir.Model, samples: Samples
) -> dict[str, PricedLayer]:
    found = dict(layers)
    for loss in diagnose(model, quantized, samples):
        if loss.name in layers:
            db = loss.own_db if isnan(loss.output_db) else loss.output_db
            noise = 0.0 if isnan(db) else 10 ** (-db / 10)
            found[loss.name] = PricedLayer(layers[loss.name].float_ms, layers[loss.name].int8_ms, noise)
    return found
