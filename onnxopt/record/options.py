"""The options of a search as data, stored in run.json for `onnxopt resume`.

A run folder may come from anybody. So nothing in these options is imported or connected to: of a user's own metric, a
cluster and session options only their presence is stored, and the user must give them again to resume.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import Field, TypeAdapter, ValidationError, create_model, model_validator

from onnxopt.errors import FileError, UsageError, first_line
from onnxopt.options.declared import declared_options
from onnxopt.options.runtime import OptimizationLevel, Runtime
from onnxopt.options.search import SearchOptions
from onnxopt.options.tasks import TaskOptions, changed_options
from onnxopt.record.part import RecordPart
from onnxopt.samples import ReadOptions

_NAMED = ("model", "data", "labels", "calibration")
_ADDRESSES = ("device", "cluster", "bench", "tls")
_AGAIN = ("metric", *_ADDRESSES, "session-option")


class _Kept(RecordPart):
    """The arguments of `onnxopt.optimize` besides its options; paths are absolute.

    Attributes:
        again: options that refer to code, an address or entries of the runtime, which are not stored.
        in_memory: arguments given in memory, which are not stored.
    """

    version: Literal[1] = 1
    model: str | None = None
    data: str | None = None
    labels: str | None = None
    calibration: str | None = None
    metric: str | None = None
    provider: str = "cpu"
    threads: int = 1
    optimization: str = "all"
    tasks: dict[str, Any] = Field(default={}, description="options of reading outputs that are not at their default")
    read: dict[str, Any] = Field(default={}, description="options of reading that are not at their default")
    again: tuple[str, ...] = ()
    in_memory: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _null_is_the_default(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given

    @classmethod
    def of(cls, options: SearchOptions, rest: Mapping[str, Any]) -> Self:
        """Return the stored form of the options and arguments of a call of `onnxopt.optimize`."""
        kept = {name: value for name, value in vars(options).items() if name in cls.model_fields}
        kept["metric"] = options.metric if _is_known(options.metric) else None
        given = {name: getattr(options, name) for name in ("metric", *_ADDRESSES)}
        again = [name for name in _ADDRESSES if given[name] is not None]
        again += ["metric"] * (given["metric"] is not None and kept["metric"] is None)
        places = {name: rest[name] for name in _NAMED if rest.get(name) is not None}
        in_memory = [name for name, value in places.items() if not isinstance(value, str | Path)]
        kept |= {name: _anywhere(value) for name, value in places.items() if name not in in_memory}
        if (runtime := rest.get("runtime")) is not None:
            kept |= {"provider": runtime.provider, "threads": runtime.threads, "optimization": runtime.optimization}
            again += ["session-option"] * bool(runtime.options)
        if (read := rest.get("read")) is not None:
            defaults = asdict(ReadOptions())
            kept["read"] = {key: value for key, value in asdict(read).items() if value != defaults[key]}
            if "vocab" in kept["read"]:
                kept["read"]["vocab"] = _anywhere(kept["read"]["vocab"])
        if (tasks := rest.get("tasks")) is not None:
            kept["tasks"] = changed_options(tasks)
        return cls(**kept, again=tuple(again), in_memory=tuple(in_memory))

    def arguments(self, where: Path, given: Mapping[str, Any], *, command: str = "resume") -> dict[str, Any]:
        """Return the arguments of `onnxopt.optimize`.

        Args:
            where: the run folder, for errors.
            given: arguments that the user repeats, None for others; `session_options` as pairs.
            command: the command that the user repeats them for, for errors.

        Raises:
            UsageError: ONX110 an argument must be given again.
            FileError: ONX505 the options are invalid.
        """
        now = {key: value for key, value in given.items() if value}
        named = {"session-option" if name == "session_options" else name for name in now}
        metric = self.metric
        missing = [name for name in _AGAIN if name in self.again and name not in named]
        if metric is not None and not _is_known(metric) and "metric" not in named:
            missing.append("metric")
        missing += [name for name in _NAMED if name in self.in_memory and name not in named]
        if missing:
            words = " ".join(f"--{name} ..." for name in missing)
            raise UsageError(
                "ONX110",
                "options of the search must be repeated",
                where=str(where),
                why=f"{' and '.join(missing)} cannot come from a run folder: it stores no code, hosts or objects",
                hint=f"Repeat them: onnxopt {command} {where} {words}",
            )
        try:
            read = TypeAdapter(ReadOptions).validate_python(self.read)
            tasks = TypeAdapter(TaskOptions).validate_python(self.tasks)
            kept = {f.name: getattr(self, f.name) for f in fields(SearchOptions) if f.name not in _ADDRESSES}
            options = SearchOptions(**kept)
        except ValidationError as error:
            why = first_line(ValueError(error.errors()[0]["msg"]))
            raise FileError("ONX505", "the record cannot be read", where=f"{where}: options", why=why) from error
        except UsageError as error:
            raise FileError("ONX505", "the record cannot be read", where=f"{where}: options", why=str(error)) from error
        options = replace(options, **{name: now.pop(name) for name in (*kept, *_ADDRESSES) if name in now})
        entries = tuple(now.pop("session_options", ()))
        runtime = Runtime(self.provider, self.threads, cast("OptimizationLevel", self.optimization), entries)
        places = {name: getattr(self, name) for name in _NAMED}
        return {**places, "options": options, "read": read, "tasks": tasks, "runtime": runtime, **now}


_DECLARED: dict[str, Any] = {
    o.field: (Annotated[(o.kind, *o.notes)], Field(default=o.default, description=o.about))
    for o in declared_options(SearchOptions)
    if o.field not in (*_ADDRESSES, *_Kept.model_fields)
}

if TYPE_CHECKING:
    KeptOptions = _Kept
else:
    KeptOptions = create_model("KeptOptions", __base__=_Kept, __doc__=_Kept.__doc__, **_DECLARED)


def _is_known(metric: object) -> bool:
    from onnxopt.measure.tasks.named import METRICS

    return metric in (*METRICS, "fidelity")


def _anywhere(value: str | Path) -> str:
    """Return the absolute path of a file or folder, which works from any folder; other words unchanged."""
    try:
        return str(Path(value).absolute()) if Path(value).exists() else str(value)
    except (OSError, ValueError):  # a word that cannot be a path
        return str(value)
