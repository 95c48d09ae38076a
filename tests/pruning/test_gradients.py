from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnxopt import model_file
from onnxopt.graph.channels.find import channels_of
from onnxopt.graph.edit import set_weight
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import signature_of
from onnxopt.passes.prune_channels import PruneChannels
from onnxopt.pipeline import Context
from onnxopt.samples import open_samples
from onnxopt.target import target_of

pytest.importorskip("torch")
from onnxopt.pruning.gradients import by_gradients


@pytest.fixture
def model():
    return model_file.load(Path("models/digits_mlp.onnx"))


@pytest.fixture
def samples(model):
    return open_samples("digits:train", signature_of(model), limit=64)


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_units_that_do_nothing_score_nothing(model, samples, importance):
    channels = channels_of(model)
    group = next(g for g in channels.groups if g.frozen is None)
    for name, axis, positions in group.members:
        value = channels.model.graph.initializers[name]
        array = value.const_value.numpy().copy()
        index = [slice(None)] * array.ndim
        index[axis] = list(positions[3])
        array[tuple(index)] = 0
        set_weight(value, array)
    scores = by_gradients(channels, [group], samples, importance)[group.name]
    assert scores.shape == (group.size,)
    assert scores[3] == pytest.approx(0.0, abs=1e-12)
    assert np.count_nonzero(scores > 0) > group.size / 2


@pytest.mark.parametrize("importance", ["taylor", "fisher"])
def test_gradients_keep_more_than_chance(model, samples, importance):
    spec = PruneChannels(0.6, round_to=1, importance=importance, compensate="none", scope="local", protect=())
    context = Context(target_of("x86-vnni"), samples)
    test = open_samples("digits", signature_of(model), limit=200)
    lost = {}
    for name, one in ((importance, spec), ("random", replace(spec, importance="random"))):
        result = Session(one.apply(model.clone(), context).model, Runtime())
        original = Session(model, Runtime())
        lost[name] = np.mean([(result.run(f)[0] != original.run(f)[0]).mean() for f in test])
    assert lost[importance] < lost["random"]
