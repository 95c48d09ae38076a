"""Models with random outputs: random operators get a fixed seed, only while measuring."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.measure.metrics.outputs import Outputs, is_map
from onnxopt.measure.runtime.interrupt import interruptible
from onnxopt.measure.runtime.session import Loadable, Runtime, Session
from onnxopt.model_file import from_bytes, load
from onnxopt.samples import Feeds, Samples

RANDOM: Mapping[str, type] = MappingProxyType(
    {
        "Bernoulli": float,
        "Dropout": int,
        "Multinomial": float,
        "RandomNormal": float,
        "RandomNormalLike": float,
        "RandomUniform": float,
        "RandomUniformLike": float,
    }
)
"""Operators that draw random numbers, and the type of their attribute `seed`."""
SEED = 1
_CLOSE = 1e-3
"""Largest difference, relative to an output's spread, that the order of additions in several threads can cause."""


class Fresh(Session):
    """A session that loads the model anew for every run.

    A random operator with a seed draws further numbers in each run, as many as its shape needs; only the first run of a
    session is the same for every model.
    """

    def __init__(self, model: Loadable, runtime: Runtime) -> None:
        self._model = seeded(graph_of(model))
        self._used = False
        super().__init__(self._model, runtime)

    def run(self, feeds: Feeds, outputs: Any = None) -> list[Any]:
        """Run one batch in a new session; raises like `Session.run`."""
        if self._used:
            super().__init__(self._model, self.runtime)
        self._used = True
        return super().run(feeds, outputs)


def graph_of(model: Loadable) -> ir.Model:
    """Return the graph of a model given as a file, as bytes or in memory."""
    if isinstance(model, ir.Model):
        return model
    return from_bytes(model) if isinstance(model, bytes) else load(model)


def random_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the nodes that may draw random numbers, including those of subgraphs and functions."""
    nodes = [*model.graph.all_nodes(), *(node for f in model.functions.values() for node in f.all_nodes())]
    return [node for node in nodes if node.op_type in RANDOM and not node.domain]


def seeded(model: ir.Model) -> ir.Model:
    """Return a copy whose random operators without a seed get the same seed, because a pass may change their order."""
    copy = model.clone()
    for node in random_nodes(copy):
        if "seed" not in node.attributes:
            kind = RANDOM[node.op_type]
            made = ir.AttrInt64("seed", SEED) if kind is int else ir.AttrFloat32("seed", float(SEED))
            node.attributes["seed"] = made
    return copy


def needs_fresh(model: Loadable, feeds: Feeds, runtime: Runtime) -> bool:
    """Return whether a model needs fixed seeds and a session for every run to give the same outputs twice.

    Args:
        model: the model, which is run twice in each of two sessions.
        feeds: one batch.
        runtime: configuration of ONNX Runtime.

    Raises:
        ModelError: ONX313 its outputs differ even then; ONX304 it cannot be loaded.
        NativeError: ONX401 the model cannot be run.
    """
    graph = graph_of(model)
    random = random_nodes(graph)
    first = Session(model, runtime)
    before = first.named(feeds)
    again = [first.named(feeds)]
    # A second load takes seconds for a large model, and is useful only with operators that may be random.
    if random or any(node.domain for node in graph.graph.all_nodes()):
        again.append(Session(model, runtime).named(feeds))
    if all(_same(before, other) for other in again):
        return False
    if random:
        runs = [Fresh(model, runtime).named(feeds) for _ in range(2)]
        if _same(*runs):
            return True
    raise ModelError(
        "ONX313",
        "the model does not give the same outputs twice",
        where=_suspects(graph, random),
        why="two runs on the same inputs differ, so no candidate can be compared with it",
        hint="Export the model without this operator, or with its random numbers as an input.",
    )


def _suspects(graph: ir.Model, random: list[ir.Node]) -> str:
    others = [node for node in graph.graph.all_nodes() if node.domain]
    nodes = random or others
    if not nodes:
        return "no operator known to be random"
    named = [f"{node.op_type} {node.name}".strip() for node in nodes]
    return ", ".join(named[:3]) + (", ..." if len(named) > 3 else "")


def _same(one: Outputs, other: Outputs) -> bool:
    return all(_equal(value, other[name]) for name, value in one.items())


def _equal(one: Any, other: Any) -> bool:
    if is_map(one) or not isinstance(one, np.ndarray):
        return bool(one == other)
    if one.shape != np.shape(other):
        return False
    if one.dtype.kind not in "fV":
        return bool(np.array_equal(one, other))
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    finite = a[np.isfinite(a)]
    slack = _CLOSE * float(finite.std()) if finite.size else 0.0
    return bool(np.allclose(a, b, rtol=1e-4, atol=slack, equal_nan=True))


def session_kind(model: Loadable, samples: Samples, runtime: Runtime) -> type[Session]:
    """Return the kind of session with which a model and its candidates give the same outputs twice.

    Raises:
        ModelError: ONX313 the model gives different outputs with every kind of session.
    """

    def work() -> bool:
        feeds = next(iter(samples.with_batch_size(1)))
        return needs_fresh(model, feeds, runtime)

    return Fresh if interruptible(work) else Session


def seed_sentence(kind: type[Session]) -> str:
    """Return the sentence that says that operators are seeded; empty where none is random."""
    return " Its random operators have a fixed seed for measuring, and for nothing else." if kind is Fresh else ""
