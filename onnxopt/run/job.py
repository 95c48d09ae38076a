"""Everything a search needs, opened and checked before it starts."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from onnxopt import model_file
from onnxopt.errors import DataError, UsageError
from onnxopt.measure.made_up import usual_texts
from onnxopt.measure.metrics.score import Metric
from onnxopt.measure.runtime.session import Runtime
from onnxopt.measure.tasks.named import metric_of
from onnxopt.measure.tasks.task import TaskOptions
from onnxopt.model_file import Signature, signature_of
from onnxopt.options.search import Goal, SearchOptions
from onnxopt.samples import ReadOptions, Samples, open_samples
from onnxopt.samples.labels import differ
from onnxopt.search.budget import Budget
from onnxopt.search.limits.stop_target import StopTarget
from onnxopt.search.parts import Parts, split_parts
from onnxopt.search.presets import Strategy, strategy_of
from onnxopt.search.settings import Settings
from onnxopt.search.workers.device import target_on
from onnxopt.target import target_of

FIDELITY = "fidelity"
AUTO = "auto"
"""The target that stands for the processor on which latency is measured."""


@dataclass(frozen=True)
class Job:
    """A search that is ready to run.

    Attributes:
        path: the model's file; None when it was given in memory.
        metric: None for fidelity.
    """

    model: ir.Model
    path: Path | None
    parts: Parts
    metric: Metric | None
    settings: Settings


def prepare(
    model: str | Path | ir.Model,
    data: object,
    options: SearchOptions,
    *,
    labels: object = None,
    calibration: object = None,
    runtime: Runtime | None = None,
    tasks: TaskOptions | None = None,
    read: ReadOptions | None = None,
) -> Job:
    """Load the model, open the data, split it, and check every option; see `onnxopt.optimize`.

    Raises:
        OnnxoptError: ONX1xx usage, ONX2xx data, ONX3xx model, ONX4xx runtime.
    """
    settings = settings_of(options, runtime, tasks)
    if settings.train:
        import onnxopt.training  # noqa: F401  # says at once that torch is not installed
    path = None if isinstance(model, ir.Model) else Path(model)
    loaded = model if isinstance(model, ir.Model) else model_file.keep_on_disk(model_file.load(model))
    signature = signature_of(loaded)
    samples = open_samples(data, signature, labels=labels, options=read, limit=options.limit)
    if str(data).partition(":")[0] == "random":
        texts = usual_texts(loaded, settings.runtime, len(samples), samples.name)
        samples = samples if texts is None else open_samples(texts, signature, labels=labels, options=read)
    apart: Samples | None = None
    if calibration is not None:
        apart = open_samples(calibration, signature, options=read)
        if apart.name == samples.name and isinstance(data, str | Path):
            raise UsageError(
                "ONX115",
                "calibration and data are the same samples",
                where=samples.name,
                hint="Leave --calibration out: a part of the data is taken for it, and used for nothing else.",
            )
    metric = cast("str | Metric | None", options.metric)
    metric = choose_metric(
        metric, samples.labels, output=options.output, threshold=options.threshold, tasks=tasks, signature=signature
    )
    settings = replace(settings, budget=budget_of(options.max_drop, metric))
    if options.device is not None and options.target == AUTO:
        settings = replace(settings, target=target_on(options.device).name)
    return Job(loaded, path, split_parts(samples, apart, options.seed), metric, settings)


def settings_of(options: SearchOptions, runtime: Runtime | None, tasks: TaskOptions | None) -> Settings:
    """Return the options with everything decided but the budget, which depends on the metric.

    Raises:
        UsageError: ONX101, ONX102 a value is invalid, ONX109 two options exclude each other, ONX112
            one does not apply.
    """
    if options.max_drop is not None:
        Budget.parse(str(options.max_drop))
    if options.strategy is not None:
        named = strategy_of(options.strategy)
        _refuse_other(options.strategy, named, options.goal, options.prune, options.train)
        protect = options.protect or named.protect
        options = replace(options, goal=named.goal, prune=named.prune, train=named.train, protect=protect)
    given = {f.name: getattr(options, f.name) for f in fields(SearchOptions)}
    decided: dict[str, Any] = {
        "goal": options.goal or Goal.LATENCY,
        "target": target_of(options.target).name,
        "aim": aim_of(options.target_latency, options.target_size),
        "memory_limit_bytes": None if options.memory_limit is None else size_in_bytes(options.memory_limit),
        "runtime": runtime or Runtime(),
        "tasks": tasks_of(tasks, options.output),
    }
    return Settings(**{**given, **decided})


def budget_of(max_drop: str | float | None, metric: Metric | None) -> Budget:
    """Return the budget for `metric`, None for fidelity, which is a share in every form; raises like `Budget.of`."""
    if metric is None:
        return Budget.of(max_drop, FIDELITY, bounded=True)
    return Budget.of(max_drop, metric.name, bounded=metric.bounded)


def tasks_of(tasks: TaskOptions | None, output: str | None) -> TaskOptions:
    """Return the options for reading outputs, with the only output to judge."""
    chosen = tasks or TaskOptions()
    return chosen if output is None else replace(chosen, output=output)


def aim_of(target_latency: str | None, target_size: str | None) -> StopTarget | None:
    """Return the latency or size at which the search stops; None without one.

    Raises:
        UsageError: ONX101 it cannot be read, ONX109 both are given.
    """
    if target_latency is not None and target_size is not None:
        raise UsageError(
            "ONX109", "a target latency and a target size are both given", hint="Leave one out: a search has one goal."
        )
    if target_latency is not None:
        return StopTarget.parse("latency", target_latency)
    return None if target_size is None else StopTarget.parse("size", target_size)


def size_in_bytes(text: str | int) -> int:
    """Return the number of bytes that `2GB` or a number says.

    Raises:
        UsageError: ONX101 it cannot be read.
    """
    if isinstance(text, int):
        return text
    hint = "Write a number with one of B, kB, MB, GB, such as 2GB."
    try:
        aim = StopTarget.parse("size", text)
    except UsageError as error:
        raise UsageError("ONX101", "the memory limit cannot be read", where=text, hint=hint) from error
    if aim.relative:
        raise UsageError("ONX101", "the memory limit must be an absolute size, such as 2GB", where=text, hint=hint)
    return int(aim.value)


def _refuse_other(name: str, strategy: Strategy, goal: Goal | None, prune: bool, train: bool) -> None:
    others = {
        f"goal {strategy.goal.value}": goal not in (None, strategy.goal),
        "no pruning": prune and not strategy.prune,
        "no training": train and not strategy.train,
    }
    for what, differs in others.items():
        if differs:
            raise UsageError(
                "ONX109",
                "the strategy and another option contradict each other",
                where=name,
                why=f"it stands for {what}",
                hint="Leave one of the two out.",
            )


def choose_metric(
    metric: str | Metric | None,
    labels: np.ndarray | None,
    *,
    output: str | None,
    threshold: float,
    tasks: TaskOptions | None = None,
    signature: Signature | None = None,
) -> Metric | None:
    """Return the metric that the user names, or that the form of the labels asks for.

    That is top1 for classes, rmse for numbers, ap for boxes, miou for masks, and exact for texts of a model that gives
    no names itself, as `signature` says.

    Returns:
        None for fidelity: there are no labels, or the user asks for it.

    Raises:
        DataError: ONX206 labels differ in shape.
        UsageError: ONX102 no metric has this name, ONX107 a user's function cannot be used.
    """
    if isinstance(metric, str) and metric == FIDELITY:
        return None
    own = metric is not None and (not isinstance(metric, str) or ":" in metric)
    if labels is not None and differ(labels) and not own:
        raise DataError(
            "ONX206",
            "the labels differ in shape",
            hint="Give labels of one shape, or a metric of your own that reads them: --metric file.py:function.",
        )
    if isinstance(metric, str):
        return metric_of(metric, output=output, threshold=threshold, options=tasks)
    if metric is not None or labels is None:
        return metric
    if labels.dtype == object:  # boxes: the only labels that are no array
        return metric_of("ap", output=output, options=tasks)
    names = signature is not None and any(spec.dtype == "str" for spec in signature.outputs)
    if labels.dtype.kind in "US" and not names:
        return metric_of("exact", output=output, options=tasks)
    if labels.ndim > 2 and labels.dtype.kind in "iub":
        return metric_of("miou", output=output, options=tasks)
    whole = labels.dtype.kind != "f" or bool(np.all(labels == np.round(labels)))
    return metric_of("top1" if whole else "rmse", output=output, threshold=threshold)
