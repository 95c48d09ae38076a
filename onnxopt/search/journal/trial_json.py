"""Conversion of trials to JSON and back."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from onnxopt.measure.accuracy import Evaluation
from onnxopt.measure.latency import Latency
from onnxopt.measure.metrics.score import Score
from onnxopt.measure.statistics import Interval
from onnxopt.pipeline import Edit, Skip, Step
from onnxopt.search.journal.rows_json import restored_rows, stored_rows
from onnxopt.search.trial import Candidate, Trial, Verdict

_LATENCY = frozenset(f.name for f in fields(Latency))
_FAILURES = (Verdict.FAILED, Verdict.UNCHANGED, Verdict.SAME, Verdict.FURTHER)


def stored(trial: Trial) -> dict[str, Any]:
    """Return a trial as JSON-ready data, without its drop, which follows from its score."""
    score = trial.score
    return {
        "verdict": trial.verdict.value,
        "reason": trial.reason,
        "size_bytes": trial.size_bytes,
        "steps": [
            {
                "edits": [asdict(edit) for edit in step.edits],
                "skipped": [asdict(skip) for skip in step.skipped],
                "duration_s": step.duration_s,
                "difference": step.difference,
                "curve": step.curve,
            }
            for step in trial.steps
        ],
        "score": None
        if score is None
        else {
            "rows": stored_rows(score.rows),
            "value": score.value,
            "interval": asdict(score.interval),
            "n": score.n,
            "non_finite": score.non_finite,
        },
        "latency": None if trial.latency is None else asdict(trial.latency),
        "baseline_latency": None if trial.baseline_latency is None else asdict(trial.baseline_latency),
    }


def is_whole(found: Mapping[str, Any]) -> bool:
    """Return whether `stored` kept the whole trial; it omits whole outputs, the rows of a user's own metric."""
    return found["score"] is None or found["score"]["rows"] is not None


def restored(candidate: Candidate, found: Mapping[str, Any], metric: Score) -> Trial:
    """Return the trial from `stored`, without its drop."""
    steps = tuple(
        Step(
            spec,
            tuple(Edit(**edit) for edit in step["edits"]),
            tuple(Skip(**skip) for skip in step["skipped"]),
            step["duration_s"],
            step["difference"],
            tuple((int(n), float(loss), float(score)) for n, loss, score in step["curve"]),
        )
        for spec, step in zip(candidate.passes, found["steps"], strict=False)
    )
    verdict = Verdict(found["verdict"])
    trial = Trial(candidate, verdict, str(found["reason"]), steps)
    score = found["score"]
    if verdict in _FAILURES or score is None:
        return trial
    evaluation = Evaluation(
        metric,
        restored_rows(score["rows"]),
        score["value"],
        Interval(**score["interval"]),
        score["n"],
        score["non_finite"],
    )
    timed, beside = _latency(found["latency"]), _latency(found["baseline_latency"])
    return Trial(candidate, verdict, trial.reason, steps, found["size_bytes"], evaluation, None, timed, beside)


def _latency(found: Mapping[str, Any] | None) -> Latency | None:
    if found is None:
        return None
    intervals = {k: None if found[k] is None else Interval(**found[k]) for k in ("speedup", "p50_interval_ms")}
    tuples = {k: tuple(found[k]) for k in ("quantiles_ms", "epochs_ms")}
    known = {k: v for k, v in found.items() if k in _LATENCY}
    return Latency(**{**known, **intervals, **tuples})
