"""The cheapest placement is the one that trying all of them finds."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantization.placement.cheapest import PricedLayer, cheapest
from onnxopt.solver import ALWAYS_FLOAT as FLOAT
from onnxopt.solver import Edge

NAMES = ("a", "b", "c", "d", "e")


def total(layers: dict[str, PricedLayer], tensors: list[Edge], chosen: frozenset[str]) -> float:
    times = sum(layer.int8_ms if name in chosen else layer.float_ms for name, layer in layers.items())
    for tensor in tensors:
        inside = tensor.writer in chosen
        times += tensor.cost * (inside and any(r not in chosen for r in tensor.readers))
        times += tensor.cost * (not inside and any(r in chosen for r in tensor.readers))
    return times


def best(layers: dict[str, PricedLayer], tensors: list[Edge], noise: float) -> float:
    choices = (frozenset(some) for count in range(len(layers) + 1) for some in combinations(layers, count))
    return min(total(layers, tensors, c) for c in choices if sum(layers[n].noise for n in c) <= noise * (1 + 1e-9))


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, PricedLayer], list[Edge], float]:
    numbers = st.integers(0, 20)
    names = NAMES[: draw(st.integers(1, 5))]
    layers = {n: PricedLayer(draw(numbers), draw(numbers), draw(numbers) / 1e6) for n in names}
    tensors = [
        Edge(
            draw(st.sampled_from((FLOAT, *names))),
            tuple(draw(st.lists(st.sampled_from((FLOAT, *names)), min_size=1, max_size=3))),
            draw(numbers) / 4,
        )
        for _ in range(draw(st.integers(0, 6)))
    ]
    return layers, tensors, draw(st.sampled_from([float("inf"), 0.0, 1e-5, 3e-5]))


@settings(max_examples=150, deadline=None)
@given(problems())
def test_nothing_is_cheaper(problem: tuple[dict[str, PricedLayer], list[Edge], float]) -> None:
    layers, tensors, noise = problem
    chosen = cheapest(layers, tensors, noise)
    assert sum(layers[n].noise for n in chosen) <= noise * (1 + 1e-6)
    assert total(layers, tensors, chosen) <= best(layers, tensors, noise) + 1e-6


def test_an_island_that_does_not_pay_for_its_conversions_stays_in_float() -> None:
    chain = [Edge(FLOAT, ("a",), 1.0), Edge("a", (FLOAT,), 1.0)]
    assert cheapest({"a": PricedLayer(3.0, 1.5)}, chain) == frozenset()
    assert cheapest({"a": PricedLayer(3.0, 0.5)}, chain) == {"a"}


def test_a_slower_layer_between_faster_ones_may_be_cheaper_in_int8() -> None:
    tensors = [Edge("a", ("b",), 1.0), Edge("b", ("c",), 1.0)]
    layers = {"a": PricedLayer(9.0, 1.0), "b": PricedLayer(1.0, 2.0), "c": PricedLayer(9.0, 1.0)}
    assert cheapest(layers, tensors) == {"a", "b", "c"}
    assert cheapest({**layers, "b": PricedLayer(1.0, 4.0)}, tensors) == {"a", "c"}


def test_the_layer_that_gains_least_per_harm_stays_in_float() -> None:
    layers = {"a": PricedLayer(9.0, 1.0, 1e-4), "b": PricedLayer(3.0, 1.0, 1e-4)}
    assert cheapest(layers, [], 1.5e-4) == {"a"}
