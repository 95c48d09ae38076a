"""Options of ONNX Runtime."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from typing_extensions import Doc

from onnxopt.errors import UsageError, nearest
from onnxopt.options.declared import Word

OptimizationLevel = Literal["none", "basic", "extended", "all"]
OPTIMIZATIONS: Mapping[OptimizationLevel, str] = MappingProxyType(
    {
        "none": "ORT_DISABLE_ALL",
        "basic": "ORT_ENABLE_BASIC",
        "extended": "ORT_ENABLE_EXTENDED",
        "all": "ORT_ENABLE_ALL",
    }
)
"""ONNX Runtime's own names of the levels."""

MOST_THREADS = 1024
"""Most threads; more are a typing error, and starting them would take minutes."""


def session_entry(text: str) -> tuple[str, str]:
    """Return the name and the value of `name=value`.

    Raises:
        UsageError: ONX101 the text has another form.
    """
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        hint = "Write --session-option key=value, such as session.disable_prepacking=1."
        raise UsageError("ONX101", "a session option cannot be read", where=text, hint=hint)
    return key, value


@dataclass(frozen=True)
class Runtime:
    """The configuration of ONNX Runtime. The `Doc` of each field describes it.

    A provider has a short name, or ONNX Runtime's own. Runs never overlap. The runtime ignores session entries that it
    does not know, and with one thread it heeds `session.set_denormal_as_zero` only for the first session of a process
    and the thread that made it: flush denormal weights in the model instead.

    Raises:
        UsageError: ONX101 there is no such optimization level or thread count.
    """

    provider: Annotated[str, Doc("Execution provider: cpu, openvino, xnnpack, cuda, ...")] = "cpu"
    threads: Annotated[int, Doc("Compute threads per run.")] = 1
    optimization: Annotated[
        OptimizationLevel, Word("optimization-level"), Doc("ONNX Runtime's graph optimization level.")
    ] = "all"
    options: Annotated[
        tuple[tuple[str, str], ...],
        Word("session-option", metavar="KEY=VALUE", read=session_entry, repeated=True),
        Doc("ONNX Runtime session entry; repeat it."),
    ] = ()

    def __post_init__(self) -> None:
        if self.optimization not in get_args(OptimizationLevel):
            hint = nearest(self.optimization, get_args(OptimizationLevel))
            raise UsageError("ONX101", "unknown optimization level", where=self.optimization, hint=hint)
        if self.threads < 1:
            raise UsageError("ONX101", "threads must be 1 or more", where="threads", why=f"{self.threads} given")
        if self.threads > MOST_THREADS:
            hint = "Give no more than the processor has cores; more only make it slower."
            raise UsageError("ONX101", "too many threads", where="threads", why=f"{self.threads} given", hint=hint)


@dataclass(frozen=True)
class FullRuntime(Runtime):
    """A configuration with settings that have no option of their own on the command line.

    Attributes:
        inter_threads: operators that run side by side; with 1 they run one after the other.
        arena: keep freed memory for the next run.
        memory_pattern: plan the memory of a run from that of the run before with equal shapes.

    Raises:
        UsageError: ONX101 as `Runtime`, for both numbers of threads.
    """

    inter_threads: int = 1
    arena: bool = True
    memory_pattern: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.inter_threads <= MOST_THREADS:
            why = f"{self.inter_threads} given"
            raise UsageError("ONX101", "invalid number of threads", where="inter_threads", why=why)

    @property
    def most_threads(self) -> int:
        """The larger number of threads, within an operator or side by side."""
        return max(self.threads, self.inter_threads)


def full(runtime: Runtime) -> FullRuntime:
    """Return a configuration with all settings; those that it lacks are ONNX Runtime's defaults."""
    return runtime if isinstance(runtime, FullRuntime) else FullRuntime(**vars(runtime))
