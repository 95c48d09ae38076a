"""A smaller student of the same graph, to be taught from scratch."""

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
    """Make every layer narrower and forget what it knew: a student for `distill`, useless until it is taught.

    Widths follow the channel groups of `prune-channels`; groups that cannot be cut keep theirs. Weights are drawn anew.

        Conv(64) - BatchNormalization - Conv(128)   ->   Conv(32) - BatchNormalization - Conv(64)

    Attributes:
        width: share of the channels that remain in every group; 1 draws new weights only.
        round_to: channels are kept in multiples of it, where a group has as many.
        exclude: names of nodes whose channels all stay.
    """

    name: ClassVar[str] = "narrow-student"
    effect: ClassVar[Effect] = Effect.LOSSY

    width: Annotated[float, Field(gt=0, le=1)] = 0.5
    round_to: Annotated[int, Field(ge=1)] = 1
    exclude: tuple[str, ...] = ()

    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Narrow `model` and draw new weights; says which groups kept their width and why.

        Raises:
            UsageError: ONX102 an excluded name is none of the model's.
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
        # Which channels stay does not matter: they are drawn anew.
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
            return Applied(model, (), (*skipped, Skip("graph", "no layer could be made narrower")))
        count = reinitialize(narrow, context.seed)
        if not count:
            return Applied(model, (), (*skipped, Skip("graph", "it has no layers whose weights could be drawn anew")))
        edits.append(Edit("graph", f"{count} weights were drawn anew: teach it before use"))
        return Applied(narrow, tuple(edits), tuple(skipped))

    def _excluded(self, group: ChannelGroup) -> bool:
        return not {group.name, *group.sources}.isdisjoint(self.exclude)

    def _kept(self, group: ChannelGroup) -> int:
        count = max(1, round(self.width * group.size / self.round_to)) * self.round_to
        return min(count, group.size)
