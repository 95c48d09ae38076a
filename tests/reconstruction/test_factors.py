"""Weights as chains: exact at full rank, and the features of the last stage are what it reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.reconstruction.low_rank.factors import factorized, factorized_in_groups, truncated, unfolded
from onnxopt.reconstruction.low_rank.forms import FORMS, factor_forms, largest_ranks, stage_shapes
from tests import numerics

SHAPES = [(6, 5), (6, 5, 3), (6, 5, 3, 2), (4, 7, 1, 3), (4, 5, 2, 3, 2), (6, 5, 1, 1), (3, 20, 3, 3)]
CASES = [(shape, form) for shape in SHAPES for form in factor_forms(shape[2:])]


def weight_of(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def relative(one, other):
    return np.abs(one - other).max() / np.abs(other).max()


@pytest.mark.parametrize(("shape", "form"), CASES)
def test_at_full_rank_the_chain_is_the_weight(shape, form):
    weight = weight_of(shape)
    chain = factorized(weight, form, largest_ranks(form, shape))
    assert relative(chain.weight(), weight) < numerics.EXACT_RELATIVE


@pytest.mark.parametrize(("shape", "form"), CASES)
def test_at_full_rank_neither_basis_nor_metric_matters(shape, form):
    weight, rng = weight_of(shape), np.random.default_rng(1)
    basis = np.linalg.qr(rng.standard_normal((shape[0], shape[0])))[0]
    spread = rng.standard_normal((shape[1], 3 * shape[1]))
    ranks = tuple(n for n in largest_ranks(form, shape))
    if form in ("channel", "tucker"):
        ranks = (*ranks[:-1], shape[0])
    chain = factorized(weight, form, ranks, basis, spread @ spread.T)
    assert relative(chain.weight(), weight) < numerics.EXACT_RELATIVE


@pytest.mark.parametrize(("shape", "form"), CASES)
def test_shapes_are_reported_without_the_numbers(shape, form):
    ranks = tuple(max(n // 2, 1) for n in largest_ranks(form, shape))
    chain = factorized(weight_of(shape), form, ranks)
    assert tuple((stage.weight.shape, stage.axes) for stage in chain.stages) == stage_shapes(form, ranks, shape)


@pytest.mark.parametrize(("shape", "form"), CASES)
def test_the_last_stage_on_its_features_is_the_layer(shape, form):
    ranks = tuple(max(n // 2, 1) for n in largest_ranks(form, shape))
    chain = factorized(weight_of(shape), form, ranks)
    rows = np.random.default_rng(2).standard_normal((9, int(np.prod(shape[1:]))))
    last = chain.stages[-1].weight.reshape(shape[0], -1)
    whole = chain.weight().reshape(shape[0], -1)
    assert relative(chain.features(rows, shape[2:]) @ last.T, rows @ whole.T) < numerics.EXACT_RELATIVE
    other = np.random.default_rng(3).standard_normal(last.shape)
    changed = chain.with_last(other).weight().reshape(shape[0], -1)
    assert relative(chain.features(rows, shape[2:]) @ other.T, rows @ changed.T) < numerics.EXACT_RELATIVE


@pytest.mark.parametrize("form", ["channel", "input", "spatial"])
@given(st.integers(0, 9999), st.integers(1, 8))
def test_the_error_is_the_tail_of_the_spectrum(form, seed, rank):
    weight = weight_of((8, 9, 3, 3), seed)
    values = np.linalg.svd(unfolded(weight, form), compute_uv=False)
    lost = np.square(weight - factorized(weight, form, (rank,)).weight()).sum()
    assert lost == pytest.approx(np.square(values[rank:]).sum(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_groups_are_factorized_each_by_itself(form):
    weight = weight_of((12, 5, 3, 3))
    full = factorized_in_groups(weight, 3, form, largest_ranks(form, (4, 5, 3, 3)))
    assert relative(full.weight(), weight) < numerics.EXACT_RELATIVE
    ranks = tuple(2 for _ in full.ranks)
    low = np.concatenate([factorized(part, form, ranks).weight() for part in np.split(weight, 3)])
    assert relative(factorized_in_groups(weight, 3, form, ranks).weight(), low) < numerics.EXACT_RELATIVE


@pytest.mark.parametrize("form", FORMS)
def test_lower_ranks_are_the_first_part(form):
    weight = weight_of((8, 9, 3, 3))
    full, low = largest_ranks(form, weight.shape), tuple(3 for _ in largest_ranks(form, weight.shape))
    cut = truncated(factorized(weight, form, full), low)
    assert relative(cut.weight(), factorized(weight, form, low).weight()) < numerics.EXACT_RELATIVE


def test_the_metric_protects_the_inputs_that_are_strong():
    weight, rng = weight_of((6, 8, 3, 3)), np.random.default_rng(4)
    strength = np.logspace(1, -2, 8)
    patches = rng.standard_normal((500, 8, 9)) * strength[:, None]
    rows = patches.reshape(500, -1)
    flat = patches.transpose(0, 2, 1).reshape(-1, 8)
    lost = [
        np.square(rows @ (weight - factorized(weight, "input", (3,), None, power).weight()).reshape(6, -1).T).sum()
        for power in (None, flat.T @ flat)
    ]
    assert lost[1] < 0.5 * lost[0]
