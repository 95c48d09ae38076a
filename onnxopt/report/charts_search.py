"""Charts of the search: the trade-off of speed, score and size, and the stability of the host."""

from collections.abc import Sequence

from onnxopt.document import units
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import IntervalRecord, LatencyRecord, TrialRecord
from onnxopt.report.charts import Chart, Figure, axes, metric, scale, verbatim
from onnxopt.report.tables import number
from onnxopt.search.front import COMPARED, envelope
from onnxopt.search.trial import Verdict

_VERDICTS = {
    Verdict.WINNER.value: "$good",
    Verdict.BASELINE.value: "$ink",
    Verdict.WITHIN.value: "$accent",
    Verdict.OVER_BUDGET.value: "$bad",
    Verdict.UNPROVEN.value: "$mid",
}
_ON_TOP = ("baseline", "winner")
_TRADED = {verdict.value for verdict in (Verdict.BASELINE, *COMPARED)}


def pareto_chart(run: RunRecord) -> Chart | None:
    """Return latency against the metric, with marks in the size of the files and a line through the best trade-offs."""
    everyone = [t for t in (run.baseline, *run.trials) if t is not None and t.latency is not None and t.score]
    if len(everyone) < 2:
        return None
    sizes = [t.size_bytes or 1 for t in everyone]
    traces = []
    for verdict in sorted(dict.fromkeys(t.verdict for t in everyone), key=_ON_TOP.__contains__):
        group = [t for t in everyone if t.verdict == verdict]
        points = [_point(t, run) for t in group]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": verbatim(verdict),
                "x": [x for x, _ in points],
                "y": [y for _, y in points],
                "error_x": _errors([_relative(t) for t in group], 1.0),
                "error_y": _errors([t.score.interval for t in group if t.score], scale(run)),
                "marker": {
                    "color": _VERDICTS.get(verdict, "$soft"),
                    "size": [10 + 26 * ((t.size_bytes or 1) / max(sizes)) ** 0.5 for t in group],
                    "opacity": 0.8,
                    "symbol": "diamond" if verdict in ("winner", "baseline") else "circle",
                    "line": {"width": 1, "color": "$paper"},
                },
                "hoverinfo": "text",
                "hovertext": [_about(t, run) for t in group],
            }
        )
    front = _front([_point(t, run) for t in everyone if t.verdict in _TRADED], smaller_is_better=_errs(run))
    joined = {
        "type": "scatter",
        "mode": "lines",
        "name": "best trade-offs",
        "x": [x for x, _ in front],
        "y": [y for _, y in front],
        "line": {"color": "$soft", "width": 2, "shape": "hv", "dash": "dot"},
        "hoverinfo": "skip",
    }
    figure: Figure = {"data": [joined, *traces], "layout": axes("time of one run, baseline = 1", metric(run))}
    _budget_line(figure, run)
    caption = (
        "Candidates on the search samples: faster to the left, the better score "
        f"{'below' if _errs(run) else 'above'}, larger files as larger marks. Bars are 95 % intervals. Hover or "
        "tap to see the passes."
    )
    return Chart("pareto", figure, caption, 440)


def _point(trial: TrialRecord, run: RunRecord) -> tuple[float, float]:
    """Return the time relative to the baseline in the same runs, which cancels host noise, and the score."""
    value = trial.score.value if trial.score is not None else None
    return _relative(trial).value or 1.0, (value if value is not None else float("nan")) * scale(run)


def _relative(trial: TrialRecord) -> IntervalRecord:
    speedup = trial.latency.speedup if trial.latency is not None else None
    if speedup is None or not (speedup.low and speedup.value and speedup.high):
        return IntervalRecord(low=1.0, value=1.0, high=1.0, level=0.95)
    return IntervalRecord(low=1 / speedup.high, value=1 / speedup.value, high=1 / speedup.low, level=speedup.level)


def _errors(intervals: Sequence[IntervalRecord], scale: float) -> Figure:
    return {
        "type": "data",
        "symmetric": False,
        "array": [((i.high or 0) - (i.value or 0)) * scale for i in intervals],
        "arrayminus": [((i.value or 0) - (i.low or 0)) * scale for i in intervals],
        "thickness": 1,
        "width": 3,
    }


def _about(trial: TrialRecord, run: RunRecord) -> str:
    lines = [f"<b>{verbatim(trial.name)}</b>", verbatim(trial.passes or "unchanged model")]
    if trial.latency is not None:
        speedup = trial.latency.speedup
        against = "" if speedup is None else f", {units.times(speedup.value or 0)}"
        lines.append(f"p50 {units.significant(trial.latency.p50_ms)} ms{against}")
    if trial.score is not None:
        lines.append(f"{verbatim(run.metric)} {units.score(number(trial.score.value), run.unit)}")
    if trial.size_bytes is not None:
        lines.append(units.size(trial.size_bytes))
    return "<br>".join([*lines, verbatim(trial.verdict)])


