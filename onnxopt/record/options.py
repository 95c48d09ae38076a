"""The options of a search as data, stored in run.json for `onnxopt resume`.

A run folder may come from anybody. So nothing in these options is imported or connected to: a metric of the user's
own, a cluster and session options are known to have been there, and must be given again by whoever goes on.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from onnxopt.errors import FileError, UsageError, first_line
from onnxopt.measure.tasks.task import TaskOptions, changed_options
from onnxopt.record.part import RecordPart
from onnxopt.samples import ReadOptions

_NAMED = ("model", "data", "labels", "calibration")
_AGAIN = ("metric", "cluster", "bench", "tls", "session-option")


class SearchOptions(RecordPart):
    """The arguments of `onnxopt.optimize`; paths are absolute, None stands for the default.

    Attributes:
        again: options that name code, an address or the runtime's own entries, which are not kept.
        in_memory: arguments that were given in memory, which are not kept.
    """

    version: Literal[1] = 1
    model: str | None = None
    data: str | None = None
    labels: str | None = None
    calibration: str | None = None
    metric: str | None = None
    output: str | None = None
    threshold: float = 0.5
    max_drop: str | float | None = None
    goal: str | None = None
    confidence: float | None = None
    require: Literal["proven", "likely"] | None = None
    target: str = "auto"
    provider: str = "cpu"
    threads: int = 1
    optimization: str = "all"
    batch_size: int = 1
    latency_s: float | None = None
    hot: bool = False
    prune: bool = False
    train: bool = False
    time_limit_s: float | None = None
    trial_timeout_s: float | None = None
    memory_limit: str | int | None = None
    target_latency: str | None = None
    target_size: str | None = None
    strategy: str | None = None
    protect: tuple[str, ...] = ()
    limit: int | None = None
    tasks: dict[str, Any] = Field(default={}, description="options of reading outputs that are not at their default")
    read: dict[str, Any] = Field(default={}, description="options of reading that are not at their default")
    seed: int = 0
    again: tuple[str, ...] = ()
    in_memory: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "SearchOptions":
        """Return the options that `onnxopt.optimize` was called with, by its argument names."""
        kept = {name: value for name, value in given.items() if name in cls.model_fields and value is not None}
        again = [name for name in ("cluster", "bench", "tls") if given.get(name) is not None]
        in_memory = []
        for name in _NAMED:
            if isinstance(kept.get(name), str | Path):
                kept[name] = _anywhere(kept[name])
            elif name in kept:
                in_memory.append(name)
                del kept[name]
        if "metric" in kept and not _is_known(kept["metric"]):
            again.append("metric")
            del kept["metric"]
        if (runtime := given.get("runtime")) is not None:
            kept |= {"provider": runtime.provider, "threads": runtime.threads, "optimization": runtime.optimization}
            again += ["session-option"] * bool(runtime.options)
        if (read := given.get("read")) is not None:
            defaults = asdict(ReadOptions())
            kept["read"] = {key: value for key, value in asdict(read).items() if value != defaults[key]}
            if "vocab" in kept["read"]:
                kept["read"]["vocab"] = _anywhere(kept["read"]["vocab"])
        if (tasks := given.get("tasks")) is not None:
            kept["tasks"] = changed_options(tasks)
        kept["goal"] = getattr(kept.get("goal"), "value", kept.get("goal"))
        kept["protect"] = tuple(kept.get("protect", ()))
        return cls(**kept, again=tuple(again), in_memory=tuple(in_memory))

    def arguments(self, where: Path, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of `onnxopt.optimize`.

        Args:
            where: the run folder, for errors.
            given: arguments that the user names now, None for those that are not; `session_options` as pairs.

        Raises:
            UsageError: ONX110 something must be named again.
            FileError: ONX505 the options make no sense.
        """
        from onnxopt.measure.runtime.session import Runtime

        now = {key: value for key, value in given.items() if value}
        named = {"session-option" if name == "session_options" else name for name in now}
        metric = self.metric
        missing = [name for name in _AGAIN if name in self.again and name not in named]
        if metric is not None and not _is_known(metric) and "metric" not in named:
            missing.append("metric")
        missing += [name for name in _NAMED if name in self.in_memory and name not in named]
        if missing:
            options = " ".join(f"--{name} ..." for name in missing)
            raise UsageError(
                "ONX110",
                "options of the search must be repeated",
                where=str(where),
                why=f"{' and '.join(missing)} cannot come from a run folder: it stores no code, hosts or objects",
                hint=f"Repeat them: onnxopt resume {where} {options}",
            )
        kept = self.model_dump(
            exclude={"version", "again", "in_memory", "provider", "threads", "optimization", "read", "tasks"}
        )
        try:
            read = TypeAdapter(ReadOptions).validate_python(self.read)
            tasks = TypeAdapter(TaskOptions).validate_python(self.tasks)
        except ValidationError as error:
            why = first_line(ValueError(error.errors()[0]["msg"]))
            raise FileError("ONX505", "the record cannot be read", where=f"{where}: options", why=why) from error
        entries = tuple(now.pop("session_options", ()))
        runtime = Runtime(self.provider, self.threads, self.optimization, entries)
        return {**kept, "read": read, "tasks": tasks, "runtime": runtime, **now}


def _is_known(metric: object) -> bool:
    from onnxopt.measure.tasks.named import METRICS

    return metric in (*METRICS, "fidelity")


def _anywhere(value: str | Path) -> str:
    """Return the absolute path where it is a file or a folder, so that it works from anywhere; else the word."""
    try:
        return str(Path(value).absolute()) if Path(value).exists() else str(value)
    except (OSError, ValueError):  # a word that can be no path
        return str(value)
