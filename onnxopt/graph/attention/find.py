"""Recognition of attention by its computation, independent of the exporter's nodes."""

from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from onnxopt.graph.attention.layout import HeadLayout, HeadOperand, operand_of
from onnxopt.graph.attention.moves import Probes
from onnxopt.graph.attention.product import Product
from onnxopt.graph.attention.result import ResultTarget, is_weighing, targets_of, weighted_by
from onnxopt.graph.attention.scores import Mask, UnknownAttention, attention_scores, batch_of, check_masks
from onnxopt.graph.probe import two_probes

__all__ = ["Attention", "AttentionParts", "attentions"]


@dataclass(frozen=True)
class AttentionParts:
    """Queries, keys and values in matching layouts, the scale of the scores, and the value to replace."""

    query: HeadLayout
    key: HeadLayout
    value: HeadLayout
    scale: float
    target: ResultTarget


@dataclass(frozen=True)
class Attention:
    """softmax(scale Q K^T + masks) V, after Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Attributes:
        name: name of the Softmax.
        weighing: node that multiplies weights and values.
        scale: factor of the scores, beside the factors of queries and keys.
        cleared: whether queries that see no key give 0, not NaN.
        heads: number of query heads; several may share one head of keys and values.
        queries: number of queries, per probe.
        keys: number of keys, per probe.
        float32: whether all of it is computed in float32.
    """

    name: str
    weighing: ir.Node
    query: HeadOperand
    key: HeadOperand
    value: HeadOperand
    scale: float
    masks: tuple[Mask, ...]
    cleared: bool
    heads: int
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    targets: tuple[ResultTarget, ...]
    float32: bool

    def parts(self, *, apart: bool) -> AttentionParts | None:
        """Return inputs and result as (batch, time, width), or with the heads apart; None without such values.

        With heads apart, some of the inputs may still hold the heads together and must be split first.
        """
        target = next((each for each in self.targets if each.apart == apart), None)
        chosen = [self._layout(operand, apart) for operand in (self.query, self.key, self.value)]
        query, key, value = chosen
        if target is None or query is None or key is None or value is None:
            return None
        if query.reading.own != self.heads or key.reading.own != value.reading.own:
            return None
        return AttentionParts(query, key, value, self.scale * query.factor * key.factor, target)

    def _layout(self, operand: HeadOperand, apart: bool) -> HeadLayout | None:
        found = operand.best(apart=apart, heads=self.heads)
        return found if found is not None or not apart else operand.best(apart=False, heads=self.heads)


def attentions(model: ir.Model) -> tuple[list[Attention], dict[str, str]]:
    """Return the attentions of the main graph; by name of the Softmax, the reasons why similar nodes are none.

    Args:
        model: a model with unique node names, whose constants are initializers.
    """
    weighing = [n for n in model.graph if n.op_type == "Softmax" and not n.domain and is_weighing(n)]
    found, refused = list[Attention](), dict[str, str]()
    probes = two_probes(model) if weighing else None
    for node in weighing:
        assert probes is not None
        try:
            found.append(_read(node, probes))
        except UnknownAttention as unknown:
            refused[node.name or ""] = str(unknown)
    return found, refused


def _read(softmax: ir.Node, probes: Probes) -> Attention:
    read = softmax.inputs[0]
    shapes = [probe.shapes.get(read.name or "") if read is not None else None for probe in probes]
    axis = softmax.attributes.get_int("axis", -1)
    if read is None or shapes[0] is None or shapes[1] is None:
        raise UnknownAttention("the shape of its scores is unknown")
    if axis not in (-1, len(shapes[0]) - 1):
        raise UnknownAttention("it is not over the last axis")
    scores, weighted = attention_scores(read, probes), weighted_by(softmax, probes)
    first, second = scores.product, weighted.product
    sizes = [batch_of(first, probe) for probe in probes]
    batches = [size[0] for size in sizes]
    query = operand_of(_input(first, 0), first.laid_left, batches, probes)
    key = operand_of(_input(first, 1), lambda array: first.laid_right(array).swapaxes(-1, -2), batches, probes)
    others = [batch_of(second, probe)[0] for probe in probes]
    value = operand_of(_input(second, 1), second.laid_right, others, probes, scaled=False)
    kinds = {probes[0].dtypes.get(v.name or "") for v in (read, _input(second, 1))}
    numbers = [{layout.reading.heads for layout in operand.layouts} for operand in (query, key, value)]
    read_as = [
        Attention(
            softmax.name or "",
            second.node,
            query,
            key,
            value,
            scores.scale,
            scores.masks,
            weighted.cleared,
            heads,
            tuple(size[1] for size in sizes),
            tuple(size[2] for size in sizes),
            targets_of(second, heads, probes),
            kinds == {int(ir.DataType.FLOAT)},
        )
        # Heads that are part of the batch can also be read as a batch of single heads.
        for heads in sorted(set.intersection(*numbers), reverse=True)
        if not any(prod(batch) % heads for batch in (*batches, *others))
    ]
    usable = [one for apart in (False, True) for one in read_as if one.parts(apart=apart) is not None]
    if not usable:
        raise UnknownAttention("the layout of its heads is unknown")
    check_masks(scores, usable[0].heads, probes)
    return usable[0]


def _input(product: Product, side: int) -> ir.Value:
    value = product.node.inputs[product.slots[side]]
    assert value is not None
    return value
