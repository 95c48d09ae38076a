"""Candidates that are much further from the original than another are not scored."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxopt.graph.edit import set_weight
from onnxopt.search.screen import Screen
from tests import builders


class Notes:
    def __init__(self) -> None:
        self.known: dict[str, object] = {}

    def __call__(
        self, name: str, make: Callable[[], object], read: Callable[[object], tuple[float, ...]]
    ) -> tuple[float, ...]:
        if name not in self.known:
            self.known[name] = make()
        return read(self.known[name])


def noisy(share: float) -> ir.Model:
    """Return the model with weights off by a share of them."""
    model, rng = builders.BUILDERS["gemm_mlp"](), np.random.default_rng(0)
    for value in model.graph.initializers.values():
        array = value.const_value.numpy()
        set_weight(value, (array * (1 + share * rng.standard_normal(array.shape))).astype(array.dtype))
    return model


def screen(notes: Notes) -> Screen:
    model = builders.BUILDERS["gemm_mlp"]()
    return Screen(model, builders.samples_of(model), notes)


def test_the_further_one_is_refused_with_both_figures_and_the_closer_one_is_not() -> None:
    found = screen(Notes())
    assert found.refusal("near", lambda: noisy(0.01)) == ""
    assert found.refusal("nearly as near", lambda: noisy(0.011)) == ""
    refusal = found.refusal("far", lambda: noisy(0.1))
    assert "dB, that of near" in refusal
    assert found.refusal("nearest", lambda: noisy(0.001)) == ""
    assert found.refusal("near again", lambda: noisy(0.01)) != ""


def test_a_search_that_goes_on_measures_no_distance_twice() -> None:
    notes = Notes()
    screen(notes).refusal("near", lambda: noisy(0.01))

    def never() -> ir.Model:
        raise AssertionError

    again = screen(notes)
    assert again.refusal("near", never) == ""
    assert again.refusal("far", lambda: noisy(0.1)) != ""
