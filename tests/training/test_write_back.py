"""Trained weights go back by name; everything else in the file stays."""

import numpy as np
import pytest
import torch

from onnxopt.model_file import load, save, to_bytes, to_proto
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.weights import trainable
from onnxopt.training.module.write_back import write_back
from tests import builders
from tests.training.cases import REFUSED

TRAINED = [name for name in builders.BUILDERS if name not in REFUSED]


def moved(model, by: float = 0.5) -> TorchModel:
    module = TorchModel(model)
    with torch.no_grad():
        for _, weight in module.named_weights():
            weight.add_(by)
    return module


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_changes_without_training(name: str) -> None:
    model = builders.BUILDERS[name]()
    assert to_bytes(write_back(model, TorchModel(model))) == to_bytes(model)


@pytest.mark.parametrize("name", TRAINED)
def test_only_weights_change(name: str) -> None:
    model = builders.BUILDERS[name]()
    before = to_bytes(model)
    module = moved(model)
    written = write_back(model, module)
    assert to_bytes(model) == before
    proto, original = to_proto(written), to_proto(model)
    names = {n for n, _ in module.named_weights()}
    for one, other in zip(_tensors(original), _tensors(proto), strict=True):
        assert one[0] == other[0]
        assert (one[1].SerializeToString() == other[1].SerializeToString()) == (one[0] not in names)
        other[1].CopyFrom(one[1])
    assert proto.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)


def _tensors(proto):
    for tensor in proto.graph.initializer:
        yield tensor.name, tensor
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield node.output[0], attribute.t
            if attribute.HasField("g"):
                yield from ((t.name, t) for t in attribute.g.initializer)


@pytest.mark.parametrize("name", ["constant_nodes", "behind_identity", "half_weights", "with_function", "loop"])
def test_the_file_computes_what_the_module_does(name: str) -> None:
    model = builders.BUILDERS[name]()
    module = moved(model, 0.01).eval()
    written = write_back(model, module)
    again = TorchModel(written).eval()
    feeds = {k: torch.from_numpy(v) for k, v in builders.feeds_of(model).items()}
    assert torch.equal(again(feeds)["y"], module(feeds)["y"])
    assert not torch.equal(TorchModel(model)(feeds)["y"], module(feeds)["y"])


def test_weights_in_an_external_file_that_did_not_move_stay_there(tmp_path) -> None:
    model = builders.BUILDERS["residual_cnn"]()
    path, *_ = save(model, tmp_path / "model.onnx")
    loaded = load(path)
    module = TorchModel(loaded)
    name = next(n for n, w in module.named_weights() if w.dim() == 4)
    with torch.no_grad():
        dict(module.named_weights())[name].zero_()
    written = write_back(loaded, module)
    for key, value in written.graph.initializers.items():
        same = value.const_value is loaded.graph.initializers[key].const_value
        assert same == (key != name)
    assert not np.any(written.graph.initializers[name].const_value.numpy())


def test_what_is_trained() -> None:
    assert set(trainable(builders.BUILDERS["shared_weights"]())) == {"shared.weight", "shared.bias"}
    cnn = builders.BUILDERS["residual_cnn"]()
    statistics = {v.name for n in cnn.graph if n.op_type == "BatchNormalization" for v in n.inputs[3:]}
    assert statistics
    assert not statistics & set(trainable(cnn))
    scalars = {n for n, v in builders.BUILDERS["transformer_13"]().graph.initializers.items() if not v.shape}
    assert scalars
    assert not scalars & set(trainable(builders.BUILDERS["transformer_13"]()))


def test_masks_are_not_trained_and_biases_are() -> None:
    net = builders.Net(1)
    mask = np.triu(np.full((8, 8), -np.inf, np.float32), 1)
    net.node(
        "Softmax", net.node("Add", net.node("Add", "x", net.weight(8, name="bias")), net.const(mask, "mask")), out="y"
    )
    model = net.model([("x", builders.F, [8, 8])], [("y", builders.F, [8, 8])])
    assert set(trainable(model)) == {"bias"}


@pytest.mark.parametrize("through", ["initializer", "Identity"])
def test_a_statistic_that_is_a_weight_too_stays(through: str) -> None:
    net = builders.Net(1)
    zeros, ones = net.const(np.zeros(3, np.float32), "zeros"), net.const(np.ones(3, np.float32), "ones")
    mean, variance = (net.node(through, v) if through == "Identity" else v for v in (zeros, ones))
    net.node("BatchNormalization", "x", ones, zeros, mean, variance, out="y")
    model = net.model([builders.IMAGE], [("y", builders.F, ["batch", 3, 8, 8])])
    assert trainable(model) == {}
    assert TorchModel(model)({"x": torch.ones(1, 3, 8, 8)})["y"].shape == (1, 3, 8, 8)


def test_awkward_names_are_kept() -> None:
    net = builders.Net(1)
    names = ["a.b", "a/b", "training", "", "weight"]
    x = "x"
    for name in names:
        x = net.node("MatMul", x, net.weight(8, 8, name=name or "forward"))
    net.node("Relu", x, out="y")
    model = net.model([builders.ROWS], [("y", builders.F, ["batch", 8])])
    module = moved(model)
    assert [n for n, _ in module.named_weights()] == [n or "forward" for n in names]
    assert len(module.state_dict()) == len(names)
    written = write_back(model, module)
    for name, value in written.graph.initializers.items():
        before = model.graph.initializers[name].const_value.numpy()
        assert np.allclose(value.const_value.numpy(), before + 0.5)
