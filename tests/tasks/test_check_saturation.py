"""`check` of a quantized model on a processor whose sums of two products saturate."""

import numpy as np
import onnx_ir as ir
import pytest

import onnxopt
from onnxopt.catalog import parse
from onnxopt.document.blocks import Text
from onnxopt.measure.runtime.session import Runtime
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.diagnosis import simulation
from onnxopt.quantization.diagnosis.simulation import saturating_layers
from onnxopt.target import TARGETS, target_of
from onnxopt.tasks import check
from tests import builders

CODE = "CHK307"


def made(spec: str, target: str, name: str = "residual_cnn") -> ir.Model:
    model = builders.BUILDERS[name]()
    context = Context(target_of(target), builders.samples_of(model, count=4))
    return Pipeline(parse(f"simplify,{spec}")).run(model, context).model


def codes(model: ir.Model, monkeypatch: pytest.MonkeyPatch, here: str) -> dict[str, tuple[str, ...]]:
    monkeypatch.setattr(simulation, "detect", lambda: TARGETS[here])
    return {finding.code: finding.where for finding in check.findings_of(model)}


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-static{form=qoperator}"])
def test_a_file_for_another_processor_is_named(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, own = made(spec, "x86-vnni"), made(spec, "x86-avx2")
    found = codes(other, monkeypatch, "x86-avx2")
    assert CODE in found
    assert len(found[CODE]) == len(saturating_layers(other, Runtime())) > 1
    assert CODE not in codes(own, monkeypatch, "x86-avx2")
    assert CODE not in codes(other, monkeypatch, "x86-vnni")
    assert CODE not in codes(other, monkeypatch, "arm64-neon")


@pytest.mark.parametrize("name", ["gemm_mlp", "lstm", "loop"])
def test_dynamic_products_are_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eight, seven = (made(f"quantize-dynamic{{reduce_range={bits}}}", "x86-vnni", name) for bits in ("no", "yes"))
    assert CODE in codes(eight, monkeypatch, "x86-avx2")
    assert CODE not in codes(seven, monkeypatch, "x86-avx2")
    assert CODE not in codes(made("quantize-dynamic", "x86-avx2", name), monkeypatch, "x86-avx2")


def test_a_float_model_is_not_loaded_again_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "saturating_layers", lambda *_: pytest.fail("a float model has no integer layers"))
    assert CODE not in codes(builders.BUILDERS["residual_cnn"](), monkeypatch, "x86-avx2")


def test_two_outputs_per_channel_are_products_over_the_window() -> None:
    net = builders.Net(0)
    weight = np.random.RandomState(0).uniform(0.9, 1, (8, 1, 3, 3)).astype(np.float32)
    net.node("Conv", "x", net.const(weight, "w"), group=4, pads=[1] * 4, out="y", name="layer")
    model = net.model([("x", builders.F, [1, 4, 8, 8])], [("y", builders.F, [1, 8, 8, 8])])
    samples = builders.samples_of(model, count=4)
    eight, safe = (
        Pipeline(parse("quantize-static")).run(model, Context(target_of(target), samples)).model
        for target in ("x86-vnni", "x86-avx2")
    )
    assert "layer" in saturating_layers(eight, Runtime())
    assert not saturating_layers(safe, Runtime())


def test_compare_names_the_model_whose_sums_are_wrong_here(monkeypatch: pytest.MonkeyPatch) -> None:
    model, file = builders.BUILDERS["residual_cnn"](), made("quantize-static", "x86-vnni")
    data = dict(builders.feeds_of(model, batch=8))
    said = "can exceed 16 bits on this processor"
    for here in ("x86-avx2", "x86-vnni", "arm64-neon"):
        monkeypatch.setattr(simulation, "detect", lambda here=here: TARGETS[here])
        found = onnxopt.compare(model, file, data, seconds=0.02)
        (before, after) = found.saturating
        assert not before
        assert bool(after) == (here == "x86-avx2")
        lines = [line for block in found.document.blocks if isinstance(block, Text) for line in block.lines]
        assert any(said in line and "the other model" in line for line in lines) == bool(after)
