"""What the family bench stands on: the files are the networks, and a wrong cut would be seen."""

import numpy as np
import pytest

from onnxopt import model_file
from onnxopt.graph.channels.find import channels_of
from onnxopt.measure.runtime.session import Session
from tests import numerics

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def bench(bench_module):
    return bench_module("prune_exactness")


@pytest.mark.parametrize("name", ["resnet-basic", "shufflenet-v2", "super-resolution", "swin", "llama", "crnn"])
def test_the_file_is_the_network_at_every_batch(bench, tmp_path, name):
    family = bench.FAMILIES[name]
    module = bench.export(family, "torchscript", tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx", bench.Runtime())
    for batch in bench.BATCHES:
        feeds = bench.fed(family, batch)
        with torch.no_grad():
            expected = module(*map(torch.from_numpy, feeds.values())).numpy()
        assert bench.difference(expected, session.run(feeds)[0]) < numerics.EXACT_RELATIVE


def test_a_wrong_cut_is_seen(bench, tmp_path, monkeypatch):
    family = bench.FAMILIES["resnet-basic"]
    bench.export(family, "torchscript", tmp_path / "model.onnx")
    channels = channels_of(model_file.load(tmp_path / "model.onnx"))
    name = max((g for g in channels.groups if g.frozen is None), key=lambda g: g.size).name
    right = bench.checked({name}, channels, family, tmp_path)
    assert right["checked_difference"] <= bench.EXACT < bench.VISIBLE <= right["masked_away"]
    cut = bench.cut_channels

    def wrong(channels, kept):
        size = next(g.size for g in channels.groups if g.name == name)
        return cut(channels, {name: sorted((unit + 1) % size for unit in kept[name])})

    monkeypatch.setattr(bench, "cut_channels", wrong)
    assert bench.checked({name}, channels, family, tmp_path)["checked_difference"] > bench.EXACT


def test_no_number_is_no_small_difference(bench):
    one, none = np.ones((2, 3), np.float32), np.full((2, 3), np.nan, np.float32)
    assert bench.difference(one, none) == bench.difference(none, none) == float("inf")
    assert bench.difference(one, np.ones((2, 2), np.float32)) == float("inf")
    assert bench.difference(2 * one, one) == 0.5
