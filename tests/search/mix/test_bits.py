"""The form of each matrix follows from measured times and losses, and is written by passes that leave others alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import pytest

from onnxopt import model_file
from onnxopt.catalog import format_passes, parse
from onnxopt.errors import ModelError
from onnxopt.measure.runtime.session import Runtime
from onnxopt.options.search import Goal
from onnxopt.pipeline import Context, Pass, Pipeline
from onnxopt.search import stages
from onnxopt.search.losses import Base, MeasuredLosses
from onnxopt.search.mix.bits import FORMS, Clock, bit_tables, has_matrices
from onnxopt.search.mix.cost_tables import CostTables
from onnxopt.search.mix.layer_times import LayerTimes, TimedForm
from onnxopt.search.mix.mixer import Mixer, candidate_of
from onnxopt.search.optimize import search
from onnxopt.search.parts import split_parts
from onnxopt.search.settings import Settings
from onnxopt.solver import FLOAT, Mix
from onnxopt.target import target_of
from tests import builders
from tests.builders import F, Net
from tests.passes.test_quantize_tables import language_model

WIDTH, LAYERS = 64, ("MatMul_0", "MatMul_2", "MatMul_4")


def model(width: int = WIDTH) -> ir.Model:
    """Return three products with a Tanh behind each but the last."""
    net, x = Net(5), "x"
    for _ in LAYERS[:-1]:
        x = net.node("Tanh", net.node("MatMul", x, net.weight(width, width)))
    net.node("MatMul", x, net.weight(width, width), out="y")
    return net.model([("x", F, ["n", width])], [("y", F, ["n", width])], opset=17)


WHOLE: Mapping[str, float] = {
    FLOAT: 35.0, "2 bits": 11.0, "4 bits": 11.0, "4 bits, large blocks": 11.0, "8 bits": 17.0, "dynamic INT8": 20.0,
    "dynamic INT8, one scale": 20.0,
}  # fmt: skip
"""Milliseconds of the model in each form, as `Profile` has them too."""


def called(*lengths: Mapping[str, float]) -> Clock:
    """Return a clock that knows these times of whole models."""
    return lambda models: [{name: length[name] for name in models} for length in lengths]


class Profile(LayerTimes):
    """Has each form take its own time per layer, and INT8 one millisecond more for its conversions."""

    MS: ClassVar[Mapping[str, float]] = {"MatMul": 10.0, "MatMulNBits": 2.0, "MatMulInteger": 4.0}

    def __init__(self) -> None:
        super().__init__(None, Runtime())

    def of(
        self, forms: Sequence[TimedForm], feeds: Mapping[str, np.ndarray], *, conversions: bool = False
    ) -> list[dict[str, float]]:
        assert conversions
        found = []
        for form in forms:
            kinds = {node.op_type for node in form.made.graph}
            ms = next(self.MS[kind] for kind in ("MatMulInteger", "MatMulNBits", "MatMul") if kind in kinds)
            bits = [n.attributes.get_int("bits", 0) for n in form.made.graph if n.op_type == "MatMulNBits"]
            ms *= 2 if bits and bits[0] == 8 else 1
            found.append({**dict.fromkeys(LAYERS, ms), "rest": 5.0 + 3.0 * ("MatMulInteger" in kinds)})
        return found


class Loss:
    """Has each layer in 4 bits lose 1, 2 and 30, in 8 bits a tenth, in INT8 half of that, and with one scale more."""

    BY_LAYER: ClassVar[Mapping[str, float]] = dict(zip(LAYERS, (1.0, 2.0, 30.0), strict=True))
    BY_FORM: ClassVar[Mapping[str, float]] = {
        "2 bits": 5.0,
        "4 bits": 1.0,
        "4 bits, large blocks": 1.2,
        "8 bits": 0.1,
        "dynamic INT8": 0.5,
        "dynamic INT8, one scale": 0.8,
    }

    def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
        found = []
        for spec in specs:
            form = next(form for form, plain in FORMS.items() if replace(spec, exclude=()) == plain)
            found.append(sum(self.BY_LAYER[n] * self.BY_FORM[form] for n in LAYERS if n not in spec.exclude))
        return found


def context() -> Context:
    return Context(target_of("x86-vnni"))


def tables(
    goal: Goal = Goal.LATENCY, runs: Sequence[float] = (1.0,), width: int = WIDTH, clock: Clock | None = None
) -> CostTables:
    inputs = [({"x": np.zeros((1, width), np.float32)}, count) for count in runs]
    clock = clock or called(*(WHOLE for _ in runs))
    return bit_tables(
        model(width), context(), inputs, goal=goal, times=Profile(), clock=clock, losses=Loss(), seconds=60
    )


def chosen(made: CostTables, allowed: float) -> tuple[str, dict[str, str]]:
    """Return the pipeline of the first mix, and the kernels that it gives each layer."""
    candidate = Mixer(lambda: made, allowed).next()
    assert candidate is not None
    assert candidate.name == "bits-1"
    built = Pipeline(parse(format_passes(candidate.passes))).run(model(), context()).model
    found = {}
    for node in built.graph:
        layer = next((name for name in LAYERS if (node.name or "").startswith(name)), None)
        if layer is not None and node.op_type.startswith("MatMul"):
            found[layer] = node.op_type + str(node.attributes.get_int("bits", 0) or "")
    return format_passes(candidate.passes), found


def test_each_matrix_gets_the_fastest_form_that_the_loss_allows() -> None:
    _, kernels = chosen(tables(), 6.5)
    assert kernels == dict(zip(LAYERS, ("MatMulNBits4", "MatMulNBits4", "MatMulNBits8"), strict=True))
    _, kernels = chosen(tables(), 0.35)
    assert kernels == dict(zip(LAYERS, ("MatMulNBits8", "MatMulNBits8", "MatMul"), strict=True))


def test_costs_are_those_of_whole_models_at_each_length() -> None:
    made = tables(runs=(1.0, 15.0))
    assert "2 bits" not in made.forms  # it is no faster
    for form, ms in ((form, ms) for form, ms in WHOLE.items() if form in (FLOAT, *made.forms)):
        # The conversions of INT8 count as part of its layers.
        assert made.problem.cost(made.problem.whole(form)) == pytest.approx(16 * ms)
    assert made.original == pytest.approx(16 * 35.0)
    losses = [made.problem.loss(made.problem.whole(form)) for form in made.forms]
    assert losses == pytest.approx([33.0, 39.6, 3.3, 16.5, 26.4])


def test_the_times_are_those_of_calls_and_the_profile_divides_them() -> None:
    slow = {**WHOLE, "4 bits": 22.0, "4 bits, large blocks": 22.0, "8 bits": 18.0}
    made = tables(runs=(1.0, 3.0), clock=called(WHOLE, slow))
    assert made.problem.cost(made.problem.whole("4 bits")) == pytest.approx(11 + 3 * 22)
    # In the single run 4 bits are faster, in the three others 8 bits.
    _, kernels = chosen(made, 100.0)
    assert set(kernels.values()) == {"MatMulNBits8"}


def test_the_work_behind_a_layer_is_part_of_its_cost() -> None:
    class Fused(Profile):
        """Has an integer product take over the Tanh behind it, and make the one behind the second product slower."""

        def of(
            self, forms: Sequence[TimedForm], feeds: Mapping[str, np.ndarray], *, conversions: bool = False
        ) -> list[dict[str, float]]:
            found = super().of(forms, feeds, conversions=conversions)
            for form, times in zip(forms, found, strict=True):
                integer = any(node.op_type == "MatMulInteger" for node in form.made.graph)
                times.update({"Tanh_1": 0.0, "Tanh_3": 30.0} if integer else {"Tanh_1": 6.0, "Tanh_3": 10.0})
            return found

    whole = {**WHOLE, FLOAT: 51.0, "dynamic INT8": 50.0, "dynamic INT8, one scale": 50.0}
    inputs = [({"x": np.zeros((1, WIDTH), np.float32)}, 1.0)]
    made = bit_tables(
        model(), context(), inputs, goal=Goal.LATENCY, times=Fused(), clock=called(whole), losses=Loss(), seconds=60
    )
    costs = [[float(made.problem.layers[name].costs[form]) for name in LAYERS] for form in (FLOAT, "dynamic INT8")]
    # One millisecond of three for conversions that nobody owns is divided.
    assert costs == [pytest.approx([16.0, 20.0, 10.0]), pytest.approx([4.0 + 1, 34.0 + 1, 4.0 + 1])]
    assert made.problem.fixed == pytest.approx(5.0)


def test_every_form_can_stand_beside_every_other() -> None:
    made = tables()
    modes = dict(zip(LAYERS, ("dynamic INT8", "dynamic INT8, one scale", "4 bits"), strict=True))
    passes = candidate_of(made, Mix({}, modes), 1).passes
    built = Pipeline(parse(format_passes(passes))).run(model(), context())
    assert [sorted(edit.target for edit in step.edits) for step in built.steps[1:]] == [
        [name] for name in (LAYERS[2], LAYERS[0], LAYERS[1])
    ]
    scales = [v.const_value.size for name, v in built.model.graph.initializers.items() if "scale" in name]
    assert {1, WIDTH} <= set(scales)


def test_bytes_decide_where_size_is_the_goal() -> None:
    made = tables(Goal.SIZE, width=256)
    for form, spec in FORMS.items():
        size = model_file.size_bytes(Pipeline((spec,)).run(model(256), context()).model)
        assert made.problem.cost(made.problem.whole(form)) == pytest.approx(size, rel=0.05)
    assert made.problem.cost(made.problem.whole()) == pytest.approx(made.original)


def test_blocks_that_are_wider_than_a_matrix_count_with_their_padding() -> None:
    made = tables(Goal.SIZE, width=48)
    costs = [float(made.problem.layers[LAYERS[0]].costs[form]) for form in ("4 bits", "4 bits, large blocks")]
    assert costs == [48 * (2 * 16 + 2 * 4 + 1), 48 * (64 + 4 + 1)]


@pytest.mark.parametrize("head", ["gemm", "other"])
def test_a_table_is_a_choice_of_its_own_and_the_matrix_of_a_product_counts_once(head: str) -> None:
    source = language_model(head, 256)
    made = bit_tables(
        source, context(), [], goal=Goal.SIZE, times=Profile(), clock=called(), losses=_no_loss, seconds=9
    )
    assert len(made.problem.layers) == 2
    assert made.problem.cost(made.problem.whole()) == pytest.approx(made.original, rel=0.01)
    for form in made.forms:
        size = model_file.size_bytes(Pipeline((FORMS[form],)).run(source, context()).model)
        assert made.problem.cost(made.problem.whole(form)) == pytest.approx(size, rel=0.05)


def _no_loss(base: Base, specs: Sequence[Pass]) -> list[float]:
    return [0.0 for _ in specs]


def test_layers_inside_control_flow_are_one_layer() -> None:
    source = builders.BUILDERS["loop"]()

    class InnerOnly:
        def __call__(self, base: Base, specs: Sequence[Pass]) -> list[float]:
            assert base
            return [0.0 if "Loop_1" not in getattr(spec, "exclude", ()) else 9.0 for spec in specs]

    made = bit_tables(
        source, context(), [], goal=Goal.SIZE, times=Profile(), clock=called(), losses=InnerOnly(), seconds=9
    )
    assert list(made.forms) == ["dynamic INT8", "dynamic INT8, one scale"]
    assert {name: layer.losses["dynamic INT8"] for name, layer in made.problem.layers.items()} == {
        "MatMul_0": 9.0, "Loop_1": 0.0, "MatMul_2": 9.0}  # fmt: skip


def test_a_model_without_products_has_no_mix() -> None:
    made = bit_tables(
        builders.BUILDERS["nothing_to_do"](),
        context(),
        [],
        goal=Goal.SIZE,
        times=Profile(),
        clock=called(),
        losses=Loss(),
        seconds=9,
    )
    assert not made.forms
    assert Mixer(lambda: made).next() is None


def test_small_matrices_are_left_to_other_candidates() -> None:
    assert not has_matrices(model())
    assert has_matrices(model(512))


def test_a_search_tries_mixes_and_stops_where_no_table_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "has_matrices", lambda _: True)
    source = model()
    parts = split_parts(builders.samples_of(source, count=60), None, 0)
    settings = Settings(latency_s=0.05, goal=Goal.SIZE)
    found = search(source, parts, settings=settings)
    names = [trial.candidate.name for trial in found.trials]
    assert "bits-1" in names

    def fail(*_: object, **__: object) -> CostTables:
        raise ModelError("ONX304", "no tables")

    monkeypatch.setattr(stages, "bit_tables", fail)
    assert "bits-1" not in [trial.candidate.name for trial in search(source, parts, settings=settings).trials]


def test_measured_losses_add_up_about() -> None:
    source = model()
    samples = builders.samples_of(source, count=40)
    losses = MeasuredLosses(source, replace(context(), calibration=samples))
    made = bit_tables(source, context(), [({"x": np.zeros((1, WIDTH), np.float32)}, 1.0)], goal=Goal.SIZE,
                      times=Profile(), clock=called(), losses=losses, seconds=60)  # fmt: skip
    whole = Pipeline(parse("simplify,quantize-weights{bits=4,method=hqq}"))
    together = losses((), whole.passes[1:])[0]
    assert made.problem.loss(made.problem.whole("4 bits")) == pytest.approx(together, rel=0.3)
