"""A matrix of two files is one layer of the tables, its loss that of both, and its form the same in both."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.measure.generation.speed import Length
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import load
from onnxopt.options.search import SearchOptions
from onnxopt.passes.quantize_weights import QuantizeWeights
from onnxopt.pipeline import Context, Pipeline
from onnxopt.samples import open_samples
from onnxopt.search.mix.bits import BASE, FORMS, named_base
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.solver import FLOAT, LayerOptions, Mix, Problem
from onnxopt.target import target_of
from onnxopt.tasks.parts import losses
from onnxopt.tasks.parts.job import PartsJob
from onnxopt.tasks.parts.losses import ChainLosses
from onnxopt.tasks.parts.pieces import pieces_of
from onnxopt.tasks.parts.roles import parts_of
from onnxopt.tasks.parts.tables import PartTables
from onnxopt.tasks.parts.texts import texts_of
from onnxopt.tasks.parts.timing import timing_of
from onnxopt.tasks.parts.twins import Twins, twins_of
from tests.builders import F, Net
from tests.tasks.parts.seq2seq import folder_of, sentences

CONTEXT = Context(target_of("auto"))
FOUR = FORMS["4 bits"]
ONE, TWO = Path("one.onnx"), Path("two.onnx")


@pytest.fixture
def job(tmp_path: Path) -> PartsJob:
    source = folder_of(tmp_path / "mini")
    parts, length = parts_of(source, sorted((source / "onnx").glob("*.onnx"))), Length(4, 6)
    read = texts_of(parts, open_samples(sentences(4), parts.inputs, batch_size=1), source, length, Runtime())
    timing = timing_of(parts, read, length, None, runtime=Runtime(), seed=0)
    return PartsJob(parts, read, read, length, timing, SearchOptions(), 0.01, CONTEXT, tmp_path, Runtime())


def twins(job: PartsJob) -> Twins:
    return twins_of({path: named_base(load(path), CONTEXT) for path in job.parts.decoders})


def net(*weights: np.ndarray):
    made, x = Net(0), "x"
    for weight in weights:
        x = made.node("MatMul", x, made.const(weight))
    made.node("Relu", x, out="y")
    return made.model([("x", F, ["n", 4])], [("y", F, ["n", 4])])


def test_layers_with_the_same_numbers_are_twins_pair_by_pair() -> None:
    a, b = (np.random.default_rng(i).standard_normal((4, 4)).astype(np.float32) for i in range(2))
    found = twins_of({ONE: named_base(net(a, b, a), CONTEXT), TWO: named_base(net(b, a, a + 1), CONTEXT)})
    (a1, b1, a2, relu), (b2, a3, other, _) = found.names[ONE], found.names[TWO]
    assert found.unit(ONE, a1) == found.unit(TWO, a3)
    assert found.unit(ONE, b1) == found.unit(TWO, b2)
    assert len({found.unit(ONE, name) for name in (a1, b1, a2)} | {found.unit(TWO, other)}) == 4
    assert found.unit(ONE, relu) != found.unit(TWO, relu)
    assert found.known(TWO) == {a3, b2}
    assert found.known(ONE) == frozenset()
    assert found.others(ONE, frozenset({b1})) == {TWO: tuple(n for n in found.names[TWO] if n != a3)}
    assert found.others(ONE, frozenset({a1, b1})) == {}


def test_the_loss_of_a_matrix_is_that_of_both_files(job: PartsJob) -> None:
    first, later = job.parts.decoders
    found, pieces = twins(job), pieces_of(job, "decoder")
    head = [node.name for node in named_base(load(first), CONTEXT).graph if node.op_type == "MatMul"][-1]
    alone = QuantizeWeights(bits=4, method="hqq", tables=True,
                            exclude=tuple(name for name in found.names[first] if name != head))  # fmt: skip
    (both,) = ChainLosses(job, pieces, first, found)(BASE, [alone])
    (only,) = ChainLosses(job, pieces, first, Twins({first: found.names[first]}, {}))(BASE, [alone])
    # One token of a text is behind the first step, the others are behind later ones.
    assert both > 1.5 * only > 0
    kept = tuple(name for name in found.names[later] if name not in found.known(later))
    assert ChainLosses(job, pieces, later, found)(BASE, [FOUR, QuantizeWeights(bits=2, exclude=kept)]) == [0.0, 0.0]


def test_what_one_file_has_alone_is_measured_in_it(job: PartsJob) -> None:
    first = job.parts.decoders[0]
    turned = Twins({path: twins(job).names[path] for path in job.parts.decoders[::-1]}, twins(job).units)
    # Seen from the other side, the keys and values of the encoder's output are the first file's own.
    (lost,) = ChainLosses(job, pieces_of(job, "decoder"), first, turned)(BASE, [FOUR])
    assert 0 < lost < ChainLosses(job, pieces_of(job, "decoder"), first, twins(job))(BASE, [FOUR])[0]


def test_a_file_that_fails_loses_everything(job: PartsJob, monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxopt.errors import NativeError

    measured = ChainLosses(job, pieces_of(job, "decoder"), job.parts.decoders[0], twins(job))

    def fail(*_: object) -> None:
        raise NativeError("ONX401", "no")

    monkeypatch.setattr(losses, "shares_of", fail)
    assert measured(BASE, [FOUR]) == [float("inf")]


def options(cost: float, loss: float, *more: str) -> LayerOptions:
    modes = (FLOAT, "4 bits", *more)
    return LayerOptions((), {mode: np.array(cost * (i == 0) + i) for i, mode in enumerate(modes)},
                        {mode: loss * i for i, mode in enumerate(modes)})  # fmt: skip


def table(**layers: LayerOptions) -> CostTables:
    return CostTables(Problem({}, layers, fixed=1.0), 20.0, {}, {}, (), None,
                      {"4 bits": FOUR, "8 bits": FORMS["8 bits"]})  # fmt: skip


def test_one_choice_for_both_and_the_passes_of_each_name_its_own_layers() -> None:
    units = {(ONE, "a"): "u", (TWO, "b"): "u", (ONE, "c"): "v"}
    one = table(a=options(9, 0.1, "8 bits"), c=options(5, 0.2))
    two = table(b=options(7, 0), d=options(3, 1))
    found = PartTables({ONE: one, TWO: two}, Twins({ONE: ("a", "c"), TWO: ("b", "d")}, units))
    joint = found.joint
    assert set(joint.problem.layers) == {"u", "v", "two.onnx: d"}
    shared = joint.problem.layers["u"]
    # 8 bits are no choice: the second file does not take them.
    assert {mode: float(cost) for mode, cost in shared.costs.items()} == {FLOAT: 16.0, "4 bits": 2.0}
    assert shared.losses == {FLOAT: 0.0, "4 bits": pytest.approx(0.1)}
    assert (joint.problem.fixed, joint.original) == (2.0, 40.0)
    made = found.passes(Mix({}, {"u": "4 bits", "v": FLOAT, "two.onnx: d": FLOAT}))
    four = "quantize-weights{bits=4,method=hqq,tables=true,exclude=[%s]}"
    assert made == {ONE: f"simplify,{four % 'c'}", TWO: f"simplify,{four % 'd'}"}
    assert found.passes(Mix({}, {"u": FLOAT, "v": "4 bits", "two.onnx: d": FLOAT}))[TWO] == "simplify"


def test_equal_weights_get_equal_integers(job: PartsJob) -> None:
    found = twins(job)
    for spec in FORMS.values():
        made = []
        for path in job.parts.decoders:
            values = Pipeline((spec,)).run(named_base(load(path), CONTEXT), CONTEXT).model.graph.initializers.values()
            arrays = (value.const_value.numpy() for value in values if value.const_value is not None)
            made.append({array.tobytes() for array in arrays if array.size > 500})
        assert len(found.known(job.parts.decoders[1])) > 3
        assert made[1] <= made[0], spec
