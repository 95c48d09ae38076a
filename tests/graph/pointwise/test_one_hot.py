"""Products of one-hot vectors become lookups, also of numbers outside the range."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.pointwise.one_hot import write_gathers
from onnxopt.passes import simplify
from onnxopt.passes.simplify import Simplify
from onnxopt.pipeline import Context
from onnxopt.target import target_of
from tests.graph.scales.nets import net, ops, same_outputs

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((5, 3))
CODES = np.array([[0, 4, 2, -1, 5, 1], [3, 3, -7, 100, 0, 2]], np.int32)
EXPANDED = (
    "s = Constant<value_ints = [2, 6, 1]>() r = Reshape(x, s) w = Constant<value_ints = [2, 6, 5]>() e = Expand(r, w) "
    "q = Equal(e, ramp) h = Cast<to = 1>(q) y = MatMul(h, table)"
)
PLAIN = (
    "s = Constant<value_ints = [2, 6, 1]>() r = Reshape(x, s) "
    "q = Equal(ramp, r) h = Cast<to = 1>(q) y = MatMul(h, table)"
)


def model(body: str, ramp: np.ndarray, kind: type = np.int32, table: np.ndarray = TABLE) -> ir.Model:
    """Return a model that reads whole numbers; constants written in the body become initializers."""
    made = net(body, {"table": table}, x=f"{'int32' if kind is np.int32 else 'int64'}[2, 6] x")
    for node in list(made.graph):
        if node.op_type == "Constant":
            value = node.outputs[0]
            fixed = ir.Value(name=f"{value.name}_fixed", const_value=ir.tensor(node.attributes["value_ints"].as_ints()))
            made.graph.register_initializer(fixed)
            ir.convenience.replace_all_uses_with(value, fixed)
            made.graph.remove(node, safe=True)
    named = ir.Value(name="ramp", const_value=ir.tensor(ramp.astype(kind), name="ramp"))
    named.shape, named.type = ir.Shape(ramp.shape), ir.TensorType(ir.DataType.from_numpy(np.dtype(kind)))
    made.graph.register_initializer(named)
    for node in made.graph:
        for place, value in enumerate(node.inputs):
            if value is not None and value.name == "ramp" and value is not named:
                node.replace_input_with(place, named)
    return made


@pytest.mark.parametrize("body", [EXPANDED, PLAIN])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_a_product_of_one_hot_vectors_is_a_lookup(body: str, kind: type) -> None:
    before = model(body, np.arange(5).reshape(1, 1, 5), kind)
    after = before.clone()
    assert len(write_gathers(after)) == 1
    assert ops(after)["MatMul"] == 0
    assert ops(after)["Gather"] == 1
    same_outputs(before, after, CODES.astype(kind))


@pytest.mark.parametrize(
    ("body", "ramp"),
    [
        (PLAIN, np.arange(1, 6).reshape(1, 1, 5)),
        (PLAIN, np.arange(5)[::-1].reshape(1, 1, 5)),
        (PLAIN, np.arange(5).reshape(1, 1, 1, 5)),
        (PLAIN.replace("Equal", "Less"), np.arange(5).reshape(1, 1, 5)),
        (PLAIN.replace("[2, 6, 1]", "[2, 1, 6]"), np.arange(5).reshape(5, 1)),
        (PLAIN.replace("y = ", "z = ") + " w = Transpose(table) y = MatMul(z, w)", np.arange(5).reshape(1, 1, 5)),
    ],
)
def test_other_products_stay(body: str, ramp: np.ndarray) -> None:
    after = model(body, ramp)
    before = ops(after)
    assert write_gathers(after) == []
    assert ops(after) == before


def test_simplify_computes_the_rest_for_all_rows_and_stores_no_inferred_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in exports of JAX: an embedding by a product, a bias and a GELU, at an unknown batch size."""
    monkeypatch.setattr(simplify, "_folded", lambda model, *_: model)  # the runtime stores some shapes itself
    gelu = (
        "d = Mul(e, e) c = Mul(d, e) b = Mul(small, c) f = Add(e, b) g = Mul(root, f) t = Tanh(g) u = Add(t, one) "
        "v = Mul(half, u) y = Mul(e, v)"
    )
    numbers = {"small": 0.044715, "root": np.sqrt(2 / np.pi), "one": [[[1.0]]], "half": 0.5}
    before = net(
        f"i = Reshape(x, split) q = Equal(i, ramp) h = Cast<to = 1>(q) p = MatMul(h, table) e = Add(p, shift) {gelu}",
        {"table": TABLE, "shift": np.ones((1, 1, 3)), **{name: np.array(value) for name, value in numbers.items()}},
        x="int32[N, 6] x",
    )
    for name, array in (("ramp", np.arange(5, dtype=np.int32).reshape(1, 1, 5)), ("split", np.array([-1, 6, 1]))):
        value = next(v for node in before.graph for v in node.inputs if v is not None and v.name == name)
        value.const_value, value.shape = ir.tensor(array, name=name), ir.Shape(array.shape)
        value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
        before.graph.register_initializer(value)
    applied = Simplify(fuse=False).apply(before, Context(target_of("x86-vnni"), None))
    after = applied.model
    assert {edit.action for edit in applied.edits} == {
        "products of one-hot vectors as lookups: 1",
        "operators folded into tables: 10",
    }
    assert not {"MatMul", "Tanh", "Mul"} & set(ops(after))
    same_outputs(before, after, CODES)
    inner = [v for node in after.graph for v in node.outputs if not v.is_graph_output()]
    assert all(v.shape is None for v in inner)
