"""A search that measures nothing, to see what is written down of one."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.catalog import parse
from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.classification import TopK
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.statistics import Drop, Interval
from onnxopt.pipeline import Context, Pipeline
from onnxopt.search.observer import NullObserver, Observer
from onnxopt.search.parts import Parts
from onnxopt.search.settings import Settings
from onnxopt.search.trial import Candidate, Proof, SearchResult, Trial, Verdict
from onnxopt.target import target_of


def latency(p50_ms: float, speedup: float | None = None) -> Latency:
    ratio = None if speedup is None else Interval(speedup - 0.02, speedup, speedup + 0.03)
    interval = Interval(p50_ms * 0.98, p50_ms, p50_ms * 1.03)
    quantiles = tuple(p50_ms * (0.9 + 0.005 * i) for i in range(41))
    epochs = tuple(p50_ms * (1 + 0.01 * (i % 3 - 1)) for i in range(8))
    return Latency(
        p50_ms, p50_ms * 1.1, p50_ms * 1.3, 500, p50_ms * 2, 3.0, ratio, None, 1, interval, quantiles, epochs
    )


def score(value: float, n: int = 200) -> Evaluation:
    return Evaluation(TopK(), np.ones((n, 1)), value, Interval(value - 0.02, value, min(value + 0.01, 1)), n, 0)


def drop(value: float, n: int = 200) -> Drop:
    return Drop(value, Interval(value - 0.01, value, value + 0.01), n, 1, 3, 0.63, False, np.array([value]))


def fake_search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None,
    settings: Settings,
    observer: Observer,
    size_bytes: int,
    stamp: object,
    journal: object = None,
    deadline: object = None,
) -> SearchResult:
    """Find that dynamic quantization wins, with figures that never change."""
    baseline = Trial(
        Candidate("baseline", ()),
        Verdict.BASELINE,
        "the original model",
        size_bytes=900_000,
        score=score(0.985),
        latency=latency(1.25),
    )
    simplify, dynamic = Candidate("simplify", parse("simplify")), Candidate("dynamic", parse("quantize-dynamic"))
    observer.baseline(baseline, 0.01)
    observer.planned((simplify, dynamic))
    observer.started(simplify)
    slow = Trial(
        simplify, Verdict.SLOWER, "not faster", (), 890_000, score(0.985), drop(0.0), latency(1.26, 0.99), latency(1.25)
    )
    observer.finished(slow)
    observer.started(dynamic)
    built = Pipeline(dynamic.passes).run(model, Context(target_of(settings.target), seed=settings.seed))
    best = Trial(
        dynamic,
        Verdict.WITHIN,
        "inside",
        built.steps,
        250_000,
        score(0.98),
        drop(0.005),
        latency(0.5, 2.5),
        latency(1.25),
    )
    observer.best(built.model, best)
    observer.finished(best)
    return _won(baseline, slow, best, built.model)


def static_search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None,
    settings: Settings,
    observer: Observer,
    size_bytes: int,
    stamp: object,
    journal: object = None,
    deadline: object = None,
) -> SearchResult:
    """Find that static quantization with tight ranges wins, with figures that never change."""
    found = fake_search(model, parts, metric, settings, NullObserver(), size_bytes, stamp)
    candidate = Candidate("dynamic", parse("simplify,quantize-static"))
    context = Context(target_of("x86-vnni"), parts.calibration.take(8), seed=0)
    built = Pipeline(candidate.passes).run(model, context)
    best = replace(found.trials[1], candidate=candidate, steps=built.steps)
    observer.baseline(found.baseline, 0.01)
    observer.planned((candidate,))
    observer.best(built.model, best)
    observer.finished(best)
    return _won(found.baseline, found.trials[0], best, built.model)


def _won(baseline: Trial, slow: Trial, best: Trial, model: ir.Model) -> SearchResult:
    proof = Proof("dynamic", score(0.985), score(0.982), drop(0.003), 0.97, 0.7, latency(1.25), latency(0.5, 2.5), True)
    won = replace(best, verdict=Verdict.WINNER, reason="proved")
    return SearchResult("accuracy", "top1", 0.01, baseline, (slow, won), (proof,), won, model, "dynamic is the best")


def interrupted_search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None,
    settings: Settings,
    observer: Observer,
    size_bytes: int,
    stamp: object,
    journal: object = None,
    deadline: object = None,
) -> SearchResult:
    """Be interrupted when the best so far is known."""
    fake_search(model, parts, metric, settings, observer, size_bytes, stamp)
    raise KeyboardInterrupt


def losing_search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None,
    settings: Settings,
    observer: Observer,
    size_bytes: int,
    stamp: object,
    journal: object = None,
    deadline: object = None,
) -> SearchResult:
    """Find that nothing wins."""
    result = fake_search(model, parts, metric, settings, observer, size_bytes, stamp)
    slow = Trial(result.trials[0].candidate, Verdict.SLOWER, "not faster")
    return SearchResult("accuracy", "top1", 0.01, result.baseline, (slow,), (), None, model, "no candidate is faster")


def failing_search(
    model: ir.Model,
    parts: Parts,
    metric: Metric | None,
    settings: Settings,
    observer: Observer,
    size_bytes: int,
    stamp: object,
    journal: object = None,
    deadline: object = None,
) -> SearchResult:
    """Fail when the best so far is known."""
    fake_search(model, parts, metric, settings, observer, size_bytes, stamp)
    raise RuntimeError("unexpected")


def early_failing_search(*_: object, **__: object) -> SearchResult:
    """Fail before the baseline is measured."""
    raise RuntimeError("unexpected")


def cut_search(*given: Any, journal: Any, **others: Any) -> SearchResult:
    """Be interrupted after the baseline."""
    observer: Observer = given[4]
    observer.baseline(Trial(Candidate("baseline", ()), Verdict.BASELINE, "the original model"), 0.01)
    observer.planned(())
    journal.begin()
    raise KeyboardInterrupt
