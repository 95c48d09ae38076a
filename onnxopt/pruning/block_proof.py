"""Proof of a block removal: the original with masked blocks gives the same outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from onnxopt.errors import OnnxoptError
from onnxopt.graph.blocks.cut import gated, without_blocks
from onnxopt.graph.blocks.find import Block
from onnxopt.graph.probe import fed_shapes, two_probes
from onnxopt.measure.equivalence import largest_difference, runnable
from onnxopt.model_file import probe_feeds, signature_of
from onnxopt.samples import Feeds

PROVED_RELATIVE = 1e-4
"""Largest difference between the smaller model and the original whose blocks are multiplied by zero."""


@dataclass(frozen=True)
class BlockProof:
    """A smaller model.

    Attributes:
        removed: the blocks it lacks; none where nothing could be proved.
        difference: largest, relative to each output's largest magnitude.
        refused: reasons why others stay, by name.
    """

    model: ir.Model
    removed: tuple[Block, ...] = ()
    difference: float = 0.0
    refused: tuple[tuple[str, str], ...] = ()


def made_up_inputs(model: ir.Model) -> list[Feeds]:
    """Return made-up inputs that the model runs on: at two choices of its dynamic sizes, and one sample."""
    signature = signature_of(model)
    first, second = (probe.fed for probe in two_probes(model))
    batches = list[Feeds]()
    for seed, fed in enumerate((first, second, fed_shapes(model, 1, 3))):
        specs = tuple(replace(spec, shape=fed.get(spec.name, spec.shape)) for spec in signature.inputs)
        batches.append(probe_feeds(replace(signature, inputs=specs), seed=seed))
    return runnable(model, signature, batches)


def cut_and_prove(model: ir.Model, blocks: Sequence[Block], batches: Sequence[Feeds]) -> BlockProof:
    """Return the model without `blocks`; where that cannot be proved, without those of them for which it can."""
    first = _attempt(model, blocks, batches)
    if isinstance(first, BlockProof):
        return first
    if len(blocks) == 1:
        return BlockProof(model, refused=((blocks[0].name, first),))
    best, refused = BlockProof(model), list[tuple[str, str]]()
    for block in blocks:
        result = _attempt(model, (*best.removed, block), batches)
        if isinstance(result, BlockProof):
            best = result
        else:
            refused.append((block.name, result))
    return replace(best, refused=tuple(refused))


def _attempt(model: ir.Model, blocks: Sequence[Block], batches: Sequence[Feeds]) -> BlockProof | str:
    """Return the smaller model, or why it is not to be trusted."""
    try:
        smaller = without_blocks(model, blocks)
        difference = largest_difference(gated(model, blocks, closed=True), smaller, batches)
    except OnnxoptError as error:
        return f"not removed: {error.why or error.what}".replace("\n", " ")
    if not difference <= PROVED_RELATIVE:
        return f"not removed: the outputs differ from those with a block of zeros by {difference:.1e}"
    return BlockProof(smaller, tuple(blocks), difference)
