"""Accuracy of a model on labelled samples, and its drop from the baseline to a candidate, sample by sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxopt.errors import DataError
from onnxopt.measure import statistics
from onnxopt.measure.known_outputs import KnownOutputs, run_batches
from onnxopt.measure.metrics.outputs import misfit, non_finite_rows
from onnxopt.measure.metrics.score import Metric, Score
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.measure.statistics import Drop, Interval, Statistic
from onnxopt.measure.tasks.worst import Worst
from onnxopt.samples import Samples

Progress = Callable[[int, int], None]
"""Called with the number of units done and their total."""

Stop = Callable[[Sequence[np.ndarray], int], bool]
"""Called with the rows of all batches so far and their number of samples; returns whether to stop scoring."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A metric measured on samples.

    Attributes:
        metric: the measured metric.
        rows: statistics of the metric, one row per sample.
        value: the metric of all rows; NaN when outputs were NaN.
        interval: the interval of `value`, from the number of samples.
        n: number of samples.
        non_finite: number of samples with NaN or an infinity in a float output (in the scored one, if it was named);
            beside a baseline, only those where the baseline's output differs.
        choice: the rule by which results are judged and its reason, in one sentence; empty without a judge.
        left_out: numbers of the samples, counted from 0 in the data, for which the baseline gives NaN.
        warning: the reason why a baseline's score proves nothing, in words; empty for none.
    """

    metric: Score
    rows: np.ndarray = field(repr=False)
    value: float
    interval: Interval
    n: int
    non_finite: int
    left_out: tuple[int, ...] = ()
    choice: str = ""
    warning: str = ""

    @property
    def details(self) -> dict[str, float]:
        """Further figures of the same samples by name and unit, such as the character error rate."""
        return self.metric.details(self.rows)


def evaluate(
    model: Loadable | Session | KnownOutputs,
    samples: Samples,
    metric: Metric,
    runtime: Runtime,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Evaluation:
    """Measure `metric` of `model` on labelled samples, one batch in memory at a time; Ctrl-C stops it.

    If `stop` ends it, the evaluation covers the first samples only.

    Raises:
        DataError: ONX208 the samples have no labels, ONX209 the metric does not fit outputs or labels.
        ModelError: ONX304 the model cannot be loaded.
        NativeError: ONX401 the model cannot be run.
    """
    if samples.labels is None:
        raise DataError(
            "ONX208",
            "labels are needed to measure accuracy",
            where=samples.name,
            hint="Give labelled samples, or measure fidelity, which needs none.",
        )

    def work() -> Evaluation:
        session = model if isinstance(model, Session | KnownOutputs) else Session(model, runtime)
        rows, non_finite, done, fitting = [], 0, 0, metric
        for batch, outputs in run_batches(session, samples):
            labels = np.asarray(batch.labels)
            fitting = fitting.prepared(outputs, labels, session.metadata)
            rows.append(fitting.rows(outputs, labels))
            non_finite += non_finite_rows(outputs, len(labels), metric.output)
            done += len(labels)
            if progress is not None:
                progress(done, len(samples))
            if stop is not None and stop(rows, done):
                break
        return evaluation_of(fitting, np.concatenate(rows), non_finite, seed=seed)

    return interruptible(work)


def evaluation_of(metric: Score, rows: np.ndarray, non_finite: int, *, seed: int = 0) -> Evaluation:
    """Return the evaluation of collected rows.

    Raises:
        DataError: ONX209 the metric is undefined on them, such as an ROC curve of a single class.
    """
    value = metric.value(rows)
    if np.isnan(value) and not non_finite:
        raise misfit("it is undefined on these samples", metric.undefined, where=metric.name)
    least = metric.least_drop(rows)
    if least > 0:
        value = min(value, 1 - least)
        interval = Interval(value, value, value)
    elif metric.binary and _right_or_wrong(rows):
        interval = statistics.wilson(int(rows[:, 0].sum()), len(rows))
    elif not np.isfinite(value):
        interval = statistics.interval_of_draws(float("nan"), np.empty(0))
    else:
        interval, _ = _bootstrap(value, lambda counts: metric.values(rows, counts), metric, size=len(rows), seed=seed)
    return Evaluation(metric, rows, value, interval, len(rows), non_finite)


def first(evaluation: Evaluation, count: int) -> Evaluation:
    """Return the evaluation of the first `count` samples, for comparison with one that stopped there."""
    if count >= len(evaluation.rows):
        return evaluation
    return evaluation_of(evaluation.metric, evaluation.rows[:count], evaluation.non_finite)


def drop(baseline: Evaluation, candidate: Evaluation, *, seed: int = 0) -> Drop:
    """Compare two evaluations of the same samples in the same order.

    Right-or-wrong metrics have exact figures from the samples that changed; others are bootstrapped in pairs.

    Raises:
        ValueError: the evaluations differ in metric or number of samples.
    """
    if baseline.metric != candidate.metric or len(baseline.rows) != len(candidate.rows):
        raise ValueError("a drop needs two evaluations of one metric on the same samples")
    metric = baseline.metric
    if isinstance(metric, Worst):
        return _worst(metric, baseline, candidate, seed)
    net = _net(baseline, candidate, seed)
    changes = None if net.broken else metric.changes(baseline.rows, candidate.rows)
    if changes is None:
        return net
    change, weight = changes
    gross = float(np.maximum(change, 0).sum() / max(weight.sum(), 1))
    return replace(net, better=int((change < 0).sum()), worse=int((change > 0).sum()), gross=gross)


def _net(baseline: Evaluation, candidate: Evaluation, seed: int) -> Drop:
    """Return the net drop, in which gains offset losses."""
    metric, n = baseline.metric, len(baseline.rows)
    least = metric.least_drop(candidate.rows)
    if least > 0:
        return _at_least(least, baseline, candidate)
    sign = 1.0 if metric.higher_is_better else -1.0
    value = sign * (baseline.value - candidate.value)
    broken = candidate.non_finite > baseline.non_finite or not np.isfinite(candidate.value)
    if not np.isfinite(value):
        worst = float("inf")
        return Drop(worst, Interval(worst, worst, worst), n, None, None, None, True, np.empty(0))
    if metric.binary and _right_or_wrong(baseline.rows) and _right_or_wrong(candidate.rows):
        before, after = baseline.rows[:, 0] > 0, candidate.rows[:, 0] > 0
        better, worse = int(np.sum(after & ~before)), int(np.sum(before & ~after))
        if metric.relative:
            draws = statistics.share_draws(worse, n, seed=seed)
        else:
            draws = statistics.flip_draws(better, worse, n, seed=seed)
        p_value = None if metric.relative else statistics.mcnemar(better, worse)
        return Drop(value, statistics.interval_of_draws(value, draws), n, better, worse, p_value, broken, draws)

    def difference(counts: np.ndarray) -> np.ndarray:
        lost = metric.values(baseline.rows, counts) - metric.values(candidate.rows, counts)
        return np.asarray(sign * lost)

    telling = metric.telling(baseline.rows)
    interval, draws = _bootstrap(value, difference, metric, size=n, seed=seed, telling=telling)
    if metric.most_lost is not None:
        draws = draws + statistics.RARE_UNSEEN * metric.most_lost / max(telling, 1)
    found = Drop(value, interval, n, None, None, None, broken, draws)
    return replace(found, telling=telling, most_lost=metric.most_lost)


def _at_least(least: float, baseline: Evaluation, candidate: Evaluation) -> Drop:
    """Return the drop of a metric with a lower bound: losses in a part of the answers that the figure hardly shows."""
    value = max(least, baseline.value - candidate.value)
    broken = candidate.non_finite > baseline.non_finite or not np.isfinite(value)
    draws = np.full(1000, value)
    return Drop(value, Interval(value, value, value), len(baseline.rows), None, None, None, broken, draws)


def _worst(metric: Worst, baseline: Evaluation, candidate: Evaluation, seed: int) -> Drop:
    """Return the largest drop of several outputs, each computed from its own statistics."""
    parts = []
    for number, part in enumerate(metric.parts):
        both = []
        for whole in (baseline, candidate):
            rows = metric.part_rows(whole.rows, number)
            both.append(Evaluation(part, rows, part.value(rows), whole.interval, whole.n, whole.non_finite))
        parts.append(drop(both[0], both[1], seed=seed + number))
    value, broken = max(part.value for part in parts), any(part.broken for part in parts)
    drawn = [part.draws for part in parts if len(part.draws)]
    if not np.isfinite(value) or not drawn:
        worst = float("inf")
        return Drop(worst, Interval(worst, worst, worst), baseline.n, None, None, None, True, np.empty(0))
    count = min(map(len, drawn))
    draws = np.max([one[:count] for one in drawn], axis=0)
    interval = statistics.interval_of_draws(value, draws)
    found = Drop(value, interval, baseline.n, None, None, None, broken, draws)
    lost = [part.most_lost for part in parts if part.most_lost is not None]
    return replace(found, telling=min(part.counted for part in parts), most_lost=max(lost, default=None))


def _bootstrap(
    value: float, statistic: Statistic, metric: Score, *, size: int, seed: int, telling: int | None = None
) -> tuple[Interval, np.ndarray]:
    draws = statistics.bootstrap_draws(statistic, size, seed=seed, resamples=metric.resamples)
    # The correction matters for few samples, and for many would cost more than the bootstrap itself.
    accelerated = size <= metric.resamples
    draws = statistics.corrected_draws(value, statistic, size, draws, telling=telling, accelerated=accelerated)
    return statistics.interval_of_draws(value, draws), draws


def _right_or_wrong(rows: np.ndarray) -> bool:
    return rows.dtype != object and bool(np.all((rows[:, 0] == 0) | (rows[:, 0] == 1)))
