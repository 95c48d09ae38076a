"""Pointwise operators behind a lookup are computed for the rows of the table."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt.graph.pointwise.tables import fold_into_tables
from tests.graph.scales.nets import net, ops, same_outputs

RNG = np.random.default_rng(0)
WEIGHTS = {
    "table": RNG.standard_normal((7, 4)),
    "half": np.array(0.5),
    "row": RNG.standard_normal(4),
    "rows": RNG.standard_normal((1, 1, 4)),
    "places": RNG.standard_normal((1, 3, 4)),
    "deep": RNG.standard_normal((1, 1, 1, 4)),
    "single": np.ones((1, 1, 1)),
}
CODES = np.array([[0, 6, 2], [-1, 3, 3]], np.int64)


def model(body: str, **others: np.ndarray) -> ir.Model:
    return net(body, {**WEIGHTS, **others}, x="int64[2, 3] x")


@pytest.mark.parametrize(
    "body",
    [
        "g = Gather(table, x) y = Tanh(g)",
        "g = Gather(table, x) a = Add(row, g) y = Tanh(a)",
        "g = Gather(table, x) a = Add(g, rows) s = Sigmoid(a) m = Mul(a, s) y = Mul(m, half)",
        "g = Gather(table, x) a = Mul(g, single) y = Sub(row, a)",
        "g = Gather<axis = 0>(table, x) a = Pow(g, half) e = Erf(g) y = Div(e, half)",
    ],
)
def test_operators_behind_a_lookup_are_folded(body: str) -> None:
    before = model(body)
    after = before.clone()
    assert fold_into_tables(after)
    assert ops(after) == {"Gather": 1}
    same_outputs(before, after, CODES)


def test_folding_ends_at_the_first_operator_that_mixes_rows_or_places() -> None:
    before = model("g = Gather(table, x) a = Tanh(g) b = Add(a, places) y = Mul(b, half)")
    after = before.clone()
    assert len(fold_into_tables(after)) == 1
    assert ops(after) == {"Gather": 1, "Add": 1, "Mul": 1}
    same_outputs(before, after, CODES)


@pytest.mark.parametrize(
    "body",
    [
        "g = Gather(table, x) y = Add(g, places)",
        "g = Gather(table, x) y = Add(g, deep)",
        "g = Gather<axis = 1>(table, x) y = Tanh(g)",
        "g = Gather(table, x) t = Tanh(g) y = Concat<axis = 0>(g, t)",
        "g = Gather(table, x) r = Reciprocal(zeros) a = Add(r, g) y = Tanh(a)",
        "g = Gather(table, x) y = Div(g, zeros)",
        "g = Gather(table, x) y = Identity(g)",
        "g = Gather(table, x) t = Tanh(g) w = Transpose(table) y = MatMul(t, w)",
        "g = Gather(table, x) t = Tanh(g) h = Gather(table, x) y = Concat<axis = 0>(t, h)",
    ],
)
def test_other_operators_stay(body: str) -> None:
    after = model(body, zeros=np.zeros(4))
    if "Identity" in body:
        after.graph.outputs.append(next(n.outputs[0] for n in after.graph if n.op_type == "Gather"))
    before = ops(after)
    assert fold_into_tables(after) == []
    assert ops(after) == before
