"""Operators without a rule run in ONNX Runtime, and the network before and behind them still learns."""

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import signature_of
from onnxopt.samples import open_samples
from onnxopt.training.distill import Distillation, distill
from onnxopt.training.finetune import FineTuning, finetune
from onnxopt.training.module.parity import check_parity
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.schedule import Schedule
from tests import builders
from tests.training.test_distill import spoiled

FAST = Schedule(1, batch_size=16, lr=1e-2, evaluations=5, patience=9)
X = np.random.default_rng(0).normal(size=(48, 3, 8, 8)).astype(np.float32)


def cropped() -> ir.Model:
    """Return a convolution and a dense layer, between them an operator without a rule."""
    net = builders.Net(1)
    inner = net.node("Relu", net.conv("x", 3, 4), out="inner")
    middle = net.node("CenterCropPad", inner, net.ints(4, 4), axes=[2, 3])
    flat = net.node("Flatten", middle)
    net.node("Gemm", flat, net.weight(5, 64, name="head"), net.weight(5), transB=1, out="y")
    return net.model([builders.IMAGE], [("y", builders.F, ["batch", 5])], opset=18)


def branching() -> ir.Model:
    """Return a network with an If that the data decides, whose branches read a value from outside."""
    net = builders.Net(2)
    inner = net.node("Relu", net.conv("x", 3, 4), out="inner")
    net.node("Greater", net.node("ReduceMax", "x", keepdims=0), net.const(np.float32(0)), out="sign")
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        branches[name] = helper.make_graph([helper.make_node(op, [inner], [f"{name}_out"])], name, [], [out])
    net.pool_fc(net.node("If", "sign", **branches), 4, 5)
    return net.model([builders.IMAGE], [("y", builders.F, ["batch", 5])], opset=13)


def samples_of(model: ir.Model, labels=None):
    return open_samples({"x": X}, signature_of(model), labels=labels)


@pytest.mark.parametrize(("make", "op"), [(cropped, "CenterCropPad"), (branching, "If")])
def test_it_computes_what_the_runtime_does_and_passes_no_gradient(make, op) -> None:
    model = make()
    with pytest.raises(ModelError, match=f"ONX309.*{op}"):
        TorchModel(model)
    module = TorchModel(model, unknown="frozen")
    assert module.boundaries[0] == "inner" or "inner" in module.boundaries
    for batch in (X[:4], -np.abs(X[:2]), X[:4]):
        check_parity(model, module, [{"x": batch}])
    module({"x": torch.from_numpy(X[:4])})["y"].square().mean().backward()
    grads = {name: weight.grad for name, weight in module.named_weights()}
    moved = {name for name, grad in grads.items() if grad is not None and bool(grad.abs().max() > 0)}
    assert moved
    assert len(moved) < len(grads)


def test_mixed_precision_reaches_the_runtime_as_float() -> None:
    module = TorchModel(cropped(), unknown="frozen")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module({"x": torch.from_numpy(X[:4])})["y"].float()
    expected = Session(cropped(), Runtime()).run({"x": X[:4]})[0]
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=0.05 * np.abs(expected).max())


def test_both_sides_of_it_learn() -> None:
    teacher = cropped()
    student = spoiled(teacher)
    done = distill(student, teacher, samples_of(teacher), Distillation(steps=80, schedule=FAST))
    assert done.trained is not None
    assert done.trained.after < 0.5 * done.trained.before
    before, after = (m.graph.initializers for m in (student, done.model))
    changed = [name for name in before if not np.array_equal(*(m[name].const_value.numpy() for m in (before, after)))]
    sizes = {before[name].const_value.numpy().ndim for name in changed}
    assert sizes >= {4, 2}


def test_labels_behind_it_teach_what_follows_and_nothing_before() -> None:
    model = cropped()
    labels = (X.mean((1, 2, 3)) > 0).astype(np.int64)
    done = finetune(model, samples_of(model, labels), FineTuning(steps=30, schedule=FAST))
    assert done.trained is not None
    before, after = (m.graph.initializers for m in (model, done.model))
    kernel = next(name for name in before if before[name].const_value.numpy().ndim == 4)
    assert np.array_equal(*(m[kernel].const_value.numpy() for m in (before, after)))


def test_where_no_weight_can_learn_it_is_said() -> None:
    net = builders.Net(3)
    net.node("CenterCropPad", net.node("Flatten", net.conv("x", 3, 4)), net.ints(5), axes=[1], out="y")
    model = net.model([builders.IMAGE], [("y", builders.F, ["batch", 5])], opset=18)
    labels = np.arange(len(X)) % 5
    with pytest.raises(ModelError, match=r"ONX309.*no weight can learn"):
        finetune(model, samples_of(model, labels), FineTuning(steps=4, schedule=FAST))
