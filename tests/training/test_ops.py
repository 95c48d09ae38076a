"""Every rule computes what ONNX Runtime does, and again for other data of the same shapes."""

import numpy as np
import pytest

from onnxopt.model_file import to_bytes
from onnxopt.training.module.coverage import covered
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.ops.convert import to_array, to_tensors
from tests import builders, numerics
from tests.training.cases import CASES, Case

ELSEWHERE = {("", "Constant"), ("", "If"), ("", "Loop"), ("", "Scan"), ("ai.onnx.ml", "ZipMap")}
"""Operators whose tests are in other files."""


def test_every_rule_has_a_case() -> None:
    assert {(c.domain, c.op) for c in CASES} | ELSEWHERE == covered()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rule(case: Case) -> None:
    model = case.model()
    module = TorchModel(model, outputs=[v.name for v in model.graph.outputs]).eval()
    rng = np.random.RandomState(5)
    feeds = case.feeds()
    # Other data from the same values, so that it stays where the operator is defined; whole numbers move too, so that
    # one that is not constant is seen to be read anew.
    others = {k: rng.permutation(v.reshape(-1)).reshape(v.shape) for k, v in feeds.items()}
    for fed in (feeds, others):
        expected = builders.run(to_bytes(model), fed)
        found = [to_array(tensor) for tensor in module(to_tensors(fed)).values()]
        if case.op == "QuantizeLinear":  # stays a float, on the same grid
            expected = [e.astype(np.float32) for e in expected]
        assert numerics.largest_difference(expected, found) <= numerics.EXACT_RELATIVE
    assert len(module._plans) == 1
