"""Latency of models side by side, for `bench`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import onnx_ir as ir

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.errors import ModelError, UsageError
from onnxopt.measure.latency import Latency, Progress, drawn_inputs, measure_latency
from onnxopt.measure.latency.processes import Crowd, measure_processes
from onnxopt.measure.latency.profile import profile
from onnxopt.measure.latency.throughput import Throughput, measure_throughput
from onnxopt.measure.runtime.session import Runtime
from onnxopt.model_file import Given, as_graph, signature_of
from onnxopt.record.recording import latency_record
from onnxopt.samples import Feeds, ReadOptions, open_samples
from onnxopt.search.parts import typical_feeds
from onnxopt.tasks.bench_words import compared, said_of, warning_of

MADE_UP = "random"
MOST_NODES = 10


def bench(
    models: Sequence[Given] | Mapping[str, Given],
    data: object = None,
    *,
    runtime: Runtime | None = None,
    batch_sizes: Sequence[int] = (1,),
    seconds: float = 5.0,
    memory: bool = False,
    hot: bool = False,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[int, dict[str, Latency]]:
    """Time models by turns, for every batch size; the first is what speed-ups are measured against.

    Args:
        models: one that is named twice is measured twice, which shows the noise.
        data: samples to run on; None for made-up inputs.
        runtime: how to run.
        batch_sizes: a model with a fixed batch size runs at its own.
        seconds: of timed runs per batch size.
        memory: measure memory and the cold start too.
        hot: time one input again and again, and not up to 32 inputs of `data` by turns.
        read: how `data` is read.
        seed: of made-up inputs and of the order of runs.
        progress: called with how much is done and how much there is.

    Returns:
        By batch size as measured, then by model.

    Raises:
        ModelError: ONX308 the models do not take the same inputs; and every other family.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise UsageError("ONX101", "a batch size makes no sense", why=f"{batch_sizes} given", hint="Give 1 or more.")
    loaded = _named(models)
    first = next(iter(loaded.values()))
    samples = open_samples(MADE_UP if data is None else data, signature_of(first), options=read)
    found: dict[int, dict[str, Latency]] = {}
    for size in batch_sizes:
        inputs = (typical_feeds(samples, size),) if hot else drawn_inputs(samples, size)
        timed = measure_latency(
            loaded, inputs, runtime or Runtime(), seconds=seconds, memory=memory, seed=seed, progress=progress
        )
        found[next(iter(timed.values())).batch_size] = timed
    return found


def _named(models: Sequence[Given] | Mapping[str, Given]) -> dict[str, ir.Model]:
    loaded: dict[str, ir.Model] = {}
    wanted: list[str] | None = None
    named = models.items() if isinstance(models, Mapping) else ((None, model) for model in models)
    for called, one in named:
        model = as_graph(one)
        said = called or (str(one) if isinstance(one, str | Path) else "model")
        inputs = [spec.name for spec in signature_of(model).inputs]
        if wanted is not None and inputs != wanted:
            why = f"{', '.join(inputs)} against {', '.join(wanted)}"
            raise ModelError("ONX308", "the models do not have the same inputs", where=said, why=why)
        wanted = inputs
        name, times = said, 1
        while name in loaded:
            times += 1
            name = f"{said} ({times})"
        loaded[name] = model
    return loaded


def bench_document(found: dict[int, dict[str, Latency]], data: object) -> Document:
    """Return one row per batch size and model."""
    columns = (
        Column("model"),
        *(Column(t, number=True) for t in ("batch", "p50 ms", "p90 ms", "p99 ms", "speed-up", "first ms", "runs")),
    )
    rows = tuple(_row(name, latency) for timed in found.values() for name, latency in timed.items())
    inputs = "made-up inputs" if data is None else f"samples of {data}"
    lines = [line for timed in found.values() for line in said_of(timed)]
    warnings = [warning for timed in found.values() if (warning := warning_of(timed)) is not None]
    some = next(iter(next(iter(found.values())).values()))
    count = "one of them again and again" if some.inputs == 1 else f"{some.inputs} of them one after the other"
    line = f"Measured on {inputs}, {count}; the models take turns in one process, the first is the baseline."
    records = [
        {"model": name, **latency_record(latency).model_dump(mode="json")}
        for timed in found.values()
        for name, latency in timed.items()
    ]
    return Document(
        (Table(columns, rows), Text((*lines, line, *warnings[:1]))),
        {"inputs": inputs, "models": records, "noisy": bool(warnings)},
    )


