"""Embeddings become two tables that compute their product, with the rows that are used kept best."""

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.errors import UsageError
from onnxopt.passes import factorize_embeddings
from onnxopt.passes.factorize_embeddings import FactorizeEmbeddings
from onnxopt.pipeline import Context, Pipeline, Step
from onnxopt.samples import Samples
from onnxopt.target import target_of
from tests import builders, numerics
from tests.builders import I64, F, Net

ROWS, WIDTH, RANK = 300, 32, 6


def model(*, tied: bool = False, shown: bool = False, noise: float = 0.01) -> ir.Model:
    """Return token ids to classes; the table has rank 6 but for some noise."""
    net = Net(3)
    table = net.rng.standard_normal((ROWS, RANK)) @ net.rng.standard_normal((RANK, WIDTH))
    table = net.const((table + noise * net.rng.standard_normal(table.shape)).astype(np.float32), name="table")
    found = net.node("Gather", table, "ids", out="found", name="lookup")
    last = net.node("Transpose", table, perm=[1, 0]) if tied else net.weight(WIDTH, 4)
    net.node("MatMul", found, last, out="y")
    outputs = [("y", F, ["batch", "time", ROWS if tied else 4])]
    outputs += [("found", F, ["batch", "time", WIDTH])] if shown else []
    return net.model([("ids", I64, ["batch", "time"])], outputs)


class Ids:
    """Sentences of eight tokens below `top`."""

    name = "ids"
    labels = None
    stacks = True

    def __init__(self, top: int) -> None:
        self._top = top

    def __len__(self) -> int:
        return 64

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {"ids": np.random.default_rng(index).integers(0, self._top, 8)}


def apply(given: ir.Model, samples: Samples | None = None, **options) -> tuple[ir.Model, Step]:
    options = {"verify": False, **options}
    result = Pipeline((FactorizeEmbeddings(**options),)).run(given, Context(target_of("x86-vnni"), samples))
    return result.model, result.steps[0]


def error(before: ir.Model, after: ir.Model, ids: np.ndarray) -> float:
    one, other = (builders.run(m, {"ids": ids})[0] for m in (before, after))
    return float(np.square(one - other).sum() / np.square(one).sum())


def test_two_tables_take_the_place_of_one() -> None:
    given = model()
    result, step = apply(given, energy=0.99)
    assert [node.op_type for node in result.graph] == ["Gather", "MatMul", "MatMul"]
    shapes = {tuple(v.shape.numpy()) for v in result.graph.initializers.values()}
    assert {(ROWS, RANK), (RANK, WIDTH)} <= shapes
    assert model_file.size_bytes(result) < 0.4 * model_file.size_bytes(given)
    assert step.difference is not None
    assert step.difference < numerics.EXACT_RELATIVE
    assert step.edits[0].action.startswith(f"{ROWS} x {WIDTH} to rank {RANK}: 21 % of its size")
    assert error(given, result, np.arange(ROWS)[None]) < 0.01


def test_the_error_is_the_tail_of_the_spectrum() -> None:
    given = model(noise=1.0)
    result, _ = apply(given, rank_ratio=0.25)
    table = given.graph.initializers["table"].const_value.numpy().astype(np.float64)
    values = np.linalg.svd(table, compute_uv=False) ** 2
    narrow, wide = (
        next(v.const_value.numpy() for v in result.graph.initializers.values() if tuple(v.shape.numpy()) == shape)
        for shape in ((ROWS, 8), (8, WIDTH))
    )
    lost = np.square(table - narrow.astype(np.float64) @ wide).sum()
    np.testing.assert_allclose(lost, values[8:].sum(), rtol=1e-4)


def test_rows_that_samples_look_up_are_kept_better() -> None:
    given = model(noise=1.0)
    samples = Samples(Ids(20), range(64))
    used = np.arange(20)[None]
    plain, _ = apply(given, rank_ratio=0.25)
    aware, _ = apply(given, samples, rank_ratio=0.25)
    assert error(given, aware, used) < 0.8 * error(given, plain, used)


def test_what_stays_says_why() -> None:
    for made, options, reason in (
        (model(tied=True), {}, "another node than Gather reads it"),
        (model(shown=True), {}, "its rows are an output of the model"),
        (model(), {"exclude": ("lookup",)}, "excluded by name"),
        (model(noise=5.0), {"energy": 0.999}, "dimensions: two tables would be larger"),
        (builders.gemm_mlp(), {}, "it has no embedding table"),
    ):
        result, step = apply(made, **options)
        assert model_file.to_bytes(result) == model_file.to_bytes(made)
        assert any(reason in skip.reason for skip in step.skipped), step.skipped


def test_what_gets_slower_is_undone(monkeypatch) -> None:
    monkeypatch.setattr(factorize_embeddings, "time_share", lambda *_: (1.2, ""))
    _, step = apply(model(), verify=True)
    assert not step.edits
    assert "undone: with two tables the model took 1.20 times the time" in step.skipped[0].reason
    monkeypatch.setattr(factorize_embeddings, "time_share", lambda *_: (1.01, ""))
    assert apply(model(), verify=True)[1].edits


def test_two_goals_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="ONX109"):
        apply(model(), energy=0.9, rank_ratio=0.5)
