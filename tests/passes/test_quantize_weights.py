import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.catalog import parse
from onnxopt.errors import UsageError
from onnxopt.model_file import size_bytes
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline
from onnxopt.quantization.isa import target_of
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
