"""The settings of a search: its options, resolved."""

from dataclasses import dataclass, field

from onnxopt.errors import UsageError
from onnxopt.measure.device.place import place_of
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.options.search import Goal, Protect, SearchOptions
from onnxopt.search.budget import Budget
from onnxopt.search.limits.stop_target import StopTarget

_LEAST_MEMORY = 1 << 28


@dataclass(frozen=True)
class Settings(SearchOptions):
    """The settings of one search: its options, resolved.

    Attributes:
        budget: largest accepted drop.
        goal: figure to improve.
        protect: layers whose channels are not pruned.
        aim: target latency or size at which the search ends; None for none.
        memory_limit_bytes: memory limit per candidate, where the system supports it.
        runtime: configuration of ONNX Runtime.
        tasks: tasks of the outputs and options of their decoding.

    Raises:
        UsageError: ONX101 a value is invalid, ONX109 two exclude each other, ONX112 one does not apply.
    """

    budget: Budget = field(default_factory=lambda: Budget(0.01))
    goal: Goal = field(default=Goal.LATENCY, kw_only=True)
    protect: tuple[Protect, ...] = field(default=(), kw_only=True)
    aim: StopTarget | None = None
    memory_limit_bytes: int | None = None
    runtime: Runtime = field(default_factory=Runtime)
    tasks: TaskOptions = field(default_factory=TaskOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < _LEAST_MEMORY:
            where, hint = f"{self.memory_limit_bytes} bytes", "Give 256MB or more: a process needs as much to start."
            raise UsageError("ONX101", "the memory limit is too low", where=where, hint=hint)
        if self.cluster is not None and (self.trial_timeout_s or self.memory_limit_bytes):
            hint = "Limit the workers instead: dask worker --memory-limit, --lifetime."
            raise UsageError("ONX109", "limits of trials are for this machine", where="cluster", hint=hint)
        if self.device is not None:
            self._check_device(self.device)
        if self.train and not self.prune:
            raise UsageError("ONX112", "--train requires --prune", where="train", hint="Add --prune.")

    def _check_device(self, device: str) -> None:
        place_of(device)
        if self.bench is not None:
            hint = "Leave one out: latency is measured in one place."
            raise UsageError("ONX109", "a device and a bench are both given", where="device", hint=hint)
        if self.runtime != Runtime(threads=self.runtime.threads):
            hint = "Leave them out; threads may be given, and a provider in the address of a local device."
            raise UsageError("ONX109", "a device has no other options of the runtime", where="device", hint=hint)
