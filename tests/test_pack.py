"""Real trained models, where they are at hand: each is pruned with proof, or every group says why it stays whole."""

from pathlib import Path

import pytest

from onnxopt import model_file
from onnxopt.errors import OnnxoptError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Context, Pipeline
from onnxopt.pruning.proof import PROVED_RELATIVE
from onnxopt.target import target_of

MODELS = sorted((Path(__file__).parents[2] / "shared" / "data" / "models").glob("*.onnx"))


@pytest.mark.skipif(not MODELS, reason="the developer pack is not beside the checkout")
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_real_models_are_pruned_and_proved_or_say_why_not(path):
    try:
        model = model_file.load(path)
        Session(model, Runtime(optimization="none"))
    except OnnxoptError as error:
        pytest.skip(f"ONNX Runtime alone does not load it: {error.code}")
    (step,) = (
        Pipeline((PruneChannels(ratio=0.25, round_to=1, protect=()),)).run(model, Context(target_of("x86-vnni"))).steps
    )
    assert step.edits or step.skipped
    assert not [s for s in step.skipped if s.reason.startswith("not removed")]
    if any("removed" in e.action for e in step.edits):
        assert step.difference is not None
        assert step.difference <= PROVED_RELATIVE
