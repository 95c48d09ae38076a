"""The terminal summary of a run: tables and sentences."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.record.recording import left_out_sentence
from onnxopt.record.run import IntervalRecord, LatencyRecord, ProofRecord, RunRecord, TrialRecord
from onnxopt.record.steps import counted, reasons
from onnxopt.report.details import details_sentence, evened_sentence
from onnxopt.report.next_step import next_step
from onnxopt.report.recovery import recovery_sentence
from onnxopt.search.acceptance import SAME
from onnxopt.search.candidate_names import legend_of
from onnxopt.search.trial import Verdict

COLUMNS = (
    Column("candidate"),
    Column("size", number=True),
    Column("p50 ms", number=True),
    Column("speed-up", number=True),
)


def summary(run: RunRecord, folder: Path) -> Document:
    """Return the result of `run`, whose files are in `folder`."""
    blocks = (Text(judged_lines(run)), trials_table(run), Text(tuple(sentences(run, folder))))
    return Document(blocks if run.judged else blocks[1:], run.model_dump(mode="json"))


def judged_lines(run: RunRecord) -> tuple[str, ...]:
    """Return the rule for judging results, and the samples that were left out; () in older records."""
    return tuple(filter(None, (run.judged, left_out_sentence(run.left_out))))


def trials_table(run: RunRecord) -> Table:
    """Return one row per trial, the baseline first; intervals stand on a second line."""
    shown = ([] if run.baseline is None else [run.baseline]) + list(run.trials)
    samples = next((t.score.n for t in shown if t.score is not None), 0)
    judged = "fidelity" if run.kind == "fidelity" else "accuracy" if run.unit == "share" else run.metric
    drop = "drop, points" if run.unit == "share" else "drop"
    columns = (*COLUMNS, Column(judged, number=True), Column(drop, number=True), Column("verdict"))
    if samples:
        what = run.metric if run.kind == "accuracy" else f"{run.metric} with the baseline (fidelity, not accuracy)"
        timed = None if run.baseline is None else run.baseline.latency
        size = run.settings.batch_size if timed is None else timed.batch_size
        title = f"{what} on {samples} search samples; latency at batch size {size}"
    else:
        title = ""
    original = None if run.baseline is None else run.baseline.size_bytes
    return Table(columns, tuple(_row(trial, original, run) for trial in shown), title)


def headline(run: RunRecord) -> str:
    """Return the verdict in one line."""
    name = Path(run.model.path).name or "a model in memory"
    accepted = next((p for p in run.proofs if p.accepted), None)
    winner = run.trial(run.winner)
    if run.status == "won" and accepted is not None and winner is not None and accepted.latency.speedup is not None:
        faster = speed(accepted.latency.speedup).partition(" [")[0]
        sure = standing_words(run, accepted)
        return f"{name}: {faster}, {units.smaller(run.model.size_bytes / (winner.size_bytes or 1))}{sure}"
    return f"{name}: {'no better model, baseline kept' if run.status == 'kept-original' else 'not finished'}"


def standing_words(run: RunRecord, proof: ProofRecord) -> str:
    """Return the remark of a title on a winner that is not proven; "" for a proven one."""
    return f" (likely, {units.percent(proof.confidence)}: not proven)" if run.standing == "likely" else ""


@dataclass(frozen=True)
class Tile:
    """One figure of the verdict, with a remark."""

    title: str
    value: str
    beside: str
    good: bool = False


def tiles(run: RunRecord) -> tuple[Tile, ...]:
    """Return the figures of the winner's proof; () without a winner."""
    proof, winner = next((p for p in run.proofs if p.accepted), None), run.trial(run.winner)
    if run.status != "won" or proof is None or winner is None or proof.latency.speedup is None:
        return ()
    speedup, size = proof.latency.speedup, winner.size_bytes or 1
    p50s = (units.significant(one.p50_ms) for one in (proof.baseline_latency, proof.latency))
    low, high = (units.points(_number(v), run.unit) for v in (proof.drop.interval.low, proof.drop.interval.high))
    points = " points" if run.unit == "share" else ""
    judged = run.metric if run.kind == "accuracy" else "fidelity"
    return (
        Tile(
            "speed-up",
            units.times(_number(speedup.value)),
            f"{_range(speedup)}, {' to '.join(p50s)} ms",
            good=(speedup.low or 0) > 1,
        ),
        Tile(
            "size",
            f"{units.times(run.model.size_bytes / size)}",
            f"{units.size(run.model.size_bytes)} to {units.size(size)}",
            good=size < run.model.size_bytes,
        ),
        Tile(
            f"drop of {judged}{',' + points if points else ''}",
            units.points(_number(proof.drop.value), run.unit),
            f"[{low}, {high}], budget {units.points(_number(run.allowed_drop), run.unit)}",
            good=proof.drop.value is not None and proof.drop.value <= 0,
        ),
        Tile(
            "probability of being within budget",
            units.percent(proof.confidence),
            f"{run.standing or 'proven'}; proven from {units.percent(proof.asked, limit=True)}",
            good=run.standing == "proven",
        ),
    )


