"""The stages between a model that only lost something and the winner."""

import pytest

from onnxopt.catalog import format_passes, parse
from onnxopt.search.recovery import last_stage, stages_before
from onnxopt.search.trial import Candidate

TRAINED = "simplify,prune-channels{macs=0.5},distill{epochs=2},quantize-static"


@pytest.mark.parametrize(
    ("passes", "stages", "last"),
    [
        ("simplify,quantize-static", [], "least squares"),
        (
            "simplify,prune-channels{macs=0.5},quantize-static",
            [("nothing", "simplify,prune-channels{macs=0.5,compensate=none},quantize-static")],
            "least squares",
        ),
        (
            TRAINED,
            [
                ("nothing", "simplify,prune-channels{macs=0.5,compensate=none},quantize-static"),
                ("least squares", "simplify,prune-channels{macs=0.5},quantize-static"),
            ],
            "training",
        ),
        (
            "prune-channels{compensate=none},distill",
            [("nothing", "prune-channels{compensate=none}")],
            "training",
        ),
        ("factorize{macs=0.5}", [("nothing", "factorize{macs=0.5,data_aware=false}")], "least squares"),
    ],
)
def test_each_stage_leaves_one_kind_of_recovery_more_out(passes: str, stages: list[tuple[str, str]], last: str) -> None:
    winner = Candidate("winner", parse(passes))
    found = [(stage, candidate.passes) for stage, candidate in stages_before(winner)]
    assert [(stage, format_passes(made)) for stage, made in found] == [
        (stage, format_passes(parse(text))) for stage, text in stages
    ]
    assert last_stage(winner) == last
