"""Tables of the candidates, of the chosen ones and of the proofs."""

from onnxopt.document import units
from onnxopt.document.blocks import Column, Table
from onnxopt.record.run import RunRecord
from onnxopt.record.trial import IntervalRecord, LatencyRecord, ProofRecord, TrialRecord
from onnxopt.search.candidate_names import legend_of
from onnxopt.search.front import CandidateFigures, smallest_and_fastest
from onnxopt.search.trial import Verdict

COLUMNS = (
    Column("candidate"),
    Column("size", number=True),
    Column("p50 ms", number=True),
    Column("speed-up", number=True),
)


def trials_table(run: RunRecord) -> Table:
    """Return one row per trial, the baseline first; intervals stand on a second line."""
    shown = ([] if run.baseline is None else [run.baseline]) + list(run.trials)
    samples = next((t.score.n for t in shown if t.score is not None), 0)
    judged = "fidelity" if run.kind == "fidelity" else "accuracy" if run.unit == "share" else run.metric
    drop = "drop, points" if run.unit == "share" else "drop"
    columns = (*COLUMNS, Column(judged, number=True), Column(drop, number=True), Column("verdict"))
    if samples:
        what = judged_by(run)
        timed = None if run.baseline is None else run.baseline.latency
        size = run.settings.batch_size if timed is None else timed.batch_size
        title = f"{what} on {samples} search samples; latency at batch size {size}"
    else:
        title = ""
    original = None if run.baseline is None else run.baseline.size_bytes
    return Table(columns, tuple(_row(trial, original, run) for trial in shown), title)


def judged_by(run: RunRecord) -> str:
    """Return the metric in words; those of some agreements have the baseline in their name already."""
    if run.kind == "accuracy":
        return run.metric
    beside = "" if "baseline" in run.metric else " with the baseline"
    return f"{run.metric}{beside} (fidelity, not accuracy)"


def choice_table(run: RunRecord) -> Table | None:
    """Return the baseline, the best, and the smallest and the fastest within budget; None without any of them."""
    if run.baseline is None or run.allowed_drop is None:
        return None
    named: dict[str, list[str]] = {}
    if run.status == "won" and run.winner is not None:
        named.setdefault(run.winner, []).append("best")
    smallest, fastest = smallest_and_fastest([_point(t) for t in run.trials if t.latency is not None])
    for word, name in (("smallest", smallest), ("fastest", fastest)):
        if name is not None:
            named.setdefault(name, []).append(word)
    if not named:
        return None
    table = trials_table(run)
    rows = {row[0].replace("\n", ""): row for row in table.rows}
    shown = [("baseline", *table.rows[0])]
    shown += [(", ".join(words), *rows[name]) for name, words in named.items() if name in rows]
    return Table((Column("choice"), *table.columns), tuple(shown), table.title)


def _point(trial: TrialRecord) -> CandidateFigures:
    return CandidateFigures(trial.name, Verdict(trial.verdict), 1 / max(speedup_of(trial), 1e-9), trial.size_bytes or 0)


def speedup_of(trial: TrialRecord) -> float:
    """Return the speed-up of a trial; 1 where none was measured."""
    speedup = None if trial.latency is None else trial.latency.speedup
    return 1.0 if speedup is None else speedup.value or 0.0


def _row(trial: TrialRecord, original: int | None, run: RunRecord) -> tuple[str, ...]:
    size = "-"
    if trial.size_bytes is not None:
        size = units.size(trial.size_bytes)
        if original and trial is not run.baseline:
            size += f"\n{units.times(original / trial.size_bytes)}"
    p50 = "-"
    if trial.latency is not None and not trial.latency.unsure:
        p50 = f"{units.significant(trial.latency.p50_ms)}\n{_beside(trial)}"
    speedup = trial.latency.speedup if trial.latency is not None else None
    faster = "-" if speedup is None else f"{units.times(number(speedup.value))}\n{speedup_bounds(speedup)}"
    faster = "unsure" if trial.latency is not None and trial.latency.unsure else faster
    score = "-" if trial.score is None else units.score(number(trial.score.value), run.unit)
    drop = "-"
    if trial.drop is not None:
        low, high = (units.points(number(v), run.unit) for v in (trial.drop.interval.low, trial.drop.interval.high))
        drop = f"{units.points(number(trial.drop.value), run.unit)}\n[{low}, {high}]"
    return (trial.name.replace("-keep", "\n-keep"), size, p50, faster, score, drop, _verdict(trial.verdict))


