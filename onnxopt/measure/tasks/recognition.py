"""Recognition of the tasks of a model's outputs: by option, else by evidence, in a fixed order."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from onnxopt.errors import DataError, nearest
from onnxopt.measure.comparison import Comparison
from onnxopt.measure.metrics.outputs import Outputs, is_float, is_map, misfit
from onnxopt.measure.tasks.table.evidence import labels_fit, run_size
from onnxopt.measure.tasks.task import ModelFacts, Recognized, TaskModule, TaskName, TaskOptions
from onnxopt.measure.tasks.worst import Worst
from onnxopt.options.tasks import task_called
from onnxopt.samples import Feeds

_HERE = "onnxopt.measure.tasks"
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "detection": f"{_HERE}.detection",
        "classification": f"{_HERE}.table.classification",
        "tokens": f"{_HERE}.tokens",
        "sequence": f"{_HERE}.sequence",
        "segmentation": f"{_HERE}.segmentation",
        "signal": f"{_HERE}.signal",
        "embedding": f"{_HERE}.embedding",
        "multilabel": f"{_HERE}.table.multilabel",
        "regression": f"{_HERE}.table.regression",
    }
)
"""The module of each task, in the order of the attempts: the most specific first, numbers last."""
USER = "--task says so"
TABLES = ("classification", "multilabel", "regression")
"""Tasks that are defined on every sample."""
TOGETHER = ("detection", "regression")
"""Tasks that read several outputs together."""


def recognize(
    outputs: Outputs,
    feeds: Feeds,
    facts: ModelFacts,
    options: TaskOptions | None = None,
    labels: np.ndarray | None = None,
) -> tuple[Recognized, ...]:
    """Return the tasks of a model's outputs, in the order of the outputs.

    Args:
        outputs: outputs of the baseline for one batch.
        feeds: the inputs of that batch.
        facts: facts of the model's graph.
        options: the user's options of reading outputs.
        labels: labels of all samples, if there are any.

    Raises:
        UsageError: ONX102 there is no such task.
        DataError: ONX209 there is no such output, or an output does not fit the task named for it.
    """
    options = options or TaskOptions()
    left = dict(outputs)
    if options.output is not None:
        left = {options.output: _output(outputs, options.output)}
    found = list[Recognized]()
    for task, names, everything in _named(left, options):
        for some in _apart(task, names, everything, left, facts=facts, options=options, feeds=feeds):
            comparison = _module(task).comparison(left, some, facts, options, feeds)
            found.append(Recognized(task, some, comparison, USER))
    for one in found:
        left = {name: value for name, value in left.items() if name not in one.outputs}
    if found and any(name == "" for name, _ in options.tasks):
        left = {}
    found += _by_labels(left, run_size(feeds), facts, options, labels)
    left = {name: value for name, value in left.items() if all(name not in one.outputs for one in found)}
    for kind in MODULES:
        while left:
            claimed = _module(kind).recognize(left, feeds, facts, options)
            if claimed is None:
                break
            found.append(claimed)
            left = {name: value for name, value in left.items() if name not in claimed.outputs}
    if not found:
        found.append(_whole_numbers(outputs, facts, options))
    order = list(outputs)
    return tuple(sorted(found, key=lambda one: order.index(one.outputs[0])))


def comparison_of(found: tuple[Recognized, ...]) -> Comparison:
    """Return the comparison of outputs of these tasks: a single one, or the worst of several."""
    if len(found) == 1:
        return found[0].comparison
    return Worst(tuple(one.comparison for one in found), tuple(", ".join(one.outputs) for one in found))


def choice_of(found: tuple[Recognized, ...]) -> str:
    """Return the choice and its reason in one sentence."""
    if len(found) == 1:
        return f"Judged as {found[0].task}, because {found[0].reason}."
    parts = (f"{', '.join(one.outputs)} as {one.task}, because {one.reason}" for one in found)
    return f"Judged by the worst of: {'; '.join(parts)}."


def by_number(found: Recognized, outputs: Outputs, facts: ModelFacts) -> Recognized:
    """Return the comparison by number, for outputs whose own task is undefined on the samples."""
    comparison = _module("regression").comparison(outputs, found.outputs, facts, TaskOptions())
    reason = f"it looks like {found.task} ({found.reason}), but the baseline finds nothing in these samples"
    return Recognized("regression", found.outputs, comparison, reason)


def _named(outputs: Outputs, options: TaskOptions) -> Iterator[tuple[TaskName, tuple[str, ...], bool]]:
    """Yield the tasks that the user names, their outputs, and whether these are all outputs without a named task."""
    named: dict[TaskName, list[str]] = {}
    everything: TaskName | None = None
    for name, task in options.tasks:
        task_called(task)
        if name:
            _output(outputs, name)
            named.setdefault(task, []).append(name)
        else:
            everything = task
    taken = {name for names in named.values() for name in names}
    yield from ((task, tuple(names), False) for task, names in named.items())
    if everything is not None and (left := tuple(name for name in outputs if name not in taken)):
        yield everything, left, True


def _apart(
    task: TaskName,
    names: tuple[str, ...],
    everything: bool,
    outputs: Outputs,
    *,
    facts: ModelFacts,
    options: TaskOptions,
    feeds: Feeds,
) -> tuple[tuple[str, ...], ...]:
    """Return the groups of outputs of a task that are compared: all together, or each on its own.

    If the user named no outputs, outputs that do not fit the task, such as features, are left out if another fits.
    """
    if task in TOGETHER:
        return (names,)
    if not everything:
        return tuple((name,) for name in names)
    fitting = tuple(name for name in names if _fits(task, name, outputs, facts=facts, options=options, feeds=feeds))
    if task in TABLES:
        flat = [n for n in fitting if is_map(outputs[n]) or (is_float(outputs[n]) and np.ndim(outputs[n]) == 2)]
        fitting = tuple(flat) or fitting[:1]
    elif task == "sequence":
        fitting = tuple(n for n in fitting if is_float(outputs[n]) and np.ndim(outputs[n]) == 3) or fitting[:1]
    return tuple((name,) for name in fitting) or (names,)


def _fits(
    task: TaskName, name: str, outputs: Outputs, *, facts: ModelFacts, options: TaskOptions, feeds: Feeds
) -> bool:
    try:
        _module(task).comparison(outputs, (name,), facts, options, feeds)
    except DataError:
        return False
    return True


def _by_labels(
    outputs: Outputs, size: int, facts: ModelFacts, options: TaskOptions, labels: np.ndarray | None
) -> Iterator[Recognized]:
    """Yield classification of the only table whose columns the labels refer to."""
    tables = [name for name, value in outputs.items() if is_float(value)]
    if len(tables) == 1 and labels_fit(outputs[tables[0]], labels, size):
        comparison = _module("classification").comparison(outputs, (tables[0],), facts, options)
        yield Recognized("classification", (tables[0],), comparison, f"the labels number the columns of {tables[0]}")


def _whole_numbers(outputs: Outputs, facts: ModelFacts, options: TaskOptions) -> Recognized:
    """Return classification of an output of whole numbers or names, if there is no other output."""
    for name, value in outputs.items():
        if options.output in (None, name) and isinstance(value, np.ndarray) and value.dtype.kind in "iubOUS":
            comparison = _module("classification").comparison(outputs, (name,), facts, options)
            return Recognized("classification", (name,), comparison, f"{name} holds whole numbers or names")
    raise misfit("no output can be compared", f"Outputs: {', '.join(outputs)}.", where=options.output or "")


def _output(outputs: Outputs, name: str) -> Any:
    if name not in outputs:
        raise misfit("the model has no such output", nearest(name, outputs), where=name)
    return outputs[name]


def _module(task: str) -> TaskModule:
    return cast(TaskModule, import_module(MODULES[task]))
