"""Evidence that a table holds class scores: the graph, or rows that are probabilities."""

from typing import Any

import numpy as np

from onnxopt.measure.metrics.outputs import are_probabilities, is_float, is_map
from onnxopt.measure.tasks.facts import CONTROL, MEANS, MOVES
from onnxopt.measure.tasks.table.columns import table_of
from onnxopt.measure.tasks.task import ModelFacts
from onnxopt.samples import Feeds

_SHARES = ("Sigmoid", "Softmax")
_SCORES = ("Softmax", "LogSoftmax", "Hardmax", "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")
_CLASSES = ("ArgMax", "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")


def computed_by(name: str, facts: ModelFacts) -> str:
    """Return the operator type that computes an output, before data movement; "" if unknown.

    A mean of probabilities is a probability: of one, the operator before counts. Behind an `If` or a loop the bodies
    must agree.
    """
    ends = facts.outputs[name].ends if name in facts.outputs else ()
    work = [operator for operator in ends if operator not in MOVES | CONTROL]
    pairs = zip(work, [*work, ""][1:], strict=True)
    found = [operator for operator, before in pairs if not (operator in MEANS and before in _SHARES)]
    if CONTROL.intersection(ends) and len(set(found)) > 1:
        return ""
    return found[0] if found else ""


def run_size(feeds: Feeds) -> int:
    """Return the number of samples of a run: the first axis of its first input."""
    first = next(iter(feeds.values()), np.zeros(1))
    return len(first) if np.ndim(first) else 1


def classes_evidence(name: str, value: Any, facts: ModelFacts, size: int) -> str:
    """Return the evidence that an output holds classes or their scores, one per sample; "" without any."""
    if is_map(value):
        return f"{name} maps classes to scores"
    if not isinstance(value, np.ndarray) or not value.ndim:
        return ""
    operator = computed_by(name, facts)
    if value.dtype.kind in "iubOUS":
        if value.size != size:
            return ""
        words = value.dtype.kind in "OUS"
        return f"{name} is made by {operator}" if operator in _CLASSES else f"{name} holds names" if words else ""
    if not is_float(value):
        return ""
    table = table_of(value, size)
    if table.ndim != 2 or table.shape[1] < 2:
        return ""
    if operator in _SCORES:
        return f"{name} is made by {operator}"
    return f"the rows of {name} are probabilities" if are_probabilities(table) else ""


def labels_fit(value: Any, labels: np.ndarray | None, size: int) -> bool:
    """Return whether labels are class numbers of a table: whole numbers, one per sample, each a column."""
    if labels is None or labels.ndim != 1 or not is_float(value) or not value.ndim:
        return False
    table = table_of(value, size)
    if table.ndim != 2 or table.shape[1] < 2 or labels.dtype.kind not in "iufb":
        return False
    return bool(np.all(labels == np.round(labels)) and labels.min() >= 0 and labels.max() < table.shape[1])
