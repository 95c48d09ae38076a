"""Several outputs, each judged by its own task; the worst one decides."""

from dataclasses import dataclass

import numpy as np

from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs
from onnxopt.samples import Feeds
from onnxopt.samples.core import Array


@dataclass(frozen=True)
class Worst(Comparison):
    """The lowest of several comparisons. Its rows are `(size, parts)` objects, each the row of one part.

    Attributes:
        parts: the comparisons, in the order of the model's outputs.
        titles: names of the outputs of each part.
    """

    parts: tuple[Comparison, ...]
    titles: tuple[str, ...]
    output: str | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """The names of all parts, each with its outputs."""
        both = zip(self.titles, self.parts, strict=True)
        return f"the worst of {', '.join(f'{part.name} ({title})' for title, part in both)}"

    @property
    def unit(self) -> str:  # type: ignore[override]
        """`share` if all parts are shares; else empty."""
        units = {part.unit for part in self.parts}
        return units.pop() if len(units) == 1 else ""

    def compare(self, before: Outputs, after: Outputs, size: int, feeds: Feeds) -> Array:
        """Return the rows of all parts."""
        rows = np.empty((size, len(self.parts)), dtype=object)
        for column, part in enumerate(self.parts):
            found = part.compare(before, after, size, feeds)
            for sample in range(size):
                rows[sample, column] = found[sample]
        return rows

    def part_rows(self, rows: Array, index: int) -> Array:
        """Return the rows of one part."""
        return np.stack(list(rows[:, index]))

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the lowest value."""
        found = [part.values(self.part_rows(rows, i), counts) for i, part in enumerate(self.parts)]
        return np.asarray(np.min(found, axis=0))

    def least_drop(self, rows: Array) -> float:
        """Return the largest lower bound of the parts."""
        return max(part.least_drop(self.part_rows(rows, i)) for i, part in enumerate(self.parts))

    def details(self, rows: Array) -> dict[str, float]:
        """Return the further figures of all parts, each with its outputs."""
        found = {}
        for index, (part, title) in enumerate(zip(self.parts, self.titles, strict=True)):
            for name, value in part.details(self.part_rows(rows, index)).items():
                found[f"{title}: {name}"] = value
        return found
