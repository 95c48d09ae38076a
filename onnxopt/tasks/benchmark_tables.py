"""Benchmarks as tables: latency, load, load of several processes, time by operator."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from onnxopt.document import units
from onnxopt.document.blocks import Column, Document, Table, Text
from onnxopt.measure.latency import Latency
from onnxopt.measure.latency.processes import ProcessLoad
from onnxopt.measure.latency.profile import Profile
from onnxopt.measure.latency.throughput import Throughput
from onnxopt.record.trial import LatencyRecord
from onnxopt.tasks.bench_words import compared, said_of, warning_of

MOST_NODES = 10


def latencies_document(found: Mapping[int, Mapping[str, Latency]], inputs: str, notes: Sequence[str] = ()) -> Document:
    """Return one row per batch size and model; `inputs` are in words, `notes` further sentences."""
    columns = (
        Column("model"),
        *(Column(t, number=True) for t in ("batch", "p50 ms", "p90 ms", "p99 ms", "speed-up", "first ms", "runs")),
    )
    rows = tuple(_row(name, latency) for timed in found.values() for name, latency in timed.items())
    lines = [line for timed in found.values() for line in said_of(timed)]
    warnings = [warning for timed in found.values() if (warning := warning_of(timed)) is not None]
    some = next(iter(next(iter(found.values())).values()))
    count = "one of them repeated" if some.inputs == 1 else f"{some.inputs} of them alternating"
    line = f"Measured on {inputs}, {count}; the models alternate in one process. The first model is the baseline."
    records = [
        {"model": name, **LatencyRecord.model_validate(latency).model_dump(mode="json")}
        for timed in found.values()
        for name, latency in timed.items()
    ]
    return Document(
        (Table(columns, rows), Text((*lines, *notes, line, *warnings[:1]))),
        {"inputs": inputs, "models": records, "noisy": bool(warnings), "notes": list(notes)},
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
    """Return a quantile and its upper 99 % confidence bound; "-" with too few runs."""
    return "-" if value is None or bound is None else f"{units.significant(value)}\n<{units.significant(bound)}"


def _costs(latency: Latency) -> str:
    """Return the lines below a model's name: load time, memory and cold start in a fresh process."""
    lines = [f"load {units.significant(latency.load_ms)} ms"]
    for name, size in (
        ("peak", latency.peak_memory_bytes),
        ("private", latency.private_bytes),
        ("mapped", latency.mapped_bytes),
    ):
        lines += [] if size is None else [f"{name} {units.size(size)}"]
    lines += [] if latency.cold_start_ms is None else [f"cold start {units.significant(latency.cold_start_ms)} ms"]
    return "".join(f"\n{line}" for line in lines)


def process_loads_document(found: Mapping[str, ProcessLoad], inputs: str) -> Document:
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
    lines = [f"Measured on {inputs}, one model after the other, in processes that start together."]
    if all(one.joules is None for one in found.values()):
        lines.append("Energy per run: not available, because the system denies access to the RAPL counters.")
    records = [{"model": name, **asdict(one)} for name, one in found.items()]
    columns = (Column("model"), *(Column(title, number=True) for title in titles))
    return Document((Table(columns, rows), Text(tuple(lines))), {"inputs": inputs, "models": records})


def throughputs_document(found: Mapping[str, Throughput], inputs: str) -> Document:
    """Return one row per model: samples per second, and latency under load."""
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
    lines.append(f"Measured on {inputs}, alternating in one process; runs of one stream follow without a pause.")
    return Document((Table(columns, tuple(rows)), Text(tuple(lines))), {"inputs": inputs, "models": records})


def profiles_document(found: Mapping[str, Profile]) -> Document:
    """Return the time of each model by operator and by node."""
    documents = [_profile(name, result) for name, result in found.items()]
    return Document(tuple(b for d in documents for b in d.blocks), {"profiles": [d.data for d in documents]})


def _profile(name: str, result: Profile) -> Document:
    total = result.total_ms or 1.0
    operators = Table(
        (Column("operator"), Column("ms", number=True), Column("share", number=True)),
        tuple((op, units.significant(ms), f"{100 * ms / total:.1f} %") for op, ms in result.by_op.items()),
        title=f"{name}: where the time goes",
    )
    nodes = Table(
        (Column("node"), Column("runs as"), Column("ms", number=True), Column("share", number=True)),
        tuple(
            (node.name, node.op_type, units.significant(node.time_ms), f"{100 * node.share:.1f} %")
            for node in result.nodes[:MOST_NODES]
        ),
    )
    data = {
        "model": name,
        "by_op_ms": dict(result.by_op),
        "total_ms": result.total_ms,
        "runs": result.runs,
        "nodes": [
            {"name": n.name, "op_type": n.op_type, "time_ms": n.time_ms, "share": n.share, "mapped": n.mapped}
            for n in result.nodes
        ],
    }
    return Document((operators, nodes), data)
