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
    """The settings of one search.

    Attributes:
        budget: largest accepted drop.
        goal: figure to improve.
        confidence: required probability of being within budget, on the hold-out samples, for a proof.
        require: least standing of a winner: `proven`, or `likely` (`onnxopt.search.acceptance.LIKELY`).
        target: target processor, see `onnxopt.target`.
        runtime: configuration of ONNX Runtime.
        seed: random seed.
        batch_size: for the latency.
        latency_s: measurement time per candidate; a proof takes three times as long.
        hot: whether to time one repeated batch instead of alternating inputs of the data.
        prune: whether to prune channels too; takes minutes more.
        train: whether to distill pruned models that are over budget; needs torch, takes many minutes more.
        protect: layers whose channels are not pruned: `first`, `last`, `embeddings`.
        time_limit_s: of the whole run with proof and report; None for no limit.
        aim: target latency or size at which the search ends; None for none.
        trial_timeout_s: time limit per candidate, each in its own process; None for no limit.
        memory_limit_bytes: memory limit per candidate, likewise, where the system supports it.
        cluster: address of a Dask scheduler whose workers build, score and time candidates; None for this machine.
        bench: Dask resource of the workers that measure latency; None for those of this kind of processor.
        tls: files for an encrypted connection to the cluster: authority, certificate, key.
        tasks: tasks of the outputs and options of their decoding.

    Raises:
        UsageError: ONX101 a value is invalid, ONX109 two contradict each other.
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
            raise UsageError("ONX101", "unknown requirement", where=self.require, hint=hint)
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
            raise UsageError("ONX109", "--train requires --prune", where="train", hint="Add --prune.")
        for name in self.protect:
            if name not in get_args(Protect):
                raise UsageError(
                    "ONX102", "unknown layers to protect", where=name, hint=nearest(name, get_args(Protect))
                )
        if not (self.latency_s > 0 and math.isfinite(self.latency_s)):
            raise UsageError("ONX101", "the measurement time must be positive", where=str(self.latency_s))
