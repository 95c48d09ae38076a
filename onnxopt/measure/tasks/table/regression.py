"""Regression: outputs compared by number, column by column."""

from dataclasses import dataclass

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, is_float, misfit
from onnxopt.measure.tasks.evidence import declared_shape
from onnxopt.measure.tasks.table.columns import (
    by_column,
    column_axes,
    column_rows,
    relative_errors,
    samples_first,
)
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskOptions
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class RelativeError(Comparison):
    """One minus the RMS difference of a column relative to its standard deviation; the worst column counts.

    Attributes:
        outputs: names of the outputs.
        axes: per output `(samples, ...)`, the axes whose entries are columns; () for a single column.
        sizes: number of columns along each of these axes.
        output: the only output; None if there are several.
    """

    outputs: tuple[str, ...]
    axes: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    output: str | None = None
    name = "1 - relative RMS error"

    @property
    def columns(self) -> tuple[tuple[str, int | None, int], ...]:
        """The compared columns: output, axis and number."""
        return tuple(
            (name, axis, size)
            for name, axes, sizes in zip(self.outputs, self.axes, self.sizes, strict=True)
            for axis, size in (zip(axes, sizes, strict=True) if axes else [(None, 1)])
        )

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return `(size, 3 * columns)`, see `column_rows`."""
        parts = []
        for name, axis, count in self.columns:
            one, other = samples_first(before[name], size), samples_first(after[name], size)
            tables = by_column(one, axis), by_column(other, axis)
            if tables[0].shape[2] != count:  # sizes not declared
                tables = tuple(np.repeat(by_column(a, None), count, axis=2) for a in (one, other))  # type: ignore[assignment]
            parts.append(column_rows(*tables))
        thirds = [np.split(part, 3, axis=1) for part in parts]
        return np.hstack([np.hstack(third) for third in zip(*thirds, strict=True)])

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the score of resampled rows: 1 for equality, 0 if the worst column is no better than a constant."""
        return np.asarray(1 - relative_errors(rows, counts).max(axis=1, initial=0))


def recognize(outputs: Outputs, feeds: Feeds, facts: ModelFacts, options: TaskOptions) -> Recognized | None:
    """Return regression for all outputs of floating-point numbers; None without any."""
    names = tuple(name for name, value in outputs.items() if is_float(value))
    if not names:
        return None
    found = comparison(outputs, names, facts, options)
    why = "nothing in the graph or the data says that they are anything else"
    if any(np.ndim(outputs[name]) == 2 and np.shape(outputs[name])[1] > 1 for name in names):
        # Raw scores of classes look like any other numbers, and by number they are judged far more strictly.
        why += " (if columns are scores of classes: --task classification)"
    return Recognized("regression", names, found, why)


def comparison(
    outputs: Outputs, names: tuple[str, ...], facts: ModelFacts, options: TaskOptions, feeds: Feeds | None = None
) -> RelativeError:
    """Return the comparison by number.

    Raises:
        DataError: ONX209 no output of `names` holds floating-point numbers.
    """
    floats = tuple(name for name in names if is_float(outputs[name]))
    if not floats:
        raise misfit("there is no float output", f"Outputs: {', '.join(outputs)}.", where=", ".join(names))
    shapes = [np.shape(outputs[name]) or (1,) for name in floats]
    axes = tuple(column_axes(shape, declared_shape(facts, name)) for name, shape in zip(floats, shapes, strict=True))
    sizes = tuple(tuple(shape[a] for a in some) for shape, some in zip(shapes, axes, strict=True))
    return RelativeError(floats, axes, sizes, floats[0] if len(floats) == 1 else None)
