"""The interpreter against ONNX Runtime on whole models, and the gate that says where they part."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from onnxopt.errors import DataError, ModelError, UsageError
from onnxopt.measure.runtime.activations import ending_at
from onnxopt.model_file import load
from onnxopt.training.module import planner
from onnxopt.training.module.coverage import covered
from onnxopt.training.module.parity import HALF_PARITY_RELATIVE, PARITY_RELATIVE, check_parity, first_difference
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.ops.convert import to_tensors
from onnxopt.training.ops.rule import Rule
from tests import builders, numerics
from tests.test_fixtures import FILES, feeds_of
from tests.training.cases import REFUSED
from tests.training.modules import unsupported

ROOT = Path(__file__).parents[2]
BUNDLED = sorted((ROOT / "models").glob("*.onnx"))
NO_GRADIENT = ("tract_lgbm_classifier_tensor",)
"""Trees written as comparisons: most of their constants choose."""


def agree(name, model, feeds, tolerance) -> None:
    if name in REFUSED:
        assert {op for _, op in unsupported(model)} == REFUSED[name]
        with pytest.raises(ModelError, match="ONX309"):
            TorchModel(model)
        return
    module = TorchModel(model)
    other = {k: np.flip(v, 0) if v.dtype.kind == "f" else v for k, v in feeds.items()}
    assert check_parity(model, module, [feeds, other]) <= tolerance
    weights = [tensor for _, tensor in module.named_weights()]
    if not weights:
        return
    sum(o.float().square().sum() for o in module(to_tensors(feeds)).values()).backward()
    if name not in NO_GRADIENT:
        assert all(w.grad is not None for w in weights)
        assert any(w.grad.abs().max() > 0 for w in weights)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.stem)
def test_bundled_models(path: Path) -> None:
    model = load(path)
    agree(path.stem, model, builders.feeds_of(model), numerics.EXACT_RELATIVE)


@pytest.mark.parametrize("name", builders.BUILDERS)
def test_builder_models(name: str) -> None:
    model = builders.BUILDERS[name]()
    feeds = builders.feeds_of(model, batch=1 if name in builders.RUNS_AT_ONE_ONLY else 2)
    agree(name, model, feeds, numerics.HALF_RELATIVE if name in builders.HALF else numerics.EXACT_RELATIVE)


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="there are no exported models beside the repository")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_exported_models(path: Path) -> None:
    model = load(path)
    feeds = feeds_of(path, model)
    if feeds is None:
        pytest.skip("no made-up input runs in the original")
    agree(path.stem, model, feeds, PARITY_RELATIVE)


def test_the_gate_names_the_first_node_that_differs(monkeypatch) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    feeds = builders.feeds_of(model)
    wrong = {("", "BatchNormalization"): Rule(lambda site: lambda x, *_: 1.5 * x)}
    monkeypatch.setattr(planner, "RULES", {**planner.RULES, **wrong})
    module = TorchModel(model)
    first = next(n for n in model.graph if n.op_type == "BatchNormalization")
    with pytest.raises(ModelError, match=rf"ONX310.*BatchNormalization {first.name}"):
        check_parity(model, module, [feeds])
    node, difference = first_difference(model, module, feeds, PARITY_RELATIVE)
    assert node.name == first.name
    assert difference > PARITY_RELATIVE


def test_the_gate_keeps_the_mode_and_widens_for_half_floats() -> None:
    model = builders.BUILDERS["half_weights"]()
    module = TorchModel(model).train()
    assert check_parity(model, module, [builders.feeds_of(model)]) <= HALF_PARITY_RELATIVE
    assert module.training
    with pytest.raises(ModelError, match="ONX310"):
        check_parity(model, module, [builders.feeds_of(model)], tolerance=0.0)


def test_what_is_missing_is_named() -> None:
    model = builders.BUILDERS["trees_only"]()
    assert unsupported(model) == (("TreeEnsembleRegressor_0", "ai.onnx.ml.TreeEnsembleRegressor"),)
    with pytest.raises(ModelError, match=r"ONX309.*TreeEnsembleRegressor_0.*training-ops\.md"):
        TorchModel(model)
    assert unsupported(builders.BUILDERS["loop"]()) == ()


def test_only_wanted_outputs_count() -> None:
    model = builders.BUILDERS["two_outputs"]()
    assert TorchModel(model).output_names == ("scores", "features")
    features = TorchModel(model, outputs=["features"])
    assert len([*features.named_weights()]) == 2 + 2  # weights of other outputs stay, without gradient
    with pytest.raises(UsageError, match=r"ONX101.*scores"):
        TorchModel(model, outputs=["score"])
    net = builders.Net(1)
    net.node("ArgMax", "x", out="y", axis=1, keepdims=0)
    without = net.model([builders.ROWS], [("y", builders.I64, ["batch"])])
    with pytest.raises(ModelError, match=r"ONX309.*none is a float"):
        TorchModel(without)


@pytest.mark.parametrize("op", ["TopK", "Split", "LSTM"])
def test_outputs_that_nothing_reads(op: str) -> None:
    net = builders.Net(2)
    if op == "TopK":
        first, _ = net.node("TopK", "x", net.ints(4), outs=2)
    elif op == "Split":
        first = net.node("Split", "x", net.ints(8), axis=1)
    else:
        weights = (net.weight(1, 24, 8), net.weight(1, 24, 6))
        first, *_ = net.node("LSTM", net.node("Unsqueeze", "x", net.ints(0)), *weights, outs=3, hidden_size=6)
    net.node("Neg", first, out="y")
    model = net.model([builders.ROWS], [("y", builders.F, None)])
    assert check_parity(model, TorchModel(model), [builders.feeds_of(model)]) <= numerics.EXACT_RELATIVE


def test_a_missing_input_is_named() -> None:
    with pytest.raises(DataError, match=r"ONX202.*\[mask\]"):
        TorchModel(builders.BUILDERS["embedding"]())({"ids": torch.zeros(1, 2, dtype=torch.long)})


def test_inputs_that_do_not_fit_name_the_node() -> None:
    with pytest.raises(ModelError, match=r"ONX309.*Gemm"):
        TorchModel(builders.BUILDERS["gemm_mlp"]())({"x": torch.zeros(2, 9)})


def test_plans_are_few_and_made_once_per_shape() -> None:
    module = TorchModel(builders.BUILDERS["transformer_17"]())
    for time in range(1, 40):
        module({"x": torch.zeros(2, time, 8)})
    assert 1 < len(module._plans) <= 16
    kept = [*module._plans.values()]
    module({"x": torch.zeros(2, 39, 8)})
    assert [*module._plans.values()] == kept


def test_a_first_run_without_gradients_does_not_spoil_later_ones() -> None:
    module = TorchModel(builders.BUILDERS["transformer_13"]())
    with torch.inference_mode():
        module({"x": torch.ones(2, 5, 8)})
    module({"x": torch.ones(2, 5, 8)})["y"].sum().backward()
    assert all(w.grad is not None for _, w in module.named_weights())


def test_the_page_of_covered_operators_is_current() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "training_ops.py"))["page"]()
    assert (ROOT / "docs" / "training-ops.md").read_text(encoding="utf-8") == page
    assert all(op in page for _, op in covered())


def test_inputs_that_nothing_reads_are_not_requested():
    model = ending_at(builders.BUILDERS["gemm_mlp"](), ["y"])
    feeds = {**next(iter(builders.samples_of(model, count=2))), "spare": np.zeros((1, 2), np.float32)}
    assert check_parity(model, TorchModel(model), [feeds]) <= PARITY_RELATIVE