def _row(name: str, latency: Latency) -> tuple[str, ...]:
    speedup = latency.speedup
    faster = "-" if speedup is None else f"{units.times(speedup.value)}\n{units.times_interval(speedup)}"
    faster = "unsure" if latency.unsure else faster
    p50 = "-" if latency.unsure else units.significant(latency.p50_ms)
    tails = (_tail(latency.p90_ms, latency.p90_bound_ms), _tail(latency.p99_ms, latency.p99_bound_ms))
    first = units.significant(latency.first_run_ms)
    return (f"{name}{_costs(latency)}", str(latency.batch_size), p50, *tails, faster, first, str(latency.n))


def _tail(value: float | None, bound: float | None) -> str:
    """Return a quantile and the time that the true one is below with 99 % confidence, where enough runs tell it."""
    return "-" if value is None or bound is None else f"{units.significant(value)}\n<{units.significant(bound)}"


def _costs(latency: Latency) -> str:
    """Return the lines below a model's name: what a fresh process needs for it."""
    lines = [f"load {units.significant(latency.load_ms)} ms"]
    for name, size in (
        ("peak", latency.peak_memory_bytes),
        ("private", latency.private_bytes),
        ("mapped", latency.mapped_bytes),
    ):
        lines += [] if size is None else [f"{name} {units.size(size)}"]
    lines += [] if latency.cold_start_ms is None else [f"cold start {units.significant(latency.cold_start_ms)} ms"]
    return "".join(f"\n{line}" for line in lines)


def crowd(
    models: Sequence[str | Path],
    data: object = None,
    *,
    processes: int,
    runtime: Runtime | None = None,
    batch_size: int = 1,
    seconds: float = 5.0,
    read: ReadOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Crowd]:
    """Measure models in several processes at once; arguments and errors as those of `throughput`.

    Args:
        models: files; the first is what the others are compared with.
        data: samples to run on; None for made-up inputs.
        processes: how many run at a time.
        runtime: how to run; its threads are those of one process.
        batch_size: samples in a run.
        seconds: of load in all.
        read: how `data` is read.
        progress: called with how much is done and how much there is.
    """
    loaded = _named(models)
    signature = signature_of(next(iter(loaded.values())))
    feeds = typical_feeds(open_samples(MADE_UP if data is None else data, signature, options=read), batch_size)
    return measure_processes(
        loaded,
        feeds,
        runtime or Runtime(),
        processes=processes,
        seconds=seconds,
        batch_size=batch_size,
        progress=progress,
    )


def crowd_document(found: dict[str, Crowd], data: object) -> Document:
    """Return one row per model: samples per second, slow runs and energy with several processes at once."""
    titles = ("processes", "batch", "samples/s", "p50 ms", "p99 ms", "energy", "runs")
    rows = tuple(
        (
            name,
            str(one.processes),
            str(one.batch_size),
            units.significant(one.samples_per_s),
            units.significant(one.p50_ms),
            _tail(one.p99_ms, one.p99_bound_ms),
            "-" if one.joules is None else f"{units.significant(1e3 * one.joules)} mJ",
            str(one.runs),
        )
        for name, one in found.items()
    )
    inputs = "made-up inputs" if data is None else f"samples of {data}"
    lines = [f"Measured on {inputs}, each model in turn, in processes that begin together."]
    if all(one.joules is None for one in found.values()):
        lines.append("Energy per run: not available, the system gives no access to counters of the processor (RAPL).")
    records = [{"model": name, **asdict(one)} for name, one in found.items()]
    columns = (Column("model"), *(Column(title, number=True) for title in titles))
    return Document((Table(columns, rows), Text(tuple(lines))), {"inputs": inputs, "models": records})


