import numpy as np
import pytest

from onnxopt.graph.channels.cut import cut_channels
from onnxopt.graph.channels.find import channels_of
from onnxopt.graph.layers import anatomy_of
from onnxopt.pruning.work import PruningWork
from tests import builders

NAMES = (
    "residual_cnn",
    "depthwise_separable",
    "gemm_mlp",
    "transformer_13",
    "transformer_17",
    "nhwc",
    "gru",
    "embedding",
    "data_movement",
    "lstm",
)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_predicted_work_is_that_of_the_smaller_model(name, seed):
    channels = channels_of(builders.BUILDERS[name]())
    fed = channels.trace.first.fed
    sizes = {
        str(dim.value): fed[value.name][axis]
        for value in channels.model.graph.inputs
        for axis, dim in enumerate(value.shape or ())
        if not isinstance(dim, int)
    }
    work, rng = PruningWork.of(channels), np.random.default_rng(seed)
    whole = anatomy_of(channels.model, sizes)
    assert whole.macs_unknown == 0
    assert work.macs({}) == pytest.approx(whole.macs)
    counts = {g.name: int(rng.integers(g.size)) for g in channels.groups if g.frozen is None}
    assert counts
    smaller = cut_channels(
        channels, {g.name: tuple(range(g.size - counts[g.name])) for g in channels.groups if g.name in counts}
    )
    assert work.macs(counts) == pytest.approx(anatomy_of(smaller, sizes).macs)
