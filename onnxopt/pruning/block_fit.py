"""Linear maps fitted in the place of removed blocks, one after the other, on the activations of the smaller model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

import numpy as np
import onnx_ir as ir

from onnxopt.graph.blocks.cut import gated, without_blocks
from onnxopt.graph.blocks.find import Block
from onnxopt.graph.blocks.linear_map import LinearMap, Site, site_of, with_maps
from onnxopt.measure.output_error import relative_power
from onnxopt.measure.runtime.activations import Activations
from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.pruning.observe import HELD_OUT, LARGEST, most_rows
from onnxopt.reconstruction.fit import STRENGTHS
from onnxopt.reconstruction.least_squares import ridge
from onnxopt.reconstruction.moments import Accumulator, Moments
from onnxopt.samples import Samples

Method = Literal["ls", "affine", "none"]
"""Kinds of maps: all channels to all, one factor and offset per channel, none."""


@dataclass
class FittedBlocks:
    """A model with linear maps in the place of blocks.

    Attributes:
        model: the smaller model.
        errors: error of each map on samples held out, as a share of the error without it, by block.
        plain: the reason of each block that got no map, by name.
    """

    model: ir.Model
    errors: dict[str, float] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)


def fit_maps(model: ir.Model, removed: Sequence[Block], samples: Samples, method: Method) -> FittedBlocks:
    """Return `model` without the blocks, each replaced by the map of its skip connection to the original's sum.

    The maps are fitted in graph order, on what the smaller model gives so far, and kept where they lower the error on
    samples held out: Shopkhoev et al., "ReplaceMe" (2025), for transformers; Wang and Wu, "Practical Network
    Acceleration with Tiny Sets" (CVPR 2023), for convolutions.

    Args:
        model: the original, with named nodes (not modified).
        removed: blocks of it.
        samples: calibration samples; one batch in five is held out.
        method: the kind of map.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load a part of the model.
        NativeError: ONX401 a run failed.
    """
    result, maps, plain = FittedBlocks(model), list[tuple[Site, LinearMap]](), list[Block]()
    outer = [b for b in removed if not any(other.holds(b) for other in removed)]
    places = {v.name: place for place, node in enumerate(model.graph) for v in node.outputs}
    for block in sorted(outer, key=lambda b: places[b.end]):
        raise_if_interrupted()
        site = site_of(model, block)
        current = gated(with_maps(model, maps), plain, closed=True)
        seen = "the block is no operand of a sum of two" if site is None else _seen(model, current, site, samples)
        found = seen if isinstance(seen, str) else _best(*seen, method)
        if isinstance(found, str) or site is None:
            result.plain[block.name] = str(found)
            plain.append(block)
        else:
            linear, result.errors[block.name] = found
            maps.append((site, linear))
    result.model = without_blocks(with_maps(model, maps), plain)
    return result


def _seen(model: ir.Model, current: ir.Model, site: Site, samples: Samples) -> tuple[Moments, Moments, int] | str:
    """Return the moments of the skip connection now and the sum before, of the fit and held out, and their rank."""
    sums, rank = list[Accumulator](), 0
    batches = max(len(samples) // max(samples.batch_size, 1), 1)
    pairs = zip(
        Activations(current, [site.source]).of(samples), Activations(model, [site.total]).of(samples), strict=True
    )
    for number, (now, then) in enumerate(pairs):
        x, y = (np.moveaxis(a, site.axis, -1) for a in (now[site.source], then[site.total]))
        if x.shape != y.shape or x.ndim < 2:
            return "its skip connection has another shape than the sum"
        size, rank = x.shape[-1], x.ndim
        if size > LARGEST:
            return f"{size} channels are too many to fit"
        x, y = x.reshape(-1, size), y.reshape(-1, size)
        limit = most_rows(size, batches)
        if len(x) > limit:
            luck = np.random.default_rng(crc32(f"{site.block}/{number}".encode()))
            chosen = np.sort(luck.choice(len(x), limit, replace=False))
            x, y = x[chosen], y[chosen]
        sums = sums or [Accumulator(size, size), Accumulator(size, size)]
        sums[number % HELD_OUT == 1].add(x, y)
    fit, held_out = (one.moments() for one in sums)
    return (fit, held_out, rank) if fit.count else "its activations are not finite"


def _best(fit: Moments, held_out: Moments, rank: int, method: Method) -> tuple[LinearMap, float] | str:
    """Return the map of the least error on the samples held out, and that error as a share of the error without it."""
    judge, identity = held_out if held_out.count else fit, np.eye(len(fit.mean_x))

    def error(weight: np.ndarray, offset: np.ndarray) -> float:
        return relative_power(judge.error(weight, offset), float(judge.yy.sum()))

    before = least = error(identity, np.zeros(len(identity)))
    best: LinearMap | None = None
    for strength in STRENGTHS:
        every = np.ones(len(identity), bool)
        weight = ridge(fit, identity, every, strength) if method == "ls" else _scales(fit, strength)
        offset = fit.mean_y - weight @ fit.mean_x
        after = error(weight, offset)
        if after < least:
            best, least = LinearMap(weight if method == "ls" else weight.diagonal(), offset, rank), after
    return "no linear map is closer on samples held out" if best is None else (best, least / before)


def _scales(fit: Moments, strength: float) -> np.ndarray:
    """Return the least-squares factor of each channel on the diagonal; the ridge pulls towards one."""
    own, with_target = fit.xx.diagonal(), fit.xy.diagonal()
    damping = max(strength * float(own.mean()), 1e-12)
    return np.diag((with_target + damping) / (own + damping))
