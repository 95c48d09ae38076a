"""Products inside control flow are quantized too, each weight once for all branches."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context
from onnxopt.target import target_of
from tests.builders import F, Net

SIZE = 64


def branched() -> ir.Model:
    """Return an If whose branches read a weight of the graph around them, and have one of their own of one name."""
    outer, branches = Net(1), []
    shared = outer.weight(SIZE, SIZE, name="shared")
    for number, seed in enumerate((2, 3)):
        inner = Net(seed, f"branch_{number}_")
        own = inner.weight(SIZE, SIZE, name="own")
        x = inner.node("Tanh", inner.node("MatMul", "x", shared))
        x = inner.node("Add", inner.node("MatMul", x, own), inner.node("MatMul", x, x))
        result = helper.make_tensor_value_info(x, F, ["n", SIZE])
        branches.append(helper.make_graph(inner.nodes, f"branch_{number}", [], [result], inner.weights))
    total = outer.node("ReduceSum", "x", keepdims=0)
    test = outer.node("Greater", total, outer.const(np.float32(0)))
    outer.nodes.append(helper.make_node("If", [test], ["y"], name="choice", then_branch=branches[0],
                                        else_branch=branches[1]))  # fmt: skip
    return outer.model([("x", F, [SIZE, SIZE])], [("y", F, ["n", SIZE])], opset=13)


def quantized(model: ir.Model, **options):
    return QuantizeWeights(**{"bits": 8, "method": "hqq", **options}).apply(model, Context(target_of("auto")))


def test_each_branch_multiplies_with_integers_and_the_common_weight_is_there_once() -> None:
    done = quantized(branched())
    assert [(edit.target, edit.action) for edit in done.edits] == [
        ("choice", "weights of 4 products inside in 8 bits")]  # fmt: skip
    assert ("choice", "2 products inside: its second factor is not constant") in [
        (skip.target, skip.reason) for skip in done.skipped]  # fmt: skip
    graphs = list(done.model.graphs())
    assert len(graphs) == 3
    packed = [node for graph in graphs for node in graph if node.op_type == "MatMulNBits"]
    weights = [node.inputs[1] for node in packed if node.inputs[1] is not None]
    assert len(weights) == 4
    # That of both branches, and one of each.
    assert len({weight.name for weight in weights}) == 3
    floats = [v for graph in graphs for v in graph.initializers.values() if v.const_value is not None
              and v.const_value.dtype == ir.DataType.FLOAT and v.const_value.size >= SIZE * SIZE]  # fmt: skip
    assert floats == []


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_both_branches_stay_close(sign: float) -> None:
    x = sign * np.abs(np.random.default_rng(0).standard_normal((SIZE, SIZE))).astype(np.float32)
    before, after = (
        Session(model, Runtime()).run({"x": x}, ["y"])[0] for model in (branched(), quantized(branched()).model)
    )
    error = np.mean((np.asarray(after) - before) ** 2) / np.var(before)
    assert 0 < error < 1e-3


def test_the_name_of_the_node_around_them_excludes_all() -> None:
    model = branched()
    done = quantized(model, exclude=("choice",))
    assert done.edits == ()
    assert ("choice", "6 products inside: excluded by name") in [(s.target, s.reason) for s in done.skipped]


def test_other_forms_leave_them_alone() -> None:
    assert quantized(branched(), form="standard").edits == ()
