"""A narrower student of the same graph with new weights, for distillation from scratch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import onnx_ir as ir
from pydantic import Field

from onnxopt.errors import UsageError, nearest
from onnxopt.graph.channels.find import ChannelGroup, channels_of
from onnxopt.pipeline import Applied, Context, Edit, Effect, Pass, Skip
from onnxopt.pruning.proof import cut_and_prove, proof_batches
from onnxopt.reconstruction.batches import rebatched
from onnxopt.reconstruction.fresh import reinitialize


@dataclass(frozen=True)
class NarrowStudent(Pass):
    """Make every layer narrower with new random weights: an untrained student for `distill`.

    Widths follow the channel groups of `prune-channels`; frozen groups keep theirs.

        Conv(64) - BatchNormalization - Conv(128)   ->   Conv(32) - BatchNormalization - Conv(64)

    Attributes:
        width: remaining share of the channels of every group; 1 = new weights only.
        round_to: channels are kept in multiples of this number, where a group has as many.
        exclude: names of nodes whose channels are not removed.
    """

    name: ClassVar[str] = "narrow-student"
    effect: ClassVar[Effect] = Effect.LOSSY

    width: Annotated[float, Field(gt=0, le=1)] = 0.5
    round_to: Annotated[int, Field(ge=1)] = 1
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Narrow `model` and draw new weights; skips name the groups of full width with reasons.

        Raises:
            UsageError: ONX102 `exclude` has an unknown name.
        """
        channels = channels_of(model)
        known = [node.name or "" for node in channels.model.graph]
        for name in self.exclude:
            if name not in known:
                raise UsageError("ONX102", "no node has this name", where=name, hint=nearest(name, known))
        skipped = [Skip(g.name, g.frozen) for g in channels.groups if g.frozen is not None]
        skipped += [Skip(name, "excluded") for name in self.exclude]
        counts = {g.name: self._kept(g) for g in channels.groups if g.frozen is None and not self._excluded(g)}
        sizes = {g.name: g.size for g in channels.groups}
        # The choice of channels does not matter: their weights are new.
        kept = {name: tuple(range(count)) for name, count in counts.items() if count < sizes[name]}
        narrow, edits = channels.model, list[Edit]()
        if kept:
            batches = proof_batches(channels, rebatched(model, context.calibration))
            proved = cut_and_prove(channels, kept, batches)
            skipped += [Skip(name, reason) for name, reason in proved.refused.items()]
            if proved.model is not None:
                narrow = proved.model
                edits = [Edit(n, f"{len(units)} of {sizes[n]} channels remain") for n, units in proved.kept.items()]
        if self.width < 1 and not edits:
            return Applied(model, (), (*skipped, Skip("graph", "no layer can be made narrower")))
        count = reinitialize(narrow, context.seed)
        if not count:
            return Applied(model, (), (*skipped, Skip("graph", "it has no layers with weights to draw")))
        edits.append(Edit("graph", f"new random values for {count} weights: train the model before use"))
        return Applied(narrow, tuple(edits), tuple(skipped))

    def _excluded(self, group: ChannelGroup) -> bool:
        return not {group.name, *group.sources}.isdisjoint(self.exclude)

    def _kept(self, group: ChannelGroup) -> int:
        count = max(1, round(self.width * group.size / self.round_to)) * self.round_to
        return min(count, group.size)