_INSIDE = (Verdict.WITHIN.value, Verdict.WINNER.value)
"""Verdicts of candidates within every limit; candidates that failed on the hold-out samples are excluded."""


def choice_table(run: RunRecord) -> Table | None:
    """Return the baseline, the best, and the smallest and the fastest within budget; None without any of them."""
    if run.baseline is None or run.allowed_drop is None:
        return None
    inside = [t for t in run.trials if t.verdict in _INSIDE and t.latency is not None]
    named: dict[str, list[str]] = {}
    if run.status == "won" and run.winner is not None:
        named.setdefault(run.winner, []).append("best")
    if inside:
        named.setdefault(min(inside, key=lambda t: t.size_bytes or 0).name, []).append("smallest")
        fastest = max(inside, key=_speedup)
        winner = run.trial(run.winner)
        # Of two candidates that noise cannot tell apart, the proven one.
        even = winner is not None and winner in inside and _speedup(winner) * SAME >= _speedup(fastest)
        named.setdefault(winner.name if winner is not None and even else fastest.name, []).append("fastest")
    if not named:
        return None
    table = trials_table(run)
    rows = {row[0].replace("\n", ""): row for row in table.rows}
    shown = [("baseline", *table.rows[0])]
    shown += [(", ".join(words), *rows[name]) for name, words in named.items() if name in rows]
    return Table((Column("choice"), *table.columns), tuple(shown), table.title)


def _speedup(trial: TrialRecord) -> float:
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
    faster = "-" if speedup is None else f"{units.times(_number(speedup.value))}\n{_range(speedup)}"
    faster = "unsure" if trial.latency is not None and trial.latency.unsure else faster
    score = "-" if trial.score is None else units.score(_number(trial.score.value), run.unit)
    drop = "-"
    if trial.drop is not None:
        low, high = (units.points(_number(v), run.unit) for v in (trial.drop.interval.low, trial.drop.interval.high))
        drop = f"{units.points(_number(trial.drop.value), run.unit)}\n[{low}, {high}]"
    return (trial.name.replace("-keep", "\n-keep"), size, p50, faster, score, drop, _verdict(trial.verdict))


def _verdict(verdict: str) -> str:
    first, _, rest = verdict.partition(" on the ")
    return f"{first}\non {rest}" if rest else verdict


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _margin(latency: LatencyRecord) -> str:
    """Return the half-width of the p50's interval in percent; the interval itself is too wide for a terminal."""
    interval = latency.p50_interval_ms
    reach = max(_number(interval.high) - latency.p50_ms, latency.p50_ms - _number(interval.low))
    return f"±{100 * reach / latency.p50_ms:.2g} %"


def _beside(trial: TrialRecord) -> str:
    """Return the baseline's p50 in the same runs, the reference of the speed-up; the margin for the baseline itself."""
    if trial.baseline_latency is not None:
        return f"was {units.significant(trial.baseline_latency.p50_ms)}"
    return "" if trial.latency is None else _margin(trial.latency)


def speed(speedup: IntervalRecord) -> str:
    """Return a speed-up in words."""
    return units.faster(_number(speedup.low), _number(speedup.value), _number(speedup.high))


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
    faster = "-" if speedup is None else f"{units.times(_number(speedup.value))}\n{_range(speedup)}"
    if proof.latency.unsure:
        p50s, faster = ["-", "-"], "unsure"
    interval = proof.drop.interval
    low, high = (units.points(_number(v), run.unit) for v in (interval.low, interval.high))
    drop = f"{units.points(_number(proof.drop.value), run.unit)}\n[{low}, {high}]"
    chances = (units.percent(proof.confidence), units.percent(proof.asked, limit=True))
    reason = "" if trial is None else trial.reason
    sure = "likely" if proof.standing == "likely" else "proven"
    verdict = f"winner\n{sure}" if proof.accepted else f"not proven\n{reason}"
    return (proof.candidate, size, "\nwas ".join(p50s), faster, drop, *chances, verdict)


