"""Products in the body of a Scan are seen, fitted and replaced as if they stood in the main graph."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxopt import model_file
from onnxopt.graph.layers import anatomy_of
from onnxopt.passes.factorize import Factorize
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.reconstruction.scan_layers import hidden, observed
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import F, Net

STEPS, WIDTH, STATE = 6, 24, 32


def cell(*, opset: int = 17, axes: bool = False) -> ir.Model:
    """A recurrent layer as a Scan: a Gemm whose weight stands outside, and a MatMul whose weight stands inside."""
    outer, inner = Net(70), Net(71)
    left = outer.rng.standard_normal((WIDTH + STATE, WIDTH + STATE)) * np.logspace(0, -3, WIDTH + STATE)
    kernel = left @ outer.rng.standard_normal((WIDTH + STATE, 4 * STATE)) / 8
    weight, bias = outer.const(kernel.astype(np.float32), "kernel"), outer.weight(4 * STATE, name="kernel_bias")
    joined = inner.node("Concat", "x_t", "h", axis=1)
    gates = inner.node("Gemm", joined, weight, bias, name="gates")
    inner.node("MatMul", inner.node("Tanh", gates), inner.weight(4 * STATE, STATE), out="h_next", name="project")
    inner.node("Identity", "h_next", out="y_t")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        inner.nodes,
        "body",
        [value("h", F, [1, STATE]), value("x_t", F, [1, WIDTH])],
        [value("h_next", F, [1, STATE]), value("y_t", F, [1, STATE])],
        inner.weights,
    )
    options = {"scan_output_axes": [0], "scan_output_directions": [0]} if axes else {}
    first = outer.const(np.zeros((1, STATE), np.float32))
    steps = outer.node("Transpose", "x", perm=[1, 0, 2])
    scan = helper.make_node("Scan", [first, steps], ["last", "y"], name="scan", body=body, num_scan_inputs=1, **options)
    outer.nodes.append(scan)
    outputs = [("last", F, [1, STATE]), ("y", F, [STEPS, 1, STATE])]
    return outer.model([("x", F, [1, STEPS, WIDTH])], outputs, opset=opset)


def run(model: ir.Model, samples: Samples | None = None, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, "round_to": 4, "rank_ratio": 0.3, **options}
    result = Pipeline((Factorize(**options),)).run(model, Context(target_of("x86-vnni"), samples))
    return result.model, result.steps[0]


@pytest.mark.parametrize("axes", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_what_is_shown_is_hidden_again(axes: bool, biases: bool) -> None:
    model = cell(axes=axes)
    feeds = builders.feeds_of(model)
    before = builders.run(model, feeds)
    layers, made = observed(model, biases=biases)
    assert list(layers) == ["gates", "project"]
    assert len(made) == biases
    after = builders.run(model, feeds)
    assert numerics.largest_difference(before, after) < numerics.EXACT_RELATIVE
    names = [value.name for value in next(n for n in model.graph if n.op_type == "Scan").outputs]
    assert {layer.x for layer in layers.values()} | {layer.y for layer in layers.values()} == set(names[2:])
    hidden(model, layers.values())
    model_file.check(model)
    assert numerics.largest_difference(before, builders.run(model, feeds)) < numerics.EXACT_RELATIVE
    (scan,) = (node for node in model.graph if node.op_type == "Scan")
    assert [value.name for value in scan.outputs] == ["last", "y"]
    assert [value.name for value in scan.attributes["body"].as_graph().outputs] == ["h_next", "y_t"]
    if axes:
        assert list(scan.attributes["scan_output_axes"].as_ints()) == [0]


def test_the_layer_reads_and_gives_what_is_shown() -> None:
    model = cell()
    layers, _ = observed(model, biases=False)
    gates = layers["gates"]
    for name in (gates.x, gates.y):
        scan = next(n for n in model.graph if n.op_type == "Scan")
        model.graph.outputs.append(next(v for v in scan.outputs if v.name == name))
    *_, x, y = builders.run(model, builders.feeds_of(model))
    kernel, bias = (model.graph.initializers[name].const_value.numpy() for name in ("kernel", "kernel_bias"))
    assert x.shape == (STEPS, 1, WIDTH + STATE)
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("aware", [False, True])
def test_the_weights_of_the_body_become_chains(aware: bool) -> None:
    model = cell()
    samples = builders.samples_of(model, 8) if aware else None
    result, step = run(model, samples)
    assert {edit.target for edit in step.edits} == {"gates", "project"}
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    assert [node.op_type for node in result.graph] == ["Transpose", "Scan"]
    assert len(result.graph[1].outputs) == 2
    assert anatomy_of(result).parameters < 0.7 * anatomy_of(model).parameters


def test_samples_lose_less_in_a_body_too() -> None:
    model = cell()
    samples = builders.samples_of(model, 16)
    lost = []
    for aware in (False, True):
        result, _ = run(model, samples, data_aware=aware, exclude=("project",), rank_ratio=0.15)
        pairs = [(builders.run(model, dict(f))[1], builders.run(result, dict(f))[1]) for f in samples]
        lost.append(sum(float(np.square(one - other).sum()) for one, other in pairs))
    assert lost[1] < lost[0]


def test_layers_of_a_body_that_stay_say_why() -> None:
    model = cell()
    result, step = run(model, exclude=("gates", "project"))
    assert model_file.to_bytes(result) == model_file.to_bytes(model)
    assert {skip.target: skip.reason for skip in step.skipped} == dict.fromkeys(
        ("gates", "project"), "excluded by name"
    )