def throughput(
    models: Sequence[str | Path],
    data: object = None,
    *,
    runtime: Runtime | None = None,
    batch_size: int = 1,
    streams: int = 1,
    seconds: float = 5.0,
    read: ReadOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Throughput]:
    """Measure samples per second of models under load, by turns; arguments and errors as those of `bench`.

    Args:
        models: files; the first is what the others are compared with.
        data: samples to run on; None for made-up inputs.
        runtime: how to run; its threads are those of one run.
        batch_size: samples in a run.
        streams: runs at a time.
        seconds: of load in all.
        read: how `data` is read.
        seed: of made-up inputs and of the order of runs.
        progress: called with how much is done and how much there is.
    """
    if batch_size < 1 or streams < 1:
        why = f"batch size {batch_size}, {streams} streams"
        raise UsageError("ONX101", "the load makes no sense", why=why, hint="Give 1 or more.")
    loaded = _named(models)
    signature = signature_of(next(iter(loaded.values())))
    feeds = typical_feeds(open_samples(MADE_UP if data is None else data, signature, options=read), batch_size)
    return measure_throughput(
        loaded, feeds, runtime or Runtime(), streams=streams, seconds=seconds, seed=seed, progress=progress
    )


def throughput_document(found: dict[str, Throughput], data: object) -> Document:
    """Return one row per model: samples per second, and what a run takes under load."""
    titles = ("streams", "batch", "samples/s", "speed-up", "p50 ms", "p99 ms", "runs")
    columns = (Column("model"), *(Column(title, number=True) for title in titles))
    rows, lines, records = [], [], []
    first = next(iter(found))
    for name, one in found.items():
        speedup = one.speedup
        faster = "-" if speedup is None else f"{units.times(speedup.value)}\n{units.times_interval(speedup)}"
        rate = units.significant(one.samples_per_s)
        times = (units.significant(one.p50_ms), units.significant(one.p99_ms))
        rows.append((name, str(one.streams), str(one.batch_size), rate, faster, *times, str(one.runs)))
        if speedup is not None:
            lines.append(f"{compared(name, first, speedup.low, speedup.value, speedup.high)}.")
        interval = None if speedup is None else {"low": speedup.low, "value": speedup.value, "high": speedup.high}
        records.append({"model": name, **asdict(one), "speedup": interval})
    inputs = "made-up inputs" if data is None else f"samples of {data}"
    lines.append(f"Measured on {inputs}, by turns in one process; runs of one stream follow each other at once.")
    return Document((Table(columns, tuple(rows)), Text(tuple(lines))), {"inputs": inputs, "models": records})


def profile_document(path: Path, feeds: Feeds, runtime: Runtime) -> Document:
    """Return where the time of one model goes, by operator and by node."""
    result = profile(path, feeds, runtime)
    total = result.total_ms or 1.0
    operators = Table(
        (Column("operator"), Column("ms", number=True), Column("share", number=True)),
        tuple((op, units.significant(ms), f"{100 * ms / total:.1f} %") for op, ms in result.by_op.items()),
        title=f"{path}: where the time goes",
    )
    nodes = Table(
        (Column("node"), Column("runs as"), Column("ms", number=True), Column("share", number=True)),
        tuple(
            (node.name, node.op_type, units.significant(node.time_ms), f"{100 * node.share:.1f} %")
            for node in result.nodes[:MOST_NODES]
        ),
    )
    data = {
        "model": str(path),
        "by_op_ms": dict(result.by_op),
        "total_ms": result.total_ms,
        "runs": result.runs,
        "nodes": [
            {"name": n.name, "op_type": n.op_type, "time_ms": n.time_ms, "share": n.share, "mapped": n.mapped}
            for n in result.nodes
        ],
    }
    return Document((operators, nodes), data)


def profile_models(
    models: Sequence[Path], data: object, *, batch_size: int, runtime: Runtime, read: ReadOptions | None
) -> Document:
    """Return the profile of every model, one after the other."""
    loaded = _named(models)
    samples = open_samples(MADE_UP if data is None else data, signature_of(next(iter(loaded.values()))), options=read)
    feeds = typical_feeds(samples, batch_size)
    documents = [profile_document(path, feeds, runtime) for path in models]
    return Document(tuple(b for d in documents for b in d.blocks), {"profiles": [d.data for d in documents]})
