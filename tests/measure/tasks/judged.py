"""Helpers of the tests of tasks: what a comparison says of two sets of outputs."""

import numpy as np

from onnxopt.measure.accuracy import drop, evaluation_of
from onnxopt.measure.tasks.task import ModelFacts, OutputFacts, TaskOptions

OPTIONS = TaskOptions()


def facts(name="y", shape=None, ends=(), metadata=None):
    return ModelFacts({name: OutputFacts(name, shape, ends)}, frozenset(ends), metadata or {})


def rows_of(comparison, before, after, feeds=None):
    return comparison.compare({comparison.output: before}, {comparison.output: after}, len(before), feeds or {})


def score(comparison, before, after, feeds=None):
    return comparison.value(rows_of(comparison, before, after, feeds))


def lost(comparison, before, after, feeds=None):
    """Return the drop of `after`, as a judge says it."""
    one, other = (rows_of(comparison, before, outputs, feeds) for outputs in (before, after))
    broken = int((~np.isfinite(after)).any(axis=tuple(range(1, after.ndim))).sum())
    return drop(evaluation_of(comparison, one, 0), evaluation_of(comparison, other, broken))
