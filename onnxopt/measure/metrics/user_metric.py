"""A metric written by the user: `file.py:function`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import numpy as np

from onnxopt.errors import UsageError
from onnxopt.measure.metrics.outputs import Outputs, chosen, is_map, misfit
from onnxopt.measure.metrics.score import Metric, Score, mean_of
from onnxopt.measure.metrics.user_call import LIMIT_S, call_user
from onnxopt.samples.core import Array

T = TypeVar("T")


@dataclass(frozen=True)
class UserMetric(Metric):
    """Calls `function(outputs, labels) -> float` with the outputs and labels of all samples.

    `outputs` maps output names to one array of all samples, or to a list with one array per sample when those differ
    in shape (detections: run them at batch size 1); `labels` is likewise an array or a list. The function may have
    attributes: `higher_is_better`, False where a lower value is better; `bounded`, True where 1 is perfect and 0
    useless, so that the budget can be given in points; `time_limit_s` of one call; `per_sample`, see `PerSample`.

    Attributes:
        name: `file.py:function`.
        function: the function that it names.
        output: the only output to keep; None keeps all.
        higher_is_better: attribute of the function.
        bounded: attribute of the function.
        unit: `share` if it is bounded.
    """

    name: str
    function: Callable[[dict[str, Any], Any], float] = field(repr=False, compare=False)
    output: str | None = None
    higher_is_better: bool = True
    bounded: bool = False  # type: ignore[misc]
    unit: str = ""  # type: ignore[misc]
    resamples: ClassVar[int] = 100  # each resample calls the function on all samples

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2)` objects: the outputs of one sample by name, and its label."""
        rows = np.empty((len(labels), 2), dtype=object)
        for i, (sample, label) in enumerate(self._samples(outputs, labels)):
            rows[i, 0], rows[i, 1] = sample, label
        return rows

    def _samples(self, outputs: Outputs, labels: Array) -> Iterator[tuple[dict[str, Any], Any]]:
        kept = outputs if self.output is None else {self.output: chosen(outputs, self.output)}
        for i, label in enumerate(labels):
            yield {key: _of_sample(key, value, i, len(labels)) for key, value in kept.items()}, label

    def values(self, rows: Array, counts: Array) -> Array:
        """Call the function once per resample.

        Raises:
            UsageError: ONX107 it raised an exception or returned no number.
        """
        return np.array([self._call(rows[np.repeat(np.arange(len(rows)), drawn)]) for drawn in counts])

    def _call(self, rows: Array) -> float:
        outputs = {key: _together([sample[key] for sample in rows[:, 0]]) for key in rows[0, 0]}
        labels = list(rows[:, 1])
        alike = len({np.shape(label) for label in labels}) == 1
        return self._called(lambda: float(self.function(outputs, np.array(labels) if alike else labels)))

    def _called(self, work: Callable[[], T]) -> T:
        limit_s = float(getattr(self.function, "time_limit_s", LIMIT_S))
        return call_user(self.name, "it failed while scoring", work, limit_s)

    def __reduce__(self) -> tuple[object, ...]:
        # The module is not part of a package: another process reads the file again.
        file, _, attribute = self.name.rpartition(":")
        return partial(user_metric, output=self.output), (f"{Path(file).absolute()}:{attribute}",)


@dataclass(frozen=True)
class PerSample(UserMetric):
    """Calls `function(outputs, label) -> float` with the outputs of one sample and its label; the metric is the mean.

    Only that number is kept of a sample; labels may differ in shape. Outputs keep their batch axis of 1.
    """

    resamples: ClassVar[int] = Score.resamples

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 1)`: the value of each sample.

        Raises:
            UsageError: ONX107 it raised an exception or returned no number.
        """
        samples = list(self._samples(outputs, labels))
        values = self._called(lambda: [float(self.function(sample, label)) for sample, label in samples])
        return np.array(values, dtype=np.float64).reshape(-1, 1)

    def values(self, rows: Array, counts: Array) -> Array:
        """Return the mean of every resample."""
        return mean_of(rows, counts)[:, 0]


def _of_sample(key: str, value: Any, index: int, size: int) -> Any:
    if size == 1:
        return value
    if len(value) != size:
        why = f"output {key!r} has {len(value)} rows for {size} samples"
        raise misfit(why, "Run the samples at batch size 1.", where=key)
    return value[index : index + 1]


def _together(values: list[Any]) -> Any:
    if is_map(values[0]):
        return [row for value in values for row in value]
    arrays = [np.asarray(value) for value in values]
    if all(a.ndim and len(a) == 1 and a.shape == arrays[0].shape for a in arrays):
        return np.concatenate(arrays)
    return arrays


class _Uncached(SourceFileLoader):
    """Loads a file without leaving a `__pycache__` beside it: the folder is the user's."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write nothing."""


def user_metric(name: str, *, output: str | None = None) -> UserMetric:
    """Import `file.py:function`.

    Raises:
        UsageError: ONX107 the file does not exist, fails to import, or has no such function.
    """
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError("ONX107", "the metric's file does not exist", where=path_text, hint="Give file.py:function.")
    if path.suffix != ".py":
        raise UsageError("ONX107", "the metric's file is not Python", where=path_text, hint="Give file.py:function.")
    path = path.absolute()
    loader = _Uncached(path.stem, str(path))
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    call_user(name, "its file fails to import", lambda: loader.exec_module(module))
    function = getattr(module, attribute, None)
    if not callable(function):
        why = "the file defines nothing of this name" if function is None else "it is not callable"
        raise UsageError("ONX107", "the metric's function cannot be used", where=name, why=why, hint="Check the name.")
    kind = PerSample if getattr(function, "per_sample", False) else UserMetric
    bounded = bool(getattr(function, "bounded", False))
    higher = bool(getattr(function, "higher_is_better", True))
    return kind(name, function, output, higher, bounded, "share" if bounded else "")
