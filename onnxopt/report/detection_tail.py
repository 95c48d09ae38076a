"""The share of time of a detection tail, which stays in float."""

from onnxopt.quantization.placement.tails import REASON
from onnxopt.record.run import RunRecord


def tail_sentence(run: RunRecord) -> str:
    """Return how much of the time of best.onnx its detection tail takes; "" where it has none, or none was timed."""
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
