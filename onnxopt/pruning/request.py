"""What a structured pruning pass is asked for."""

from dataclasses import dataclass, replace
from typing import Literal

from onnxopt.errors import UsageError
from onnxopt.graph.channels.trace import Unit
from onnxopt.pruning.protect import Protect
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
    """What to remove.

    Attributes:
        ratio: share of the units to remove; of each group, or of all together with `scope` global.
        macs: share of the multiply-accumulates that may remain; overrides `ratio` when given.
        latency: share of the median time that may remain, measured here; overrides both.
        importance: what decides which units stay; `auto` is `obs` with samples and `l1` without.
        scope: `local` takes the same share of every group, `global` takes more where less is lost; `auto` is `global`
            with samples or a goal for work or time.
        normalize: how a global choice compares groups: by the `share` of what the group is worth, as `lamp` does by
            the share of what is left of it when the unit goes, or as `measured` by the error that losing some of it
            makes in the outputs; without samples that is `share`.
        compensate: how layers make up for what they lost.
        round_to: units are kept in multiples of it.
        exclude: names of nodes whose units stay.
        protect: groups that stay whole because of where they are; None lets a global choice that has measured what
            they are worth take any, and no other choice the first, the last and embeddings.
        ratios: `NODE:RATIO` for groups with a share of their own.
        units: kinds of units to remove; all kinds when empty.
    """

    ratio: float = 0.25
    macs: float | None = None
    latency: float | None = None
    importance: Importance = "auto"
    scope: Scope = "auto"
    normalize: Normalize = "measured"
    compensate: Method = "ls"
    round_to: int | Literal["auto"] = "auto"
    exclude: tuple[str, ...] = ()
    protect: tuple[Protect, ...] | None = None
    ratios: tuple[str, ...] = ()
    units: tuple[Unit, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether groups are compared by what losing some of each does to the outputs; a local choice compares none."""
        return self.normalize == "measured" and self.scope == "global"

    def settled(self, samples: Samples | None) -> "Request":
        """Return the request with all that depends on whether there are samples decided."""
        goal = self.macs is not None or self.latency is not None
        scope = self.scope if self.scope != "auto" else "global" if samples is not None or goal else "local"
        importance = self.importance if self.importance != "auto" else "obs" if samples is not None else "l1"
        if samples is None and importance in NEEDS_SAMPLES:
            hint = "Give some with --data, or choose importance=l1."
            raise UsageError("ONX109", "this importance needs calibration samples", where=importance, hint=hint)
        normalize: Normalize = "share" if self.normalize == "measured" and samples is None else self.normalize
        protect = self.protect
        if protect is None:
            protect = () if scope == "global" and normalize == "measured" else ("first", "last", "embeddings")
        return replace(self, scope=scope, importance=importance, normalize=normalize, protect=protect)
