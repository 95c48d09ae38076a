"""Spectra: what is lost at each rank, on the samples and on new ones, and how much of it is noise."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.reconstruction.low_rank.spectrum import Spectrum, evbmf_rank, pooled, projected, spectrum_of
from tests.reconstruction.test_moments import moments_of


def layer(seed, rows=400, outputs=7, inputs=9):
    """Return inputs that depend on each other, a weight and its outputs."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, inputs)) @ rng.standard_normal((inputs, inputs)) + 1.0
    weight = rng.standard_normal((outputs, inputs))
    return x, weight, x @ weight.T


def error(x, weight, other, y=None):
    """Return the mean squared error of another weight with the best bias."""
    y = x @ weight.T if y is None else y
    apart = y - x @ other.T
    return np.square(apart - apart.mean(0)).sum(1).mean()


@given(st.integers(0, 9999), st.integers(1, 7))
def test_the_error_of_a_weight_is_the_tail_of_its_spectrum(seed, rank):
    _, weight, _ = layer(seed)
    spectrum = Spectrum.of_weight(weight)
    basis = spectrum.basis[:, :rank]
    lost = np.square(weight - basis @ basis.T @ weight).sum() / np.square(weight).sum()
    assert spectrum.error(rank) == pytest.approx(lost, abs=1e-12)


@given(st.integers(0, 9999), st.integers(1, 7))
def test_the_error_on_samples_is_the_tail_of_the_output_spectrum(seed, rank):
    x, weight, y = layer(seed)
    spectrum = Spectrum.of_outputs(np.cov(y.T, bias=True))
    basis = spectrum.basis[:, :rank]
    lost = error(x, weight, basis @ basis.T @ weight) / np.square(y - y.mean(0)).sum(1).mean()
    assert spectrum.error(rank) == pytest.approx(lost, abs=1e-9)


@given(st.integers(0, 9999), st.integers(1, 6), st.integers(12, 300))
def test_data_aware_directions_lose_no_more_than_singular_vectors(seed, rank, rows):
    """On the calibration samples, however few, and whatever the shrinkage."""
    x, weight, y = layer(seed, rows)
    split = rows // 5
    seen = spectrum_of(moments_of(y[split:], y[split:]), moments_of(y[:split], y[:split]), weight, rank)
    lost = [
        error(x, weight, b[:, :rank] @ b[:, :rank].T @ weight) for b in (seen.basis, Spectrum.of_weight(weight).basis)
    ]
    assert lost[0] <= lost[1] * (1 + 1e-5) + 1e-9


@given(st.integers(0, 9999), st.integers(1, 3), st.booleans())
def test_the_error_of_groups_is_the_tail_of_all_their_spectra(seed, rank, seen):
    _, weight, y = layer(seed, outputs=9)
    covariance = np.cov(y.T, bias=True)
    spectrum = Spectrum.of_outputs(covariance, 3) if seen else Spectrum.of_weight(weight, 3)
    projection = scipy.linalg.block_diag(*(b[:, :rank] @ b[:, :rank].T for b in spectrum.bases(3)))
    directions = spectrum.basis[:, : 3 * rank]
    np.testing.assert_allclose(directions @ directions.T, projection, atol=1e-9)
    left = np.eye(9) - projection
    lost = [np.square(left @ weight).sum() / np.square(weight).sum()]
    lost += [np.trace(left @ covariance @ left) / np.trace(covariance)]
    assert spectrum.error(3 * rank) == pytest.approx(lost[seen], abs=1e-9)


def test_no_projection_of_the_outputs_is_closer_to_other_targets():
    x, weight, z = layer(1)
    y = z + 0.5 * np.random.default_rng(2).standard_normal(z.shape) @ np.diag([3, 0, 0, 1, 0, 0, 0])
    seen = spectrum_of(moments_of(z, y), moments_of(z[:0], y[:0]), weight, targets=True)
    best = error(x, weight, seen.basis[:, :3] @ seen.basis[:, :3].T @ weight, y)
    for seed in range(200):
        nearby = seen.basis[:, :3] + 0.1 * np.random.default_rng(seed).standard_normal((7, 3))
        other = np.linalg.qr(nearby)[0]
        assert best <= error(x, weight, other @ other.T @ weight, y) * (1 + 1e-5)


def test_few_samples_do_not_make_up_directions():
    """The outputs of 20 samples lie in 19 directions, whatever the layer does to others."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((40, 60))
    scale = np.logspace(0.5, -1, 60)
    few, many = rng.standard_normal((20, 60)) * scale, rng.standard_normal((4000, 60)) * scale
    y = few @ weight.T
    shrunk = spectrum_of(moments_of(y[4:], y[4:]), moments_of(y[:4], y[:4]), weight).basis[:, :24]
    greedy = Spectrum.of_outputs(np.cov(y.T, bias=True)).basis[:, :24]
    assert error(many, weight, shrunk @ shrunk.T @ weight) < error(many, weight, greedy @ greedy.T @ weight)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9), st.floats(0.01, 0.999))
def test_the_rank_for_an_energy_is_the_smallest_that_keeps_it(energies, wanted):
    spectrum = Spectrum(np.sort(np.array(energies))[::-1], np.eye(len(energies)))
    rank = spectrum.rank(wanted)
    assert 1 <= rank <= len(energies)
    assert spectrum.error(rank) <= 1 - wanted + 1e-9
    assert rank == 1 or spectrum.error(rank - 1) > 1 - wanted - 1e-9


@pytest.mark.parametrize("rank", [1, 5, 12])
@pytest.mark.parametrize("shape", [(60, 90), (90, 60), (60, 60)])
def test_what_stands_out_of_noise_is_counted(rank, shape):
    rng = np.random.default_rng(rank)
    signal = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    assert evbmf_rank(signal + 0.3 * rng.standard_normal(shape)) == rank


def test_noise_alone_has_no_rank():
    assert evbmf_rank(np.random.default_rng(0).standard_normal((60, 90))) == 0
    assert evbmf_rank(np.zeros((4, 5))) == 0


def test_moments_of_two_parts_are_those_of_all():
    x, _, y = layer(3)
    both, parts = moments_of(x, y), pooled(moments_of(x[:150], y[:150]), moments_of(x[150:], y[150:]))
    for name in ("count", "mean_x", "mean_y", "xx", "xy", "yy"):
        assert np.allclose(getattr(both, name), getattr(parts, name), rtol=1e-4, atol=1e-3)
    assert pooled(both, moments_of(x[:0], y[:0])) is both


def test_moments_along_directions():
    x, _, y = layer(4)
    basis, offset = np.linalg.qr(np.random.default_rng(5).standard_normal((9, 3)))[0], np.arange(9.0)
    direct, derived = moments_of((x - offset) @ basis, y), projected(moments_of(x, y), basis, offset)
    for name in ("mean_x", "xx", "xy"):
        assert np.allclose(getattr(direct, name), getattr(derived, name), rtol=1e-4, atol=1e-3)
