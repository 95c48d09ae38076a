"""Simplification folds and fuses, and says so."""

from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir
import pytest

from onnxopt.errors import ModelError
from onnxopt.model_file import opset_of
from onnxopt.passes import simplify
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.quantization import ort_bridge
from onnxopt.target import target_of
from tests import builders, numerics


def simplified(name: str, **options: bool) -> Optimized:
    return Pipeline((Simplify(**options),)).run(builders.BUILDERS[name](), Context(target_of("x86-vnni")))


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes())


@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "listed_weights_8"])
def test_batch_norms_are_folded(name: str) -> None:
    before, after = ops(builders.BUILDERS[name]()), ops(simplified(name).model)
    assert before["BatchNormalization"] > 0
    assert after["BatchNormalization"] == 0
    assert after["Conv"] == before["Conv"]


def test_constants_are_folded() -> None:
    result = simplified("constant_nodes")
    assert not {"Constant"} & set(ops(result.model))
    assert "Mul" not in ops(result.model) or ops(result.model)["Mul"] == 1
    assert any("Constant" in e.action for e in result.steps[0].edits)


def test_scalings_and_hard_sigmoids_are_merged() -> None:
    result = simplified("hard_swish_9")
    found = ops(result.model)
    # The swish becomes a product, its scaling goes into the next weights, and its shift stays beside the zero padding.
    assert {op: found[op] for op in ("Conv", "HardSigmoid", "Mul", "Add", "Clip", "Div")} == {
        "Conv": 2,
        "HardSigmoid": 1,
        "Mul": 1,
        "Add": 1,
        "Clip": 0,
        "Div": 0,
    }
    actions = [edit.action for edit in result.steps[0].edits]
    assert "hard sigmoids as one operator: 1" in actions
    assert "scalings folded into layers: 5" in actions


def test_functions_are_inlined() -> None:
    model = simplified("with_function").model
    assert not model.functions
    assert ops(model) == {"MatMul": 3, "Relu": 2}


@pytest.mark.parametrize("name", ["transformer_13", "transformer_14"])
def test_layer_norms_are_fused_into_the_standard_operator(name: str) -> None:
    result = simplified(name)
    assert ops(result.model)["LayerNormalization"] == 2
    assert opset_of(result.model) >= 17
    assert {node.domain for node in result.model.graph} == {""}
    assert any("LayerNormalization fused" in e.action and "opset raised" in e.action for e in result.steps[0].edits)


def test_gelu_is_fused_into_the_standard_operator() -> None:
    result = simplified("transformer_17")
    assert ops(result.model)["Gelu"] == 1
    assert ops(result.model)["Erf"] == 0
    assert opset_of(result.model) >= 20
    feeds = builders.feeds_of(builders.BUILDERS["transformer_17"]())
    expected = builders.run(builders.BUILDERS["transformer_17"](), feeds)
    assert numerics.largest_difference(expected, builders.run(result.model, feeds)) <= numerics.EXACT_RELATIVE


def test_fusion_can_be_left_out() -> None:
    result = simplified("transformer_13", fuse=False)
    assert ops(result.model)["LayerNormalization"] == 0
    assert opset_of(result.model) == 13


def test_nothing_to_do_is_no_edit() -> None:
    assert simplified("nothing_to_do").steps[0].edits == ()


def test_a_runtime_that_refuses_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: ir.Model, runtime: object) -> ir.Model:
        raise ModelError("ONX304", "it failed", why="no kernel")

    monkeypatch.setattr(simplify, "optimized_model", fail)
    step = simplified("residual_cnn").steps[0]
    assert [s.reason for s in step.skipped] == ["not folded: no kernel"]
    assert not step.edits


def test_a_graph_without_a_pattern_is_not_converted_to_look_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, fuse = list[str](), ort_bridge.fuse

    def seen(model: ir.Model, patterns: Sequence[str]) -> ir.Model:
        looked.extend(patterns)
        return fuse(model, patterns)

    monkeypatch.setattr(ort_bridge, "fuse", seen)
    simplified("residual_cnn")
    assert looked == []
    simplified("transformer_17")
    assert {*looked} == {"gelu", "layernorm"}


def test_an_opset_that_cannot_be_raised_is_a_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: ir.Model, minimum: int) -> ir.Model:
        raise ModelError("ONX307", "no", why="outputs differ")

    monkeypatch.setattr(simplify, "upgrade_opset", fail)
    result = simplified("transformer_13")
    assert [s.reason for s in result.steps[0].skipped] == ["not fused: outputs differ"] * 2
    assert ops(result.model)["LayerNormalization"] == 0


@pytest.mark.parametrize("name", ["residual_cnn", "constant_nodes", "behind_identity", "listed_weights_7"])
def test_simplifying_twice_changes_nothing_more(name: str) -> None:
    once = simplified(name)
    again = Pipeline((Simplify(),)).run(once.model, Context(target_of("x86-vnni")))
    assert once.steps[0].edits
    assert again.steps[0].edits == ()
