"""Measurements of models by name: latency, load, profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from onnxopt.errors import ModelError, OnnxoptError
from onnxopt.measure.generation.lengths import length_batches
from onnxopt.measure.latency import Latency, drawn_inputs, measure_latency
from onnxopt.measure.latency.processes import ProcessLoad, measure_processes
from onnxopt.measure.latency.profile import Profile, profile
from onnxopt.measure.latency.throughput import Throughput, measure_throughput
from onnxopt.measure.made_up import usual_texts
from onnxopt.measure.runtime.providers import offered
from onnxopt.measure.runtime.session import Runtime, Session
from onnxopt.model_file import as_graph, signature_of
from onnxopt.model_file.given import Several, by_name
from onnxopt.options.lengths import Shares
from onnxopt.pipeline import StageProgress
from onnxopt.samples import Feeds, ReadOptions, Samples, open_samples
from onnxopt.search.parts import typical_feeds
from onnxopt.tasks.bench_words import fastest_of

MADE_UP = "random"
AUTO = "auto"
"""Stands for all execution providers that the installed build offers."""


@dataclass(frozen=True)
class BenchmarkJob:
    """The models, their inputs and how they are run.

    Attributes:
        models: the models by name, the baseline first; they have the same inputs.
        samples: samples to run on.
        runtime: its threads are those of one run.
        seconds: seconds of timed runs.
        seed: the seed of the order of runs.
        progress: called with the step, the finished and the total amount.
        runtimes: the runtimes by the name of the model, where they differ.
        left_out: names of models that a provider cannot run, with the reason.
    """

    models: Mapping[str, ir.Model]
    samples: Samples
    runtime: Runtime
    seconds: float
    seed: int
    progress: StageProgress | None
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

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
    *,
    seconds: float,
    read: ReadOptions | None,
    seed: int,
    progress: StageProgress | None,
) -> BenchmarkJob:
    """Load models and samples; without `data` inputs are generated.

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
    runtime = runtime or Runtime()
    samples = open_samples(inputs_of(first, data, runtime), signature_of(first), options=read)
    return BenchmarkJob(loaded, samples, runtime, seconds, seed, progress)


def inputs_of(model: ir.Model, data: object, runtime: Runtime) -> object:
    """Return the data to time a model on; without any, texts of a usual length or random numbers.

    Raises:
        ModelError: ONX304 ONNX Runtime cannot load the model.
    """
    return (usual_texts(model, runtime) or MADE_UP) if data is None else data


def on_providers(work: BenchmarkJob, ep: str | Sequence[str]) -> BenchmarkJob:
    """Return the work with every model on every provider; the first model on the first provider is the baseline.

    Args:
        work: the models.
        ep: names with commas between them, or a list of them; `auto` for all that this build offers, of which those
            that cannot run a model are left out of it.

    Raises:
        UsageError: ONX102 there is no such provider, ONX106 this build lacks it.
        ModelError: ONX304 a provider that was named cannot load a model.
        NativeError: ONX401 it cannot run it.
    """
    wanted = [name.strip() for name in (ep.split(",") if isinstance(ep, str) else ep)]
    every = wanted == [AUTO]
    models, runtimes, left_out = dict[str, ir.Model](), dict[str, Runtime](), dict[str, str]()
    for provider in offered() if every else dict.fromkeys(wanted):
        runtime = replace(work.runtime, provider=provider)
        for name, model in work.models.items():
            place = f"{name} on {provider}"
            try:
                Session(model, runtime).run(work.feeds(1))
            except OnnxoptError as error:
                if not every:
                    raise
                left_out[place] = error.why or error.what
                continue
            models[place], runtimes[place] = model, runtime
    return replace(work, models=models, runtimes=runtimes, left_out=left_out)


def latencies(
    work: BenchmarkJob, sizes: Sequence[int], *, memory: bool, hot: bool, shares: Shares | None = None
) -> dict[int, dict[str, Latency]]:
    """Time models in alternating runs for every batch size; a model with a fixed batch size runs at its own.

    Args:
        work: the models and their inputs.
        sizes: samples in a run.
        memory: measure memory and the cold start too.
        hot: time one input repeatedly, instead of up to 32 alternating inputs of the data.
        shares: shares of the runs by length of their sequences; None for the data's own lengths.

    Returns:
        By batch size as measured, then by model.
    """
    found: dict[int, dict[str, Latency]] = {}
    for size in sizes:
        inputs = (work.feeds(size),) if hot else drawn_inputs(work.samples, size)
        if shares is not None:
            first = next(iter(work.models.values()))
            inputs = length_batches(first, inputs, inputs[0], shares, work.runtime).alternating
        timed = measure_latency(
            work.models,
            inputs,
            work.runtimes or work.runtime,
            seconds=work.seconds,
            memory=memory,
            seed=work.seed,
            progress=work.counted("timed epochs"),
        )
        found[next(iter(timed.values())).batch_size] = timed
    return found


def throughputs(work: BenchmarkJob, size: int, streams: int) -> dict[str, Throughput]:
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


def process_loads(work: BenchmarkJob, size: int, processes: int) -> dict[str, ProcessLoad]:
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


def profiles(work: BenchmarkJob, size: int) -> dict[str, Profile]:
    """Measure the time of every operator and node, one model after the other."""
    feeds = work.feeds(size)
    return {name: profile(model, feeds, work.runtime) for name, model in work.models.items()}


def notes_of(work: BenchmarkJob, timed: Mapping[int, Mapping[str, Latency]]) -> list[str]:
    """Return sentences about providers side by side; none where there is one provider for all."""
    if not work.runtimes:
        return []
    providers = {name: runtime.provider for name, runtime in work.runtimes.items()}
    return fastest_of(next(iter(timed.values())), providers, work.left_out)