def _verdict(verdict: str) -> str:
    first, _, rest = verdict.partition(" on the ")
    return f"{first}\non {rest}" if rest else verdict


def _margin(latency: LatencyRecord) -> str:
    """Return the half-width of the p50's interval in percent; the interval itself is too wide for a terminal."""
    interval = latency.p50_interval_ms
    reach = max(number(interval.high) - latency.p50_ms, latency.p50_ms - number(interval.low))
    return f"±{100 * reach / latency.p50_ms:.2g} %"


def _beside(trial: TrialRecord) -> str:
    """Return the baseline's p50 in the same runs, the reference of the speed-up; the margin for the baseline itself."""
    if trial.baseline_latency is not None:
        return f"was {units.significant(trial.baseline_latency.p50_ms)}"
    return "" if trial.latency is None else _margin(trial.latency)


def proofs_table(run: RunRecord) -> Table | None:
    """Return one row per finalist that was measured on the hold-out samples; None without any."""
    if not run.proofs:
        return None
    drop = "drop, points" if run.unit == "share" else "drop"
    titles = ("size", "p50 ms", "speed-up", drop, "probability", "required")
    columns = (Column("finalist"), *(Column(title, number=True) for title in titles), Column("verdict"))
    samples = run.proofs[0].score.n
    return Table(columns, tuple(_proof_row(run, p) for p in run.proofs), f"On {samples} hold-out samples")


def _proof_row(run: RunRecord, proof: ProofRecord) -> tuple[str, ...]:
    trial, speedup = run.trial(proof.candidate), proof.latency.speedup
    size = "-" if trial is None or trial.size_bytes is None else units.size(trial.size_bytes)
    p50s = [units.significant(one.p50_ms) for one in (proof.latency, proof.baseline_latency)]
    faster = "-" if speedup is None else f"{units.times(number(speedup.value))}\n{speedup_bounds(speedup)}"
    if proof.latency.unsure:
        p50s, faster = ["-", "-"], "unsure"
    interval = proof.drop.interval
    low, high = (units.points(number(v), run.unit) for v in (interval.low, interval.high))
    drop = f"{units.points(number(proof.drop.value), run.unit)}\n[{low}, {high}]"
    # A finalist that can only be likely has no probability to reach.
    asked = "-" if proof.asked >= 1 else units.percent(proof.asked, limit=True)
    chances = (units.percent(proof.confidence), asked)
    reason = "" if trial is None else trial.reason
    sure = "likely" if proof.standing == "likely" else "proven"
    short = "proven" if proof.standing == "proven" else f"not proven\n{reason}"
    verdict = f"winner\n{sure}" if proof.accepted else short
    return (proof.candidate, size, "\nwas ".join(p50s), faster, drop, *chances, verdict)


def speed(speedup: IntervalRecord) -> str:
    """Return a speed-up in words."""
    return units.faster(number(speedup.low), number(speedup.value), number(speedup.high))


def number(value: float | None) -> float:
    """Return the number; NaN for None."""
    return float("nan") if value is None else value


def speedup_bounds(interval: IntervalRecord) -> str:
    """Return the interval of a speed-up."""
    return units.bounds(number(interval.low), number(interval.high))


def names_table(run: RunRecord) -> Table | None:
    """Return one row per part of the candidate names in `run`, with its meaning; None without any."""
    rows = legend_of(trial.name for trial in run.trials)
    return Table((Column("part of a name"), Column("meaning")), rows) if rows else None
