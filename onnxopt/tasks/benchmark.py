"""Speed of models side by side: latency, load, time by operator; here or on another device."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from onnxopt.document.blocks import Displayed, Document
from onnxopt.errors import UsageError, nearest
from onnxopt.measure.device.result import DeviceResult, read_result
from onnxopt.measure.generation.lengths import length_words
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.processes import ProcessLoad
from onnxopt.measure.latency.profile import Profile
from onnxopt.measure.latency.throughput import Throughput
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file.given import Several, by_name
from onnxopt.options.choices import Scenario, refuse_non_positive
from onnxopt.options.lengths import lengths_of
from onnxopt.pipeline import StageProgress
from onnxopt.run.add_device import add_to_run
from onnxopt.run.finished import AnyRun, Run
from onnxopt.samples import ReadOptions
from onnxopt.tasks import benchmark_tables as tables
from onnxopt.tasks.bench_words import inputs_words
from onnxopt.tasks.benchmark_runs import (
    latencies,
    notes_of,
    on_providers,
    process_loads,
    profiles,
    throughputs,
    work_on,
)
from onnxopt.tasks.device import device_document, measure_on

BATCH_SIZES: Mapping[Scenario, int] = {"single": 1, "batch": 8, "offline": 32, "streams": 1}
STREAMS = 4


@dataclass(frozen=True)
class Benchmark(Displayed):
    """Speed of models side by side; only the measured figures are filled.

    Attributes:
        document: the same as a table.
        latency: the latency by batch size as measured, then by model; for the scenarios `single` and `batch`.
        throughput: the throughput by model; for the scenarios `offline` and `streams`.
        load: the load by model; for several processes.
        profiles: the profiles by model.
        device: the result of another device.
    """

    document: Document = field(repr=False)
    latency: Mapping[int, Mapping[str, Latency]] = field(default_factory=dict)
    throughput: Mapping[str, Throughput] = field(default_factory=dict)
    load: Mapping[str, ProcessLoad] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    device: DeviceResult | None = None


def benchmark(
    models: Several,
    data: object = None,
    *,
    batch_size: int | Sequence[int] | None = None,
    seconds: float = 5.0,
    memory: bool = False,
    hot: bool = False,
    sequence: str | None = None,
    processes: int | None = None,
    profile: bool = False,
    scenario: Scenario = "single",
    streams: int | None = None,
    device: str | None = None,
    ep: str | Sequence[str] | None = None,
    runtime: Runtime | None = None,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: StageProgress | None = None,
) -> Benchmark:
    """Measure the speed of models in alternating runs; speed-ups are over the first.

    Args:
        models: one, several, or several by name; the first is the baseline.
        data: samples to run on; None for synthetic inputs.
        batch_size: samples per run, or several such sizes; None for that of the scenario. A model with a fixed batch
            size runs at its own.
        seconds: measurement time per batch size.
        memory: whether to measure memory and the cold start too.
        hot: whether to time one input repeatedly, instead of up to 32 alternating inputs of `data`.
        sequence: lengths of sequences with their shares of the runs, such as `128:0.3,1:0.7`, in place of the data's;
            of a decoder with a cache the longest is a prompt, and shorter ones are steps behind it.
        processes: measure the load of so many processes at once instead.
        profile: measure the time by operator instead.
        scenario: `single`: one run at a time; `batch`: 8 samples per run; `offline`: throughput, 32 samples per run;
            `streams`: throughput of concurrent runs.
        streams: concurrent runs of the scenario `streams`; None for 4.
        device: measure on this board, `ssh://user@board`, or under another Python, `local:///path/to/python`, instead;
            models are files then.
        ep: execution providers side by side, such as `cpu,openvino`; `auto` for all that this build of ONNX Runtime
            offers; None for that of `runtime`.
        runtime: configuration of ONNX Runtime.
        read: options of the data readers.
        seed: the seed of synthetic inputs and of the order of runs.
        progress: called with the step, the finished and the total amount.

    Raises:
        UsageError: ONX101 a value is out of range, ONX109 two options exclude each other, ONX112 one does not
            apply, or no axis is that of a sequence, ONX113 a device has no samples or files.
        ModelError: ONX308 the models have different inputs; further codes as in docs/errors.md.
    """
    sizes = _checked(scenario, batch_size, seconds, processes, streams)
    load = {"processes": processes is not None, "streams": scenario == "streams" or streams is not None}
    load |= {"ep": ep is not None}
    several = {"batch_size": len(sizes) > 1, "sequence": sequence is not None}
    shares = None if sequence is None else lengths_of(sequence)
    if device is not None:
        others = load | several | {"memory": memory, "profile": profile, "scenario": scenario != "single"}
        _refuse("device", others | {"runtime": runtime is not None and runtime != Runtime(threads=runtime.threads)})
        return _on_device(
            device, models, data, size=sizes[0], seconds=seconds, runtime=runtime, read=read, seed=seed, hot=hot
        )
    if profile:
        _refuse("profile", load | several | {"memory": memory, "hot": hot})
    elif processes is not None:
        others = {"scenario": scenario != "single", "streams": streams is not None, "ep": ep is not None}
        _refuse("processes", others | several | {"memory": memory, "hot": hot})
    elif scenario in ("offline", "streams"):
        _refuse(f"scenario {scenario}", several | {"memory": memory, "hot": hot, "ep": ep is not None})
    elif ep is not None:
        _refuse("ep", {"provider": runtime is not None and runtime.provider != Runtime().provider})
    work = work_on(models, data, runtime, seconds=seconds, read=read, seed=seed, progress=progress)
    # Lengths of sequences have words of their own.
    inputs = inputs_words(data, {} if data is not None or shares is not None else work.feeds(sizes[0]))
    if profile:
        profiled = profiles(work, sizes[0])
        return Benchmark(tables.profiles_document(profiled), profiles=profiled)
    if processes is not None:
        loads = process_loads(work, sizes[0], processes)
        return Benchmark(tables.process_loads_document(loads, inputs), load=loads)
    if scenario in ("offline", "streams"):
        rates = throughputs(work, sizes[0], (streams or STREAMS) if scenario == "streams" else 1)
        return Benchmark(tables.throughputs_document(rates, inputs), throughput=rates)
    work = work if ep is None else on_providers(work, ep)
    timed = latencies(work, sizes, memory=memory, hot=hot, shares=shares)
    lengths = () if shares is None else (length_words(next(iter(work.models.values())), shares),)
    return Benchmark(tables.latencies_document(timed, inputs, (*notes_of(work, timed), *lengths)), latency=timed)


def device_result(result: str | Path, *, run: AnyRun | None = None) -> Benchmark:
    """Read the result.json that a benchmark kit wrote on its device.

    Args:
        result: the file.
        run: the run whose best.onnx was in the kit, to add the figures to its record and its report; None for none.

    Raises:
        DataError: ONX201 the file is not a result, or of other models than the run's.
        UsageError: ONX110 the run is not finished.
        FileError: ONX501 there is no file or no run, ONX503 the run cannot be written, ONX505 one cannot be read.
    """
    found = read_result(Path(result))
    if run is not None:
        add_to_run(found, run.folder if isinstance(run, Run) else Path(run))
    return Benchmark(device_document(found), device=found)


def _checked(
    scenario: Scenario,
    batch_size: int | Sequence[int] | None,
    seconds: float,
    processes: int | None,
    streams: int | None,
) -> tuple[int, ...]:
    """Return the batch sizes, after refusing values out of range."""
    if scenario not in get_args(Scenario):
        hint = nearest(scenario, get_args(Scenario))
        raise UsageError("ONX101", "invalid option value", where="scenario", why=f"{scenario} given", hint=hint)
    if streams is not None and scenario != "streams":
        raise UsageError("ONX112", "this option belongs to the scenario streams", where="streams", hint="Name it too.")
    if batch_size is None:
        batch_size = BATCH_SIZES[scenario]
    sizes = (batch_size,) if isinstance(batch_size, int) else tuple(batch_size)
    refuse_non_positive(batch_size=min(sizes, default=0), seconds=seconds, processes=processes, streams=streams)
    return sizes


def _refuse(mode: str, others: Mapping[str, bool]) -> None:
    """Refuse options that the kind of measurement does not have."""
    names = [name for name, chosen in others.items() if chosen]
    if names:
        raise UsageError(
            "ONX109", "these options exclude each other", where=", ".join([mode, *names]), hint="Leave one out."
        )


def _on_device(
    device: str,
    models: Several,
    data: object,
    *,
    size: int,
    seconds: float,
    runtime: Runtime | None,
    read: ReadOptions | None,
    seed: int,
    hot: bool,
) -> Benchmark:
    files = [model for model in by_name(models).values() if isinstance(model, str | Path)]
    if data is None or len(files) < len(by_name(models)):
        hint = "Give samples, and models as files; a bundle has more options."
        raise UsageError("ONX113", "a device measures files on samples", where="device", hint=hint)
    threads = 1 if runtime is None else runtime.threads
    found = measure_on(
        device, files, data, threads=threads, seconds=seconds, batch_size=size, hot=hot, read=read, seed=seed
    )
    return Benchmark(device_document(found), device=found)
