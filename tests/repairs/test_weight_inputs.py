"""Weights that are inputs too become constants, and nothing else changes."""

import numpy as np

from onnxopt.graph.edit import freeze_weights
from onnxopt.model_file import signature_of
from onnxopt.repairs.order import REPAIRS
from onnxopt.repairs.weight_inputs import WeightInputs
from tests import builders
from tests.repairs.quantized import X86, mended


def test_weights_are_no_inputs_any_more_and_the_outputs_are_equal() -> None:
    model = builders.BUILDERS["listed_weights_8"]()
    weights = [v.name for v in model.graph.inputs if v.name in model.graph.initializers]
    result, found = mended(WeightInputs(), model)
    assert list(found.where) == weights
    assert [v.name for v in result.graph.inputs] == ["x"]
    assert signature_of(result) == signature_of(model)
    for feeds in builders.samples_of(model, 4):
        np.testing.assert_array_equal(builders.run(model, dict(feeds))[0], builders.run(result, dict(feeds))[0])


def test_constants_are_no_fault() -> None:
    model = builders.BUILDERS["listed_weights_8"]()
    freeze_weights(model)
    assert not WeightInputs().find(model, X86).sites


def test_it_comes_before_all_that_read_constants() -> None:
    assert isinstance(REPAIRS[0], WeightInputs)
