"""Depth pruning: removal of residual blocks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, ClassVar, Literal
from zlib import crc32

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxopt.document import units
from onnxopt.errors import OnnxoptError, UsageError, nearest
from onnxopt.graph.blocks.find import Block, blocks_of
from onnxopt.graph.edit import name_nodes
from onnxopt.measure.equivalence import runnable
from onnxopt.measure.output_error import OutputError
from onnxopt.model_file import signature_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.pruning.block_fit import Method, fit_maps
from onnxopt.pruning.block_loss import BlockLoss, known_losses, least_important
from onnxopt.pruning.block_proof import BlockProof, cut_and_prove, made_up_inputs
from onnxopt.samples import Feeds, Samples

_DEFAULT_RATIO = 0.25


@dataclass(frozen=True)
class PruneBlocks(Pass):
    """Remove the least important residual blocks; a proof checks that nothing else changed.

    The skip connection of a block remains, or with `compensate` a linear map of it. Blocks are removed one by one, and
    after each the others are measured again.

        x - Conv - Relu - Conv - Add(x) - Relu   ->   x - Relu

    Attributes:
        ratio: share of the removable blocks to remove.
        count: number of blocks to remove, instead of `ratio`; nested blocks count too.
        importance: `fidelity` = error of the outputs without the block, on calibration samples or synthetic inputs;
            `magnitude` = RMS of its weights; `random` = random order, for comparison.
        layers: whether single layers with equal input and output shapes are removable too.
        samples: largest number of calibration samples.
        compensate: linear map of the skip connection in the place of a block, fitted by least squares on calibration
            samples and kept if it is closer on samples held out: `ls` = each channel from all, `affine` = a factor and
            an offset per channel, `none` = no map.
        exclude: names of blocks or nodes to keep.
    """

    name: ClassVar[str] = "prune-blocks"
    effect: ClassVar[Effect] = Effect.LOSSY

    ratio: Annotated[float, Field(ge=0, le=1)] = _DEFAULT_RATIO
    count: Annotated[int, Field(ge=0)] | None = None
    importance: Literal["fidelity", "magnitude", "random"] = "fidelity"
    layers: bool = False
    samples: Annotated[int, Field(ge=1)] = 128
    compensate: Method = "ls"
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the combination of options.

        Raises:
            UsageError: ONX109 `count` and `ratio` are both given.
        """
        if self.count is not None and self.ratio != _DEFAULT_RATIO:
            why = "count and ratio are both given"
            raise UsageError(
                "ONX109", "options of pass prune-blocks contradict each other", why=why, hint="Leave one out."
            )

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Remove blocks; skips name the others with the cost of their removal.

        Raises:
            UsageError: ONX101 `count` exceeds the number of blocks, ONX102 `exclude` has an unknown name.
        """
        named = model.clone()
        name_nodes(named)
        found, fixed = blocks_of(named, layers=self.layers)
        skipped = [Skip(f.target, f.reason) for f in fixed]
        blocks, excluded = self._allowed(named, found)
        skipped += [Skip(b.name, "excluded by name") for b in excluded]
        if not blocks:
            return Applied(model, (), (*skipped, Skip("graph", "it has no removable block")))
        number = self._number(len(blocks))
        if not number:
            return Applied(model, (), (*skipped, Skip("graph", f"the ratio is less than one of {len(blocks)} blocks")))
        invented = made_up_inputs(named)
        samples = _that_run(named, context.calibration.take(self.samples)) if context.calibration else None
        batches: Samples | list[Feeds] = invented if samples is None else samples
        if not batches:
            return Applied(
                model, (), (*skipped, Skip("graph", "it does not run on synthetic inputs, which the proof needs"))
            )
        try:
            loss = BlockLoss(named, blocks, known=known_losses(context, named, samples))
            losses = loss.of_each(blocks, batches)
        except OnnxoptError as error:
            return Applied(
                model, (), (*skipped, Skip("graph", f"the losses cannot be measured: {error.why or error.what}"))
            )
        scores = self._scores(named, blocks, losses, context.seed)
        chosen = least_important(blocks, number, scores, loss if self.importance == "fidelity" else None, batches)
        proved = cut_and_prove(named, chosen, [*invented, *islice(batches, 1)])
        gone = {b.name for b in blocks if any(b is r or r.holds(b) for r in proved.removed)}
        skipped += [Skip(name, reason) for name, reason in proved.refused]
        skipped += [Skip(b.name, _would(losses[b.name])) for b in blocks if b.name not in gone and b not in chosen]
        if not proved.removed:
            return Applied(model, (), tuple(skipped))
        edits = [Edit(b.name, f"{_described(b, blocks)}; alone {_would(losses[b.name])}") for b in proved.removed]
        (together,) = loss.of([[b.name for b in proved.removed]], batches)
        basis = "synthetic inputs (give samples)" if samples is None else f"{len(samples)} calibration samples"
        note = f"{len(gone)} of {len(blocks)} blocks removed; the outputs change by {100 * together:.1f} % on {basis}"
        edits.append(Edit("graph", note))
        result, how = proved.model, list[Skip]()
        if samples is not None and self.compensate != "none":
            result, more, how = self._compensated(named, proved, samples)
            edits += more
        return Applied(result, tuple(edits), (*skipped, *how), proved.difference)

    def _compensated(
        self, model: ir.Model, proved: BlockProof, samples: Samples
    ) -> tuple[ir.Model, list[Edit], list[Skip]]:
        """Return the model with linear maps in the place of blocks, if its outputs are closer, and what was done."""
        try:
            fitted = fit_maps(model, proved.removed, samples, self.compensate)
            error = OutputError(model, samples)
            before, after = error.of(proved.model), error.of(fitted.model)
        except OnnxoptError as failure:
            return proved.model, [], [Skip("graph", f"no linear maps: {failure.why or failure.what}")]
        left = [Skip(name, f"no linear map in its place: {why}") for name, why in fitted.plain.items()]
        if not fitted.errors:
            return proved.model, [], left
        if not after < before:
            why = "linear maps in the place of the blocks do not bring the outputs closer"
            return proved.model, [], [*left, Skip("graph", why)]
        edits = [
            Edit(name, f"linear map in its place: {units.share(e)} of its error on samples held out remain")
            for name, e in fitted.errors.items()
        ]
        edits.append(
            Edit("graph", f"linear maps: {units.share(after / before)} of the squared error of outputs remain")
        )
        return fitted.model, edits, left

    def _allowed(self, model: ir.Model, blocks: list[Block]) -> tuple[list[Block], list[Block]]:
        known = {b.name for b in blocks} | {n.name or "" for n in model.graph}
        for name in self.exclude:
            if name not in known:
                raise UsageError("ONX102", "no block or node has this name", where=name, hint=nearest(name, known))
        # A block around one that is excluded would take it along.
        stay = {*self.exclude, *(node for b in blocks if b.name in self.exclude for node in b.nodes)}
        excluded = [b for b in blocks if b.name in stay or not stay.isdisjoint(b.nodes)]
        return [b for b in blocks if b not in excluded], excluded

    def _number(self, blocks: int) -> int:
        if self.count is None:
            return round(self.ratio * blocks)
        if self.count > blocks:
            raise UsageError(
                "ONX101",
                "count exceeds the number of removable blocks",
                where="prune-blocks",
                why=f"{self.count} of {blocks}",
                hint="Reduce count, or exclude fewer blocks.",
            )
        return self.count

    def _scores(
        self, model: ir.Model, blocks: list[Block], losses: Mapping[str, float], seed: int
    ) -> Mapping[str, float]:
        match self.importance:
            case "magnitude":
                return {b.name: _magnitude(model, b) for b in blocks}
            case "random":
                # A separate stream for each block: leaving one out does not change the others.
                streams = {b.name: (seed % 2**32, crc32(b.name.encode())) for b in blocks}
                return {name: np.random.default_rng(stream).random() for name, stream in streams.items()}
        return losses


def _magnitude(model: ir.Model, block: Block) -> float:
    nodes = [node for node in model.graph if node.name in block.layers]
    tensors = [v.const_value for n in nodes for v in n.inputs if v is not None and v.const_value is not None]
    squares = [np.square(t.numpy().astype(np.float64)).ravel() for t in tensors if len(t.shape) > 1]
    return float(np.sqrt(np.concatenate(squares).mean())) if squares else 0.0


def _that_run(model: ir.Model, samples: Samples) -> Samples:
    """Return the samples one at a time where the model declares a dynamic batch but runs at batch size 1 only."""
    first = list(islice(samples, 1))
    return samples if runnable(model, signature_of(model), first) else samples.with_batch_size(1)


def _described(block: Block, blocks: Sequence[Block]) -> str:
    inside = sum(block.holds(b) for b in blocks)
    others = f", {inside} blocks inside" if inside > 1 else ", 1 block inside" if inside else ""
    nodes = f"{len(block.nodes)} nodes" if len(block.nodes) > 1 else "1 node"
    return f"{block.kind}: {nodes}, {block.parameters:,} parameters{others}"


def _would(loss: float) -> str:
    return f"would change the outputs by {100 * loss:.1f} %"
