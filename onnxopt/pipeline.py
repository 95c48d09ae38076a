"""Passes and pipelines: the interface of a pass, and the run of passes in order."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import ModelError, UsageError
from onnxopt.graph.check import check_structure
from onnxopt.measure.runtime.interrupt import interruptible, raise_if_interrupted
from onnxopt.model_file import Signature, signature_of
from onnxopt.model_file.heap import set_aside, without_collections
from onnxopt.model_file.memory import IN_MEMORY_BYTES, weight_bytes
from onnxopt.samples import Samples
from onnxopt.target import Target

StageProgress = Callable[[str, int, int], None]
_T = TypeVar("_T")


class Effect(Enum):
    """Effect of a pass on the outputs."""

    EXACT = "exact"
    """The same outputs, up to float reassociation."""
    LOSSY = "lossy"
    """Other outputs: accuracy must be measured."""


class Need(Enum):
    """Data that a pass cannot do without; `Pipeline.run` refuses a context that lacks it."""

    CALIBRATION = "calibration"


class Observations:
    """Observations that passes on one context share: each is made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, Hashable], Any] = {}

    def once(self, name: str, key: Hashable, observe: Callable[[], _T]) -> _T:
        """Return the observation `name` under `key`, made by `observe` in the first call.

        Args:
            name: the kind of observation; one name goes with one type.
            key: everything that the observation depends on.
            observe: makes it.
        """
        if (name, key) not in self._made:
            self._made[name, key] = observe()
        return cast("_T", self._made[name, key])


@dataclass(frozen=True)
class Context:
    """The data a pass may use; options are fields of the pass itself.

    Attributes:
        target: target processor.
        calibration: samples to observe the model on; never the ones it is judged on.
        teacher: model to imitate; None for the one a pipeline starts with.
        seed: random seed.
        progress: called with the work of a long pass, the part that is done, and the whole.
        cache: observations that other passes on the same context reuse.
    """

    target: Target
    calibration: Samples | None = None
    teacher: ir.Model | None = None
    seed: int = 0
    progress: StageProgress = field(default=lambda what, done, total: None, compare=False, repr=False)
    cache: Observations = field(default_factory=Observations, compare=False, repr=False)


_OBJECTS_PER_NODE = 20
"""About the number of objects of a node with its weights and values."""

LEAST_IR_VERSION = 4
"""The first in which a weight need not be an input as well, so that passes can add some."""


@dataclass(frozen=True)
class Edit:
    """One edit: `target` is the user's name of the node or weight."""

    target: str
    action: str


@dataclass(frozen=True)
class Skip:
    """One skipped node or weight, with the reason."""

    target: str
    reason: str


@dataclass(frozen=True)
class Applied:
    """The result of a pass.

    Attributes:
        difference: largest difference of the outputs from those of the reference that the pass proves them against,
            relative to each output's largest magnitude; None if the pass has no such proof.
        curve: the curve of a training: step, loss, and score on held-out samples, lower is better.
    """

    model: ir.Model
    edits: tuple[Edit, ...] = ()
    skipped: tuple[Skip, ...] = ()
    difference: float | None = None
    curve: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class Pass(ABC):
    """One optimization. Fields are its options: scalars and tuples of scalars only."""

    name: ClassVar[str]
    effect: ClassVar[Effect]
    needs: ClassVar[frozenset[Need]] = frozenset()

    @abstractmethod
    def apply(self, model: ir.Model, context: Context) -> Applied:
        """Optimize `model`, which the pass owns: edit it or return a new one. No edits means an untouched graph."""


@dataclass(frozen=True)
class Step:
    """One pass of a pipeline with its edits and skips."""

    spec: Pass
    edits: tuple[Edit, ...]
    skipped: tuple[Skip, ...]
    duration_s: float
    difference: float | None = None
    curve: tuple[tuple[int, float, float], ...] = ()


@dataclass(frozen=True)
class Optimized:
    """The outcome of a pipeline."""

    model: ir.Model
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Pipeline:
    """Passes in order; the input model is not modified."""

    passes: tuple[Pass, ...]

    def run(self, model: ir.Model, context: Context) -> Optimized:
        """Apply every pass to a copy of `model` and check the structure after each.

        Raises:
            UsageError: ONX114 a pass needs data that the context lacks.
            ModelError: ONX306 a pass made an invalid model; it names the pass, its options and its step.
            KeyboardInterrupt: the user pressed Ctrl-C, also inside a long run of a model.
        """
        context = replace(context, teacher=context.teacher or model)
        for spec in self.passes:
            _require(spec, context)
        # Large weights of graphs that a pass has dropped must not wait for its end.
        objects = _OBJECTS_PER_NODE * len(model.graph) if weight_bytes(model) <= IN_MEMORY_BYTES else 0
        with set_aside(objects):
            return self._run(model, context)

    def _run(self, model: ir.Model, context: Context) -> Optimized:
        signature = signature_of(model)
        with without_collections():
            current = model.clone()
        steps: list[Step] = []
        for number, spec in enumerate(self.passes, start=1):
            raise_if_interrupted()
            start = time.perf_counter()
            applied = interruptible(partial(spec.apply, current, context))
            current = applied.model
            if applied.edits:
                current.ir_version = max(current.ir_version, LEAST_IR_VERSION)
                _check(current, signature, f"{spec} (step {number} of {len(self.passes)})")
            duration_s = time.perf_counter() - start
            steps.append(Step(spec, applied.edits, applied.skipped, duration_s, applied.difference, applied.curve))
        return Optimized(current, tuple(steps))


def _require(spec: Pass, context: Context) -> None:
    if Need.CALIBRATION in spec.needs and context.calibration is None:
        raise UsageError(
            "ONX114", "this pass needs calibration samples", where=spec.name, hint="Give them with --data."
        )


def _check(model: ir.Model, signature: Signature, where: str) -> None:
    try:
        check_structure(model)
        model_file.check(model)
    except ModelError as error:
        raise ModelError(
            "ONX306",
            "a pass made an invalid model, which was dropped",
            where=where,
            why=error.why or error.what,
            hint="This is a bug in the pass: leave it out, and please report the model.",
        ) from error
    if [s.name for s in signature_of(model).inputs] != [s.name for s in signature.inputs] or [
        s.name for s in signature_of(model).outputs
    ] != [s.name for s in signature.outputs]:
        raise ModelError("ONX306", "a pass changed the model's inputs or outputs, which was dropped", where=where)