def _front(points: Sequence[tuple[float, float]], *, smaller_is_better: bool) -> list[tuple[float, float]]:
    """Return the points that no other one dominates, by rising time."""
    loss = 1 if smaller_is_better else -1
    return [(-x, loss * y) for x, y in reversed(envelope([(-x, loss * y) for x, y in points]))]


def _errs(run: RunRecord) -> bool:
    """Return whether a smaller score is better, as for errors such as rmse."""
    return run.metric in ("rmse", "mae")


def _budget_line(figure: Figure, run: RunRecord) -> None:
    value = run.baseline.score.value if run.baseline is not None and run.baseline.score is not None else None
    if value is None or run.allowed_drop is None:
        return
    y = (value + run.allowed_drop if _errs(run) else value - run.allowed_drop) * scale(run)
    line = {"color": "$bad", "width": 1, "dash": "dash"}
    figure["layout"]["shapes"] = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line},
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 1, "x1": 1, "line": line | {"color": "$soft"}},
    ]
    figure["layout"]["annotations"] = [
        {"xref": "paper", "x": 0, "y": y, "text": "budget", "showarrow": False, "xanchor": "left", "yanchor": "bottom"}
    ]


def distribution_chart(run: RunRecord) -> Chart | None:
    """Return the distribution of run times of the baseline and the winner, from the proof or the search."""
    pairs = _pair(run)
    if not pairs:
        return None
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": verbatim(name),
            "x": [100 * i / (len(found.quantiles_ms) - 1) for i in range(len(found.quantiles_ms))],
            "y": list(found.quantiles_ms),
            "line": {"color": colour, "width": 2.5},
            "hovertemplate": "%{x:.0f} of 100 runs take no more than %{y:.4g} ms<extra></extra>",
        }
        for name, found, colour in pairs
    ]
    layout = axes("percentile of runs", "ms")
    layout["yaxis"]["type"] = "log"
    return Chart(
        "distribution",
        {"data": traces, "layout": layout},
        "Timed runs, sorted by duration; a flat line is a steady latency.",
        320,
    )


def _pair(run: RunRecord) -> list[tuple[str, LatencyRecord, str]]:
    proof = next((p for p in run.proofs if p.accepted), None)
    if proof is not None:
        found = [("baseline", proof.baseline_latency, "$ink"), (proof.candidate, proof.latency, "$good")]
    else:
        found = (
            [] if run.baseline is None or run.baseline.latency is None else [("baseline", run.baseline.latency, "$ink")]
        )
    return [one for one in found if len(one[1].quantiles_ms) > 1]


def recovery_chart(run: RunRecord) -> Chart | None:
    """Return the training curves of the winner, or without one of every candidate."""
    winner = run.trial(run.winner)
    trained = [
        (trial.name, step)
        for trial in (run.trials if winner is None else (winner,))
        for step in trial.steps
        if len(step.curve) > 1
    ]
    if not trained:
        return None
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": verbatim(f"{name}: {step.pass_name}"),
            "x": [at for at, _, _ in step.curve],
            "y": [score for _, _, score in step.curve],
            "marker": {"size": 5},
            "hoverinfo": "text",
            "hovertext": [
                f"step {at}: score {units.significant(number(score))}, loss {units.significant(number(loss))}"
                for at, loss, score in step.curve
            ],
        }
        for name, step in trained
    ]
    caption = "Score on held-out samples during training; lower is better. The weights of the best point were kept."
    return Chart("recovery", {"data": traces, "layout": axes("training step", "held-out score")}, caption, 320)


def drift_chart(run: RunRecord) -> Chart | None:
    """Return the baseline's latency over the run: it was measured again beside every candidate."""
    beside = [("alone", run.baseline.latency)] if run.baseline is not None and run.baseline.latency is not None else []
    beside += [(t.name, t.baseline_latency) for t in run.trials if t.baseline_latency is not None]
    beside += [(f"proof of {p.candidate}", p.baseline_latency) for p in run.proofs]
    values: list[float] = []
    names: list[str] = []
    for name, found in beside:
        values += found.epochs_ms
        names += [verbatim(f"beside {name}" if name != "alone" else name)] * len(found.epochs_ms)
    if len(values) < 4:
        return None
    middle = sorted(values)[len(values) // 2]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(1, len(values) + 1)),
        "y": [100 * (v / middle - 1) for v in values],
        "line": {"color": "$line", "width": 1},
        "marker": {"color": "$accent", "size": 5},
        "hoverinfo": "text",
        "hovertext": [f"{name}: {units.significant(v)} ms" for name, v in zip(names, values, strict=True)],
    }
    caption = (
        "Latency of the baseline over the run. The speed of the host drifts; speed-ups compare runs close in time, so "
        "the drift cancels."
    )
    return Chart("drift", {"data": [trace], "layout": axes("load, in order of time", "% off the median")}, caption, 320)
