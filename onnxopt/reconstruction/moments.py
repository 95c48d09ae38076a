"""Streamed moments of a layer's inputs and targets: memory does not depend on the number of samples."""

from dataclasses import dataclass

import numpy as np

LARGEST = 1e15
"""Of the numbers of a row: products of larger ones, summed, leave the range of float32."""


@dataclass(frozen=True)
class Moments:
    """Centred second moments per row, of inputs x (D features) and targets y (O outputs).

    Attributes:
        count: number of rows.
        mean_x: mean of x, shape (D,); `mean_y` is the mean of y, shape (O,).
        xx: covariance of x, shape (D, D); `xy` of x with y, shape (D, O); `yy` variance of each y, shape (O,).
        missing: number of rows left out because they are not finite, or too large.
    """

    count: int
    mean_x: np.ndarray
    mean_y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    missing: int = 0

    def error(self, weight: np.ndarray, offset: np.ndarray | None = None) -> float:
        """Return the mean squared error per row, summed over outputs, of weight @ x + offset; the best offset if None.

        Args:
            weight: shape (O, D).
            offset: shape (O,).
        """
        spread = (
            self.yy.sum() - 2 * np.einsum("od,do->", weight, self.xy) + np.einsum("od,od->", weight @ self.xx, weight)
        )
        shift = 0.0 if offset is None else float(np.square(weight @ self.mean_x + offset - self.mean_y).sum())
        return max(float(spread), 0.0) + shift


_TOGETHER = 128
"""Rows multiplied at once: each product updates all sums, which takes longer than the product of a few rows."""


class Accumulator:
    """Sums of products, from which the moments are computed at the end."""

    def __init__(self, features: int, outputs: int) -> None:
        self._count = self._missing = self._rows = 0
        self._waiting = list[tuple[np.ndarray, np.ndarray]]()
        self._shift_x: np.ndarray | None = None
        self._shift_y: np.ndarray | None = None
        self._x, self._y = np.zeros(features), np.zeros(outputs)
        self._xx, self._xy, self._yy = np.zeros((features, features)), np.zeros((features, outputs)), np.zeros(outputs)

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Add rows x, shape (rows, D), and y, shape (rows, O).

        Rows that are not finite, or have numbers beyond `LARGEST`, are left out.
        """
        with np.errstate(over="ignore"):
            x, y = x.astype(np.float32), y.astype(np.float32)
        usable = (np.abs(x) <= LARGEST).all(1) & (np.abs(y) <= LARGEST).all(1)
        if not usable.all():
            x, y = x[usable], y[usable]
            self._missing += int(len(usable) - len(x))
        if not len(x):
            return
        if self._shift_x is None or self._shift_y is None:
            # Products are summed in float32 about a first mean, so that large means cost no precision.
            self._shift_x, self._shift_y = x.mean(0), y.mean(0)
        self._waiting.append((x - self._shift_x, y - self._shift_y))
        self._rows += len(x)
        if self._rows >= _TOGETHER:
            self._multiply()

    def _multiply(self) -> None:
        if not self._waiting:
            return
        x, y = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        self._rows = 0
        self._count += len(x)
        self._x += x.sum(0, dtype=np.float64)
        self._y += y.sum(0, dtype=np.float64)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += np.square(y).sum(0, dtype=np.float64)

    def moments(self) -> Moments:
        """Return the moments of all rows so far."""
        self._multiply()
        n = max(self._count, 1)
        mean_x, mean_y = self._x / n, self._y / n
        shift_x = 0.0 if self._shift_x is None else self._shift_x
        shift_y = 0.0 if self._shift_y is None else self._shift_y
        return Moments(
            self._count,
            mean_x + shift_x,
            mean_y + shift_y,
            self._xx / n - np.outer(mean_x, mean_x),
            self._xy / n - np.outer(mean_x, mean_y),
            np.maximum(self._yy / n - np.square(mean_y), 0.0),
            self._missing,
        )
