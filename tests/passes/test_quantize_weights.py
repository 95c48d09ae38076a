from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.measure.runtime.session import Runtime, optimized_model
from onnxopt.model_file import signature_of, size_bytes, to_bytes
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import Samples, open_samples
from onnxopt.target import target_of
from tests import builders, numerics

CONTEXT = Context(target_of("x86-vnni"))
RNG = np.random.default_rng(0)
SIZES = (128, 96, 64)


def network(trans_b: bool = False) -> ir.Model:
    """Return a MatMul and a Gemm with a bias, one after the other."""
    first = ir.tensor(RNG.normal(size=SIZES[:2]).astype(np.float32), name="first")
    shape = (SIZES[2], SIZES[1]) if trans_b else SIZES[1:]
    second = ir.tensor(RNG.normal(size=shape).astype(np.float32), name="second")
    bias = ir.tensor(RNG.normal(size=SIZES[2]).astype(np.float32), name="bias")
    x = ir.Value(name="x", shape=ir.Shape(["batch", SIZES[0]]), type=ir.TensorType(ir.DataType.FLOAT))
    weights = [
        ir.Value(name=t.name, shape=t.shape, type=ir.TensorType(t.dtype), const_value=t) for t in (first, second, bias)
    ]
    product = ir.Node("", "MatMul", [x, weights[0]], name="product")
    gemm = ir.Node("", "Gemm", [product.outputs[0], *weights[1:]], [ir.AttrInt64("transB", int(trans_b))], name="gemm")
    out = gemm.outputs[0]
    out.name, out.dtype, out.shape = "y", ir.DataType.FLOAT, ir.Shape(["batch", SIZES[2]])
    graph = ir.Graph([x], [out], nodes=[product, gemm], initializers=weights, opset_imports={"": 17}, name="g")
    return ir.Model(graph, ir_version=8)


@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize(("bits", "least_db", "smaller"), [(8, 30.0, 3.0), (4, 15.0, 5.0)])
def test_products_stay_close_and_the_file_shrinks(trans_b, bits, least_db, smaller):
    model = network(trans_b)
    x = {"x": RNG.normal(size=(3, SIZES[0])).astype(np.float32)}
    (expected,) = builders.run(model, x)
    done = Pipeline((QuantizeWeights(bits=bits),)).run(model, CONTEXT)
    assert [n.op_type for n in done.model.graph] == ["MatMulNBits", "MatMulNBits", "Add"]
    assert [e.target for e in done.steps[0].edits] == ["product", "gemm"]
    for optimized in (False, True):
        (found,) = builders.run(done.model, x, optimized)
        assert numerics.sqnr_db(expected, found) > least_db
    assert size_bytes(model) / size_bytes(done.model) > smaller
    assert set(done.model.graph.initializers) >= {"bias"}
    assert not {"first", "second"} & set(done.model.graph.initializers)


def test_what_stays_says_why():
    model = network()
    done = Pipeline(parse("quantize-weights{exclude=[gemm],least=100000}")).run(model, CONTEXT)
    assert {s.target: s.reason for s in done.steps[0].skipped} == {
        "product": "its weight has fewer than 100000 elements",
        "gemm": "excluded by name",
    }


@pytest.mark.parametrize("options", [{"bits": 3}, {"block": 48}])
def test_numbers_that_make_no_sense(options):
    with pytest.raises(UsageError, match="ONX101"):
        QuantizeWeights(**options)


