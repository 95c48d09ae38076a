"""Measurements of models by name: latency, load, profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onnxopt.errors import ModelError
from onnxopt.measure.latency import Latency, drawn_inputs, measure_latency
from onnxopt.measure.latency.processes import ProcessLoad, measure_processes
from onnxopt.measure.latency.profile import Profile, profile
from onnxopt.measure.latency.throughput import Throughput, measure_throughput
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import as_graph, signature_of
from onnxopt.model_file.given import Several, by_name
from onnxopt.pipeline import Progress
from onnxopt.samples import Feeds, ReadOptions, Samples, open_samples
from onnxopt.search.parts import typical_feeds

MADE_UP = "random"


@dataclass(frozen=True)
class Work:
    """The models, their inputs and how they are run.

    Attributes:
        models: by name, the baseline first; they have the same inputs.
        samples: to run on.
        runtime: its threads are those of one run.
        seconds: of timed runs.
        seed: of the order of runs.
        progress: called with the step, the finished and the total amount.
    """

    models: Mapping[str, ir.Model]
    samples: Samples
    runtime: Runtime
    seconds: float
    seed: int
    progress: Progress | None

    def counted(self, step: str) -> Callable[[int, int], None] | None:
        """Return the progress of one step, which has a name."""
        progress = self.progress
        return None if progress is None else lambda done, total: progress(step, done, total)

    def feeds(self, size: int) -> Feeds:
        """Return one batch of `size` samples of typical size."""
        return typical_feeds(self.samples, size)


def work_on(
    models: Several,
    data: object,
    runtime: Runtime | None,
    seconds: float,
    read: ReadOptions | None,
    seed: int,
    progress: Progress | None,
) -> Work:
    """Load models and samples; without `data` inputs are made up.

    Raises:
        ModelError: ONX308 the models have different inputs; further codes as in docs/errors.md.
    """
    loaded: dict[str, ir.Model] = {}
    wanted: list[str] | None = None
    for name, given in by_name(models).items():
        model = as_graph(given)
        inputs = [spec.name for spec in signature_of(model).inputs]
        if wanted is not None and inputs != wanted:
            why = f"{', '.join(inputs)} against {', '.join(wanted)}"
            raise ModelError("ONX308", "the models do not have the same inputs", where=name, why=why)
        wanted = inputs
        loaded[name] = model
    first = next(iter(loaded.values()))
    samples = open_samples(MADE_UP if data is None else data, signature_of(first), options=read)
    return Work(loaded, samples, runtime or Runtime(), seconds, seed, progress)


def latencies(work: Work, sizes: Sequence[int], *, memory: bool, hot: bool) -> dict[int, dict[str, Latency]]:
    """Time models in alternating runs for every batch size; a model with a fixed batch size runs at its own.

    Args:
        work: the models and their inputs.
        sizes: samples in a run.
        memory: measure memory and the cold start too.
        hot: time one input repeatedly, instead of up to 32 alternating inputs of the data.

    Returns:
        By batch size as measured, then by model.
    """
    found: dict[int, dict[str, Latency]] = {}
    for size in sizes:
        inputs = (work.feeds(size),) if hot else drawn_inputs(work.samples, size)
        timed = measure_latency(
            work.models,
            inputs,
            work.runtime,
            seconds=work.seconds,
            memory=memory,
            seed=work.seed,
            progress=work.counted("timed epochs"),
        )
        found[next(iter(timed.values())).batch_size] = timed
    return found


def throughputs(work: Work, size: int, streams: int) -> dict[str, Throughput]:
    """Measure samples per second under load, alternating, with `streams` concurrent runs."""
    return measure_throughput(
        work.models,
        work.feeds(size),
        work.runtime,
        streams=streams,
        seconds=work.seconds,
        seed=work.seed,
        progress=work.counted("rounds under load"),
    )


def process_loads(work: Work, size: int, processes: int) -> dict[str, ProcessLoad]:
    """Measure the models in several processes at once."""
    return measure_processes(
        work.models,
        work.feeds(size),
        work.runtime,
        processes=processes,
        seconds=work.seconds,
        batch_size=size,
        progress=work.counted("rounds under load"),
    )


def profiles(work: Work, size: int) -> dict[str, Profile]:
    """Measure the time of every operator and node, one model after the other."""
    feeds = work.feeds(size)
    return {name: profile(model, feeds, work.runtime) for name, model in work.models.items()}
