"""Models of 16-bit floats: the same in float32, and smaller once quantized."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from onnxopt.catalog import parse
from onnxopt.model_file import to_bytes
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.half import store_half, widened
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import CLASSES, IMAGE, F, Net

H = TensorProto.FLOAT16
WIDTH = 48


def half(net: Net, *shape: int) -> str:
    return net.const((net.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float16))


def mixed() -> ir.Model:
    """Return convolutions in float16 between casts, a product in float32, and one in float16."""
    net = Net(1)
    x = net.node("Cast", "x", to=H)
    for _ in range(2):
        weights = half(net, WIDTH, 3 if x == "cast_1" else WIDTH, 3, 3), half(net, WIDTH, 1)
        x = net.node("Conv", x, weights[0], net.node("Reshape", weights[1], net.ints(WIDTH)), pads=[1] * 4)
        x = net.node("Relu", x)
    x = net.node("Flatten", net.node("GlobalAveragePool", net.node("Cast", x, to=F)))
    x = net.node("Cast", net.node("MatMul", x, net.weight(WIDTH, WIDTH)), to=H)
    net.node("Cast", net.node("MatMul", x, half(net, WIDTH, 4), name="last"), to=F, out="y")
    return net.model([IMAGE], [CLASSES], opset=13)


def all_half() -> ir.Model:
    """Return a model of which inputs and outputs are float16 too, with a Cast from truth values."""
    net = Net(2)
    x = net.node("MatMul", "x", half(net, 8, 16))
    positive = net.node("Cast", net.node("Greater", x, net.const(np.float16(0))), to=H)
    x = net.node("Mul", x, positive, out="z")
    net.node("MatMul", x, half(net, 16, 4), out="y")
    return net.model([("x", H, ["batch", 8])], [("z", H, ["batch", 16]), ("y", H, ["batch", 4])], opset=13)


def given_twice() -> ir.Model:
    """Return one of which an output is given twice."""
    model = all_half()
    model.graph.outputs.append(model.graph.outputs[0])
    return model


def outputs(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(one, np.float32) for one in builders.run(model, feeds)]


@pytest.mark.parametrize("make", [mixed, all_half, given_twice])
def test_a_model_in_float32_gives_the_same_and_keeps_its_signature(make: object) -> None:
    model = make()  # type: ignore[operator]
    wide, narrow = widened(model)
    assert len(narrow) >= 2
    assert [(v.name, v.dtype) for v in wide.graph.outputs] == [(v.name, v.dtype) for v in model.graph.outputs]
    assert not [v.name for v in wide.graph.initializers.values() if v.dtype is ir.DataType.FLOAT16]
    feeds = builders.feeds_of(model)
    assert numerics.largest_difference(outputs(model, feeds), outputs(wide, feeds)) < numerics.HALF_RELATIVE


def test_a_model_without_16_bits_is_left_as_it_is() -> None:
    model = builders.BUILDERS["residual_cnn"]()
    assert widened(model) == (model, {})


def test_weights_are_stored_back_where_nothing_is_lost() -> None:
    wide, narrow = widened(mixed())
    expected = outputs(wide, builders.feeds_of(wide))
    large = [n for n in narrow if np.prod(wide.graph.initializers[n].shape.numpy()) >= 128]  # type: ignore[union-attr]
    changed = wide.graph.initializers[large[0]]
    assert changed.const_value is not None
    changed.const_value = ir.tensor(changed.const_value.numpy() + np.float32(1e-5))
    store_half(wide, narrow)
    stored = {v.name for v in wide.graph.initializers.values() if v.dtype is ir.DataType.FLOAT16}
    assert stored == {f"{name}_half" for name in large[1:]}
    assert numerics.largest_difference(expected, outputs(wide, builders.feeds_of(wide))) < numerics.HALF_RELATIVE


def test_scales_of_products_in_integers_are_not_stored_back() -> None:
    net = Net(3)
    net.node("MatMul", "x", net.weight(64, 512), out="y", name="fc")
    model = net.model([("x", F, ["batch", 64])], [("y", F, ["batch", 512])], opset=17)
    passes = parse("quantize-weights{bits=4,method=rtn},compute-float16")
    made = Pipeline(passes).run(model, Context(target_of("x86-vnni"))).model
    wide, narrow = widened(made)
    assert any("scale" in name for name in narrow)
    expected = outputs(wide, builders.feeds_of(wide))
    store_half(wide, narrow)
    assert numerics.largest_difference(expected, outputs(wide, builders.feeds_of(wide))) < numerics.EXACT_RELATIVE


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-static{form=qoperator}", "quantize-dynamic"])
@pytest.mark.parametrize("before", ["", "simplify,"])
def test_a_model_of_16_bits_gets_smaller_and_stays_close(spec: str, before: str) -> None:
    model = mixed()
    samples = builders.samples_of(model, 16)
    result = Pipeline(parse(before + spec)).run(model, Context(target_of("x86-vnni"), samples)).model
    assert len(to_bytes(result)) < len(to_bytes(model))
    assert not [n.name for n in result.graph if (n.name or "").startswith("Inserted")]
    one, other = (np.concatenate([outputs(m, dict(f))[0] for f in samples]) for m in (model, result))
    assert numerics.sqnr_db(one, other) > numerics.INT8_SQNR_DB


def test_what_is_excluded_keeps_its_16_bits() -> None:
    model = mixed()
    convolutions = [n.name or "" for n in model.graph if n.op_type == "Conv"]
    spec = f"quantize-static{{exclude=[{convolutions[1]}]}}"
    result = Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"), builders.samples_of(model, 16))).model
    kinds = [v.dtype for v in result.graph.initializers.values() if v.shape is not None and len(v.shape) == 4]
    assert sorted(kind.name for kind in kinds if kind is not None) == ["FLOAT16", "INT8"]


def test_simplify_leaves_no_casts_of_the_runtime() -> None:
    model = mixed()
    result = Pipeline(parse("simplify")).run(model, Context(target_of("x86-vnni")))
    assert any("16-bit layers" in skip.reason for skip in result.steps[0].skipped)
    assert not [n.name for n in result.model.graph.all_nodes() if (n.name or "").startswith("Inserted")]
    assert len(to_bytes(result.model)) <= len(to_bytes(model))


@pytest.mark.parametrize("spec", ["quantize-static", "quantize-dynamic"])
def test_layers_of_64_bits_say_why_they_stay(spec: str) -> None:
    net = Net(3)
    wide = net.node("MatMul", net.node("Cast", "x", to=TensorProto.DOUBLE), net.const(np.ones((8, 8))), name="wide")
    net.node("MatMul", net.node("Cast", wide, to=F), net.weight(8, 4), out="y")
    model = net.model([builders.ROWS], [CLASSES], opset=13)
    step = Pipeline(parse(spec)).run(model, Context(target_of("x86-vnni"), builders.samples_of(model))).steps[0]
    assert {s.target: s.reason for s in step.skipped}["wide"] == "its weights are double, not float32"
