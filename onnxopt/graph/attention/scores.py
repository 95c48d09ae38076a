"""The score side of attention: from a Softmax up to the product of queries and keys."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from onnxopt.graph.attention.moves import Probes, factor, moved, moves, same_shape, scalar
from onnxopt.graph.attention.product import Product, product_of
from onnxopt.graph.cost import Shape
from onnxopt.graph.probe import Probe

_NOTHING = -1e9
"""Largest value that may mask a score: in float32 the sum of a score and this value is this value."""
_DEEPEST = 24


class UnknownAttention(Exception):
    """Similar to an attention, but not a known form of one; the message is the reason."""


@dataclass(frozen=True)
class Mask:
    """A value that is added to scores, or a condition that selects scores.

    Attributes:
        place: the masked scores, whose layout the mask has.
        kind: `add`; or a condition for scores to `keep` or to `drop`.
        fill: replaces dropped scores.
        shapes: shape of `value`, per probe; empty where unknown.
    """

    value: ir.Value
    place: ir.Value
    kind: Literal["add", "keep", "drop"] = "add"
    fill: float = 0.0
    shapes: tuple[Shape, ...] = ()

    @property
    def by_key(self) -> bool:
        """Return whether the mask is the same for all queries."""
        return all(len(shape) < 2 or shape[-2] == 1 for shape in self.shapes)


@dataclass(frozen=True)
class AttentionScores:
    """The input of a Softmax: a product, scaled and masked.

    Attributes:
        product: its rows are queries, its columns keys.
        path: values from the result of the product to the input of the Softmax.
    """

    product: Product
    scale: float
    masks: tuple[Mask, ...]
    path: tuple[ir.Value, ...]


def attention_scores(value: ir.Value, probes: Probes) -> AttentionScores:
    """Return the product, scale and masks of the scores that a Softmax over the last axis reads.

    Raises:
        UnknownAttention: the scores are not such a product, or have an unknown layout.
    """
    found = _climbed(value, probes, _DEEPEST)
    if found is None:
        raise UnknownAttention("its scores are not a scaled and masked product of queries and keys")
    for product in (found.product, found.product.swapped()):
        if all(_in_order(replace(found, product=product), probe) for probe in probes):
            return replace(found, product=product)
    raise UnknownAttention("its scores are not in the order of queries and keys")


def batch_of(product: Product, probe: Probe) -> tuple[Shape, int, int]:
    """Return the shape of a product's batch, its rows and its columns."""
    inputs = [product.node.inputs[slot] for slot in product.slots]
    left, right = (probe.shapes[value.name or ""] for value in inputs if value is not None)
    return product.sizes(left, right)


def check_masks(scores: AttentionScores, heads: int, probes: Probes) -> None:
    """Check that the axes of masks are batch, head, query and key, as far as they have them.

    Raises:
        UnknownAttention: a mask has other axes.
    """
    for mask in scores.masks:
        places = [probe.shapes.get(mask.place.name or "") for probe in probes]
        if len(mask.shapes) < len(probes):
            raise UnknownAttention("the shape of its mask is unknown")
        for shape, place in zip(mask.shapes, places, strict=True):
            if place is None:
                raise UnknownAttention("the shape of its mask is unknown")
            if shape[-1:] != place[-1:]:
                raise UnknownAttention("its mask is the same for all keys")
            by_head = len(place) == 4 and place[1] == heads
            if len(shape) > 4 or (not by_head and any(size > 1 for size in shape[:-2])):
                raise UnknownAttention("its mask has batch and heads in one axis")


def _climbed(value: ir.Value, probes: Probes, depth: int) -> AttentionScores | None:
    node = value.producer()
    if node is None or not depth:
        return None
    if node.op_type in ("MatMul", "Einsum"):
        return _start(node, value, probes)
    multiplied = factor(node, probes)
    if multiplied is not None:
        found = _climbed(multiplied[0], probes, depth - 1)
        if found is not None and found.masks and multiplied[1] != 1.0:
            raise UnknownAttention("its scores are scaled after they are masked")
        return found and replace(found, scale=found.scale * multiplied[1], path=(*found.path, value))
    first = node.inputs[0]
    if moves(node) and first is not None:
        found = _climbed(first, probes, depth - 1)
        return found and replace(found, path=(*found.path, value))
    return _masked(node, value, probes, depth) if not node.domain else None


def _start(node: ir.Node, value: ir.Value, probes: Probes) -> AttentionScores | None:
    shapes = [probes[0].shapes.get(v.name or "") for v in node.inputs if v is not None]
    if any(v is None or v.const_value is not None for v in node.inputs) or any(shape is None for shape in shapes):
        return None
    product = product_of(node, tuple(len(shape) for shape in shapes if shape is not None))
    return AttentionScores(product, 1.0, (), (value,)) if product is not None else None


def _masked(node: ir.Node, value: ir.Value, probes: Probes, depth: int) -> AttentionScores | None:
    for slot, other in {"Add": ((0, 1), (1, 0)), "Where": ((1, 2), (2, 1))}.get(node.op_type, ()):
        source, given = node.inputs[slot], node.inputs[other]
        if source is None or given is None or not same_shape(source, value, probes):
            continue
        mask = Mask(given, value)
        if node.op_type == "Where":
            fill, condition = scalar(given, probes), node.inputs[0]
            if fill is None or fill > _NOTHING or condition is None:
                continue
            mask = Mask(condition, value, "keep" if slot == 1 else "drop", fill)
        found = _climbed(source, probes, depth - 1)
        if found is not None:
            shapes = tuple(p.shapes[mask.value.name or ""] for p in probes if (mask.value.name or "") in p.shapes)
            masks = (*found.masks, replace(mask, shapes=shapes))
            return replace(found, masks=masks, path=(*found.path, value))
    return None


def _in_order(scores: AttentionScores, probe: Probe) -> bool:
    """Return whether scores lie by batch, query and key wherever they are masked, and where the Softmax reads them."""
    array = scores.product.numbered(*batch_of(scores.product, probe))
    places = {mask.place for mask in scores.masks} | {scores.path[-1]}
    for value in scores.path:
        node = value.producer()
        if value is not scores.path[0] and moves(node):
            after = moved(value, array, probe)
            if after is None:
                return False
            array = after
        if value in places and not np.array_equal(array.reshape(-1), np.arange(array.size)):
            return False
    return True
