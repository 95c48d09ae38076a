"""The share of the time that a detection tail takes is said where there is one."""

from onnxopt.quantization.placement.tails import REASON
from onnxopt.record.trial import SkipRecord
from onnxopt.report.findings import findings, tail_sentence


def test_the_share_of_the_time_is_that_of_the_nodes_left_for_the_tail(explained_record):
    run = explained_record
    winner, analysis = run.trial(run.winner), run.analysis
    layer = analysis.layers[0].model_copy(update={"name": "nms", "after_ms": 3.0})
    rest = layer.model_copy(update={"name": "body", "after_ms": 8.0})
    timed = analysis.model_copy(update={"layers": (layer, rest), "other_ms": (5.0, 1.0)})
    step = winner.steps[-1].model_copy(update={"skipped": (SkipRecord(target="nms", reason=REASON),)})
    trials = tuple(
        t.model_copy(update={"steps": (*t.steps[:-1], step)}) if t.name == winner.name else t for t in run.trials
    )
    run = run.model_copy(update={"analysis": timed, "trials": trials})
    said = "The detection tail (1 node in float) takes 25 % of the time of best.onnx."
    assert tail_sentence(run) == said
    assert said in findings(run)


def test_without_a_tail_nothing_is_said(explained_record):
    assert tail_sentence(explained_record) == ""
    assert tail_sentence(explained_record.model_copy(update={"analysis": None})) == ""
