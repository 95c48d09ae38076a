"""Presets of search options by kind of deployment."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from onnxopt.options.search import Goal, Protect, StrategyName


@dataclass(frozen=True)
class Strategy:
    """A preset of search options.

    Attributes:
        goal: figure to improve.
        prune: whether to prune channels.
        train: whether to distill pruned models.
        protect: layers whose channels are not pruned.
        about: description in a few words.
    """

    goal: Goal
    prune: bool
    train: bool
    about: str
    protect: tuple[Protect, ...] = ()


STRATEGIES: Mapping[StrategyName, Strategy] = MappingProxyType(
    {
        "mobile": Strategy(Goal.LATENCY, False, False, "INT8 only: takes minutes, and changes types alone"),
        "edge": Strategy(Goal.LATENCY, True, False, "pruned channels, then INT8"),
        "realtime": Strategy(Goal.LATENCY, True, True, "pruned channels, distillation, then INT8; needs torch"),
        "server": Strategy(
            Goal.LATENCY, True, False, "pruned inner channels, then the fastest form", ("first", "last", "embeddings")
        ),
        "size": Strategy(Goal.SIZE, True, False, "the smallest file that is not slower"),
    }
)


def strategy_of(name: StrategyName) -> Strategy:
    """Return the strategy called `name`."""
    return STRATEGIES[name]
