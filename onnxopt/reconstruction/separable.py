"""Convolutions as sums of depthwise-separable ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from onnxopt.measure.runtime.activations import Arrays
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.measure.runtime.replay import Replay, live_values
from onnxopt.reconstruction.layers import LinearLayer, bias_of, write_layer
from onnxopt.reconstruction.low_rank.fit import moments_of, refitted
from onnxopt.reconstruction.low_rank.layer_statistics import batches_of, seed_of, weight_of
from onnxopt.reconstruction.low_rank.spectrum import pooled
from onnxopt.samples import Samples

_MOST_PATCHES = 16384


@dataclass(frozen=True)
class Separable:
    """Several kernels per input channel, and the weights that mix their outputs.

    Attributes:
        kernels: shape (inputs, terms, *kernel).
        mix: shape (outputs, inputs * terms).
    """

    kernels: np.ndarray
    mix: np.ndarray

    def weight(self) -> np.ndarray:
        """Return the equivalent single weight, shape (outputs, inputs, *kernel)."""
        inputs, terms, *kernel = self.kernels.shape
        mix = self.mix.reshape(-1, inputs, terms)
        product = np.einsum("oit,itk->oik", mix, self.kernels.reshape(inputs, terms, -1))
        return np.asarray(product.reshape(-1, inputs, *kernel))

    def depthwise(self) -> np.ndarray:
        """Return the weight of the convolution with one group per input, shape (inputs * terms, 1, *kernel)."""
        inputs, terms, *kernel = self.kernels.shape
        return self.kernels.reshape(inputs * terms, 1, *kernel)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return the mixed values, shape (rows, inputs * terms), of patches (rows, inputs * kernel positions)."""
        inputs, terms = self.kernels.shape[:2]
        kernels = self.kernels.reshape(inputs, terms, -1).astype(rows.dtype)
        found = np.einsum("rik,itk->rit", rows.reshape(len(rows), inputs, -1), kernels)
        return np.asarray(found.reshape(len(rows), -1))


def separated(weight: np.ndarray, terms: int) -> Separable:
    """Return the sum of `terms` depthwise-separable convolutions that is closest to a weight.

    Guo et al., "Network Decoupling: From Regular to Depthwise Separable Convolutions", BMVC 2018: the terms are
    singular vectors of each input channel's weights to all outputs. With as many terms as kernel positions the sum is
    the weight itself.

    Args:
        weight: shape (outputs, inputs, *kernel).
        terms: terms per input channel.
    """
    outputs, inputs, *kernel = weight.shape
    slices = np.moveaxis(weight.reshape(outputs, inputs, -1), 1, 0)
    raise_if_interrupted()
    left, values, right = np.linalg.svd(slices, full_matrices=False)
    mix = np.moveaxis(left[:, :, :terms] * values[:, None, :terms], 0, 1).reshape(outputs, -1)
    return Separable(right[:, :terms].reshape(inputs, -1, *kernel), mix)


def most_terms(shape: tuple[int, ...]) -> int:
    """Return the number of terms that can represent any weight of `shape`."""
    return min(prod(shape[2:]), shape[0])


def separable_macs_share(terms: int, shape: tuple[int, ...]) -> float:
    """Return the multiply-accumulates of `terms` terms as a share of those of a dense weight of `shape`."""
    size = prod(shape[2:])
    return terms * (1 / shape[0] + 1 / size)


def separate(
    original: ir.Model, layers: Mapping[str, LinearLayer], terms: Mapping[str, int], samples: Samples | None
) -> tuple[ir.Model, dict[str, Separable]]:
    """Return `original` with the weights of sums of separable convolutions, and these sums, by node.

    With samples, the mixing weights and the bias of each layer are fitted in turn by least squares: from activations of
    the model changed so far, to outputs of the original's layer. A fit is kept if it helps on held-out batches.

    Args:
        original: the original model (not modified); with samples every layer has a bias.
        layers: layers of `original`, by node, in graph order.
        terms: terms of the layers to change.
        samples: calibration samples; None takes the nearest weights.
    """
    result, found = original.clone(), dict[str, Separable]()
    replays = (Replay(samples), Replay(samples)) if samples is not None else None
    places = {node.name: number for number, node in enumerate(original.graph)}
    for name, layer in layers.items():
        if name not in terms:
            continue
        weight = weight_of(original, layer)
        sums, offset = separated(weight, terms[name]), np.zeros(len(weight))
        if replays is not None and samples is not None:
            keep, values = live_values(original, places[name]), [layer.x, layer.y]
            pairs = zip(replays[0].of(result, values, keep), replays[1].of(original, values, keep), strict=True)
            fit, held = moments_of(_rows(layer, sums, pairs, batches_of(samples)))
            sums = Separable(sums.kernels, refitted(fit, held, sums.mix))
            every = pooled(fit, held)
            offset = every.mean_y - sums.mix @ every.mean_x - bias_of(original, layer, len(weight))
        write_layer(result, layer, sums.weight().reshape(len(weight), -1), offset)
        found[name] = sums
    return result, found


def _rows(
    layer: LinearLayer, sums: Separable, pairs: Iterator[tuple[Arrays, Arrays]], batches: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for number, (ours, theirs) in enumerate(pairs):
        limit = _MOST_PATCHES // batches + 1
        rows, targets = layer.rows(ours[layer.x], theirs[layer.y], limit, seed_of(layer, number))
        yield sums.features(rows), targets
