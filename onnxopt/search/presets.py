"""Presets of search options by kind of deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnxopt.errors import UsageError, nearest
from onnxopt.pruning.protect import Protect
from onnxopt.search.budget import Goal


@dataclass(frozen=True)
class Strategy:
    """Attributes:
    goal: what the best model is best at.
    prune: whether channels are removed.
    train: whether a pruned model may learn from the original.
    protect: layers that keep all their channels.
    about: what it is for, in a few words.
    """

    goal: Goal
    prune: bool
    train: bool
    about: str
    protect: tuple[Protect, ...] = ()


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "mobile": Strategy(Goal.LATENCY, False, False, "INT8 only: minutes, and nothing but types changes"),
        "edge": Strategy(Goal.LATENCY, True, False, "channels removed, then INT8"),
        "realtime": Strategy(Goal.LATENCY, True, True, "channels removed, distilled, then INT8; needs torch"),
        "server": Strategy(
            Goal.LATENCY, True, False, "channels removed inside, then what is fastest", ("first", "last", "embeddings")
        ),
        "size": Strategy(Goal.SIZE, True, False, "the smallest file that is not slower"),
    }
)


def strategy_of(name: str) -> Strategy:
    """Return the strategy called `name`.

    Raises:
        UsageError: ONX102 there is none.
    """
    if name not in STRATEGIES:
        raise UsageError("ONX102", "unknown strategy", where=name, hint=nearest(name, STRATEGIES))
    return STRATEGIES[name]
