"""Search for the amount to prune that reaches a latency, by measuring."""

from collections.abc import Callable

import onnx_ir as ir

from onnxopt.errors import NativeError
from onnxopt.graph.channels.cut import cut_channels
from onnxopt.graph.channels.find import Channels
from onnxopt.measure.latency import measure_latency
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pruning.plan import Choices, PruningPlan
from onnxopt.samples import Feeds

_ROUNDS = 7
_SECONDS = (1.0, 2.0, 4.0)
"""Time of each attempt to measure: on a busy host the first may leave the clock unsure."""
_LEAST = 0.05
"""Share of the work below which nothing is tried."""

Time = Callable[[ir.Model, ir.Model, Feeds], float]
"""Given a model, a smaller one and inputs: the median time of the second as a share of the first's."""


def median_time_share(model: ir.Model, smaller: ir.Model, feeds: Feeds) -> float:
    """Return the median time of `smaller` as a share of that of `model`, measured by turns on one thread.

    Raises:
        NativeError: ONX409 other programs take too much of the processor.
    """
    unsure = ""
    for seconds in _SECONDS:
        found = measure_latency({"before": model, "after": smaller}, [feeds], Runtime(), seconds=seconds, epochs=4)
        speedup, unsure = found["after"].speedup, found["after"].unsure
        if speedup is not None:
            return 1.0 / speedup.value
    raise NativeError(
        "ONX409",
        "the host is too busy to measure the latency of the pruned model",
        why=unsure,
        hint="Stop other programs, or give the amount to prune in place of a latency.",
    )


def plan_for_latency(
    choices: Choices, channels: Channels, goal: float, feeds: Feeds, time: Time = median_time_share
) -> tuple[PruningPlan, float]:
    """Return the plan that removes least among those measured to take at most `goal` of the time, and its share.

    Bisection over the share of work that remains. If the plan with the least work is too slow, it is the result.

    Args:
        choices: the units that may be removed.
        channels: the channel groups of the model.
        goal: share of the median time that may remain.
        feeds: one batch.
        time: measures two models against each other.
    """

    def tried(work: float) -> tuple[PruningPlan, float]:
        plan = choices.plan(work)
        return plan, time(channels.model, cut_channels(channels, plan.kept), feeds) if plan.kept else 1.0

    low, high = _LEAST, 1.0
    best = tried(low)
    if best[1] > goal:
        return best
    for _ in range(_ROUNDS - 1):
        middle = (low + high) / 2
        plan, share = tried(middle)
        if share <= goal:
            # More may stay.
            best, low = (plan, share), middle
        else:
            high = middle
    return best
