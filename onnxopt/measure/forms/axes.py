"""The choices of a session, one axis after the other, by goal."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from onnxopt.measure.forms.deployment import Deployment, ort_form, prepacked
from onnxopt.options.choices import SessionGoal
from onnxopt.options.runtime import OptimizationLevel

FEW_THREADS = 8
"""Up to so many, each number of threads is tried; above, powers of two."""


@dataclass(frozen=True)
class Bench:
    """The conditions that choices depend on.

    Attributes:
        most_threads: threads that may be used.
        operators: operator types of the model.
        folder: folder for the files of other forms.
        stem: start of their names.
    """

    most_threads: int
    operators: frozenset[str]
    folder: Path
    stem: str


Choices = Mapping[str, Callable[[], Deployment]]
"""Other deployments by name, made when they are needed."""
Axis = Callable[[Deployment, Bench], Choices]
"""Gives the choices beside a deployment."""


def _threads(deployment: Deployment, bench: Bench) -> Choices:
    counts = _counts(bench.most_threads)
    others = [n for n in counts if n != deployment.runtime.threads]
    return {f"{n} thread{'s' if n > 1 else ''}": partial(deployment.with_threads, n) for n in others}


def _counts(most: int) -> list[int]:
    if most <= FEW_THREADS:
        return list(range(1, most + 1))
    return sorted({*_powers(most), most})


def _powers(most: int) -> Iterator[int]:
    power = 1
    while power <= most:
        yield power
        power *= 2


def _spinning(deployment: Deployment, _: Bench) -> Choices:
    if deployment.runtime.most_threads == 1:
        return {}
    asleep = (("session.intra_op.allow_spinning", "0"), ("session.inter_op.allow_spinning", "0"))
    return {"no spinning": partial(deployment.having, *asleep)}


def _division(deployment: Deployment, _: Bench) -> Choices:
    if deployment.runtime.threads == 1:
        return {}
    return {"work in shrinking blocks": partial(deployment.having, ("session.dynamic_block_base", "4"))}


def _side_by_side(deployment: Deployment, bench: Bench) -> Choices:
    if bench.most_threads == 1:
        return {}
    return {"branches side by side": partial(deployment.with_threads, 1, bench.most_threads)}


def _layout(deployment: Deployment, bench: Bench) -> Choices:
    if "Conv" not in bench.operators or deployment.form != "onnx":
        return {}
    return {
        "no blocked layout": partial(
            deployment.having, ("optimization.disable_specified_optimizers", "NchwcTransformer")
        )
    }


def _convolutions(deployment: Deployment, bench: Bench) -> Choices:
    blocked = ("optimization.disable_specified_optimizers", "NchwcTransformer") not in deployment.runtime.options
    if "Conv" not in bench.operators or not blocked:
        return {}
    batch = "mlas.nchwc_pointwise_conv_max_input_channel_batch"
    return {
        **{f"1x1 convolutions by {n} channels": partial(deployment.having, (batch, n)) for n in ("64", "256", "512")},
        "sliding depthwise": partial(deployment.having, ("mlas.nchwc_depthwise_sliding", "1")),
    }


def _memory(deployment: Deployment, _: Bench) -> Choices:
    one, two = replace(deployment.runtime, arena=False), replace(deployment.runtime, memory_pattern=False)
    changes = {"no arena": one, "no memory pattern": two, "neither": replace(one, memory_pattern=False)}
    return {name: partial(replace, deployment, runtime=runtime) for name, runtime in changes.items()}


def _weights(deployment: Deployment, _: Bench) -> Choices:
    outside = ("session.use_device_allocator_for_initializers", "1")
    return {"weights outside the arena": partial(deployment.having, outside)}


def _packing(deployment: Deployment, _: Bench) -> Choices:
    return {"weights not packed": partial(deployment.having, ("session.disable_prepacking", "1"))}


def _packing_threads(deployment: Deployment, _: Bench) -> Choices:
    if deployment.runtime.threads == 1:
        return {}
    return {"weights packed by all threads": partial(deployment.having, ("session.prepack.enable_parallel", "1"))}


def _optimization(deployment: Deployment, _: Bench) -> Choices:
    if deployment.form != "onnx":
        return {}
    levels: tuple[OptimizationLevel, ...] = ("extended", "basic", "none")
    return {
        f"optimization {n}": partial(replace, deployment, runtime=replace(deployment.runtime, optimization=n))
        for n in levels
    }


def _forms(deployment: Deployment, bench: Bench) -> Choices:
    return {
        "prepacked file": partial(prepacked, deployment, bench.folder, bench.stem),
        ".ort file": partial(ort_form, deployment, bench.folder, bench.stem),
    }


_THREADING: Mapping[str, Axis] = MappingProxyType({"threads": _threads, "spinning": _spinning})

AXES: Mapping[SessionGoal, Mapping[str, Axis]] = MappingProxyType(
    {
        "latency": MappingProxyType(
            {
                **_THREADING,
                "branches": _side_by_side,
                "division of work": _division,
                "layout": _layout,
                "convolutions": _convolutions,
                "memory": _memory,
            }
        ),
        "cold-start": MappingProxyType(
            {
                "form": _forms,
                "threads": _threads,
                "optimization": _optimization,
                "packing": _packing,
                "packing threads": _packing_threads,
                "memory": _memory,
            }
        ),
        "memory": MappingProxyType(
            {"form": _forms, "threads": _threads, "memory": _memory, "weights": _weights, "packing": _packing}
        ),
        "throughput": MappingProxyType(
            {**_THREADING, "layout": _layout, "convolutions": _convolutions, "memory": _memory, "form": _forms}
        ),
    }
)
"""The axes of each goal, in the order in which they are decided."""
