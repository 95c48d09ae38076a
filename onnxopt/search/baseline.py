"""The measurement of the baseline, and the time that it predicts for the proof."""

from collections.abc import Callable

import onnx_ir as ir

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.judge import Judge
from onnxopt.measure.latency import Latency
from onnxopt.search.limits.deadline import Deadline
from onnxopt.search.limits.pressure import RUNS_OF_BASELINE, baseline_in_time, refuse_hopeless
from onnxopt.search.limits.reserve import Reserve, reserve_of
from onnxopt.search.parts import Parts
from onnxopt.search.settings import Settings

PROOF_LATENCY = 3
"""Factor on the usual measurement time for the latency of a finalist in its proof."""


def measured_baseline(
    model: ir.Model,
    judge: Judge,
    parts: Parts,
    settings: Settings,
    clock: Deadline,
    *,
    size_bytes: int,
    latency: Callable[[], Latency],
) -> tuple[Evaluation, Latency, float, Reserve | None]:
    """Return score and latency of the baseline, the seconds per sample, and the time to reserve; None without a limit.

    The clock reserves that time.

    Args:
        model: the baseline.
        judge: the judge of the search samples.
        parts: the samples of the run.
        settings: limits, and options of the latency measurement.
        clock: the clock of the whole search.
        size_bytes: size of the model.
        latency: measures the baseline's latency.
    """
    start_s = clock.elapsed_s()
    with baseline_in_time(clock, settings.trial_timeout_s):
        if settings.time_limit_s is not None:
            refuse_hopeless(model, parts.search, settings.runtime, clock)
        score = judge.baseline()
        scored_s = clock.elapsed_s() - start_s
        timed = latency()
    sample_s = scored_s / (RUNS_OF_BASELINE * len(parts.search))
    if settings.time_limit_s is None:
        return score, timed, sample_s, None
    reserve = reserve_of(
        scored_s=scored_s * judge.slowdown(len(parts.holdout) / len(parts.search)),
        searched=len(parts.search),
        holdout=len(parts.holdout),
        timed_s=clock.elapsed_s() - start_s - scored_s,
        latency_s=settings.latency_s,
        proof_latency_s=PROOF_LATENCY * settings.latency_s,
        hot=settings.hot,
        size_bytes=size_bytes,
    )
    clock.reserve_s = reserve.kept_s(settings.time_limit_s - clock.elapsed_s())
    return score, timed, sample_s, reserve
