"""Gradients through the interpreter are those of the module that was exported."""

import warnings
from collections.abc import Iterable
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from onnxopt.model_file import from_proto, to_proto
from onnxopt.training.module.torch_model import TorchModel
from onnxopt.training.module.write_back import write_back
from tests.training.modules import MODULES, exported, module_of

GRADIENT_RELATIVE = 1e-4
"""Largest difference of two gradients relative to the largest element, in float32."""
EXPORTERS = [
    "torchscript",
    pytest.param("dynamo", marks=pytest.mark.skipif(not find_spec("onnxscript"), reason="onnxscript is missing")),
]


def elements(gradients: Iterable[torch.Tensor]) -> np.ndarray:
    """Return all elements by size: what does not depend on how weights are cut, turned or stacked."""
    flat = np.concatenate([g.detach().reshape(-1).numpy() for g in gradients])
    return flat[np.argsort(-np.abs(flat))]


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_those_of_the_source(name: str, exporter: str) -> None:
    source, x = module_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = exported(source, x, exporter)
    module = TorchModel(model).eval()
    for batch in (x, x[:2], x):  # other shapes, and a plan that is kept
        source.zero_grad()
        module.zero_grad()
        expected, found = source(batch), module({"x": batch})["y"]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        expected.square().mean().backward()
        found.square().mean().backward()
        ours = dict(module.named_weights())
        one, other = ours["head.weight"].grad, source.head.weight.grad
        assert float((one - other).abs().max()) <= GRADIENT_RELATIVE * float(other.abs().max())
        assert all(p.grad is not None for p in ours.values())
        if name == "cnn" and exporter == "dynamo":
            continue  # this exporter folds the normalization into the convolution
        mine, theirs = elements(p.grad for p in ours.values()), elements(p.grad for p in source.parameters())
        both, limit = min(len(mine), len(theirs)), GRADIENT_RELATIVE * abs(theirs[0])
        np.testing.assert_allclose(np.sort(mine[:both]), np.sort(theirs[:both]), atol=limit)
        assert max([0, *np.abs(mine[both:]), *np.abs(theirs[both:])]) <= limit


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_a_step_moves_the_file_as_it_moves_the_source(name: str) -> None:
    source, x = module_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = exported(source, x, "torchscript")
    module = TorchModel(model).eval()
    for network, run in ((source, lambda: source(x)), (module, lambda: module({"x": x})["y"])):
        optimizer = torch.optim.SGD(network.parameters(), 1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            run().square().mean().backward()
            optimizer.step()
    trained = TorchModel(from_proto(to_proto(write_back(model, module)))).eval()
    torch.testing.assert_close(trained({"x": x})["y"], source(x), rtol=1e-4, atol=1e-5)


def test_trained_normalizations_use_and_keep_the_statistics_of_the_batch() -> None:
    source, x = module_of("cnn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = exported(source, x, "torchscript")
    module = TorchModel(model, batch_norm="trained")
    source.train()
    module.train()
    for _ in range(2):
        torch.testing.assert_close(module({"x": x})["y"], source(x), rtol=1e-4, atol=1e-5)
    after = TorchModel(write_back(model, module)).eval()
    torch.testing.assert_close(after({"x": x})["y"], source.eval()(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(module.eval()({"x": x})["y"], source(x), rtol=1e-4, atol=1e-5)
    assert {n for n, _ in module.named_weights()} >= {"stem_norm.running_mean", "deep_norm.running_var"}


def test_frozen_normalizations_ignore_training_mode() -> None:
    source, x = module_of("cnn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = exported(source, x, "torchscript")
    module = TorchModel(model)
    torch.testing.assert_close(module.train()({"x": x})["y"], source(x), rtol=1e-4, atol=1e-5)
    assert not [n for n, _ in module.named_weights() if "running" in n]


@pytest.mark.parametrize("name", MODULES)
def test_mixed_precision_trains_every_kind_of_network(name: str) -> None:
    source, x = module_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = TorchModel(exported(source, x, "torchscript"))
    exact = module({"x": x})["y"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module({"x": x})["y"]
    assert float((mixed.float() - exact).abs().max()) <= 0.05 * float(exact.abs().max())
    mixed.float().square().mean().backward()
    grads = [p.grad for p in module.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and bool(g.isfinite().all()) for g in grads)
