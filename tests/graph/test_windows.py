"""SAME padding as ONNX Runtime computes it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.graph.windows import same_pads, split_padding
from tests import builders, numerics
from tests.builders import F, Net


@given(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]), st.integers(4, 11), st.integers(1, 4), st.integers(1, 3))
def test_explicit_pads_give_the_outputs_of_same_padding(auto_pad: str, size: int, kernel: int, stride: int) -> None:
    """The runtime takes no dilations here."""
    pads = same_pads(auto_pad, (size, size), (kernel, kernel), (stride, stride), (1, 1))
    outputs = []
    for padding in ({"auto_pad": auto_pad}, {"pads": list(pads)}):
        net = Net(1)
        net.node("Conv", "x", net.weight(2, 1, kernel, kernel), out="y", strides=[stride, stride], **padding)
        model = net.model([("x", F, [1, 1, size, size])], [("y", F, None)])
        feeds = {"x": np.arange(size * size, dtype=np.float32).reshape(1, 1, size, size)}
        outputs.append(builders.run(model, feeds))
    assert numerics.largest_difference(*outputs) <= numerics.EXACT_RELATIVE


@pytest.mark.parametrize(("auto_pad", "expected"), [("SAME_UPPER", (1, 2)), ("SAME_LOWER", (2, 1))])
def test_the_odd_one_is_where_the_name_says(auto_pad: str, expected: tuple[int, int]) -> None:
    assert split_padding(3, auto_pad) == expected
