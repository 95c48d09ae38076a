"""What each layer would lose and cost, and the best mix within a budget."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.graph.factor_edit import replace_by_chain
from onnxopt.graph.layers import anatomy_of
from onnxopt.reconstruction.low_rank.factors import factorized
from onnxopt.reconstruction.low_rank.fit import Choice
from onnxopt.reconstruction.low_rank.forms import FORMS
from onnxopt.reconstruction.low_rank.rank_choice import RankChoice, best_mix, candidates, evbmf_ranks, macs_share
from tests.builders import F, Net


def candidate(rank, error, macs):
    return RankChoice(Choice("channel", (rank,)), error, macs, macs)


tables_of = st.lists(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.05, 0.9)), min_size=0, max_size=4), min_size=1, max_size=4
)


@settings(deadline=None)
@given(tables_of, st.lists(st.integers(1, 100), min_size=4, max_size=4), st.floats(0.1, 1.1))
def test_no_other_mix_within_the_budget_loses_less(numbers, sizes, share):
    tables = {f"l{i}": [candidate(rank, *pair) for rank, pair in enumerate(table)] for i, table in enumerate(numbers)}
    macs = {name: float(sizes[i]) for i, name in enumerate(tables)}
    budget = share * sum(macs.values())
    chosen = best_mix(tables, macs, budget)

    def judged(mix):
        taken = {name: c for name, c in zip(tables, mix, strict=True) if c is not None}
        work = sum(cost * (taken[n].macs if n in taken else 1) for n, cost in macs.items())
        return work, sum(c.error for c in taken.values())

    mixes = [judged(mix) for mix in itertools.product(*([None, *table] for table in tables.values()))]
    mine = judged([next((c for c in t if n in chosen and c.choice == chosen[n]), None) for n, t in tables.items()])
    inside = [error for work, error in mixes if work <= budget * (1 - 1e-6)]
    if inside:
        assert mine[0] <= budget * (1 + 1e-6)
        assert mine[1] <= min(inside) + 1e-6
    elif not any(work <= budget * (1 + 1e-6) for work, _ in mixes):
        assert mine[0] == pytest.approx(min(work for work, _ in mixes))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
def test_the_predicted_work_is_that_of_the_graph(form, strides):
    net = Net(90)
    net.conv("x", 12, 16, strides=list(strides), bias=False, name="conv")
    net.nodes[-1].output[0] = "y"
    model = net.model([("x", F, [1, 12, 16, 16])], [("y", F, [1, 16, 16 // strides[0], 16 // strides[1]])])
    whole = anatomy_of(model).macs
    ranks = (4, 8) if form == "tucker" else (8,)
    chain = factorized(np.ones((16, 12, 3, 3)), form, ranks)
    replace_by_chain(model, "conv", [(stage.weight, stage.axes) for stage in chain.stages])
    assert macs_share(Choice(form, ranks), (16, 12, 3, 3), strides) == pytest.approx(anatomy_of(model).macs / whole)


def test_candidates_tell_the_true_error():
    weight = np.random.default_rng(1).standard_normal((16, 12, 3, 3))
    found = candidates(weight, FORMS, strides=(1, 1), block=4, seen=None)
    assert {c.choice.form for c in found} == set(FORMS)
    for c in found:
        assert all(rank % 4 == 0 for rank in c.choice.ranks)
        assert c.macs < 1
        if c.choice.form != "tucker":
            exact = factorized(weight, c.choice.form, c.choice.ranks).weight()
            assert c.error == pytest.approx(np.square(weight - exact).sum() / np.square(weight).sum())


def test_every_form_has_a_rank_that_stands_out_of_noise():
    rng = np.random.default_rng(2)
    point, inner = rng.standard_normal((40, 3)), rng.standard_normal((3, 40 * 9))
    weight = np.moveaxis((point @ inner).reshape(40, 40, 3, 3), 0, 1) + 0.1 * rng.standard_normal((40, 40, 3, 3))
    assert evbmf_ranks(weight, "input") == (3,)
    assert evbmf_ranks(weight, "tucker")[0] == 3
