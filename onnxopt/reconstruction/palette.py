"""Weights as codes of a palette: the nearest of up to 256 values, or of 256 pairs or fours of values."""

from dataclasses import dataclass

import numpy as np

COLOURS = 256
"""Number of codes in one byte."""
_ROUNDS = 20
_TRAINED_ON = 1 << 15
"""Most vectors for the fit of the centres; more change them little."""
_CHUNK, _NUMBERS = 1 << 14, 1 << 20
"""Vectors and single values that are compared at a time."""


@dataclass(frozen=True)
class Palette:
    """An array stored as one byte per value or group of neighbouring values.

    Attributes:
        colours: shape (colours, values per code).
        codes: uint8, in the order of the flat array.
    """

    colours: np.ndarray
    codes: np.ndarray

    def array(self) -> np.ndarray:
        """Return the flat array of the decoded values."""
        return np.asarray(self.colours[self.codes].reshape(-1))


def palette_of(array: np.ndarray, group: int, seed: int = 0) -> Palette:
    """Return the palette of an array with the least squared error, by k-means.

    Han, Mao and Dally, "Deep Compression", ICLR 2016; with groups of values Gong, Liu, Yang and Bourdev, "Compressing
    Deep Convolutional Networks using Vector Quantization", 2014. Zeros stay exactly zero.

    Args:
        array: an array of any shape whose size `group` divides.
        group: neighbouring values that share a code: 1, 2 or 4 for 8, 4 or 2 bits per value.
        seed: seed of the choice of vectors, if there are many.
    """
    rows = array.reshape(-1, group).astype(np.float32, copy=False)
    rng = np.random.default_rng(seed)
    some = rows if len(rows) <= _TRAINED_ON else rows[np.sort(rng.choice(len(rows), _TRAINED_ON, replace=False))]
    centres = _first(some, rng)
    for _ in range(_ROUNDS):
        codes = _nearest(some, centres)
        moved = _means(some, codes, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    if bool(np.any(~rows.any(axis=1))):
        centres[int(np.argmin(np.square(centres).sum(1)))] = 0.0
    colours = centres.astype(array.dtype)
    return Palette(colours, codes_of(array, colours))


def codes_of(array: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Return which colour is nearest to each value or group of values, as uint8."""
    rows = array.reshape(-1, colours.shape[1]).astype(np.float32, copy=False)
    return _nearest(rows, colours.astype(np.float32)).astype(np.uint8)


def _first(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return initial centres: all vectors if there are few; else spread over their quantiles, or drawn."""
    different = np.unique(rows, axis=0)
    if len(different) <= COLOURS:
        return different
    if rows.shape[1] == 1:
        # Between the density of the values and an even spread: the best centres are denser than even, but less
        # dense than the values.
        spread = np.linspace(0, 1, COLOURS)
        low, high = different[0, 0], different[-1, 0]
        return np.asarray((np.quantile(rows, spread) + low + spread * (high - low)) / 2, np.float32)[:, None]
    return different[np.sort(rng.choice(len(different), COLOURS, replace=False))]


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    if rows.shape[1] == 1:
        order = np.argsort(centres[:, 0], kind="stable").astype(np.int16)
        ordered = centres[order, 0]
        middles = (ordered[1:] + ordered[:-1]) / 2
        parts = (rows[i : i + _NUMBERS, 0] for i in range(0, len(rows), _NUMBERS))
        return np.concatenate([order[:0], *(order[np.searchsorted(middles, part)] for part in parts)])
    half = np.square(centres).sum(1) / 2
    found = [np.argmin(half - rows[i : i + _CHUNK] @ centres.T, axis=1) for i in range(0, len(rows), _CHUNK)]
    return np.concatenate(found)


def _means(rows: np.ndarray, codes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the mean of each centre's rows; a centre without rows moves to the row with the largest error."""
    counts = np.bincount(codes, minlength=len(centres))
    columns = [np.bincount(codes, column, len(centres)) for column in rows.T.astype(np.float64)]
    moved = (np.stack(columns, 1) / np.maximum(counts, 1)[:, None]).astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        far = np.argsort(-np.square(rows - centres[codes]).sum(1), kind="stable")
        moved[empty] = rows[far[: len(empty)]]
    return moved
