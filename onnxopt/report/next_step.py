"""The next step after a run."""

import shlex
from pathlib import Path

from onnxopt.document import units
from onnxopt.record.run import RunRecord
from onnxopt.search.trial import Verdict


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
        return f"{_go_on(folder)}."
    if not run.trials:
        return f"{_go_on(folder)}, with a larger time limit."
    verdicts = {trial.verdict for trial in run.trials}
    lost_too_much = bool(verdicts & {Verdict.OVER_BUDGET.value, Verdict.UNPROVEN.value})
    if lost_too_much and run.allowed_drop == 0:
        some = "0.5%" if run.unit != "share" else "0.5pp"
        return f"give a small budget, such as --max-drop {some}: no number of samples proves a drop of exactly zero."
    if lost_too_much:
        return "give more samples, or a larger budget with --max-drop."
    if Verdict.UNSURE.value in verdicts:
        return f"stop other programs and measure longer, with --latency-seconds; {_go_on(folder)}."
    if Verdict.SLOWER.value in verdicts:
        return "try --goal size, or more --threads if the deployment has them."
    return f"see {folder / 'report.html'} for the edits and skips of every pass."


def _go_on(folder: Path) -> str:
    return f"onnxopt resume {shlex.quote(str(folder))}"
