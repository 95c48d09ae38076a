"""The options of structured pruning."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from pydantic import Field

from onnxopt.errors import UsageError
from onnxopt.graph.channels.trace import Unit
from onnxopt.options.search import Protect
from onnxopt.reconstruction.fit import Method
from onnxopt.samples import Samples

Importance = Literal[
    "auto",
    "obs",
    "l1",
    "l2",
    "linf",
    "geometric-median",
    "bn-scale",
    "act-mean",
    "act-var",
    "taylor",
    "fisher",
    "random",
]
Scope = Literal["auto", "local", "global"]
Normalize = Literal["measured", "share", "lamp"]
NEEDS_SAMPLES = ("obs", "act-mean", "act-var", "taylor", "fisher")


@dataclass(frozen=True)
class Request:
    """A request for structured pruning; also the options of `prune-channels`.

    Attributes:
        ratio: share of the channels to remove, per group, or in total with `scope=global`.
        macs: remaining share of the MACs; replaces `ratio`.
        latency: remaining share of the median latency, measured on this machine; replaces `ratio` and `macs`.
        importance: score per channel; `auto` = `obs` with samples, `l1` without. `obs` = error of the readers of a
            channel after compensation (optimal brain surgeon); `taylor` and `fisher` need torch.
        scope: `local` = the same share of every group, `global` = more from less sensitive groups, `auto` = `global`
            with samples, `macs` or `latency`, else `local`.
        normalize: comparison of groups in a global choice: `measured` = output error by pruned share (needs samples),
            `share` = importance relative to the group's total, `lamp` = LAMP scores.
        compensate: refit of the readers of removed channels (needs samples): `ls` = all weights by least squares,
            `affine` = scale and offset per output, `bias` = offset only, `none`.
        round_to: channels are kept in multiples of this number; `auto` is the width of the target's registers.
        exclude: names of nodes whose channels are not removed.
        protect: layers whose channels are not removed; by default the first and last layer and embeddings, unless a
            global choice has measured their sensitivity.
        ratios: `NODE:RATIO` for layers with their own ratio.
    """

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    macs: Annotated[float, Field(gt=0, le=1)] | None = None
    latency: Annotated[float, Field(gt=0, le=1)] | None = None
    importance: Importance = "auto"
    scope: Scope = "auto"
    normalize: Normalize = "measured"
    compensate: Method = "ls"
    round_to: Literal["auto", 1, 2, 4, 8, 16, 32, 64] = "auto"
    exclude: tuple[str, ...] = ()
    protect: tuple[Protect, ...] | None = None
    ratios: tuple[str, ...] = ()

    @property
    def units(self) -> tuple[Unit, ...]:
        """Kinds of units to remove; () for all kinds."""
        return ()

    @property
    def measured(self) -> bool:
        """Whether groups are compared by the output error of removing some of each; a local choice compares none."""
        return self.normalize == "measured" and self.scope == "global"

    def settled(self, samples: Samples | None) -> Self:
        """Return the request with all that depends on whether there are samples decided."""
        goal = self.macs is not None or self.latency is not None
        scope = self.scope if self.scope != "auto" else "global" if samples is not None or goal else "local"
        importance = self.importance if self.importance != "auto" else "obs" if samples is not None else "l1"
        if samples is None and importance in NEEDS_SAMPLES:
            hint = "Give some with --data, or choose importance=l1."
            raise UsageError("ONX114", "this importance needs calibration samples", where=importance, hint=hint)
        normalize: Normalize = "share" if self.normalize == "measured" and samples is None else self.normalize
        protect = self.protect
        if protect is None:
            protect = () if scope == "global" and normalize == "measured" else ("first", "last", "embeddings")
        return replace(self, scope=scope, importance=importance, normalize=normalize, protect=protect)


@dataclass(frozen=True)
class UnitRequest(Request):
    """A request for units of one kind.

    Attributes:
        unit: the kind.
    """

    unit: Unit = "channel"

    @property
    def units(self) -> tuple[Unit, ...]:
        """Kinds of units to remove."""
        return (self.unit,)
