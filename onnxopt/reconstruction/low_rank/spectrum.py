"""Spectra of layers: loss at each rank, and number of directions above the noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.optimize

from onnxopt.measure.runtime.interrupt import raise_if_interrupted
from onnxopt.reconstruction.moments import Moments

_STRENGTHS = (0.0, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
_PLENTY = 20
"""Rows per output above which a covariance needs no shrinkage."""


@dataclass(frozen=True)
class Spectrum:
    """Energies along orthonormal directions of a layer's outputs, largest first.

    Attributes:
        energies: squared singular values of a weight, or variances of a layer's outputs.
        basis: the directions, shape (outputs, outputs) or fewer columns.
    """

    energies: np.ndarray
    basis: np.ndarray

    @classmethod
    def of_weight(cls, matrix: np.ndarray, groups: int = 1) -> "Spectrum":
        """Return the spectrum of a weight, shape (outputs, inputs): a truncation is the nearest matrix of its rank."""
        if groups > 1:
            return cls._together([cls.of_weight(part) for part in np.split(matrix, groups)])
        raise_if_interrupted()
        left, values, _ = np.linalg.svd(matrix, full_matrices=False)
        return cls(np.square(values), left)

    @classmethod
    def of_outputs(cls, covariance: np.ndarray, groups: int = 1) -> "Spectrum":
        """Return the spectrum of a layer's outputs from their covariance, shape (outputs, outputs).

        Of all layers of rank r, the projection of the outputs on the first r directions is the closest: it is the
        reduced-rank regression of the outputs on the inputs.
        """
        if groups > 1:
            blocks = covariance.reshape(groups, len(covariance) // groups, groups, -1)
            return cls._together([cls.of_outputs(blocks[i, :, i]) for i in range(groups)])
        raise_if_interrupted()
        values, vectors = np.linalg.eigh(covariance)
        return cls(np.maximum(values[::-1], 0.0), vectors[:, ::-1])

    @classmethod
    def _together(cls, parts: Sequence["Spectrum"]) -> "Spectrum":
        """Return the spectrum of outputs in groups: the first direction of each group, then the second of each."""
        energies = np.stack([part.energies for part in parts], axis=1).reshape(-1)
        order = np.arange(len(energies)).reshape(len(parts), -1).T.reshape(-1)
        return cls(energies, scipy.linalg.block_diag(*(part.basis for part in parts))[:, order])

    def bases(self, groups: int) -> list[np.ndarray]:
        """Return the directions of each group, shape (outputs, outputs) of one group or fewer columns."""
        return [part[:, i::groups] for i, part in enumerate(np.split(self.basis, groups))]

    def error(self, rank: int) -> float:
        """Return the lost share of the energy at a rank."""
        total = float(self.energies.sum())
        return float(self.energies[rank:].sum()) / total if total > 0 else 0.0

    def rank(self, energy: float) -> int:
        """Return the smallest rank, at least 1, that keeps a share of the energy."""
        kept = np.cumsum(self.energies)
        if not len(kept) or kept[-1] <= 0:
            return 1
        return min(int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12))) + 1, len(kept))


def spectrum_of(
    fit: Moments,
    held_out: Moments,
    matrix: np.ndarray,
    rank: int | None = None,
    *,
    targets: bool = False,
    groups: int = 1,
) -> Spectrum:
    """Return the directions of a layer's outputs, and the energies along them that can be expected on new samples.

    With few rows the directions fit the sample rather than the layer. So the covariance is shrunk towards that of
    independent inputs, as far as that helps on held-out rows (the idea is from Ledoit and Wolf, "A Well-Conditioned
    Estimator for Large-Dimensional Covariance Matrices", 2004). At any strength the loss of observed outputs is at most
    that of the singular vectors of the weight.

    Args:
        fit: moments of the outputs, as inputs of `Moments`.
        held_out: moments of other rows.
        matrix: the weight, shape (outputs, inputs).
        rank: rank for which the strength is optimized; None for all ranks.
        targets: whether the outputs z approximate the targets y of the moments, and not themselves. The
            projection P with the least E|y - P z|^2 is on the first eigenvectors of cov(z, y) + cov(y, z) - cov(z).
        groups: number of output groups with separate directions.
    """
    every, known, new = (_wanted(part, targets) for part in (pooled(fit, held_out), fit, held_out))
    if not held_out.count or fit.count >= _PLENTY * len(matrix):
        return Spectrum.of_outputs(every, groups)
    prior = matrix @ matrix.T
    prior /= max(float(np.trace(prior)), 1e-30)
    best: tuple[float, float, np.ndarray] | None = None
    for strength in _STRENGTHS:
        basis = Spectrum.of_outputs(_shrunk(known, prior, strength), groups).basis
        energies = np.einsum("or,or->r", basis, new @ basis)
        lost = energies.sum() - np.cumsum(energies)
        score = float(lost.sum() if rank is None else lost[rank - 1])
        if best is None or score < best[0]:
            best = score, strength, energies
    assert best is not None
    return Spectrum(np.maximum(best[2], 0.0), Spectrum.of_outputs(_shrunk(every, prior, best[1]), groups).basis)


def _wanted(moments: Moments, targets: bool) -> np.ndarray:
    return moments.xy + moments.xy.T - moments.xx if targets else moments.xx


def _shrunk(covariance: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    return np.asarray((1 - strength) * covariance + strength * float(np.trace(covariance)) * prior)


def evbmf_rank(matrix: np.ndarray) -> int:
    """Return the number of singular values of a matrix above the noise, whose strength is estimated too.

    The analytic solution of empirical variational Bayesian matrix factorization: Nakajima, Sugiyama, Babacan and
    Tomioka, "Global Analytic Solution of Fully-observed Variational Bayesian Matrix Factorization", JMLR 2013.
    """
    short, long = sorted(matrix.shape)
    raise_if_interrupted()
    squares = np.square(np.linalg.svd(matrix, compute_uv=False))
    if short < 2 or squares[0] <= 0:
        return int(squares[0] > 0)
    squares = np.maximum(squares, 1e-14 * squares[0])
    ratio = short / long
    tau = 2.5129 * np.sqrt(ratio)
    edge = (1 + tau) * (1 + ratio / tau)
    from_rank = min(int(np.ceil(short / (1 + ratio))) - 1, short - 1)
    highest = float(squares.sum()) / (short * long)
    lowest = max(float(squares[from_rank]) / (long * edge), float(squares[from_rank:].mean()) / long)

    def free_energy(noise: float) -> float:
        scaled = squares / (long * noise)
        small, large = scaled[scaled <= edge], scaled[scaled > edge]
        about = large - (1 + ratio)
        strong = 0.5 * (about + np.sqrt(np.maximum(np.square(about) - 4 * ratio, 0.0)))
        return float(
            np.sum(small - np.log(small))
            + np.sum(large - strong + np.log((strong + 1) / large) + ratio * np.log(strong / ratio + 1))
        )

    noise = lowest
    if highest > lowest:
        # The logarithm covers the many possible magnitudes of the noise.
        found = scipy.optimize.minimize_scalar(
            lambda power: free_energy(float(np.exp(power))), bounds=(np.log(lowest), np.log(highest)), method="bounded"
        )
        noise = float(np.exp(found.x))
    return int(np.count_nonzero(squares > long * noise * edge))


def pooled(one: Moments, other: Moments) -> Moments:
    """Return the moments of the union of two sets of rows."""
    if not one.count or not other.count:
        return one if one.count else other
    count = one.count + other.count
    a, b = one.count / count, other.count / count
    shift_x, shift_y = one.mean_x - other.mean_x, one.mean_y - other.mean_y
    return Moments(
        count,
        a * one.mean_x + b * other.mean_x,
        a * one.mean_y + b * other.mean_y,
        a * one.xx + b * other.xx + a * b * np.outer(shift_x, shift_x),
        a * one.xy + b * other.xy + a * b * np.outer(shift_x, shift_y),
        a * one.yy + b * other.yy + a * b * np.square(shift_y),
    )


def projected(moments: Moments, basis: np.ndarray, offset: np.ndarray) -> Moments:
    """Return the moments of the inputs less `offset` along the columns of `basis`, shape (features, rank)."""
    return replace(
        moments,
        mean_x=basis.T @ (moments.mean_x - offset),
        xx=basis.T @ moments.xx @ basis,
        xy=basis.T @ moments.xy,
    )
