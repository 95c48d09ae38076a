"""The figures of the page, and that names from a model stay text."""

import json
import re

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from onnxopt.record.analysis import AnalysisRecord, ClassesRecord, LayerRecord
from onnxopt.record.run import RunRecord
from onnxopt.report.charts_layers import classes_chart, confusion_chart, layers_chart, ranges_chart, sensitivity_chart
from onnxopt.report.charts_search import distribution_chart, drift_chart, pareto_chart, recovery_chart
from onnxopt.report.page import to_page

BAD = "</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>$bad %{x}"
CLASSES = ClassesRecord(
    labelled=True, labels=("0", "1"), samples=(5, 4), before=((5, 0), (0, 4)), after=((4, 1), (0, 4))
)


def _valid(figure: dict) -> go.Figure:
    """Let plotly's own checks read a figure; they do not know our names of colours."""
    plain = re.sub(r'"\$\w+"', '"red"', json.dumps(figure))
    return go.Figure(json.loads(plain))


def hostile(run: RunRecord) -> RunRecord:
    """Put a hostile name wherever a model or a user can put one."""
    text = run.to_json()
    for name in {layer.name for layer in run.analysis.layers} | {"digits_resnet", "top1", "static"}:
        text = text.replace(json.dumps(name)[1:-1], json.dumps(BAD)[1:-1])
    return RunRecord.model_validate_json(text)


def test_every_chart_is_a_figure_that_plotly_accepts(explained_record):
    run = explained_record
    for make in (pareto_chart, distribution_chart, drift_chart, layers_chart, ranges_chart):
        chart = make(run)
        assert chart is not None, make
        assert len(_valid(chart.figure).data) >= 1
        assert chart.caption
    for chart in (classes_chart(CLASSES), confusion_chart(CLASSES)):
        assert len(_valid(chart.figure).data) >= 1


def test_the_pareto_chart_shows_what_was_measured(explained_record):
    figure = pareto_chart(explained_record).figure
    won = next(t for t in figure["data"] if t["name"] == "winner")
    assert won["x"] == [pytest.approx(1 / 2.5)]
    assert won["y"] == [pytest.approx(98.0)]
    assert won["error_y"]["array"] == [pytest.approx(1.0)]
    assert won["error_y"]["arrayminus"] == [pytest.approx(2.0)]
    assert "quantize-static" in won["hovertext"][0]
    assert figure["layout"]["shapes"][0]["y0"] == pytest.approx(97.5)
    joined = figure["data"][0]
    assert joined["x"] == sorted(joined["x"])
    assert joined["y"] == sorted(joined["y"])


def test_the_line_of_best_trade_offs_passes_a_disproved_candidate_by(explained_record):
    winner = next(t for t in explained_record.trials if t.verdict == "winner")
    speedup = winner.latency.speedup.model_copy(update={"low": 3.9, "value": 4.0, "high": 4.1})
    latency = winner.latency.model_copy(update={"speedup": speedup})
    best = winner.score.model_copy(update={"value": 1.0})
    for verdict, expected in (("within budget", [0.25]), ("not proven on the hold-out part", [1 / 2.5, 1.0])):
        more = winner.model_copy(update={"name": "other", "verdict": verdict, "latency": latency, "score": best})
        run = explained_record.model_copy(update={"trials": (*explained_record.trials, more)})
        assert pareto_chart(run).figure["data"][0]["x"] == pytest.approx(expected)


def test_charts_without_data_are_left_out(explained_record):
    bare = explained_record.model_copy(update={"analysis": None, "proofs": (), "trials": (), "baseline": None})
    for make in (pareto_chart, distribution_chart, drift_chart, layers_chart, ranges_chart, sensitivity_chart):
        assert make(bare) is None
    page = to_page(bare)
    assert 'id="measured"' in page
    for section in ("graph", "classes", "ranges", "latency", "choice"):
        assert f'id="{section}"' not in page


def test_sensitivity_is_drawn_when_it_was_measured(explained_record):
    layers = (
        LayerRecord(name="a", op_type="Conv", before_ms=1.0, after_ms=0.5, runs_as="QLinearConv", sqnr_db=30.0),
        LayerRecord(name="b", op_type="Conv", before_ms=1.0, after_ms=0.5, runs_as="QLinearConv", sqnr_db=5.0),
    )
    run = explained_record.model_copy(update={"analysis": AnalysisRecord(layers=layers)})
    assert sensitivity_chart(run).figure["data"][0]["x"] == [5.0, 30.0]


def test_the_curve_of_a_training_is_drawn(explained_record):
    trial = explained_record.trials[1]
    step = trial.steps[0].model_copy(update={"curve": ((0, 2.0, 0.5), (10, 1.0, 0.2))})
    run = explained_record.model_copy(update={"trials": (trial.model_copy(update={"steps": (step,)}),)})
    chart = recovery_chart(run)
    assert chart.figure["data"][0]["y"] == [0.5, 0.2]
    assert len(_valid(chart.figure).data) == 1
    assert 'id="chart-recovery"' in to_page(run)
    assert 'id="recovery"' not in to_page(explained_record)


def test_confusion_is_what_changed():
    assert confusion_chart(CLASSES).figure["data"][0]["z"] == [[-1, 1], [0, 0]]
    assert classes_chart(CLASSES).figure["data"][1]["y"] == [80.0, 100.0]


def test_hostile_names_stay_text(explained_record):
    page = to_page(hostile(explained_record)).replace(get_plotlyjs(), "")
    assert "<img" not in page
    assert "<a href='javascript" not in page
    assert page.count("</script>") == 3
    charts = json.loads(re.search(r'<script id="charts" type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    shown = json.dumps(charts)
    assert "&lt;/script" in shown
    assert "<img" not in shown
    assert "<a " not in shown
    assert "%{x}" not in re.sub(r'"hovertemplate": "[^"]*"', "", shown)