def correlated(count: int = 256) -> Samples:
    """Return inputs of the network that mostly lie in few directions."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(count, 12)) @ rng.normal(size=(12, SIZES[0])) + 0.1 * rng.normal(size=(count, SIZES[0]))
    return open_samples({"x": x.astype(np.float32)}, signature_of(network()))


def error(model: ir.Model, other: ir.Model, samples: Samples) -> float:
    before, after = (np.concatenate([builders.run(m, dict(f))[0] for f in samples]) for m in (model, other))
    return float(np.sqrt(np.square(before - after).mean() / np.square(before).mean()))


def test_what_is_fitted_to_the_inputs_loses_less_on_them():
    model, samples = network(), correlated()
    lost = {}
    for method in ("rtn", "hqq", "k-quant", "gptq"):
        context = Context(target_of("x86-vnni"), samples)
        made = Pipeline((QuantizeWeights(bits=4, method=method),)).run(model, context)
        assert len(made.steps[0].edits) == 2
        lost[method] = error(model, made.model, samples)
    assert lost["gptq"] < 0.7 * lost["rtn"]
    assert lost["hqq"] < 1.05 * lost["rtn"]
    assert lost["gptq"] < lost["k-quant"] < 0.98 * lost["rtn"]


def test_searched_scales_favour_the_inputs_that_the_samples_have_large() -> None:
    model, x = network(), RNG.normal(size=(64, SIZES[0])).astype(np.float32)
    x[:, ::16] *= 30
    samples, spec = open_samples({"x": x}, signature_of(model)), parse("quantize-weights{bits=4,method=k-quant}")
    lost = [
        error(model, Pipeline(spec).run(model, Context(target_of("x86-vnni"), given)).model, samples)
        for given in (None, samples)
    ]
    assert lost[1] < 0.9 * lost[0]


def test_without_samples_the_scales_are_fitted_and_gptq_is_refused():
    model = network()
    made = {m: Pipeline((QuantizeWeights(bits=4, method=m),)).run(model, CONTEXT).model for m in ("auto", "hqq", "rtn")}
    assert to_bytes(made["auto"]) == to_bytes(made["hqq"]) != to_bytes(made["rtn"])
    with pytest.raises(UsageError, match="ONX114: gptq needs calibration samples"):
        Pipeline((QuantizeWeights(method="gptq"),)).run(model, CONTEXT)


@pytest.mark.parametrize("name", ["residual_cnn", "gemm_mlp", "transformer_13", "nhwc", "listed_weights_7"])
def test_weights_stored_as_int8_stay_close_and_make_the_file_smaller(name):
    model = builders.BUILDERS[name]()
    done = Pipeline(parse("quantize-weights{form=dequantize,least=64}")).run(model, CONTEXT)
    assert done.steps[0].edits
    assert size_bytes(done.model) < size_bytes(model)
    feeds = builders.feeds_of(model)
    for expected, found in zip(builders.run(model, feeds), builders.run(done.model, feeds), strict=True):
        assert numerics.sqnr_db(expected, found) > numerics.INT8_SQNR_DB
    assert all(n.domain == "" for n in done.model.graph)
    stored = [v.const_value for n, v in done.model.graph.initializers.items() if n.endswith("_int8")]
    assert len(stored) == len(done.steps[0].edits)
    assert {t.dtype for t in stored} == {ir.DataType.INT8}


def test_rows_of_a_table_are_turned_back_after_they_are_looked_up():
    net = builders.Net(3)
    found = net.node("Gather", net.weight(50, 16, name="table"), "ids", axis=0)
    net.node("MatMul", found, net.weight(16, 4, name="head"), out="y")
    outputs = [("y", builders.F, ["batch", "time", 4])]
    model = net.model([("ids", builders.I64, ["batch", "time"])], outputs, opset=13)
    done = Pipeline(parse("quantize-weights{form=dequantize,least=1}")).run(model, CONTEXT)
    assert [e.target for e in done.steps[0].edits] == ["table", "head"]
    gather = next(n for n in done.model.graph if n.op_type == "Gather")
    assert gather.inputs[0].const_value.dtype is ir.DataType.INT8
    assert [node.op_type for node, _ in gather.outputs[0].uses()] == ["DequantizeLinear"]
    feeds = {"ids": np.array([[0, 7, 49], [3, 3, 20]])}
    (expected,), (got,) = builders.run(model, feeds), builders.run(done.model, feeds)
    assert numerics.sqnr_db(expected, got) > numerics.INT8_SQNR_DB


@pytest.mark.parametrize("options", ["bits=4", "method=gptq", "method=hqq"])
def test_options_of_the_other_form(options):
    with pytest.raises(UsageError, match="ONX112"):
        parse(f"quantize-weights{{form=dequantize,{options}}}")


def test_a_weight_that_takes_more_than_it_saves_stays():
    done = Pipeline(parse("quantize-weights{form=dequantize,least=1000000}")).run(network(), CONTEXT)
    assert not done.steps[0].edits
    assert {s.target for s in done.steps[0].skipped} == {"first", "second"}


def kernels(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in optimized_model(model, Runtime()).graph)


def clamped(clamp: str, bias: bool) -> ir.Model:
    """Return two products; the first with Relu or Clip behind it, or behind its bias."""
    net = builders.Net(6)
    x = net.node("MatMul", "x", net.weight(8, 64), name="first")
    x = net.node("Add", x, net.weight(64), name="bias") if bias else x
    bounds = [net.const(np.float32(b)) for b in (-0.5, 0.75)] if clamp == "Clip" else []
    x = net.node(clamp, x, *bounds, name="clamp") if clamp else x
    net.node("MatMul", x, net.weight(64, 32), name="second", out="y")
    return net.model([builders.ROWS], [("y", builders.F, ["batch", 32])], opset=21, ir_version=10)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("clamp", ["", "Relu", "Clip"])
@pytest.mark.parametrize("bits", [4, 8])
def test_in_standard_operators_the_runtime_multiplies_with_the_integers(bits: int, clamp: str, bias: bool) -> None:
    model = clamped(clamp, bias)
    made, nbits = (
        Pipeline(parse(f"quantize-weights{{form={form},bits={bits},least=64,method=rtn}}")).run(model, CONTEXT).model
        for form in ("standard", "blocks")
    )
    assert {node.domain for node in made.graph} == {""}
    assert not {"Relu", "Clip"} & {node.op_type for node in made.graph}
    assert kernels(made)["MatMulNBits"] == 2
    assert not kernels(made)["DequantizeLinear"]
    x = {"x": RNG.normal(size=(3, 8)).astype(np.float32)}
    (floats,), (standard,), (blocks,) = (builders.run(m, x) for m in (model, made, nbits))
    assert numerics.sqnr_db(floats, standard) > (30 if bits == 8 else 12)
    assert numerics.sqnr_db(standard, blocks) > 25  # one rounds activations to 8 bits, unoptimized operators do not


def test_a_relu_that_others_read_too_stays() -> None:
    net = builders.Net(7)
    product = net.node("MatMul", "x", net.weight(8, 64), name="fc")
    net.node("Add", net.node("Relu", product), net.node("Sigmoid", product), out="y")
    model = net.model([builders.ROWS], [("y", builders.F, ["batch", 64])], opset=21, ir_version=10)
    made = Pipeline(parse("quantize-weights{form=standard,least=64}")).run(model, CONTEXT).model
    assert [n.op_type for n in made.graph] == ["DequantizeLinear", "MatMul", "Relu", "Sigmoid", "Add"]
    assert kernels(made)["MatMulNBits"] == 1


@pytest.mark.parametrize("form", ["standard", "blocks"])
def test_a_weight_of_two_products_is_stored_once(form: str) -> None:
    net = builders.Net(8)
    weight = net.weight(8, 64, name="shared")
    one, two = (net.node("MatMul", x, weight) for x in ("x", net.node("Neg", "x")))
    net.node("Concat", one, two, axis=1, out="y")
    model = net.model([builders.ROWS], [("y", builders.F, ["batch", 128])], opset=21, ir_version=10)
    made = Pipeline(parse(f"quantize-weights{{form={form},least=64}}")).run(model, CONTEXT).model
    assert sorted(made.graph.initializers) == ["shared_q8", "shared_scale8", "shared_zero8"]
    assert made.graph.initializers["shared_zero8"].const_value.dtype is ir.DataType.UINT8
    x = {"x": RNG.normal(size=(3, 8)).astype(np.float32)}
    assert numerics.sqnr_db(builders.run(model, x)[0], builders.run(made, x, optimized=True)[0]) > 30


@pytest.mark.parametrize("second", ["bits=4,block=128", "bits=4,form=nf4", "bits=8"])
def test_products_of_one_weight_may_have_it_in_other_blocks(second: str) -> None:
    net = builders.Net(8)
    weight = net.weight(64, 32, name="shared")
    one = net.node("MatMul", "x", weight, name="one")
    net.node("Concat", one, net.node("MatMul", net.node("Neg", "x"), weight, name="two"), axis=1, out="y")
    model = net.model([("x", builders.F, ["batch", 64])], [("y", builders.F, ["batch", 64])], opset=21, ir_version=10)
    first = "quantize-weights{bits=4,exclude=[two]}"
    again = f"quantize-weights{{{second.replace('form=nf4', 'form=nf4,block=64')}}}"
    for spec in (f"{first},{again}", f"{again.replace('}', ',exclude=[one]}')},{again}"):
        made = Pipeline(parse(spec)).run(model, CONTEXT).model
        assert not {"MatMul"} & {node.op_type for node in made.graph}
        x = {"x": RNG.normal(size=(3, 64)).astype(np.float32)}
        assert numerics.sqnr_db(builders.run(model, x)[0], builders.run(made, x)[0]) > 12


def test_blocks_in_standard_operators_need_a_newer_opset_which_is_raised() -> None:
    done = Pipeline(parse("quantize-weights{form=standard}")).run(network(), CONTEXT)
    assert done.model.opset_imports[""] == 21
    assert len(done.steps[0].edits) == 2
