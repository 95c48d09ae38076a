"""What a user does after a run."""

import shlex
from pathlib import Path

from onnxopt.document import units
from onnxopt.record.run import RunRecord
from onnxopt.search.trial import Verdict


def next_step(run: RunRecord, folder: Path) -> str:
    """Return what a user does now."""
    if run.status == "won" and run.standing == "likely":
        sure = units.percent(run.confidence or 0.0)
        return (
            f"more samples, to prove what is now likely ({sure}); or deploy {folder / 'best.onnx'} at that risk. "
            "--require proven ships nothing that is not proven."
        )
    if run.status == "won":
        return f"deploy {folder / 'best.onnx'}; the proof is in {folder / 'report.html'}."
    if run.status != "kept-original":
        return f"{_go_on(folder)}."
    if not run.trials:
        return f"{_go_on(folder)}, with more time."
    verdicts = {trial.verdict for trial in run.trials}
    lost_too_much = bool(verdicts & {Verdict.OVER_BUDGET.value, Verdict.UNPROVEN.value})
    if lost_too_much and run.allowed_drop == 0:
        some = "0.5%" if run.unit != "share" else "0.5pp"
        return (
            "that nothing at all is lost cannot be proved with a limited number of samples; allow a little, such as "
            f"--max-drop {some}."
        )
    if lost_too_much:
        return "give more samples, or allow a larger --max-drop."
    if Verdict.UNSURE.value in verdicts:
        return f"stop other programs and search again, with longer measuring: --latency-seconds; {_go_on(folder)}."
    if Verdict.SLOWER.value in verdicts:
        return "try --goal size, or more --threads if that is how the model is deployed."
    return f"see {folder / 'report.html'} for what every pass found."


def _go_on(folder: Path) -> str:
    return f"onnxopt resume {shlex.quote(str(folder))}"
