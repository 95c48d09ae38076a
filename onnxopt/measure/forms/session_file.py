"""The content of session.json: checked when it is read, because it may come from anybody."""

from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from onnxopt.errors import FileError, UsageError, first_line
from onnxopt.files import read_text
from onnxopt.measure.statistics import Interval
from onnxopt.options.choices import SessionGoal
from onnxopt.options.runtime import MOST_THREADS, FullRuntime, OptimizationLevel

NAME = "session.json"

FormName = Literal["onnx", "prepacked", "ort"]
"""Form of the file: as it was, optimized with weights packed for the processor, or the runtime's own format."""

Language = Literal["python", "c++", "c#"]
"""Language of the lines that load a model."""

_SWITCH = frozenset({"0", "1"})
ENTRIES = MappingProxyType(
    {
        "mlas.nchwc_depthwise_sliding": _SWITCH,
        "mlas.nchwc_pointwise_conv_max_input_channel_batch": frozenset({"64", "256", "512"}),
        "optimization.disable_specified_optimizers": frozenset({"NchwcTransformer"}),
        "session.disable_prepacking": _SWITCH,
        "session.dynamic_block_base": frozenset({"2", "4", "8"}),
        "session.force_spinning_stop": _SWITCH,
        "session.inter_op.allow_spinning": _SWITCH,
        "session.intra_op.allow_spinning": _SWITCH,
        "session.prepack.enable_parallel": _SWITCH,
        "session.use_device_allocator_for_initializers": _SWITCH,
    }
)
"""Session entries that are searched, with their values; a bad value of some ends the process, so no other is read."""


def plain_name(name: str) -> str:
    """Return the name of a file that lies beside session.json; raises ValueError for anything else."""
    if name in ("", ".", "..") or not name.isprintable() or any(sign in name for sign in "/\\:"):
        raise ValueError("it is not a plain file name")
    return name


def _known(entries: dict[str, str]) -> dict[str, str]:
    for key, value in entries.items():
        if value not in ENTRIES.get(key, ()):
            raise ValueError(f"{key}={value} is not a known entry of a session")
    return entries


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SessionSettings(_Part):
    """Settings of an ONNX Runtime session.

    Attributes:
        threads: compute threads of an operator.
        inter_threads: operators that run side by side.
        arena: keep freed memory for the next run.
        memory_pattern: plan the memory of a run from that of the run before.
        optimization: level of graph optimization when the model is loaded.
        entries: session configuration entries.
    """

    threads: int = Field(1, ge=1, le=MOST_THREADS)
    inter_threads: int = Field(1, ge=1, le=MOST_THREADS)
    arena: bool = True
    memory_pattern: bool = True
    optimization: OptimizationLevel = "all"
    entries: Annotated[dict[str, str], AfterValidator(_known)] = Field(default_factory=dict)


def session_settings(runtime: FullRuntime) -> SessionSettings:
    """Return the settings of a configuration of the processor's provider."""
    return SessionSettings(
        threads=runtime.threads,
        inter_threads=runtime.inter_threads,
        arena=runtime.arena,
        memory_pattern=runtime.memory_pattern,
        optimization=runtime.optimization,
        entries=dict(runtime.options),
    )


def runtime_of(settings: SessionSettings) -> FullRuntime:
    """Return settings as a configuration of ONNX Runtime."""
    return FullRuntime(
        threads=settings.threads,
        optimization=settings.optimization,
        options=tuple(settings.entries.items()),
        inter_threads=settings.inter_threads,
        arena=settings.arena,
        memory_pattern=settings.memory_pattern,
    )


class MadeFor(_Part):
    """Machine and runtime that a file was optimized for.

    Attributes:
        architecture: such as `x86_64`.
        instruction_sets: those that affect kernels, as spelled in /proc/cpuinfo.
        onnxruntime: version.
    """

    architecture: str
    instruction_sets: tuple[str, ...]
    onnxruntime: str


class SessionGain(_Part):
    """A measured figure beside that of the default settings.

    Attributes:
        value: the figure with these settings.
        unit: the unit of `value`.
        low: lower end of the interval of the ratio.
        ratio: how many times better than the default.
        high: upper end.
        unsure: the reason why the ratio is unknown; "" if it is known.
    """

    value: float
    unit: str
    low: float | None = None
    ratio: float | None = None
    high: float | None = None
    unsure: str = ""

    @classmethod
    def of(cls, value: float, unit: str, ratio: Interval | None, unsure: str) -> "SessionGain":
        """Return a figure that was measured."""
        low, mean, high = (None, None, None) if ratio is None else (ratio.low, ratio.value, ratio.high)
        return cls(value=value, unit=unit, low=low, ratio=mean, high=high, unsure=unsure)


class SessionFile(_Part):
    """The content of session.json.

    Attributes:
        format: version of this form.
        model: file to load, beside session.json.
        size_bytes: the size of that file, so that another model is noticed.
        form: form of the file.
        made_for: machine that the file was optimized for; None for any.
        settings: the settings of the session.
        goal: figure that they were chosen by.
        gain: the figure, and how it compares; None where nothing was gained.
        latency: time of a run in the end, where it is not the goal; None where it is.
        code: lines that load the model without onnxopt, by language; never run by it.
    """

    format: Literal[1] = 1
    model: Annotated[str, AfterValidator(plain_name)]
    size_bytes: int = Field(ge=1)
    form: FormName
    made_for: MadeFor | None
    settings: SessionSettings
    goal: SessionGoal
    gain: SessionGain | None
    latency: SessionGain | None
    code: dict[Language, tuple[str, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _bound(self) -> "SessionFile":
        if self.form != "onnx" and self.made_for is None:
            raise ValueError("made_for is missing: such a file is for one kind of processor")
        return self


def read_session_file(path: Path) -> SessionFile:
    """Read session.json.

    Raises:
        FileError: ONX501 it does not exist, ONX505 it cannot be read.
        UsageError: ONX105 it is not what `onnxopt session` writes.
    """
    try:
        return SessionFile.model_validate_json(read_text(path))
    except FileNotFoundError as error:
        hint = "`onnxopt session MODEL` writes it."
        raise FileError("ONX501", "the session file does not exist", where=str(path), hint=hint) from error
    except ValidationError as error:
        found = error.errors()[0]
        why = f"{'.'.join(map(str, found['loc']))}: {found['msg']}".lstrip(": ")
    except OSError as error:
        raise FileError("ONX505", "the session file cannot be read", where=str(path), why=first_line(error)) from error
    except ValueError as error:
        why = first_line(error)
    hint = "Write it again with `onnxopt session MODEL`."
    raise UsageError("ONX105", "this is not a session file", where=str(path), why=why, hint=hint)
