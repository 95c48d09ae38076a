"""Random graphs: what is cut gives the same outputs as what is masked, and most of what is drawn can be cut."""

import os
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from onnxopt.errors import OnnxoptError
from onnxopt.graph.channels.choice import Part
from onnxopt.graph.channels.cut import cut_channels, mask_channels
from onnxopt.graph.channels.find import channels_of
from onnxopt.pruning.proof import PROVED_RELATIVE
from tests import builders, numerics
from tests.graph.channels.channel_graphs import network

EXAMPLES = int(os.environ.get("ONNXOPT_CHANNEL_EXAMPLES", "300"))
Drawn = tuple[int, str, int, tuple[bool, bool], list[int]]
GRAPHS = st.tuples(
    st.integers(0, 2**20),
    st.sampled_from(["image", "image", "tokens", "rows"]),
    st.sampled_from([13, 17, 18, 21, 23]),
    st.tuples(st.booleans(), st.booleans()),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
)


def optimized_alike(model: ir.Model, feeds: dict[str, np.ndarray]) -> bool:
    """Return whether optimizations keep what the original computes: products fused with a dequantization round."""
    try:
        pair = builders.run(model, feeds), builders.run(model, feeds, optimized=True)
    except Fail:
        return False
    exact = numerics.largest_difference(*pair) <= numerics.EXACT_RELATIVE
    return exact and all(node.op_type != "DequantizeLinear" for node in model.graph)


def outcome(drawn: Drawn, part: Part | None = None) -> str:
    """Return whether the graph was `cut`, has `nothing` to cut, or was `refused`; fails where outputs differ."""
    model, rng = network(*drawn), np.random.RandomState(drawn[0])
    channels, kept = channels_of(model, part), {}
    for group in channels.groups:
        if group.frozen is None and group.size > 1:
            count = rng.randint(1, group.size)
            kept[group.name] = sorted(rng.choice(group.size, count, replace=False).tolist())
    if not kept:
        return "nothing"
    try:
        smaller = cut_channels(channels, kept)
    except OnnxoptError as error:
        return f"refused: {error.where} {error.why}"
    zeroed = mask_channels(channels, kept)
    for batch in (2, 3) if drawn[3][0] else (2,):
        feeds = builders.feeds_of(model, batch=batch)
        for optimized in (False, True) if optimized_alike(model, feeds) else (False,):
            pair = builders.run(zeroed, feeds, optimized), builders.run(smaller, feeds, optimized)
            assert numerics.largest_difference(*pair) <= PROVED_RELATIVE
    return "cut"


@pytest.mark.slow
def test_random_graphs_are_cut_as_they_are_masked() -> None:
    seen = Counter[str]()

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(GRAPHS, st.sampled_from([None, "outer", "inner"]))
    def run(drawn: Drawn, part: Part | None) -> None:
        seen[outcome(drawn, part).partition(":")[0]] += 1

    run()
    assert seen["cut"] >= 0.85 * seen.total()
    assert seen["refused"] <= 0.01 * seen.total()
