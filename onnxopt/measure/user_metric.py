"""A metric the user wrote: `file.py:function`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from onnxopt.errors import OnnxoptError, UsageError, first_line
from onnxopt.measure.outputs import Outputs, chosen, is_map, misfit
from onnxopt.measure.score import Metric

Array = np.ndarray


@dataclass(frozen=True)
class UserMetric(Metric):
    """Calls `function(outputs, labels) -> float` with the outputs and labels of all samples.

    `outputs` maps output names to one array of all samples, or to a list with one array per sample when those differ
    in shape (detections: run them at batch size 1). A lower value is better when the function has an attribute
    `higher_is_better` that is False.

    Attributes:
        name: `file.py:function`.
        function: what it names.
        output: the only output to keep; None keeps all.
        higher_is_better: from the function.
    """

    name: str
    function: Callable[[dict[str, Any], Array], float] = field(repr=False)
    output: str | None = None
    higher_is_better: bool = True
    resamples: ClassVar[int] = 100  # every one calls the function on as many samples as there are

    def rows(self, outputs: Outputs, labels: Array) -> Array:
        """Return `(n, 2)` objects: the outputs of one sample by name, and its label."""
        labels = np.asarray(labels)
        kept = outputs if self.output is None else {self.output: chosen(outputs, self.output)}
        rows = np.empty((len(labels), 2), dtype=object)
        for i, label in enumerate(labels):
            rows[i, 0] = {key: _of_sample(key, value, i, len(labels)) for key, value in kept.items()}
            rows[i, 1] = label
        return rows

    def values(self, rows: Array, counts: Array) -> Array:
        """Call the function once per resample.

        Raises:
            UsageError: ONX107 it raised an exception or returned no number.
        """
        return np.array([self._call(rows[np.repeat(np.arange(len(rows)), drawn)]) for drawn in counts])

    def _call(self, rows: Array) -> float:
        outputs = {key: _together([sample[key] for sample in rows[:, 0]]) for key in rows[0, 0]}
        try:
            return float(self.function(outputs, np.array(list(rows[:, 1]))))
        except OnnxoptError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise _unusable(self.name, "it failed while scoring", error) from error


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
        UsageError: ONX107 no such file, it fails to import, or has no such function.
    """
    path_text, _, attribute = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError("ONX107", "the metric's file does not exist", where=path_text, hint="Give file.py:function.")
    if path.suffix != ".py":
        raise UsageError("ONX107", "the metric's file is not Python", where=path_text, hint="Give file.py:function.")
    loader = _Uncached(path.stem, str(path))
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise _unusable(name, "its file fails to import", error) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        why = "there is none of this name" if function is None else "it is not callable"
        raise UsageError("ONX107", "the metric's function cannot be used", where=name, why=why, hint="Check the name.")
    return UserMetric(name, function, output, bool(getattr(function, "higher_is_better", True)))


def _unusable(name: str, what: str, error: Exception) -> UsageError:
    why = f"{what} with {type(error).__name__}: {first_line(error)}"
    return UsageError("ONX107", "the metric's function cannot be used", where=name, why=why, hint="Correct it.")
