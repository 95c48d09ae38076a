"""The settings of a search."""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from onnxopt.errors import UsageError, nearest
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.pruning.protect import Protect
from onnxopt.search.budget import Budget, Goal
from onnxopt.search.stop_target import StopTarget

Require = Literal["proven", "likely"]

_LEAST_MEMORY = 1 << 28


@dataclass(frozen=True)
class Settings:
    """What to look for and how to measure.

    Attributes:
        budget: largest accepted drop.
        goal: what the best model is best at.
        confidence: probability, on the hold-out part, that the true drop is inside the budget, from which it is proven.
        require: what may ship: `proven`, or also `likely` where nothing is proven, see
            `onnxopt.search.acceptance.LIKELY`.
        target: processor to quantize for, see `onnxopt.target`.
        runtime: how models are run.
        seed: of everything random.
        batch_size: at which latency is measured.
        latency_s: time spent on the latency of one candidate; the proof takes three times that.
        hot: whether latency is that of a hot loop, one batch again and again, and not of the user's inputs by turns.
        prune: whether to remove channels too, in front of the best so far: minutes more.
        train: whether a pruned model that loses too much may learn from the original; needs torch, many minutes more.
        protect: layers that keep all their channels: `first`, `last`, `embeddings`.
        time_limit_s: of everything, proof and report included; None for no limit.
        aim: what is enough; None to go on for the best.
        trial_timeout_s: of building and scoring one candidate, each then in a process of its own; None for no limit.
        memory_limit_bytes: of the same, where the system can limit it.
        cluster: address of a Dask scheduler whose workers build, score and time candidates; None to do it here.
        bench: resource of the workers that time models; None for those of this kind of processor.
        tls: files for an encrypted connection to the cluster: of the authority, the certificate and the key.
        tasks: how outputs are read, and as which tasks they are judged.

    Raises:
        UsageError: ONX101 a value makes no sense.
    """

    budget: Budget = field(default_factory=lambda: Budget(0.01))
    goal: Goal = Goal.LATENCY
    confidence: float = 0.95
    require: Require = "likely"
    target: str = "auto"
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0
    batch_size: int = 1
    latency_s: float = 1.0
    hot: bool = False
    prune: bool = False
    train: bool = False
    protect: tuple[Protect, ...] = ()
    time_limit_s: float | None = None
    aim: StopTarget | None = None
    trial_timeout_s: float | None = None
    memory_limit_bytes: int | None = None
    cluster: str | None = None
    bench: str | None = None
    tls: tuple[str, str, str] | None = None
    tasks: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise UsageError("ONX101", "the confidence must lie between 0 and 1", where=str(self.confidence))
        if self.require not in get_args(Require):
            hint = nearest(self.require, get_args(Require))
            raise UsageError("ONX101", "no such requirement", where=self.require, hint=hint)
        if self.batch_size < 1:
            raise UsageError("ONX101", "the batch size must be 1 or more", where=str(self.batch_size))
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise UsageError("ONX101", "the time limit must be positive", where=str(self.time_limit_s))
        if self.trial_timeout_s is not None and not self.trial_timeout_s > 0:
            raise UsageError("ONX101", "the time limit of a trial must be positive", where=str(self.trial_timeout_s))
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < _LEAST_MEMORY:
            where, hint = f"{self.memory_limit_bytes} bytes", "Give 256MB or more: a process needs as much to start."
            raise UsageError("ONX101", "the memory limit is too low", where=where, hint=hint)
        if self.cluster is not None and (self.trial_timeout_s or self.memory_limit_bytes):
            hint = "Limit the workers instead: dask worker --memory-limit, --lifetime."
            raise UsageError("ONX109", "limits of trials are for this machine", where="cluster", hint=hint)
        if self.train and not self.prune:
            raise UsageError("ONX109", "training recovers what pruning lost", where="train", hint="Add --prune.")
        for name in self.protect:
            if name not in get_args(Protect):
                raise UsageError(
                    "ONX102", "no such layers to protect", where=name, hint=nearest(name, get_args(Protect))
                )
        if not (self.latency_s > 0 and math.isfinite(self.latency_s)):
            raise UsageError("ONX101", "the seconds to measure latency for must be positive", where=str(self.latency_s))
