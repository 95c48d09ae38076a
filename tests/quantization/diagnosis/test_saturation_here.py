"""Saturation as this processor has it, beside its simulation: where there is no VNNI."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.diagnosis.simulation import simulate
from onnxopt.target import detect
from tests import builders
from tests.quantization.diagnosis.test_simulation import ARM, AVX2, outputs, quantized

pytestmark = pytest.mark.skipif(
    detect().activation_type != "uint8" or not detect().reduce_range, reason="this processor does not saturate"
)
STEPS = 100
"""Steps of the output, which has 8 bits, that the largest output takes."""


def steps(model: ir.Model, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the output in steps: as this processor computes it, as simulated for it, and exact."""
    here, there = (simulate(model, target, Runtime()) for target in (AVX2, ARM))
    size = np.float32(np.abs(outputs(model, ARM, x)[0]).max() / STEPS)
    runs = [(model, Runtime()), (here.model, here.runtime), (there.model, there.runtime)]
    for each, _ in runs:
        each.graph.initializers["sy"].const_value = ir.tensor(size, name="sy")
    found = [Session(each, runtime).named({"x": x})["z"] / size for each, runtime in runs]
    return found[0], found[1], found[2]


@pytest.mark.parametrize(
    ("count", "channels", "groups", "kernel"),
    [
        (16, 3, 1, 3),  # a picture
        (16, 4, 1, 3),
        (16, 8, 1, 1),
        (16, 16, 4, 3),
        (16, 16, 16, 3),  # depthwise
        (32, 16, 16, 3),  # depthwise, two outputs per channel
        (16, 1, 1, 3),
    ],
)
def test_convolutions_are_as_simulated(count: int, channels: int, groups: int, kernel: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(40, 128, (count, channels // groups, kernel, kernel)).astype(np.int8)
    model = quantized("Conv", weight, (1, channels, 12, 12), "uint8", 0, group=groups)
    here, simulated, exact = steps(model, rng.uniform(1, 3.1, (1, channels, 12, 12)).astype(np.float32))
    assert np.abs(here - simulated).max() <= 1
    assert (np.abs(here - exact).max() > 1) == (groups < count or channels // groups > 1)


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
@pytest.mark.parametrize("inputs", [32, 33])
def test_products_are_as_simulated(op_type: str, inputs: int) -> None:
    rng = np.random.default_rng(0)
    weight = rng.integers(40, 128, (inputs, 24)).astype(np.int8)
    model = quantized(op_type, weight, (4, inputs), "uint8", 1)
    here, simulated, exact = steps(model, rng.uniform(1, 3.1, (4, inputs)).astype(np.float32))
    assert np.abs(here - simulated).max() <= 1
    assert np.abs(here - exact).max() > 1


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("inputs", [32, 33])
def test_dynamic_products_with_limited_neighbours_are_exact(inputs: int, rows: int) -> None:
    rng = np.random.default_rng(0)
    # Every second weight is as large as 8 bits hold: 7 bits for all would not be needed.
    weight = np.where(np.arange(inputs)[:, None] % 2, 1, rng.uniform(80, 127, (inputs, 24))).astype(np.float32)
    net = builders.Net(0)
    net.node("MatMul", "x", net.const(weight, "w"), out="y", name="layer")
    model = net.model([("x", builders.F, [rows, inputs])], [("y", builders.F, [rows, 24])])
    x = rng.uniform(0.9, 1, (rows, inputs)).astype(np.float32)
    exact = x @ weight
    errors = []
    for options in ("", "{reduce_range=yes}", "{reduce_range=no}"):
        made = Pipeline(parse(f"quantize-dynamic{options}")).run(model, Context(AVX2)).model
        errors.append(float(np.abs(Session(made, Runtime()).named({"x": x})["y"] - exact).max() / exact.max()))
    limited, seven, _ = errors
    assert limited < 0.01
    assert limited <= seven


def test_dynamic_products_of_8_bits_are_wrong_here() -> None:
    weight = np.random.default_rng(0).uniform(80, 127, (32, 24)).astype(np.float32)
    net = builders.Net(0)
    net.node("MatMul", "x", net.const(weight, "w"), out="y", name="layer")
    model = net.model([("x", builders.F, [4, 32])], [("y", builders.F, [4, 24])])
    x = np.ones((4, 32), np.float32)
    for options, least, most in (("{reduce_range=no}", 0.2, 1), ("", 0, 0.02)):
        made = Pipeline(parse(f"quantize-dynamic{options}")).run(model, Context(AVX2)).model
        found = Session(made, Runtime()).named({"x": x})["y"]
        assert least <= np.abs(found / (x @ weight) - 1).max() <= most
