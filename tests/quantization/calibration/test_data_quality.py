"""Samples that nothing can be calibrated on are refused."""

from dataclasses import dataclass

import numpy as np
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import DataError
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.calibration.data_quality import range_weaknesses, require_variety
from onnxopt.quantization.calibration.histogram import Extremes
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders


@dataclass(frozen=True)
class Pictures:
    value: float
    speck: float
    name: str = "pictures"
    labels: np.ndarray | None = None
    stacks: bool = True

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> dict[str, np.ndarray]:
        x = np.full((3, 8, 8), self.value, np.float32)
        x[0, 0, 0] += self.speck * index
        return {"x": x}


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_constant_inputs_are_refused(value: float) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), Samples.of(Pictures(value, 0.0)))
    with pytest.raises(DataError, match=f"ONX205: .*pictures.*x is {value:g} everywhere"):
        Pipeline(parse("quantize-static")).run(model, context)


def test_one_value_that_varies_is_enough() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    context = Context(target_of("x86-vnni"), Samples.of(Pictures(0.0, 0.1)))
    assert Pipeline(parse("quantize-static")).run(model, context).steps[0].edits


def test_few_samples_are_reported() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    for count, told in ((3, True), (8, False)):
        context = Context(target_of("x86-vnni"), builders.samples_of(model, 8))
        step = Pipeline(parse(f"quantize-static{{samples={count}}}")).run(model, context).steps[0]
        assert step.edits
        assert any(f"calibrated on {count} samples only" in s.reason for s in step.skipped) is told


def test_an_input_that_stays_the_same_is_reported() -> None:
    found = {"x": Extremes(0.0, 1.0, 0.1, 0.9), "mask": Extremes(1.0, 1.0, 1.0, 1.0)}
    assert range_weaknesses(found, ["x", "mask", "unknown"], 100) == [
        "the input mask holds 1 in every calibration sample"
    ]


def test_samples_are_refused_only_if_no_input_varies() -> None:
    found = {"x": Extremes(0.0, 1.0, 0.1, 0.9), "mask": Extremes(1.0, 1.0, 1.0, 1.0)}
    require_variety(found, ["x", "mask", "unknown"], "data")
    with pytest.raises(DataError, match=r"ONX205.*mask is 1 everywhere"):
        require_variety(found, ["mask", "unknown"], "data")


def test_a_single_sample_is_no_plural() -> None:
    assert range_weaknesses({}, [], 1)[0].startswith("calibrated on 1 sample only")
    assert range_weaknesses({}, [], 2)[0].startswith("calibrated on 2 samples only")
