"""The findings of a run in sentences, and the next step."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from onnxopt.document import units
from onnxopt.options.search import Goal
from onnxopt.quantization.placement.tails import REASON
from onnxopt.record.run import RunRecord
from onnxopt.record.steps import counted, frequent_reasons
from onnxopt.record.trial import ProofRecord, TrialRecord
from onnxopt.report.details import details_sentence, evened_sentence
from onnxopt.report.recovery import recovery_sentence
from onnxopt.report.tables import number, speed, speedup_of
from onnxopt.search.candidate_names import legend_of
from onnxopt.search.trial import Verdict

_MOST_REASONS = 3


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
    evened = "" if proof is None else evened_sentence(proof.drop, number(run.allowed_drop), run.unit)
    lines = [_outcome(run, winner), *filter(None, [evened, details_sentence(run), _origin(run)])]
    unproven = (trial for trial in run.trials if trial.verdict == Verdict.UNPROVEN.value)
    lines += [f"{trial.name} was not proven: {trial.reason}." for trial in unproven if trial.reason not in lines[0]]
    lines += _failures(run, lines[0])
    if run.stopped:
        lines.append(f"The search ended early: {run.stopped}.")
    if run.aim_reached is False:
        lines.append(f"The target was not reached: {run.settings.aim}.")
    lines += filter(None, [_predicted(run)])
    lines += filter(None, [recovery_sentence(run), tail_sentence(run)])
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
        lines += frequent_reasons(s for step in winner.steps for s in step.skipped)
    return lines


def _failures(run: RunRecord, said: str) -> list[str]:
    """Return one sentence per reason of failures, the most frequent first, without those that `said` has."""
    named: dict[str, list[str]] = {}
    for trial in run.trials:
        if trial.verdict == Verdict.FAILED.value and trial.reason and trial.reason not in said:
            named.setdefault(trial.reason.rstrip("."), []).append(trial.name)
    most = sorted(named.items(), key=lambda pair: -len(pair[1]))[:_MOST_REASONS]
    return [f"{', '.join(names)} failed: {reason}." for reason, names in most]


def _origin(run: RunRecord) -> str:
    """Return the machines that figures are from, where a device timed the candidates; "" where none did."""
    if run.settings.device is None:
        return ""
    host = run.settings.device.partition("://")[2].partition("?")[0]
    shipped = run.best[0].sha256 if run.best else ""
    there = next((model for device in run.devices for model in device.models if model.sha256 == shipped), None)
    agree = f"; {there.same_class} of {there.classified} predictions are the same on both" if there is not None else ""
    return f"Latency was measured on {host}, accuracy and size on the machine of the search{agree}."


def _predicted(run: RunRecord) -> str:
    """Return the predicted and the measured time or size of mixed candidates; "" without any."""
    size = run.settings.goal is Goal.SIZE
    pairs = [
        (trial.predicted, (trial.size_bytes or 0) / max(run.model.size_bytes, 1) if size else 1 / speedup)
        for trial in run.trials
        if trial.predicted is not None and trial.latency is not None and (speedup := speedup_of(trial)) > 0
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
    allowed = units.points(number(run.allowed_drop), run.unit)
    before, after = (units.score(number(s.value), run.unit) for s in (proof.baseline, proof.score))
    return (
        f"{run.metric} {before} to {after} on {proof.score.n} hold-out samples; measured drop "
        f"{units.points(number(proof.drop.value), run.unit)}{unit} (budget {allowed}); probability that the true drop "
        f"is within budget: {units.percent(proof.confidence)}"
    )


def next_step(run: RunRecord, folder: Path) -> str:
    """Return the recommended next step."""
    if run.status == "won" and run.standing == "likely":
        sure = units.percent(run.confidence or 0.0)
        return (
            f"add samples to prove the result, which is likely now ({sure}); or deploy {folder / 'best.onnx'} at that "
            "risk. With --require proven, an unproven model never ships."
        )
    if run.status == "won":
        return f"deploy {folder / 'best.onnx'}; the proof is in {folder / 'report.html'}."
    if run.status != "kept-original":
        return _go_on(folder)
    limit = run.settings.time_limit_s
    if limit is not None and (run.stopped or not run.trials):
        # Finished measurements are read again, so that the same time again brings the next candidates.
        return f"{_go_on(folder)} --time-limit {2 * limit:g}"
    verdicts = {trial.verdict for trial in run.trials}
    lost_too_much = bool(verdicts & {Verdict.OVER_BUDGET.value, Verdict.UNPROVEN.value})
    if lost_too_much and run.allowed_drop == 0:
        some = "0.5%" if run.unit != "share" else "0.5pp"
        return f"give a small budget, such as --max-drop {some}: no number of samples proves a drop of exactly zero."
    if lost_too_much:
        return "give more samples, or a larger budget with --max-drop."
    if Verdict.UNSURE.value in verdicts:
        return f"stop other programs and time the unsure candidates again: {_go_on(folder)}"
    if Verdict.SLOWER.value in verdicts:
        return "try --goal size, or more --threads if the deployment has them."
    return f"see {folder / 'report.html'} for the edits and skips of every pass."


def _go_on(folder: Path) -> str:
    return f"onnxopt resume {shlex.quote(str(folder))}"


def tail_sentence(run: RunRecord) -> str:
    """Return the share of the time of best.onnx that its detection tail takes; "" if it has none, or none was timed."""
    winner, analysis = run.trial(run.winner), run.analysis
    if winner is None or analysis is None:
        return ""
    tail = {skip.target for step in winner.steps for skip in step.skipped if skip.reason == REASON}
    tail_ms = sum(layer.after_ms or 0 for layer in analysis.layers if layer.name in tail)
    whole_ms = sum(layer.after_ms or 0 for layer in analysis.layers) + sum(ms or 0 for ms in analysis.other_ms[1:])
    if not tail_ms:
        return ""
    nodes = "1 node" if len(tail) == 1 else f"{len(tail)} nodes"
    return f"The detection tail ({nodes} in float) takes {100 * tail_ms / whole_ms:.0f} % of the time of best.onnx."
