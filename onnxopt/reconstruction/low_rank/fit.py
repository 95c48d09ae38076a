"""Fit of low-rank layers, in order, on activations of the network reduced so far."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Arrays
from onnxopt.measure.runtime.replay import Replay, live_values
from onnxopt.reconstruction.layers import LinearLayer, bias_of, write_layer
from onnxopt.reconstruction.least_squares import ridge
from onnxopt.reconstruction.low_rank.factors import Factors, factorized, factorized_in_groups
from onnxopt.reconstruction.low_rank.forms import Form
from onnxopt.reconstruction.low_rank.layer_statistics import (
    HELD_OUT,
    LayerStatistics,
    batches_of,
    outputs_of,
    seed_of,
    weight_of,
)
from onnxopt.reconstruction.low_rank.spectrum import pooled, projected, spectrum_of
from onnxopt.reconstruction.moments import Accumulator, Moments
from onnxopt.reconstruction.scan_layers import with_bodies
from onnxopt.samples import Samples

_MOST_PATCHES = 16384
_UNCHANGED = 1e-8
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_ENOUGH = 0.98
"""Largest ratio of held-out errors, after to before, for a fit to be kept."""


@dataclass(frozen=True)
class Choice:
    """Form and ranks of a reduced layer."""

    form: Form
    ranks: tuple[int, ...]


@dataclass
class FactorizedModel:
    """The original graph with weights of low rank, and the same weights as chains, by node."""

    model: ir.Model
    factors: dict[str, Factors]


def reduce(
    original: ir.Model,
    layers: Mapping[str, LinearLayer],
    choices: Mapping[str, Choice],
    seen: Mapping[str, LayerStatistics],
    samples: Samples | None,
    *,
    sequential: bool,
) -> FactorizedModel:
    """Return `original` with layers of low rank.

    The target of each layer is its output in the original. Its directions come from its outputs in the network reduced
    so far; its last stage and its bias compensate for earlier errors if that helps on held-out batches.

    Args:
        original: the original model (not modified); with samples every layer has a bias.
        layers: layers of `original`, by node, in graph order.
        choices: form and ranks of the layers to reduce.
        seen: statistics of these layers, if there are samples.
        samples: calibration samples; None takes the nearest weights.
        sequential: whether layers are fitted on activations of the reduced network, or of the original.
    """
    result = FactorizedModel(original.clone(), {})
    replays = (Replay(samples), Replay(samples)) if samples is not None else None
    places = {node.name: number for number, node in with_bodies(original)}
    for name, layer in layers.items():
        if name not in choices:
            continue
        choice, weight = choices[name], weight_of(original, layer)
        if replays is None or samples is None:
            factors = factorized_in_groups(weight, layer.groups, choice.form, choice.ranks)
            offset = np.zeros(len(weight))
        else:
            current = result.model if sequential else original
            keep = live_values(original, places[name])
            pairs = zip(
                replays[0].of(current, [layer.x, layer.y], keep),
                replays[1].of(original, [layer.x, layer.y], keep),
                strict=True,
            )
            bias = bias_of(original, layer, len(weight))
            factors, offset = _fit(
                layer, choice, weight, bias, seen=seen[name], pairs=pairs, batches=batches_of(samples)
            )
        matrix = factors.weight().reshape(len(weight), -1)
        write_layer(result.model, layer, matrix, offset)
        result.factors[name] = factors
    return result


def _fit(
    layer: LinearLayer,
    choice: Choice,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    seen: LayerStatistics,
    pairs: Iterator[tuple[Arrays, Arrays]],
    batches: int,
) -> tuple[Factors, np.ndarray]:
    """Return the chain, and the offset to add to the bias."""
    gap = 1.0
    if choice.form == "channel":
        fit, held = moments_of(_outputs_and_targets(layer, pairs, batches))
        every = pooled(fit, held)
        gap = every.error(np.eye(len(weight)), np.zeros(len(weight))) / max(float(every.yy.sum()), 1e-30)
        rank, groups = choice.ranks[0] * layer.groups, layer.groups
        spectrum = spectrum_of(fit, held, weight.reshape(len(weight), -1), rank, targets=True, groups=groups)
        basis = spectrum.basis[:, :rank]
        factors = factorized_in_groups(weight, groups, choice.form, choice.ranks, spectrum.bases(groups))
        if groups > 1:
            # A refit would mix groups.
            return factors, every.mean_y - basis @ (basis.T @ (every.mean_x - bias)) - bias
        fit, held = projected(fit, basis, bias), projected(held, basis, bias)
    else:
        factors = factorized(weight, choice.form, choice.ranks, seen.spectrum.basis, seen.power)
        fit, held = moments_of(_features_and_targets(layer, factors, weight.shape[2:], pairs, batches))
    last = factors.stages[-1].weight.reshape(len(weight), -1)
    # If a layer's outputs are those of the original, its projection is already the least-squares solution.
    if gap > _UNCHANGED:
        last = refitted(fit, held, last)
    every = pooled(fit, held)
    return factors.with_last(last), every.mean_y - last @ every.mean_x - bias


def refitted(fit: Moments, held: Moments, last: np.ndarray) -> np.ndarray:
    """Return the least-squares weights; the old ones unless the new ones are closer on held-out rows."""
    if not held.count:
        return last
    every = np.ones(last.shape[1], bool)
    offset = fit.mean_y - last @ fit.mean_x
    best, chosen = _ENOUGH * held.error(last, offset), None
    for strength in _STRENGTHS:
        tried = ridge(fit, last, every, strength)
        error = held.error(tried, fit.mean_y - tried @ fit.mean_x)
        if error < best:
            best, chosen = error, strength
    return last if chosen is None else ridge(pooled(fit, held), last, every, chosen)


Rows = tuple[np.ndarray, np.ndarray]


def _outputs_and_targets(layer: LinearLayer, pairs: Iterator[tuple[Arrays, Arrays]], batches: int) -> Iterator[Rows]:
    for number, (ours, theirs) in enumerate(pairs):
        seed = seed_of(layer, number)
        yield outputs_of(layer, ours[layer.y], batches, seed), outputs_of(layer, theirs[layer.y], batches, seed)


def _features_and_targets(
    layer: LinearLayer, factors: Factors, kernel: tuple[int, ...], pairs: Iterator[tuple[Arrays, Arrays]], batches: int
) -> Iterator[Rows]:
    limit = _MOST_PATCHES // batches + 1
    for number, (ours, theirs) in enumerate(pairs):
        rows, targets = layer.rows(ours[layer.x], theirs[layer.y], limit, seed_of(layer, number))
        yield factors.features(rows, kernel), targets


def moments_of(rows: Iterator[Rows]) -> tuple[Moments, Moments]:
    """Return the moments for the fit, and the held-out moments."""
    sums: tuple[Accumulator, Accumulator] | None = None
    for number, (features, targets) in enumerate(rows):
        if sums is None:
            size = features.shape[1], targets.shape[1]
            sums = Accumulator(*size), Accumulator(*size)
        sums[number % HELD_OUT == 1].add(features, targets)
    assert sums is not None
    return sums[0].moments(), sums[1].moments()
