"""Quantized graphs that learn: what torch computes is what the file computes."""

import numpy as np
import onnx_ir as ir
import pytest
import torch

from onnxopt import catalog
from onnxopt.graph.weights.quantized import dequantized, float_weights, in_integers, masters_of, quantized_weights
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Context, Optimized, Pipeline
from onnxopt.target import target_of
from onnxopt.training.fake_quantized import FakeQuantized, write_integers
from onnxopt.training.ops.convert import to_array, to_tensors
from tests import builders


def run(teacher: ir.Model, text: str, count: int = 64) -> Optimized:
    context = Context(target_of("x86-vnni"), builders.samples_of(teacher, count), teacher=teacher, seed=0)
    return Pipeline(catalog.parse(text)).run(teacher, context)


def quantized(teacher: ir.Model) -> ir.Model:
    return run(teacher, "simplify,quantize-static").model


def output_step(model: ir.Model) -> float:
    (name,) = [n.inputs[1].name for n in model.graph if n.outputs[0].name == model.graph.outputs[0].name]
    return float(model.graph.initializers[name].const_value.numpy())


def agree(model: ir.Model, module: FakeQuantized) -> None:
    """Within half a step of the output; a value on the border of two integers may fall either way in few places."""
    feeds = builders.feeds_of(model, batch=512)
    with torch.no_grad():
        found = to_array(module(to_tensors(feeds))["y"])
    off = np.abs(builders.run(model, feeds)[0] - found) > 0.5 * output_step(model)
    assert off.mean() <= 0.03


@pytest.mark.parametrize("learn", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("name", ["residual_cnn", "depthwise_separable", "gemm_mlp"])
def test_the_file_computes_what_was_trained(name: str, learn: bool) -> None:
    teacher = builders.BUILDERS[name]()
    model = quantized(teacher)
    module = FakeQuantized(model, {}, learn_scales=learn)
    agree(model, module)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    feeds = to_tensors(builders.feeds_of(teacher, batch=16))
    for _ in range(5):
        optimizer.zero_grad()
        module(feeds)["y"].square().mean().backward()
        optimizer.step()
    trained = write_integers(model, module)
    assert to_bytes(trained) != to_bytes(model)
    agree(trained, module)
    assert [n.op_type for n in trained.graph] == [n.op_type for n in model.graph]


def test_gradients_of_scales_are_those_of_learned_step_sizes() -> None:
    module = FakeQuantized(quantized(builders.gemm_mlp()), {}, learn_scales=True)
    key, weight = next((k, w) for k, w in module.by_key.items() if w.largest.ndim)
    master, scale = module.weights._parameters[key], module.scale(weight.scale).reshape(weight.shape)
    with torch.no_grad():
        master += 0.3 * scale * torch.rand(master.shape, generator=torch.Generator().manual_seed(0))
    module.tensors()[key].sum().backward()
    steps = (master / scale).detach().double()
    largest = torch.as_tensor(weight.largest, dtype=torch.float64)
    inside = steps.abs() <= largest
    expected = torch.where(inside, steps.round() - steps, steps.sign() * largest)
    others = [i for i, n in enumerate(weight.shape) if n == 1]
    log = module.logs._parameters[module.scale_keys[weight.scale]]
    wanted = expected.sum(others, keepdim=True) * scale.detach()
    np.testing.assert_allclose(log.grad.flatten(), wanted.flatten(), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(master.grad, inside.float())


def test_integers_survive_the_way_to_floats_and_back() -> None:
    model = quantized(builders.residual_cnn())
    weights = quantized_weights(model)
    assert len(weights) == 8
    same = in_integers(model, weights, {w.value: dequantized(model, w) for w in weights}, {})
    assert to_bytes(same) == to_bytes(model)


def test_masters_are_what_was_quantized() -> None:
    teacher = run(builders.residual_cnn(), "simplify").model
    model = run(teacher, "quantize-static").model
    weights = quantized_weights(model)
    assert len(masters_of(model, weights, float_weights(teacher))) == len(weights)
    other = {name: array + 1 for name, array in float_weights(teacher).items()}
    assert not masters_of(model, weights, other)


def test_training_brings_four_bits_closer_to_the_teacher() -> None:
    teacher = builders.residual_cnn()
    plain, trained = (
        run(teacher, f"simplify,quantize-static,qat{{weight_bits=4,lr={lr},steps={steps}}}", 128)
        for lr, steps in ((1e-12, 1), (0.003, 120))
    )
    feeds = builders.feeds_of(teacher, seed=9, batch=64)
    base = builders.run(teacher, feeds)[0]
    before, after = (float(((builders.run(d.model, feeds)[0] - base) ** 2).mean()) for d in (plain, trained))
    assert after < 0.8 * before
    for weight in quantized_weights(trained.model):
        if weight.largest.ndim:
            integers = trained.model.graph.initializers[weight.name].const_value.numpy()
            assert integers.min() >= -8
            assert integers.max() <= 7


def test_a_float_model_is_left_alone() -> None:
    done = run(builders.residual_cnn(), "qat")
    assert not done.steps[0].edits
    assert "quantize-static" in done.steps[0].skipped[0].reason