def _range(interval: IntervalRecord) -> str:
    return units.bounds(_number(interval.low), _number(interval.high))


def sentences(run: RunRecord, folder: Path) -> list[str]:
    """Return the findings, the location of the files, and the next step."""
    lines = findings(run)
    names = [*(f.name for f in run.best), "run.json", "report.html", "report.md"]
    lines.append(f"Files in {folder}: {', '.join(names)}.")
    if run.repro:
        lines.append(f"To reproduce the model: {run.repro}")
    lines.append(f"Next: {next_step(run, folder)}")
    return lines


def findings(run: RunRecord) -> list[str]:
    """Return the winner with the reason, its edits, and the skipped layers with reasons."""
    winner = run.trial(run.winner)
    proof = next((p for p in run.proofs if p.accepted), None)
    evened = "" if proof is None else evened_sentence(proof.drop, _number(run.allowed_drop), run.unit)
    lines = [_outcome(run, winner), *filter(None, [evened, details_sentence(run)])]
    unproven = (trial for trial in run.trials if trial.verdict == Verdict.UNPROVEN.value)
    lines += [f"{trial.name} was not proven: {trial.reason}." for trial in unproven if trial.reason not in lines[0]]
    if run.stopped:
        lines.append(f"The search ended early: {run.stopped}.")
    if run.aim_reached is False:
        lines.append(f"The target was not reached: {run.settings.aim}.")
    lines += filter(None, [_predicted(run)])
    lines += filter(None, [recovery_sentence(run)])
    extremes = (("smallest.onnx", run.smallest), ("fastest.onnx", run.fastest))
    lines += [f"Also in the folder, within budget but not proven: {file} ({name})." for file, name in extremes if name]
    if len(run.pareto) > 1:
        lines.append(f"Pareto-optimal candidates (speed, size, score): {', '.join(run.pareto)}.")
    if winner is not None:
        meanings = "; ".join(f"{part} = {meaning}" for part, meaning in legend_of((winner.name,)))
        lines += [f"The name {winner.name}: {meanings}."] if meanings else []
        # The command for reproduction has the passes too.
        made = "" if run.repro else f" ({winner.passes})"
        lines.append(f"Edits{made}: {counted(_actions(winner))}.")
        lines += reasons(s for step in winner.steps for s in step.skipped)
    return lines


def _predicted(run: RunRecord) -> str:
    """Return the predicted and the measured time or size of mixed candidates; "" without any."""
    size = run.settings.goal == "size"
    pairs = [
        (trial.predicted, (trial.size_bytes or 0) / max(run.model.size_bytes, 1) if size else 1 / speedup)
        for trial in run.trials
        if trial.predicted is not None and trial.latency is not None and (speedup := _speedup(trial)) > 0
    ]
    if not pairs:
        return ""
    predicted, found = (", ".join(f"{100 * share:.0f} %" for share in shares) for shares in zip(*pairs, strict=True))
    figure = "size" if size else "time"
    return f"Predicted {figure} of the mixed candidates, relative to the baseline: {predicted}; measured: {found}."


def _actions(trial: TrialRecord) -> Iterable[str]:
    return (edit.action for step in trial.steps for edit in step.edits)


def _outcome(run: RunRecord, winner: TrialRecord | None) -> str:
    if run.status in ("interrupted", "failed", "running"):
        return f"Not finished: {run.reason}."
    proof = next((p for p in run.proofs if p.accepted), None)
    if winner is None or proof is None:
        return f"No candidate won; best.onnx is the unchanged baseline: {run.reason}."
    speedup = proof.latency.speedup
    assert speedup is not None
    smaller = units.smaller(run.model.size_bytes / (winner.size_bytes or 1))
    wins = "is likely within budget and ships" if run.standing == "likely" else "wins"
    return f"{winner.name} {wins}: {speed(speedup)}, {smaller}, {_proved(run, proof)}."


def _proved(run: RunRecord, proof: ProofRecord) -> str:
    unit = " points" if run.unit == "share" else ""
    allowed = units.points(_number(run.allowed_drop), run.unit)
    before, after = (units.score(_number(s.value), run.unit) for s in (proof.baseline, proof.score))
    return (
        f"{run.metric} {before} to {after} on {proof.score.n} hold-out samples; measured drop "
        f"{units.points(_number(proof.drop.value), run.unit)}{unit} (budget {allowed}); probability that the true drop "
        f"is within budget: {units.percent(proof.confidence)}"
    )
